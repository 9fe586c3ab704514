/* The table of inodes: what a session knows, what it may not know, and when an inode ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/worker/inode.h"

struct world {
	struct inode_table *t;
	struct inode_view a, b;
	struct inode *root;
	unsigned freed;
};

static void count_freed(struct inode *i, void *arg)
{
	struct world *w = arg;

	w->freed++;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct stat st = {.st_mode = S_IFDIR | 0755, .st_dev = 1, .st_ino = 100};

	if (!w || inode_table_new(&st, &w->t) < 0)
		return -1;
	inode_table_on_free(w->t, count_freed, w);
	inode_view_enter_root(w->t, &w->a);
	inode_view_enter_root(w->t, &w->b);
	w->root = inode_get(w->t, &w->a, INODE_ROOT);
	*state = w;
	return w->root ? 0 : -1;
}

static int teardown(void **state)
{
	struct world *w = *state;

	inode_unref(w->t, w->root);
	inode_view_done(w->t, &w->a);
	inode_view_done(w->t, &w->b);
	inode_table_free(w->t);
	free(w);
	return 0;
}

static struct inode *enter(
	struct world *w, struct inode_view *v, struct inode *dir, const char *name, ino_t ino, mode_t mode)
{
	struct stat st = {.st_mode = mode, .st_dev = 1, .st_ino = ino};
	struct inode *i;

	assert_int_equal(inode_enter(w->t, v, dir, name, &st, &i), 0);
	return i;
}

static void test_known_only_where_looked_up(void **state)
{
	struct world *w = *state;
	struct inode *i = enter(w, &w->a, w->root, "f", 7, S_IFREG);
	uint64_t node = inode_node(i);

	assert_ptr_equal(inode_get(w->t, &w->a, node), i);
	assert_null(inode_get(w->t, &w->b, node));
	assert_true(inode_known(w->t, &w->a, i));
	assert_false(inode_known(w->t, &w->b, i));
	inode_unref(w->t, i);
	inode_unref(w->t, i);
}

static void test_forged_ids_are_nothing(void **state)
{
	static const uint64_t forged[] = {0, 2, 3, 0xdead0000, UINT64_MAX, UINT32_MAX, 1ull << 32,
		(1ull << 32) | 1, 0x7fffffffffffffff, INODE_MAX, INODE_MAX + 1ull};
	struct world *w = *state;

	for (size_t n = 0; n < sizeof(forged) / sizeof(forged[0]); n++) {
		assert_null(inode_get(w->t, &w->a, forged[n]));
		inode_forget(w->t, &w->a, forged[n], UINT64_MAX);
	}
	inode_forget(w->t, &w->a, INODE_ROOT, UINT64_MAX); /* the root is never forgotten */
	inode_unref(w->t, inode_get(w->t, &w->a, INODE_ROOT));
}

static void test_an_index_used_again_has_another_id(void **state)
{
	struct world *w = *state;
	struct inode *i = enter(w, &w->a, w->root, "f", 7, S_IFREG);
	uint64_t old = inode_node(i), new;

	inode_unref(w->t, i);
	inode_forget(w->t, &w->a, old, 1);
	assert_int_equal(w->freed, 1);
	i = enter(w, &w->a, w->root, "g", 8, S_IFREG);
	new = inode_node(i);
	assert_int_equal((uint32_t) new, (uint32_t)old);
	assert_int_not_equal(new, old);
	assert_null(inode_get(w->t, &w->a, old));
	inode_unref(w->t, i);
}

static void test_counts_are_per_session_and_may_underflow(void **state)
{
	struct world *w = *state;
	struct inode *i = enter(w, &w->a, w->root, "f", 7, S_IFREG);
	uint64_t node = inode_node(i);

	inode_unref(w->t, i);
	inode_unref(w->t, enter(w, &w->b, w->root, "f", 7, S_IFREG));
	inode_unref(w->t, enter(w, &w->b, w->root, "f", 7, S_IFREG));
	inode_forget(w->t, &w->a, node, 1000); /* more than it was given: only its own */
	assert_null(inode_get(w->t, &w->a, node));
	i = inode_get(w->t, &w->b, node);
	assert_non_null(i);
	inode_unref(w->t, i);
	inode_forget(w->t, &w->b, node, 1);
	assert_int_equal(w->freed, 0);
	inode_forget(w->t, &w->b, node, 1);
	assert_int_equal(w->freed, 1);
}

