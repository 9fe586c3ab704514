/* What decides beside the grant: tree, engagements, consents, parties, record classes, approvals, emergencies,
 * suspensions.  Each allowed thing has a sibling that fails for one reason. */
#include "terms_fixture.h"

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
		cmocka_unit_test(random_facts_are_answered),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
