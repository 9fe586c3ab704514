/* Record classes: labels of directories, re-wrapping, and what a save keeps. */
#include "tests/unit/store_fixture.h"

#include "fs/store/check.h"
#include "fs/store/file_impl.h"

#define MAIL 17
#define STAFF 18

static void expect_origin(struct store_dir *d, const char *name, uint16_t leaf_class, uint16_t class, uint16_t day)
{
	struct leaf_index leaf;
	uint16_t c, t;

	leaf = fixture_origin(d, name, &c, &t);
	assert_int_equal(leaf.class, leaf_class);
	assert_int_equal(c, class);
	assert_int_equal(t, day);
}

static void expect_text(struct store_dir *d, const char *name, const char *text)
{
	char buf[64] = "";
	struct file *f;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_read(f, buf, sizeof(buf), 0), strlen(text));
	assert_string_equal(buf, text);
	file_close(f);
}

static int rewrap(struct store_dir *d, const char *name, uint16_t class, uint16_t day, uint16_t origin)
{
	const struct rewrap to = {class, day, origin};
	struct file *f;
	int r = file_open(d, name, &f);

	if (r < 0)
		return r;
	r = file_rewrap(f, &to);
	if (r == 0)
		r = file_wait(f, true);
	file_close(f);
	return r;
}

static void test_label_is_inherited(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a = fixture_make_dir(x->root, "a"), *b;
	struct leaf_index leaf;
	bool labelled;
	struct stat st;

	assert_int_equal(store_dir_class(a, &labelled), CLASS_FIRST_POLICY);
	assert_false(labelled);
	assert_int_equal(store_dir_set_class(a, MAIL), 0);
	fixture_write_text(a, "f", "one");
	expect_origin(a, "f", MAIL, MAIL, TODAY);
	assert_int_equal(store_symlink(a, "l", "f", &st), 0);
	b = fixture_make_dir(a, "b");
	fixture_write_text(b, "g", "two");
	expect_origin(b, "g", MAIL, MAIL, TODAY);
	assert_int_equal(store_dir_class(b, &labelled), MAIL);
	assert_false(labelled);
	fixture_write_text(x->root, "h", "three");
	expect_origin(x->root, "h", CLASS_FIRST_POLICY, CLASS_FIRST_POLICY, TODAY);
	store_dir_unref(b);
	store_dir_unref(a);

	fixture_reopen(x);
	assert_int_equal(store_dir_open(x->root, "a", &a), 0);
	assert_int_equal(store_dir_class(a, &labelled), MAIL);
	assert_true(labelled);
	char entry[256];
	for (unsigned i = 0; i < 3; i++) {
		fixture_entry(a->fd, i, entry);
		if (link_leaf(a, entry, &leaf) == 0)
			break;
	}
	assert_int_equal(leaf.class, MAIL);
	/* Without it the parent's counts again. */
	assert_int_equal(store_dir_set_class(a, STORE_CLASS_NONE), 0);
	store_dir_unref(a);
	assert_int_equal(store_dir_open(x->root, "a", &a), 0);
	assert_int_equal(store_dir_class(a, &labelled), CLASS_FIRST_POLICY);
	assert_int_equal(store_dir_set_class(a, STORE_CLASS_NONE), 0);
	assert_int_equal(store_dir_set_class(a, CLASS_AUDIT), -EINVAL);
	store_dir_unref(a);
}

static void test_label_survives_rename(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a = fixture_make_dir(x->root, "a");
	bool labelled;

	assert_int_equal(store_dir_set_class(a, MAIL), 0);
	store_dir_unref(a);
	assert_int_equal(store_rename(x->root, "a", x->root, "b", 0), 0);
	assert_int_equal(store_dir_open(x->root, "b", &a), 0);
	assert_int_equal(store_dir_class(a, &labelled), MAIL);
	store_dir_unref(a);
}

static void ignore(const struct check_finding *f, void *arg)
{
	assert_string_equal(f->what, "xattr");
}

static bool go_on(const struct check_counts *c, const char *finished, void *arg)
{
	return true;
}

