#include "keyd/erase.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/certificate.h"
#include "keyd/classes.h"
#include "keyd/expiry.h"
#include "keyd/facts_leaves.h"
#include "keyd/head.h"
#include "keyd/holders.h"
#include "keyd/job.h"
#include "keyd/leaves.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/prefix.h"
#include "keyd/session.h"
#include "keyd/shred.h"
#include "keyd/survey.h"
#include "keyd/slots.h"
#include "keyd/sweeps.h"

#define HEX 16
#define EVERY_SETTLE 5 /* ticks */

struct erase {
	struct keyd *k;
	struct fact_client client;
	struct client_id id;
	char *user;
	uid_t uid;
	struct job *job;
	bool preview;
	char *reason;
	struct fact_erasure fact;
	uint64_t *leaves, *dying;
	size_t n, dying_n, covered_n; /* behind the dying_n: what the prefixes take with them */
	const struct policy_class *class; /* one class before a date; NULL: a path */
	uint16_t before;
	struct prefix prefixes[PREFIXES_MAX];
	unsigned prefixes_n;
	char *rule, *source;
	void (*done)(struct keyd *k, int error, void *arg);
	void *arg;
};

static void erase_free(struct erase *e)
{
	if (e->done)
		e->done(e->k, -ECANCELED, e->arg);
	free(e->rule);
	free(e->source);
	free(e->user);
	free(e->reason);
	free(e->leaves);
	free(e->dying);
	fact_erasure_done(&e->fact);
	free(e);
}
DEFINE_SCOPED(struct erase *, erase_free)
DEFINE_SCOPED(struct keytree *, keytree_free)

/* ---- the book ---- */

static int put(struct keyd *k, const char *kind, const char *outcome, struct actor by,
	const struct fact_client *c, const struct fact_erasure *f, const char *text)
{
	struct outbox_entry e = {.kind = kind, .outcome = outcome, .by = by, .client = c->client};

	e.detail = json_pack("{s:s?, s:s?, s:s?, s:I}", "store", f->store, "reason", f->reason, "text", text,
		"keys", (json_int_t)(f->leaves ? strlen(f->leaves) / HEX : 0));
	return outbox_put(k, &e);
}

static struct actor actor_of_work(const struct erase *e)
{
	return (struct actor){.user = e->user, .uid = e->uid};
}

static void refuse(struct erase *e, const char *error, const char *remedy, const char *text)
{
	if (!e->preview) {
		snprintf(e->fact.reason, sizeof(e->fact.reason), "%s", e->reason);
		(void)put(e->k, "erase", error, actor_of_work(e), &e->client, &e->fact, text);
		(void)outbox_deliver(e->k);
	}
	job_fail(e->job, error, remedy, "%s", text);
}

/* ---- its proof ---- */

/* Of a class before a date the first leaf only marks the prefix. */
static json_int_t keys_of(const struct fact_erasure *f, const json_t *dying)
{
	json_int_t n = (json_int_t)(strlen(f->leaves) / HEX);

	return dying ? json_integer_value(dying) + n - 1 : n;
}

static json_t *certificate_of(
	struct keyd *k, const struct fact_client *c, const struct fact_erasure *f, int64_t now)
{
	struct fact_destruction d = {
		.intent_at = f->intent_at, .due = f->intent_at, .generation = f->generation};
	scoped(json_decrefp) json_t *recovery = holders_json(k, NULL);
	scoped(json_decrefp) json_t *slots = slots_certificate(k);
	struct fact_head head;
	bool have_head = facts_head_last(k->facts, &head) == 0;
	const struct certificate_facts facts = {.client = c,
		.destruction = &d,
		.destroyed_at = now,
		.policy_name = k->policy->name,
		.policy_version = k->policy->version,
		.policy_hash = k->policy->text_hash,
		.slots = slots,
		.recovery = recovery,
		.embedded = k->embedded,
		.head = have_head ? &head : NULL};
	char text[DATE_TEXT_MAX];
	json_t *o = NULL, *what = json_loads(f->counts, 0, NULL), *dying = json_object_get(what, "dying");
	const char *rule = json_string_value(json_object_get(what, "rule"));
	const char *source = json_string_value(json_object_get(what, "source"));

