#include "fs/worker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"

static ssize_t read_proc(int proc_fd, uint32_t pid, const char *what, char *buf, size_t cap)
{
	scoped(close_fdp) int fd = -1;
	char path[48];
	ssize_t n;

	snprintf(path, sizeof(path), "%u/%s", pid, what);
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, cap - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

void process_look(int proc_fd, uint32_t pid, struct process_info *ret)
{
	char text[64];
	ssize_t n;

	*ret = (struct process_info){.loginuid = UINT32_MAX, .comm = "?"};
	if (proc_fd < 0 || pid == 0)
		return;
	n = read_proc(proc_fd, pid, "comm", text, sizeof(text));
	if (n > 0) {
		text[strcspn(text, "\n")] = '\0';
		memset(ret->comm, 0, sizeof(ret->comm));
		memcpy(ret->comm, text, strnlen(text, sizeof(ret->comm) - 1));
	}
	if (read_proc(proc_fd, pid, "loginuid", text, sizeof(text)) > 0)
		ret->loginuid = (uint32_t)strtoul(text, NULL, 10);
}
