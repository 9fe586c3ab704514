/* What somebody asks to be erased: one file or tree, or a class when its rules say so. */
#include "keyd/erase_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/date.h"
#include "common/scope.h"
#include "keyd/classes.h"
#include "keyd/erase_two.h"
#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/job.h"
#include "keyd/methods.h"
#include "keyd/rules.h"
#include "keyd/subjects.h"
#include "keyd/survey.h"

/* subject: of one that names a person, as it stands in the book; or NULL.  Who decided goes onto the certificate. */
static json_t *counts_for(const struct erase *e, const json_t *counts, json_t *subject)
{
	static const char *const kept[] = {"directories", "files", "links", "bytes", "empty", "damaged",
		"destroyed", "other_names", NULL};
	static const char *const of_subject[] = {"about", "about_bytes", "shared", "held", "unclear", "damaged", NULL};
	json_t *o = json_object();

	if (e->asked_by)
		json_object_set_new(o, "asked_by", json_string(e->asked_by));
	for (const char *const *key = of_subject; subject && *key; key++)
		json_object_set(o, *key, json_object_get(counts, *key));
	if (subject) {
		json_object_set(o, "subject", subject);
		return o;
	}
	for (const char *const *key = kept; *key; key++)
		json_object_set(o, *key, json_object_get(counts, *key));
	return o;
}

/* As it was sealed when it was asked for.  Borrowed by the next call: it lives as long as e->book. */
static json_t *sealed_subject(const struct erase *e)
{
	return json_object_get(e->book, "subject");
}

static const char *const not_held_text[] = {"`coffer hold list` shows the holds; a custodian lifts them",
	"a hold is on something there: nothing of it is destroyed"};

