/* Who is due: the pure part.  The destruction itself is the shred protocol's (test_shred). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "common/date.h"
#include "keyd/expiry.h"

#define DAY 86400
#define END 1700006400 /* 2023-11-15 00:00 UTC */

static int setup(void **state)
{
	struct policy_error err;
	struct policy *p = NULL;

	if (policy_load_text(NULL, 0, &p, &err) < 0)
		return -1;
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	policy_free(*state);
	return 0;
}

static bool due(struct policy *p, const struct fact_client *c, int64_t now, bool trusted)
{
	struct expiry_answer a;

	assert_int_equal(expiry_judge(p, c, now, &a), 0);
	return expiry_is_due(c, &a, trusted);
}

static void test_not_ended(void **state)
{
	struct fact_client c = {.client = "acme"};

	assert_false(due(*state, &c, INT64_MAX / 4, true));
	assert_int_equal(expiry_destroy_on(*state, &c, END), 0);
}

static void test_boundary(void **state)
{
	struct fact_client c = {.client = "acme", .ended_on = END};
	int64_t on = expiry_destroy_on(*state, &c, END);

	assert_true(on > END);
	assert_false(due(*state, &c, END, true));
	assert_false(due(*state, &c, on - 1, true));
	assert_true(due(*state, &c, on, true));
	assert_true(due(*state, &c, on + 1000 * DAY, true));
}

static void test_what_stops_it(void **state)
{
	struct fact_client good = {.client = "acme", .ended_on = END}, c;
	int64_t on = expiry_destroy_on(*state, &good, END);

	assert_true(due(*state, &good, on, true));
	assert_false(due(*state, &good, on, false)); /* the clock is not confirmed */
	c = good;
	c.held = true;
	assert_false(due(*state, &c, on, true));
	c = good;
	c.destroying = true;
	assert_false(due(*state, &c, on, true));
	c = good;
	c.destroyed_on = on;
	assert_false(due(*state, &c, on, true));
}

/* A successor has it: no rule keeps it, but what stops any destruction stops this one. */
static void test_transferred_is_due(void **state)
{
	struct fact_client c = {.client = "acme", .ended_on = END, .handed_over_at = END, .transferred_at = END + 5}, other;
	struct expiry_answer a;
	char text[128];

	assert_true(due(*state, &c, END + 5, true));
	assert_false(due(*state, &c, END + 5, false));
	assert_int_equal(expiry_judge(*state, &c, END + 5, &a), 0);
	assert_string_equal(expiry_rule_text(a.retention.rule, text, sizeof(text)), "transferred to another installation");
	assert_int_equal(expiry_next(&c, &a, END + 5, true), EXPIRY_NOTIFY);
	c.waiting = 1;
	c.wait_until = END + 30 * DAY;
	assert_int_equal(expiry_next(&c, &a, END + 5, true), EXPIRY_NOTHING);
	c.wait_until = END + 5; /* two custodians */
	assert_int_equal(expiry_next(&c, &a, END + 5, true), EXPIRY_DESTROY);
	other = c;
	other.held = true;
	assert_false(due(*state, &other, END + 5, true));
	assert_int_equal(expiry_judge(*state, &other, END + 5, &a), 0);
	assert_int_equal(expiry_next(&other, &a, END + 5, true), EXPIRY_STOP);
	other = c;
	other.transferred_at = 0; /* handed over, but nobody said that he has it */
	assert_false(due(*state, &other, END + 5, true));
}

/* A suspension keeps people out; it does not keep data. */
static void test_suspended_is_due_too(void **state)
{
	struct fact_client c = {.client = "acme", .ended_on = END, .suspended = "x"};

	assert_true(due(*state, &c, expiry_destroy_on(*state, &c, END), true));
}

static void test_rule_text(void **state)
{
	struct policy_retention rule = {.event = EVENT_RELATIONSHIP_END, .period = {.years = 7}};
	char buf[64], tiny[8];

	assert_string_equal(expiry_rule_text(&rule, buf, sizeof(buf)), "relationship end + 7 years");
	rule.period = (struct period){.years = 1, .months = 6, .days = 1};
	assert_string_equal(
		expiry_rule_text(&rule, buf, sizeof(buf)), "relationship end + 1 year + 6 months + 1 day");
	assert_int_equal(strlen(expiry_rule_text(&rule, tiny, sizeof(tiny))), sizeof(tiny) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_ended),
		cmocka_unit_test(test_boundary),
		cmocka_unit_test(test_what_stops_it),
		cmocka_unit_test(test_suspended_is_due_too),
		cmocka_unit_test(test_transferred_is_due),
		cmocka_unit_test(test_rule_text),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