static uint64_t damaged(struct fixture *x)
{
	pthread_rwlock_t names = PTHREAD_RWLOCK_INITIALIZER;
	const struct check_options o = {.names = &names, .today = "2026-11-23", .found = ignore, .step = go_on};
	struct check_counts n = {0};

	assert_int_equal(store_check(x->store, &o, &n), 0);
	return n.damaged;
}

/* A label of another directory, or an altered one, is none: nothing is made there, what is there can be read. */
static void test_foreign_label(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a = fixture_make_dir(x->root, "a"), *b = fixture_make_dir(x->root, "b"), *c;
	uint8_t label[64];
	struct stat st;
	struct file *f;
	ssize_t n;

	fixture_write_text(b, "f", "one");
	assert_int_equal(store_dir_set_class(a, MAIL), 0);
	n = fgetxattr(a->fd, CLASS_XATTR, label, sizeof(label));
	assert_int_equal(n, 42);
	for (ssize_t i = -1; i < n; i++) {
		int to = i < 0 ? b->fd : a->fd;
		struct store_dir **d = i < 0 ? &b : &a;

		if (i >= 0)
			label[i] ^= 1;
		assert_int_equal(fsetxattr(to, CLASS_XATTR, label, (size_t)n, 0), 0);
		if (i >= 0)
			label[i] ^= 1;
		store_dir_unref(*d);
		assert_int_equal(store_dir_open(x->root, i < 0 ? "b" : "a", d), 0);
		assert_int_equal(file_create(*d, "g", 0644, &f, &st), -EBADMSG);
		assert_string_equal(store_damage_word(), "xattr");
		assert_int_equal(store_symlink(*d, "l", "f", &st), -EBADMSG);
	}
	expect_text(b, "f", "one");
	/* Nor below it, unless that has a label of its own. */
	c = fixture_make_dir(b, "c");
	assert_int_equal(file_create(c, "g", 0644, &f, &st), -EBADMSG);
	assert_int_equal(store_dir_set_class(c, STAFF), 0);
	fixture_write_text(c, "g", "two");
	store_dir_unref(c);
	assert_int_equal(damaged(x), 2);
	/* Setting it anew mends it. */
	assert_int_equal(store_dir_set_class(b, STAFF), 0);
	fixture_write_text(b, "g", "two");
	expect_origin(b, "g", STAFF, STAFF, TODAY);
	/* No program sees it. */
	assert_int_equal(store_listxattr(b, NULL, NULL, 0), 0);
	store_dir_unref(a);
	store_dir_unref(b);
}

static void test_rewrap(void **state)
{
	struct fixture *x = *state;
	struct leaf_index old, now;
	struct stat before, after;
	uint16_t class, day;

	fixture_write_text(x->root, "f", "one");
	assert_int_equal(store_lookup(x->root, "f", &before), 0);
	store_set_today(x->store, TODAY + 400);
	old = fixture_origin(x->root, "f", &class, &day);
	assert_int_equal(rewrap(x->root, "f", MAIL, day, MAIL), 0);
	expect_text(x->root, "f", "one");
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
	now = fixture_origin(x->root, "f", &class, &day);
	assert_int_equal(now.day, TODAY);
	fixture_reopen(x);
	expect_text(x->root, "f", "one");
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
	assert_int_equal(store_lookup(x->root, "f", &after), 0);
	assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim));
	/* The old leaf opens nothing any more; without the new one nothing does. */
	fixture_puncture(x, old);
	expect_text(x->root, "f", "one");
	fixture_puncture(x, now);
	struct file *f;
	assert_int_equal(file_open(x->root, "f", &f), -ENOKEY);
}

static void test_rewrap_while_open(void **state)
{
	struct fixture *x = *state;
	struct leaf_index old;
	uint16_t class, day;
	struct file *f;

	fixture_write_text(x->root, "f", "one");
	old = fixture_origin(x->root, "f", &class, &day);
	assert_int_equal(file_open(x->root, "f", &f), 0);
	assert_int_equal(rewrap(x->root, "f", MAIL, day, MAIL), 0);
	fixture_puncture(x, old);
	assert_int_equal(file_write(f, "TWO", 3, 0), 3);
	assert_int_equal(file_sync(f, false), 0);
	file_close(f);
	fixture_reopen(x);
	expect_text(x->root, "f", "TWO");
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
}

