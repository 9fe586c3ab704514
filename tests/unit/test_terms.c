/* What decides beside the grant: tree, engagements, consents, parties, record classes, approvals, emergencies,
 * suspensions, agreements.  Each allowed thing has a sibling that fails for one reason. */
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

static int load(void **state)
{
	struct policy_error err;

	return policy_load_text(policy_text, sizeof(policy_text) - 1, &policy, &err);
}

static int unload(void **state)
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

static void make(struct all *a, const char *purpose)
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

static struct decision verdict_of(const struct policy *p, const struct all *a)
{
	struct decision d;

	assert_int_equal(decide(p, &a->f, &a->rq, NOW, &d), 0);
	if (d.verdict != VERDICT_ALLOW) {
		assert_true(d.rights == RIGHTS_NONE && d.grant == 0 && d.until == 0 && d.classes_count == 0 && !d.all_classes);
		assert_true(d.error[0] && d.message[0] && d.remedy[0]);
	}
	return d;
}

static void expect(const struct policy *p, const struct all *a, const char *error)
{
	struct decision d = verdict_of(p, a);

	if (strcmp(d.error, error) != 0)
		fail_msg("\"%s\" instead of \"%s\": %s", d.error, error, d.message);
	assert_int_equal(d.verdict, error[0] ? VERDICT_DENY : VERDICT_ALLOW);
}

static void expect_source(const struct decision *d, const char *rule, const char *source)
{
	for (size_t i = 0; i < d->steps_count; i++)
		if (strcmp(d->steps[i].rule, rule) == 0) {
			assert_string_equal(d->steps[i].source, source);
			return;
		}
	fail_msg("no step %s", rule);
}

static void tree_grant_covers_what_is_below(void **state)
{
	struct all a;

	make(&a, "help");
	expect(policy, &a, "");
	a.grant.purpose = "work";
	expect(policy, &a, "");
	a.grant.purpose = "build"; /* a sibling covers nothing */
	expect(policy, &a, "NotGranted");
	a.grant.purpose = "help";
	a.rq.purpose = "work"; /* what is below covers nothing above, and a heading is no purpose */
	expect(policy, &a, "UnknownPurpose");
}

static void tree_prohibition_wins(void **state)
{
	struct all a;
	struct decision d;

	make(&a, "sell");
	a.grant.purpose = "sell";
	expect(policy, &a, "Prohibited");
	d = verdict_of(policy, &a);
	expect_source(&d, "purpose", "NEVER");
	assert_non_null(strstr(d.message, "since it prohibits never"));
}

static void services(void **state)
{
	struct all a;

	make(&a, "build");
	expect(policy, &a, "");
	a.engagement.service = "consulting";
	expect(policy, &a, "");
	a.engagement.service = "marketing";
	expect(policy, &a, "NotEngaged");
	a.engagement.service = "consulting";
	a.engagement.until = NOW;
	expect(policy, &a, "NotEngaged");
	a.engagement.until = NOW + 1;
	assert_int_equal(verdict_of(policy, &a).until, NOW + 1);
	a.engagement.until = 0;
	a.engagement.from = NOW + 1;
	expect(policy, &a, "NotEngaged");
	a.f.engagements_count = 0;
	expect(policy, &a, "NotEngaged");
	a.rq.purpose = a.grant.purpose = "help"; /* needs none */
	expect(policy, &a, "");
}

static void consents(void **state)
{
	struct all a;

	make(&a, "ads");
	assert_int_equal(verdict_of(policy, &a).consent, 5);
	a.consent.until = NOW + 60;
	assert_int_equal(verdict_of(policy, &a).until, NOW + 60);
	a.consent.until = NOW;
	expect(policy, &a, "NoConsent");
	a.consent.until = 0;
	a.consent.from = NOW + 1;
	expect(policy, &a, "NoConsent");
	a.consent.from = NOW;
	a.consent.scope = "pay";
	expect(policy, &a, "NoConsent");
	a.f.consents_count = 0;
	expect(policy, &a, "NoConsent");
	a.rq.purpose = a.grant.purpose = "help"; /* rests on something else */
	expect(policy, &a, "");
}

