/* A policy, and the facts of one request under it, for the tests of what decides. */
#ifndef COFFER_TERMS_FIXTURE_H
#define COFFER_TERMS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "policy/agreement.h"
#include "policy/decide.h"

#define NOW 1700000000
#define DAY 86400
#define HOUR 3600

static const char policy_text[] =
	"format: 1\nname: p\nversion: \"1\"\neffective: \"2020-01-01\"\ncontroller: c\ncontact: c\n"
	"legal_bases:\n- {id: interest, title: Interest, source: BASES}\n"
	"- {id: consent, title: Consent, source: BASES, consent: true}\n"
	"service_lines:\n- {id: consulting, title: C, source: SERVICES}\n- {id: marketing, title: M, source: SERVICES}\n"
	"purposes:\n"
	"- {id: work, title: W, node: true, source: USE}\n"
	"- {id: help, title: H, parent: work, basis: interest, source: USE, rights: rw}\n"
	"- {id: build, title: B, parent: work, basis: interest, source: USE, rights: rw, services: [consulting], max_session: 8h}\n"
	"- {id: ads, title: A, basis: consent, source: ADS, rights: r, services: [marketing]}\n"
	"- {id: pay, title: P, basis: interest, source: ORDERS, rights: rw}\n"
	"- {id: court, title: C, law: true, basis: interest, source: LAW, rights: r, approval: 1d, idle: 30min}\n"
	"- {id: never, title: N, node: true, prohibited: true, source: NEVER}\n"
	"- {id: sell, title: S, parent: never, basis: interest, source: SELL, rights: r, parties: [employee]}\n"
	"- {id: inside, title: I, node: true, export: recorded, source: COPIES}\n"
	"- {id: move, title: M, parent: inside, basis: interest, source: COPIES, rights: rw}\n"
	"- {id: read, title: R, parent: inside, basis: interest, source: COPIES, rights: rw, export: no}\n"
	"emergency: {groups: [oncall], max_session: 1h, rights: r, source: ALARM}\n"
	"parties:\n- {id: employee, title: E, source: PEOPLE}\n- {id: partner, title: P, source: PEOPLE, only_shareable: true}\n"
	"classes:\n"
	"- {number: 16, id: personal, title: P, source: DATA, default: true,\n"
	"   retention: [{event: created, period: 1y, source: S}], at_least: {event: created, period: 30d, source: L}}\n"
	"- {number: 17, id: billing, title: B, source: ORDERS, purposes: [pay], retention: [{event: created, period: 1y, source: S}]}\n"
	"- {number: 18, id: contact, title: C, source: DATA, shareable: true, retention: [{event: created, period: 1y, source: S}]}\n"
	"- {number: 19, id: secrets, title: S, source: DATA, purposes: [work], approval: true,\n"
	"   retention: [{event: created, period: 1y, source: S}]}\n";

static struct policy *policy;

static inline int load(void **state)
{
	struct policy_error err;

	return policy_load_text(policy_text, sizeof(policy_text) - 1, &policy, &err);
}

static inline int unload(void **state)
{
	policy_free(policy);
	return 0;
}

/* Everything that is needed for everything; a test takes one thing away. */
struct all {
	struct decide_grant grant;
	struct decide_engagement engagement;
	struct decide_consent consent;
	struct decide_approval approval;
	struct decide_facts f;
	struct decide_request rq;
};

static const char *const groups[] = {"oncall"};

static inline void make(struct all *a, const char *purpose)
{
	a->grant = (struct decide_grant){.id = 1, .subject = "bob", .uid = 7, .purpose = purpose, .rights = RIGHTS_RW, .from = NOW - DAY};
	a->engagement = (struct decide_engagement){.service = "*", .from = NOW - DAY};
	a->consent = (struct decide_consent){.id = 5, .scope = "ads", .from = NOW - DAY};
	a->approval = (struct decide_approval){.id = 9, .user = "bob", .uid = 7, .purpose = "court", .by = "ada", .from = NOW - 1,
		.until = NOW + HOUR};
	a->f = (struct decide_facts){.client = "acme", .grants = &a->grant, .grants_count = 1, .engagements = &a->engagement,
		.engagements_count = 1, .consents = &a->consent, .consents_count = 1, .approvals = &a->approval,
		.approvals_count = 1};
	a->rq = (struct decide_request){.user = "bob", .uid = 7, .purpose = purpose};
}

static inline struct decision verdict_of(const struct policy *p, const struct all *a)
{
	struct decision d;

	assert_int_equal(decide(p, &a->f, &a->rq, NOW, &d), 0);
	if (d.verdict != VERDICT_ALLOW) {
		assert_true(d.rights == RIGHTS_NONE && d.grant == 0 && d.until == 0 && d.classes_count == 0 && !d.all_classes);
		assert_true(d.error[0] && d.message[0] && d.remedy[0]);
	}
	return d;
}

static inline void expect(const struct policy *p, const struct all *a, const char *error)
{
	struct decision d = verdict_of(p, a);

	if (strcmp(d.error, error) != 0)
		fail_msg("\"%s\" instead of \"%s\": %s", d.error, error, d.message);
	assert_int_equal(d.verdict, error[0] ? VERDICT_DENY : VERDICT_ALLOW);
}

static inline void expect_source(const struct decision *d, const char *rule, const char *source)
{
	for (size_t i = 0; i < d->steps_count; i++)
		if (strcmp(d->steps[i].rule, rule) == 0) {
			assert_string_equal(d->steps[i].source, source);
			return;
		}
	fail_msg("no step %s", rule);
}

static inline struct policy *merged(const char *rules, struct agreement **ret)
{
	struct policy_error err;
	struct policy *m = NULL;
	char text[2048];
	int n = snprintf(text, sizeof(text), "format: 1\nname: MSA\nversion: \"2\"\neffective: \"2021-01-01\"\n%s", rules);

	if (agreement_load_text(text, (size_t)n, policy, ret, &err) < 0)
		fail_msg("line %u: %s", err.line, err.text);
	assert_int_equal(policy_merge(policy, *ret, &m), 0);
	return m;
}

static inline void done(struct policy *m, struct agreement *g)
{
	policy_merged_free(m);
	agreement_free(g);
}

#endif
