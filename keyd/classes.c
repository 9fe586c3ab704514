#include "keyd/classes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_leaves.h"
#include "keyd/fsck.h"
#include "keyd/job.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/session.h"
#include "keyd/survey.h"

#define EVERY_RETRY 30 /* ticks between two tries of what a crash left */
#define TRIES 3        /* what programs rename meanwhile can be missed */

struct work {
	struct keyd *k;
	struct fact_client client;
	char *user;
	uid_t uid;
	const struct policy_class *class; /* the policy lives as long as keyd */
	struct job *job;
	char *store;
	int tries;
};

static void work_free(struct work *w)
{
	free(w->user);
	free(w->store);
	free(w);
}
DEFINE_SCOPED(struct work *, work_free)

bool classes_may_begin(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	survey_make_way(k, c->client);
	return classes_may_begin_last(k, call, c);
}

bool classes_may_begin_last(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	if (c->destroyed_on || c->destroying)
		varlink_errorf(call, "Destroyed", NULL, "%s is destroyed: none of its files opens any more",
			c->client);
	else if (survey_runs(k, c->client) || (k->fsck && fsck_excludes_sessions(k, c->client)))
		varlink_errorf(call, "Busy", "try again when that is through",
			"the files of %s are being gone through already", c->client);
	else if (!fsd_is_running(k))
		varlink_error(call, "Unavailable", "coffer-fsd, which keeps the record, is not running",
			"try again in a few seconds; `coffer status` shows its state");
	else
		return true;
	return false;
}

enum survey_way classes_way(const struct varlink_call *call)
{
	return has_role(call, ROLE_CUSTODIAN) ? SURVEY_STAYS : SURVEY_IS_LAST;
}

void classes_made_way(struct job *j, const char *client)
{
	job_fail(j, "Unavailable", "ask again when that is through",
		"broken off: the files of %s are being gone through for somebody who comes first", client);
}

static struct work *work_new(struct keyd *k, const struct fact_client *c, const char *user, uid_t uid)
{
	struct work *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->k = k;
	w->client = *c;
	w->user = strdup(user);
	w->uid = uid;
	if (!w->user) {
		work_free(w);
		return NULL;
	}
	return w;
}

static struct outbox_entry entry_of(const struct work *w, const char *kind, const char *outcome, json_t *detail)
{
	return (struct outbox_entry){.kind = kind,
		.outcome = outcome,
		.by = {.user = w->user, .uid = w->uid},
		.client = w->client.client,
		.detail = detail};
}

/* Steals detail. */
static int put(struct work *w, const char *kind, const char *outcome, json_t *detail)
{
	const struct outbox_entry e = entry_of(w, kind, outcome, detail);

	return outbox_put(w->k, &e);
}

/* ---- setting ---- */

static void set_done(struct keyd *k, const struct survey_result *r, void *arg);

static int set_start(struct work *w)
{
	const struct survey_spec spec = {.mode = "class",
		.params = json_pack("{s:s, s:i}", "only", w->store, "class", (int)w->class->number),
		.done = set_done,
		.arg = w};

	w->tries++;
	return survey_start(w->k, &w->client, &spec);
}

static json_t *end_detail(const struct work *w, const struct survey_result *r)
{
	json_t *o = json_pack("{s:s, s:s}", "store", w->store, "class", w->class->id), *v;
	static const char *const kept[] = {"files", "links", "rewrapped", "failed", "damaged", NULL};

	for (const char *const *key = kept; *key; key++) {
		v = json_object_get(r->counts, *key);
		if (v)
			json_object_set(o, *key, v);
	}
	return o;
}

