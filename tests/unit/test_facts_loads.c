/* Which numbers were given out: the rows are never less than that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/facts_loads.h"
#include "keyd/facts_sql.h"

#define HEX_OF "00112233445566778899aabbccddeeff"
static const struct actor carol = {.user = "carol", .uid = 7};

struct fixture {
	struct facts *f;
	int64_t client;
	int dir_fd;
	char dir[64], path[80];
};

static int setup(void **state)
{
	struct fixture *x = calloc(1, sizeof(*x));

	strcpy(x->dir, "/tmp/coffer-loads-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->path, sizeof(x->path), "%s/facts.db", x->dir);
	x->dir_fd = open(x->dir, O_RDONLY | O_DIRECTORY);
	assert_int_equal(facts_open(x->path, &x->f), 0);
	assert_int_equal(facts_client_add(x->f, "acme", HEX_OF, "Acme", "a@b", carol, 1), 0);
	assert_int_equal(facts_client_row(x->f, HEX_OF, &x->client), 0);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm", ".old"};
	struct fixture *x = *state;
	char path[96];

	facts_close(x->f);
	close(x->dir_fd);
	for (size_t i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s%s", x->path, ends[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(x->dir), 0);
	free(x);
	return 0;
}

static void expect(struct fixture *x, const struct fact_load *want, size_t n)
{
	scoped(freep) struct fact_load *all = NULL;
	size_t got;

	assert_int_equal(facts_loads(x->f, x->client, &all, &got), 0);
	assert_int_equal(got, n);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(all[i].first, want[i].first);
		assert_int_equal(all[i].end, want[i].end);
		assert_int_equal(all[i].from_day, want[i].from_day);
		assert_int_equal(all[i].to_day, want[i].to_day);
	}
}

#define EVER .from_day = 0, .to_day = LOAD_DAY_LAST

static void test_life(void **state)
{
	struct fixture *x = *state;
	int64_t row, other, empty;

	assert_int_equal(facts_load_begin(x->f, x->client, 1000, 2000, &row), 0);
	expect(x, &(struct fact_load){.first = 1000, .end = 2000, EVER}, 1);
	/* No number twice, whatever the day. */
	assert_int_equal(facts_load_begin(x->f, x->client, 1999, 3000, &other), -EEXIST);
	assert_int_equal(facts_load_begin(x->f, x->client, 500, 1001, &other), -EEXIST);
	assert_int_equal(facts_load_begin(x->f, x->client, 1200, 1300, &other), -EEXIST);
	assert_int_equal(facts_load_begin(x->f, x->client, 5, 5, &other), -EINVAL);
	assert_int_equal(facts_load_begin(x->f, x->client, 5, LOAD_NUMBERS + 1, &other), -EINVAL);
	assert_int_equal(facts_load_begin(x->f, x->client, 2500, 3000, &other), 0);
	/* More of them, unless another has them; never fewer. */
	assert_int_equal(facts_load_extend(x->f, row, 2400), 0);
	assert_int_equal(facts_load_extend(x->f, row, 2501), -EEXIST);
	assert_int_equal(facts_load_extend(x->f, row, 2300), -EEXIST);
	assert_int_equal(facts_load_extend(x->f, other, LOAD_NUMBERS), 0);
	assert_int_equal(facts_load_extend(x->f, other, LOAD_NUMBERS + 1), -EINVAL);
	expect(x, (struct fact_load[]){{.first = 1000, .end = 2400, EVER}, {.first = 2500, .end = LOAD_NUMBERS, EVER}}, 2);
	/* A day ends, then the worker. */
	assert_int_equal(facts_load_split(x->f, x->client,
				 &(struct fact_load){.row = row, .first = 1000, .end = 1100, .from_day = 7, .to_day = 9},
				 2400, &row), 0);
	assert_int_equal(facts_load_end(x->f,
				 &(struct fact_load){.row = row, .first = 1100, .end = 1101, .from_day = 10, .to_day = 10}),
		0);
	expect(x,
		(struct fact_load[]){{.first = 1000, .end = 1100, .from_day = 7, .to_day = 9},
			{.first = 1100, .end = 1101, .from_day = 10, .to_day = 10},
			{.first = 2500, .end = LOAD_NUMBERS, EVER}},
		3);
	/* What it did not use is free again; who used nothing leaves nothing. */
	assert_int_equal(facts_load_begin(x->f, x->client, 1101, 1200, &empty), 0);
	assert_int_equal(facts_load_end(x->f, &(struct fact_load){.row = empty, .first = 1101, .end = 1101}), 0);
	assert_int_equal(facts_load_begin(x->f, x->client, 1150, 1160, &empty), 0);
}

