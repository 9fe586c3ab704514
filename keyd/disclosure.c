/* What must be told and accounted for: breaches of security to the clients concerned (O21), disclosures to authorities (O11).
 * Both are acts in the book, and nothing else: who wants the list asks the book. */
#include "keyd/disclosure.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/keyd.h"
#include "keyd/methods.h"
#include "keyd/notice.h"
#include "keyd/outbox.h"
#include "keyd/sealed.h"
#include "keyd/sendmail.h"

static int write_letter(struct keyd *k, const struct notice_incident *i, char name[NOTICE_NAME_MAX], char *to, size_t n)
{
	scoped(close_fdp) int fd = statedir_open(&k->dir, "outbox", O_RDONLY | O_DIRECTORY, 0);
	scoped(freep) char *text = NULL;
	int r = fd < 0 ? fd : notice_incident_text(i, to, n, &text);

	if (r < 0)
		return r;
	snprintf(name, NOTICE_NAME_MAX, "incident-%lld-%s.eml", (long long)i->now, i->client->client);
	for (unsigned nth = 2; faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; nth++) /* another in the same second */
		snprintf(name, NOTICE_NAME_MAX, "incident-%lld-%s+%u.eml", (long long)i->now, i->client->client, nth);
	return disk_replace(fd, name, text, strlen(text));
}

int keyd_incident(struct varlink_call *call, json_t *params, void *userdata)
{
	struct notice_incident i = {.from = -1, .until = -1};
	struct outbox_entry e = {.kind = "incident-notice", .by = actor_of(call)};
	char name[NOTICE_NAME_MAX], to[600] = "";
	json_t *from, *until;
	struct keyd *k = userdata;
	json_int_t persons, files;
	const char *client;
	struct fact_client c;
	int r;

	if (!params_unpack(call, params, "{s:s, s:o, s:o, s:I, s:I, s:s}", "client", &client, "from", &from, "until", &until,
		    "persons", &persons, "files", &files, "categories", &i.categories) ||
		!params_time(call, params, "from", &i.from) || !params_time(call, params, "until", &i.until) ||
		!params_text(call, "categories", i.categories) || !params_client(k, call, client, &c))
		return 0;
	if (i.from >= i.until || persons < 0 || files < 0)
		return varlink_error(call, "InvalidDate", "the incident ends before it begins", "--from DATE --to DATE");
	i.client = &c;
	i.policy = k->policy;
	i.persons = persons;
	i.files = files;
	i.now = keyd_now();
	r = write_letter(k, &i, name, to, sizeof(to));
	if (r < 0)
		return reply_failure(k, call, r, "the letter cannot be written");
	e.client = c.client;
	e.detail = json_pack("{s:I, s:I, s:I, s:I, s:s, s:s, s:s}", "from", (json_int_t)i.from, "until", (json_int_t)i.until,
		"persons", persons, "files", files, "categories", i.categories, "to", to, "file", name);
	r = outbox_record(k, &e);
	if (r < 0)
		return reply_failure(k, call, r, "that the letter was written is not recorded");
	notice_send(k, name, c.client);
	return varlink_reply(call, json_pack("{s:s, s:s}", "file", name, "to", to));
}

static bool is_sha256(const char *hex)
{
	return strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
}

int keyd_disclose(struct varlink_call *call, json_t *params, void *userdata)
{
	const char *client, *authority, *document, *scope;
	struct outbox_entry e = {.kind = "disclosure", .purpose = SEALED_PURPOSE, .by = actor_of(call)};
	json_t *sealed_until = NULL;
	struct keyd *k = userdata;
	struct fact_client c;
	int64_t until = -1;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s:s, s:s, s?o}", "client", &client, "authority", &authority, "document",
		    &document, "scope", &scope, "sealed_until", &sealed_until) ||
		!params_time(call, params, "sealed_until", &until) ||
		!params_text(call, "authority", authority) || !params_text(call, "scope", scope) ||
		!params_client(k, call, client, &c))
		return 0;
	if (!*authority || !*scope)
		return varlink_error(call, "InvalidParameter", "a disclosure names the authority, and what was disclosed",
			"--authority TEXT --scope TEXT");
	if (!is_sha256(document))
		return varlink_error(call, "InvalidParameter", "the document is named by its SHA-256 in hex",
			"give the document itself: --document FILE");
	if (until >= 0 && until <= keyd_now())
		return varlink_error(call, "InvalidDate", "the day until which it is sealed is past",
			"give a day to come, or leave --sealed-until out");
	e.client = c.client;
	e.detail = json_pack("{s:s, s:s, s:s}", "authority", authority, "document", document, "scope", scope);
	if (until >= 0) {
		r = sealed_put(k, c.client, e.detail, until, e.by);
		json_decref(e.detail);
	} else {
		r = outbox_record(k, &e);
	}
	return r < 0 ? reply_failure(k, call, r, "the disclosure is not recorded") : varlink_reply(call, NULL);
}
