#include "keyd/expiry.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/certificate.h"
#include "keyd/head.h"
#include "keyd/holders.h"
#include "keyd/disk.h"
#include "keyd/keyd.h"
#include "keyd/notice.h"
#include "keyd/outbox.h"
#include "keyd/sendmail.h"
#include "keyd/rules.h"
#include "keyd/session.h"
#include "keyd/shred.h"
#include "keyd/slots.h"
#include "keyd/sweeps.h"

#define DAY_SECONDS 86400
#define EVERY_RETRY 60 /* ticks between two tries of what did not work */

/* What runs without an end is longer than any date. */
static bool is_longer(const struct retention_answer *a, const struct retention_answer *than)
{
	bool runs = a->state == RETENTION_RUNNING;

	if (than->state == RETENTION_RUNNING)
		return false;
	return runs || a->due > than->due;
}

static char handed_over_source[] = "the client was handed over to a successor, and a custodian confirmed that he has it";
static const struct policy_retention handed_over = {
	.event = EVENT_NAMED, .named = "transferred to another installation", .source = handed_over_source};

int expiry_judge(const struct policy *p, const struct fact_client *c, int64_t now, struct expiry_answer *ret)
{
	struct retention_facts f = {
		.created = c->ended_on,
		.modified = c->ended_on,
		.relationship_end = c->ended_on,
		.dates = c->dates,
		.dates_count = c->dates_count,
		.held = c->held,
	};
	int r;

	*ret = (struct expiry_answer){.class = policy_default_class(p)};
	if (c->transferred_at) {
		ret->retention = (struct retention_answer){.state = c->held ? RETENTION_HELD : RETENTION_DUE,
			.due = c->transferred_at,
			.rule = &handed_over};
		return 0;
	}
	if (!c->ended_on || c->classes_count > FACT_CLASSES_MAX)
		return 0; /* no date to count from: it runs */
	r = retention_class(ret->class, &f, now, &ret->retention);
	for (size_t i = 0; r == 0 && i < c->classes_count; i++) {
		const struct policy_class *class = policy_class_by_number(p, c->classes[i]);
		struct retention_answer a = {.state = RETENTION_RUNNING}; /* a class that the policy lost has no rules */

		if (class)
			r = retention_class(class, &f, now, &a);
		if (r == 0 && is_longer(&a, &ret->retention))
			*ret = (struct expiry_answer){.class = class ? class : ret->class, .retention = a};
	}
	return r;
}

bool expiry_is_due(const struct fact_client *c, const struct expiry_answer *a, bool clock_trusted)
{
	return clock_trusted && c->ended_on && !c->held && !c->destroying && !c->destroyed_on &&
	       a->retention.state == RETENTION_DUE;
}

enum expiry_step expiry_next(
	const struct fact_client *c, const struct expiry_answer *a, int64_t now, bool clock_trusted)
{
	bool due = expiry_is_due(c, a, clock_trusted);

	if (c->destroying || c->destroyed_on)
		return EXPIRY_NOTHING;
	if (c->waiting && c->held)
		return EXPIRY_STOP;
	if (!clock_trusted)
		return EXPIRY_NOTHING;
	if (c->waiting && !due)
		return EXPIRY_STOP;
	if (!c->waiting)
		return due && now >= c->postponed_until ? EXPIRY_NOTIFY : EXPIRY_NOTHING;
	return now >= c->wait_until ? EXPIRY_DESTROY : EXPIRY_NOTHING;
}

int64_t expiry_wait_until(const struct policy *p, int64_t now)
{
	int64_t day = now + (DAY_SECONDS - now % DAY_SECONDS) % DAY_SECONDS;

	return date_add(day, p->wait.years, p->wait.months, p->wait.days);
}

static const char *event_name(const struct policy_retention *rule)
{
	switch (rule->event) {
	case EVENT_NAMED:
		return rule->named;
	case EVENT_CREATED:
		return "created";
	case EVENT_MODIFIED:
		return "last modified";
	default:
		return "relationship end";
	}
}

