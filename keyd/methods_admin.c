/* What admins and custodians record: clients, their end, suspensions, holds; and the daemon's own end. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/date.h"
#include "common/log.h"
#include "common/placement.h"
#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/expiry.h"
#include "keyd/facts_terms.h"
#include "keyd/gain.h"
#include "keyd/head.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "keyd/rules.h"
#include "keyd/session.h"
#include "keyd/terms.h"

/* Keys and folder first: a client in the list is one that can be opened. */
static int client_create(struct keyd *k, char hex[CLIENT_ID_HEX], struct keys_error *err)
{
	scoped(close_fdp) int store = -1;
	struct client_id id;
	int r;

	randombytes_buf(id.b, sizeof(id.b));
	sodium_bin2hex(hex, CLIENT_ID_HEX, id.b, sizeof(id.b));
	store = statedir_open(&k->dir, "store", O_RDONLY | O_DIRECTORY, 0);
	if (store < 0)
		return store;
	placement_spread(store);
	if (mkdirat(store, hex, 0700) < 0 || fsync(store) < 0)
		return -errno;
	r = keyring_add(k->ring, &id, err);
	if (r < 0)
		(void)unlinkat(store, hex, AT_REMOVEDIR);
	return r;
}

/* Not a check of all that a mail address may be: what is plainly none is noticed before a letter goes astray. */
static bool address_is_good(const char *text)
{
	const char *at = strrchr(text, '@');

	return at && at > text && at[1] && !text[strcspn(text, " \t<>,;")];
}

int keyd_client_add(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "client-add", .by = actor_of(call)};
	const char *name, *email = "";
	json_t *services = NULL;
	struct keys_error err = {0};
	struct fact_client c;
	char hex[CLIENT_ID_HEX];
	int r;

	if (!params_unpack(
		    call, params, "{s:s, s:s, s?s, s?o}", "client", &e.client, "name", &name, "email", &email, "services",
		    &services) ||
		!terms_params_services(k, call, services) ||
		!params_text(call, "name", name) || (*email && !params_text(call, "email", email)))
		return 0;
	if (!client_name_is_good(e.client))
		return varlink_errorf(call, "InvalidName",
			"use a-z, 0-9, dot, dash and underscore, beginning with a letter or digit, 63 at "
			"most",
			"%s is not a name for a client", e.client);
	if (*email && !address_is_good(email))
		return varlink_errorf(call, "InvalidName", "notices go there: write NAME@DOMAIN", "%s is no mail address", email);
	r = facts_client(k->facts, e.client, FACTS_LATEST, &c);
	if (r == 0)
		return varlink_errorf(call, "ClientExists", "choose another name; names are never used twice",
			"there is a client %s already (%s)", c.client, c.name);
	if (r != -ENOENT)
		return reply_failure(k, call, r, "the client cannot be looked up");
	r = client_create(k, hex, &err);
	if (r < 0)
		return varlink_errorf(call, "Failed", NULL, "the keys of %s cannot be made: %s", e.client,
			*err.text ? err.text : strerror(-r));
	e.detail = json_pack("{s:s, s:s, s:s, s:O?}", "client_id", hex, "name", name, "email", email, "services", services);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_client_add(k->facts, e.client, hex, name, email, e.by, keyd_now());
	if (r == 0)
		r = terms_engage(k, e.client, services, e.by);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the client is not kept");
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:s}", "client_id", hex));
}

int keyd_client_end(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "client-end", .by = actor_of(call)};
	scoped(gain_look_freep) struct gain_look *before = NULL;
	const char *client;
	int64_t on = -1, destroy_on;
	struct fact_client c;
	json_t *v;
	int r;

	if (!params_unpack(call, params, "{s:s, s:o}", "client", &client, "on", &v) ||
		!params_time(call, params, "on", &on) || !params_client(k, call, client, &c))
		return 0;
	if (on < 0)
		return varlink_error(
			call, "InvalidDate", "`on` is missing", "say when the relationship ended: --on");
	if (c.destroyed_on || c.destroying)
		return varlink_errorf(call, "Destroyed", NULL, "%s is destroyed", c.client);
	e.client = c.client;
	r = gain_look_before(k, call, c.client, &before);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r == 0)
		r = facts_client_end(k->facts, c.row, on, e.by, keyd_now());
	if (r == 0 && gain_is_refused(k, call, c.client, before, "this date"))
		return 0;
	e.detail = json_pack("{s:I}", "on", (json_int_t)on);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the end is not kept");
	sessions_recheck(k, c.client, "relationship ended", EKEYEXPIRED, e.by);
	(void)outbox_deliver(k);
	r = facts_client(k->facts, client, FACTS_LATEST, &c);
	if (r < 0)
		return reply_failure(k, call, r, "the client cannot be looked up");
	destroy_on = expiry_destroy_on(rules_now(k, c.row), &c, keyd_now());
	return varlink_reply(call, destroy_on ? json_pack("{s:I}", "destroy_on", (json_int_t)destroy_on)
					      : json_pack("{s:n}", "destroy_on"));
}

/* What a suspension is of: one of the three. */
struct suspended {
	const char *client, *user;
	int all;
	struct fact_client c;
};

