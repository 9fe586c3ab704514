#include "fs/broker/connection.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"

#define READ_AHEAD_KIB "1024\n" /* the largest READ */
/* What a kernel may hold back: it has to arrive before a revocation is through, within a second. */
#define DIRTY_MAX (64u << 20)

/* fdinfo tells: "fuse_connection: 45". */
unsigned connection_number(int fuse_fd)
{
	char path[48], text[512], *at;
	scoped(close_fdp) int fd = -1;
	unsigned number = 0;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fuse_fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "fuse_connection:");
	return at && sscanf(at, "fuse_connection: %u", &number) == 1 ? number : 0;
}

static int open_setting(unsigned number, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/bdi/0:%u/%s", number, name);
	return open(path, flags | O_CLOEXEC);
}

static void limit_dirty(unsigned number)
{
	scoped(close_fdp) int fd = open_setting(number, "max_bytes", O_RDWR);
	char text[32];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n <= 0)
		return;
	text[n] = '\0';
	if (strtoull(text, NULL, 10) <= DIRTY_MAX)
		return;
	n = snprintf(text, sizeof(text), "%u\n", DIRTY_MAX);
	(void)!pwrite(fd, text, (size_t)n, 0);
}

void connection_tune(unsigned number)
{
	scoped(close_fdp) int fd = -1;

	if (number == 0)
		return;
	fd = open_setting(number, "read_ahead_kb", O_WRONLY);
	if (fd >= 0)
		(void)!write(fd, READ_AHEAD_KIB, strlen(READ_AHEAD_KIB));
	limit_dirty(number);
}