static size_t append_part(char *buf, size_t n, size_t at, int amount, const char *unit)
{
	if (amount == 0 || at >= n)
		return at;
	return at + (size_t)snprintf(buf + at, n - at, " + %d %s%s", amount, unit, amount == 1 ? "" : "s");
}

char *expiry_rule_text(const struct policy_retention *rule, char *buf, size_t n)
{
	size_t at = (size_t)snprintf(buf, n, "%s%s", rule->legal ? "by law " : "", event_name(rule));

	at = append_part(buf, n, at, rule->period.years, "year");
	at = append_part(buf, n, at, rule->period.months, "month");
	append_part(buf, n, at, rule->period.days, "day");
	return buf;
}

int64_t expiry_destroy_on(const struct policy *p, const struct fact_client *c, int64_t now)
{
	struct expiry_answer a;

	return expiry_judge(p, c, now, &a) < 0 ? 0 : a.retention.due;
}

/* ---- destruction ---- */

struct victim {
	struct fact_client client;
	struct fact_destruction destruction;
};

struct batch { /* destructions that share one rotation of the root key */
	struct keyd *k;
	struct victim *victims;
	struct keyring_cut *cuts;
	size_t n;
};

static void batch_done(struct batch *b)
{
	free(b->victims);
	free(b->cuts);
}

static int put(
	struct keyd *k, const char *kind, const char *outcome, const struct victim *v, const char *text)
{
	struct outbox_entry e = {
		.kind = kind,
		.outcome = outcome,
		.by = FACTS_CLOCK,
		.client = v->client.client,
		.detail = json_pack("{s:s, s:s, s:I, s:s?}", "rule", v->destruction.rule, "source",
			v->destruction.source, "due", (json_int_t)v->destruction.due, "text", text),
	};

	return outbox_put(k, &e);
}

/* The intent is on disk before anything is touched; a hold that is there by then wins. */
static int intend(struct keyd *k, struct victim *v)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	int r;

	r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = facts_destruction_intend(k->facts, &v->destruction, keyd_now(), &v->destruction.row);
	if (r == 0)
		r = put(k, "destroy-intent", NULL, v, NULL);
	return r < 0 ? r : facts_commit(k->facts);
}

static void abandon(struct keyd *k, const struct victim *v, const char *why)
{
	int r;

	log_error("%s is not destroyed: %s", v->client.client, why);
	r = facts_destruction_finish(k->facts, v->destruction.row, false, NULL, NULL, keyd_now());
	if (r == 0)
		r = put(k, "destroy-abandoned", "Failed", v, why);
	if (r < 0)
		log_error("that it is not destroyed is not recorded: %s", strerror(-r));
}

static int certify(struct keyd *k, const struct victim *v, int64_t now, json_t **ret, char **ret_text,
	char signature[2 * SIGNATURE_BYTES + 1])
{
	struct fact_head head;
	bool have_head = facts_head_last(k->facts, &head) == 0;
	scoped(json_decrefp) json_t *notice = expiry_notice_json(k, &v->client);
	scoped(json_decrefp) json_t *recovery = holders_json(k, NULL);
	scoped(json_decrefp) json_t *slots = slots_certificate(k);
	struct certificate_facts f = {
		.client = &v->client,
		.destruction = &v->destruction,
		.destroyed_at = now,
		.policy_name = k->policy->name,
		.policy_version = k->policy->version,
		.policy_hash = k->policy->text_hash,
		.slots = slots,
		.notice = notice,
		.recovery = recovery,
		.embedded = k->embedded,
		.head = have_head ? &head : NULL,
	};
	json_t *c = NULL;
	int r;

	r = certificate_make(&f, &c);
	if (r == 0)
		r = certificate_sign(k->ring, c, ret_text, signature);
	if (r < 0) {
		json_decref(c);
		return r;
	}
	*ret = c;
	return 0;
}