static void test_split_in_a_crash(void **state)
{
	struct fixture *x = *state;
	const struct fact_load l = {.row = 1, .first = 1000, .end = 1100, .from_day = 7, .to_day = 9};
	int64_t row;

	assert_int_equal(facts_load_begin(x->f, x->client, 1000, 2000, &row), 0);
	assert_int_equal(facts_execute(x->f, NULL,
				 "CREATE TRIGGER full BEFORE INSERT ON load BEGIN SELECT RAISE(ABORT, 'full'); END", ""), 0);
	assert_true(facts_load_split(x->f, x->client, &l, 2000, &row) < 0);
	expect(x, &(struct fact_load){.first = 1000, .end = 2000, EVER}, 1);
}

static void test_book(void **state)
{
	struct fixture *x = *state;
	struct fact_book b;

	assert_int_equal(facts_book(x->f, x->client, &b), 0);
	assert_int_equal(b.since, 0); /* a new client: nothing was given out before */
	assert_int_equal(b.pruned, 0);
	assert_int_equal(facts_book(x->f, 99, &b), -ENOENT);
	assert_int_equal(facts_book_pruned(x->f, x->client, 50), 0);
	assert_int_equal(facts_book_pruned(x->f, x->client, 40), 0);
	assert_int_equal(facts_book_settle(x->f, x->client, 30), 0);
	assert_int_equal(facts_book(x->f, x->client, &b), 0);
	assert_int_equal(b.pruned, 50);
	assert_int_equal(b.since, 0);
	assert_int_equal(facts_book_doubt(x->f, x->client), 0);
	assert_int_equal(facts_book(x->f, x->client, &b), 0);
	assert_int_equal(b.since, BOOK_NO_DAY);
	assert_int_equal(facts_book_settle(x->f, x->client, 30), 0);
	assert_int_equal(facts_book(x->f, x->client, &b), 0);
	assert_int_equal(b.since, 30);
}

/* The file itself may be opened and closed as often as one likes; a copy in its place is another. */
static void test_copied(void **state)
{
	struct fixture *x = *state;
	char command[512];
	struct fact_book b;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(facts_book_check_file(x->f, x->dir_fd), 0);
		assert_int_equal(facts_book(x->f, x->client, &b), 0);
		assert_int_equal(b.since, 0);
		facts_close(x->f);
		assert_int_equal(facts_open(x->path, &x->f), 0);
	}
	facts_close(x->f);
	snprintf(command, sizeof(command), "mv %s %s.old && cp %s.old %s", x->path, x->path, x->path, x->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(facts_open(x->path, &x->f), 0);
	assert_int_equal(facts_book_check_file(x->f, x->dir_fd), 0);
	assert_int_equal(facts_book(x->f, x->client, &b), 0);
	assert_int_equal(b.since, BOOK_NO_DAY);
	/* Said once: what is settled then stays. */
	assert_int_equal(facts_book_settle(x->f, x->client, 30), 0);
	assert_int_equal(facts_book_check_file(x->f, x->dir_fd), 0);
	assert_int_equal(facts_book(x->f, x->client, &b), 0);
	assert_int_equal(b.since, 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_split_in_a_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_book, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copied, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
