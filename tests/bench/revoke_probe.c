/* What can still be done through mounts that are about to lose their permission: one thread a mount tries it all again and
 * again, a second one makes load, until everything is refused.  tests/bench/revoke starts it and says what the times mean.
 *
 *	revoke_probe LOAD FOLDER EVERY_MS MOUNT...
 *
 * LOAD: idle, write4k, write1m, map, walk.  FOLDER: where in each mount its files are (16 MiB "big"; "tree" beside it).  It says "ready"
 * when all is open, mapped and cached and the load runs, and at the end one line for each thing that was tried in each mount:
 * what, and when (monotonic, ns) the last one that succeeded had begun and came back; 0: none did. */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BIG (16u << 20)
#define LIMIT_SECONDS 30
#define LONG (1u << 20)
#define PAGE 4096u
#define OWN_PAGES 4096u	/* of the file that is written: 16 MiB, then from its beginning again */

enum what { MAPPED, READ, WRITTEN, STAT, LISTED, OPENED, LOAD, WHATS };

static const char *const names[WHATS] = {"mapped page", "read", "write", "stat", "list", "open", "load"};

struct mount {
	const char *point, *folder, *load;
	char big[4096], tree[4096], own[4096];
	int big_fd, own_fd;
	const volatile char *map;
	char *buffer;
	uint64_t last[WHATS], begun[WHATS];
	unsigned turn;
	pthread_t prober, loader;
};

static unsigned every_ms;
static atomic_uint busy;	/* loads that have begun their second turn: all is cached then */
static _Atomic uint64_t give_up;
static _Thread_local sigjmp_buf no_page;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(no_page, 1);
}

static bool touch(const struct mount *m, size_t from, size_t to)
{
	if (sigsetjmp(no_page, 1))
		return false;
	for (size_t at = from; at < to; at += PAGE)
		(void)m->map[at];
	return true;
}

static bool list(const char *path)
{
	DIR *d = opendir(path);
	bool any;

	if (!d)
		return false;
	any = readdir(d) != NULL;
	closedir(d);
	return any;
}

static bool open_it(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool try(struct mount *m, enum what w)
{
	char c[PAGE];
	struct stat st;

	switch (w) {
	case MAPPED:
		return touch(m, 0, PAGE);
	case READ:
		return pread(m->big_fd, c, sizeof(c), PAGE) > 0;
	case WRITTEN:
		return pwrite(m->own_fd, "x", 1, 0) == 1;
	case STAT:
		return stat(m->big, &st) == 0;
	case LISTED:
		return list(m->tree);
	case OPENED:
		return open_it(m->big);
	default:
		return false;
	}
}

/* With the time after it, so what is told is never too early. */
static bool tried(struct mount *m, enum what w)
{
	uint64_t begun = now();

	if (!try(m, w))
		return false;
	m->begun[w] = begun;
	m->last[w] = now();
	return true;
}

static void *probe(void *arg)
{
	const struct timespec pause = {.tv_sec = every_ms / 1000, .tv_nsec = (long)(every_ms % 1000) * 1000000};
	struct mount *m = arg;

	for (bool any = true; any && now() < give_up;) {
		any = false;
		for (enum what w = 0; w < LOAD; w++)
			any |= tried(m, w);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static _Thread_local struct mount *walked;

static int on_entry(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)path, (void)st, (void)where;
	if (type == FTW_NS || type == FTW_DNR)
		return 1;
	walked->begun[LOAD] = walked->last[LOAD] = now(); /* when it begins is nftw's business */
	return now() > give_up;
}

static bool one_turn(struct mount *m)
{
	size_t n = strcmp(m->load, "write1m") == 0 ? LONG : PAGE;
	unsigned turn = m->turn++;

	if (strcmp(m->load, "walk") == 0) {
		walked = m;
		return nftw(m->tree, on_entry, 16, FTW_PHYS) == 0;
	}
	if (strcmp(m->load, "map") == 0)
		return touch(m, 0, BIG);
	return pwrite(m->own_fd, m->buffer, n, (off_t)n * (turn % (OWN_PAGES * PAGE / n))) == (ssize_t)n;
}

static void *load(void *arg)
{
	struct mount *m = arg;

	for (unsigned turns = 0; now() < give_up; turns++) {
		uint64_t begun = now();

		if (!one_turn(m))
			break;
		m->begun[LOAD] = begun;
		m->last[LOAD] = now();
		if (turns == 0)
			atomic_fetch_add(&busy, 1);
	}
	return NULL;
}

static int open_checked(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void prepare(struct mount *m)
{
	snprintf(m->big, sizeof(m->big), "%s/%s/big", m->point, m->folder);
	snprintf(m->tree, sizeof(m->tree), "%s/%s/../tree", m->point, m->folder);
	snprintf(m->own, sizeof(m->own), "%s/%s/own-%d-%p", m->point, m->folder, (int)getpid(), (void *)m);
	m->big_fd = open_checked(m->big, O_RDONLY);
	m->own_fd = open_checked(m->own, O_RDWR | O_CREAT);
	m->map = mmap(NULL, BIG, PROT_READ, MAP_SHARED, m->big_fd, 0);
	m->buffer = calloc(1, LONG);
	if (m->map == MAP_FAILED || !m->buffer || !touch(m, 0, BIG))
		errx(1, "%s cannot be mapped", m->big);
	for (enum what w = 0; w < LOAD; w++)
		if (!tried(m, w))
			err(1, "%s: %s", m->point, names[w]);
}

static void begin(pthread_t *t, void *(*run)(void *), void *arg)
{
	if (pthread_create(t, NULL, run, arg) != 0)
		errx(1, "no thread");
}

int main(int argc, char **argv)
{
	const struct sigaction bus = {.sa_handler = on_sigbus, .sa_flags = SA_NODEFER};
	int n = argc - 4;
	struct mount *mounts = calloc((size_t)(n > 0 ? n : 1), sizeof(*mounts));
	bool loaded = argc > 4 && strcmp(argv[1], "idle") != 0;

	if (n < 1 || !mounts)
		errx(2, "usage: revoke_probe LOAD FOLDER EVERY_MS MOUNT...");
	sigaction(SIGBUS, &bus, NULL);
	every_ms = (unsigned)strtoul(argv[3], NULL, 10);
	for (int i = 0; i < n; i++) {
		mounts[i] = (struct mount){.point = argv[4 + i], .folder = argv[2], .load = argv[1]};
		prepare(&mounts[i]);
	}
	give_up = now() + 300 * (uint64_t)1000000000; /* for the load to begin */
	for (int i = 0; i < n && loaded; i++)
		begin(&mounts[i].loader, load, &mounts[i]);
	while (loaded && atomic_load(&busy) < (unsigned)n && now() < give_up)
		usleep(1000);
	give_up = now() + LIMIT_SECONDS * (uint64_t)1000000000;
	for (int i = 0; i < n; i++)
		begin(&mounts[i].prober, probe, &mounts[i]);
	printf("ready\n");
	fflush(stdout);
	for (int i = 0; i < n; i++) {
		pthread_join(mounts[i].prober, NULL);
		if (loaded)
			pthread_join(mounts[i].loader, NULL);
		for (enum what w = 0; w < WHATS; w++)
			if (w != LOAD || loaded)
				printf("%s %llu %llu\n", w == LOAD ? argv[1] : names[w], (unsigned long long)mounts[i].begun[w],
					(unsigned long long)mounts[i].last[w]);
	}
	return 0;
}
