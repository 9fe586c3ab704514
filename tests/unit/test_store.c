/* The tree: names, directories, links, renames; and what an edited store must answer. */
#include "store_fixture.h"

#include <grp.h>
#include <sys/wait.h>

static struct store_dir *sub(struct fixture *x, const char *name)
{
	struct store_dir *d;

	assert_int_equal(store_dir_open(x->root, name, &d), 0);
	return d;
}

static struct store_dir *make_sub(struct fixture *x, const char *name)
{
	struct stat st;

	assert_int_equal(store_mkdir(x->root, name, 0755, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	return sub(x, name);
}

static void put(struct store_dir *d, const char *name, const char *text)
{
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(d, name, 0644, &f, &st), 0);
	assert_int_equal(file_write(f, text, strlen(text), 0), strlen(text));
	file_close(f);
}

static void expect(struct store_dir *d, const char *name, const char *text)
{
	char buf[256] = {0};
	struct file *f;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_read(f, buf, sizeof(buf) - 1, 0), strlen(text));
	assert_string_equal(buf, text);
	file_close(f);
}

static void expect_damage(struct store_dir *d, const char *name, const char *word)
{
	struct file *f;

	assert_int_equal(file_open(d, name, &f), -EBADMSG);
	assert_string_equal(store_damage_word(), word);
}

static void expect_none(struct store_dir *d, const char *name)
{
	struct stat st;

	assert_int_equal(store_lookup(d, name, &st), -ENOENT);
}

struct listing {
	char names[64][STORE_NAME_MAX + 1];
	unsigned count, stop_at;
	uint64_t cookie;
};

static int take_entry(const struct store_entry *e, void *arg)
{
	struct listing *l = arg;

	if (l->count == l->stop_at)
		return 1;
	snprintf(l->names[l->count++], STORE_NAME_MAX + 1, "%s", e->name);
	l->cookie = e->cookie;
	return 0;
}

static void list(struct store_dir *d, unsigned step, struct listing *l, unsigned *ret_damaged)
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

static bool listed(const struct listing *l, const char *name)
{
	unsigned i, found = 0;

	for (i = 0; i < l->count; i++)
		found += strcmp(l->names[i], name) == 0;
	return found == 1;
}

/* What the store's own directory calls the entry that came last: the one not in `known`. */
static void entry_of(struct fixture *x, const char *name, char entry[256])
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

static void test_names(void **state)
{
	static const size_t lengths[] = {1, 100, 159, 160, 161, 200, 254, 255};
	struct fixture *x = *state;
	char name[300];
	struct listing l;
	unsigned damaged, step;
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(name, 'a' + (int)i, lengths[i]);
		name[lengths[i]] = 0;
		put(x->root, name, name + lengths[i] / 2);
	}
	fixture_reopen(x);
	for (step = 1; step <= 64; step = step * 4) {
		list(x->root, step, &l, &damaged);
		assert_int_equal(damaged, 0);
		assert_int_equal(l.count, ARRAY_SIZE(lengths));
	}
	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(name, 'a' + (int)i, lengths[i]);
		name[lengths[i]] = 0;
		assert_true(listed(&l, name));
		expect(x->root, name, name + lengths[i] / 2);
		assert_int_equal(store_unlink(x->root, name), 0);
		expect_none(x->root, name);
	}
	memset(name, 'x', 256);
	name[256] = 0;
	assert_int_equal(store_lookup(x->root, name, &st), -ENAMETOOLONG);
	list(x->root, 64, &l, &damaged);
	assert_int_equal(l.count + damaged, 0);
}

static void test_long_name_moves(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "d");
	char name[201], other[231];
	struct listing l;
	unsigned damaged;

	memset(name, 'n', 200);
	memset(other, 'o', 230);
	name[200] = other[230] = 0;
	put(x->root, name, "text");
	assert_int_equal(store_rename(x->root, name, d, other, 0), 0);
	expect(d, other, "text");
	assert_int_equal(store_rename(d, other, d, "short", 0), 0);
	assert_int_equal(store_rename(d, "short", d, other, RENAME_NOREPLACE), 0);
	list(d, 64, &l, &damaged);
	assert_int_equal(damaged, 0);
	assert_true(l.count == 1 && listed(&l, other));
	assert_int_equal(store_unlink(d, other), 0);
	store_dir_unref(d);
	assert_int_equal(store_rmdir(x->root, "d"), 0);
}

