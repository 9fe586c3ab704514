/* Files by their names, and what a listing says: for test_store and test_store_outside. */
#ifndef COFFER_TESTS_STORE_TREE_FIXTURE_H
#define COFFER_TESTS_STORE_TREE_FIXTURE_H

#include "store_fixture.h"

static inline struct store_dir *sub(struct fixture *x, const char *name)
{
	struct store_dir *d;

	assert_int_equal(store_dir_open(x->root, name, &d), 0);
	return d;
}

static inline struct store_dir *make_sub(struct fixture *x, const char *name)
{
	struct stat st;

	assert_int_equal(store_mkdir(x->root, name, 0755, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	return sub(x, name);
}

static inline void put(struct store_dir *d, const char *name, const char *text)
{
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(d, name, 0644, &f, &st), 0);
	assert_int_equal(file_write(f, text, strlen(text), 0), strlen(text));
	file_close(f);
}

static inline void expect(struct store_dir *d, const char *name, const char *text)
{
	char buf[256] = {0};
	struct file *f;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_read(f, buf, sizeof(buf) - 1, 0), strlen(text));
	assert_string_equal(buf, text);
	file_close(f);
}

static inline void expect_damage(struct store_dir *d, const char *name, const char *word)
{
	struct file *f;

	assert_int_equal(file_open(d, name, &f), -EBADMSG);
	assert_string_equal(store_damage_word(), word);
}

static inline void expect_none(struct store_dir *d, const char *name)
{
	struct stat st;

	assert_int_equal(store_lookup(d, name, &st), -ENOENT);
}

struct listing {
	char names[64][STORE_NAME_MAX + 1];
	unsigned count, stop_at;
	uint64_t cookie;
};

static inline int take_entry(const struct store_entry *e, void *arg)
{
	struct listing *l = arg;

	if (l->count == l->stop_at)
		return 1;
	snprintf(l->names[l->count++], STORE_NAME_MAX + 1, "%s", e->name);
	l->cookie = e->cookie;
	return 0;
}

static inline void list(struct store_dir *d, unsigned step, struct listing *l, unsigned *ret_damaged)
{
	struct store_iter *i;
	unsigned before, damaged;

	memset(l, 0, sizeof(*l));
	*ret_damaged = 0;
	assert_int_equal(store_iter_new(d, &i), 0);
	do {
		before = l->count;
		l->stop_at = before + step;
		assert_int_equal(store_iter_read(i, l->cookie, take_entry, l, &damaged), 0);
		*ret_damaged += damaged;
	} while (l->count == before + step);
	store_iter_free(i);
}

static inline bool listed(const struct listing *l, const char *name)
{
	unsigned i, found = 0;

	for (i = 0; i < l->count; i++)
		found += strcmp(l->names[i], name) == 0;
	return found == 1;
}

/* What the store's own directory calls the entry that came last: the one not in `known`. */
static inline void entry_of(struct fixture *x, const char *name, char entry[256])
{
	struct dirent *e;
	struct stat want, st;
	DIR *d;

	assert_int_equal(store_lookup(x->root, name, &want), 0);
	d = fdopendir(openat(x->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	entry[0] = 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && fstatat(x->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			st.st_ino == want.st_ino)
			snprintf(entry, 256, "%s", e->d_name);
	closedir(d);
	assert_true(entry[0] != 0);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

#endif