static void consent_to_a_recipient(void **state)
{
	struct all a;

	make(&a, "ads");
	a.consent.recipient = "Org";
	expect(policy, &a, "NoConsent"); /* ours are not that recipient */
	a.grant.party = PARTY_PARTNER;
	a.grant.organisation = "Org";
	expect(policy, &a, "");
	a.grant.organisation = "Other";
	expect(policy, &a, "NoConsent");
	a.grant.organisation = NULL;
	expect(policy, &a, "NoConsent");
	a.grant.organisation = "Org";
	a.consent.recipient = NULL; /* a consent for us alone */
	expect(policy, &a, "NoConsent");
}

static bool opens(const struct decision *d, uint16_t class)
{
	for (size_t i = 0; i < d->classes_count; i++)
		if (d->classes[i] == class)
			return true;
	return d->all_classes;
}

static void classes_by_purpose_and_party(void **state)
{
	struct decision d;
	struct all a;

	make(&a, "help");
	d = verdict_of(policy, &a);
	assert_true(opens(&d, 16) && opens(&d, 18) && !opens(&d, 17) && !opens(&d, 19) && !opens(&d, 99) && !d.all_classes);
	a.rq.class = 17;
	expect(policy, &a, "ClassNotAllowed");
	a.rq.class = 16;
	expect(policy, &a, "");
	a.rq.class = 99; /* of no policy */
	expect(policy, &a, "ClassNotAllowed");
	make(&a, "pay");
	d = verdict_of(policy, &a);
	assert_true(opens(&d, 17) && !opens(&d, 19));
	a.grant.party = PARTY_PARTNER;
	d = verdict_of(policy, &a);
	assert_true(opens(&d, 18) && !opens(&d, 16) && !opens(&d, 17) && !opens(&d, 19));
	a.rq.class = 16;
	expect(policy, &a, "ClassNotAllowed");
	a.rq.class = 18;
	expect(policy, &a, "");
}

static void class_with_an_approval(void **state)
{
	struct decision d;
	struct all a;

	make(&a, "help");
	a.approval.purpose = "help";
	a.approval.class = 19;
	d = verdict_of(policy, &a);
	assert_true(opens(&d, 19) && !opens(&d, 17));
	assert_int_equal(d.until, NOW + HOUR); /* short: as long as the approval */
	a.approval.user = "eve";
	d = verdict_of(policy, &a);
	assert_true(!opens(&d, 19) && d.until == 0);
	a.approval.user = "bob";
	a.rq.purpose = a.grant.purpose = "build"; /* approved for another purpose */
	d = verdict_of(policy, &a);
	assert_false(opens(&d, 19));
}

static void approvals(void **state)
{
	struct decision d;
	struct all a;

	make(&a, "court");
	d = verdict_of(policy, &a);
	assert_int_equal(d.until, NOW + HOUR);
	assert_int_equal(d.idle, 1800);
	a.approval.ticket = "T-7"; /* what the second person has read */
	a.rq.ticket = "T-8";
	expect(policy, &a, "ApprovalMissing");
	a.rq.ticket = NULL;
	expect(policy, &a, "ApprovalMissing");
	a.rq.ticket = "T-7";
	assert_int_equal(verdict_of(policy, &a).verdict, VERDICT_ALLOW);
	a.approval.ticket = ""; /* named none: for any */
	assert_int_equal(verdict_of(policy, &a).verdict, VERDICT_ALLOW);
	a.approval.ticket = NULL;
	a.approval.until = NOW;
	expect(policy, &a, "ApprovalMissing");
	a.approval.until = NOW + HOUR;
	a.approval.uid = 8;
	expect(policy, &a, "ApprovalMissing");
	a.approval.uid = 7;
	a.approval.class = 16;
	expect(policy, &a, "ApprovalMissing");
	a.approval.class = 0;
	a.approval.purpose = "help";
	expect(policy, &a, "ApprovalMissing");
	a.f.approvals_count = 0;
	expect(policy, &a, "ApprovalMissing");
}