/* Its day being destroyed, it goes to the leaves of the next one, and its record still says where it comes from. */
static void test_rewrap_to_a_destroyed_day(void **state)
{
	struct fixture *x = *state;
	struct leaf_index now;
	uint16_t class, day;

	fixture_write_text(x->root, "f", "one");
	assert_int_equal(keytree_puncture(x->tree, (uint64_t)MAIL << 48 | (uint64_t)TODAY << 32, 32), 0);
	store_set_today(x->store, TODAY + 3);
	assert_int_equal(rewrap(x->root, "f", MAIL, TODAY, MAIL), 0);
	now = fixture_origin(x->root, "f", &class, &day);
	assert_int_equal(now.class, MAIL);
	assert_int_equal(now.day, TODAY + 1);
	assert_int_equal(day, TODAY);
	assert_int_equal(keytree_puncture(x->tree, (uint64_t)STAFF << 48, 16), 0);
	assert_int_equal(rewrap(x->root, "f", STAFF, TODAY, STAFF), -ENOKEY);
	expect_text(x->root, "f", "one");
}

/* Which numbers were given out is told to the last one; without any nothing can be made, and what is there opens. */
static void test_numbers(void **state)
{
	struct fixture *x = *state;
	struct store_numbers n, then;
	struct stat st;

	store_numbers(x->store, true, &n);
	fixture_write_text(x->root, "f", "one");
	fixture_write_text(x->root, "g", "two");
	store_numbers(x->store, true, &then);
	assert_int_equal(then.first, n.next);
	assert_int_equal(then.next, n.next + 2);
	assert_int_equal(then.from_day, TODAY);
	assert_int_equal(then.to_day, TODAY);
	/* Another day of which something is made tells, too. */
	store_set_today(x->store, TODAY + 3);
	fixture_write_text(x->root, "h", "three");
	assert_int_equal(rewrap(x->root, "h", MAIL, TODAY + 1, MAIL), 0);
	store_numbers(x->store, false, &n);
	assert_int_equal(n.first, then.next);
	assert_int_equal(n.next, n.first + 2);
	assert_int_equal(n.from_day, TODAY + 1);
	assert_int_equal(n.to_day, TODAY + 3);
	store_set_numbers_end(x->store, n.next);
	assert_int_equal(store_mkdir(x->root, "dir", 0755, &st), -EAGAIN);
	assert_int_equal(rewrap(x->root, "h", STAFF, TODAY, STAFF), -EAGAIN);
	expect_text(x->root, "h", "three");
	store_numbers(x->store, false, &then);
	assert_int_equal(then.next, n.next);
	store_set_numbers_end(x->store, n.next + 1);
	assert_int_equal(rewrap(x->root, "h", STAFF, TODAY, STAFF), 0);
}

static void test_rewrap_without_header(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(x->root, "f", 0644, &f, &st), 0);
	assert_int_equal(file_rewrap(f, &(struct rewrap){MAIL, TODAY, MAIL}), 0);
	assert_int_equal(file_write(f, "one", 3, 0), 3);
	file_close(f);
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
}

static void link_rewrap_of(struct fixture *x, const char *name, size_t n)
{
	char target[LINK_TARGET_MAX + 1], got[LINK_TARGET_MAX + 1], entry[256];
	struct leaf_index old, now;
	struct link_moved moved;
	struct stat st, before;

	memset(target, 't', n);
	target[n] = 0;
	assert_int_equal(store_symlink(x->root, name, target, &st), 0);
	assert_int_equal(store_lookup(x->root, name, &before), 0);
	fixture_entry(x->fd, 0, entry);
	assert_int_equal(link_leaf(x->root, entry, &old), 0);
	assert_int_equal(link_rewrap(x->root, entry, MAIL, TODAY - 5, &moved), 0);
	assert_int_equal(moved.was.st_ino, before.st_ino);
	assert_int_not_equal(moved.now.st_ino, before.st_ino);
	assert_int_equal(link_leaf(x->root, entry, &now), 0);
	assert_int_equal(now.class, MAIL);
	assert_int_equal(now.day, TODAY - 5);
	fixture_puncture(x, old);
	assert_int_equal(store_readlink(x->root, name, got, sizeof(got)), 0);
	assert_string_equal(got, target);
	assert_int_equal(store_lookup(x->root, name, &st), 0);
	assert_int_equal(st.st_ino, moved.now.st_ino);
	assert_int_equal(st.st_size, n);
	assert_memory_equal(&before.st_mtim, &st.st_mtim, sizeof(st.st_mtim));
	assert_int_equal(store_unlink(x->root, name), 0);
}

