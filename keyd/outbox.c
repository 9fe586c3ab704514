#include "keyd/outbox.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "keyd/keyd.h"

#define BATCH 500 /* entries a call */

static void set_text(json_t *o, const char *key, const char *text)
{
	if (text)
		json_object_set_new(o, key, json_string(text));
}

int outbox_put(struct keyd *k, const struct outbox_entry *e)
{
	json_t *o = json_object();
	int r;

	set_text(o, "kind", e->kind);
	json_object_set_new(o, "outcome", e->outcome ? json_string(e->outcome) : json_integer(0));
	set_text(o, "user", e->by.user);
	json_object_set_new(o, "uid", json_integer(e->by.uid == (uid_t)-1 ? -1 : (json_int_t)e->by.uid));
	set_text(o, "client", e->client);
	set_text(o, "purpose", e->purpose);
	set_text(o, "ticket", e->ticket);
	if (e->session)
		json_object_set_new(o, "session", json_integer((json_int_t)e->session));
	json_object_set_new(o, "detail", e->detail ? e->detail : json_object());
	r = facts_outbox_put(k->facts, keyd_now(), o);
	json_decref(o);
	k->traffic = true;
	return r;
}

int outbox_commit_with(struct keyd *k, int r, const struct outbox_entry *e)
{
	if (r == 0)
		r = outbox_put(k, e);
	else
		json_decref(e->detail);
	if (r == 0)
		r = facts_commit(k->facts);
	if (r < 0)
		facts_rollback(k->facts);
	return r;
}

int outbox_record_with(struct keyd *k, int r, const struct outbox_entry *e)
{
	r = outbox_commit_with(k, r, e);
	if (r == 0)
		(void)outbox_deliver(k); /* else at the next tick */
	return r;
}

int outbox_record(struct keyd *k, const struct outbox_entry *e)
{
	return outbox_record_with(k, facts_begin(k->facts), e);
}

int outbox_act(struct keyd *k, const char *text, const struct outbox_entry *e)
{
	int r = facts_begin(k->facts);

	if (r == 0)
		r = facts_act(k->facts, e->kind, text, e->by, keyd_now());
	return outbox_record_with(k, r, e);
}

int outbox_commit(struct keyd *k)
{
	int r = facts_commit(k->facts);

	if (r == 0)
		(void)outbox_deliver(k); /* else at the next tick */
	return r;
}

static int deliver_batch(struct keyd *k, json_t *entries, int64_t last)
{
	struct varlink_failure failure = {0};
	json_t *answer = NULL;
	json_int_t seq;
	int r;

	r = fsd_call(k, "org.coffer.fsd.Record", json_pack("{s:O}", "entries", entries), &answer, &failure);
	if (r == -EREMOTEIO)
		log_error("the record is not taken: %s", failure.message);
	if (r < 0)
		return r;
	seq = json_integer_value(json_object_get(answer, "seq"));
	json_decref(answer);
	if (seq < last)
		return -EAGAIN; /* it has less than it was given: not delivered */
	return facts_outbox_delivered(k->facts, last);
}

int outbox_deliver(struct keyd *k)
{
	int r;

	for (;;) {
		json_t *entries = NULL;
		size_t n;

		r = facts_outbox_peek(k->facts, BATCH, &entries);
		if (r < 0)
			return r;
		n = json_array_size(entries);
		if (n > 0)
			r = deliver_batch(k, entries,
				json_integer_value(json_object_get(json_array_get(entries, n - 1), "seq")));
		json_decref(entries);
		if (r < 0 || n == 0)
			return r;
	}
}
