/* The hint of where subfolders go, on whatever file system /tmp and /dev/shm are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/fs.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "common/placement.h"
#include "common/scope.h"
#include "tests/unit/folder.h"

static bool may_have(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return false;
	flags |= FS_TOPDIR_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_TOPDIR_FL);
}

static void is_marked_and_remains_what_it_was(void **state)
{
	const char *below = *state;
	char top[64], other[64];
	scoped(close_fdp) int fd = folder_make(top, sizeof(top), below, "placement");
	scoped(close_fdp) int control = folder_make(other, sizeof(other), below, "placement");
	int before = 0, flags = 0, again = 0;
	bool known;

	assert_true(fd >= 0 && control >= 0);
	known = may_have(control);
	(void)ioctl(fd, FS_IOC_GETFLAGS, &before);
	placement_spread(fd);
	(void)ioctl(fd, FS_IOC_GETFLAGS, &flags);
	assert_int_equal(flags, known ? before | FS_TOPDIR_FL : before);
	placement_spread(fd);
	(void)ioctl(fd, FS_IOC_GETFLAGS, &again);
	assert_int_equal(again, flags);
	assert_int_equal(mkdirat(fd, "a", 0700), 0);
	folder_remove(AT_FDCWD, top);
	folder_remove(AT_FDCWD, other);
}

static void what_is_no_folder_is_left_alone(void **state)
{
	int ends[2];

	assert_int_equal(pipe(ends), 0);
	placement_spread(ends[0]);
	placement_spread(-1);
	assert_int_equal(write(ends[1], "x", 1), 1);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(is_marked_and_remains_what_it_was, (void *)"/tmp"),
		cmocka_unit_test_prestate(is_marked_and_remains_what_it_was, (void *)"/dev/shm"),
		cmocka_unit_test(what_is_no_folder_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
