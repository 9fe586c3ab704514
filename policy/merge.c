/* Policy and agreement put together: policy_merge(). */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "common/utf8.h"
#include "policy/agreement.h"

struct merged {
	struct policy policy; /* first: what callers hold */
	struct policy_override *overrides; /* purposes, then classes */
};

struct merge {
	const struct policy *p;
	const struct agreement *a;
	struct merged *m;
};

/* Says it of the purpose or class with that override; the last rule that says something of it is the one told. */
__attribute__((format(printf, 5, 6))) static const struct policy_override *say(const struct merge *g, size_t at,
	const struct agreement_rule *rule, bool prevails, const char *fmt, ...)
{
	struct policy_override *o = &g->m->overrides[at];
	int n = snprintf(o->text, sizeof(o->text), "the agreement \"%s\" (version %s) ", g->a->name, g->a->version);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(o->text + n, sizeof(o->text) - (size_t)n, fmt, ap);
	va_end(ap);
	utf8_mend(o->text);
	o->source = rule->source;
	o->prevails = prevails;
	return o;
}

static int add_parties(struct policy_purpose *u, const struct agreement_rule *rule)
{
	char **all;
	size_t n = u->parties_count;

	if (rule->parties_count == 0 || n == 0) /* none named: all may already */
		return 0;
	all = calloc(n + rule->parties_count, sizeof(*all));
	if (!all)
		return -ENOMEM;
	memcpy(all, u->parties, n * sizeof(*all));
	for (size_t i = 0; i < rule->parties_count; i++)
		all[n++] = (char *)policy_party_name((enum party)rule->parties[i]);
	free(u->parties);
	u->parties = all;
	u->parties_count = n;
	return 0;
}

static void apply_session(const struct merge *g, const struct agreement_rule *rule, size_t i)
{
	struct policy_purpose *u = &g->m->policy.purposes[i];
	const struct policy_purpose *was = &g->p->purposes[i];

	if (!policy_period_is_zero(&rule->period)) {
		u->max_session = rule->period;
		u->override = say(g, i, rule, true,
			"says how long a session for %s may last; the policy %s %s (%s): the agreement prevails", u->id,
			g->p->name, policy_period_is_zero(&was->max_session) ? "has no limit" : "has another limit",
			was->source);
	}
	if (rule->export > u->export) { /* never looser, whatever the policy says by now */
		u->export = rule->export;
		u->override = say(g, i, rule, true, "says export: %s of %s; the policy %s %s (%s): the agreement prevails",
			policy_export_name(rule->export), u->id, g->p->name,
			was->export ? "says it less strictly" : "says nothing of copies", was->source);
	}
	if (rule->durability > u->durability) {
		u->durability = rule->durability;
		u->override = say(g, i, rule, true, "says durability: %s of %s; the policy %s asks for less (%s): the agreement prevails",
			policy_durability_name(rule->durability), u->id, g->p->name, was->source);
	}
}

static int apply_to_purpose(const struct merge *g, const struct agreement_rule *rule, size_t i)
{
	struct policy_purpose *u = &g->m->policy.purposes[i];
	const struct policy_purpose *was = &g->p->purposes[i];
	bool prohibited = was->prohibited_at >= 0;

	if (u->law) {
		u->override = say(g, i, rule, false,
			"would %s %s, but that rests on the law (%s): the law prevails",
			rule->kind == AGREEMENT_FORBID ? "forbid" : "change", u->id, u->source);
		return 0;
	}
	switch (rule->kind) {
	case AGREEMENT_PERMIT:
		u->prohibited_at = -1;
		u->rights |= rule->rights;
		u->override = say(g, i, rule, true, "permits %s; the policy %s %s (%s): the agreement prevails", u->id,
			g->p->name, prohibited ? "prohibits it" : "allows it less", was->source);
		return add_parties(u, rule);
	case AGREEMENT_FORBID:
		u->prohibited_at = (int)i;
		u->override = say(g, i, rule, true, "forbids %s; the policy %s %s (%s): the agreement prevails", u->id,
			g->p->name, prohibited ? "prohibits it too" : "allows it", was->source);
		return 0;
	case AGREEMENT_SESSION:
		apply_session(g, rule, i);
		return 0;
	case AGREEMENT_RETENTION:
		break;
	}
	return 0;
}

