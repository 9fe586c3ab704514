#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/date.h"
#include "common/ids.h"
#include "common/scope.h"

#define NOW 1795447800 /* 2026-11-23T16:50:00Z */

static int64_t parsed(const char *text)
{
	int64_t t;

	if (date_parse(text, NOW, &t) < 0)
		fail_msg("%s", text);
	return t;
}

static void test_parse(void **state)
{
	assert_int_equal(parsed("1970-01-01"), 0);
	assert_int_equal(parsed("2020-01-01"), DAY_EPOCH_UNIX);
	assert_int_equal(parsed("2026-12-31"), 1798675200);
	assert_int_equal(parsed("2026-12-31T18:30"), 1798675200 + 18 * 3600 + 30 * 60);
	assert_int_equal(parsed("2026-12-31T18:30Z"), parsed("2026-12-31 18:30"));
	assert_int_equal(parsed("2026-12-31T18:30:05"), parsed("2026-12-31T18:30") + 5);
	assert_int_equal(parsed("2026-12-31 18:30:05Z"), parsed("2026-12-31T18:30:05"));
	assert_int_equal(parsed("2024-02-29"), parsed("2024-03-01") - 86400);
	assert_int_equal(parsed("2000-02-29"), 951782400);
	assert_int_equal(parsed("now"), NOW);
	assert_int_equal(parsed("today"), parsed("2026-11-23"));
	assert_int_equal(parsed("yesterday"), parsed("2026-11-22"));
	assert_int_equal(parsed("tomorrow"), parsed("2026-11-24"));
}

static void test_refused(void **state)
{
	static const char *const bad[] = {"", " ", "2026", "2026-1-01", "2026-13-01", "2026-00-01",
		"2026-01-00", "2026-02-29", "2100-02-29", "2026-04-31", "0000-01-01", "2026-01-01 ",
		" 2026-01-01", "+026-01-01", "2026-01-01T", "2026-01-01T24:00", "2026-01-01T10:60",
		"2026-01-01T10:00:60", "2026-01-01T1:00", "2026-01-01T10:00:00+01:00", "2026-01-01Z",
		"2026/01/01", "01.01.2026", "Today", "now ", "next week", "2026-01-01\n", "２０２６-01-01"};
	int64_t t = 42;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (date_parse(bad[i], NOW, &t) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
		assert_int_equal(t, 42);
	}
}

/* Neither the place nor the language of the process has a say. */
static void test_time_zone_does_not_matter(void **state)
{
	char buf[DATE_TEXT_MAX];

	assert_int_equal(setenv("TZ", "Pacific/Auckland", 1), 0);
	tzset();
	assert_int_equal(parsed("2026-12-31"), 1798675200);
	assert_string_equal(date_format(1798675200, buf), "2026-12-31T00:00:00Z");
	assert_int_equal(date_add(1798675200, 0, 1, 0), parsed("2027-01-31"));
	assert_int_equal(unsetenv("TZ"), 0);
	tzset();
}

static void test_format(void **state)
{
	char buf[DATE_TEXT_MAX];

	assert_string_equal(date_format(0, buf), "1970-01-01T00:00:00Z");
	assert_string_equal(date_format(-1, buf), "1969-12-31T23:59:59Z");
	assert_string_equal(date_format_day(NOW, buf), "2026-11-23");
	assert_string_equal(date_format(INT64_MAX, buf), "?");
	assert_string_equal(date_format(INT64_MIN, buf), "?");
	for (int64_t t = 0; t < 4000000000; t += 12345679)
		assert_int_equal(parsed(date_format(t, buf)), t);
}

static void test_days(void **state)
{
	assert_int_equal(date_day(DAY_EPOCH_UNIX), 0);
	assert_int_equal(date_day(DAY_EPOCH_UNIX - 1), 0);
	assert_int_equal(date_day(INT64_MIN), 0);
	assert_int_equal(date_day(DAY_EPOCH_UNIX + 86399), 0);
	assert_int_equal(date_day(DAY_EPOCH_UNIX + 86400), 1);
	assert_int_equal(date_day(INT64_MAX), 65535);
	assert_int_equal(date_month_day(parsed("2020-01-31")), 0);
	assert_int_equal(date_month_day(parsed("2020-02-29")), 31);
	assert_int_equal(date_month_day(parsed("2026-11-30T23:59:59")), date_day(parsed("2026-11-01")));
	assert_int_equal(date_month_day(parsed("1999-12-31")), 0);
	assert_int_equal(date_month_day(INT64_MAX), 65535);
	assert_int_equal(date_month_day(INT64_MIN), 0);
}

static void added(const char *from, int y, int m, int d, const char *want)
{
	char buf[DATE_TEXT_MAX];

	assert_string_equal(date_format(date_add(parsed(from), y, m, d), buf), want);
}

static void test_add(void **state)
{
	added("2026-01-31", 0, 1, 0, "2026-02-28T00:00:00Z");
	added("2028-01-31", 0, 1, 0, "2028-02-29T00:00:00Z");
	added("2026-01-31", 0, 2, 0, "2026-03-31T00:00:00Z");
	added("2024-02-29", 1, 0, 0, "2025-02-28T00:00:00Z");
	added("2024-02-29", 4, 0, 0, "2028-02-29T00:00:00Z");
	added("2096-02-29", 4, 0, 0, "2100-02-28T00:00:00Z");
	added("2026-12-31", 0, 0, 1, "2027-01-01T00:00:00Z");
	added("2026-11-15", 0, 14, 0, "2028-01-15T00:00:00Z");
	added("2026-11-15", 1, 6, 10, "2028-05-25T00:00:00Z");
	added("2026-03-31T18:30:05", 0, -1, 0, "2026-02-28T18:30:05Z");
	added("2026-01-15", 0, -13, 0, "2024-12-15T00:00:00Z");
	added("2026-01-31", 0, 1, 1, "2026-03-01T00:00:00Z"); /* months first, then days */
	added("1960-03-01", 0, 0, -1, "1960-02-29T00:00:00Z");
	added("2026-11-23", 0, 0, 0, "2026-11-23T00:00:00Z");
	/* Beyond what can be written: the last month, never a wrapped date in the past. */
	added("2026-11-23", 2147483647, 0, 0, "9999-12-23T00:00:00Z");
	assert_true(date_add(NOW, 2147483647, 2147483647, 2147483647) > NOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_time_zone_does_not_matter),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_days),
		cmocka_unit_test(test_add),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
