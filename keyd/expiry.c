#include "keyd/expiry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/destruction.h"
#include "keyd/expiry_class.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"
#include "keyd/rules.h"
#include "keyd/shred.h"
#include "keyd/window.h"

#define DAY_SECONDS 86400
#define EXPIRY_EVERY 60 /* ticks between two runs that nothing calls for */

DEFINE_SCOPED(struct window *, window_free)

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
		.held = c->held || c->held_partly,
	};
	int r;

	*ret = (struct expiry_answer){.class = policy_default_class(p)};
	if (c->transferred_at) {
		ret->retention = (struct retention_answer){.state = f.held ? RETENTION_HELD : RETENTION_DUE,
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
	return clock_trusted && c->ended_on && !c->held && !c->held_partly && !c->destroying && !c->destroyed_on &&
	       a->retention.state == RETENTION_DUE;
}

enum expiry_step expiry_next(
	const struct fact_client *c, const struct expiry_answer *a, int64_t now, bool clock_trusted)
{
	bool due = expiry_is_due(c, a, clock_trusted);

	if (c->destroying || c->destroyed_on)
		return EXPIRY_NOTHING;
	if (c->waiting && (c->held || c->held_partly))
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

int64_t expiry_window(const struct policy *p, int64_t now)
{
	int64_t since_midnight = (now - p->window_at) % DAY_SECONDS;

	return now - (since_midnight < 0 ? since_midnight + DAY_SECONDS : since_midnight);
}

int64_t expiry_window_of_run(const struct keyd *k, int64_t now)
{
	return k->expiry_urgent ? now : expiry_window(k->policy, now);
}

const char *expiry_event_name(const struct policy_retention *rule)
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
	size_t at = (size_t)snprintf(buf, n, "%s%s", rule->legal ? "by law " : "", expiry_event_name(rule));

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

static int add_due(struct window *w, struct keyd *k, const struct fact_client *c, const struct expiry_answer *a,
	int64_t now)
{
	struct destruction *d;
	int r;

	if (expiry_window_of_run(k, now) < c->wait_until)
		return 0; /* not before its hour */
	r = destruction_new(k, c, a, now, &d);
	return r < 0 ? r : window_add_client(w, d);
}

static int take_step(struct keyd *k, const struct night *n, const struct fact_client *c)
{
	const struct policy *rules;
	struct expiry_answer a;
	int r;

	r = rules_for(k, c->row, FACTS_LATEST, n->now, &rules); /* without them nothing is destroyed */
	if (r == 0)
		r = expiry_judge(rules, c, n->now, &a);
	if (r < 0)
		return r;
	switch (expiry_next(c, &a, n->now, !k->clock.unconfirmed)) {
	case EXPIRY_NOTIFY:
		return expiry_notify(k, c, &a);
	case EXPIRY_STOP:
		return c->held || c->held_partly
			       ? expiry_stop(k, c, NULL, NOTICE_HELD, "it is on hold")
			       : expiry_stop(k, c, NULL, NOTICE_NOT_DUE, "it is not due any more");
	case EXPIRY_DESTROY:
		return add_due(n->window, k, c, &a, n->now);
	default:
		return expiry_step_classes(k, c, rules, expiry_is_due(c, &a, true), n);
	}
}

/* One step of each client; who is to be destroyed now comes into the window.  What fails with one does not hold
 * up the others, and is tried again later. */
static int step_all(struct keyd *k, struct window *w)
{
	scoped(freep) struct fact_client *clients = NULL;
	scoped(freep) struct fact_class_waits *waits = NULL;
	struct night night = {.now = keyd_now(), .window = w};
	size_t n = 0;
	int r, failed = 0;

	r = facts_clients(k->facts, FACTS_LATEST, &clients, &n);
	if (r == 0)
		r = facts_classes_wait(k->facts, &waits, &night.waits_n);
	night.waits = waits;
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = take_step(k, &night, &clients[i]);
		if (r < 0) {
			log_error("the destruction of %s does not proceed: %s", clients[i].client, strerror(-r));
			failed = r;
		}
	}
	if (failed < 0)
		k->expiry_retry_at = k->tick + EXPIRY_RETRY;
	return 0;
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
	k->expiry_again = true;
	if (!keyd_is_sealed(k) && !k->shred_unfinished)
		destructions_settle(k);
}

void expiry_tick(struct keyd *k)
{
	scoped(window_freep) struct window *w = NULL;
	int r;

	if (keyd_is_sealed(k))
		return;
	if (k->shred_unfinished) {
		if (k->tick % EXPIRY_RETRY == 0)
			try_to_forget(k);
		expiry_settle(k);
		return;
	}
	if (!k->expiry_again && k->tick < k->expiry_next_at)
		return;
	if (k->clock.unconfirmed)
		k->expiry_urgent = false; /* it was asked for before the doubt */
	if (k->tick < k->expiry_retry_at || k->window || !keyd_compare_ledger(k) || k->clock.unconfirmed ||
		window_new(k, &w) < 0)
		return;
	k->expiry_again = false;
	k->expiry_next_at = k->tick + EXPIRY_EVERY;
	r = step_all(k, w);
	k->expiry_urgent = false;
	if (r < 0 || window_count(w) == 0)
		return;
	k->expiry_retry_at = k->tick + EXPIRY_RETRY; /* unless all goes well */
	destructions_settle(k);
	window_begin(k, take_ptr(&w));
}

void expiry_now(struct keyd *k)
{
	k->expiry_retry_at = 0;
	k->expiry_again = true;
	expiry_tick(k);
	(void)outbox_deliver(k);
}
