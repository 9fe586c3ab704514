#include "common/statedir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/scope.h"

const struct statedir_entry statedir_layout[] = {
	{"keyd", 0700},
	{"keyd/keys", 0700},
	{"keyd/slot", 0700},
	{"keyd/certificates", 0700},
	{"ledger", 0700},
	{"ledger/journal", 0700},
	{"store", 0700},
	{"outbox", 0700},
	{"log", 0700},
	{0},
};

/* The absolute path of a folder that need not exist, while its parent must. */
static int resolve(const char *dir, bool must_exist, char **ret)
{
	scoped(freep) char *copy = NULL, *parent = NULL;
	char *slash;
	size_t n;

	*ret = realpath(dir, NULL);
	if (*ret)
		return 0;
	if (errno != ENOENT || must_exist)
		return -errno;
	copy = strdup(dir);
	if (!copy)
		return -ENOMEM;
	for (n = strlen(copy); n > 1 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	slash = strrchr(copy, '/');
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
	if (!parent)
		return -errno;
	if (asprintf(ret, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, slash ? slash + 1 : copy) < 0)
		return -ENOMEM;
	return 0;
}

int statedir_find(const char *dir, bool must_exist, struct statedir *ret)
{
	scoped(freep) char *root = NULL, *run = NULL;
	int r;

	if (!dir)
		dir = getenv("COFFER_DIR");
	if (!dir || *dir == '\0')
		dir = STATEDIR_DEFAULT;
	r = resolve(dir, must_exist, &root);
	if (r < 0)
		return r;
	if (strcmp(root, STATEDIR_DEFAULT) == 0)
		run = strdup(STATEDIR_RUN_DEFAULT);
	else if (asprintf(&run, "%s/run", root) < 0)
		run = NULL;
	if (!run)
		return -ENOMEM;
	ret->root = take_ptr(&root);
	ret->run = take_ptr(&run);
	return 0;
}

void statedir_done(struct statedir *d)
{
	freep(&d->root);
	freep(&d->run);
	*d = (struct statedir){0};
}

/* The mode is set exactly, whatever the umask is, but only on what is new: an owner may have opened a
 * folder of his further or closed it. */
static int make_dir(int at, const char *path, mode_t mode)
{
	if (mkdirat(at, path, mode & 0700) < 0) {
		struct stat st;

		if (errno != EEXIST)
			return -errno;
		if (fstatat(at, path, &st, 0) < 0)
			return -errno;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	}
	return fchmodat(at, path, mode, 0) < 0 ? -errno : 0;
}

int statedir_create(const struct statedir *d)
{
	scoped(close_fdp) int root = -1;
	int r;

	r = make_dir(AT_FDCWD, d->root, 0711);
	if (r < 0)
		return r;
	root = open(d->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	for (const struct statedir_entry *e = statedir_layout; e->rel; e++) {
		r = make_dir(root, e->rel, e->mode);
		if (r < 0)
			return r;
	}
	return make_dir(AT_FDCWD, d->run, 0755);
}

int statedir_open(const struct statedir *d, const char *rel, int flags, unsigned mode)
{
	scoped(close_fdp) int root = open(d->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (root < 0)
		return -errno;
	fd = openat(root, rel, flags | O_CLOEXEC, (mode_t)mode);
	return fd < 0 ? -errno : fd;
}

int statedir_lock(const struct statedir *d, const char *rel, int *ret_fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	scoped(close_fdp) int fd = statedir_open(d, rel, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return errno == EACCES ? -EWOULDBLOCK : -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}