	snprintf(d.rule, sizeof(d.rule), "%s", rule ? rule : "erasure on request");
	snprintf(d.source, sizeof(d.source), "%s", rule ? (source ? source : "") : f->reason);
	if (!what)
		what = json_object();
	if (certificate_make(&facts, &o) < 0) {
		json_decref(what);
		return NULL;
	}
	json_object_set_new(o, "kind", json_string("erasure"));
	json_object_set_new(o, "number", json_integer(f->row));
	json_object_set_new(o, "decided",
		json_pack("{s:s, s:s}", "by", f->by, "intended_at", date_format(f->intent_at, text)));
	json_object_set_new(o, "method",
		json_string("the keys of these files, directories and symlinks were punctured out of the "
			    "client's key tree, which "
			    "was written under a fresh client key and a fresh root key, and the slot that "
			    "held the old root key "
			    "was overwritten in place, synced and read back"));
	json_object_set_new(what, "keys", json_integer(keys_of(f, dying)));
	if (rule) {
		json_object_set_new(json_object_get(o, "decided"), "reason", json_string(f->reason));
		json_object_del(what, "rule");
		json_object_del(what, "source");
	}
	json_object_set_new(what, "store", json_string(f->store));
	json_object_set_new(o, "what", what);
	return o;
}

/* The keys are gone: say so, and have the rest removed.  What fails here is done again by erase_tick. */
static int certify(struct keyd *k, const struct fact_client *c, const struct fact_erasure *f)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	scoped(freep) char *text = NULL;
	char signature[2 * SIGNATURE_BYTES + 1], name[CLIENT_NAME_MAX + 32];
	const struct actor by = {.user = f->by, .uid = (uid_t)-1};
	uint8_t public_key[PUBLIC_KEY_BYTES];
	int64_t now = keyd_now();
	json_t *certificate = certificate_of(k, c, f, now);
	int r = certificate ? certificate_sign(k->ring, certificate, &text, signature) : -ENOMEM;

	if (r == 0) {
		keyring_public_key(k->ring, public_key);
		snprintf(name, sizeof(name), "%s-erasure-%" PRId64, c->client, f->row);
		r = certificate_store(k->keyd_fd, name, certificate, signature, public_key);
	}
	json_decref(certificate);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = facts_erasure_finish(k->facts, f->row, true, text, signature, now);
	if (r == 0)
		r = sweeps_due(k, c->row);
	if (r == 0)
		r = put(k, "erase", NULL, by, c, f, signature);
	if (r == 0)
		r = outbox_commit(k);
	if (r == 0)
		log_info("an erasure of %s is done; the certificate is keyd/certificates/%s.json", c->client,
			name);
	return r;
}

static void abandon(
	struct keyd *k, const struct fact_client *c, const struct fact_erasure *f, const char *why)
{
	const struct actor by = {.user = f->by, .uid = (uid_t)-1};
	int r;

	log_error("something of %s is not erased: %s", c->client, why);
	r = facts_erasure_finish(k->facts, f->row, false, NULL, NULL, keyd_now());
	if (r == 0)
		r = put(k, "erase-abandoned", "Failed", by, c, f, why);
	if (r < 0)
		log_error("that it is not erased is not recorded: %s", strerror(-r));
	(void)outbox_deliver(k);
}

/* Whether all of its leaves are gone: the first one alone may be since long, as that of a class of which something was
 * destroyed before.  Without keys of that client all are. */
