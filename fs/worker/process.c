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

/* The third and the 39th word; the second, in brackets, may hold anything. */
int process_cpu(int proc_fd, uint32_t tid, char *ret_state)
{
	char text[1024], *at;
	ssize_t n = read_proc(proc_fd, tid, "stat", text, sizeof(text));
	int cpu;

	*ret_state = '?';
	if (n < 0)
		return (int)n;
	at = strrchr(text, ')');
	if (at && at[1] == ' ')
		*ret_state = at[2];
	for (int word = 2; at && word < 39; word++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%d", &cpu) == 1 ? cpu : -EINVAL;
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
