/* The nightly run, of classes: looks what there is, gives notice, and says what is to be destroyed now. */
#include "keyd/expiry_class.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/class_life.h"
#include "keyd/rules.h"
#include "keyd/survey.h"

#define AT_ONCE 16 /* looks at the same time: each takes a worker */

struct look {
	struct keyd *k;
	struct fact_client client;
	const struct policy_class *class; /* the policy lives as long as keyd */
	uint16_t before;
	struct prefix_answer answer;
};

size_t expiry_classes_of(
	const struct policy *p, const struct fact_client *c, const struct policy_class *ret[FACT_CLASSES_MAX + 1])
{
	const struct policy_class *class;
	size_t n = 0;

	ret[n++] = policy_default_class(p);
	for (size_t i = 0; i < c->classes_count && i < FACT_CLASSES_MAX; i++) {
		class = policy_class_by_number(p, c->classes[i]);
		if (class && class != ret[0])
			ret[n++] = class;
	}
	return n;
}

/* ---- a look ---- */

static int take_look(struct look *l, const struct survey_result *r, struct fact_class *now)
{
	const json_t *day = json_object_get(r->counts, "oldest_day");

	now->client = l->client.row;
	now->class = l->class->number;
	now->looked_at = keyd_now();
	now->oldest_day = day ? (uint16_t)json_integer_value(day) : LOOK_NOTHING;
	now->oldest_change = json_integer_value(json_object_get(r->counts, "oldest_change"));
	now->found = json_integer_value(json_object_get(r->counts, "dying"));
	return facts_look_set(l->k->facts, now);
}

/* Things may have changed since the look began. */
static int notify_found(struct look *l)
{
	struct keyd *k = l->k;
	struct class_moment m = {.now = keyd_now(), .clock_trusted = !k->clock.unconfirmed, .due = true};
	const struct policy_class *class = NULL;
	const struct policy *rules;
	struct expiry_answer whole;
	struct fact_client c;
	struct fact_class now;
	int r;

	r = facts_client(k->facts, l->client.client, FACTS_LATEST, &c);
	if (r == 0)
		r = facts_class(k->facts, c.row, l->class->number, &now);
	if (r == 0)
		r = rules_for(k, c.row, FACTS_LATEST, m.now, &rules);
	if (r == 0)
		r = expiry_judge(rules, &c, m.now, &whole);
	if (r == 0)
		class = policy_class_by_number(rules, l->class->number);
	if (r == 0 && class)
		r = prefix_judge(class, &c, l->before, m.now, &l->answer);
	if (r < 0 || !class)
		return r;
	m.whole_due = expiry_is_due(&c, &whole, m.clock_trusted);
	m.window = now.looked_at;
	if (now.waiting || !l->answer.due || class_next(&c, &now, &m) != CLASS_LOOK)
		return 0;
	return expiry_notify_class(k, &c, class, l->before, &l->answer);
}

static void looked(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(freep) struct look *l = arg;
	struct fact_class now;
	int e = r->error;

	k->looks--;
	if (e == 0)
		e = take_look(l, r, &now);
	if (e == 0 && now.found > 0 && !keyd_is_sealed(k))
		e = notify_found(l);
	if (e < 0 && e != -ECANCELED)
		log_error("what of %s is due in %s cannot be told: %s", l->class->id, l->client.client,
			r->error && r->text ? r->text : strerror(-e));
	k->expiry_retry_at = e < 0 && e != -ECANCELED ? k->tick + EXPIRY_RETRY : 0;
	k->expiry_again = true;
}

