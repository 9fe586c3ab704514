/* The tree: names, directories, links, renames; and what an edited store must answer. */
#include "store_tree_fixture.h"

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

static void write_raw(struct fixture *x, const char *entry, const void *bytes, size_t n)
{
	int fd = openat(x->fd, entry, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, 0), n);
	close(fd);
}

static void cut_raw(struct fixture *x, const char *entry, off_t n)
{
	int fd = openat(x->fd, entry, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, n), 0);
	close(fd);
}

static void expect_gone(struct fixture *x, const char *name, const char *word)
{
	char got[STORE_GONE_WORD];
	struct store_victim v;

	assert_int_equal(store_victim_find(x->root, name, &v), 0);
	store_gone_word(x->root, &v, got);
	assert_string_equal(got, word);
	assert_int_equal(v.fd >= 0, S_ISREG(v.st.st_mode) && v.st.st_nlink == 1);
	assert_int_equal(S_ISDIR(v.st.st_mode) ? store_rmdir_victim(x->root, &v) : store_unlink_victim(x->root, &v), 0);
	assert_int_equal(v.fd, -1);
	expect_none(x->root, name);
}

/* Which key goes with a name, of whatever it names, in whatever state; and the file is not touched by the question. */
static void test_what_goes(void **state)
{
	struct fixture *x = *state;
	char entry[256], word[STORE_GONE_WORD], got[STORE_GONE_WORD], long_name[201];
	uint8_t h[HEADER_BYTES], zeros[HEADER_BYTES] = {0};
	struct store_victim v;
	struct stat st, before;
	struct header peek;
	struct file *f;

	memset(long_name, 'n', 200);
	long_name[200] = 0;
	put(x->root, long_name, "text");
	header_of(x, long_name, h);
	assert_int_equal(header_peek(h, &peek), 0);
	snprintf(word, sizeof(word), "k%016llx", (unsigned long long)leaf_index_u64(peek.leaf));
	entry_of(x, long_name, entry);
	assert_int_equal(fstatat(x->fd, entry, &before, 0), 0);
	assert_int_equal(store_victim_find(x->root, long_name, &v), 0);
	assert_int_equal(v.st.st_size, 4);
	store_gone_word(x->root, &v, got);
	assert_string_equal(got, word);
	close(v.fd);
	entry_of(x, long_name, entry);
	assert_int_equal(fstatat(x->fd, entry, &st, 0), 0);
	assert_true(st.st_atim.tv_sec == before.st_atim.tv_sec && st.st_atim.tv_nsec == before.st_atim.tv_nsec);
	expect_gone(x, long_name, word);

	assert_int_equal(file_create(x->root, "empty", 0644, &f, &st), 0);
	file_close(f);
	expect_gone(x, "empty", "k-");
	put(x->root, "zeros", "text");
	entry_of(x, "zeros", entry);
	write_raw(x, entry, zeros, sizeof(zeros));
	expect_gone(x, "zeros", "k-");
	put(x->root, "begins with zeros", "text"); /* a header whose beginning was overwritten: whose key it was is not known */
	entry_of(x, "begins with zeros", entry);
	write_raw(x, entry, zeros, HEADER_PEEK_BYTES);
	expect_gone(x, "begins with zeros", "k?");
	put(x->root, "cut", "text");
	entry_of(x, "cut", entry);
	cut_raw(x, entry, HEADER_PEEK_BYTES - 1);
	expect_gone(x, "cut", "k?");
	put(x->root, "two", "text");
	assert_int_equal(store_link(x->root, "two", x->root, "names"), 0);
	expect_gone(x, "two", "k-");
	assert_int_equal(store_mknod(x->root, "pipe", S_IFIFO | 0600, 0, &st), 0);
	expect_gone(x, "pipe", "k-");
	store_dir_unref(make_sub(x, "d"));
	assert_int_equal(store_victim_find(x->root, "d", &v), 0);
	store_gone_word(x->root, &v, word);
	assert_true(word[0] == 'k' && strlen(word) == 17);
	expect_gone(x, "d", word);
	assert_int_equal(store_victim_find(x->root, "nothing", &v), -ENOENT);
	assert_int_equal(v.fd, -1);
}

int main(void)
{
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
		TEST(test_what_goes),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
