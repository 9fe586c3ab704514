/* Facts about single leaves: what waits, what is being done, what was erased. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keyd/facts_leaves.h"
#include "keyd/facts_sql.h"
#include "keyd/leaves.h"

#define HEX_OF "00112233445566778899aabbccddeeff"
static const struct actor carol = {.user = "carol", .uid = 7};

struct fixture {
	struct facts *f;
	int64_t client;
	char path[64];
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));
	struct fact_client c;
	int fd;

	strcpy(x->path, "/tmp/coffer-facts-XXXXXX");
	fd = mkstemp(x->path);
	close(fd);
	assert_int_equal(facts_open(x->path, &x->f), 0);
	assert_int_equal(facts_client_add(x->f, "acme", HEX_OF, "Acme", "a@b", carol, 1), 0);
	assert_int_equal(facts_client(x->f, "acme", FACTS_LATEST, &c), 0);
	x->client = c.row;
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	struct fixture *x = *state;
	char path[80];

	facts_close(x->f);
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", x->path, ends[i]);
		unlink(path);
	}
	free(x);
	return 0;
}

static void test_dying(void **state)
{
	const uint64_t some[] = {UINT64_MAX, 7, (uint64_t)1 << 63}, again[] = {7, 8};
	struct fixture *x = *state;
	int64_t client, since, hold;
	uint64_t *all;
	size_t n;

	assert_int_equal(facts_dying_oldest(x->f, &client, &since), 0);
	assert_int_equal(since, 0);
	assert_int_equal(facts_dying_add(x->f, x->client, some, 3, 100), 0);
	assert_int_equal(facts_dying_add(x->f, x->client, again, 2, 200), 0);
	assert_int_equal(facts_dying(x->f, x->client, &all, &n), 0);
	assert_int_equal(n, 4);
	free(all);
	assert_int_equal(facts_dying_oldest(x->f, &client, &since), 0);
	assert_int_equal(client, x->client);
	assert_int_equal(since, 100);
	/* While there is a hold it is as if there were none. */
	assert_int_equal(facts_hold_place(x->f, x->client, "m", "r", carol, 3, &hold), 0);
	assert_int_equal(facts_dying_oldest(x->f, &client, &since), 0);
	assert_int_equal(since, 0);
	assert_int_equal(facts_hold_lift(x->f, hold, "r", carol, 4), 0);
	/* In a transaction of the caller's, which may fail. */
	assert_int_equal(facts_begin(x->f), 0);
	assert_int_equal(facts_dying_drop(x->f, x->client, some, 3), 0);
	facts_rollback(x->f);
	assert_int_equal(facts_dying(x->f, x->client, &all, &n), 0);
	assert_int_equal(n, 4);
	free(all);
	assert_int_equal(facts_dying_drop(x->f, x->client, some, 3), 0);
	assert_int_equal(facts_dying(x->f, x->client, &all, &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(all[0], 8);
	free(all);
	assert_int_equal(facts_dying_drop_all(x->f, x->client), 0);
	assert_int_equal(facts_dying_oldest(x->f, &client, &since), 0);
	assert_int_equal(since, 0);
}

static void test_class_set(void **state)
{
	struct fixture *x = *state;
	struct fact_class_set s;

	assert_int_equal(facts_class_set_any(x->f, &s), -ENOENT);
	assert_int_equal(facts_class_set_begin(x->f, x->client, "aa/bb", 17, carol, 5), 0);
	assert_int_equal(facts_class_set_begin(x->f, x->client, "cc", 18, carol, 6), 0);
	assert_int_equal(facts_class_set_any(x->f, &s), 0);
	assert_int_equal(s.client, x->client);
	assert_int_equal(s.class, 18);
	assert_string_equal(s.store, "cc");
	assert_int_equal(facts_class_set_end(x->f, x->client), 0);
	assert_int_equal(facts_class_set_any(x->f, &s), -ENOENT);
}

static void test_erasure(void **state)
{
	struct fixture *x = *state;
	char store[] = "aa", counts[] = "{}", leaves[] = "0000000000000007";
	struct fact_erasure e = {.client = x->client,
				    .generation = 3,
				    .reason = "R",
				    .store = store,
				    .counts = counts,
				    .leaves = leaves},
			    back;
	int64_t row, hold;

	/* A hold that is there by then wins. */
	assert_int_equal(facts_hold_place(x->f, x->client, "m", "r", carol, 3, &hold), 0);
	assert_int_equal(facts_erasure_intend(x->f, &e, carol, 5, &row), -EBUSY);
	assert_int_equal(facts_hold_lift(x->f, hold, "r", carol, 4), 0);
	assert_int_equal(facts_erasure_intend(x->f, &e, carol, 5, &row), 0);
	assert_int_equal(facts_erasure_pending(x->f, 0, &back), 0);
	assert_int_equal(back.row, row);
	assert_int_equal(back.client, x->client);
	assert_int_equal(back.intent_at, 5);
	assert_int_equal(back.generation, 3);
	assert_string_equal(back.reason, "R");
	assert_string_equal(back.by, "carol");
	assert_string_equal(back.leaves, leaves);
	fact_erasure_done(&back);
	assert_int_equal(facts_erasure_finish(x->f, row, true, "{}", "00", 9), 0);
	assert_int_equal(facts_erasure_pending(x->f, 0, &back), -ENOENT);
	/* For ever. */
	assert_true(facts_erasure_finish(x->f, row, false, NULL, NULL, 10) < 0);
	assert_true(facts_execute(x->f, NULL, "DELETE FROM erasure", "") < 0);
	assert_true(facts_execute(x->f, NULL, "UPDATE erasure SET reason = 'x'", "") < 0);
}

static void test_sweep(void **state)
{
	struct fixture *x = *state;
	int64_t client = 0;

	assert_int_equal(facts_sweep_any(x->f, 0, &client), -ENOENT);
	assert_int_equal(facts_sweep_due(x->f, x->client, 5), 0);
	assert_int_equal(facts_sweep_due(x->f, x->client, 6), 0);
	assert_int_equal(facts_sweep_any(x->f, 0, &client), 0);
	assert_int_equal(client, x->client);
	assert_int_equal(facts_sweep_any(x->f, client, &client), -ENOENT);
	assert_int_equal(facts_sweep_done(x->f, x->client), 0);
	assert_int_equal(facts_sweep_any(x->f, 0, &client), -ENOENT);
}

static void test_without(void **state)
{
	uint64_t dying[] = {5, UINT64_MAX, 1, 9}, used[] = {UINT64_MAX, 5, 77};

	assert_int_equal(leaves_without(dying, 4, used, 0), 4);
	assert_int_equal(leaves_without(dying, 4, used, 3), 2);
	assert_int_equal(dying[0], 1);
	assert_int_equal(dying[1], 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dying, setup, teardown),
		cmocka_unit_test_setup_teardown(test_class_set, setup, teardown),
		cmocka_unit_test_setup_teardown(test_erasure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sweep, setup, teardown),
		cmocka_unit_test(test_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
