#include "fs/broker/readahead.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"

#define KIBIBYTES "1024\n" /* the largest READ */

/* fdinfo tells the minor number of the mount's device: "fuse_connection: 45". */
static int connection_of(int fuse_fd, unsigned *ret)
{
	char path[48], text[512], *at;
	scoped(close_fdp) int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fuse_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	at = strstr(text, "fuse_connection:");
	return at && sscanf(at, "fuse_connection: %u", ret) == 1 ? 0 : -1;
}

void readahead_widen(int fuse_fd)
{
	scoped(close_fdp) int fd = -1;
	char path[64];
	unsigned minor;

	if (connection_of(fuse_fd, &minor) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/0:%u/read_ahead_kb", minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)!write(fd, KIBIBYTES, strlen(KIBIBYTES));
}
