#undef _FILE_OFFSET_BITS /* both names of a call are wanted, as they are */
#include "tests/crash/steps.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile struct steps_plan *plan;
static const char *top;

void steps_use(struct steps_plan *p, const char *dir)
{
	top = dir;
	plan = p;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("COFFER_STEPS");
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	int fd;

	exe[n < 0 ? 0 : n] = 0;
	top = getenv("COFFER_STEPS_DIR");
	if (!path || !top || !strstr(exe, "/coffer-keyd"))
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (plan == MAP_FAILED)
		plan = NULL;
	close(fd);
}

static const char *below(const char *path)
{
	size_t n = strlen(top);

	if (strncmp(path, top, n) != 0 || path[n] != '/')
		return NULL;
	path += n + 1;
	return strncmp(path, "log/", 4) == 0 || strncmp(path, "run/", 4) == 0 ? NULL : path;
}

/* The first child with that name of program. */
static void kill_child(const char *name)
{
	char path[64], list[4096], exe[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, list, sizeof(list) - 1);
	if (fd >= 0)
		close(fd);
	list[n < 0 ? 0 : n] = 0;
	for (char *p = list; *p;) {
		long pid = strtol(p, &p, 10);

		if (pid <= 0)
			break;
		snprintf(path, sizeof(path), "/proc/%ld/exe", pid);
		n = readlink(path, exe, sizeof(exe) - 1);
		exe[n < 0 ? 0 : n] = 0;
		if (strstr(exe, name))
			kill((pid_t)pid, SIGKILL);
		while (*p == ' ')
			p++;
	}
}

struct torn {
	int fd;
	const void *buf;
	size_t n;
	off64_t at;
};

static int act(const char *call, const char *path, const struct torn *w)
{
	uint32_t n = plan->count, at = plan->at, mode = plan->mode;
	char line[256];
	int len = snprintf(line, sizeof(line), "%s %s\n", call, path);

	if (plan->word[0] && !strstr(line, (const char *)plan->word))
		return 0;
	plan->count++;
	if (plan->used + (uint32_t)len < sizeof(plan->text)) {
		memcpy((char *)plan->text + plan->used, line, (size_t)len);
		plan->used += (uint32_t)len;
	}
	if (mode == STEPS_COUNT || n < at || (n > at && mode != STEPS_FAIL_ON))
		return 0;
	plan->hits++;
	if (plan->hits == 1)
		snprintf((char *)plan->last, sizeof(plan->last), "%s %s", call, path);
	if (mode == STEPS_TEAR && w)
		(void)!syscall(SYS_pwrite64, w->fd, w->buf, w->n / 2, w->at);
	if (mode == STEPS_KILL || mode == STEPS_TEAR)
		for (;;)
			syscall(SYS_kill, getpid(), SIGKILL);
	if (mode == STEPS_KILL_CHILD) {
		kill_child((const char *)plan->child);
		return 0;
	}
	return (int)plan->error;
}

/* 0, or the errno to fail with. */
static int step_at(const char *call, int dir, const char *name, const struct torn *w)
{
	char link[64], path[8192];
	const char *rest;
	ssize_t n = 0;

	if (!plan || plan->mode == STEPS_OFF)
		return 0;
	if (!name || name[0] != '/') {
		snprintf(link, sizeof(link), dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
		n = readlink(link, path, 4096);
		if (n < 0)
			return 0;
		path[n] = 0;
	}
	if (name)
		snprintf(path + n, sizeof(path) - (size_t)n, "%s%s", n > 0 ? "/" : "", name);
	rest = below(path);
	return rest ? act(call, rest, w) : 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define STEP(call, dir, path, torn)                                                                                \
	do {                                                                                                 \
		int e_ = step_at(call, dir, path, torn);                                                           \
                                                                                                             \
		if (e_) {                                                                                    \
			errno = e_;                                                                          \
			return -1;                                                                           \
		}                                                                                            \
	} while (0)

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
	STEP("pwrite", fd, NULL, (&(struct torn){fd, buf, n, at}));
	return REAL(pwrite)(fd, buf, n, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
	STEP("pwrite", fd, NULL, (&(struct torn){fd, buf, n, at}));
	return REAL(pwrite64)(fd, buf, n, at);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	STEP("write", fd, NULL, NULL);
	return REAL(write)(fd, buf, n);
}

int fsync(int fd)
{
	STEP("fsync", fd, NULL, NULL);
	return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
	STEP("fdatasync", fd, NULL, NULL);
	return REAL(fdatasync)(fd);
}

int ftruncate(int fd, off_t n)
{
	STEP("ftruncate", fd, NULL, NULL);
	return REAL(ftruncate)(fd, n);
}

int ftruncate64(int fd, off64_t n)
{
	STEP("ftruncate", fd, NULL, NULL);
	return REAL(ftruncate64)(fd, n);
}

int rename(const char *from, const char *to)
{
	STEP("rename", AT_FDCWD, to, NULL);
	return REAL(rename)(from, to);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	STEP("rename", to_dir, to, NULL);
	return REAL(renameat)(from_dir, from, to_dir, to);
}

int unlink(const char *path)
{
	STEP("unlink", AT_FDCWD, path, NULL);
	return REAL(unlink)(path);
}

int unlinkat(int dir, const char *path, int flags)
{
	STEP("unlink", dir, path, NULL);
	return REAL(unlinkat)(dir, path, flags);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
	STEP("mkdir", dir, path, NULL);
	return REAL(mkdirat)(dir, path, mode);
}