static void test_rename_files(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "d");

	put(x->root, "a", "one");
	put(x->root, "b", "two");
	assert_int_equal(store_rename(x->root, "a", x->root, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(store_rename(x->root, "a", x->root, "b", 8), -EINVAL);
	assert_int_equal(store_rename(x->root, "none", x->root, "b", 0), -ENOENT);
	assert_int_equal(store_rename(x->root, "a", x->root, "d", 0), -EISDIR);
	assert_int_equal(store_rename(x->root, "d", x->root, "a", 0), -ENOTDIR);
	expect(x->root, "a", "one");
	assert_int_equal(store_rename(x->root, "a", d, "b", 0), 0);
	expect(d, "b", "one");
	assert_int_equal(store_rename(d, "b", x->root, "b", RENAME_EXCHANGE), 0);
	expect(d, "b", "two");
	expect(x->root, "b", "one");
	assert_int_equal(store_rename(x->root, "b", d, "b", 0), 0);
	expect(d, "b", "one");
	expect_none(x->root, "b");
	store_dir_unref(d);
}

/* A file that has no header yet is renamed while it is open, then written. */
static void test_rename_before_content(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "d");
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(x->root, "tmp", 0600, &f, &st), 0);
	assert_int_equal(store_rename(x->root, "tmp", d, "final", 0), 0);
	assert_int_equal(file_write(f, "text", 4, 0), 4);
	file_close(f);
	expect(d, "final", "text");
	assert_int_equal(file_create(x->root, "empty", 0600, &f, &st), 0);
	file_close(f);
	assert_int_equal(store_rename(x->root, "empty", x->root, "later", 0), 0);
	assert_int_equal(file_open(x->root, "later", &f), 0);
	assert_int_equal(file_write(f, "text", 4, 0), 4);
	file_close(f);
	expect(x->root, "later", "text");
	store_dir_unref(d);
}

static void test_directories(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a = make_sub(x, "a"), *b;
	struct stat st;

	put(a, "f", "text");
	assert_int_equal(store_rmdir(x->root, "a"), -ENOTEMPTY);
	assert_int_equal(store_mkdir(x->root, "a", 0700, &st), -EEXIST);
	assert_int_equal(store_unlink(x->root, "a"), -EISDIR);
	store_dir_unref(make_sub(x, "empty"));
	store_dir_unref(make_sub(x, "full"));
	b = sub(x, "full");
	put(b, "g", "other");
	assert_int_equal(store_rename(x->root, "a", x->root, "full", 0), -ENOTEMPTY);
	assert_int_equal(store_rename(x->root, "a", a, "inside", 0), -EINVAL);
	expect(a, "f", "text");
	assert_int_equal(store_rename(x->root, "a", x->root, "empty", 0), 0);
	expect(a, "f", "text"); /* the open one follows */
	store_dir_unref(a);
	a = sub(x, "empty");
	expect(a, "f", "text");
	assert_int_equal(store_rename(x->root, "empty", b, "moved", 0), 0);
	store_dir_unref(a);
	assert_int_equal(store_dir_open(b, "moved", &a), 0);
	assert_int_equal(store_rename(b, "moved", x->root, "full", RENAME_EXCHANGE), -EINVAL);
	store_dir_unref(make_sub(x, "peer"));
	assert_int_equal(store_rename(b, "moved", x->root, "peer", RENAME_EXCHANGE), 0);
	store_dir_unref(a);
	store_dir_unref(b);
	fixture_reopen(x);
	a = sub(x, "peer");
	expect(a, "f", "text");
	store_dir_unref(a);
}

