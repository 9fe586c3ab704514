#include "keyd/rotate.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/erase.h"
#include "keyd/head.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/signing.h"
#include "keyd/signing_file.h"

#define STATE "rotating"
#define INTENT_MAX 512

/* Of the intent, or of what was begun before a crash.  Clears it in the same transaction. */
static int record(struct keyd *k, const char *kind, const char *outcome, struct actor by, const char *client,
	const char *slot, int64_t before, const char *text)
{
	struct outbox_entry e = {.kind = kind, .outcome = outcome, .by = by, .client = client};
	int r = facts_begin(k->facts);

	e.detail = json_pack("{s:I, s:I, s:s*, s:s*}", "generation_before", (json_int_t)before, "generation",
		(json_int_t)keyring_generation(k->ring), "slot", slot, "text", text);
	if (r == 0)
		r = facts_act(k->facts, kind, client ? client : slot, by, keyd_now());
	if (r == 0)
		r = facts_state_set(k->facts, STATE, "");
	return outbox_record_with(k, r, &e);
}

/* How the one that was begun ended, as far as it can be told. */
static void settle(struct keyd *k)
{
	const char *kind, *user, *client = NULL, *slot = NULL;
	json_int_t uid, before;
	char text[INTENT_MAX];
	json_t *o;
	bool done;

	if (facts_state_get(k->facts, STATE, text, sizeof(text)) < 0 || !*text)
		return;
	o = json_loads(text, 0, NULL);
	if (json_unpack(o, "{s:s, s:s, s:I, s?s, s?s, s:I}", "kind", &kind, "user", &user, "uid", &uid, "client", &client,
		    "slot", &slot, "before", &before) == 0) {
		done = (int64_t)keyring_generation(k->ring) > before;
		if (record(k, kind, !done ? "Interrupted" : k->shred_unfinished ? "Pending" : NULL, (struct actor){.user = user, .uid = (uid_t)uid}, client, slot, before,
			    !done                ? "nothing was exchanged"
			    : k->shred_unfinished ? "the old root key is not overwritten everywhere"
						  : "finished after an interruption") < 0)
			log_error("what became of an exchange of keys is not recorded yet");
	} else {
		log_error("keyd/facts.db: the intent of an exchange of keys is damaged");
		(void)facts_state_set(k->facts, STATE, "");
	}
	json_decref(o);
}

void rotate_settle(struct keyd *k)
{
	if (!keyd_is_sealed(k) && !k->shred_unfinished)
		settle(k);
}

static int intend(struct keyd *k, const char *kind, struct actor by, const char *client, const char *slot, int64_t before)
{
	char earlier[INTENT_MAX];
	scoped(freep) char *text = NULL;
	json_t *o;
	int r;

	settle(k);
	r = erase_settle(k);
	if (r < 0)
		return r;
	if (facts_state_get(k->facts, STATE, earlier, sizeof(earlier)) == 0 && *earlier)
		return -EBUSY; /* how the one before ended is not recorded: this one would be taken for it */
	o = json_pack("{s:s, s:s, s:I, s:s*, s:s*, s:I}", "kind", kind, "user", by.user, "uid", (json_int_t)by.uid, "client",
		client, "slot", slot, "before", (json_int_t)before);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text ? facts_state_set(k->facts, STATE, text) : -ENOMEM;
}

static int reply_outcome(struct keyd *k, struct varlink_call *call, int64_t before, enum shred_outcome outcome,
	const struct keys_error *err)
{
	switch (outcome) {
	case SHRED_DESTROYED:
		return varlink_reply(call, json_pack("{s:I, s:I}", "generation_before", (json_int_t)before, "generation",
						   (json_int_t)keyring_generation(k->ring)));
	case SHRED_PENDING:
		return varlink_errorf(call, "Pending", "it is tried again; `coffer status` says when it is done",
			"the new keys are in force, but the old root key is not overwritten yet: %s", err->text);
	case SHRED_UNKNOWN:
		return varlink_errorf(call, "Failed", "make room or repair the disk, then run `coffer unseal`",
			"which keys are in force shows when they are unsealed: %s", err->text);
	default:
		return varlink_errorf(call, "Failed", NULL, "nothing was exchanged: %s", err->text);
	}
}

int rotate_run(struct keyd *k, struct varlink_call *call, const char *kind, const char *client, const char *slot,
	const struct shred_job *job, bool even_unfinished)
{
	int64_t before = (int64_t)keyring_generation(k->ring);
	enum shred_outcome outcome = SHRED_NOTHING;
	struct keys_error err = {0};
	int r;

	if (k->shred_unfinished && !even_unfinished)
		return varlink_error(call, "Unavailable", "an earlier exchange of the root key is not finished",
			"`coffer status` says why");
	r = intend(k, kind, actor_of(call), client, slot, before);
	if (r < 0)
		return reply_failure(k, call, r, "the exchange of keys is not recorded");
	r = keyd_shred(k, job, &outcome, &err);
	if (r < 0 && !*err.text)
		keys_error_set(&err, "%s", strerror(-r));
	if (outcome == SHRED_DESTROYED || outcome == SHRED_NOTHING) {
		r = record(k, kind, outcome == SHRED_NOTHING ? "Failed" : NULL, actor_of(call), client, slot, before,
			outcome == SHRED_NOTHING ? err.text : NULL);
		if (r < 0)
			log_error("%s is not recorded yet: %s", kind, strerror(-r));
	}
	return reply_outcome(k, call, before, outcome, &err);
}

int keyd_rotate_root(struct varlink_call *call, json_t *params, void *userdata)
{
	const struct shred_job job = {0};

	return rotate_run(userdata, call, "rotate-root", NULL, NULL, &job, false);
}

int keyd_rotate_client(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyring_cut cut = {.rekey = true};
	const struct shred_job job = {.cuts = &cut, .count = 1};
	struct keyd *k = userdata;
	struct fact_client c;
	const char *client;

	if (!params_unpack(call, params, "{s:s}", "client", &client) || !params_client(k, call, client, &c))
		return 0;
	if (c.destroyed_on || c.destroying || client_id_parse(c.hex, &cut.client) < 0)
		return varlink_errorf(call, "Destroyed", NULL, "%s is destroyed: it has no key", c.client);
	return rotate_run(k, call, "rotate-client", c.client, NULL, &job, false);
}

/* Those who verify know SIGNING_KEYS_MAX keys: one more, and what the first one signed would pass for forged. */
static bool has_room(const struct keyd *k)
{
	scoped(freep) char *links = signing_file_chain(k->keyd_fd);
	uint8_t ours[PUBLIC_KEY_BYTES];
	struct signing_keys keys;

	keyring_public_key(k->ring, ours);
	signing_keys_collect(ours, links ? links : "", &keys);
	return keys.n < SIGNING_KEYS_MAX;
}

int keyd_rotate_signing(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct shred_job job = {0};

	if (!has_room(k))
		return varlink_errorf(call, "TooMany", "who checks the record could not be told of more",
			"the signing key was exchanged %d times, which is the limit", SIGNING_KEYS_MAX - 1);
	if (outbox_deliver(k) == 0)
		(void)head_sign(k, NULL); /* what the old one still has to say */
	job.signing_at = keyd_now();
	return rotate_run(k, call, "rotate-signing", NULL, NULL, &job, false);
}
