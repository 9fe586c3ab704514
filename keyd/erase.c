#include "keyd/erase_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/certificate.h"
#include "keyd/classes.h"
#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/holders.h"
#include "keyd/job.h"
#include "keyd/leaves.h"
#include "keyd/outbox.h"
#include "keyd/session.h"
#include "keyd/survey.h"
#include "keyd/slots.h"
#include "keyd/sweeps.h"

#define HEX 16
#define EVERY_SETTLE 5 /* ticks */

void erase_free(struct erase *e)
{
	if (!e)
		return;
	if (e->done)
		e->done(e->k, -ECANCELED, e->arg);
	versions_free(e->record);
	versions_found_done(&e->versions);
	for (size_t i = 0; i < e->paths_n; i++)
		free(e->paths[i]);
	free(e->paths);
	free(e->path);
	free(e->store);
	free(e->looked_at);
	if (e->list_fd > 0)
		(void)close(e->list_fd);
	free(e->subject);
	free(e->asked_by);
	json_decref(e->book);
	free(e->rule);
	free(e->source);
	free(e->user);
	free(e->reason);
	json_decref(e->held);
	free(e->cuts);
	free(e->leaves);
	free(e->dying);
	fact_erasure_done(&e->fact);
	free(e);
}
DEFINE_SCOPED(struct keytree *, keytree_free)

struct erase *erase_new(struct keyd *k, const struct fact_client *c, struct actor by, const char *reason)
{
	scoped(erase_freep) struct erase *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->k = k;
	e->client = *c;
	e->uid = by.uid;
	e->user = strdup(by.user);
	e->reason = strdup(reason);
	if (!e->user || !e->reason || client_id_parse(c->hex, &e->id) < 0 ||
		facts_held(k->facts, c->row, &e->held) < 0 ||
		facts_hold_newest(k->facts, c->row, &e->hold_newest) < 0)
		return NULL;
	return take_ptr(&e);
}

/* ---- the book ---- */

static int put(struct keyd *k, const char *kind, const char *outcome, struct actor by,
	const struct fact_client *c, const struct fact_erasure *f, const char *text)
{
	scoped(json_decrefp) json_t *counts = NULL;
	struct outbox_entry e = {.kind = kind, .outcome = outcome, .by = by, .client = c->client};
	json_t *subject;

	counts = f->counts ? json_loads(f->counts, 0, NULL) : NULL;
	subject = json_object_get(counts, "subject");
	e.detail = json_pack("{s:O*, s:s?, s:s?, s:s?, s:I}", "subject", subject, "store", f->store, "reason", f->reason, "text", text,
		"keys", (json_int_t)(f->leaves ? strlen(f->leaves) / HEX : 0));
	return outbox_put(k, &e);
}

struct actor erase_actor(const struct erase *e)
{
	return (struct actor){.user = e->user, .uid = e->uid};
}

void erase_refuse(struct erase *e, const char *error, const char *remedy, const char *text)
{
	if (!e->preview) {
		snprintf(e->fact.reason, sizeof(e->fact.reason), "%s", e->reason);
		(void)put(e->k, "erase", error, erase_actor(e), &e->client, &e->fact, text);
		(void)outbox_deliver(e->k);
	}
	job_fail(e->job, error, remedy, "%s", text);
}