static void test_a_name_keeps_its_directories(void **state)
{
	struct world *w = *state;
	struct inode *d = enter(w, &w->a, w->root, "d", 10, S_IFDIR);
	struct inode *e = enter(w, &w->a, d, "e", 11, S_IFDIR), *f = enter(w, &w->a, e, "f", 12, S_IFREG);
	uint64_t fn = inode_node(f);

	inode_forget(w->t, &w->a, inode_node(d), 1);
	inode_forget(w->t, &w->a, inode_node(e), 1);
	inode_unref(w->t, d);
	inode_unref(w->t, e);
	assert_int_equal(w->freed, 0);
	assert_string_equal(inode_name(w->t, f)->name, "f");
	assert_string_equal(inode_name(w->t, e)->name, "e");
	assert_true(inode_is_below(w->t, f, d));
	assert_false(inode_is_below(w->t, d, f));
	inode_unref(w->t, f);
	inode_forget(w->t, &w->a, fn, 1);
	assert_int_equal(w->freed, 3); /* and nothing keeps them any more */
	assert_int_equal(inode_table_count(w->t), 1);
}

static void test_rename_and_links(void **state)
{
	struct world *w = *state;
	struct inode *f = enter(w, &w->a, w->root, "f", 7, S_IFREG);

	assert_int_equal(inode_name_add(w->t, f, w->root, "g"), 0);
	inode_name_remove(w->t, f, w->root, "f", false);
	assert_string_equal(inode_name(w->t, f)->name, "g");
	assert_null(inode_name(w->t, f)->next);
	inode_name_remove(w->t, f, w->root, "g", true);
	assert_null(inode_name(w->t, f));
	inode_unref(w->t, f);
}

static void test_the_number_of_a_removed_file_is_another_file(void **state)
{
	struct world *w = *state;
	struct inode *old = enter(w, &w->a, w->root, "f", 7, S_IFREG), *new;

	inode_name_remove(w->t, old, w->root, "f", true);
	new = enter(w, &w->a, w->root, "f", 7, S_IFREG);
	assert_ptr_not_equal(new, old);
	inode_unref(w->t, old);
	inode_unref(w->t, new);
}

static void test_the_end_of_a_session_leaves_the_others(void **state)
{
	struct world *w = *state;
	struct inode *i;
	uint64_t *list;
	size_t n;

	for (unsigned k = 0; k < 5000; k++) {
		char name[16];

		snprintf(name, sizeof(name), "%u", k);
		inode_unref(w->t, enter(w, &w->a, w->root, name, 1000 + k, S_IFREG));
	}
	i = enter(w, &w->b, w->root, "0", 1000, S_IFREG);
	assert_int_equal(inode_view_list(w->t, &w->a, &list, &n), 0);
	assert_int_equal(n, 5001);
	free(list);
	inode_view_done(w->t, &w->a);
	assert_int_equal(inode_table_count(w->t), 2);
	assert_ptr_equal(inode_get(w->t, &w->b, inode_node(i)), i);
	inode_unref(w->t, i);
	inode_unref(w->t, i);
}

static void test_conflicts_between_sessions(void **state)
{
	struct world *w = *state;
	struct inode *i = enter(w, &w->a, w->root, "f", 7, S_IFREG);
	bool conflict;

	inode_opened(w->t, i, 1, true, &conflict);
	assert_false(conflict);
	inode_opened(w->t, i, 1, false, &conflict);
	assert_false(conflict); /* one kernel alone agrees with itself */
	inode_opened(w->t, i, 2, false, &conflict);
	assert_true(conflict);
	inode_closed(w->t, i, true);
	inode_opened(w->t, i, 2, false, &conflict);
	assert_false(conflict); /* nobody writes any more */
	inode_opened(w->t, i, 2, true, &conflict);
	assert_true(conflict); /* others have pages of it */
	inode_unref(w->t, i);
}

static void count_full(void *arg)
{
	++*(unsigned *)arg;
}

static void enter_many(struct world *w, unsigned n, ino_t first)
{
	char name[32];

	for (unsigned k = 0; k < n; k++) {
		snprintf(name, sizeof(name), "%llu", (unsigned long long)first + k);
		inode_unref(w->t, enter(w, &w->a, w->root, name, first + k, S_IFREG));
	}
}

static void test_too_many_are_told_and_told_again(void **state)
{
	struct world *w = *state;
	uint64_t nodes[256];
	uint32_t slots;
	unsigned full = 0;

	inode_table_on_full(w->t, 80, count_full, &full);
	enter_many(w, 79, 1000);
	assert_int_equal(full, 0); /* with the root just 80 */
	enter_many(w, 1, 2000);
	assert_int_equal(full, 1);
	enter_many(w, 10, 3000);
	assert_int_equal(full, 1); /* not for each */
	enter_many(w, 1, 4000);
	assert_int_equal(full, 2);
	slots = w->a.cap;
	for (size_t n = inode_view_unused(w->t, &w->a, nodes, 256, &slots); n > 0; n--)
		inode_forget(w->t, &w->a, nodes[n - 1], 1);
	assert_int_equal(inode_table_count(w->t), 1);
	enter_many(w, 80, 5000);
	assert_int_equal(full, 3); /* from the beginning again */
}