static int is_gone(struct keyd *k, const struct fact_client *c, const struct fact_erasure *f, bool *ret)
{
	scoped(keytree_freep) struct keytree *tree = NULL;
	struct keys_error err = {0};
	struct client_id id;
	char hex[HEX + 1] = "";
	int r = client_id_parse(c->hex, &id);

	*ret = true;
	if (r < 0 || !keyring_has(k->ring, &id))
		return r;
	r = keyring_tree(k->ring, &id, &tree, &err);
	if (r < 0)
		return r;
	for (const char *p = f->leaves; *ret && strnlen(p, HEX) == HEX; p += HEX) {
		memcpy(hex, p, HEX);
		*ret = !keytree_holds(tree, leaf_index_from_u64(strtoull(hex, NULL, 16)));
	}
	return 0;
}

static void fact_done(struct fact_erasure *f)
{
	fact_erasure_done(f);
}

void erase_tick(struct keyd *k)
{
	scoped(fact_done) struct fact_erasure f = {0};
	struct fact_client c;
	bool gone;

	if (k->tick % EVERY_SETTLE != 1 || k->shred_unfinished || facts_erasure_pending(k->facts, &f) < 0 ||
		classes_client(k, f.client, &c) < 0 || survey_runs(k, c.client) ||
		is_gone(k, &c, &f, &gone) < 0)
		return;
	if (!gone)
		abandon(k, &c, &f, "it was interrupted before anything was destroyed");
	else if (certify(k, &c, &f) < 0)
		log_error("an erasure of %s is not certified yet", c.client);
}

/* ---- the destruction ---- */

/* The last moment: holds again.  The worker must be gone, with the keys it holds. */
static int confirm(void *arg)
{
	struct erase *e = arg;
	struct fact_client now;
	int r = facts_client(e->k->facts, e->client.client, FACTS_LATEST, &now);

	if (r < 0)
		return r;
	if (now.held || e->k->clock.unconfirmed)
		return -EBUSY;
	sessions_end(e->k, e->client.client, "data is being destroyed", EKEYREVOKED,
		actor_of_work(e));
	children_stop_worker(e->k, e->client.hex);
	return 0;
}

static struct keyring_cut *cuts_of(const struct erase *e)
{
	size_t singly = e->n + e->dying_n;
	struct keyring_cut *cuts = calloc(singly + e->prefixes_n, sizeof(*cuts));

	for (size_t i = 0; cuts && i < singly; i++)
		cuts[i] = (struct keyring_cut){
			.client = e->id, .prefix = i < e->n ? e->leaves[i] : e->dying[i - e->n], .bits = 64};
	for (size_t i = 0; cuts && i < e->prefixes_n; i++)
		cuts[singly + i] = (struct keyring_cut){
			.client = e->id, .prefix = e->prefixes[i].prefix, .bits = e->prefixes[i].bits};
	return cuts;
}

static int intend(struct erase *e)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	struct keyd *k = e->k;
	int64_t now = keyd_now();
	int r;

	e->fact.client = e->client.row;
	e->fact.intent_at = now;
	e->fact.generation = (int64_t)keyring_generation(k->ring);
	snprintf(e->fact.reason, sizeof(e->fact.reason), "%s", e->reason);
	snprintf(e->fact.by, sizeof(e->fact.by), "%s", e->user);
	e->fact.leaves = calloc(e->n, HEX + 1);
	if (!e->fact.leaves)
		return -ENOMEM;
	for (size_t i = 0; i < e->n; i++)
		snprintf(e->fact.leaves + i * HEX, HEX + 1, "%016" PRIx64, e->leaves[i]);
	r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = facts_erasure_intend(k->facts, &e->fact, actor_of_work(e), now, &e->fact.row);
	if (r == 0)
		r = put(k, "erase-intent", NULL, actor_of_work(e), &e->client, &e->fact, NULL);
	return r < 0 ? r : facts_commit(k->facts);
}