/* The key is gone: say so, in facts, certificate and record.  What fails here is done again after a restart.
 */
static int finish(struct keyd *k, const struct victim *v)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	scoped(freep) char *text = NULL;
	char signature[2 * SIGNATURE_BYTES + 1];
	uint8_t public_key[PUBLIC_KEY_BYTES];
	json_t *certificate = NULL;
	int64_t now = keyd_now();
	int r;

	r = certify(k, v, now, &certificate, &text, signature);
	if (r < 0)
		return r;
	keyring_public_key(k->ring, public_key);
	r = certificate_store(k->keyd_fd, v->client.client, certificate, signature, public_key);
	json_decref(certificate);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = facts_destruction_finish(k->facts, v->destruction.row, true, text, signature, now);
	if (r == 0)
		r = put(k, "destroy", NULL, v, signature);
	if (r == 0)
		r = sweeps_due(k, v->client.row);
	if (r == 0)
		r = facts_commit(k->facts);
	if (r == 0)
		log_info("%s is destroyed (%s); the certificate is keyd/certificates/%s.json",
			v->client.client, v->destruction.rule, v->client.client);
	return r;
}

static void finish_all(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		int r = finish(b->k, &b->victims[i]);

		if (r < 0)
			log_error("the destruction of %s is not certified yet: %s",
				b->victims[i].client.client, strerror(-r));
	}
}

/* The last moment: holds again, then the doors.  The workers must be gone, with the keys they hold. */
static int confirm(void *arg)
{
	struct batch *b = arg;
	struct fact_client now;
	int r;

	for (size_t i = 0; i < b->n; i++) {
		r = facts_client(b->k->facts, b->victims[i].client.client, FACTS_LATEST, &now);
		if (r < 0)
			return r;
		if (now.held)
			return -EBUSY;
		if (now.waiting != b->victims[i].client.waiting || now.wait_until > keyd_now())
			return -EPERM;
	}
	for (size_t i = 0; i < b->n; i++) {
		sessions_end(b->k, b->victims[i].client.client, "destroyed", EKEYEXPIRED, FACTS_CLOCK);
		children_stop_worker(b->k, b->victims[i].client.hex);
	}
	return 0;
}

static int add_victim(struct batch *b, const struct fact_client *c, const struct fact_destruction *d)
{
	struct victim *victims = reallocarray(b->victims, b->n + 1, sizeof(*victims));
	struct keyring_cut *cuts;

	if (!victims)
		return -ENOMEM;
	b->victims = victims;
	cuts = reallocarray(b->cuts, b->n + 1, sizeof(*cuts));
	if (!cuts)
		return -ENOMEM;
	b->cuts = cuts;
	victims[b->n] = (struct victim){.client = *c, .destruction = *d};
	cuts[b->n] = (struct keyring_cut){.whole = true};
	if (client_id_parse(c->hex, &cuts[b->n].client) < 0)
		return -EINVAL;
	b->n++;
	return 0;
}

static void shred(struct batch *b)
{
	struct shred_job job = {.cuts = b->cuts, .count = b->n, .confirm = confirm, .arg = b};
	enum shred_outcome outcome = SHRED_NOTHING;
	struct keyd *k = b->k;
	struct keys_error err = {0};
	int r;

	r = keyd_shred(k, &job, &outcome, &err);
	if (outcome == SHRED_DESTROYED) {
		finish_all(b);
		return;
	}
	if (outcome == SHRED_PENDING || outcome == SHRED_UNKNOWN)
		return;
	for (size_t i = 0; i < b->n; i++)
		abandon(k, &b->victims[i],
			r == -EBUSY ? "a hold was placed"
			: r == -EPERM ? "it was cancelled"
			: *err.text ? err.text
				    : strerror(-r));
}