/* What is replaced or removed below without a session: the next thing with that number is not taken for it. */
static void test_numbers_given_to_something_else(void **state)
{
	struct world *w = *state;
	struct stat was = {.st_mode = S_IFLNK, .st_dev = 1, .st_ino = 50, .st_nlink = 1}, now = was, other = was;
	struct inode *link, *dir, *again;

	assert_int_equal(inode_enter(w->t, &w->a, w->root, "link", &was, &link), 0);
	now.st_ino = 51;
	inode_renumber(w->t, &was, &now);
	other.st_mode = S_IFDIR;
	assert_int_equal(inode_enter(w->t, &w->a, w->root, "dir", &other, &dir), 0);
	assert_ptr_not_equal(dir, link);
	assert_int_equal(inode_enter(w->t, &w->a, w->root, "link", &now, &again), 0);
	assert_ptr_equal(again, link);
	inode_unref(w->t, again);

	inode_number_gone(w->t, &other);
	assert_null(inode_find(w->t, &other));
	assert_int_equal(inode_enter(w->t, &w->a, w->root, "file", &was, &again), 0);
	assert_ptr_not_equal(again, dir);
	inode_unref(w->t, again);
	inode_unref(w->t, dir);
	inode_unref(w->t, link);
}

static void test_the_limit_follows_the_memory(void **state)
{
	(void)state;
	assert_int_equal(inode_limit_for(0), INODE_LIMIT_LOW);
	assert_int_equal(inode_limit_for(1ull << 30), INODE_LIMIT_LOW);
	assert_in_range(inode_limit_for(4ull << 30), 2 * INODE_LIMIT_LOW, 4 * INODE_LIMIT_LOW);
	assert_int_equal(inode_limit_for(24ull << 30), INODE_LIMIT_HIGH);
	assert_int_equal(inode_limit_for(UINT64_MAX), INODE_LIMIT_HIGH);
}

static void test_only_the_unused_are_given_up(void **state)
{
	struct world *w = *state;
	struct inode *open = enter(w, &w->a, w->root, "open", 7, S_IFREG);
	struct inode *dir = enter(w, &w->a, w->root, "dir", 8, S_IFDIR);
	struct inode *f = enter(w, &w->a, dir, "f", 9, S_IFREG);
	struct inode *other = enter(w, &w->b, w->root, "other", 10, S_IFREG);
	uint64_t nodes[8], node_f = inode_node(f), node_dir = inode_node(dir), parent = 0;
	uint32_t slots = w->a.cap;
	char name[256];

	inode_unref(w->t, f);
	inode_unref(w->t, dir);
	inode_unref(w->t, other);
	assert_int_equal(inode_view_unused(w->t, &w->a, nodes, 8, &slots), 1);
	assert_int_equal(nodes[0], node_f); /* not what is open, what has names below it, what only another knows */
	assert_int_equal(slots, 0);
	assert_true(inode_view_name(w->t, &w->a, node_f, &parent, name));
	assert_string_equal(name, "f");
	assert_int_equal(parent, node_dir);
	assert_false(inode_view_name(w->t, &w->b, node_f, &parent, name));
	assert_false(inode_view_name(w->t, &w->a, inode_node(open), &parent, name));
	inode_forget(w->t, &w->a, node_f, 1);
	assert_false(inode_view_name(w->t, &w->a, node_f, &parent, name));
	slots = w->a.cap;
	assert_int_equal(inode_view_unused(w->t, &w->a, nodes, 8, &slots), 1);
	assert_int_equal(nodes[0], node_dir);
	assert_false(inode_view_name(w->t, &w->a, node_dir, &parent, name)); /* directories keep their names */
	inode_unref(w->t, open);
}

static void test_the_oldest_go_first(void **state)
{
	struct world *w = *state;
	uint64_t nodes[4], again[4];
	uint32_t slots = 1024;

	enter_many(w, 8, 1000);
	assert_int_equal(inode_view_unused(w->t, &w->a, nodes, 4, &slots), 4);
	assert_int_equal(inode_view_unused(w->t, &w->a, again, 4, &slots), 4);
	for (unsigned k = 0; k < 4; k++)
		assert_true(nodes[k] < again[0]); /* goes on where it was */
	slots = 0;
	assert_int_equal(inode_view_unused(w->t, &w->a, nodes, 4, &slots), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_known_only_where_looked_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forged_ids_are_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_index_used_again_has_another_id, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_counts_are_per_session_and_may_underflow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_name_keeps_its_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rename_and_links, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_number_of_a_removed_file_is_another_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_end_of_a_session_leaves_the_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_conflicts_between_sessions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_are_told_and_told_again, setup, teardown),
		cmocka_unit_test(test_the_limit_follows_the_memory),
		cmocka_unit_test_setup_teardown(test_numbers_given_to_something_else, setup, teardown),
		cmocka_unit_test_setup_teardown(test_only_the_unused_are_given_up, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_oldest_go_first, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