static int take_leaves(struct erase *e, const struct survey_result *r)
{
	json_t *counts = counts_for(e, r->counts, sealed_subject(e));

	free(e->fact.counts);
	e->fact.counts = json_dumps(counts, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(counts);
	e->fact.store = strdup(r->store ? r->store : "");
	e->leaves = calloc(r->leaves_n + 1, sizeof(*e->leaves));
	if (!e->leaves || !e->fact.counts || !e->fact.store)
		return -ENOMEM;
	if (r->leaves_n > 0)
		memcpy(e->leaves, r->leaves, r->leaves_n * sizeof(*e->leaves));
	e->n = r->leaves_n;
	return erase_count_versions(e);
}

/* False: refused. */
static bool take_found(struct erase *e, const struct survey_result *r)
{
	int found;

	if (r->error) {
		erase_failed(e, r->error, r->text);
	} else if (survey_is_incomplete(r)) {
		erase_refuse(e, "Failed", "log/worker.log in the state directory says more",
			"a file that shares a key with it could not be moved: nothing was destroyed");
	} else if (!e->subject && json_integer_value(json_object_get(r->counts, "held")) > 0) {
		erase_refuse(e, "Held", not_held_text[0], not_held_text[1]);
	} else if (e->subject && r->leaves_n == 0) {
		erase_refuse(e, "NothingToErase", "`coffer subject find` shows what there is; --shared takes what is about others too",
			"nothing is about that person alone and not on hold");
	} else if (keyd_is_sealed(e->k)) {
		erase_refuse(e, "Sealed", NULL, KEYD_SEALED_TEXT);
	} else {
		found = erase_find_versions(e);
		if (found == 0)
			found = take_leaves(e, r);
		if (found == 0 && e->n + e->versions.n > 0)
			return true;
		if (found == 0)
			erase_refuse(e, "NothingToErase", "what is empty or damaged can be removed like any file",
				"nothing there has a key that could be destroyed");
		else
			erase_refuse(e, found == -EBUSY ? "Held" : "Failed", found == -EBUSY ? not_held_text[0] : NULL,
				found == -EBUSY ? "what stood there before is of a class that is on hold" : strerror(-found));
	}
	return false;
}

static void enumerated(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;
	json_t *answer;

	if (!take_found(e, r))
		return;
	if (e->preview) {
		answer = json_pack("{s:I}", "keys", (json_int_t)(e->n + e->versions.n));
		json_object_set_new(answer, "counts", json_loads(e->fact.counts, 0, NULL));
		job_done(e->job, answer);
		return;
	}
	erase_proceed(take_ptr(&e));
}

/* Takes e.  store: e's own, or NULL. */
static void enumerate(struct erase *taken, const char *store, bool alone,
	void (*done)(struct keyd *k, const struct survey_result *r, void *arg))
{
	scoped(erase_freep) struct erase *e = taken;
	const struct survey_spec spec = {.mode = "erase",
		.params = e->subject ? json_pack("{s:s, s:b, s:O}", "subject", e->subject, "shared", e->shared, "held", e->held)
				     : json_pack("{s:s, s:O}", "only", store, "held", e->held),
		.alone = alone,
		.why = "data is being destroyed",
		.by = erase_actor(e),
		.done = done,
		.arg = e};
	int r = survey_start(e->k, &e->client, &spec);

	if (r < 0)
		erase_failed(e, r, NULL);
	else
		e = NULL;
}

/* Nothing there is on hold: only now the sessions end, and it is gone through again without them. */
static void not_held(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;

	if (r->error == 0 && json_integer_value(json_object_get(r->counts, "held")) == 0)
		enumerate(take_ptr(&e), r->store, true, enumerated);
	else
		(void)take_found(e, r); /* says why not */
}

/* As facts and book may name it: sealed, as of then.  NULL: it cannot be. */
static char *target_of(const struct erase *e, int64_t at)
{
	json_t *sealed = subjects_seal_at(e->k, &e->client, e->subject ? e->subject : e->paths[0], at);
	scoped(json_decrefp) json_t *what = sealed && e->subject ? json_pack("{s:o, s:b}", "subject", sealed, "shared", e->shared) : sealed;

	return what ? json_dumps(what, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

/* Of what has no place in the store. */
static bool sealed_takes_two(struct erase *e)
{
	scoped(freep) char *target = target_of(e, keyd_now()), *former = target_of(e, keyd_now() - ERASE_ASK_SECONDS);

	if (target)
		return erase_takes_two(e, target, former);
	erase_refuse(e, "Failed", NULL, "what is to go cannot be sealed for the record");
	return false;
}

/* There is something to erase: only now the sessions end. */
static void of_subject_found(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;

	if (r->error || r->leaves_n == 0)
		(void)take_found(e, r); /* says why not */
	else if (sealed_takes_two(e))
		enumerate(take_ptr(&e), NULL, true, enumerated);
}

static bool has_holds(const struct erase *e)
{
	return json_array_size(json_object_get(e->held, "classes")) + json_array_size(json_object_get(e->held, "files")) +
		       json_array_size(json_object_get(e->held, "directories")) >
	       0;
}

/* What was there is gone from the share: only older backups have it. */
static void erase_former(struct erase *taken)
{
	scoped(erase_freep) struct erase *e = taken;
	const struct survey_result nothing = {0};
	struct keyd *k = e->k;
	int r;

	if (has_holds(e)) { /* whose it was nobody can tell any more */
		erase_refuse(e, "Held", not_held_text[0],
			"nothing is there any more, and there are holds on parts of the client: what was there may be on hold");
		return;
	}
	r = erase_find_versions(e);
	if (r == 0 && e->versions.n == 0 && e->record_unread)
		erase_refuse(e, "Failed", "log/keyd.log in the state directory says why",
			"nothing is there any more, and the record, which knows the keys of what was there, cannot be read");
	else if (r == 0 && e->versions.n == 0)
		erase_refuse(e, "NotFound", NULL, "there is no such file or directory in the share, and the record knows no key of what was there");
	else if (e->preview || sealed_takes_two(e))
		enumerated(k, &nothing, take_ptr(&e));
}

/* The record was read, and it is there. */
static void erase_found(struct erase *taken)
{
	scoped(erase_freep) struct erase *e = taken;
	const char *store = e->store;
	bool alone = !e->preview;

	if (!store)
		erase_former(take_ptr(&e));
	else if (alone && !erase_takes_two(e, store, NULL))
		return;
	else if (alone && has_holds(e))
		enumerate(take_ptr(&e), store, false, not_held);
	else
		enumerate(take_ptr(&e), store, alone, enumerated);
}

static void found(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;

	if (r->error && r->error != -ENOENT) {
		erase_failed(e, r->error, r->text);
		return;
	}
	e->store = r->error ? NULL : strdup(r->store);
	if (erase_add_path(e, e->path) < 0 || (!r->error && !e->store)) {
		erase_failed(e, -ENOMEM, NULL);
		return;
	}
	e->go_on = erase_found;
	erase_read_record(take_ptr(&e));
}

/* ---- asking for it ---- */

static bool may_erase(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	/* At start-up, too: not before the clock was compared with the record. */
	if (!keyd_compare_ledger(k))
		varlink_error(call, "Unavailable", "coffer-fsd, which keeps the record, is not running",
			"try again in a few seconds; `coffer status` shows its state");
	else if (c->held)
		varlink_errorf(call, "Held", "`coffer hold list` shows them; a custodian lifts them",
			"there is a hold on %s: nothing of it is destroyed", c->client);
	else if (k->clock.unconfirmed)
		varlink_errorf(call, "ClockUnconfirmed", "if it is right now: `coffer clock confirm`",
			"the clock is not trusted (%s): nothing is destroyed", k->clock.reason);
	else if (k->shred_unfinished)
		varlink_error(call, "Unavailable",
			"an earlier destruction is not finished: the slot still holds the old key",
			"`coffer status` says why");
	else
		return classes_may_begin(k, call, c);
	return false;
}

static int store_unreadable(struct varlink_call *call, const struct fact_client *c, int r)
{
	return varlink_errorf(call, "StoreUnreadable", "log/keyd.log in the state directory says why",
		"the store of %s does not open: %s", c->client, strerror(-r));
}

/* Whether who asks is the second one, or alone; *ret_job is answered else. */
static bool class_takes_two(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const struct policy_class *class, uint16_t before,
	const char *reason, bool confirm, struct job **ret_job, char asked_by[FACT_TEXT_MAX])
{
	scoped(erase_freep) struct erase *e = erase_new(k, c, actor_of(call), reason);
	char target[128];
	bool yes;

	if (!e)
		return varlink_error(call, "Failed", strerror(ENOMEM), NULL), false;
	e->peer = *varlink_call_peer(call);
	e->confirm = confirm;
	(void)snprintf(target, sizeof(target), "class %u before day %u", class->number, before);
	e->class = class;
	*ret_job = e->job = job_new(k, call);
	yes = e->job && erase_takes_two(e, target, NULL);
	(void)snprintf(asked_by, FACT_TEXT_MAX, "%s", e->asked_by ? e->asked_by : "");
	e->job = NULL;
	return yes;
}

/* Custodians may do it when the rules say so: what the nightly run would do, but without notice and waiting.  Who may label could
 * make the rules say so: it takes two as well. */
static int erase_class_asked(struct keyd *k, struct varlink_call *call, const struct fact_client *c,
	const char *id, int64_t before, const char *reason, bool confirm)
{
	const struct policy *rules = NULL;
	const struct policy_class *class;
	char rule[FACT_TEXT_MAX] = "", date[DATE_TEXT_MAX], asked_by[FACT_TEXT_MAX];
	struct job *job = NULL;
	struct prefix_answer a;
	int r;

	r = rules_for(k, c->row, FACTS_LATEST, keyd_now(), &rules);
	if (r < 0)
		return r;
	class = policy_class(rules, id);
	if (!class)
		return varlink_errorf(call, "UnknownClass", "`coffer policy show` lists them",
			"the policy %s knows no record class %s", k->policy->name, id);
	if (before <= DAY_EPOCH_UNIX || date_day(before) > date_day(keyd_now()))
		return varlink_error(
			call, "InvalidDate", "the date must not lie ahead", "take today or earlier");
	r = prefix_judge(class, c, date_day(before), keyd_now(), &a);
	if (r < 0)
		return r;
	if (!a.due)
		return varlink_errorf(call, "NotDue",
			"`coffer shred CLIENT PATH` is for what somebody asks to be erased before",
			"%s of %s from before that date is not due%s%s", class->id, c->client,
			a.due_on ? " before " : " yet", a.due_on ? date_format_day(a.due_on, date) : "");
	if (!class_takes_two(k, call, c, class, date_day(before), reason, confirm, &job, asked_by))
		return 0;
	expiry_rule_text(a.rule, rule, sizeof(rule));
	const struct erase_class spec = {.class = class,
		.before = date_day(before),
		.modified_since = a.modified_since,
		.rule = rule,
		.source = a.rule->source,
		.reason = reason,
		.by = actor_of(call),
		.asked_by = *asked_by ? asked_by : NULL,
		.job = job};

	r = erase_class(k, c, &spec, NULL);
	if (r < 0)
		job_fail(job, "StoreUnreadable", "log/keyd.log in the state directory says why", "the store of %s does not open: %s", c->client,
			strerror(-r));
	return 0;
}

static void subject_listed(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;
	int failed = r->error ? r->error : erase_add_subject_paths(e);

	if (failed < 0) {
		erase_failed(e, failed, r->text);
		return;
	}
	bool preview = e->preview;

	enumerate(take_ptr(&e), NULL, false, preview ? enumerated : of_subject_found);
}

/* Where they are, so that the record tells what stood there before. */
static void erase_subject_files(struct erase *taken)
{
	scoped(erase_freep) struct erase *e = taken;
	int r;

	e->list_fd = memfd_create("coffer-erase", MFD_CLOEXEC);
	if (e->list_fd <= 0) {
		erase_refuse(e, "Failed", NULL, strerror(errno));
		return;
	}
	const struct survey_spec spec = {.mode = "subject",
		.params = json_pack("{s:s, s:O, s:b}", "subject", e->subject, "held", e->held, "names", 1),
		.list_fd = e->list_fd,
		.done = subject_listed,
		.arg = e};

	r = survey_start(e->k, &e->client, &spec);
	if (r < 0)
		erase_failed(e, r, NULL);
	else
		e = NULL;
}

static int erase_subject(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *subject, bool shared,
	const char *reason, bool preview, bool confirm)
{
	scoped(erase_freep) struct erase *e = erase_new(k, c, actor_of(call), reason);
	struct job *job;

	if (!e)
		return -ENOMEM;
	e->preview = preview;
	e->peer = *varlink_call_peer(call);
	e->confirm = confirm;
	e->shared = shared;
	e->subject = strdup(subject);
	e->book = json_pack("{s:o*}", "subject", subjects_seal(k, c, subject));
	e->fact.counts = e->book ? json_dumps(e->book, JSON_COMPACT) : NULL;
	if (!e->subject || !sealed_subject(e) || !e->fact.counts)
		return varlink_error(call, "Failed", "the label cannot be sealed for the record", NULL);
	job = job_new(k, call);
	e->job = job;
	e->go_on = erase_subject_files;
	erase_read_record(take_ptr(&e));
	return 0;
}

int keyd_erase(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(erase_freep) struct erase *e = NULL;
	const char *client, *path = NULL, *reason, *class = NULL, *subject = NULL;
	struct keyd *k = userdata;
	struct fact_client c;
	int64_t before = 0;
	json_t *unused = NULL;
	int preview = 0, shared = 0, confirm = 0, r;

	if (!params_unpack(call, params, "{s:s, s?s, s?s, s?o, s:s, s?b, s?s, s?b, s?b}", "client", &client, "path", &path,
		    "class", &class, "before", &unused, "reason", &reason, "preview", &preview, "subject", &subject, "shared",
		    &shared, "confirm", &confirm) ||
		(subject && !params_subject(call, subject)) ||
		!params_text(call, "reason", reason) || !params_time(call, params, "before", &before) ||
		!params_client(k, call, client, &c) || !may_erase(k, call, &c))
		return 0;
	if ((path != NULL) + (class != NULL) + (subject != NULL) != 1 || !class != !before || (class && preview) ||
		(shared && !subject) || (confirm && preview))
		return varlink_error(call, "InvalidParameter", "either a path, or a class and a date, or a subject", NULL);
	if (subject)
		return erase_subject(k, call, &c, subject, shared, reason, preview, confirm);
	if (class)
		return erase_class_asked(k, call, &c, class, before, reason, confirm);
	if (strspn(path, "/") == strlen(path))
		return varlink_errorf(call, "InvalidParameter",
			"`coffer client end` begins the end of a client",
			"the whole of %s is not erased by its path", c.client);
	e = erase_new(k, &c, actor_of(call), reason);
	if (!e)
		return -ENOMEM;
	e->preview = preview;
	e->peer = *varlink_call_peer(call);
	e->confirm = confirm;
	e->path = strdup(path);
	if (!e->path)
		return -ENOMEM;
	const struct survey_spec spec = {.mode = "find",
		.params = json_pack("{s:s, s:b}", "only", path, "names", 1),
		.done = found,
		.arg = e};

	r = survey_start(k, &c, &spec);
	if (r < 0)
		return store_unreadable(call, &c, r);
	take_ptr(&e)->job = job_new(k, call);
	return 0;
}
