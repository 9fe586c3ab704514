#include "fs/broker/connection.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"

#define KIBIBYTES "1024\n" /* the largest READ */

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

void connection_read_ahead(unsigned number)
{
	scoped(close_fdp) int fd = -1;
	char path[64];

	snprintf(path, sizeof(path), "/sys/class/bdi/0:%u/read_ahead_kb", number);
	fd = number ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		(void)!write(fd, KIBIBYTES, strlen(KIBIBYTES));
}
