/* A store in a directory of its own below $TMPDIR or /var/tmp, for the tests of the store's modules. */
#ifndef COFFER_STORE_FIXTURE_H
#define COFFER_STORE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/scope.h"
#include "fs/store/file_impl.h"
#include "fs/store/header.h"
#include "fs/store/sector.h"
#include "fs/store/store.h"
#include "tests/unit/folder.h"

#define TODAY 2517

struct fixture {
	char path[256];
	int fd;			/* of the store's folder, for looking behind it */
	struct keytree *tree;
	struct store *store;
	struct store_dir *root;
	uint8_t suite;
};

static inline void fixture_open(struct fixture *x)
{
	const struct store_options opt = {.suite = x->suite, .class = CLASS_FIRST_POLICY, .today = TODAY};
	int fd = open(x->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(store_open(fd, x->tree, &opt, &x->store), 0);
	assert_int_equal(store_dir_root(x->store, &x->root), 0);
}

static inline void fixture_close(struct fixture *x)
{
	store_dir_unref(x->root);
	store_close(x->store);
	x->root = NULL;
	x->store = NULL;
}

static inline void fixture_reopen(struct fixture *x)
{
	fixture_close(x);
	fixture_open(x);
}

static inline int fixture_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct fixture *x = calloc(1, sizeof(*x));

	if (!x || secret_init(4 << 20) < 0)
		return -1;
	x->fd = folder_make(x->path, sizeof(x->path), tmp ? tmp : "/var/tmp", "store");
	x->suite = *state ? *(const uint8_t *)*state : 0;
	if (x->fd < 0 || keytree_new(&x->tree) < 0)
		return -1;
	fixture_open(x);
	*state = x;
	return 0;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *x = *state;

	fixture_close(x);
	keytree_free(x->tree);
	close(x->fd);
	folder_remove(AT_FDCWD, x->path);
	free(x);
	return 0;
}

/* The backing's only entry that is a name (no dot); several: the `nth`. */
static inline void fixture_entry(int dirfd, unsigned nth, char entry[256])
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	struct dirent *e;

	assert_non_null(d);
	entry[0] = 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && nth-- == 0)
			snprintf(entry, 256, "%s", e->d_name);
	closedir(d);
	assert_true(entry[0] != 0);
}

static inline void fixture_write_file_in(struct store_dir *d, const char *name, const void *data, size_t n)
{
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(d, name, 0644, &f, &st), 0);
	assert_int_equal(file_write(f, data, n, 0), n);
	file_close(f);
}

static inline void fixture_write_file(struct fixture *x, const char *name, const void *data, size_t n)
{
	fixture_write_file_in(x->root, name, data, n);
}

static inline void fixture_write_text(struct store_dir *d, const char *name, const char *text)
{
	fixture_write_file_in(d, name, text, strlen(text));
}

/* The caller unrefs what it gets. */
static inline struct store_dir *fixture_make_dir(struct store_dir *parent, const char *name)
{
	struct store_dir *d;
	struct stat st;

	assert_int_equal(store_mkdir(parent, name, 0755, &st), 0);
	assert_int_equal(store_dir_open(parent, name, &d), 0);
	return d;
}

/* One file's key is destroyed. */
static inline void fixture_puncture(struct fixture *x, struct leaf_index leaf)
{
	assert_int_equal(keytree_puncture(x->tree, leaf_index_u64(leaf), 64), 0);
}

/* Where the key of a file stands, what class and what day it is of. */
static inline struct leaf_index fixture_origin(struct store_dir *d, const char *name, uint16_t *class, uint16_t *day)
{
	struct leaf_index leaf;
	struct file *f;

	assert_int_equal(file_open(d, name, &f), 0);
	file_origin(f, &leaf, class, day);
	file_close(f);
	return leaf;
}

#endif
