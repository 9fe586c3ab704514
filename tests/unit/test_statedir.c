#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "common/statedir.h"
#include "tests/unit/folder.h"

static char top[64];

static int setup(void **state)
{
	unsetenv("COFFER_DIR");
	snprintf(top, sizeof(top), "/tmp/coffer-statedir-XXXXXX");
	return mkdtemp(top) ? 0 : -1;
}

static int teardown(void **state)
{
	folder_remove(AT_FDCWD, top);
	return 0;
}

static mode_t mode_of(const struct statedir *d, const char *rel)
{
	char path[4096];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", d->root, rel);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void finds_a_folder_that_is_new(void **state)
{
	char path[256], wanted[256];
	struct statedir d;

	snprintf(path, sizeof(path), "%s/./new//", top);
	assert_int_equal(statedir_find(path, true, &d), -ENOENT);
	assert_int_equal(statedir_find(path, false, &d), 0);
	snprintf(wanted, sizeof(wanted), "%s/new", top);
	assert_string_equal(d.root, wanted);
	snprintf(wanted, sizeof(wanted), "%s/new/run", top);
	assert_string_equal(d.run, wanted);
	assert_int_equal(access(d.root, F_OK), -1);
	statedir_done(&d);
	statedir_done(&d);
	snprintf(path, sizeof(path), "%s/no/new", top);
	assert_int_equal(statedir_find(path, false, &d), -ENOENT);
}

static void follows_the_environment_and_links(void **state)
{
	char path[256];
	struct statedir d;

	snprintf(path, sizeof(path), "%s/link", top);
	assert_int_equal(symlink(top, path), 0);
	setenv("COFFER_DIR", path, 1);
	assert_int_equal(statedir_find(NULL, true, &d), 0);
	assert_string_equal(d.root, top);
	statedir_done(&d);
	assert_int_equal(statedir_find("/", true, &d), 0);
	statedir_done(&d);
	unsetenv("COFFER_DIR");
	assert_int_equal(statedir_find(STATEDIR_DEFAULT, false, &d), 0);
	assert_string_equal(d.run, STATEDIR_RUN_DEFAULT);
	statedir_done(&d);
}

static void creates_the_layout_with_its_modes(void **state)
{
	static const char *const closed[] = {"keyd", "keyd/keys", "keyd/slot", "keyd/certificates", "ledger",
		"ledger/journal", "store", "log"};
	char path[256];
	struct statedir d;
	mode_t mask = umask(0);

	snprintf(path, sizeof(path), "%s/d", top);
	assert_int_equal(statedir_find(path, false, &d), 0);
	assert_int_equal(statedir_create(&d), 0);
	assert_int_equal(mode_of(&d, "."), 0711);
	assert_int_equal(mode_of(&d, "run"), 0755);
	for (size_t i = 0; i < ARRAY_SIZE(closed); i++)
		assert_int_equal(mode_of(&d, closed[i]), 0700);
	umask(0777);
	assert_int_equal(chmod(path, 0750), 0); /* the owner's own choice stays */
	assert_int_equal(statedir_create(&d), 0);
	assert_int_equal(mode_of(&d, "."), 0750);
	statedir_done(&d);
	snprintf(path, sizeof(path), "%s/e", top);
	assert_int_equal(statedir_find(path, false, &d), 0);
	assert_int_equal(statedir_create(&d), 0);
	assert_int_equal(mode_of(&d, "run"), 0755);
	assert_int_equal(mode_of(&d, "keyd/keys"), 0700);
	umask(mask);
	statedir_done(&d);
}

static void a_file_in_the_way_is_an_error(void **state)
{
	struct statedir d;
	int fd;

	assert_int_equal(statedir_find(top, true, &d), 0);
	fd = statedir_open(&d, "store", O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_int_equal(statedir_create(&d), -ENOTDIR);
	assert_int_equal(statedir_open(&d, "nothing", O_RDONLY, 0), -ENOENT);
	statedir_done(&d);
}

static void one_set_of_daemons_holds_the_lock(void **state)
{
	struct statedir d;
	int a = -1, b = -1;

	assert_int_equal(statedir_find(top, true, &d), 0);
	assert_int_equal(statedir_lock(&d, "coffer.lock", &a), 0);
	assert_int_equal(statedir_lock(&d, "coffer.lock", &b), -EWOULDBLOCK);
	assert_int_equal(b, -1);
	close(a);
	assert_int_equal(statedir_lock(&d, "coffer.lock", &b), 0);
	close(b);
	statedir_done(&d);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(finds_a_folder_that_is_new),
		TEST(follows_the_environment_and_links),
		TEST(creates_the_layout_with_its_modes),
		TEST(a_file_in_the_way_is_an_error),
		TEST(one_set_of_daemons_holds_the_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
