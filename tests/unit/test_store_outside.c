/* The store as others see it: no word in clear, an ordinary user, a reader of the format alone, a wrong tree. */
#include "store_tree_fixture.h"

#include <grp.h>
#include <sys/wait.h>

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

static int count_entry(const struct store_entry *e, void *arg)
{
	++*(unsigned *)arg;
	return 0;
}

/* What was opened is read, whatever its mode has become since. */
static int read_locked_out(struct store_dir *root)
{
	unsigned entries = 0, damaged;
	struct store_iter *i;
	struct store_dir *d;
	struct stat st;
	int r = 0;

	if (store_mkdir(root, "shut", 0700, &st) < 0 || store_dir_open(root, "shut", &d) < 0)
		return 21;
	if (store_mkdir(d, "a", 0700, &st) < 0 || store_iter_new(d, &i) < 0)
		return 22;
	if (store_chmod(root, "shut", 0) < 0 || store_iter_read(i, 0, count_entry, &entries, &damaged) < 0)
		r = 23;
	else if (entries != 1 || damaged != 0)
		r = 24;
	else if (store_lookup(root, "shut", &st) < 0 || (st.st_mode & 07777) != 0)
		r = 25;
	store_iter_free(i);
	store_dir_unref(d);
	return r;
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
	if (store_rmdir(x->root, "dir2") < 0)
		return 20;
	return read_locked_out(x->root);
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
	const struct CMUnitTest tests[] = {
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

	return cmocka_run_group_tests_name("store outside", tests, NULL, NULL);
}
