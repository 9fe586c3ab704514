#include "tools/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/landlock.h"
#include "common/scope.h"

/* All that changes what is on a disk; reading, running and ioctl stay as they are. */
static uint64_t changing(int abi)
{
	return landlock_fs_all(abi) & ~(LANDLOCK_FS_READ | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_FS_IOCTL_DEV);
}

/* A device that is not there is not needed. */
static int allow_device(int ruleset, const char *path)
{
	scoped(close_fdp) int fd = path ? open(path, O_PATH | O_CLOEXEC) : -1;

	return fd < 0 ? 0 : landlock_allow(ruleset, fd, LANDLOCK_ACCESS_FS_WRITE_FILE);
}

static int allow_terminal(int ruleset)
{
	static const char *const devices[] = {"/dev/tty", "/dev/pts", "/dev/ptmx", "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
		"/dev/urandom"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(devices); i++)
		r = allow_device(ruleset, devices[i]);
	for (int fd = STDIN_FILENO; r == 0 && fd <= STDERR_FILENO; fd++)
		r = allow_device(ruleset, ttyname(fd)); /* a console is not below /dev/pts */
	return r;
}

int confine_writes(const int *fds, size_t n, bool terminal)
{
	scoped(close_fdp) int ruleset = -1;
	int abi = landlock_abi(), r;

	if (abi == 0)
		return -ENOSYS;
	r = landlock_new(changing(abi), &ruleset);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (fds[i] >= 0)
			r = landlock_allow(ruleset, fds[i], changing(abi));
	if (r == 0 && terminal)
		r = allow_terminal(ruleset);
	return r < 0 ? r : landlock_enter(ruleset);
}