/* Every state that a crash in mkdir, rmdir or rename of a directory leaves is legal. */
static void test_directory_crashes(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "d");
	char text[128] = {0}, entry[256], path[300];

	store_dir_unref(d);
	entry_of(x, "d", entry);
	snprintf(path, sizeof(path), "%s/.id", entry);
	assert_int_equal(readlinkat(x->fd, path, text, sizeof(text) - 1), 43);
	assert_int_equal(unlinkat(x->fd, path, 0), 0);
	d = sub(x, "d"); /* empty: a fresh one */
	put(d, "f", "text");
	store_dir_unref(d);
	assert_int_equal(unlinkat(x->fd, path, 0), 0);
	assert_int_equal(store_dir_open(x->root, "d", &d), -EBADMSG); /* not empty */
	assert_string_equal(store_damage_word(), "directory");
	assert_int_equal(symlinkat(text, x->fd, path), 0); /* an old id of this place: names do not open */
	d = sub(x, "d");
	expect_none(d, "f");
	store_dir_unref(d);
}

static void test_rename_crash(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "old");
	char entry[256], new_entry[256], from[300], to[300], text[64] = {0};
	ssize_t n;

	put(d, "f", "text");
	store_dir_unref(d);
	/* Learn what the new place's id looks like by renaming there and back. */
	assert_int_equal(store_rename(x->root, "old", x->root, "new", 0), 0);
	entry_of(x, "new", new_entry);
	snprintf(from, sizeof(from), "%s/.id", new_entry);
	n = readlinkat(x->fd, from, text, sizeof(text));
	assert_int_equal(n, 43);
	assert_int_equal(store_rename(x->root, "new", x->root, "old", 0), 0);
	entry_of(x, "old", entry);
	snprintf(to, sizeof(to), "%s/.id+", entry);
	/* Before the move: both ids, old place. */
	assert_int_equal(symlinkat(text, x->fd, to), 0);
	d = sub(x, "old");
	expect(d, "f", "text");
	store_dir_unref(d);
	/* After the move, before the old id went. */
	assert_int_equal(renameat(x->fd, entry, x->fd, new_entry), 0);
	d = sub(x, "new");
	expect(d, "f", "text");
	store_dir_unref(d);
	assert_int_equal(readlinkat(x->fd, from, text, sizeof(text)), 43);
	/* Moved back by hand: that is no crash any more. */
	assert_int_equal(renameat(x->fd, new_entry, x->fd, entry), 0);
	assert_int_equal(store_dir_open(x->root, "old", &d), -EBADMSG);
	assert_string_equal(store_damage_word(), "directory");
}

static void test_swapped(void **state)
{
	struct fixture *x = *state;
	char a[256], b[256];
	struct store_dir *d;

	put(x->root, "a", "one");
	put(x->root, "b", "two");
	entry_of(x, "a", a);
	entry_of(x, "b", b);
	assert_int_equal(renameat2(x->fd, a, x->fd, b, RENAME_EXCHANGE), 0);
	expect_damage(x->root, "a", "place");
	expect_damage(x->root, "b", "place");
	/* Nor does a rename make it right. */
	assert_int_equal(store_rename(x->root, "a", x->root, "c", 0), -EBADMSG);
	store_dir_unref(make_sub(x, "d1"));
	store_dir_unref(make_sub(x, "d2"));
	entry_of(x, "d1", a);
	entry_of(x, "d2", b);
	assert_int_equal(renameat2(x->fd, a, x->fd, b, RENAME_EXCHANGE), 0);
	assert_int_equal(store_dir_open(x->root, "d1", &d), -EBADMSG);
	assert_string_equal(store_damage_word(), "directory");
	assert_int_equal(store_rename(x->root, "d2", x->root, "d3", 0), -EBADMSG);
}

static void test_place_missing(void **state)
{
	struct fixture *x = *state;
	char entry[256];
	int fd;

	put(x->root, "a", "one");
	entry_of(x, "a", entry);
	fd = openat(x->fd, entry, O_RDWR | O_CLOEXEC);
	assert_int_equal(fremovexattr(fd, "user.coffer.place"), 0);
	close(fd);
	expect_damage(x->root, "a", "place");
}

