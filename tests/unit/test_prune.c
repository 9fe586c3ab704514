/* Which nodes of the key tree may go: against a model that asks leaf by leaf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sodium.h>

#include "keyd/prune.h"

#define CLASS CLASS_FIRST_POLICY
#define SINCE 100u
#define BEFORE 110u

static const struct fact_load loads[] = {
	{.first = 1000, .end = 1100, .from_day = 98, .to_day = 101},
	{.first = 2000, .end = 2001, .from_day = 101, .to_day = 101},
	{.first = 5000, .end = 5200, .from_day = 0, .to_day = LOAD_DAY_LAST}, /* died without a word */
	{.first = LOAD_NUMBERS - 10, .end = LOAD_NUMBERS, .from_day = 103, .to_day = 105},
};

static struct prune_book book_of(size_t n)
{
	return (struct prune_book){.loads = loads, .n = n, .since = SINCE, .before = BEFORE};
}

static bool ask(struct prune_book *b, uint16_t class, unsigned day, uint64_t first, uint64_t last)
{
	struct leaf_index a = {class, (uint16_t)day, (uint32_t)first}, z = {class, (uint16_t)day, (uint32_t)last};

	return prune_keep(leaf_index_u64(a), leaf_index_u64(z), b);
}

static void test_one_day(void **state)
{
	struct prune_book b = book_of(4);

	assert_true(ask(&b, CLASS, 101, 1099, 1200));
	assert_false(ask(&b, CLASS, 101, 1100, 1999));
	assert_true(ask(&b, CLASS, 101, 2000, 2000));
	assert_false(ask(&b, CLASS, 101, 2001, 4999));
	assert_true(ask(&b, CLASS, 101, 0, UINT32_MAX));
	/* Other days have other numbers, but for those of whom nobody knows. */
	assert_false(ask(&b, CLASS, 102, 1000, 1099));
	assert_false(ask(&b, CLASS, 102, 2000, 2000));
	assert_true(ask(&b, CLASS, 102, 5199, 5199));
	assert_true(ask(&b, CLASS, 101, 0, 1000));
	assert_false(ask(&b, CLASS, 101, 0, 999));
	assert_true(ask(&b, CLASS, 104, UINT32_MAX, UINT32_MAX));
	assert_false(ask(&b, CLASS, 106, UINT32_MAX - 9, UINT32_MAX));
	/* Of every class: keyd does not know which ones a worker used. */
	assert_true(ask(&b, CLASS_NAMES, 101, 1000, 1000));
	assert_false(ask(&b, CLASS_NAMES, 101, 3000, 3000));
	free(b.day_loads);
}

static void test_never_pruned(void **state)
{
	struct prune_book b = book_of(4);

	assert_true(ask(&b, CLASS, SINCE - 1, 3000, 3000));
	assert_false(ask(&b, CLASS, SINCE, 3000, 3000));
	assert_false(ask(&b, CLASS, BEFORE - 1, 3000, 3000));
	assert_true(ask(&b, CLASS, BEFORE, 3000, 3000));
	assert_true(ask(&b, CLASS_AUDIT, 101, 3000, 3000));
	assert_true(prune_keep(0, UINT64_MAX, &b));
	free(b.day_loads);
}

static uint64_t leaf(uint16_t class, unsigned day, uint32_t number)
{
	return leaf_index_u64((struct leaf_index){class, (uint16_t)day, number});
}

static void test_several_days(void **state)
{
	struct prune_book b = book_of(2);

	assert_true(prune_keep(leaf(CLASS, 100, 0), leaf(CLASS, 101, UINT32_MAX), &b));
	assert_false(prune_keep(leaf(CLASS, 102, 0), leaf(CLASS, 103, UINT32_MAX), &b));
	assert_true(prune_keep(leaf(CLASS, 104, 0), leaf(CLASS, 111, UINT32_MAX), &b)); /* not all over */
	assert_true(prune_keep(leaf(CLASS, 96, 0), leaf(CLASS, 103, UINT32_MAX), &b));
	assert_true(prune_keep(leaf(CLASS, 100, 0), leaf(CLASS + 1, 101, UINT32_MAX), &b));
	b.n = 0;
	assert_false(prune_keep(leaf(CLASS, 100, 0), leaf(CLASS, 103, UINT32_MAX), &b));
	free(b.day_loads);
}

static bool was_given_out(unsigned day, uint32_t number)
{
	for (size_t i = 0; i < 4; i++)
		if (loads[i].from_day <= day && day <= loads[i].to_day && loads[i].first <= number && number < loads[i].end)
			return true;
	return false;
}

/* A real tree: what was given out and not shredded opens, and beside what was shredded nothing else is left. */
static void test_tree(void **state)
{
	struct prune_book b = book_of(4);
	struct keytree *t;
	size_t dropped, nodes;

	assert_int_equal(keytree_new(&t), 0);
	for (unsigned day = SINCE; day < BEFORE; day++)
		for (uint32_t n = 5000; n < 5200; n += 7)
			assert_int_equal(keytree_puncture(t, leaf(CLASS, day, n), 64), 0);
	nodes = keytree_nodes(t);
	assert_int_equal(keytree_prune(t, prune_keep, &b, &dropped), 0);
	free(b.day_loads);
	assert_true(dropped > 0);
	assert_int_equal(keytree_nodes(t), nodes - dropped);
	for (unsigned day = SINCE; day < BEFORE; day++) {
		for (uint32_t n = 0; n < 6000; n++) {
			bool shredded = n >= 5000 && n < 5200 && (n - 5000) % 7 == 0;
			bool holds = keytree_holds(t, (struct leaf_index){CLASS, (uint16_t)day, n});

			if (was_given_out(day, n))
				assert_int_equal(holds, !shredded);
			else if (n >= 4096 + 512 && n < 5120 + 512) /* in the same corner of the tree as what was shredded */
				assert_true(!holds || (n ^ 5199) < 64);
		}
		assert_int_equal(keytree_holds(t, (struct leaf_index){CLASS, (uint16_t)day, UINT32_MAX}),
			day >= 103 && day <= 105);
	}
	assert_true(keytree_holds(t, (struct leaf_index){CLASS, BEFORE, 1}));
	assert_true(keytree_holds(t, (struct leaf_index){CLASS, SINCE - 1, 1}));
	assert_true(keytree_holds(t, (struct leaf_index){CLASS_AUDIT, 92, 0}));
	keytree_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_day),
		cmocka_unit_test(test_never_pruned),
		cmocka_unit_test(test_several_days),
		cmocka_unit_test(test_tree),
	};
	int r;

	if (sodium_init() < 0 || secret_init(4u << 20) < 0)
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	secret_done();
	return r;
}