/* The policy's own rules of that class go, what the law asks for at least stays. */
static int apply_to_class(const struct merge *g, const struct agreement_rule *rule, size_t i, bool first)
{
	struct policy_class *k = &g->m->policy.classes[i];
	struct policy_retention *rules = calloc(k->retention_count + 1, sizeof(*rules));
	bool legal = false;
	size_t n = 0;

	if (!rules)
		return -ENOMEM;
	for (size_t j = 0; j < k->retention_count; j++) {
		if (k->retention[j].legal || !first)
			rules[n++] = k->retention[j];
		legal |= k->retention[j].legal;
	}
	rules[n] = (struct policy_retention){.period = rule->period, .source = (char *)rule->source};
	if (!policy_retention_event(g->p, rule->event, &rules[n])) {
		free(rules); /* an event of another policy */
		return 0;
	}
	free(k->retention);
	k->retention = rules;
	k->retention_count = n + 1;
	k->override = say(g, g->p->purposes_count + i, rule, true,
		"says how long %s is kept; the policy %s says otherwise (%s): the agreement prevails%s", k->id, g->p->name,
		g->p->classes[i].source, legal ? ", but not against what the law asks for at least" : "");
	return 0;
}

static bool is_first_for(const struct agreement *a, const struct agreement_rule *rule)
{
	for (const struct agreement_rule *r = a->rules; r < rule; r++)
		if (r->kind == AGREEMENT_RETENTION && strcmp(r->subject, rule->subject) == 0)
			return false;
	return true;
}

static int apply(const struct merge *g, const struct agreement_rule *rule)
{
	int r = 0;

	if (rule->kind == AGREEMENT_RETENTION) {
		for (size_t i = 0; r == 0 && i < g->p->classes_count; i++)
			if (strcmp(g->p->classes[i].id, rule->subject) == 0)
				r = apply_to_class(g, rule, i, is_first_for(g->a, rule));
		return r;
	}
	if (!policy_purpose(g->p, rule->subject))
		return 0;
	for (size_t i = 0; r == 0 && i < g->p->purposes_count; i++)
		if (policy_covers(g->p, rule->subject, &g->p->purposes[i]))
			r = apply_to_purpose(g, rule, i);
	return r;
}

static void *copy(const void *from, size_t n, size_t size)
{
	void *to = calloc(n + 1, size);

	return to && n ? memcpy(to, from, n * size) : to;
}

/* What a merge changes is its own. */
static int copy_lists(const struct policy *p, struct merged *m)
{
	struct policy *to = &m->policy;

	*to = *p;
	to->purposes = copy(p->purposes, p->purposes_count, sizeof(*p->purposes));
	to->classes = copy(p->classes, p->classes_count, sizeof(*p->classes));
	m->overrides = calloc(p->purposes_count + p->classes_count, sizeof(*m->overrides));
	for (size_t i = 0; to->purposes && i < p->purposes_count; i++)
		to->purposes[i].parties = NULL;
	for (size_t i = 0; to->classes && i < p->classes_count; i++)
		to->classes[i].retention = NULL;
	if (!to->purposes || !to->classes || !m->overrides)
		return -ENOMEM;
	for (size_t i = 0; i < p->purposes_count; i++) {
		const struct policy_purpose *u = &p->purposes[i];

		to->purposes[i].parties = copy(u->parties, u->parties_count, sizeof(*u->parties));
		if (!to->purposes[i].parties)
			return -ENOMEM;
	}
	for (size_t i = 0; i < p->classes_count; i++) {
		const struct policy_class *k = &p->classes[i];

		to->classes[i].retention = copy(k->retention, k->retention_count, sizeof(*k->retention));
		if (!to->classes[i].retention)
			return -ENOMEM;
	}
	return 0;
}

DEFINE_SCOPED(struct policy *, policy_merged_free)

int policy_merge(const struct policy *p, const struct agreement *a, struct policy **ret)
{
	scoped(policy_merged_freep) struct policy *policy = NULL;
	struct merged *m = calloc(1, sizeof(*m));
	struct merge g = {.p = p, .a = a, .m = m};
	int r;

	if (!m)
		return -ENOMEM;
	policy = &m->policy;
	r = copy_lists(p, m);
	m->policy.agreement = a;
	for (size_t i = 0; r == 0 && i < a->rules_count; i++)
		r = apply(&g, &a->rules[i]);
	if (r < 0)
		return r;
	*ret = take_ptr(&policy);
	return 0;
}

void policy_merged_free(struct policy *p)
{
	struct merged *m = (struct merged *)p;

	if (!p)
		return;
	for (size_t i = 0; p->purposes && i < p->purposes_count; i++)
		free(p->purposes[i].parties);
	for (size_t i = 0; p->classes && i < p->classes_count; i++)
		free(p->classes[i].retention);
	free(p->purposes);
	free(p->classes);
	free(m->overrides);
	free(m);
}
