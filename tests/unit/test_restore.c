/* What a copy of a store gives back to the store itself, and what it does not. */
#include "tests/unit/store_fixture.h"

#include <sys/stat.h>

#include "fs/store/file_impl.h"
#include "fs/store/restore.h"

#define LATER 100 /* days after the copy */
#define LOST_MAX_ROWS 8

struct copy {
	struct store *store;
	char path[300];
	struct {
		char path[256], word[32];
		int error;
	} lost[LOST_MAX_ROWS];
	size_t n;
};

static void put(struct store_dir *d, const char *name, const char *text, uint64_t at)
{
	struct file *f;
	struct stat st;

	if (file_open(d, name, &f) < 0)
		assert_int_equal(file_create(d, name, 0640, &f, &st), 0);
	assert_int_equal(file_write(f, text, strlen(text), at), strlen(text));
	assert_int_equal(file_setxattr(f, "user.note", text, strlen(text), 0), 0);
	assert_int_equal(file_sync(f, false), 0);
	assert_int_equal(file_utimens(f, (struct timespec[2]){{.tv_sec = 1000}, {.tv_sec = 2000}}), 0);
	file_close(f);
}

static void expect(struct store_dir *d, const char *name, const char *text, uint64_t at)
{
	char buf[256] = "", note[256] = "";
	struct leaf_index leaf;
	uint16_t class, day;
	struct file *f;
	struct stat st;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_size(f), at + strlen(text));
	assert_int_equal(file_read(f, buf, sizeof(buf), at), strlen(text));
	assert_string_equal(buf, text);
	assert_int_equal(file_getxattr(f, "user.note", note, sizeof(note)), strlen(text));
	file_origin(f, &leaf, &class, &day);
	assert_int_equal(day, TODAY);
	assert_int_equal(leaf.day, TODAY);
	assert_int_equal(class, CLASS_FIRST_POLICY);
	file_close(f);
	assert_int_equal(store_lookup(d, name, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_mtim.tv_sec, 2000);
}

static struct store_dir *dir(struct store_dir *d, const char *name)
{
	struct store_dir *below = NULL;
	struct stat st;

	if (store_lookup(d, name, &st) < 0)
		assert_int_equal(store_mkdir(d, name, 0750, &st), 0);
	assert_int_equal(store_dir_open(d, name, &below), 0);
	return below;
}

