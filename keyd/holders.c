#include "keyd/holders.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/recovery.h"

/* Fact and record of an act; steals detail. */
static int act(struct keyd *k, struct actor by, const char *kind, const char *outcome, const char *name, json_t *detail)
{
	struct outbox_entry e = {.kind = kind, .outcome = outcome, .by = by, .detail = detail};

	return outbox_act(k, name, &e);
}

static void note_failure(struct keyd *k, struct varlink_call *call, const char *kind, const char *name,
	const struct keys_error *err)
{
	if (act(k, actor_of(call), kind, "Failed", name, json_pack("{s:s, s:s}", "name", name, "text", err->text)) < 0)
		log_error("that %s of %s failed is not recorded", kind, name);
}

/* The set afterwards; what was done shows in it. */
static int reply_set(struct keyd *k, struct varlink_call *call)
{
	json_t *rows = holders_json(k, NULL);

	return varlink_reply(call, rows ? json_pack("{s:o}", "recovery", rows) : json_pack("{s:n}", "recovery"));
}

static bool is_busy(struct keyd *k, struct varlink_call *call)
{
	if (k->shred_unfinished)
		varlink_error(call, "Unavailable", "an exchange of the root key is not finished", "`coffer status` says why");
	return k->shred_unfinished;
}

int keyd_recovery_add(struct varlink_call *call, json_t *params, void *userdata)
{
	struct recovery_holder h = {.added_at = keyd_now()};
	const char *name, *line, *path;
	struct keys_error err = {0};
	struct keyd *k = userdata;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s:s}", "name", &name, "public_key", &line, "path", &path) ||
		is_busy(k, call))
		return 0;
	r = recovery_public_parse(line, &h.public);
	if (r < 0)
		return varlink_error(call, "InvalidParameter", r == -EBADMSG ? "the recovery key is mistyped: its checksum says so"
								      : "this is no public recovery key",
			"`coffer recovery keygen FILE` prints it, one line");
	if (strlen(name) >= sizeof(h.name) || strlen(path) >= sizeof(h.path))
		return varlink_errorf(call, "InvalidParameter", NULL, "a name has at most %zu characters, a path %zu",
			sizeof(h.name) - 1, sizeof(h.path) - 1);
	if (strncmp(path, k->dir.root, strlen(k->dir.root)) == 0 && path[strlen(k->dir.root)] == '/')
		return varlink_error(call, "InvalidParameter", "that path lies in the state directory: what takes one takes both",
			"name a file on another medium");
	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.path, sizeof(h.path), "%s", path);
	snprintf(h.by, sizeof(h.by), "%s", actor_of(call).user);
	/* The record first: nobody is given the root key unseen. */
	r = act(k, actor_of(call), "recovery-add", NULL, name,
		json_pack("{s:s, s:s, s:s}", "name", name, "public_key", line, "path", path));
	if (r < 0)
		return reply_failure(k, call, r, "the recovery key is not recorded");
	r = recovery_add(k->ring, &h, &err);
	if (r < 0) {
		note_failure(k, call, "recovery-add", name, &err);
		return varlink_error(call, r == -EEXIST ? "RecoveryKeyExists" : r == -EINVAL ? "InvalidParameter" : "Failed",
			err.text, NULL);
	}
	return reply_set(k, call);
}

static int change(struct keyd *k, struct varlink_call *call, json_t *params, const char *kind, bool remove)
{
	struct keys_error err = {0};
	const char *name;
	int r;

	if (!params_unpack(call, params, "{s:s}", "name", &name) || !params_text(call, "name", name) || is_busy(k, call))
		return 0;
	r = remove ? recovery_remove(k->ring, name, keyd_now(), &err) : recovery_confirm(k->ring, name, &err);
	if (r == -ENOENT)
		return varlink_error(call, "UnknownRecoveryKey", err.text, "`coffer recovery list` shows them");
	if (r < 0) {
		note_failure(k, call, kind, name, &err);
		return varlink_error(call, "Failed", err.text, NULL);
	}
	r = act(k, actor_of(call), kind, NULL, name, json_pack("{s:s}", "name", name));
	if (r < 0)
		return reply_failure(k, call, r, "it is done, but not recorded");
	return reply_set(k, call);
}

int keyd_recovery_remove(struct varlink_call *call, json_t *params, void *userdata)
{
	return change(userdata, call, params, "recovery-remove", true);
}

int keyd_recovery_confirm(struct varlink_call *call, json_t *params, void *userdata)
{
	return change(userdata, call, params, "recovery-confirm", false);
}

int keyd_recovery_list(struct varlink_call *call, json_t *params, void *userdata)
{
	return reply_set(userdata, call);
}

/* What changed by itself: copies replaced, or found gone. */
static int look_again(struct keyd *k, struct actor by, struct keys_error *err)
{
	bool changed = false;
	int r = recovery_settle(k->ring, &changed, err);

	if (changed && act(k, by, "recovery-settled", NULL, NULL, json_pack("{s:o*}", "recovery", holders_json(k, NULL))) < 0)
		log_error("that recovery copies were exchanged is not recorded");
	return r;
}

int keyd_recovery_check(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keys_error err = {0};
	struct keyd *k = userdata;

	if (is_busy(k, call))
		return 0;
	if (look_again(k, actor_of(call), &err) < 0)
		return varlink_error(call, "Failed", err.text, NULL);
	return reply_set(k, call);
}

void holders_tick(struct keyd *k)
{
	struct keys_error err = {0};
	struct recovery_set s;
	bool behind = false;

	if (keyd_is_sealed(k) || k->shred_unfinished || recovery_load(k->ring, &s, NULL) < 0)
		return;
	for (size_t i = 0; i < s.count; i++)
		behind = behind || recovery_is_behind(&s, &s.holders[i]);
	if (behind && look_again(k, FACTS_CLOCK, &err) < 0)
		log_error("%s", err.text);
}

json_t *holders_json(struct keyd *k, json_t *warnings)
{
	struct keys_error err = {0};
	struct recovery_set s;
	json_t *rows, *row;
	size_t i, live = 0;

	if (keyd_is_sealed(k))
		return NULL;
	if (recovery_load(k->ring, &s, &err) < 0) {
		if (warnings)
			json_array_append_new(warnings, json_string(err.text));
		return NULL;
	}
	rows = recovery_json(&s);
	json_array_foreach(rows, i, row)
	{
		const struct recovery_holder *h = &s.holders[i];
		const char *remains = json_string_value(json_object_get(row, "may_remain"));

		live += !h->removed_at;
		if (warnings && remains)
			json_array_append_new(warnings,
				json_sprintf("recovery key %s: %s; with that key it opens old backups of the keys: see that it "
					     "is destroyed, then `coffer recovery confirm %s`",
					h->name, remains, h->name));
		if (warnings && !h->removed_at && recovery_is_behind(&s, h))
			json_array_append_new(warnings,
				json_sprintf("recovery key %s: %s has no copy of the root key of now; it is written when the path "
					     "can be reached",
					h->name, h->path));
	}
	if (warnings && live == 0)
		json_array_append_new(warnings,
			json_string("there is no recovery key: who loses every slot loses every client; `coffer recovery "
				    "keygen` makes one, on another machine"));
	return rows;
}
