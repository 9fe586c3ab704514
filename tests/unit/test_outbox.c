/* What ends the transactions of the daemon: a fact and its record go together or not at all, and nothing stays open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "common/scope.h"
#include "keyd/facts_sql.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"

#define KEY "test"

static const struct actor ada = {"ada", 100};

static int setup(void **state)
{
	struct keyd *k = calloc(1, sizeof(*k));

	*state = k;
	return k ? facts_open(":memory:", &k->facts) : -1;
}

static int teardown(void **state)
{
	struct keyd *k = *state;

	facts_close(k->facts);
	free(k);
	return 0;
}

static size_t waiting(struct keyd *k)
{
	json_t *entries = NULL;
	size_t n;

	assert_int_equal(facts_outbox_peek(k->facts, 10, &entries), 0);
	n = json_array_size(entries);
	json_decref(entries);
	return n;
}

static int kept(struct keyd *k)
{
	char value[8];

	return facts_state_get(k->facts, KEY, value, sizeof(value));
}

static struct outbox_entry entry(void)
{
	return (struct outbox_entry){.kind = "test", .by = ada, .detail = json_pack("{s:s}", "a", "b")};
}

/* A fact, whose result is then said to be `r`. */
static int fact(struct keyd *k, int r)
{
	assert_int_equal(facts_begin(k->facts), 0);
	assert_int_equal(facts_state_set(k->facts, KEY, "1"), 0);
	return r;
}

static void test_both(void **state)
{
	const struct outbox_entry e = entry();
	struct keyd *k = *state;

	assert_int_equal(outbox_commit_with(k, fact(k, 0), &e), 0);
	assert_false(k->facts->in_transaction);
	assert_int_equal(kept(k), 0);
	assert_int_equal(waiting(k), 1);
}

static void test_fact_that_failed(void **state)
{
	const struct outbox_entry e = entry();
	struct keyd *k = *state;

	assert_int_equal(outbox_commit_with(k, fact(k, -EEXIST), &e), -EEXIST);
	assert_false(k->facts->in_transaction);
	assert_int_equal(kept(k), -ENOENT);
	assert_int_equal(waiting(k), 0);
}

static void test_record_that_failed(void **state)
{
	struct outbox_entry e = entry();
	struct keyd *k = *state;

	assert_int_equal(facts_execute(k->facts, NULL, "ALTER TABLE outbox RENAME TO away", ""), 0);
	assert_true(outbox_record_with(k, fact(k, 0), &e) < 0);
	assert_false(k->facts->in_transaction);
	assert_int_equal(kept(k), -ENOENT);
	e = entry();
	assert_true(outbox_record(k, &e) < 0);
	assert_false(k->facts->in_transaction);
	e = entry();
	assert_true(outbox_act(k, "text", &e) < 0);
	assert_false(k->facts->in_transaction);
	assert_int_equal(facts_begin(k->facts), 0); /* the next one can */
	facts_rollback(k->facts);
}

/* Nobody takes it yet: it waits, and the act counts. */
static void test_act(void **state)
{
	struct keyd *k = *state;
	struct outbox_entry e = entry();

	assert_int_equal(outbox_act(k, "text", &e), 0);
	assert_int_equal(waiting(k), 1);
	e = entry();
	assert_int_equal(outbox_record(k, &e), 0);
	assert_int_equal(waiting(k), 2);
	assert_false(k->facts->in_transaction);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fact_that_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_record_that_failed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_act, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
