#include "store_fixture.h"

static void check_round_trip(struct fixture *x, const char *name)
{
	static char big[3000], back[3000];
	char list[256];
	int n;

	memset(big, 'v', sizeof(big));
	assert_int_equal(store_listxattr(x->root, name, list, sizeof(list)), 0);
	assert_int_equal(store_getxattr(x->root, name, "user.a", NULL, 0), -ENODATA);
	assert_int_equal(store_setxattr(x->root, name, "user.a", "value", 5, XATTR_REPLACE), -ENODATA);
	assert_int_equal(store_setxattr(x->root, name, "user.a", "value", 5, XATTR_CREATE), 0);
	assert_int_equal(store_setxattr(x->root, name, "user.a", "other", 5, XATTR_CREATE), -EEXIST);
	assert_int_equal(store_setxattr(x->root, name, "security.b", "", 0, 0), 0);
	assert_int_equal(store_setxattr(x->root, name, "user.big", big, 2000, 0), 0);
	fixture_reopen(x);
	assert_int_equal(store_getxattr(x->root, name, "user.a", NULL, 0), 5);
	assert_int_equal(store_getxattr(x->root, name, "user.a", back, 4), -ERANGE);
	assert_int_equal(store_getxattr(x->root, name, "user.a", back, 5), 5);
	assert_memory_equal(back, "value", 5);
	assert_int_equal(store_getxattr(x->root, name, "security.b", back, sizeof(back)), 0);
	assert_int_equal(store_getxattr(x->root, name, "user.big", back, sizeof(back)), 2000);
	assert_memory_equal(back, big, 2000);
	n = store_listxattr(x->root, name, NULL, 0);
	assert_int_equal(n, 7 + 11 + 9);
	assert_int_equal(store_listxattr(x->root, name, list, (size_t)n - 1), -ERANGE);
	assert_int_equal(store_listxattr(x->root, name, list, sizeof(list)), n);
	assert_non_null(memmem(list, (size_t)n, "user.a", 7));
	assert_non_null(memmem(list, (size_t)n, "security.b", 11));
	assert_int_equal(store_removexattr(x->root, name, "user.a"), 0);
	assert_int_equal(store_removexattr(x->root, name, "user.a"), -ENODATA);
	assert_int_equal(store_getxattr(x->root, name, "user.a", back, 5), -ENODATA);
}

static void test_file(void **state)
{
	struct fixture *x = *state;

	fixture_write_file(x, "f", "text", 4);
	check_round_trip(x, "f");
}