static bool params_suspended(struct keyd *k, struct varlink_call *call, struct suspended *s, bool suspend)
{
	char reason[FACT_TEXT_MAX];
	bool is;

	if (!s->client + !s->user + !s->all != 2) {
		varlink_error(call, "org.varlink.service.InvalidParameter", "a client, a user, or all", "name one of them");
		return false;
	}
	if (s->client && !params_client(k, call, s->client, &s->c))
		return false;
	if (s->user && !params_text(call, "user", s->user))
		return false;
	if (s->client)
		snprintf(reason, sizeof(reason), "%s", s->c.suspended);
	else if (facts_user_suspended(k->facts, s->user, FACTS_LATEST, reason, sizeof(reason)) < 0)
		return reply_failure(k, call, -EIO, "the suspensions cannot be read"), false;
	is = *reason;
	if (suspend && is)
		varlink_errorf(call, "Suspended", NULL, "%s is suspended already: %s",
			s->client ? s->client : s->user ? s->user : "all use", reason);
	else if (suspend != is)
		return true;
	else
		varlink_errorf(call, "NotSuspended", NULL, "%s is not suspended",
			s->client ? s->client : s->user ? s->user : "all use");
	return false;
}

static int suspension_keep(struct keyd *k, const struct suspended *s, bool suspend, const char *reason, struct actor by)
{
	int64_t now = keyd_now();

	if (s->client)
		return suspend ? facts_suspend(k->facts, s->c.row, reason, by, now)
			       : facts_resume(k->facts, s->c.row, reason, by, now);
	return suspend ? facts_suspend_user(k->facts, s->user, reason, by, now)
		       : facts_resume_user(k->facts, s->user, reason, by, now);
}

/* Nobody ends his own suspension. */
static bool is_anothers(const struct keyd *k, struct varlink_call *call, const struct suspended *s)
{
	uid_t uid = (uid_t)-1;
	gid_t gid;

	if (!s->user || person_is_alone(k, varlink_call_peer(call)))
		return true;
	(void)nss_user(s->user, &uid, &gid); /* a name that is gone is compared as a name */
	return person_is_another(call, s->user, uid, "ends his suspension");
}

/* A suspension that another made, perhaps because of him, is not his to lift when that lets himself in.  *before: for
 * gain_is_refused(), of a client. */
static bool may_resume(struct keyd *k, struct varlink_call *call, const struct suspended *s, struct gain_look **before)
{
	struct fact_person by;
	bool has = false;
	int r;

	if (!is_anothers(k, call, s))
		return false;
	if (s->user || person_is_alone(k, varlink_call_peer(call)))
		return true;
	r = facts_suspended_by(k->facts, s->client ? s->c.row : 0, &by);
	/* Not person_is(), which takes two who both became root for one: that is for refusing. */
	if (r == 0 && by.uid == varlink_call_peer(call)->person)
		return true;
	if (r == 0)
		r = s->client ? gain_look_before(k, call, s->client, before) : gain_has_grants(k, call, &has);
	if (r < 0)
		return reply_failure(k, call, r, "what it changes for yourself cannot be decided"), false;
	if (!has)
		return true;
	varlink_errorf(call, "OwnRequest", "ask another admin", "%s suspended all use, and %s has grants: nobody lets himself in", by.user,
		varlink_call_peer(call)->user);
	return false;
}

static int suspend_or_resume(struct varlink_call *call, json_t *params, struct keyd *k, bool suspend)
{
	struct outbox_entry e = {.kind = suspend ? "suspend" : "resume", .by = actor_of(call)};
	scoped(gain_look_freep) struct gain_look *before = NULL;
	struct suspended s = {0};
	const char *reason;
	int ended = 0, r;

	if (!params_unpack(call, params, "{s?s, s?s, s?b, s:s}", "client", &s.client, "user", &s.user, "all", &s.all, "reason",
		    &reason) ||
		!params_text(call, "reason", reason) || !params_suspended(k, call, &s, suspend) || (!suspend && !may_resume(k, call, &s, &before)))
		return 0;
	e.client = s.client;
	e.detail = json_pack("{s:s, s:s?, s:b}", "reason", reason, "user", s.user, "all", s.all);
	r = facts_begin(k->facts);
	if (r == 0)
		r = suspension_keep(k, &s, suspend, reason, person_of_call(call));
	if (r == 0 && before && gain_is_refused(k, call, s.client, before, "the end of this suspension")) {
		json_decref(e.detail);
		return 0;
	}
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(
			k, call, r, suspend ? "the suspension is not kept" : "the end of it is not kept");
	if (suspend && s.user)
		ended = sessions_recheck_user(k, s.user, "suspended", EKEYREVOKED, e.by);
	else if (suspend)
		ended = sessions_recheck(k, s.client, "suspended", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	/* What happened until now is evidence: a signed head closes it. */
	if (suspend && fsd_is_running(k) && !keyd_is_sealed(k))
		(void)head_sign(k, NULL);
	return varlink_reply(call, json_pack("{s:i}", "sessions_ended", ended));
}

int keyd_suspend(struct varlink_call *call, json_t *params, void *userdata)
{
	return suspend_or_resume(call, params, userdata, true);
}

int keyd_resume(struct varlink_call *call, json_t *params, void *userdata)
{
	return suspend_or_resume(call, params, userdata, false);
}

int keyd_shutdown_method(struct varlink_call *call, json_t *params, void *userdata)
{
	log_info("%s asked for the end", varlink_call_peer(call)->user);
	keyd_shutdown(userdata);
	return varlink_reply(call, NULL);
}