static void emergencies(void **state)
{
	struct decision d;
	struct all a;

	make(&a, "help");
	a.f.grants_count = 0;
	a.rq.groups = groups;
	a.rq.groups_count = 1;
	expect(policy, &a, "NotGranted");
	a.rq.emergency = true;
	expect(policy, &a, "ReasonMissing");
	a.rq.reason = "the server burns";
	d = verdict_of(policy, &a);
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	assert_int_equal(d.rights, RIGHTS_READ);
	assert_int_equal(d.until, NOW + HOUR);
	a.rq.rights = RIGHTS_RW;
	expect(policy, &a, "RightsNotGranted");
	a.rq.rights = RIGHTS_NONE;
	a.rq.groups_count = 0;
	expect(policy, &a, "NotGranted");
	a.rq.groups_count = 1;
	a.rq.purpose = "sell"; /* what is prohibited stays so */
	expect(policy, &a, "Prohibited");
	a.rq.purpose = "court"; /* needs no approval then */
	a.f.approvals_count = 0;
	expect(policy, &a, "");
	a.f.state = CLIENT_SUSPENDED;
	expect(policy, &a, "Suspended");
}

static void suspensions(void **state)
{
	struct all a;

	make(&a, "help");
	a.f.user_suspended = "password lost";
	expect(policy, &a, "Suspended");
	assert_non_null(strstr(verdict_of(policy, &a).remedy, "--user bob"));
	a.f.user_suspended = NULL;
	a.f.all_suspended = "breach";
	expect(policy, &a, "Suspended");
	a.f.all_suspended = NULL;
	expect(policy, &a, "");
}

/* ---- agreements ---- */

static struct policy *merged(const char *rules, struct agreement **ret)
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

static void done(struct policy *m, struct agreement *g)
{
	policy_merged_free(m);
	agreement_free(g);
}

static void agreement_forbids(void **state)
{
	struct agreement *g;
	struct policy *m = merged("forbid:\n- {purpose: work, source: \"§ 7\"}\n", &g);
	struct decision d;
	struct all a;

	make(&a, "help");
	d = verdict_of(m, &a);
	assert_string_equal(d.error, "Prohibited");
	expect_source(&d, "agreement", "§ 7");
	assert_non_null(strstr(d.message, "the policy p allows it (USE): the agreement prevails"));
	a.rq.purpose = a.grant.purpose = "pay"; /* what it does not mention stays */
	expect(m, &a, "");
	a.rq.purpose = a.grant.purpose = "help";
	expect(policy, &a, ""); /* the policy itself is as it was */
	done(m, g);
}

static void agreement_permits(void **state)
{
	struct agreement *g;
	struct policy *m = merged("permit:\n- {purpose: sell, source: \"§ 8\", parties: [partner], rights: rw}\n", &g);
	struct decision d;
	struct all a;

	make(&a, "sell");
	d = verdict_of(m, &a);
	assert_int_equal(d.rights, RIGHTS_RW);
	expect_source(&d, "agreement", "§ 8");
	a.grant.party = PARTY_PARTNER;
	expect(m, &a, "");
	expect(policy, &a, "Prohibited");
	done(m, g);
	m = merged("permit:\n- {purpose: sell, source: \"§ 8\"}\nforbid:\n- {purpose: never, source: \"§ 9\"}\n", &g);
	expect(m, &a, "Prohibited"); /* a prohibition wins, wherever it stands */
	done(m, g);
}

static void agreement_shortens_and_lengthens(void **state)
{
	struct agreement *g;
	struct policy *m = merged("sessions:\n- {purpose: build, max_session: 1h, source: \"§ 5\"}\n"
				  "retention:\n- {class: billing, event: created, period: 10y, source: \"§ 6\"}\n"
				  "- {class: personal, event: created, period: 10d, source: \"§ 6\"}\n", &g);
	const struct policy_class *k;
	struct all a;

	make(&a, "build");
	assert_int_equal(verdict_of(policy, &a).until, NOW + 8 * HOUR);
	assert_int_equal(verdict_of(m, &a).until, NOW + HOUR);
	k = policy_class(m, "billing");
	assert_int_equal(k->retention_count, 1);
	assert_int_equal(k->retention[0].period.years, 10);
	k = policy_class(m, "personal");
	assert_int_equal(k->retention_count, 2); /* the law's least stays beside the shorter one */
	assert_true(k->retention[0].legal && k->retention[0].period.days == 30 && k->retention[1].period.days == 10);
	assert_int_equal(policy_class(m, "contact")->retention[0].period.years, 1);
	done(m, g);
	m = merged("sessions:\n- {purpose: build, max_session: 3d, source: \"§ 5\"}\n", &g);
	assert_int_equal(verdict_of(m, &a).until, NOW + 3 * DAY);
	done(m, g);
}

