/* Handles: numbers that are checked, and the shared table of open node ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "fs/worker/handle.h"

static _Atomic uint64_t nodes[HANDLE_MAX];

static int setup(void **state)
{
	return handle_table_new(nodes, (struct handle_table **)state);
}

static int teardown(void **state)
{
	struct handle *h;

	while ((h = handle_release_any(*state))) {
		assert_true(handle_put(*state, h));
		handle_free(*state, h);
	}
	assert_int_equal(handle_count(*state), 0);
	handle_table_free(*state);
	return 0;
}

static uint64_t make(struct handle_table *t, enum handle_kind kind, uint64_t node)
{
	struct handle *h;
	uint64_t fh;

	assert_int_equal(handle_new(t, kind, node, &h, &fh), 0);
	assert_null(handle_get(t, fh, kind, node)); /* not before its record is written */
	assert_null(handle_release(t, fh, kind, node));
	handle_publish(t, h);
	return fh;
}

static void release(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node)
{
	struct handle *h = handle_release(t, fh, kind, node);

	assert_non_null(h);
	assert_true(handle_put(t, h));
	handle_free(t, h);
}

static void test_only_with_its_kind_and_node(void **state)
{
	uint64_t fh = make(*state, HANDLE_FILE, 42);
	struct handle *h;

	assert_null(handle_get(*state, fh, HANDLE_DIR, 42));
	assert_null(handle_get(*state, fh, HANDLE_FILE, 43));
	h = handle_get(*state, fh, HANDLE_FILE, 42);
	assert_non_null(h);
	assert_false(handle_put(*state, h));
}

static void test_forged(void **state)
{
	uint64_t fh = make(*state, HANDLE_FILE, 42);

	for (unsigned bit = 0; bit < 64; bit++)
		assert_null(handle_get(*state, fh ^ 1ull << bit, HANDLE_FILE, 42));
	assert_null(handle_get(*state, 0, HANDLE_FILE, 42));
	assert_null(handle_get(*state, 0, HANDLE_FILE, 0));
	assert_null(handle_get(*state, UINT64_MAX, HANDLE_FILE, 42));
	assert_null(handle_release(*state, fh + 1, HANDLE_FILE, 42));
}

static void test_a_place_used_again_has_another_number(void **state)
{
	uint64_t old = make(*state, HANDLE_FILE, 42), new;

	release(*state, old, HANDLE_FILE, 42);
	new = make(*state, HANDLE_FILE, 42);
	assert_int_equal((uint32_t)old, (uint32_t) new);
	assert_int_not_equal(old, new);
	assert_null(handle_get(*state, old, HANDLE_FILE, 42));
	assert_null(handle_release(*state, old, HANDLE_FILE, 42));
}

static void test_released_once_while_in_use(void **state)
{
	uint64_t fh = make(*state, HANDLE_FILE, 42);
	struct handle *in_use = handle_get(*state, fh, HANDLE_FILE, 42), *h;

	h = handle_release(*state, fh, HANDLE_FILE, 42);
	assert_ptr_equal(h, in_use);
	assert_null(handle_release(*state, fh, HANDLE_FILE, 42));
	assert_null(handle_get(*state, fh, HANDLE_FILE, 42));
	assert_false(handle_put(*state, h));
	assert_int_equal(nodes[(uint32_t)fh], 42); /* fsd must still invalidate it */
	assert_true(handle_put(*state, in_use));
	handle_free(*state, in_use);
	assert_int_equal(nodes[(uint32_t)fh], 0);
}

static void test_the_shared_table_and_its_end(void **state)
{
	struct handle *h;
	uint64_t fh;

	for (unsigned n = 0; n < HANDLE_MAX; n++) {
		assert_int_equal(handle_new(*state, HANDLE_FILE, 1000 + n, &h, &fh), 0);
		handle_publish(*state, h);
		assert_int_equal(nodes[(uint32_t)fh], 1000 + n);
	}
	assert_int_equal(handle_new(*state, HANDLE_FILE, 1, &h, &fh), -EMFILE);
	assert_int_equal(handle_count(*state), HANDLE_MAX);
	release(*state, fh, HANDLE_FILE, 1000 + HANDLE_MAX - 1);
	assert_int_equal(handle_new(*state, HANDLE_DIR, 1, &h, &fh), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_only_with_its_kind_and_node, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_place_used_again_has_another_number, setup, teardown),
		cmocka_unit_test_setup_teardown(test_released_once_while_in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_shared_table_and_its_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