static void test_rewrap_link(void **state)
{
	struct fixture *x = *state;
	struct dirent *e;
	DIR *d;

	link_rewrap_of(x, "short", 10);
	link_rewrap_of(x, "long", 2000);
	d = fdopendir(openat(x->fd, ".", O_RDONLY | O_DIRECTORY));
	assert_non_null(d);
	while ((e = readdir(d))) /* nothing is left lying about */
		assert_true(strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			    strcmp(e->d_name, DIR_ID) == 0);
	closedir(d);
}

/* ---- saves ---- */

static void test_truncate_keeps_origin(void **state)
{
	struct fixture *x = *state;
	struct file *f;

	fixture_write_text(x->root, "f", "one");
	assert_int_equal(rewrap(x->root, "f", MAIL, TODAY, MAIL), 0);
	store_set_today(x->store, TODAY + 9);
	assert_int_equal(file_open(x->root, "f", &f), 0);
	assert_int_equal(file_truncate(f, 0), 0);
	assert_int_equal(file_write(f, "new", 3, 0), 3);
	file_close(f);
	fixture_reopen(x);
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
}

static void test_rename_over_keeps_origin(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;

	fixture_write_text(x->root, "f", "one");
	assert_int_equal(rewrap(x->root, "f", MAIL, TODAY, MAIL), 0);
	store_set_today(x->store, TODAY + 9);
	fixture_write_text(x->root, ".f.swp", "two");
	assert_int_equal(store_rename(x->root, ".f.swp", x->root, "f", 0), 0);
	expect_text(x->root, "f", "two");
	expect_origin(x->root, "f", CLASS_FIRST_POLICY, MAIL, TODAY);
	/* An empty one has no leaf yet: it gets the right one at once. */
	assert_int_equal(file_create(x->root, "empty", 0644, &f, &st), 0);
	file_close(f);
	assert_int_equal(store_rename(x->root, "empty", x->root, "f", 0), 0);
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
}

static void test_backup_then_new_keeps_origin(void **state)
{
	struct fixture *x = *state;

	fixture_write_text(x->root, "f", "one");
	assert_int_equal(rewrap(x->root, "f", MAIL, TODAY, MAIL), 0);
	store_set_today(x->store, TODAY + 9);
	assert_int_equal(store_rename(x->root, "f", x->root, "f~", 0), 0);
	fixture_write_text(x->root, "f", "two");
	expect_origin(x->root, "f", MAIL, MAIL, TODAY);
	assert_int_equal(store_unlink(x->root, "f~"), 0);
	/* Once; and only for what its name says. */
	assert_int_equal(store_rename(x->root, "f", x->root, "f.1", 0), 0);
	fixture_write_text(x->root, "f", "three");
	expect_origin(x->root, "f", CLASS_FIRST_POLICY, CLASS_FIRST_POLICY, TODAY + 9);
}

/* Leaves are drawn so that those of two loads do not meet. */
static void test_leaves_of_two_loads(void **state)
{
	struct fixture *x = *state;
	struct leaf_index a, b;
	struct key32 key;
	unsigned same = 0;

	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(store_new_leaf(x->store, MAIL, KEY_USE_WRAP, &a, &key), 0);
		fixture_reopen(x);
		assert_int_equal(store_new_leaf(x->store, MAIL, KEY_USE_WRAP, &b, &key), 0);
		same += (a.number >> 18) << 18 == a.number; /* 14 random bits and a count from 0 would be these */
		same += a.number == b.number;
	}
	assert_true(same < 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_label_is_inherited, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_label_survives_rename, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_foreign_label, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rewrap, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rewrap_while_open, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_numbers, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rewrap_to_a_destroyed_day, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rewrap_without_header, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rewrap_link, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_truncate_keeps_origin, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_rename_over_keeps_origin, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_backup_then_new_keeps_origin, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_leaves_of_two_loads, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