static void test_names_altered(void **state)
{
	struct fixture *x = *state;
	char entry[256], other[256], name[201];
	struct listing l;
	unsigned damaged;
	struct dirent *e;
	DIR *d;

	put(x->root, "a", "one");
	entry_of(x, "a", entry);
	snprintf(other, sizeof(other), "%s", entry);
	other[5] = other[5] == 'A' ? 'B' : 'A';
	assert_int_equal(renameat(x->fd, entry, x->fd, other), 0);
	assert_int_equal(mkdirat(x->fd, "foreign", 0700), 0);
	memset(name, 'n', 200);
	name[200] = 0;
	put(x->root, name, "long");
	list(x->root, 64, &l, &damaged);
	assert_int_equal(damaged, 2);
	assert_string_equal(store_damage_word(), "name");
	assert_true(l.count == 1 && listed(&l, name));
	/* Without its side symlink a long name cannot be read, but still be found. */
	d = fdopendir(openat(x->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	while ((e = readdir(d)))
		if (strncmp(e->d_name, ".n", 2) == 0)
			assert_int_equal(unlinkat(x->fd, e->d_name, 0), 0);
	closedir(d);
	list(x->root, 64, &l, &damaged);
	assert_int_equal(damaged, 3);
	expect(x->root, name, "long");
}

static void test_symlinks(void **state)
{
	static const size_t lengths[] = {1, 2, 3, 4, 59, 734, 735, 736, 3039, 4095};
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "d");
	char target[4100], back[4100], name[16];
	struct stat st;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(target, 't', lengths[i]);
		target[lengths[i]] = 0;
		snprintf(name, sizeof(name), "l%zu", i);
		assert_int_equal(store_symlink(x->root, name, target, &st), 0);
		assert_int_equal(st.st_size, lengths[i]);
		assert_int_equal(store_link(x->root, name, d, name), 0);
		assert_int_equal(store_unlink(x->root, name), 0);
		assert_int_equal(store_rename(d, name, x->root, name, 0), 0);
		assert_int_equal(store_lookup(x->root, name, &st), 0);
		assert_true(S_ISLNK(st.st_mode));
		assert_int_equal(st.st_size, lengths[i]);
		assert_int_equal(store_readlink(x->root, name, back, sizeof(back)), 0);
		assert_string_equal(back, target);
		assert_int_equal(store_readlink(x->root, name, back, lengths[i]), -ERANGE);
	}
	memset(target, 't', 4096);
	target[4096] = 0;
	assert_int_equal(store_symlink(x->root, "too-long", target, &st), -ENAMETOOLONG);
	assert_int_equal(store_symlink(x->root, "none", "", &st), -ENOENT);
	assert_int_equal(store_symlink(x->root, "l0", "t", &st), -EEXIST);
	put(x->root, "file", "text");
	assert_int_equal(store_readlink(x->root, "file", back, sizeof(back)), -EINVAL);
	assert_int_equal(store_rename(x->root, "l9", x->root, "l0", 0), 0);
	assert_int_equal(store_readlink(x->root, "l0", back, sizeof(back)), 0);
	assert_int_equal(strlen(back), 4095);
	assert_int_equal(store_chmod(x->root, "l0", 0777), -EOPNOTSUPP);
	store_dir_unref(d);
	assert_int_equal(store_rmdir(x->root, "d"), 0);
}