static void destroyed(struct erase *e)
{
	struct keyd *k = e->k;
	json_t *answer, *counts;
	int r;

	if (e->done)
		e->done(k, 0, e->arg);
	e->done = NULL;
	(void)facts_dying_drop(k->facts, e->client.row, e->dying, e->dying_n + e->covered_n);
	r = certify(k, &e->client, &e->fact);
	if (r < 0)
		log_error("an erasure of %s is not certified yet: %s", e->client.client, strerror(-r));
	counts = json_loads(e->fact.counts, 0, NULL);
	answer = json_pack("{s:I, s:I, s:I}", "erasure", (json_int_t)e->fact.row, "keys",
		keys_of(&e->fact, json_object_get(counts, "dying")), "old_keys", (json_int_t)e->dying_n);
	json_object_set_new(answer, "counts", counts);
	json_object_set_new(answer, "certificate",
		r < 0 ? json_null()
		      : json_sprintf("keyd/certificates/%s-erasure-%" PRId64 ".json", e->client.client,
				e->fact.row));
	job_done(e->job, answer);
}

static void shred(struct erase *e)
{
	scoped(freep) struct keyring_cut *cuts = cuts_of(e);
	struct shred_job job = {
		.cuts = cuts, .count = e->n + e->dying_n + e->prefixes_n, .confirm = confirm, .arg = e};
	enum shred_outcome outcome = SHRED_NOTHING;
	struct keys_error err = {0};
	struct keyd *k = e->k;
	int r;

	r = cuts ? keyd_shred(k, &job, &outcome, &err) : -ENOMEM;
	switch (outcome) {
	case SHRED_DESTROYED:
		destroyed(e);
		return;
	case SHRED_PENDING:
		job_fail(e->job, "Pending", "it is certified when that is done",
			"the keys are out of the new key state, but the old root key is not overwritten yet: "
			"%s",
			err.text);
		return;
	case SHRED_UNKNOWN:
		job_fail(e->job, "Failed", "make room or repair the disk, then run `coffer unseal`",
			"whether the keys are destroyed shows when they are unsealed: %s", err.text);
		return;
	default:
		abandon(k, &e->client, &e->fact,
			r == -EBUSY ? "a hold was placed"
			: *err.text ? err.text
				    : strerror(-r));
		job_fail(e->job, r == -EBUSY ? "Held" : "Failed", NULL, "nothing was destroyed: %s",
			r == -EBUSY ? "a hold was placed"
			: *err.text ? err.text
				    : strerror(-r));
	}
}

static void destroy(struct erase *e)
{
	struct keyd *k = e->k;
	int r = intend(e);

	if (r == -EBUSY) {
		refuse(e, "Held", "`coffer hold list` shows the holds", "a hold is on this client");
		return;
	}
	if (r < 0) {
		refuse(e, "Failed", NULL, strerror(-r));
		return;
	}
	if (outbox_deliver(k) == 0)
		(void)head_sign(k, NULL); /* the certificate names the book as it stood before */
	shred(e);
}

#define OLD_KEYS_TEXT                                                                                        \
	"whether something is still under older keys of these files could not be told: nothing was destroyed"

/* Old leaves that something is still under (a crash came before it moved) are none. */
static void checked(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;
	scoped(freep) uint64_t *used = NULL;
	size_t n;

	if (r->error || survey_is_incomplete(r)) {
		refuse(e, "Failed", "log/worker.log in the state directory says more, then try again", OLD_KEYS_TEXT);
		return;
	}
	if (r->leaves_n > 0) {
		used = malloc(r->leaves_n * sizeof(*used));
		if (!used) {
			refuse(e, "Failed", NULL, strerror(ENOMEM));
			return;
		}
		memcpy(used, r->leaves, r->leaves_n * sizeof(*used));
		n = leaves_without(e->dying, e->dying_n, used, r->leaves_n);
		memmove(e->dying + n, e->dying + e->dying_n, e->covered_n * sizeof(*used));
		e->dying_n = n;
		(void)facts_dying_drop(k->facts, e->client.row, r->leaves, r->leaves_n);
	}
	if (keyd_is_sealed(k))
		refuse(e, "Sealed", NULL, KEYD_SEALED_TEXT);
	else
		destroy(e);
}

