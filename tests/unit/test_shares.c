/* One user's share of what can be open: never more than is left for the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "fs/worker/shares.h"

static unsigned take_all(struct shares *s, uint32_t uid)
{
	unsigned n = 0;
	int r;

	while ((r = shares_take(s, uid)) == 0)
		n++;
	assert_int_equal(r, -EMFILE);
	return n;
}

static void test_each_takes_half_of_what_is_left(void **state)
{
	struct shares *s;

	assert_int_equal(shares_new(1000, &s), 0);
	assert_int_equal(take_all(s, 1), 500);
	assert_int_equal(take_all(s, 2), 250);
	assert_int_equal(take_all(s, 3), 125);
	assert_int_equal(take_all(s, 1), 0);
	shares_free(s);
}

static void test_what_is_given_back_can_be_had_again(void **state)
{
	struct shares *s;

	assert_int_equal(shares_new(100, &s), 0);
	assert_int_equal(take_all(s, 1), 50);
	for (int n = 0; n < 50; n++)
		shares_give_back(s, 1);
	shares_give_back(s, 1); /* nobody gives what he has not */
	shares_give_back(s, 7);
	assert_int_equal(take_all(s, 2), 50);
	assert_int_equal(take_all(s, 1), 25);
	shares_free(s);
}

static void test_without_shares_nothing_is_counted(void **state)
{
	assert_int_equal(shares_take(NULL, 1), 0);
	shares_give_back(NULL, 1);
	shares_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_takes_half_of_what_is_left),
		cmocka_unit_test(test_what_is_given_back_can_be_had_again),
		cmocka_unit_test(test_without_shares_nothing_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
