#include "keyd/sealed.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_sealed.h"
#include "keyd/keyd.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"

#define NONCE_BYTES 32
#define COMMITMENT_BYTES 32

static int commit_to(const char *content, struct fact_sealed *s)
{
	unsigned char nonce[NONCE_BYTES], hash[COMMITMENT_BYTES];

	randombytes_buf(nonce, sizeof(nonce));
	if (crypto_generichash(hash, sizeof(hash), (const unsigned char *)content, strlen(content), nonce, sizeof(nonce)) < 0)
		return -EINVAL;
	sodium_bin2hex(s->nonce, sizeof(s->nonce), nonce, sizeof(nonce));
	sodium_bin2hex(s->commitment, sizeof(s->commitment), hash, sizeof(hash));
	return 0;
}

int sealed_put(struct keyd *k, const char *client, const json_t *detail, int64_t until, struct actor by)
{
	json_auto_t *entry = json_deep_copy(detail);
	struct outbox_entry e = {.kind = "sealed-entry", .by = by};
	scoped(freep) char *content = NULL;
	struct fact_sealed s = {.until = until};
	int r;

	json_object_set_new(entry, "client", json_string(client));
	json_object_set_new(entry, "recorded_at", json_integer(keyd_now()));
	json_object_set_new(entry, "recorded_by", json_string(by.user));
	content = json_dumps(entry, JSON_SORT_KEYS | JSON_COMPACT);
	if (!content)
		return -ENOMEM;
	s.content = content;
	r = commit_to(content, &s);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r < 0)
		return r;
	r = facts_sealed_put(k->facts, &s, by, keyd_now());
	e.detail = json_pack("{s:s, s:I}", "commitment", s.commitment, "until", (json_int_t)until);
	r = outbox_commit_with(k, r, &e);
	if (r == 0)
		(void)outbox_deliver(k); /* else at the next tick */
	return r;
}

static int open_one(struct keyd *k, const struct fact_sealed *s)
{
	json_auto_t *entry = json_loads(s->content, 0, NULL);
	struct outbox_entry e = {.kind = "disclosure", .purpose = SEALED_PURPOSE, .by = FACTS_CLOCK};
	int r;

	if (!entry)
		return -EBADMSG;
	e.client = json_string_value(json_object_get(entry, "client"));
	e.detail = json_deep_copy(entry);
	json_object_set_new(e.detail, "sealed_until", json_integer(s->until));
	json_object_set_new(e.detail, "nonce", json_string(s->nonce));
	json_object_set_new(e.detail, "commitment", json_string(s->commitment));
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_sealed_opened(k->facts, s->row, keyd_now());
	return outbox_commit_with(k, r, &e);
}

bool sealed_concerns(struct keyd *k, const char *client)
{
	json_auto_t *rows = NULL;
	json_t *row;
	size_t i;

	if (facts_sealed(k->facts, &rows) < 0)
		return true;
	json_array_foreach(rows, i, row)
	{
		json_auto_t *entry = json_loads(json_string_value(json_object_get(row, "content")), 0, NULL);
		const char *of = json_string_value(json_object_get(entry, "client"));

		if (!of || strcmp(of, client) == 0)
			return true;
	}
	return false;
}

void sealed_tick(struct keyd *k)
{
	scoped(fact_sealed_done) struct fact_sealed s = {0};
	int r;

	if (k->clock.unconfirmed)
		return;
	r = facts_sealed_due(k->facts, keyd_now(), &s);
	if (r == 0)
		r = open_one(k, &s);
	if (r < 0 && r != -ENOENT)
		log_error("a sealed disclosure that is due cannot be opened: %s", strerror(-r));
}

int keyd_sealed_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct outbox_entry e = {.kind = "sealed-list", .by = actor_of(call)};
	struct keyd *k = userdata;
	json_t *rows = NULL, *row;
	size_t i;
	int r = outbox_record(k, &e);

	if (r == 0)
		r = facts_sealed(k->facts, &rows);
	if (r < 0)
		return reply_failure(k, call, r, "the sealed entries cannot be read");
	json_array_foreach(rows, i, row)
	{
		json_auto_t *entry = json_loads(json_string_value(json_object_get(row, "content")), 0, NULL);

		json_object_update(row, entry);
		json_object_del(row, "content");
	}
	return varlink_reply(call, json_pack("{s:o}", "sealed", rows));
}
