/* The figures of the chart: every opening stands in one bar, however long the time and however many the purposes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/date.h"
#include "tools/report.h"

#define MONDAY 1767571200ll /* 2026-01-05 */
#define WEEK (7 * 86400ll)

/* `weeks` weeks, each with 1 opening for each of `purposes` purposes. */
static json_t *make(unsigned weeks, unsigned purposes, const char *until, const char *made_at)
{
	json_t *cells = json_array(), *rows = json_array();

	for (unsigned w = 0; w < weeks; w++)
		for (unsigned p = 0; p < purposes; p++) {
			char day[DATE_TEXT_MAX], id[16];

			snprintf(id, sizeof(id), "p%u", p);
			json_array_append_new(cells, json_pack("{s:s, s:s, s:i}", "week", date_format_day(MONDAY + w * WEEK, day),
							     "purpose", id, "opens", 1));
		}
	for (unsigned p = 0; p < purposes; p++)
		json_array_append_new(rows, json_pack("{s:o, s:s, s:I}", "purpose", json_sprintf("p%u", p), "title", "t", "opens",
						    (json_int_t)weeks));
	return json_pack("{s:s, s:{s:s}, s:{s:o, s:o}}", "made_at", made_at, "period", "until", until, "accesses", "weeks", cells,
		"purposes", rows);
}

static int64_t sum(const struct chart *c)
{
	int64_t n = 0;

	for (size_t b = 0; b < c->bins; b++)
		for (size_t p = 0; p < c->purposes; p++)
			n += c->opens[b][p];
	return n;
}

static void expect(unsigned weeks, unsigned purposes, const char *until, const char *made_at, size_t bins, size_t weeks_a_bin)
{
	json_t *r = make(weeks, purposes, until, made_at);
	struct chart c;

	chart_fill(r, &c);
	assert_int_equal(c.bins, bins);
	assert_int_equal(c.weeks_a_bin, weeks_a_bin);
	assert_int_equal(sum(&c), weeks * purposes);
	assert_true(c.purposes <= CHART_PURPOSES_MAX && c.others == (purposes > CHART_PURPOSES_MAX));
	assert_int_equal(c.most, (int64_t)weeks_a_bin * purposes < (int64_t)weeks * purposes ? (int64_t)weeks_a_bin * purposes
											       : (int64_t)weeks * purposes);
	json_decref(r);
}

static void test_every_opening_once(void **state)
{
	expect(1, 1, "2026-01-12", "2026-01-12", 1, 1);
	expect(4, 8, "2026-02-02", "2026-02-02", 4, 1);
	expect(53, 9, "2027-01-11", "2027-01-11", 53, 1);
	expect(54, 9, "2027-01-18", "2027-01-18", 27, 2);
	expect(2000, 30, "2070-01-01", "2070-01-01", 53, 44);
}

/* Weeks in which nothing was opened have their place, days to come have none, and a clock that was wrong breaks nothing. */
static void test_ends(void **state)
{
	expect(2, 2, "2026-03-02", "2026-03-02", 8, 1);
	expect(2, 2, "2099-01-01", "2026-01-20", 3, 1);
	expect(3, 1, "2026-02-02", "2025-01-01", 3, 1);
}

static void test_nothing(void **state)
{
	json_t *r = make(0, 0, "2026-01-12", "2026-01-12"), *none = json_object();
	struct chart c;

	chart_fill(r, &c);
	assert_int_equal(c.bins, 0);
	chart_fill(none, &c);
	assert_int_equal(c.bins, 0);
	json_decref(r);
	json_decref(none);
}

static void test_numbers_and_days(void **state)
{
	char buf[REPORT_WHEN_MAX], day[REPORT_DAY_MAX], number[REPORT_NUMBER_MAX];
	json_t *o = json_pack("{s:s, s:n, s:s}", "at", "2026-02-03T04:05:06Z", "none", "bad", "<b>");

	assert_string_equal(report_count(0, number), "0");
	assert_string_equal(report_count(999, number), "999");
	assert_string_equal(report_count(1000, number), "1,000");
	assert_string_equal(report_count(-1234567, number), "-1,234,567");
	assert_string_equal(report_count(INT64_MAX, number), "9,223,372,036,854,775,807");
	assert_string_equal(report_day(o, "at", day), "3 Feb 2026");
	assert_string_equal(report_when(o, "at", buf), "3 Feb 2026, 04:05 UTC");
	assert_string_equal(report_day(o, "none", day), "");
	assert_string_equal(report_when(o, "bad", buf), "");
	assert_string_equal(report_text(o, "none"), "");
	json_decref(o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_opening_once),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_numbers_and_days),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