/* ---- notice ---- */

static void notice_of(struct keyd *k, const struct fact_client *c, const struct expiry_answer *a, int64_t now,
	struct fact_notice *ret)
{
	const struct policy_retention *rule = a->retention.rule;

	*ret = (struct fact_notice){.client = c->row,
		.due = a->retention.due,
		.wait_until = expiry_wait_until(k->policy, now)};
	expiry_rule_text(rule, ret->rule, sizeof(ret->rule));
	snprintf(ret->source, sizeof(ret->source), "%s", rule->source ? rule->source : "");
}

static int write_letter(struct keyd *k, const struct notice_letter *l, json_t **ret_detail)
{
	scoped(close_fdp) int fd = statedir_open(&k->dir, "outbox", O_RDONLY | O_DIRECTORY, 0);
	char name[NOTICE_NAME_MAX], to[FACT_TEXT_MAX];
	scoped(freep) char *text = NULL;
	int r;

	if (fd < 0)
		return fd;
	r = notice_text(l, to, sizeof(to), &text);
	if (r == 0)
		r = disk_replace(fd, notice_name(l->row, l->client->client, name), text, strlen(text));
	if (r < 0)
		return r;
	if (!*to)
		log_warning("the notice outbox/%s has no address: neither client nor policy name one", name);
	*ret_detail = json_pack("{s:I, s:s, s:s, s:I, s:I, s:s, s:s}", "notice", (json_int_t)l->row, "file", name,
		"to", to, "due", (json_int_t)l->notice->due, "until", (json_int_t)l->notice->wait_until, "rule",
		l->notice->rule, "source", l->notice->source);
	return 0;
}

/* The letter is on disk before the waiting begins: a crash between leaves a letter that is written again. */
int expiry_notify(struct keyd *k, const struct fact_client *c, const struct expiry_answer *a)
{
	struct outbox_entry e = {.kind = "expiry-notice", .by = FACTS_CLOCK, .client = c->client};
	scoped(facts_rollbackp) struct facts *open = NULL;
	int64_t now = keyd_now();
	struct notice_letter l = {.client = c, .policy = k->policy, .now = now};
	char name[NOTICE_NAME_MAX];
	struct fact_notice n;
	int r;

	notice_of(k, c, a, now, &n);
	l.notice = &n;
	r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = facts_notice_begin(k->facts, &n, now, &l.row);
	if (r == 0)
		r = write_letter(k, &l, &e.detail);
	if (r == 0)
		r = outbox_put(k, &e);
	if (r == 0)
		r = facts_commit(k->facts);
	if (r == 0)
		notice_send(k, notice_name(l.row, c->client, name), c->client);
	return r;
}

static int stop(struct keyd *k, const struct fact_client *c)
{
	struct outbox_entry e = {.kind = "expiry-stop", .by = FACTS_CLOCK, .client = c->client};
	const char *why = c->held ? "it is on hold" : "it is not due any more";
	scoped(facts_rollbackp) struct facts *open = NULL;
	int r;

	e.detail = json_pack("{s:I, s:s}", "notice", (json_int_t)c->waiting, "reason", why);
	r = facts_begin(k->facts);
	if (r < 0) {
		json_decref(e.detail);
		return r;
	}
	open = k->facts;
	r = outbox_put(k, &e);
	if (r == 0)
		r = facts_notice_end(k->facts, c->row, c->held ? NOTICE_HELD : NOTICE_NOT_DUE, why, 0, FACTS_CLOCK,
			keyd_now());
	return r < 0 ? r : facts_commit(k->facts);
}

static int add_due(struct batch *b, const struct fact_client *c, const struct expiry_answer *a, int64_t now)
{
	const struct policy_retention *rule = a->retention.rule;
	struct fact_destruction d = {.client = c->row,
		.generation = (int64_t)keyring_generation(b->k->ring),
		.due = a->retention.due,
		.intent_at = now};

	expiry_rule_text(rule, d.rule, sizeof(d.rule));
	snprintf(d.source, sizeof(d.source), "%s", rule->source ? rule->source : "");
	return add_victim(b, c, &d);
}

