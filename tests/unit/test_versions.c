/* Which of all that was ever removed stood at a path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "keyd/versions.h"

#define GONE(at, n) {.path = (char *)(at), .kind = 'k', .leaf = (n)}
#define REN(from, to) {.path = (char *)(from), .path2 = (char *)(to), .rename = true, .kind = '-'}
#define REN_DIR(from, to) {.path = (char *)(from), .path2 = (char *)(to), .rename = true, .kind = 'd'}
#define REN_OVER(from, to, n) {.path = (char *)(from), .path2 = (char *)(to), .rename = true, .kind = 'k', .leaf = (n)}
#define EXCHANGE(a, b) {.path = (char *)(a), .path2 = (char *)(b), .rename = true, .kind = 'x'}
#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* `bits`: 1 << leaf of each that is to be found. */
static void expect(const struct removal *all, size_t n, const char *path, uint64_t bits, size_t unknown, size_t elsewhere)
{
	char *paths[] = {(char *)path};
	struct versions_found f = {0};
	uint64_t got = 0;

	assert_int_equal(removals_follow(all, n, paths, 1, &f), 0);
	for (size_t i = 0; i < f.n; i++)
		got |= UINT64_C(1) << f.leaves[i];
	assert_int_equal(got, bits);
	assert_int_equal(f.n, __builtin_popcountll(bits));
	assert_int_equal(f.unknown, unknown);
	assert_int_equal(f.elsewhere, elsewhere);
	versions_found_done(&f);
}

static void test_at_the_path(void **state)
{
	static const struct removal all[] = {GONE("a", 1), GONE("ab", 2), REN_OVER("t", "a", 3), GONE("a/b", 4), GONE("b/a", 5), GONE("a", 3)};

	expect(all, COUNT(all), "a", 1 << 1 | 1 << 3 | 1 << 4, 0, 0);
	expect(all, COUNT(all), "a/b", 1 << 4, 0, 0);
	expect(all, COUNT(all), "b", 1 << 5, 0, 0);
	expect(all, COUNT(all), "c", 0, 0, 0);
	expect(all, 0, "a", 0, 0, 0);
}

/* A name for the time being is another document's next time. */
static void test_shared_temporary_name(void **state)
{
	static const struct removal all[] = {GONE("t", 1), REN_OVER("t", "other", 2), GONE("t", 3), REN_OVER("t", "a", 4), GONE("t", 5),
		REN_OVER("t", "other", 6)};

	expect(all, COUNT(all), "a", 1 << 4, 0, 0);
	expect(all, COUNT(all), "other", 1 << 2 | 1 << 6, 0, 0);
}

static void test_backup_names(void **state)
{
	static const struct removal removed[] = {REN("a", "a~"), GONE("a~", 1), REN("a", "a~"), GONE("a~", 2)};
	static const struct removal kept[] = {REN("a", "a~"), REN_OVER("a", "a~", 1)};
	static const struct removal moved[] = {REN("q", "q~"), GONE("q~", 1), REN("q", "a"), GONE("q", 2)};

	expect(removed, COUNT(removed), "a", 1 << 1 | 1 << 2, 0, 0);
	expect(kept, COUNT(kept), "a", 1 << 1, 0, 1);
	expect(moved, COUNT(moved), "a", 1 << 1, 0, 0);
}

static void test_where_it_was_before(void **state)
{
	static const struct removal all[] = {REN_OVER("x", "q", 0), REN_OVER("t", "q", 1), REN("q", "a"), REN_OVER("t", "q", 2), GONE("q", 3)};
	static const struct removal dirs[] = {GONE("old/a", 1), REN_DIR("old", "new"), GONE("old/a", 2), GONE("new/a", 3)};
	static const struct removal other[] = {GONE("q", 1), REN("z", "q"), REN("q", "a")};

	expect(all, COUNT(all), "a", 1 << 0 | 1 << 1, 0, 0);
	expect(dirs, COUNT(dirs), "new/a", 1 << 3, 0, 0);
	expect(dirs, COUNT(dirs), "new", 1 << 1 | 1 << 3, 0, 0);
	expect(other, COUNT(other), "a", 0, 0, 0);
}

static void test_renamed_away(void **state)
{
	static const struct removal gone[] = {REN("a", "b"), REN("b", "c"), GONE("c", 1), GONE("b", 2)};
	static const struct removal there[] = {REN("a/x", "b"), REN_OVER("t", "c", 1)};
	static const struct removal exchanged[] = {EXCHANGE("a", "b"), GONE("b", 1), GONE("a", 2)};

	expect(gone, COUNT(gone), "a", 1 << 1, 0, 0);
	expect(there, COUNT(there), "a", 0, 0, 1);
	expect(exchanged, COUNT(exchanged), "a", 1 << 1 | 1 << 2, 0, 0);
}

static void test_not_known(void **state)
{
	static const struct removal all[] = {{.path = (char *)"a", .kind = '?'}, {.path = (char *)"a", .kind = 0},
		{.path = (char *)"a", .kind = '-'}, {.kind = 'k', .leaf = 1}, {.path = (char *)"t", .rename = true, .kind = 'k', .leaf = 2}};

	expect(all, COUNT(all), "a", 0, 2, 0);
}

static void test_parse(void **state)
{
	static const char *const bad[] = {"k", "k0", "k00000000000000zz", "k0000000000000000ff", "z", "dd", "v1.2", "-"};
	struct removal e;

	assert_true(removal_parse("k00010002ffffffff", &e) && e.kind == 'k' && e.leaf == UINT64_C(0x00010002ffffffff));
	assert_true(removal_parse("", &e) && e.kind == 0);
	assert_true(removal_parse("k-", &e) && e.kind == '-');
	assert_true(removal_parse("k?", &e) && e.kind == '?');
	assert_true(removal_parse("d", &e) && e.kind == 'd');
	assert_true(removal_parse("x", &e) && e.kind == 'x');
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_false(removal_parse(bad[i], &e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_the_path),
		cmocka_unit_test(test_shared_temporary_name),
		cmocka_unit_test(test_backup_names),
		cmocka_unit_test(test_where_it_was_before),
		cmocka_unit_test(test_renamed_away),
		cmocka_unit_test(test_not_known),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
