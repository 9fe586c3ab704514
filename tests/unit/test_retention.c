#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "policy/retention.h"

#define DAY 86400

static int64_t day(const char *text)
{
	int64_t t;

	assert_int_equal(date_parse(text, 0, &t), 0);
	return t;
}

static struct retention_answer ask(
	struct policy_retention *rules, size_t n, const struct retention_facts *f, int64_t now)
{
	struct policy_class c = {.number = 16, .id = (char *)"c", .retention = rules, .retention_count = n};
	struct retention_answer a;

	memset(&a, 0xff, sizeof(a));
	assert_int_equal(retention_class(&c, f, now, &a), 0);
	return a;
}

static void calendar(void **state)
{
	static const struct {
		const char *event;
		struct period period;
		const char *due;
	} rows[] = {
		{"2024-05-10", {.days = 90}, "2024-08-08"},
		{"2024-01-31", {.months = 1}, "2024-02-29"},
		{"2023-01-31", {.months = 1}, "2023-02-28"},
		{"2024-02-29", {.years = 1}, "2025-02-28"},
		{"2024-02-29", {.years = 4}, "2028-02-29"},
		{"2024-08-31", {.months = 18}, "2026-02-28"},
		{"2024-12-31", {.days = 1}, "2025-01-01"},
		{"2024-12-31", {.years = 1, .months = 6}, "2026-06-30"},
		/* What happens during a day counts from its end: never shorter than the period. */
		{"2024-05-10T00:00:01", {.days = 90}, "2024-08-09"},
		{"2024-05-10T23:59:59", {.days = 90}, "2024-08-09"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct policy_retention rule = {.event = EVENT_CREATED, .period = rows[i].period};
		struct retention_facts f = {.created = day(rows[i].event)};
		int64_t due = day(rows[i].due);
		struct retention_answer a = ask(&rule, 1, &f, due - 1);

		assert_int_equal(a.due, due);
		assert_int_equal(a.state, RETENTION_DATED);
		assert_ptr_equal(a.rule->source, rule.source);
		assert_int_equal(ask(&rule, 1, &f, due).state, RETENTION_DUE);
		f.held = true;
		assert_int_equal(ask(&rule, 1, &f, due - 1).state, RETENTION_HELD);
		a = ask(&rule, 1, &f, due + DAY);
		assert_int_equal(a.state, RETENTION_HELD);
		assert_int_equal(a.due, due);
	}
}

static bool is_leap(int y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

static int month_length(int y, int m)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return lengths[m - 1] + (m == 2 && is_leap(y));
}

/* The calendar once more, by counting: days since 1970 of a date. */
static int64_t count_days(int y, int m, int d)
{
	int64_t n = (int64_t)(y - 1970) * 365;

	for (int i = 1970; i < y; i++)
		n += is_leap(i);
	for (int i = 1; i < m; i++)
		n += month_length(y, i);
	return n + d - 1;
}

static int64_t expected_day(int y, int m, int d, const struct period *p)
{
	int months = (y * 12 + m - 1) + p->years * 12 + p->months;

	y = months / 12;
	m = months % 12 + 1;
	return count_days(y, m, d > month_length(y, m) ? month_length(y, m) : d) + p->days;
}

/* Every day from 1999 to 2101, from its first second and from one within it. */
static void every_day(void **state)
{
	static const struct period periods[] = {
		{.days = 1}, {.days = 90}, {.months = 1}, {.months = 6}, {.years = 1}, {.years = 7}, {1, 6, 30}};
	unsigned days = 0;

	for (int y = 1999; y <= 2101; y++)
		for (int m = 1; m <= 12; m++)
			for (int d = 1; d <= month_length(y, m); d++, days++)
				for (size_t i = 0; i < ARRAY_SIZE(periods); i++) {
					struct policy_retention rule = {.event = EVENT_CREATED, .period = periods[i]};
					int64_t begin = count_days(y, m, d), due = expected_day(y, m, d, &periods[i]);
					struct retention_facts f = {.created = begin * DAY}, before = {
								       .created = begin * DAY - DAY + 1};

					if (ask(&rule, 1, &f, due * DAY - 1).state != RETENTION_DATED ||
						ask(&rule, 1, &f, due * DAY).state != RETENTION_DUE ||
						ask(&rule, 1, &before, 0).due != due * DAY)
						fail_msg("%d-%02d-%02d, period %zu", y, m, d, i);
				}
	assert_int_equal(days, 103 * 365 + 25); /* 2000 is a leap year, 2100 is none */
}

static void named_events(void **state)
{
	const struct retention_date dates[] = {{"audit", 50 * DAY}, {"contract-end", 100 * DAY}};
	struct policy_retention rules[] = {
		{.event = EVENT_RELATIONSHIP_END, .period = {.days = 10}},
		{.event = EVENT_NAMED, .named = "contract-end", .period = {.days = 20}},
		{.event = EVENT_CREATED, .period = {.days = 5}, .legal = true},
	};
	struct retention_facts f = {.relationship_end = 90 * DAY, .created = 1 * DAY, .dates = dates, .dates_count = 1};

	assert_int_equal(ask(rules, 3, &f, 1000 * DAY).state, RETENTION_RUNNING);
	f.dates_count = 2;
	assert_int_equal(ask(rules, 3, &f, 0).due, 120 * DAY);
	assert_ptr_equal(ask(rules, 3, &f, 0).rule, &rules[1]);
	f.created = 200 * DAY; /* the law's least is longer than all else */
	assert_int_equal(ask(rules, 3, &f, 0).due, 205 * DAY);
	assert_true(ask(rules, 3, &f, 0).rule->legal);
}

/* All subsets of rules, of events that have happened, of holds, in both orders, before and after: the answer
 * is the maximum written here by hand. */
static void test_o22_every_combination(void **state)
{
	static const int64_t lengths[] = {100, 200, 300};
	static const int64_t at[] = {1000 * DAY, 1150 * DAY, 1010 * DAY};

	for (unsigned rules_used = 1; rules_used < 8; rules_used++)
		for (unsigned happened = 0; happened < 8; happened++)
			for (unsigned turn = 0; turn < 12; turn++) {
				struct policy_retention rules[3];
				struct retention_facts f = {.held = turn & 1};
				int64_t due = 0, now;
				struct retention_answer a;
				size_t n = 0;
				unsigned winner = 0;

				for (unsigned k = 0; k < 3; k++) {
					unsigned e = turn & 2 ? 2 - k : k, length = (e + turn / 4) % 3;

					if (!(rules_used & 1u << e))
						continue;
					rules[n++] =
						(struct policy_retention){.event = (enum retention_event)e,
							.period = {.days = (int)lengths[length]}};
					if (at[e] + lengths[length] * DAY > due) {
						due = at[e] + lengths[length] * DAY;
						winner = e;
					}
				}
				f.created = happened & 1 ? at[0] : 0;
				f.modified = happened & 2 ? at[1] : 0;
				f.relationship_end = happened & 4 ? at[2] : 0;
				for (int after = 0; after < 2; after++) {
					now = after ? due : due - 1;
					a = ask(rules, n, &f, now);
					if (rules_used & ~happened) {
						assert_int_equal(a.state, RETENTION_RUNNING);
						assert_int_equal(a.due, 0);
						assert_null(a.rule);
						continue;
					}
					assert_int_equal(a.due, due);
					assert_int_equal(a.rule->event, winner);
					assert_int_equal(a.state, f.held  ? RETENTION_HELD
								  : after ? RETENTION_DUE
									  : RETENTION_DATED);
				}
			}
}

static void a_class_without_rules_is_never_due(void **state)
{
	struct retention_facts f = {.created = 1, .modified = 1, .relationship_end = 1};

	assert_int_equal(ask(NULL, 0, &f, INT64_MAX).state, RETENTION_RUNNING);
	f.held = true;
	assert_int_equal(ask(NULL, 0, &f, INT64_MAX).state, RETENTION_RUNNING);
	assert_int_equal(retention_class(NULL, &f, 0, NULL), -EINVAL);
}

static void the_builtin_policy_keeps_its_promises(void **state)
{
	struct policy_error err;
	struct policy *p;
	struct retention_facts f = {.created = day("2024-06-01"), .modified = day("2026-01-01")};
	struct retention_answer a;

	assert_int_equal(policy_load_text(NULL, 0, &p, &err), 0);
	assert_int_equal(retention_class(policy_default_class(p), &f, day("2100-01-01"), &a), 0);
	assert_int_equal(a.state, RETENTION_RUNNING); /* the relationship goes on */
	f.relationship_end = day("2026-12-31");
	assert_int_equal(retention_class(policy_default_class(p), &f, day("2027-01-01"), &a), 0);
	assert_int_equal(a.due, day("2027-03-31"));
	assert_int_equal(retention_class(policy_class(p, "billing"), &f, day("2027-01-01"), &a), 0);
	assert_int_equal(a.due, day("2031-06-01")); /* the law's period is longer */
	f.relationship_end = day("2040-01-01");
	assert_int_equal(retention_class(policy_class(p, "billing"), &f, day("2027-01-01"), &a), 0);
	assert_int_equal(a.due, day("2040-03-31"));
	policy_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calendar),
		cmocka_unit_test(every_day),
		cmocka_unit_test(named_events),
		cmocka_unit_test(test_o22_every_combination),
		cmocka_unit_test(a_class_without_rules_is_never_due),
		cmocka_unit_test(the_builtin_policy_keeps_its_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