static void test_symlink_altered(void **state)
{
	struct fixture *x = *state;
	char entry[256], text[256], back[256];
	struct stat st;
	ssize_t n, i;
	int r;

	assert_int_equal(store_symlink(x->root, "l", "some/where", &st), 0);
	entry_of(x, "l", entry);
	n = readlinkat(x->fd, entry, text, sizeof(text) - 1);
	assert_true(n > 0);
	text[n] = 0;
	for (i = 0; i < n; i++) {
		char was = text[i];

		text[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(unlinkat(x->fd, entry, 0), 0);
		assert_int_equal(symlinkat(text, x->fd, entry), 0);
		r = store_readlink(x->root, "l", back, sizeof(back));
		assert_int_equal(r, -EBADMSG);
		assert_string_equal(store_damage_word(), "link");
		text[i] = was;
	}
	unlinkat(x->fd, entry, 0);
	assert_int_equal(symlinkat("=99999:../../../etc/passwd", x->fd, entry), 0);
	assert_int_equal(store_readlink(x->root, "l", back, sizeof(back)), -EBADMSG);
	/* A symlink where a file or directory was is not followed. */
	unlinkat(x->fd, entry, 0);
	assert_int_equal(symlinkat("/etc", x->fd, entry), 0);
	struct store_dir *d;
	struct file *f;
	assert_true(store_dir_open(x->root, "l", &d) < 0);
	assert_true(file_open(x->root, "l", &f) < 0);
}

static void test_hard_links(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "d");
	struct stat st;
	struct file *f;

	put(x->root, "a", "text");
	assert_int_equal(store_link(x->root, "a", d, "b"), 0);
	assert_int_equal(store_link(x->root, "a", d, "b"), -EEXIST);
	assert_int_equal(store_link(x->root, "d", x->root, "e"), -EPERM);
	assert_int_equal(store_link(x->root, "none", d, "c"), -ENOENT);
	expect(d, "b", "text");
	assert_int_equal(store_lookup(d, "b", &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(store_unlink(x->root, "a"), 0);
	expect(d, "b", "text");
	assert_int_equal(store_rename(d, "b", x->root, "c", 0), 0);
	expect(x->root, "c", "text");
	/* Linked before it has content. */
	assert_int_equal(file_create(x->root, "empty", 0600, &f, &st), 0);
	assert_int_equal(store_link(x->root, "empty", d, "other"), 0);
	assert_int_equal(file_write(f, "late", 4, 0), 4);
	file_close(f);
	expect(x->root, "empty", "late");
	expect(d, "other", "late");
	store_dir_unref(d);
}

static void header_of(struct fixture *x, const char *name, uint8_t h[HEADER_BYTES])
{
	char entry[256];
	int fd;

	entry_of(x, name, entry);
	fd = openat(x->fd, entry, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, h, HEADER_BYTES, 0), HEADER_BYTES);
	close(fd);
}

/* An editor's save: new file renamed over the old one, years later.  Retention counts from the old one. */
static void test_inherit(void **state)
{
	struct fixture *x = *state;
	uint8_t h[HEADER_BYTES], *rec;

	put(x->root, "doc", "first");
	store_set_today(x->store, TODAY + 1000);
	put(x->root, "doc~", "second");
	header_of(x, "doc~", h);
	assert_int_equal(h[1024 + 20] | h[1024 + 21] << 8, TODAY + 1000);
	assert_int_equal(store_rename(x->root, "doc~", x->root, "doc", 0), 0);
	expect(x->root, "doc", "second");
	header_of(x, "doc", h);
	rec = h + 512; /* the second generation */
	assert_int_equal(rec[0], 2);
	assert_int_equal(rec[20] | rec[21] << 8, TODAY);
	assert_int_equal(rec[22] | rec[23] << 8, CLASS_FIRST_POLICY);
	assert_int_equal(h[36] | h[37] << 8, TODAY + 1000); /* its own leaf stays */
	/* Cut to nothing it keeps its header. */
	struct file *f;
	assert_int_equal(file_open(x->root, "doc", &f), 0);
	assert_int_equal(file_truncate(f, 0), 0);
	file_close(f);
	header_of(x, "doc", h);
	assert_int_equal(h[512], 2);
}

static void test_mknod(void **state)
{
	struct fixture *x = *state;
	struct stat st;

	assert_int_equal(store_mknod(x->root, "fifo", S_IFIFO | 0600, 0, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(store_mknod(x->root, "file", S_IFREG | 0640, 0, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(store_mknod(x->root, "dev", S_IFCHR | 0600, 0x103, &st), -EPERM);
	assert_int_equal(store_mknod(x->root, "fifo", S_IFIFO | 0600, 0, &st), -EEXIST);
	assert_int_equal(store_rename(x->root, "fifo", x->root, "pipe", 0), 0);
	assert_int_equal(store_chmod(x->root, "pipe", 0640), 0);
	assert_int_equal(store_lookup(x->root, "pipe", &st), 0);
	assert_int_equal(st.st_mode, S_IFIFO | 0640);
	assert_int_equal(store_unlink(x->root, "pipe"), 0);
}

/* Destroying the leaf of one file destroys that file, and the rest stays. */
static void test_shredded(void **state)
{
	struct fixture *x = *state;
	uint8_t h[HEADER_BYTES];
	struct header peek;
	struct file *f;

	put(x->root, "a", "one");
	put(x->root, "b", "two");
	header_of(x, "a", h);
	assert_int_equal(header_peek(h, &peek), 0);
	assert_int_equal(keytree_puncture(x->tree, leaf_index_u64(peek.leaf), 64), 0);
	assert_int_equal(file_open(x->root, "a", &f), -ENOKEY);
	expect(x->root, "b", "two");
	put(x->root, "c", "over it");
	assert_int_equal(store_rename(x->root, "c", x->root, "a", 0), 0);
	expect(x->root, "a", "over it");
}

static bool contains(const char *hay, size_t n, const char *needle)
{
	return memmem(hay, n, needle, strlen(needle)) != NULL;
}

/* Everything below dirfd: names, contents, targets, attributes. */
static void scan(int dirfd, const char *word)
{
	static char buf[1 << 16];
	DIR *d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	ssize_t n;
	int fd;

	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		assert_false(contains(e->d_name, strlen(e->d_name), word));
		n = readlinkat(dirfd, e->d_name, buf, sizeof(buf));
		if (n > 0)
			assert_false(contains(buf, (size_t)n, word));
		fd = openat(dirfd, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			assert_false(contains(buf, (size_t)n, word));
		n = flistxattr(fd, buf, sizeof(buf));
		if (n > 0)
			assert_false(contains(buf, (size_t)n, word));
		n = fgetxattr(fd, "user.coffer.place", buf, sizeof(buf));
		if (n > 0)
			assert_false(contains(buf, (size_t)n, word));
		if (e->d_type == DT_DIR)
			scan(fd, word);
		close(fd);
	}
	closedir(d);
}

static void test_canary(void **state)
{
	static const char word[] = "canary-7f3a";
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "canary-7f3a-directory");
	char name[201] = "canary-7f3a";
	struct stat st;

	memset(name + strlen(word), '-', 200 - strlen(word));
	put(d, "canary-7f3a-file", "this is the canary-7f3a inside");
	put(d, name, "long");
	assert_int_equal(store_symlink(d, "l", "/to/canary-7f3a", &st), 0);
	assert_int_equal(store_setxattr(d, NULL, "user.canary-7f3a", "canary-7f3a", 11, 0), 0);
	assert_int_equal(store_setxattr(d, "canary-7f3a-file", "user.canary-7f3a", "canary-7f3a", 11, 0), 0);
	scan(x->fd, word);
	store_dir_unref(d);
}

/* As an ordinary user: bits that lock out the owner do not lock out the store's own bookkeeping. */
static int as_user(struct fixture *x)
{
	const struct store_options opt = {.class = CLASS_FIRST_POLICY, .today = TODAY};
	struct store_dir *d;
	char buf[16];
	struct stat st;
	struct file *f;

	if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
		return 10;
	if (store_open(x->fd, x->tree, &opt, &x->store) < 0 || store_dir_root(x->store, &x->root) < 0)
		return 2;
	if (file_create(x->root, "readonly", 0444, &f, &st) < 0 || file_write(f, "text", 4, 0) != 4)
		return 11;
	file_close(f);
	if (store_rename(x->root, "readonly", x->root, "renamed", 0) < 0)
		return 12;
	if (store_chmod(x->root, "renamed", 0) < 0 || file_open(x->root, "renamed", &f) < 0)
		return 13;
	if (file_read(f, buf, sizeof(buf), 0) != 4 || file_getxattr(f, "user.none", NULL, 0) != -ENODATA)
		return 14;
	file_close(f);
	if (store_lookup(x->root, "renamed", &st) < 0 || (st.st_mode & 07777) != 0)
		return 15;
	if (store_mkdir(x->root, "dir", 0, &st) < 0 || (st.st_mode & 07777) != 0)
		return 16;
	if (store_dir_open(x->root, "dir", &d) < 0)
		return 17;
	store_dir_unref(d);
	if (store_rename(x->root, "dir", x->root, "dir2", 0) < 0 || store_dir_open(x->root, "dir2", &d) < 0)
		return 18;
	store_dir_unref(d);
	if (store_lookup(x->root, "dir2", &st) < 0 || (st.st_mode & 07777) != 0)
		return 19;
	return store_rmdir(x->root, "dir2") < 0 ? 20 : 0;
}

static void test_ordinary_user(void **state)
{
	struct fixture *x = *state;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	fixture_close(x);
	assert_int_equal(fchown(x->fd, 65534, 65534), 0);
	assert_int_equal(unlinkat(x->fd, ".id", 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* The arena is wiped in a child: an own one. */
		secret_done();
		if (secret_init(1 << 20) < 0 || keytree_new(&x->tree) < 0)
			_exit(1);
		_exit(as_user(x));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	folder_remove(AT_FDCWD, x->path); /* it stands under another tree */
	assert_int_equal(mkdir(x->path, 0700), 0);
	fixture_open(x);
}

static void test_many_directories(void **state)
{
	static struct store_dir *dirs[3000];
	struct fixture *x = *state;
	struct stat st;
	char name[16];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(name, sizeof(name), "d%zu", i);
		if (i < 500)
			assert_int_equal(store_mkdir(x->root, name, 0700, &st), 0);
		snprintf(name, sizeof(name), "d%zu", i % 500);
		dirs[i] = i < 500 || i % 2 ? sub(x, name) : NULL;
	}
	for (i = 0; i < ARRAY_SIZE(dirs); i++)
		store_dir_unref(dirs[i]);
}

static void test_audit_path(void **state)
{
	struct fixture *x = *state;
	uint8_t a[64], b[64], c[64];

	assert_int_equal(store_seal_path(x->store, 2500, "a/b", 3, a, sizeof(a)), 27);
	assert_int_equal(store_seal_path(x->store, 2500, "a/b", 3, b, sizeof(b)), 27);
	assert_int_equal(store_seal_path(x->store, 2531, "a/b", 3, c, sizeof(c)), 27);
	assert_memory_equal(a, b, 27);
	assert_memory_not_equal(a, c, 27);
	assert_int_equal(store_seal_path(x->store, 2500, "a/b", 3, a, 26), -ENAMETOOLONG);
}

/* The root's id belongs to this tree: another client's folder does not open. */
static void test_wrong_tree(void **state)
{
	struct fixture *x = *state;
	const struct store_options opt = {.class = CLASS_FIRST_POLICY, .today = TODAY};
	struct keytree *other;
	struct store *s;
	int fd;

	put(x->root, "a", "one");
	assert_int_equal(keytree_new(&other), 0);
	fd = openat(x->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(store_open(fd, other, &opt, &s), -EBADMSG);
	assert_string_equal(store_damage_word(), "directory");
	close(fd);
	keytree_free(other);
}

static void tree_to_file(struct fixture *x, const char *path)
{
	uint8_t *raw;
	size_t n, i;
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(keytree_serialise(x->tree, &raw, &n), 0);
	for (i = 0; i < n; i++)
		fprintf(f, "%02x", raw[i]);
	fclose(f);
	secret_free(raw);
}

static void sha256_hex(const void *data, size_t n, char hex[65])
{
	uint8_t hash[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(hash, data, n);
	sodium_bin2hex(hex, 65, hash, sizeof(hash));
}

/* What tests/vectors/read_store.py prints for the store; it was written from doc/FORMAT.md alone. */
static void read_independently(struct fixture *x, char *out, size_t cap, int *ret_status)
{
	const char *source = getenv("COFFER_SOURCE");
	char tree[300], command[1024];
	size_t n;
	FILE *p;

	p = popen("/usr/bin/python3 -c 'import cryptography' 2>&1", "r");
	assert_non_null(p);
	if (pclose(p) != 0 || !source)
		skip();
	snprintf(tree, sizeof(tree), "%s/.tree", x->path);
	tree_to_file(x, tree);
	snprintf(command, sizeof(command), "/usr/bin/python3 '%s/tests/vectors/read_store.py' '%s' '%s'",
		source, x->path, tree);
	p = popen(command, "r");
	assert_non_null(p);
	n = fread(out, 1, cap - 1, p);
	out[n] = 0;
	*ret_status = pclose(p);
	unlink(tree);
}

static void test_independent_reader(void **state)
{
	static char out[1 << 20], data[3 * SECTOR_DATA + 99];
	struct fixture *x = *state;
	struct store_dir *d = make_sub(x, "dir");
	char long_name[201], target[4001], hex[65], expected[8300];
	struct stat st;
	struct file *f;
	int status;

	memset(long_name, 'n', 200);
	memset(target, 't', 4000);
	long_name[200] = target[4000] = 0;
	put(x->root, "plain", "text");
	randombytes_buf(data, sizeof(data));
	assert_int_equal(file_create(d, long_name, 0600, &f, &st), 0);
	assert_int_equal(file_write(f, data, sizeof(data), 0), sizeof(data));
	assert_int_equal(file_setxattr(f, "user.a", "\x01\x02", 2, 0), 0);
	file_close(f);
	assert_int_equal(file_create(d, "sparse", 0600, &f, &st), 0);
	assert_int_equal(file_write(f, "a", 1, 0), 1);
	assert_int_equal(file_sync(f, true), 0);
	assert_int_equal(file_truncate(f, 5 * SECTOR_DATA + 7), 0);
	file_close(f);
	assert_int_equal(store_symlink(d, "short", "over/there", &st), 0);
	assert_int_equal(store_symlink(d, "long", target, &st), 0);
	assert_int_equal(store_setxattr(d, NULL, "user.d", "v", 1, 0), 0);
	assert_int_equal(store_rename(x->root, "dir", x->root, "moved", 0), 0);
	assert_int_equal(store_link(x->root, "plain", d, "linked"), 0);
	store_dir_unref(d);

	read_independently(x, out, sizeof(out), &status);
	assert_int_equal(status, 0);
	sha256_hex("text", 4, hex);
	assert_non_null(strstr(out, hex));
	sha256_hex(data, sizeof(data), hex);
	snprintf(expected, sizeof(expected),
		"{\"attributes\": {\"user.a\": \"0102\"}, \"kind\": \"file\", \"path\": \"moved/%s\", "
		"\"sha256\": \"%s\"",
		long_name, hex);
	assert_non_null(strstr(out, expected));
	memset(data, 0, sizeof(data));
	assert_non_null(strstr(out, "\"path\": \"moved/sparse\""));
	assert_non_null(strstr(out, "\"size\": 20167"));
	assert_non_null(strstr(out, "\"path\": \"moved/short\", \"target\": \"over/there\""));
	snprintf(expected, sizeof(expected), "\"target\": \"%s\"", target);
	assert_non_null(strstr(out, expected));
	assert_non_null(strstr(
		out, "{\"attributes\": {\"user.d\": \"76\"}, \"kind\": \"directory\", \"path\": \"moved\"}"));
	assert_non_null(strstr(out, "\"path\": \"moved/linked\""));
}

int main(void)
{
	static uint8_t suites[] = {CIPHER_AES_256_GCM, CIPHER_XCHACHA20_POLY1305};
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_long_name_moves),
		TEST(test_rename_files),
		TEST(test_rename_before_content),
		TEST(test_directories),
		TEST(test_directory_crashes),
		TEST(test_rename_crash),
		TEST(test_swapped),
		TEST(test_place_missing),
		TEST(test_names_altered),
		TEST(test_symlinks),
		TEST(test_symlink_altered),
		TEST(test_hard_links),
		TEST(test_inherit),
		TEST(test_mknod),
		TEST(test_shredded),
		TEST(test_canary),
		TEST(test_ordinary_user),
		TEST(test_many_directories),
		TEST(test_audit_path),
		TEST(test_wrong_tree),
		{"test_independent_reader", test_independent_reader, fixture_setup, fixture_teardown,
			&suites[0]},
		{"test_independent_reader_2", test_independent_reader, fixture_setup, fixture_teardown,
			&suites[1]},
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
