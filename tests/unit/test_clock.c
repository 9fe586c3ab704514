/* The clock: what brings it into doubt, and that nothing else does.  No real clock is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "keyd/clock.h"

#define NOW 1790000000
#define YEAR 31536000

static struct clock_reading at(int64_t wall, int64_t since_boot)
{
	struct clock_reading r = {.wall = wall, .mono = since_boot, .boot = since_boot, .boot_id = "boot-a"};

	return r;
}

static void start_fresh(struct clock *c)
{
	struct clock_memory none = {0};
	struct clock_reading r = at(NOW, 1000);

	clock_start(c, &none, &r);
	assert_false(c->unconfirmed);
}

static void test_ordinary_seconds(void **state)
{
	struct clock c;

	start_fresh(&c);
	for (int i = 1; i < 20000; i++) {
		struct clock_reading r = at(NOW + i, 1000 + i);

		assert_false(clock_tick(&c, &r));
	}
	assert_false(c.unconfirmed);
}

static void jump_by(int64_t step, bool doubted)
{
	struct clock_reading r = at(NOW + 1 + step, 1001);
	struct clock c;

	start_fresh(&c);
	assert_int_equal(clock_tick(&c, &r), doubted);
	assert_int_equal(c.unconfirmed, doubted);
	assert_int_equal(*c.reason != '\0', doubted);
}

static void test_jumps(void **state)
{
	jump_by(0, false);
	jump_by(CLOCK_STEP_MAX, false);
	jump_by(-CLOCK_STEP_MAX, false);
	jump_by(CLOCK_STEP_MAX + 1, true);
	jump_by(-CLOCK_STEP_MAX - 1, true);
	jump_by(8 * (int64_t)YEAR, true);
	jump_by(-8 * (int64_t)YEAR, true);
}

/* libfaketime moves all clocks of the process together: no second is years long. */
static void test_all_clocks_jump(void **state)
{
	struct clock_reading r = at(NOW + 8 * (int64_t)YEAR, 1000 + 8 * (int64_t)YEAR);
	struct clock c;

	start_fresh(&c);
	assert_true(clock_tick(&c, &r));

	start_fresh(&c);
	r = at(NOW + 1, 1001);
	r.mono = 900; /* it never goes back */
	assert_true(clock_tick(&c, &r));
}

/* A laptop that slept: wall and boot clock went on together, the monotonic one stood. */
static void test_suspend(void **state)
{
	struct clock_reading r = at(NOW + 7200, 8200);
	struct clock c;

	start_fresh(&c);
	r.mono = 1001;
	assert_false(clock_tick(&c, &r));
}

static void test_creeping(void **state)
{
	struct clock_reading r;
	struct clock c;
	int i;

	start_fresh(&c);
	for (i = 1; i < 10 && !c.unconfirmed; i++) {
		r = at(NOW + i + i * 2, 1000 + i); /* two seconds too many each time */
		clock_tick(&c, &r);
	}
	assert_true(c.unconfirmed);

	/* The same sum spread over hours is a bad quartz, not an attack. */
	start_fresh(&c);
	for (i = 1; i < 10; i++) {
		r = at(NOW + i * 250 + i / 2, 1000 + i * 250);
		assert_false(clock_tick(&c, &r));
	}
}

/* Whoever stops or slows the clock keeps data for ever: seen as well. */
static void test_stopped_and_slow(void **state)
{
	struct clock_reading r;
	struct clock c;
	int i;

	start_fresh(&c);
	for (i = 1; i < 60 && !c.unconfirmed; i++) {
		r = at(NOW, 1000 + i);
		clock_tick(&c, &r);
	}
	assert_int_equal(i, CLOCK_STEP_MAX + 2);
	assert_non_null(strstr(c.reason, "moved by -6 s"));
	start_fresh(&c);
	for (i = 1; i < 600 && !c.unconfirmed; i++) {
		r = at(NOW + i * 99 / 100, 1000 + i); /* a hundredth too slow */
		clock_tick(&c, &r);
	}
	assert_true(c.unconfirmed);
}

static void test_confirm(void **state)
{
	struct clock_reading r = at(NOW + YEAR, 1001);
	struct clock c;

	start_fresh(&c);
	assert_true(clock_tick(&c, &r));
	r = at(NOW + YEAR + 1, 1002);
	assert_false(clock_tick(&c, &r)); /* it is told once ... */
	assert_true(c.unconfirmed);       /* ... and stays */
	clock_confirm(&c, &r);
	assert_false(c.unconfirmed);
	assert_string_equal(c.reason, "");
	r = at(NOW + YEAR + 2, 1003);
	assert_false(clock_tick(&c, &r));
	r = at(NOW + 3, 1004); /* set back again: a new doubt */
	assert_true(clock_tick(&c, &r));
}

static bool doubted_at_start(const struct clock_memory *m, const struct clock_reading *now)
{
	struct clock c;

	clock_start(&c, m, now);
	return c.unconfirmed;
}

static void test_start(void **state)
{
	struct clock_memory m = {.wall = NOW, .boot = 1000, .boot_id = "boot-z"};
	struct clock_reading r;

	r = at(NOW, 10);
	assert_false(doubted_at_start(&m, &r));
	r = at(NOW - 1, 10);
	assert_true(doubted_at_start(&m, &r));
	r = at(NOW + CLOCK_OUTAGE_MAX, 10);
	assert_false(doubted_at_start(&m, &r));
	r = at(NOW + CLOCK_OUTAGE_MAX + 1, 10);
	assert_true(doubted_at_start(&m, &r));
	/* Within one boot the boot clock is a witness. */
	memcpy(m.boot_id, "boot-a", sizeof("boot-a"));
	r = at(NOW + 600, 1600);
	assert_false(doubted_at_start(&m, &r));
	r = at(NOW + 3600, 1600);
	assert_true(doubted_at_start(&m, &r));
}

/* Machine and memory put back together: only the record knows. */
static void test_ledger(void **state)
{
	struct clock c;

	start_fresh(&c);
	clock_compare_ledger(&c, 0, 0, NOW);
	clock_compare_ledger(&c, NOW, 0, NOW);
	clock_compare_ledger(&c, NOW + CLOCK_STEP_MAX, 0, NOW);
	clock_compare_ledger(&c, NOW + YEAR, NOW + YEAR, NOW); /* a custodian said so */
	assert_false(c.unconfirmed);
	clock_compare_ledger(&c, NOW + YEAR + 1, NOW + YEAR, NOW);
	assert_true(c.unconfirmed);
	start_fresh(&c);
	clock_compare_ledger(&c, NOW + CLOCK_STEP_MAX + 1, 0, NOW);
	assert_true(c.unconfirmed);
	assert_non_null(strstr(c.reason, "newest row"));
}

static void test_memory(void **state)
{
	struct clock_reading r = at(NOW + YEAR, 1001);
	struct clock_memory m;
	struct clock c, again;

	start_fresh(&c);
	clock_tick(&c, &r);
	clock_remember(&c, &m);
	assert_int_equal(m.wall, NOW + YEAR);
	/* A restart is no confirmation. */
	clock_start(&again, &m, &r);
	assert_true(again.unconfirmed);
	assert_string_equal(again.reason, c.reason);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ordinary_seconds),
		cmocka_unit_test(test_jumps),
		cmocka_unit_test(test_all_clocks_jump),
		cmocka_unit_test(test_suspend),
		cmocka_unit_test(test_creeping),
		cmocka_unit_test(test_stopped_and_slow),
		cmocka_unit_test(test_confirm),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_ledger),
		cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
