#include "keyd/fusectl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#include "common/scope.h"

#define USUAL_PLACE "/sys/fs/fuse/connections"

/* Mounted nowhere: ours alone, and gone with us. */
static int open_detached(void)
{
	scoped(close_fdp) int fs = fsopen("fusectl", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

int fusectl_open(void)
{
	int fd = open_detached();

	return fd >= 0 ? fd : open(USUAL_PLACE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int fusectl_breaker(int dir, unsigned connection)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "%u/abort", connection);
	fd = openat(dir, path, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