/* An attribute gives an empty file its header; it stays empty. */
static void test_empty_file(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(x->root, "f", 0600, &f, &st), 0);
	file_close(f);
	check_round_trip(x, "f");
	assert_int_equal(store_lookup(x->root, "f", &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(file_open(x->root, "f", &f), 0);
	assert_int_equal(file_write(f, "text", 4, 0), 4);
	file_close(f);
	assert_int_equal(store_getxattr(x->root, "f", "user.big", NULL, 0), 2000);
}

static void test_directory(void **state)
{
	struct fixture *x = *state;
	struct stat st;

	assert_int_equal(store_mkdir(x->root, "d", 0700, &st), 0);
	check_round_trip(x, "d");
	check_round_trip(x, NULL);
	assert_int_equal(store_rename(x->root, "d", x->root, "e", 0), 0);
	assert_int_equal(store_getxattr(x->root, "e", "user.big", NULL, 0), 2000);
}

static void test_refused(void **state)
{
	static char big[70000];
	struct fixture *x = *state;
	char name[300] = "user.";
	struct stat st;

	fixture_write_file(x, "f", "text", 4);
	assert_int_equal(store_symlink(x->root, "l", "f", &st), 0);
	assert_int_equal(store_mknod(x->root, "p", S_IFIFO | 0600, 0, &st), 0);
	assert_int_equal(store_setxattr(x->root, "l", "user.a", "x", 1, 0), -EPERM);
	assert_int_equal(store_setxattr(x->root, "p", "user.a", "x", 1, 0), -EPERM);
	assert_int_equal(store_getxattr(x->root, "l", "user.a", big, 1), -ENODATA);
	assert_int_equal(store_listxattr(x->root, "l", big, 1), 0);
	assert_int_equal(store_setxattr(x->root, "f", "trusted.a", "x", 1, 0), -EOPNOTSUPP);
	assert_int_equal(store_setxattr(x->root, "f", "system.posix_acl_access", "x", 1, 0), -EOPNOTSUPP);
	assert_int_equal(store_getxattr(x->root, "f", "trusted.a", big, 1), -EOPNOTSUPP);
	assert_int_equal(store_setxattr(x->root, "f", "user.", "x", 1, 0), -EINVAL);
	memset(name + 5, 'n', 152);
	assert_int_equal(store_setxattr(x->root, "f", name, "x", 1, 0), -ERANGE);
	name[156] = 0;
	assert_int_equal(store_setxattr(x->root, "f", name, "x", 1, 0), 0);
	assert_int_equal(store_getxattr(x->root, "f", name, big, 1), 1);
	assert_int_equal(store_setxattr(x->root, "f", "user.a", big, 65537, 0), -E2BIG);
	assert_int_equal(store_setxattr(x->root, "none", "user.a", "x", 1, 0), -ENOENT);
}

/* The backing's attribute of the first entry that is ours and no place. */
static int raw(struct fixture *x, char attr[256], char *val, size_t cap, size_t *ret_n)
{
	char entry[256], list[4096];
	ssize_t n, at;
	int fd;

	fixture_entry(x->fd, 0, entry);
	fd = openat(x->fd, entry, O_RDONLY | O_CLOEXEC);
	n = flistxattr(fd, list, sizeof(list));
	for (at = 0; at < n; at += (ssize_t)strlen(list + at) + 1)
		if (strncmp(list + at, "user.coffer.x.", 14) == 0)
			snprintf(attr, 256, "%s", list + at);
	*ret_n = (size_t)fgetxattr(fd, attr, val, cap);
	return fd;
}

static void test_altered(void **state)
{
	struct fixture *x = *state;
	char attr[256] = "", other[256], val[256], back[64];
	size_t n, i;
	int fd;

	fixture_write_file(x, "f", "text", 4);
	assert_int_equal(store_setxattr(x->root, "f", "user.a", "value", 5, 0), 0);
	fd = raw(x, attr, val, sizeof(val), &n);
	assert_int_equal(n, 24 + 5 + 16);
	for (i = 0; i < n; i++) {
		val[i] ^= 4;
		assert_int_equal(fsetxattr(fd, attr, val, n, 0), 0);
		assert_int_equal(store_getxattr(x->root, "f", "user.a", back, sizeof(back)), -EBADMSG);
		assert_string_equal(store_damage_word(), "xattr");
		val[i] ^= 4;
	}
	assert_int_equal(fsetxattr(fd, attr, val, 39, 0), 0);
	assert_int_equal(store_getxattr(x->root, "f", "user.a", back, sizeof(back)), -EBADMSG);
	/* The value of one attribute does not serve another. */
	assert_int_equal(fremovexattr(fd, attr), 0);
	assert_int_equal(store_setxattr(x->root, "f", "user.b", "other", 5, 0), 0);
	close(fd);
	fd = raw(x, other, back, sizeof(back), &i);
	assert_int_equal(fsetxattr(fd, other, val, n, 0), 0);
	assert_int_equal(store_getxattr(x->root, "f", "user.b", back, sizeof(back)), -EBADMSG);
	/* A name that is not ours. */
	assert_int_equal(fsetxattr(fd, "user.coffer.x.AAAA", val, n, 0), 0);
	assert_int_equal(store_listxattr(x->root, "f", back, sizeof(back)), -EBADMSG);
	close(fd);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_file),
		TEST(test_empty_file),
		TEST(test_directory),
		TEST(test_refused),
		TEST(test_altered),
	};

	return cmocka_run_group_tests_name("xattr", tests, NULL, NULL);
}
