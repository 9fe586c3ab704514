/* What stays allowed under a ruleset, and what does not; each try in a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/landlock.h"
#include "tests/unit/folder.h"

static char base[] = "/tmp/coffer-landlock-XXXXXX";

static int set_up(void **state)
{
	if (!mkdtemp(base) || chdir(base) < 0 || mkdir("in", 0700) < 0 || mkdir("in/a", 0700) < 0 || mkdir("in/b", 0700) < 0 ||
		mkdir("out", 0700) < 0)
		return -1;
	return close(open("in/a/f", O_WRONLY | O_CREAT, 0600)) < 0 || close(open("out/f", O_WRONLY | O_CREAT, 0600)) < 0;
}

static int tear_down(void **state)
{
	folder_remove(AT_FDCWD, base);
	return 0;
}

/* The child's: below `in` everything stays. */
static int confine(void)
{
	int abi = landlock_abi(), ruleset, fd = open("in", O_PATH | O_DIRECTORY), r;

	r = landlock_new(landlock_fs_all(abi) & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE, &ruleset);
	if (r == 0)
		r = landlock_allow(ruleset, fd, landlock_fs_all(abi) & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE);
	return r < 0 ? r : landlock_enter(ruleset);
}

/* 0, or the errno of the act when it is done confined. */
static int outcome(int (*act)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(confine() < 0 ? 255 : act() < 0 ? errno : 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int write_in(void)
{
	return open("in/a/new", O_WRONLY | O_CREAT, 0600);
}

static int move_in(void)
{
	return rename("in/a/f", "in/b/f");
}

static int cut_in(void)
{
	return truncate("in/b/f", 0);
}

static int read_out(void)
{
	return open("out/f", O_RDONLY);
}

static int write_out(void)
{
	return open("out/f", O_WRONLY);
}

static int make_out(void)
{
	return mkdir("out/d", 0700);
}

static int move_out(void)
{
	return rename("in/b/f", "out/g");
}

static int link_out(void)
{
	return link("in/b/f", "out/g");
}

static int gain(void)
{
	errno = EPERM;
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : -1;
}

static void below_the_directory_everything(void **state)
{
	if (landlock_abi() == 0)
		skip();
	assert_int_equal(outcome(write_in), 0);
	assert_int_equal(outcome(move_in), 0);
	assert_int_equal(outcome(cut_in), 0);
}

static void elsewhere_nothing(void **state)
{
	if (landlock_abi() == 0)
		skip();
	assert_int_equal(outcome(read_out), EACCES);
	assert_int_equal(outcome(write_out), EACCES);
	assert_int_equal(outcome(make_out), EACCES);
	assert_int_equal(outcome(move_out), EACCES);
	assert_int_equal(outcome(link_out), EACCES);
	assert_int_equal(outcome(gain), 0);
	assert_int_equal(read_out() >= 0, 1); /* it was the ruleset */
}

static void versions(void **state)
{
	int abi = landlock_abi();

	assert_true(abi == 0 || abi >= LANDLOCK_ABI_MIN);
	assert_true(landlock_fs_all(2) & LANDLOCK_FS_REFER);
	assert_false(landlock_fs_all(2) & LANDLOCK_FS_TRUNCATE);
	assert_true(landlock_fs_all(3) & LANDLOCK_FS_TRUNCATE);
	assert_false(landlock_fs_all(4) & LANDLOCK_FS_IOCTL_DEV);
	assert_true(landlock_fs_all(5) & LANDLOCK_FS_IOCTL_DEV);
	assert_int_equal(landlock_allow(-1, -1, LANDLOCK_FS_READ) < 0, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(below_the_directory_everything),
		cmocka_unit_test(elsewhere_nothing),
		cmocka_unit_test(versions),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