static void set_done(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(work_freep) struct work *w = arg;
	json_t *detail;
	int k1;

	if (r->error == 0 && r->moved && w->tries < TRIES && set_start(w) == 0) {
		w = NULL;
		return;
	}
	if (r->error != 0 && r->error != -ENOENT) {
		/* Its row stays: it goes on by itself. */
		job_fail(w->job, "Failed", "it goes on by itself in a minute",
			"the class is not set everywhere yet: %s", r->text ? r->text : strerror(-r->error));
		return;
	}
	detail = end_detail(w, r);
	k1 = facts_class_set_end(k->facts, w->client.row);
	if (k1 == 0)
		k1 = put(w, "class-set-end", r->error ? "NotFound" : NULL, json_incref(detail));
	if (k1 < 0)
		log_error("the end of a class being set is not recorded: %s", strerror(-k1));
	(void)outbox_deliver(k);
	json_object_set_new(detail, "old_keys",
		json_integer((json_int_t)json_integer_value(json_object_get(r->counts, "leaves"))));
	if (r->error)
		json_decref(detail);
	else
		sessions_class_changed(k, w->client.client, w->class->number, (struct actor){w->user, w->uid});
	if (r->error)
		job_fail(w->job, "NotFound", NULL, "it was moved or removed meanwhile");
	else
		job_done(w->job, detail);
}

static int remember(struct work *w)
{
	const struct outbox_entry e =
		entry_of(w, "class-set", NULL, json_pack("{s:s, s:s}", "store", w->store, "class", w->class->id));
	int r = facts_begin(w->k->facts);

	if (r == 0)
		r = facts_class_set_begin(w->k->facts, w->client.row, w->store, w->class->number, e.by, keyd_now());
	return outbox_record_with(w->k, r, &e);
}

static void found(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(work_freep) struct work *w = arg;
	int e = r->error;

	if (e == 0) {
		w->store = strdup(r->store);
		e = w->store ? remember(w) : -ENOMEM;
		if (e == 0)
			e = set_start(w);
		if (e == 0) {
			w = NULL;
			return;
		}
	} else {
		(void)put(w, "class-set", e == -ENOENT ? "NotFound" : "Failed",
			json_pack("{s:s}", "class", w->class->id));
		(void)outbox_deliver(k);
	}
	if (e == -ENOENT)
		job_fail(w->job, "NotFound", NULL, "there is no such file or directory in the share of %s",
			w->client.client);
	else
		job_fail(
			w->job, "Failed", NULL, "the class is not set: %s", r->text ? r->text : strerror(-e));
}

static bool params_class(
	struct keyd *k, struct varlink_call *call, const char *id, const struct policy_class **ret)
{
	char list[768] = "the record classes are:";
	size_t n = strlen(list);

	*ret = policy_class(k->policy, id);
	if (*ret)
		return true;
	for (size_t i = 0; i < k->policy->classes_count && n < sizeof(list); i++)
		n += (size_t)snprintf(
			list + n, sizeof(list) - n, "%s %s", i > 0 ? "," : "", k->policy->classes[i].id);
	varlink_errorf(
		call, "UnknownClass", list, "the policy %s knows no record class %s", k->policy->name, id);
	return false;
}

static int unavailable(struct varlink_call *call, int r)
{
	return varlink_errorf(call, "StoreUnreadable", "log/keyd.log in the state directory says why",
		"the store does not open: %s", strerror(-r));
}

/* The survey for w, which it takes; the call is answered when that is done. */
static int begin(struct work *work, struct varlink_call *call, const char *mode, enum survey_way way, json_t *params,
	void (*done)(struct keyd *k, const struct survey_result *r, void *arg))
{
	const struct survey_spec spec = {.mode = mode, .way = way, .params = params, .done = done, .arg = work};
	scoped(work_freep) struct work *w = work;
	int r = survey_start(w->k, &w->client, &spec);

	if (r < 0)
		return unavailable(call, r);
	take_ptr(&w)->job = job_new(work->k, call);
	return 0;
}