static int take_step(struct batch *b, const struct fact_client *c, int64_t now)
{
	struct keyd *k = b->k;
	const struct policy *rules;
	struct expiry_answer a;
	int r;

	r = rules_for(k, c->row, FACTS_LATEST, now, &rules); /* without them nothing is destroyed */
	if (r == 0)
		r = expiry_judge(rules, c, now, &a);
	if (r < 0)
		return r;
	switch (expiry_next(c, &a, now, !k->clock.unconfirmed)) {
	case EXPIRY_NOTIFY:
		return expiry_notify(k, c, &a);
	case EXPIRY_STOP:
		return stop(k, c);
	case EXPIRY_DESTROY:
		return add_due(b, c, &a, now);
	default:
		return 0;
	}
}

/* One step of each client; who is to be destroyed now comes into the batch.  What fails with one does not hold
 * up the others, and is tried again later. */
static int step_all(struct keyd *k, struct batch *b)
{
	scoped(freep) struct fact_client *clients = NULL;
	int64_t now = keyd_now();
	size_t n = 0;
	int r, failed = 0;

	r = facts_clients(k->facts, FACTS_LATEST, &clients, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = take_step(b, &clients[i], now);
		if (r < 0) {
			log_error("the destruction of %s does not proceed: %s", clients[i].client, strerror(-r));
			failed = r;
		}
	}
	if (failed < 0)
		k->expiry_retry_at = k->tick + EVERY_RETRY;
	return 0;
}

/* Intents without an end; those whose key is gone are destroyed, of the others nothing was touched. */
static void settle_pending(struct keyd *k)
{
	scoped(freep) struct fact_destruction *pending = NULL;
	scoped(freep) struct fact_client *clients = NULL;
	size_t n = 0, count = 0;

	if (facts_destructions_pending(k->facts, &pending, &n) < 0 || n == 0 ||
		facts_clients(k->facts, FACTS_LATEST, &clients, &count) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		for (size_t c = 0; c < count; c++) {
			struct victim v = {.client = clients[c], .destruction = pending[i]};
			struct client_id id;
			int r = 0;

			if (clients[c].row != pending[i].client || client_id_parse(clients[c].hex, &id) < 0)
				continue;
			if (keyring_has(k->ring, &id))
				abandon(k, &v, "it was interrupted before anything was destroyed");
			else
				r = finish(k, &v);
			if (r < 0)
				log_error("the destruction of %s is not certified yet: %s", v.client.client,
					strerror(-r));
		}
	}
}

static void try_to_forget(struct keyd *k)
{
	struct keys_error err = {0};

	if (shred_finish(k->slot, k->ring, &err) < 0) {
		snprintf(k->key_warning, sizeof(k->key_warning), "%s", err.text);
		return;
	}
	k->shred_unfinished = false;
	*k->key_warning = '\0';
}

void expiry_settle(struct keyd *k)
{
	if (!keyd_is_sealed(k) && !k->shred_unfinished)
		settle_pending(k);
}

void expiry_tick(struct keyd *k)
{
	scoped(batch_done) struct batch due = {.k = k}, ready = {.k = k};

	if (keyd_is_sealed(k))
		return;
	if (k->shred_unfinished) {
		if (k->tick % EVERY_RETRY == 0)
			try_to_forget(k);
		expiry_settle(k);
		return;
	}
	if (k->tick < k->expiry_retry_at || !keyd_compare_ledger(k) || k->clock.unconfirmed || step_all(k, &due) < 0 || due.n == 0)
		return;
	k->expiry_retry_at =
		k->tick + EVERY_RETRY; /* unless all goes well, in which case nothing is left to do */
	settle_pending(k);
	if (fsd_is_running(k) && outbox_deliver(k) == 0)
		(void)head_sign(k, NULL); /* the certificate names the book as it stood before */
	for (size_t i = 0; i < due.n; i++) {
		int r = intend(k, &due.victims[i]);

		if (r == 0)
			r = add_victim(&ready, &due.victims[i].client, &due.victims[i].destruction);
		if (r < 0)
			log_error("%s is not destroyed: %s", due.victims[i].client.client, strerror(-r));
	}
	if (ready.n > 0)
		shred(&ready);
}