static bool is_covered(const struct erase *e, uint64_t leaf)
{
	for (size_t i = 0; i < e->prefixes_n; i++)
		if (leaf >> (64 - e->prefixes[i].bits) == e->prefixes[i].prefix >> (64 - e->prefixes[i].bits))
			return true;
	return false;
}

/* What lies below the prefixes was left by what survives, and goes with them. */
static void part_covered(struct erase *e)
{
	size_t all = e->dying_n, n = 0;

	for (size_t i = 0; i < all; i++) {
		uint64_t leaf = e->dying[i];

		if (is_covered(e, leaf))
			continue;
		e->dying[i] = e->dying[n];
		e->dying[n++] = leaf;
	}
	e->dying_n = n;
	e->covered_n = all - n;
}

static int look_at_dying(struct erase *e)
{
	const struct survey_spec spec = {.mode = "check",
		.leaves = e->dying,
		.leaves_n = e->dying_n,
		.alone = true,
		.why = "data is being destroyed",
		.by = actor_of_work(e),
		.done = checked,
		.arg = e};

	return survey_start(e->k, &e->client, &spec);
}

/* Takes e.  What was re-wrapped lately has an older leaf: with that alive, nothing of it would be gone. */
static void with_old_leaves(struct erase *taken)
{
	scoped(erase_freep) struct erase *e = taken;
	int r = facts_dying(e->k->facts, e->client.row, &e->dying, &e->dying_n);

	if (r == 0)
		part_covered(e);
	if (r == 0 && e->dying_n == 0) {
		destroy(e);
		return;
	}
	if (r == 0)
		r = look_at_dying(e);
	if (r < 0)
		refuse(e, "Failed", NULL, OLD_KEYS_TEXT);
	else
		e = NULL;
}

static json_t *counts_for(const json_t *counts)
{
	static const char *const kept[] = {"directories", "files", "links", "bytes", "empty", "damaged",
		"destroyed", "other_names", NULL};
	json_t *o = json_object();

	for (const char *const *key = kept; *key; key++)
		json_object_set(o, *key, json_object_get(counts, *key));
	return o;
}

/* False: refused. */
static bool take_found(struct erase *e, const struct survey_result *r)
{
	json_t *counts;

	if (r->error)
		refuse(e, "Failed", NULL, r->text ? r->text : strerror(-r->error));
	else if (survey_is_incomplete(r))
		refuse(e, "Failed", "log/worker.log in the state directory says more",
			"a file that shares a key with it could not be moved: nothing was destroyed");
	else if (r->leaves_n == 0)
		refuse(e, "NothingToErase", "what is empty or damaged can be removed like any file",
			"nothing there has a key that could be destroyed");
	else if (keyd_is_sealed(e->k))
		refuse(e, "Sealed", NULL, KEYD_SEALED_TEXT);
	else {
		counts = counts_for(r->counts);
		e->fact.counts = json_dumps(counts, JSON_COMPACT | JSON_SORT_KEYS);
		json_decref(counts);
		e->fact.store = strdup(r->store);
		e->leaves = malloc(r->leaves_n * sizeof(*e->leaves));
		if (e->leaves && e->fact.counts && e->fact.store) {
			memcpy(e->leaves, r->leaves, r->leaves_n * sizeof(*e->leaves));
			e->n = r->leaves_n;
			return true;
		}
		refuse(e, "Failed", NULL, strerror(ENOMEM));
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
		answer = json_pack("{s:I}", "keys", (json_int_t)e->n);
		json_object_set_new(answer, "counts", json_loads(e->fact.counts, 0, NULL));
		job_done(e->job, answer);
		return;
	}
	with_old_leaves(take_ptr(&e));
}