/* a/{one, two, big (a hole, then text), link, empty}, a/b/three; and a copy of all that, opened LATER beside it. */
static void fill(struct fixture *x, struct copy *c)
{
	const struct store_options opt = {.class = CLASS_FIRST_POLICY, .today = TODAY + LATER};
	struct store_dir *a = dir(x->root, "a"), *b = dir(a, "b");
	char command[700];
	struct file *f;
	struct stat st;

	put(a, "one", "first", 0);
	put(a, "two", "second", 0);
	put(a, "big", "far away", 5000000);
	put(b, "three", "third", 0);
	assert_int_equal(store_symlink(a, "link", "one", &st), 0);
	assert_int_equal(file_create(a, "empty", 0600, &f, &st), 0);
	file_close(f);
	store_dir_unref(b);
	store_dir_unref(a);
	snprintf(c->path, sizeof(c->path), "%s.copy", x->path);
	snprintf(command, sizeof(command), "cp -a '%s' '%s'", x->path, c->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(store_open(open(c->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), x->tree, &opt, &c->store), 0);
	store_set_today(x->store, TODAY + LATER);
}

static void drop(struct copy *c)
{
	store_close(c->store);
	folder_remove(AT_FDCWD, c->path);
}

static void note_lost(const char *path, int error, const char *word, void *arg)
{
	struct copy *c = arg;

	assert_true(c->n < LOST_MAX_ROWS);
	snprintf(c->lost[c->n].path, sizeof(c->lost[0].path), "%s", path ? path : "?");
	snprintf(c->lost[c->n].word, sizeof(c->lost[0].word), "%s", word);
	c->lost[c->n++].error = error;
}

static int all(struct fixture *x, struct copy *c, const char *path, const char *to, const char *expected)
{
	struct restore_options o = {.path = path, .to = to, .beside = ".back", .lost = note_lost, .arg = c};
	struct restore_counts counts;
	struct restore *r;
	int e;

	c->n = 0;
	e = restore_new(c->store, x->store, &o, &r);
	if (e < 0)
		return e;
	while ((e = restore_step(r, 1)) == 1)
		;
	restore_counts(r, &counts);
	assert_int_equal(counts.lost, c->n);
	assert_string_equal(restore_target(r), expected);
	restore_free(r);
	return e;
}

static struct leaf_index leaf_of(struct store_dir *d, const char *name)
{
	uint16_t class, day;

	return fixture_origin(d, name, &class, &day);
}

static void test_a_file_comes_back(void **state)
{
	struct fixture *x = *state;
	struct copy c = {0};
	struct store_dir *a;

	fill(x, &c);
	a = dir(x->root, "a");
	assert_int_equal(store_unlink(a, "one"), 0);
	assert_int_equal(all(x, &c, "a/one", NULL, "a/one"), 0);
	expect(a, "one", "first", 0);
	put(a, "one", "FIRST", 0);
	assert_int_equal(all(x, &c, "a/one", NULL, "a/one.back"), 0);
	assert_int_equal(all(x, &c, "a/one", NULL, "a/one.back-2"), 0);
	expect(a, "one.back", "first", 0);
	expect(a, "one", "FIRST", 0);
	assert_int_equal(all(x, &c, "a/big", "a/b/far", "a/b/far"), 0);
	assert_int_equal(c.n, 0);
	store_dir_unref(a);
	drop(&c);
}

static void test_a_tree_comes_back(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a, *b;
	char target[64];
	struct copy c = {0};
	struct stat st;

	fill(x, &c);
	assert_int_equal(store_rename(x->root, "a", x->root, "gone", 0), 0);
	assert_int_equal(all(x, &c, "a/b/three", NULL, "a/b/three"), 0); /* its directories as well */
	assert_int_equal(all(x, &c, "a", NULL, "a.back"), 0);
	assert_int_equal(all(x, &c, "", "whole", "whole"), 0);
	assert_int_equal(c.n, 0);
	a = dir(x->root, "a.back");
	b = dir(a, "b");
	expect(a, "one", "first", 0);
	expect(a, "big", "far away", 5000000);
	expect(b, "three", "third", 0);
	assert_int_equal(store_readlink(a, "link", target, sizeof(target)), 0);
	assert_string_equal(target, "one");
	assert_int_equal(store_lookup(a, "empty", &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(store_lookup(x->root, "a.back", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	store_dir_unref(b);
	store_dir_unref(a);
	fixture_reopen(x); /* places are right: all opens again */
	a = dir(x->root, "whole");
	b = dir(a, "a");
	expect(b, "two", "second", 0);
	store_dir_unref(b);
	store_dir_unref(a);
	drop(&c);
}

static void test_what_was_shredded_does_not(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a;
	struct copy c = {0};
	struct stat st;

	fill(x, &c);
	a = dir(x->root, "a");
	fixture_puncture(x, leaf_of(a, "one"));
	store_dir_unref(a);
	assert_int_equal(all(x, &c, "a/one", "here", ""), 0);
	assert_int_equal(c.n, 1);
	assert_int_equal(c.lost[0].error, -ENOKEY);
	assert_int_equal(all(x, &c, "a", NULL, "a.back"), 0);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.lost[0].path, "a/one");
	a = dir(x->root, "a.back");
	assert_int_equal(store_lookup(a, "one", &st), -ENOENT);
	expect(a, "two", "second", 0);
	store_dir_unref(a);
	/* the day of all of them, the link too: nothing is made anew under a key that was destroyed */
	assert_int_equal(keytree_puncture(x->tree, (uint64_t)CLASS_FIRST_POLICY << 48 | (uint64_t)TODAY << 32, 32), 0);
	assert_int_equal(all(x, &c, "a", NULL, "a.back-2"), 0);
	assert_int_equal(c.n, 5);
	for (size_t i = 0; i < c.n; i++)
		assert_int_equal(c.lost[i].error, -ENOKEY);
	drop(&c);
}

static void test_damage_gives_no_part_of_a_file(void **state)
{
	struct fixture *x = *state;
	char command[700];
	struct store_dir *a;
	struct copy c = {0};
	struct stat st;

	fill(x, &c);
	snprintf(command, sizeof(command),
		"f=$(find '%s' -type f -size +4000k) && printf X | dd of=\"$f\" bs=1 seek=$(( $(stat -c %%s \"$f\") - 4080 )) "
		"conv=notrunc status=none",
		c.path);
	put(x->root, "before", "x", 0);
	assert_int_equal(system(command), 0);
	assert_int_equal(all(x, &c, "a", NULL, "a.back"), 0);
	assert_int_equal(c.n, 1);
	assert_string_equal(c.lost[0].path, "a/big");
	assert_int_equal(c.lost[0].error, -EBADMSG);
	assert_string_equal(c.lost[0].word, "sector");
	a = dir(x->root, "a.back");
	assert_int_equal(store_lookup(a, "big", &st), -ENOENT);
	store_dir_unref(a);
	drop(&c);
}

static void test_refusals(void **state)
{
	struct fixture *x = *state;
	struct copy c = {0};

	fill(x, &c);
	assert_int_equal(all(x, &c, "a/none", NULL, ""), -ENOENT);
	assert_int_equal(all(x, &c, "none/one", NULL, ""), -ENOENT);
	assert_int_equal(all(x, &c, "a/one", "a/two", ""), -EEXIST);
	assert_int_equal(all(x, &c, "a/one", "none/two", ""), -ENOENT);
	assert_int_equal(all(x, &c, "a//one", NULL, ""), -EINVAL);
	assert_int_equal(all(x, &c, "/a", NULL, ""), -EINVAL);
	assert_int_equal(all(x, &c, "a/../a", NULL, ""), -EINVAL);
	drop(&c);
}

#define WITH_STORE(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

static bool is_about(struct fixture *x, const char *path, const char *name, const char *id)
{
	scoped(subjects_freep) struct subjects *s = NULL;
	struct store_dir *d = *path ? dir(x->root, path) : store_dir_ref(x->root);
	struct file *f;
	bool yes;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_subjects(f, &s), 0);
	yes = subjects_has(s, id, strlen(id)) || subjects_has(d->own, id, strlen(id)) || subjects_has(d->above, id, strlen(id));
	file_close(f);
	store_dir_unref(d);
	return yes;
}

/* Whom a file was about comes back with it, also what it had of directories above it. */
static void test_labels_come_back(void **state)
{
	struct fixture *x = *state;
	struct copy c = {0};
	struct store_dir *a;
	struct file *f;

	a = dir(x->root, "a");
	put(a, "one", "first", 0);
	assert_int_equal(file_open(a, "one", &f), 0);
	assert_int_equal(file_subject_set(f, "bob", 3, false), 1);
	file_close(f);
	store_dir_unref(a);
	a = dir(x->root, "a");
	assert_int_equal(store_dir_subject_set(a, "alice", 5, false), 1);
	store_dir_unref(a);
	fill(x, &c);
	assert_int_equal(all(x, &c, "a/one", "moved", "moved"), 0);
	assert_true(is_about(x, "", "moved", "alice") && is_about(x, "", "moved", "bob"));
	assert_int_equal(all(x, &c, "a/b", "b", "b"), 0);
	assert_true(is_about(x, "b", "three", "alice") && !is_about(x, "b", "three", "bob"));
	assert_int_equal(all(x, &c, "a", "again", "again"), 0);
	assert_true(is_about(x, "again", "two", "alice") && !is_about(x, "again", "two", "bob"));
	assert_true(is_about(x, "again", "one", "bob"));
	assert_int_equal(c.n, 0);
	drop(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_a_file_comes_back),
		WITH_STORE(test_a_tree_comes_back),
		WITH_STORE(test_what_was_shredded_does_not),
		WITH_STORE(test_damage_gives_no_part_of_a_file),
		WITH_STORE(test_labels_come_back),
		WITH_STORE(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