static int look(struct keyd *k, const struct fact_client *c, const struct policy_class *class, uint16_t before,
	const struct prefix_answer *a)
{
	scoped(freep) struct look *l = NULL;
	scoped(json_decrefp) json_t *held = NULL;
	int r;

	if (k->looks >= AT_ONCE || survey_blocks(k, c->client))
		return 0; /* soon */
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	*l = (struct look){.k = k, .client = *c, .class = class, .before = before, .answer = *a};
	r = facts_held(k->facts, c->row, &held);
	if (r < 0)
		return r;
	const struct survey_spec spec = {.mode = "due",
		.way = SURVEY_YIELDS,
		.params = json_pack("{s:i, s:i, s:I, s:O}", "class", (int)class->number, "before", (int)before,
			"modified_since", (json_int_t)a->modified_since, "held", held),
		.done = looked,
		.arg = l};

	r = survey_start(k, c, &spec);
	if (r < 0)
		return r;
	k->looks++;
	take_ptr(&l);
	return 0;
}

/* ---- one step ---- */

static int judge(struct keyd *k, const struct fact_client *c, const struct policy_class *class,
	const struct fact_class *l, struct class_moment *m, uint16_t *before, struct prefix_answer *a)
{
	bool may = true;
	int r = 0;

	*before = l->before;
	*a = (struct prefix_answer){0};
	if (!l->waiting) {
		r = class_may_be_due(class, c, l, m->now, &may);
		if (r == 0 && may)
			r = class_border(class, c, m->now, before);
	}
	if (r == 0 && may && *before > 0)
		r = prefix_judge(class, c, *before, m->now, a);
	m->due = r == 0 && a->due;
	return r;
}

static int step_class(struct keyd *k, const struct fact_client *c, const struct policy_class *class,
	struct class_moment m, struct window *w)
{
	struct prefix_answer a;
	struct fact_class l;
	uint16_t before;
	int r = facts_class(k->facts, c->row, class->number, &l);

	if (r == 0)
		r = judge(k, c, class, &l, &m, &before, &a);
	if (r < 0)
		return r;
	switch (class_next(c, &l, &m)) {
	case CLASS_LOOK:
		return look(k, c, class, before, &a);
	case CLASS_STOP:
		return c->held || l.held ? expiry_stop(k, c, &l, NOTICE_HELD, "it is on hold")
					 : expiry_stop(k, c, &l, NOTICE_NOT_DUE, "it is not due any more");
	case CLASS_DESTROY:
		return survey_blocks(k, c->client) ? 0 : window_add_class(w, c, &l, class, &a);
	default:
		return 0;
	}
}

static int by_client(const void *a, const void *b)
{
	const struct fact_class_waits *x = a, *y = b;

	return x->client < y->client ? -1 : x->client > y->client;
}

static bool waits(const struct night *n, int64_t client)
{
	const struct fact_class_waits key = {.client = client};

	return n->waits_n > 0 && bsearch(&key, n->waits, n->waits_n, sizeof(key), by_client);
}

/* Most have nothing that could be due: that costs no question of the facts. */
static int may_matter(const struct policy_class *class, const struct fact_client *c, const struct night *n, bool *ret)
{
	uint16_t before = 0;
	int r;

	*ret = waits(n, c->row);
	if (*ret)
		return 0;
	r = class_border(class, c, n->now, &before);
	*ret = before > 0;
	return r;
}

int expiry_step_classes(struct keyd *k, const struct fact_client *c, const struct policy *rules, bool whole_due,
	const struct night *night)
{
	const struct policy_class *classes[FACT_CLASSES_MAX + 1];
	const struct class_moment m = {.now = night->now,
		.window = expiry_window_of_run(k, night->now),
		.clock_trusted = !k->clock.unconfirmed,
		.whole_due = whole_due};
	size_t n = expiry_classes_of(rules, c, classes);
	int r, failed = 0;

	if (c->destroyed_on || c->destroying || !fsd_is_running(k))
		return 0;
	for (size_t i = 0; i < n; i++) {
		bool matters;

		r = may_matter(classes[i], c, night, &matters);
		if (r == 0 && matters)
			r = step_class(k, c, classes[i], m, night->window);
		failed = r < 0 ? r : failed;
	}
	return failed;
}