/* What is said of copies covers what stands below; only a shell opens what allows none. */
static void copies(void **state)
{
	struct decision d;
	struct all a;

	make(&a, "help");
	d = verdict_of(policy, &a);
	assert_int_equal(d.export, EXPORT_FREE);
	make(&a, "move");
	d = verdict_of(policy, &a);
	assert_int_equal(d.export, EXPORT_RECORDED);
	expect_source(&d, "export", "COPIES");
	make(&a, "read");
	expect(policy, &a, "ShellNeeded");
	assert_int_equal(verdict_of(policy, &a).export, EXPORT_FREE);
	assert_non_null(strstr(verdict_of(policy, &a).remedy, "coffer shell acme --purpose read"));
	a.rq.shell = true;
	d = verdict_of(policy, &a);
	assert_int_equal(d.export, EXPORT_NO);
	expect_source(&d, "export", "COPIES");
	a.f.grants_count = 0;
	expect(policy, &a, "NotGranted"); /* a shell lets nobody in */
	make(&a, "read");
	a.rq.emergency = true;
	a.rq.reason = "fire";
	a.rq.groups = groups;
	a.rq.groups_count = 1;
	expect(policy, &a, "ShellNeeded"); /* neither does an emergency lift it */
	a.rq.shell = true;
	expect(policy, &a, "");
}

static void agreement_is_stricter_about_copies(void **state)
{
	struct agreement *g;
	struct policy *m = merged("sessions:\n- {purpose: inside, export: no, source: \"§ 5\"}\n"
				  "- {purpose: build, export: recorded, source: \"§ 6\"}\n", &g);
	struct decision d;
	struct all a;

	make(&a, "move");
	expect(m, &a, "ShellNeeded");
	a.rq.shell = true;
	d = verdict_of(m, &a);
	expect_source(&d, "agreement", "§ 5");
	make(&a, "build");
	d = verdict_of(m, &a);
	assert_true(d.export == EXPORT_RECORDED && d.until == NOW + 8 * HOUR); /* the length stays the policy's */
	done(m, g);
	m = merged("sessions:\n- {purpose: inside, export: recorded, source: \"§ 5\"}\n", &g);
	make(&a, "read");
	expect(m, &a, "ShellNeeded"); /* what stands below it is stricter, and stays so */
	done(m, g);
}

/* The policy's least, a node's, an agreement's: the strictest counts. */
static void durability(void **state)
{
	struct agreement *g;
	struct policy *m;
	struct decision d;
	struct all a;

	make(&a, "move");
	assert_int_equal(verdict_of(policy, &a).durability, DURABILITY_PROCESS);
	m = merged("sessions:\n- {purpose: inside, durability: sync, source: \"§ 5\"}\n"
		   "- {purpose: help, max_session: 1h, durability: process, source: \"§ 6\"}\n", &g);
	d = verdict_of(m, &a);
	assert_int_equal(d.durability, DURABILITY_SYNC); /* by what stands above it */
	expect_source(&d, "agreement", "§ 5");
	make(&a, "help");
	assert_int_equal(verdict_of(m, &a).durability, DURABILITY_PROCESS);
	make(&a, "move");
	a.f.grants_count = 0;
	assert_int_equal(verdict_of(m, &a).durability, DURABILITY_UNSAID); /* refused: nothing to wait for */
	done(m, g);
}

static void agreement_cannot_change_the_law(void **state)
{
	static const char text[] = "format: 1\nname: MSA\nversion: \"1\"\neffective: \"2021-01-01\"\nforbid:\n"
				   "- {purpose: court, source: \"§ 1\"}\n";
	struct agreement *g = NULL;
	struct policy_error err;
	struct policy *m;
	struct decision d;
	struct all a;

	assert_int_equal(agreement_load_text(text, sizeof(text) - 1, policy, &g, &err), -EINVAL);
	assert_int_equal(err.line, 6);
	assert_non_null(strstr(err.text, "rests on the law"));
	/* A policy may come later than the agreement. */
	assert_int_equal(agreement_load_text(text, sizeof(text) - 1, NULL, &g, &err), 0);
	assert_int_equal(policy_merge(policy, g, &m), 0);
	make(&a, "court");
	d = verdict_of(m, &a);
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	expect_source(&d, "agreement", "§ 1");
	assert_non_null(strstr(d.steps[3].text, "the law prevails"));
	done(m, g);
}