/* ---- one class before a date ---- */

static json_t *class_counts(const struct erase *e, const struct survey_result *r)
{
	char text[DATE_TEXT_MAX];
	json_t *o = json_pack("{s:s, s:i, s:s, s:s, s:s}", "class", e->class->id, "class_number",
		(int)e->class->number, "before",
		date_format_day(DAY_EPOCH_UNIX + (int64_t)e->before * 86400, text), "rule", e->rule, "source",
		e->source);

	json_object_set(o, "dying", json_object_get(r->counts, "dying"));
	json_object_set_new(o, "stragglers", json_integer((json_int_t)r->leaves_n));
	json_object_set(o, "survivors", json_object_get(r->counts, "rewrapped"));
	return o;
}

/* Its leaves are those that lie elsewhere; before them one that marks the prefix, so that it shows whether it
 * is gone. */
static bool take_moved(struct erase *e, const struct survey_result *r)
{
	const struct leaf_index mark = {.class = e->class->number, .day = (uint16_t)(e->before - 1)};
	json_t *counts;

	if (r->error)
		refuse(e, "Failed", NULL, r->text ? r->text : strerror(-r->error));
	else if (r->moved || survey_is_incomplete(r) ||
		 json_integer_value(json_object_get(r->counts, "damaged")) > 0)
		refuse(e, "Failed",
			"`coffer fsck` finds what is damaged; isolate or remove it, then try again",
			"what must survive could not all be moved, or cannot be told: nothing was destroyed");
	else if (r->leaves_n == 0 && json_integer_value(json_object_get(r->counts, "dying")) == 0)
		refuse(e, "NothingToErase", NULL, "there is nothing of that class from before that date");
	else if (keyd_is_sealed(e->k))
		refuse(e, "Sealed", NULL, KEYD_SEALED_TEXT);
	else {
		counts = class_counts(e, r);
		e->fact.counts = json_dumps(counts, JSON_COMPACT | JSON_SORT_KEYS);
		json_decref(counts);
		e->fact.store = strdup("");
		e->leaves = calloc(r->leaves_n + 1, sizeof(*e->leaves));
		if (e->leaves && e->fact.counts && e->fact.store) {
			e->leaves[0] = leaf_index_u64(mark);
			memcpy(e->leaves + 1, r->leaves, r->leaves_n * sizeof(*e->leaves));
			e->n = r->leaves_n + 1;
			return true;
		}
		refuse(e, "Failed", NULL, strerror(ENOMEM));
	}
	return false;
}

static void class_moved(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;

	if (!take_moved(e, r))
		return;
	with_old_leaves(take_ptr(&e));
}

static struct erase *erase_new(
	struct keyd *k, const struct fact_client *c, struct actor by, const char *reason)
{
	scoped(erase_freep) struct erase *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->k = k;
	e->client = *c;
	e->uid = by.uid;
	e->user = strdup(by.user);
	e->reason = strdup(reason);
	return e->user && e->reason && client_id_parse(c->hex, &e->id) == 0 ? take_ptr(&e) : NULL;
}

int erase_class(struct keyd *k, const struct fact_client *c, const struct erase_class *spec, struct job **job,
	struct varlink_call *call)
{
	scoped(erase_freep) struct erase *e = NULL;
	int r;

