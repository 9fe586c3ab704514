/* What agreements with a client change of the policy, copies and durability. */
#include "terms_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agreement_forbids),
		cmocka_unit_test(agreement_permits),
		cmocka_unit_test(agreement_shortens_and_lengthens),
		cmocka_unit_test(copies),
		cmocka_unit_test(agreement_is_stricter_about_copies),
		cmocka_unit_test(durability),
		cmocka_unit_test(agreement_cannot_change_the_law),
		cmocka_unit_test(agreement_mistakes_have_lines),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