static void agreement_mistakes_have_lines(void **state)
{
	static const struct {
		const char *rules;
		unsigned line;
		const char *says;
	} bad[] = {
		{"forbid:\n- {purpose: nothing, source: s}\n", 6, "knows no purpose"},
		{"forbid:\n- {purpose: help}\n", 6, "source"},
		{"retention:\n- {class: nothing, event: created, period: 1y, source: s}\n", 6, "record class"},
		{"retention:\n- {class: billing, event: never, period: 1y, source: s}\n", 6, "no event"},
		{"retention:\n- {class: billing, event: created, period: 8h, source: s}\n", 6, "no period"},
		{"sessions:\n- {purpose: help, max_session: long, source: s}\n", 6, "no length"},
		{"sessions:\n- {purpose: help, source: s}\n", 6, "says nothing"},
		{"sessions:\n- {purpose: help, source: s, export: yes}\n", 6, "yes"},
		{"sessions:\n- {purpose: help, source: s, durability: fast}\n", 6, "fast"},
		{"sessions:\n- {purpose: help, source: s, durability: process}\n", 6, "says nothing"},
		{"sessions:\n- {purpose: read, source: s, export: recorded}\n", 6, "only be stricter"},
		{"sessions:\n- {purpose: court, source: s, export: no}\n", 6, "rests on the law"},
		{"until: \"2020-01-01\"\n", 5, "end before"},
		{"until: soon\n", 5, "no date"},
		{"allow: yes\n", 5, "no key"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct agreement *g = NULL;
		struct policy_error err;
		char text[512];
		int n = snprintf(text, sizeof(text), "format: 1\nname: M\nversion: \"1\"\neffective: \"2021-01-01\"\n%s",
			bad[i].rules);

		assert_int_equal(agreement_load_text(text, (size_t)n, policy, &g, &err), -EINVAL);
		if (err.line != bad[i].line || !strstr(err.text, bad[i].says))
			fail_msg("%s: line %u: %s", bad[i].rules, err.line, err.text);
		assert_null(g);
	}
}

/* ---- whatever it is given, it answers, and forgets nobody in ---- */

static const char *word(unsigned n)
{
	static const char *const words[] = {NULL, "", "bob", "eve", "help", "work", "build", "ads", "pay", "court", "never", "sell", "inside", "move", "read",
		"consulting", "marketing", "*", "Org", "oncall", "nonsense"};

	return words[n % ARRAY_SIZE(words)];
}

static int64_t moment(void)
{
	return rand() % 3 == 0 ? 0 : NOW - 2 + rand() % 5;
}

/* What must hold of every permission, said without the walk. */
static void check_allowed(const struct policy *p, const struct all *a, size_t grants, const struct decision *d)
{
	const struct policy_purpose *u = policy_purpose(p, a->rq.purpose);

	assert_non_null(u);
	assert_true(!u->node && u->prohibited_at < 0 && a->f.client && !a->f.all_suspended && !a->f.user_suspended);
	assert_true(d->rights != RIGHTS_NONE && (d->rights & ~u->rights) == 0);
	assert_true(d->until == 0 || d->until > NOW);
	assert_true(d->export == u->export && (u->export != EXPORT_NO || a->rq.shell));
	if (a->rq.emergency)
		assert_true(d->until && d->rights == RIGHTS_READ && a->rq.reason);
	else
		assert_true(grants == 1 && a->grant.from <= NOW && (!a->grant.until || a->grant.until > NOW) &&
			(a->grant.is_group || a->grant.uid == a->rq.uid));
	if (strcmp(a->rq.purpose, "ads") == 0)
		assert_true(a->f.consents_count == 1 && a->consent.from <= NOW);
	if (strcmp(a->rq.purpose, "court") == 0 && !a->rq.emergency)
		assert_true(a->f.approvals_count == 1 && (a->approval.until == 0 || a->approval.until > NOW));
	for (size_t i = 0; i < d->steps_count; i++)
		assert_true(d->steps[i].passed);
}

static void random_facts_are_answered(void **state)
{
	unsigned allowed = 0, rounds = 200000;
	struct agreement *g;
	struct policy *m = merged("permit:\n- {purpose: sell, source: s}\nforbid:\n- {purpose: build, source: s}\n", &g);

	srand(7);
	for (unsigned i = 0; i < rounds; i++) {
		const struct policy *p = rand() % 2 ? policy : m;
		struct decision d;
		struct all a;
		int r;

		make(&a, word((unsigned)rand()));
		if (rand() % 2)
			a.grant.purpose = word((unsigned)rand());
		if (rand() % 8 == 0)
			a.grant.subject = word((unsigned)rand());
		a.grant.is_group = rand() % 8 == 0;
		a.grant.uid = rand() % 8 ? 7 : 8;
		a.grant.party = (enum party)(rand() % 5);
		a.grant.rights = (enum rights)(rand() % 4);
		a.grant.from = moment();
		a.grant.until = moment();
		a.grant.organisation = word((unsigned)rand());
		a.engagement = (struct decide_engagement){rand() % 3 ? "*" : word((unsigned)rand()), moment(), moment()};
		a.consent = (struct decide_consent){1, rand() % 2 ? "ads" : word((unsigned)rand()), word((unsigned)rand()), moment(),
			moment()};
		a.approval.until = moment();
		a.f.grants_count = (size_t)rand() % 2;
		a.f.engagements_count = (size_t)rand() % 2;
		a.f.consents_count = (size_t)rand() % 2;
		a.f.approvals_count = (size_t)rand() % 2;
		a.f.state = rand() % 4 ? CLIENT_ACTIVE : (enum client_state)(rand() % 5);
		a.f.ended_on = moment();
		if (rand() % 16 == 0)
			a.f.client = NULL;
		if (rand() % 16 == 0)
			a.f.user_suspended = word((unsigned)rand());
		if (rand() % 16 == 0)
			a.f.all_suspended = word((unsigned)rand());
		a.rq.rights = (enum rights)(rand() % 4);
		a.rq.groups = groups;
		a.rq.groups_count = (size_t)rand() % 2;
		a.rq.emergency = rand() % 8 == 0;
		a.rq.reason = word((unsigned)rand());
		a.rq.ticket = word((unsigned)rand());
		a.rq.class = (uint16_t)(rand() % 3 ? 0 : 15 + rand() % 6);
		r = decide(p, &a.f, &a.rq, NOW, &d);
		assert_true(r == 0 || r == -EINVAL);
		if (r < 0 || d.verdict != VERDICT_ALLOW) {
			assert_int_equal(d.verdict, VERDICT_DENY);
			assert_true(d.rights == RIGHTS_NONE && d.until == 0 && d.classes_count == 0 && !d.all_classes);
			assert_true(r < 0 || (d.steps_count > 0 && !d.steps[d.steps_count - 1].passed && d.error[0]));
			continue;
		}
		allowed++;
		check_allowed(p, &a, a.f.grants_count, &d);
	}
	assert_true(allowed > rounds / 1000);
	done(m, g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tree_grant_covers_what_is_below),
		cmocka_unit_test(tree_prohibition_wins),
		cmocka_unit_test(services),
		cmocka_unit_test(consents),
		cmocka_unit_test(consent_to_a_recipient),
		cmocka_unit_test(classes_by_purpose_and_party),
		cmocka_unit_test(class_with_an_approval),
		cmocka_unit_test(approvals),
		cmocka_unit_test(emergencies),
		cmocka_unit_test(suspensions),
		cmocka_unit_test(agreement_forbids),
		cmocka_unit_test(agreement_permits),
		cmocka_unit_test(agreement_shortens_and_lengthens),
		cmocka_unit_test(copies),
		cmocka_unit_test(agreement_is_stricter_about_copies),
		cmocka_unit_test(durability),
		cmocka_unit_test(agreement_cannot_change_the_law),
		cmocka_unit_test(agreement_mistakes_have_lines),
		cmocka_unit_test(random_facts_are_answered),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