int keyd_class_set(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(work_freep) struct work *w = NULL;
	struct keyd *k = userdata;
	const char *client, *path, *class;
	const struct policy_class *to;
	struct fact_client c;

	if (!params_unpack(
		    call, params, "{s:s, s:s, s:s}", "client", &client, "path", &path, "class", &class) ||
		!params_client(k, call, client, &c) || !params_class(k, call, class, &to) ||
		!classes_may_begin(k, call, &c))
		return 0;
	w = work_new(k, &c, varlink_call_peer(call)->user, varlink_call_peer(call)->uid);
	if (!w)
		return -ENOMEM;
	w->class = to;
	return begin(take_ptr(&w), call, "find", SURVEY_STAYS, json_pack("{s:s, s:b}", "only", path, "names", 1), found);
}

/* What a crash left. */
void classes_tick(struct keyd *k)
{
	struct fact_class_set f;
	struct fact_client c;
	struct work *w;

	if (k->tick % EVERY_RETRY != 2 || facts_class_set_any(k->facts, &f) < 0 ||
		facts_client_by_row(k->facts, f.client, &c) < 0 || survey_blocks(k, c.client))
		return;
	w = work_new(k, &c, FACTS_CLOCK.user, FACTS_CLOCK.uid);
	if (!w)
		return;
	w->class = policy_class_by_number(k->policy, (uint16_t)f.class);
	w->store = strdup(f.store);
	if (c.destroyed_on || c.destroying || !w->class)
		(void)facts_class_set_end(k->facts, f.client);
	else if (w->store && set_start(w) == 0)
		return;
	work_free(w);
}

/* ---- looking ---- */

static const char *class_name(const struct keyd *k, json_int_t number)
{
	const struct policy_class *c = policy_class_by_number(k->policy, (uint16_t)number);

	return c ? c->id : number ? "(not in this policy)" : NULL;
}

static void shown(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(work_freep) struct work *w = arg;
	json_t *rows = json_array(), *row, *o;
	uint64_t *dying = NULL;
	size_t i, n = 0;

	if (r->error == -ECANCELED) {
		json_decref(rows);
		classes_made_way(w->job, w->client.client);
		return;
	}
	if (r->error) {
		json_decref(rows);
		job_fail(w->job, r->error == -ENOENT ? "NotFound" : "Failed", NULL, "%s",
			r->text ? r->text : strerror(-r->error));
		return;
	}
	json_array_foreach(json_object_get(r->counts, "classes"), i, row)
	{
		json_int_t number = json_integer_value(json_object_get(row, "class"));

		json_array_append_new(rows, json_pack("{s:s?, s:I, s:O, s:O}", "class", class_name(k, number),
						    "number", number, "files", json_object_get(row, "files"),
						    "bytes", json_object_get(row, "bytes")));
	}
	if (facts_dying(k->facts, w->client.row, &dying, &n) == 0)
		free(dying);
	o = json_pack("{s:s, s:s?, s:O, s:o, s:O, s:I}", "store", r->store, "class",
		class_name(k, json_integer_value(json_object_get(r->counts, "class"))), "labelled",
		json_object_get(r->counts, "labelled"), "classes", rows, "empty",
		json_object_get(r->counts, "empty"), "old_keys", (json_int_t)n);
	job_done(w->job, o);
}

/* Custodians set classes by name, so they may; for others it would be a way to try names. */
static bool may_name(struct keyd *k, struct varlink_call *call, const char *hex)
{
	return has_role(call, ROLE_CUSTODIAN) || may_see_names(k, call, hex);
}

int keyd_class_show(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(work_freep) struct work *w = NULL;
	const char *client, *path = NULL;
	struct keyd *k = userdata;
	struct fact_client c;

	if (!params_unpack(call, params, "{s:s, s?s}", "client", &client, "path", &path) ||
		!params_client(k, call, client, &c) || !classes_may_begin(k, call, &c))
		return 0;
	w = work_new(k, &c, varlink_call_peer(call)->user, varlink_call_peer(call)->uid);
	if (!w)
		return -ENOMEM;
	return begin(take_ptr(&w), call, "look", classes_way(call),
		json_pack("{s:s, s:b}", "only", path ? path : "", "names", may_name(k, call, c.hex)), shown);
}
