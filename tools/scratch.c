#include "tools/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/backup_dir.h"
#include "tools/confine.h"

#define LOCK "lock"
#define TRIES 50
#define TRY_MS 20
#define WALK_FDS 16

/* ---- the lock ---- */

/* length 0: the whole file, as no shell has it. */
static int lock_try(int fd, uint64_t at, off_t length)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = length};

	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

static bool is_over(int lock, uint64_t session)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)session, .l_len = 1};

	return fcntl(lock, F_OFD_GETLK, &l) == 0 && l.l_type == F_UNLCK;
}

static int open_folder(const char *mount)
{
	scoped(close_fdp) int root = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (root < 0)
		return -errno;
	fd = openat(root, SCRATCH_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* -EAGAIN: another shell is just removing it all, since it was the last. */
static int lock_own(int folder, uint64_t session, int *ret_lock)
{
	scoped(close_fdp) int fd = openat(folder, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat ours, now;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno; /* the folder has been removed */
	r = lock_try(fd, session, 1);
	if (r < 0)
		return r == -EACCES ? -EAGAIN : r;
	if (fstat(fd, &ours) < 0 || fstatat(folder, LOCK, &now, AT_SYMLINK_NOFOLLOW) < 0 || ours.st_ino != now.st_ino)
		return -EAGAIN;
	*ret_lock = take_fd(&fd);
	return 0;
}

static int make_once(const char *mount, uint64_t session, int *ret_lock)
{
	scoped(close_fdp) int folder = -1, lock = -1;
	scoped(freep) char *path = NULL;
	char name[24];
	int r;

	if (asprintf(&path, "%s/" SCRATCH_FOLDER, mount) < 0)
		return -ENOMEM;
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	folder = open_folder(mount);
	if (folder < 0)
		return folder == -ENOENT ? -EAGAIN : folder;
	r = lock_own(folder, session, &lock);
	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%llu", (unsigned long long)session);
	if (mkdirat(folder, name, 0700) < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	*ret_lock = take_fd(&lock);
	return 0;
}

int scratch_make(const char *mount, uint64_t session, char **ret_path, int *ret_lock)
{
	scoped(freep) char *path = NULL;
	int r = -EAGAIN;

	if (asprintf(&path, "%s/" SCRATCH_FOLDER "/%llu", mount, (unsigned long long)session) < 0)
		return -ENOMEM;
	for (int i = 0; r == -EAGAIN && i < TRIES; i++) {
		if (i > 0)
			poll(NULL, 0, TRY_MS);
		r = make_once(mount, session, ret_lock);
	}
	if (r == 0)
		*ret_path = take_ptr(&path);
	return r;
}

/* ---- what programs find there ---- */

static int put(const char *name, const char *path, const char *below)
{
	scoped(freep) char *value = NULL;

	if (asprintf(&value, "%s/%s", path, below) < 0)
		return -ENOMEM;
	return setenv(name, value, 1) < 0 ? -errno : 0;
}

/* What the user has installed or set for himself is still found: his own directory becomes the first of the system's. */
static int put_behind(const char *list, const char *own, const char *home_default, const char *system_default)
{
	const char *home = getenv("HOME"), *was = getenv(own), *rest = getenv(list);
	scoped(freep) char *value = NULL;
	int n;

	rest = rest && *rest ? rest : system_default;
	if (was && *was)
		n = asprintf(&value, "%s:%s", was, rest);
	else if (home && *home)
		n = asprintf(&value, "%s/%s:%s", home, home_default, rest);
	else
		return 0;
	return n < 0 ? -ENOMEM : setenv(list, value, 1) < 0 ? -errno : 0;
}

int scratch_enter(const char *path)
{
	static const char *const folders[] = {"tmp", "cache", "state", "data", "config"};
	static const struct {
		const char *name, *below;
	} vars[] = {{"TMPDIR", "tmp"}, {"TMP", "tmp"}, {"TEMP", "tmp"}, {"XDG_CACHE_HOME", "cache"}, {"XDG_STATE_HOME", "state"},
		{"XDG_DATA_HOME", "data"}, {"XDG_CONFIG_HOME", "config"}, {"HISTFILE", "state/history"},
		{"LESSHISTFILE", "state/lesshst"}, {"PYTHON_HISTORY", "state/python_history"},
		{"NODE_REPL_HISTORY", "state/node_history"}, {"SQLITE_HISTORY", "state/sqlite_history"},
		{"PSQL_HISTORY", "state/psql_history"}, {"MYSQL_HISTFILE", "state/mysql_history"}, {"CCACHE_DIR", "cache/ccache"}};
	scoped(close_fdp) int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		if (mkdirat(fd, folders[i], 0700) < 0 && errno != EEXIST)
			return -errno;
	r = put_behind("XDG_DATA_DIRS", "XDG_DATA_HOME", ".local/share", "/usr/local/share:/usr/share");
	if (r == 0)
		r = put_behind("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME", ".config", "/etc/xdg");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(vars); i++)
		r = put(vars[i].name, path, vars[i].below);
	return r;
}

/* ---- removing ---- */

static int open_up(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	if (type == FTW_D || type == FTW_DNR)
		(void)chmod(path, 0700);
	return 0;
}

/* Programs also leave directories that nobody may write or enter. */
static void remove_folder(int folder, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%.24s", folder, name);
	for (int i = 0; i < 3 && remove_tree(path) < 0; i++)
		(void)nftw(path, open_up, WALK_FDS, FTW_PHYS | FTW_MOUNT);
}

static void remove_over(int folder, int lock)
{
	scoped(close_fdp) int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	struct dirent *e;

	if (!d)
		return;
	again = -1;
	while ((e = readdir(d))) {
		char *end;
		unsigned long long session = strtoull(e->d_name, &end, 10);

		if (session && !*end && is_over(lock, session))
			remove_folder(folder, e->d_name);
	}
	closedir(d);
}

/* Whoever makes one meanwhile finds that the lock is not the one that lies there, and begins again. */
static void remove_last(const char *mount, int folder, int lock)
{
	scoped(freep) char *path = NULL;
	int r = -EAGAIN;

	for (int i = 0; (r == -EAGAIN || r == -EACCES) && i < TRIES / 5; i++) {
		if (i > 0)
			poll(NULL, 0, TRY_MS); /* our own shell, which ends just now */
		r = lock_try(lock, 0, 0);
	}
	if (r < 0 || asprintf(&path, "%s/" SCRATCH_FOLDER, mount) < 0)
		return;
	(void)unlinkat(folder, LOCK, 0);
	(void)rmdir(path);
}

static void remove_all(const char *mount, uint64_t session)
{
	scoped(close_fdp) int root = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC), folder = -1, lock = -1;
	char name[24];

	(void)confine_writes(&root, 1, false);
	folder = open_folder(mount);
	if (folder < 0)
		return;
	snprintf(name, sizeof(name), "%llu", (unsigned long long)session);
	if (session)
		remove_folder(folder, name);
	lock = openat(folder, LOCK, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (lock < 0)
		return;
	remove_over(folder, lock);
	if (session)
		remove_last(mount, folder, lock);
}

void scratch_remove(const char *mount, uint64_t session)
{
	pid_t pid = fork();

	if (pid == 0) {
		remove_all(mount, session);
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