	if (spec->before == 0 || spec->before > date_day(keyd_now()))
		return -EINVAL; /* leaves of today are still given out */
	if (survey_runs(k, c->client))
		return -EBUSY;
	e = erase_new(k, c, spec->by, spec->reason);
	if (!e)
		return -ENOMEM;
	e->class = spec->class;
	e->before = spec->before;
	e->prefixes_n = prefix_cuts(spec->class->number, spec->before, e->prefixes);
	e->rule = strdup(spec->rule);
	e->source = strdup(spec->source ? spec->source : "");
	if (!e->rule || !e->source)
		return -ENOMEM;
	const struct survey_spec survey = {.mode = "move",
		.params = json_pack("{s:i, s:i, s:I, s:O*, s:b, s:i}", "class", (int)spec->class->number,
			"before", (int)spec->before, "modified_since", (json_int_t)spec->modified_since,
			"keep", spec->keep, "names", 1, "keep_class", (int)spec->keep_class),
		.alone = true,
		.why = "data is being destroyed",
		.by = spec->by,
		.done = class_moved,
		.arg = e};

	r = survey_start(k, c, &survey);
	if (r < 0)
		return r;
	e->done = spec->done;
	e->arg = spec->arg;
	if (call)
		e->job = job_new(k, call);
	if (job)
		*job = e->job;
	e = NULL;
	return 0;
}

/* It is there: only now the sessions end. */
static void found(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(erase_freep) struct erase *e = arg;
	int k1;

	if (r->error == -ENOENT) {
		refuse(e, "NotFound", NULL, "there is no such file or directory in the share");
		return;
	}
	if (r->error) {
		refuse(e, "Failed", NULL, r->text ? r->text : strerror(-r->error));
		return;
	}
	const struct survey_spec spec = {.mode = "erase",
		.params = json_pack("{s:s}", "only", r->store),
		.alone = !e->preview,
		.why = "data is being destroyed",
		.by = actor_of_work(e),
		.done = enumerated,
		.arg = e};

	k1 = survey_start(k, &e->client, &spec);
	if (k1 < 0)
		refuse(e, "Failed", NULL, strerror(-k1));
	else
		e = NULL;
}

/* ---- asking for it ---- */

static bool may_erase(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	if (c->held)
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

/* A custodian may do it when the rules say so: what the nightly run would do. */
static int erase_class_asked(struct keyd *k, struct varlink_call *call, const struct fact_client *c,
	const char *id, int64_t before, const char *reason)
{
	const struct policy_class *class = policy_class(k->policy, id);
	char rule[FACT_TEXT_MAX] = "", date[DATE_TEXT_MAX];
	struct prefix_answer a;
	int r;

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
	expiry_rule_text(a.rule, rule, sizeof(rule));
	const struct erase_class spec = {.class = class,
		.before = date_day(before),
		.modified_since = a.modified_since,
		.rule = rule,
		.source = a.rule->source,
		.reason = reason,
		.by = actor_of(call)};

	r = erase_class(k, c, &spec, NULL, call);
	return r < 0 ? store_unreadable(call, c, r) : 0;
}

int keyd_erase(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(erase_freep) struct erase *e = NULL;
	const char *client, *path = NULL, *reason, *class = NULL;
	struct keyd *k = userdata;
	struct fact_client c;
	int64_t before = 0;
	json_t *unused = NULL;
	int preview = 0, r;

	if (!params_unpack(call, params, "{s:s, s?s, s?s, s?o, s:s, s?b}", "client", &client, "path", &path,
		    "class", &class, "before", &unused, "reason", &reason, "preview", &preview) ||
		!params_text(call, "reason", reason) || !params_time(call, params, "before", &before) ||
		!params_client(k, call, client, &c) || !may_erase(k, call, &c))
		return 0;
	if (!path == !class || !class != !before || (class && preview))
		return varlink_error(call, "InvalidParameter", "either a path, or a class and a date", NULL);
	if (class)
		return erase_class_asked(k, call, &c, class, before, reason);
	if (strspn(path, "/") == strlen(path))
		return varlink_errorf(call, "InvalidParameter",
			"`coffer client end` begins the end of a client",
			"the whole of %s is not erased by its path", c.client);
	e = erase_new(k, &c, actor_of(call), reason);
	if (!e)
		return -ENOMEM;
	e->preview = preview;
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