void erase_failed(struct erase *e, int error, const char *text)
{
	char why[FACT_TEXT_MAX];

	snprintf(why, sizeof(why), "nothing was destroyed: %s", text ? text : strerror(-error));
	erase_refuse(e, "Failed", error == -ENOSPC ? "make room on the disk, then try again" : NULL, why);
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
	scoped(json_decrefp) json_t *notice = f->notice ? expiry_notice_json_class(k, c->row, f->class) : NULL;
	const struct certificate_facts facts = {.client = c,
		.destruction = &d,
		.destroyed_at = now,
		.policy = k->policy,
		.slots = slots,
		.notice = notice,
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
	if (json_object_get(what, "asked_by")) {
		json_object_set(json_object_get(o, "decided"), "asked_by", json_object_get(what, "asked_by"));
		json_object_set_new(json_object_get(o, "decided"), "confirmed_by", json_string(f->by));
		json_object_del(what, "asked_by");
	}
	json_object_set_new(what, "keys", json_integer(keys_of(f, dying)));
	if (rule) {
		json_object_set_new(json_object_get(o, "decided"), "reason", json_string(f->reason));
		json_object_del(what, "rule");
		json_object_del(what, "source");
	}
	if (!json_object_get(what, "subject")) /* that is no place */
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
		/* no client has a + in his name: nobody else's certificate is overwritten */
		snprintf(name, sizeof(name), "%s+erasure-%" PRId64, c->client, f->row);
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

static int abandon(
	struct keyd *k, const struct fact_client *c, const struct fact_erasure *f, const char *why)
{
	const struct actor by = {.user = f->by, .uid = (uid_t)-1};
	int r = facts_begin(k->facts);

	log_error("something of %s is not erased: %s", c->client, why);
	if (r == 0)
		r = facts_erasure_finish(k->facts, f->row, false, NULL, NULL, keyd_now());
	if (r == 0)
		r = put(k, "erase-abandoned", "Failed", by, c, f, why);
	if (r == 0)
		r = facts_commit(k->facts);
	facts_rollback(k->facts); /* of what failed: it is tried again */
	if (r < 0)
		log_error("that it is not erased is not recorded: %s", strerror(-r));
	(void)outbox_deliver(k);
	return r;
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

	/* Of a class, nothing but the prefix may tell, and of that only the mark: pruning can have taken it before. */
	*ret = (int64_t)keyring_generation(k->ring) > f->generation;
	if (r < 0 || !*ret || !keyring_has(k->ring, &id))
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

static void say_undecided(struct keyd *k, const struct fact_client *c, int r)
{
	log_error("an erasure of %s is not certified: its keys do not read (%s)", c->client, strerror(-r));
	k->erase_undecided = true;
}

#define INTERRUPTED_TEXT "it was interrupted before anything was destroyed"

int erase_settle(struct keyd *k)
{
	int64_t last = 0;

	for (;;) {
		scoped(fact_done) struct fact_erasure f = {0};
		struct fact_client c;
		bool gone;
		int r = facts_erasure_pending(k->facts, last, &f);

		if (r < 0)
			return r == -ENOENT ? 0 : r;
		last = f.row;
		r = facts_client_by_row(k->facts, f.client, &c);
		if (r < 0)
			return r;
		r = is_gone(k, &c, &f, &gone);
		if (r < 0) {
			/* Nothing that this rotation does changes the answer: a tree that does not read is not pruned, and a rotation that
			 * cuts it fails by itself.  Its own rotation has taken place, else nobody would have had to look. */
			say_undecided(k, &c, r);
			continue;
		}
		if (!gone)
			r = abandon(k, &c, &f, INTERRUPTED_TEXT);
		if (r < 0)
			return r;
	}
}

/* The oldest that can be decided now: one whose keys do not read keeps no other one waiting. */
static int next_decided(struct keyd *k, struct fact_erasure *ret, struct fact_client *c, bool *ret_gone)
{
	int64_t last = 0;
	int r;

	k->erase_undecided = false;
	for (;;) {
		fact_erasure_done(ret);
		r = facts_erasure_pending(k->facts, last, ret);
		if (r < 0)
			return r;
		last = ret->row;
		if (facts_client_by_row(k->facts, ret->client, c) < 0 || survey_blocks(k, c->client))
			continue;
		r = is_gone(k, c, ret, ret_gone);
		if (r == 0)
			return 0;
		say_undecided(k, c, r);
	}
}

void erase_tick(struct keyd *k)
{
	scoped(fact_done) struct fact_erasure f = {0};
	struct fact_client c;
	bool gone;
	int r;

	if (k->tick % EVERY_SETTLE != 1 || k->shred_unfinished)
		return;
	r = next_decided(k, &f, &c, &gone);
	if (r < 0)
		return;
	if (!gone)
		(void)abandon(k, &c, &f, INTERRUPTED_TEXT);
	else if (certify(k, &c, &f) < 0)
		log_error("an erasure of %s is not certified yet", c.client);
}

/* ---- the destruction ---- */

/* A hold that came since the walk began is not in what it looked for. */
static int holds_as_before(const struct erase *e)
{
	int64_t newest;
	int r = facts_hold_newest(e->k->facts, e->client.row, &newest);

	return r < 0 ? r : newest != e->hold_newest ? -EBUSY : 0;
}

/* The last moment: holds again.  The worker must be gone, with the keys it holds. */
static int confirm(void *arg)
{
	struct erase *e = arg;
	struct fact_client now;
	int r = facts_client(e->k->facts, e->client.client, FACTS_LATEST, &now);

	if (r == 0)
		r = holds_as_before(e);
	if (r < 0)
		return r;
	if (now.held || e->k->clock.unconfirmed)
		return -EBUSY;
	sessions_end(e->k, e->client.client, "data is being destroyed", EKEYREVOKED, erase_actor(e));
	children_stop_worker(e->k, e->client.hex);
	return 0;
}

static int make_fact(struct erase *e, int64_t now)
{
	e->fact.client = e->client.row;
	e->fact.intent_at = now;
	e->fact.generation = (int64_t)keyring_generation(e->k->ring);
	snprintf(e->fact.reason, sizeof(e->fact.reason), "%s", e->reason);
	snprintf(e->fact.by, sizeof(e->fact.by), "%s", e->user);
	e->fact.leaves = calloc(e->n, HEX + 1);
	if (!e->fact.leaves)
		return -ENOMEM;
	for (size_t i = 0; i < e->n; i++)
		snprintf(e->fact.leaves + i * HEX, HEX + 1, "%016" PRIx64, e->leaves[i]);
	return 0;
}

static int intend(void *arg)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	struct erase *e = arg;
	struct keyd *k = e->k;
	int64_t now = keyd_now();
	int r = make_fact(e, now);

	if (r == 0)
		r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = holds_as_before(e);
	if (r == 0)
		r = facts_erasure_intend(k->facts, &e->fact, erase_actor(e), now, &e->fact.row);
	if (r == 0)
		r = put(k, "erase-intent", NULL, erase_actor(e), &e->client, &e->fact, NULL);
	return r < 0 ? r : facts_commit(k->facts);
}

static void destroyed(void *arg)
{
	struct erase *e = arg;
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
		      : json_sprintf("keyd/certificates/%s+erasure-%" PRId64 ".json", e->client.client,
				e->fact.row));
	job_done(e->job, answer);
}

static void not_intended(struct erase *e, int error, const char *text)
{
	if (error == -EBUSY)
		erase_refuse(e, "Held", "`coffer hold list` shows the holds", "a hold was placed");
	else if (error == -EPERM)
		erase_refuse(e, "NotWaiting", "`coffer expiry list` shows what runs", "its notice does not run any more");
	else
		erase_failed(e, error, text);
}

static void failed(void *arg, bool intended, enum shred_outcome outcome, int error, const char *text)
{
	struct erase *e = arg;

	if (!intended) {
		not_intended(e, error, text);
	} else if (outcome == SHRED_PENDING) {
		job_fail(e->job, "Pending", "it is certified when that is done",
			"the keys are out of the new key state, but the old root key is not overwritten yet: "
			"%s",
			text);
	} else if (outcome == SHRED_UNKNOWN) {
		job_fail(e->job, "Failed", "make room or repair the disk, then run `coffer unseal`",
			"whether the keys are destroyed shows when they are unsealed: %s", text);
	} else {
		text = error == -EBUSY ? "a hold was placed" : text;
		(void)abandon(e->k, &e->client, &e->fact, text);
		job_fail(e->job, error == -EBUSY ? "Held" : "Failed", NULL, "nothing was destroyed: %s", text);
	}
}

int erase_item(struct erase *e, struct batch_item *ret)
{
	static const struct batch_ops ops = {intend, confirm, destroyed, failed};
	size_t singly = e->n + e->dying_n;
	struct keyring_cut *cuts = calloc(singly + e->prefixes_n, sizeof(*cuts));

	if (!cuts)
		return -ENOMEM;
	for (size_t i = 0; i < singly; i++)
		cuts[i] = (struct keyring_cut){
			.client = e->id, .prefix = i < e->n ? e->leaves[i] : e->dying[i - e->n], .bits = 64};
	for (size_t i = 0; i < e->prefixes_n; i++)
		cuts[singly + i] = (struct keyring_cut){
			.client = e->id, .prefix = e->prefixes[i].prefix, .bits = e->prefixes[i].bits};
	free(e->cuts);
	e->cuts = cuts;
	*ret = (struct batch_item){.ops = &ops, .arg = e, .cuts = cuts, .cuts_n = singly + e->prefixes_n};
	return 0;
}

/* Takes e. */
static void go(struct erase *e)
{
	scoped(erase_freep) struct erase *mine = e;
	struct batch_item item;

	if (keyd_is_sealed(e->k))
		erase_refuse(e, "Sealed", NULL, KEYD_SEALED_TEXT);
	else if (e->ready)
		e->ready(e->k, take_ptr(&mine), e->arg);
	else if (erase_item(e, &item) < 0)
		erase_refuse(e, "Failed", NULL, strerror(ENOMEM));
	else
		(void)batch_run(e->k, &item, 1);
}

/* Those of them that nothing is under are its leaves as the others: intended, shown to be gone, certified. */
static int take_versions(struct erase *e)
{
	uint64_t *more = reallocarray(e->leaves, e->n + e->versions.n + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	if (e->versions.n > 0)
		memcpy(more + e->n, e->versions.leaves, e->versions.n * sizeof(*more));
	e->leaves = more;
	e->n += e->versions.n;
	return erase_count_versions(e);
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
		erase_refuse(e, "Failed", "log/worker.log in the state directory says more, then try again", OLD_KEYS_TEXT);
		return;
	}
	if (r->leaves_n > 0) {
		used = malloc(r->leaves_n * sizeof(*used));
		if (!used) {
			erase_refuse(e, "Failed", NULL, strerror(ENOMEM));
			return;
		}
		memcpy(used, r->leaves, r->leaves_n * sizeof(*used));
		n = leaves_without(e->dying, e->dying_n, used, r->leaves_n);
		e->versions.n = leaves_without(e->versions.leaves, e->versions.n, used, r->leaves_n);
		memmove(e->dying + n, e->dying + e->dying_n, e->covered_n * sizeof(*used));
		e->dying_n = n;
		(void)facts_dying_drop(k->facts, e->client.row, r->leaves, r->leaves_n);
	}
	if (e->record && take_versions(e) < 0)
		erase_refuse(e, "Failed", NULL, strerror(ENOMEM));
	else if (e->n == 0)
		erase_refuse(e, "NothingToErase", NULL, "nothing that was there has a key that could be destroyed");
	else
		go(take_ptr(&e));
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
	struct survey_spec spec = {.mode = "check",
		.leaves_n = e->dying_n + e->versions.n,
		.alone = true,
		.why = "data is being destroyed",
		.by = erase_actor(e),
		.done = checked,
		.arg = e};

	e->looked_at = calloc(spec.leaves_n + 1, sizeof(*e->looked_at));
	if (!e->looked_at)
		return -ENOMEM;
	if (e->dying_n > 0)
		memcpy(e->looked_at, e->dying, e->dying_n * sizeof(*e->dying));
	if (e->versions.n > 0)
		memcpy(e->looked_at + e->dying_n, e->versions.leaves, e->versions.n * sizeof(*e->dying));
	spec.leaves = e->looked_at;
	return survey_start(e->k, &e->client, &spec);
}

/* What was re-wrapped lately has an older leaf: with that alive, nothing of it would be gone. */
void erase_proceed(struct erase *taken)
{
	scoped(erase_freep) struct erase *e = taken;
	int r = facts_dying(e->k->facts, e->client.row, &e->dying, &e->dying_n);

	if (r == 0)
		e->versions.n = leaves_without(e->versions.leaves, e->versions.n, e->dying, e->dying_n);
	if (r == 0)
		part_covered(e);
	if (r == 0 && e->dying_n + e->versions.n == 0) {
		go(take_ptr(&e));
		return;
	}
	if (r == 0)
		r = look_at_dying(e);
	if (r < 0)
		erase_refuse(e, "Failed", NULL, OLD_KEYS_TEXT);
	else
		e = NULL;
}
