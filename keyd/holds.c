#include "keyd/holds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/classes.h"
#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/job.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/retain.h"
#include "keyd/survey.h"
#include "keyd/window.h"

struct work { /* a path is looked for */
	struct keyd *k;
	struct fact_client client;
	char *user, *matter, *reason;
	uid_t uid;
	struct job *job;
};

static void work_free(struct work *w)
{
	free(w->user);
	free(w->matter);
	free(w->reason);
	free(w);
}
DEFINE_SCOPED(struct work *, work_free)

/* Fact and record; then the client's worker knows of it, and what is under way gives way. */
static int place(struct keyd *k, const struct fact_client *c, const struct fact_hold *h, struct actor by, int64_t *ret)
{
	struct outbox_entry e = {.kind = "hold-place", .by = by, .client = c->client};
	const struct policy_class *class = h->class ? policy_class_by_number(k->policy, h->class) : NULL;
	int r = facts_begin(k->facts);

	if (r == 0)
		r = facts_hold_place_on(k->facts, h, by, keyd_now(), ret);
	e.detail = json_pack("{s:s, s:s, s:s?, s:s?}", "matter", h->matter, "reason", h->reason, "class",
		class ? class->id : NULL, "store", h->store);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return r;
	window_drop(k, c->client);
	retain_tell(k, c);
	(void)outbox_deliver(k);
	return 0;
}

/* ---- on a path ---- */

static void found(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(work_freep) struct work *w = arg;
	const json_t *file = json_object_get(r->counts, "file");
	const json_t *directory = json_object_get(r->counts, "directory");
	const struct actor by = {.user = w->user, .uid = w->uid};
	int64_t hold = 0;
	int e = r->error;

	if (e == -ENOENT) {
		job_fail(w->job, "NotFound", NULL, "there is no such file or directory in the share of %s",
			w->client.client);
		return;
	}
	if (e == 0 && !file && !directory) {
		job_fail(w->job, "NothingToHold", "place the hold on its directory",
			"it has no content of its own that a hold could keep: it is empty, a symlink, or damaged");
		return;
	}
	const struct fact_hold h = {.client = w->client.row,
		.matter = w->matter,
		.reason = w->reason,
		.file = json_string_value(file),
		.directory = json_string_value(directory),
		.store = r->store};

	if (e == 0)
		e = place(k, &w->client, &h, by, &hold);
	if (e < 0)
		job_fail(w->job, "Failed", NULL, "the hold is not placed: %s", r->text ? r->text : strerror(-e));
	else
		job_done(w->job, json_pack("{s:I, s:s}", "hold", (json_int_t)hold, "on_what", file ? "file" : "directory"));
}

static int place_on_path(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *path,
	const char *matter, const char *reason)
{
	scoped(work_freep) struct work *w = NULL;
	int r;

	if (keyd_is_sealed(k))
		return varlink_error(call, "Sealed", KEYD_SEALED_TEXT,
			"a hold on the client as a whole, or on a class, can be placed now");
	if (window_concerns(k, c->client)) {
		window_drop(k, c->client);
		return varlink_errorf(call, "Unavailable", "place the hold again in a moment",
			"a destruction in %s was under way, and is stopped for the hold", c->client);
	}
	if (!classes_may_begin(k, call, c))
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->k = k;
	w->client = *c;
	w->user = strdup(varlink_call_peer(call)->user);
	w->uid = varlink_call_peer(call)->uid;
	w->matter = strdup(matter);
	w->reason = strdup(reason);
	if (!w->user || !w->matter || !w->reason)
		return -ENOMEM;
	const struct survey_spec spec = {.mode = "find",
		.params = json_pack("{s:s, s:b}", "only", path, "names", 1),
		.done = found,
		.arg = w};

	r = survey_start(k, c, &spec);
	if (r < 0)
		return varlink_errorf(call, "StoreUnreadable", "log/keyd.log in the state directory says why",
			"the store of %s does not open: %s", c->client, strerror(-r));
	take_ptr(&w)->job = job_new(k, call);
	return 0;
}

/* ---- asking for it ---- */

static bool params_hold(struct keyd *k, struct varlink_call *call, const char *class, const char *path, uint16_t *ret)
{
	const struct policy_class *c = class ? policy_class(k->policy, class) : NULL;

	*ret = c ? c->number : 0;
	if (class && path)
		varlink_error(call, "InvalidParameter", "a hold is on a class or on a path, not on both", NULL);
	else if (path && strspn(path, "/") == strlen(path))
		varlink_error(call, "InvalidParameter", "the whole share is held without a path",
			"leave --path out");
	else if (class && !c)
		varlink_errorf(call, "UnknownClass", "`coffer policy show` lists them",
			"the policy %s knows no record class %s", k->policy->name, class);
	else
		return true;
	return false;
}

int keyd_hold_place(struct varlink_call *call, json_t *params, void *userdata)
{
	const char *client, *matter, *reason, *class = NULL, *path = NULL;
	struct fact_hold h = {0};
	struct keyd *k = userdata;
	struct fact_client c;
	int64_t hold = 0;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s:s, s?s, s?s}", "client", &client, "matter", &matter,
		    "reason", &reason, "class", &class, "path", &path) ||
		!params_text(call, "matter", matter) || !params_text(call, "reason", reason) ||
		!params_client(k, call, client, &c) || !params_hold(k, call, class, path, &h.class))
		return 0;
	if (c.destroyed_on || c.destroying)
		return varlink_errorf(
			call, "Destroyed", NULL, "%s is destroyed: there is nothing to hold", c.client);
	if (path)
		return place_on_path(k, call, &c, path, matter, reason);
	h.client = c.row;
	h.matter = matter;
	h.reason = reason;
	r = place(k, &c, &h, actor_of(call), &hold);
	if (r < 0)
		return reply_failure(k, call, r, "the hold is not kept");
	return varlink_reply(call, json_pack("{s:I}", "hold", (json_int_t)hold));
}

int keyd_hold_lift(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "hold-lift", .by = actor_of(call)};
	char client[CLIENT_NAME_MAX];
	struct fact_client c;
	const char *reason;
	json_int_t hold;
	int r;

	if (!params_unpack(call, params, "{s:I, s:s}", "hold", &hold, "reason", &reason) ||
		!params_text(call, "reason", reason))
		return 0;
	r = facts_hold_client(k->facts, hold, client);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r == 0) {
		e.client = client;
		e.detail = json_pack("{s:I, s:s}", "hold", hold, "reason", reason);
		r = facts_hold_lift(k->facts, hold, reason, e.by, keyd_now());
		if (r == 0)
			r = facts_client(k->facts, client, FACTS_LATEST, &c);
		if (r == 0)
			r = facts_looks_forget(k->facts, c.row); /* what it kept may be due */
		r = outbox_commit_with(k, r, &e);
	}
	if (r == -ENOENT)
		return varlink_errorf(call, "UnknownHold", "`coffer hold list` shows the holds",
			"there is no live hold %lld", (long long)hold);
	if (r < 0)
		return reply_failure(k, call, r, "the hold is not lifted");
	retain_tell(k, &c);
	k->archive_next_at = k->tick + 1; /* the record may have waited for it */
	expiry_now(k);
	(void)outbox_deliver(k);
	return varlink_reply(call, NULL);
}