void expiry_now(struct keyd *k)
{
	k->expiry_retry_at = 0;
	expiry_tick(k);
	(void)outbox_deliver(k);
}

/* ---- forecast ---- */

static const char *forecast_state(const struct fact_client *c, const struct expiry_answer *a)
{
	if (c->destroyed_on)
		return "destroyed";
	switch (a->retention.state) {
	case RETENTION_DATED:
		return "dated";
	case RETENTION_DUE:
		return c->held ? "held" : c->waiting ? "waiting" : "due";
	case RETENTION_HELD:
		return "held";
	default:
		return c->held ? "held" : "running";
	}
}

static json_t *time_json(int64_t t)
{
	return t ? json_integer((json_int_t)t) : json_null();
}

static void add_waiting(struct keyd *k, const struct fact_client *c, int64_t now, json_t *row)
{
	struct fact_schedule s;

	json_object_set_new(row, "notified_at", time_json(c->notified_at));
	json_object_set_new(row, "wait_until", time_json(c->wait_until));
	json_object_set_new(row, "postponed_until",
		time_json(!c->waiting && !c->destroyed_on && c->postponed_until > now ? c->postponed_until : 0));
	if (c->waiting && facts_notice_scheduled(k->facts, c->waiting, &s) == 0)
		json_object_set_new(row, "asked",
			json_pack("{s:I, s:s, s:s}", "until", (json_int_t)s.until, "by", s.asked_by, "reason",
				s.reason));
}

/* While it runs, the rule that will decide is the class's first: the policy lists the strictest there. */
static json_t *forecast_row(struct keyd *k, const struct fact_client *c, int64_t now)
{
	const struct policy_retention *rule;
	struct expiry_answer a;
	json_t *row, *holds = NULL;
	char text[128] = "";

	if (expiry_judge(rules_now(k, c->row), c, now, &a) < 0)
		return NULL;
	rule = a.retention.rule               ? a.retention.rule
	       : a.class->retention_count > 0 ? &a.class->retention[0]
					      : NULL;
	if (rule)
		expiry_rule_text(rule, text, sizeof(text));
	if (facts_holds(k->facts, c->client, &holds) < 0)
		holds = json_array();
	row = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:s, s:s, s:o}", "client", c->client, "name", c->name,
		"class", a.class->id, "rule", text, "source", rule ? rule->source : NULL, "event",
		rule ? event_name(rule) : "relationship end", "state", forecast_state(c, &a),
		"holds", holds);
	if (row) {
		json_object_set_new(row, "event_on", c->ended_on ? json_integer(c->ended_on) : json_null());
		json_object_set_new(
			row, "due", a.retention.due ? json_integer(a.retention.due) : json_null());
		add_waiting(k, c, now, row);
	}
	return row;
}

int expiry_forecast(struct keyd *k, const char *client, json_t **ret)
{
	scoped(freep) struct fact_client *clients = NULL;
	json_t *rows;
	size_t n = 0;
	int r;

	r = facts_clients(k->facts, FACTS_LATEST, &clients, &n);
	if (r < 0)
		return r;
	rows = json_array();
	for (size_t i = 0; i < n; i++)
		if (!client || strcmp(client, clients[i].client) == 0)
			json_array_append_new(rows, forecast_row(k, &clients[i], keyd_now()));
	*ret = rows;
	return 0;
}
