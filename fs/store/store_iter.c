/* Reading a directory: one descriptor and one buffer a reader. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/store_impl.h"

#define BUFFER_BYTES 32768

struct store_iter {
	struct store_dir *dir;
	int fd; /* -1 until the first read: a list that the kernel remembers is opened and not read */
	uint64_t cookie; /* of the entry before buf[at] */
	size_t at, end;
	_Alignas(struct dirent64) char buf[BUFFER_BYTES];
};

DEFINE_SCOPED(struct store_iter *, store_iter_free)

int store_iter_new(struct store_dir *d, struct store_iter **ret)
{
	scoped(store_iter_freep) struct store_iter *i = malloc(sizeof(*i));

	if (!i)
		return -ENOMEM;
	i->dir = store_dir_ref(d);
	i->cookie = 0;
	i->at = i->end = 0;
	i->fd = -1;
	*ret = take_ptr(&i);
	return 0;
}

void store_iter_free(struct store_iter *i)
{
	if (!i)
		return;
	store_dir_unref(i->dir);
	close_fdp(&i->fd);
	free(i);
}

/* 1: *ret points into the buffer; 0: the end. */
static int next_entry(struct store_iter *i, const struct dirent64 **ret)
{
	ssize_t n;

	if (i->at == i->end) {
		n = getdents64(i->fd, i->buf, sizeof(i->buf));
		if (n <= 0)
			return n < 0 ? -errno : 0;
		i->at = 0;
		i->end = (size_t)n;
	}
	*ret = (const struct dirent64 *)(i->buf + i->at);
	return 1;
}

int dir_entry_name(struct store_dir *d, const char *entry, char name[NAME_MAX_BYTES + 1])
{
	char side[NAME_MAX_BYTES + 1], text[NAME_TEXT_MAX];
	ssize_t n;

	if (!name_is_long(entry))
		return name_open(&d->keys->name, entry, NULL, name);
	name_side(entry, side);
	n = backing_readlink(d->fd, side, text, sizeof(text));
	if (n == -ENOENT || n == -EINVAL || n == -ENAMETOOLONG)
		return -EBADMSG;
	return n < 0 ? (int)n : name_open(&d->keys->name, entry, text, name);
}

/* Its mode can have changed since the opening, and locks out the worker of an ordinary user, but not who has opened it. */
static int open_to_read(const struct store_dir *d)
{
	mode_t mode;
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd >= 0 || errno != EACCES)
		return fd < 0 ? -errno : fd;
	backing_relax(d->fd, &mode);
	fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? -errno : fd;
	backing_restore(d->fd, mode);
	return r;
}

static int seek_to(struct store_iter *i, uint64_t cookie)
{
	bool fresh = i->fd < 0;
	int fd;

	if (fresh) {
		fd = open_to_read(i->dir);
		if (fd < 0)
			return fd;
		i->fd = fd;
	}
	if (cookie == i->cookie && (cookie != 0 || fresh))
		return 0;
	if (lseek(i->fd, (off_t)cookie, SEEK_SET) < 0)
		return -errno;
	i->at = i->end = 0;
	i->cookie = cookie;
	return 0;
}

int store_iter_read(struct store_iter *i, uint64_t cookie,
	int (*fill)(const struct store_entry *e, void *arg), void *arg, unsigned *ret_damaged)
{
	const struct dirent64 *de = NULL;
	char name[NAME_MAX_BYTES + 1];
	struct store_entry e;
	int r;

	*ret_damaged = 0;
	r = seek_to(i, cookie);
	while (r == 0) {
		r = next_entry(i, &de);
		if (r <= 0)
			return r;
		r = de->d_name[0] == '.' ? -ENOENT : dir_entry_name(i->dir, de->d_name, name);
		if (r == 0) {
			e = (struct store_entry){.name = name,
				.cookie = (uint64_t)de->d_off,
				.ino = de->d_ino,
				.d_type = de->d_type};
			if (fill(&e, arg) != 0)
				return 0;
		} else if (r == -EBADMSG) {
			(void)store_damage("name");
			++*ret_damaged;
		} else if (r != -ENOENT) {
			return r;
		}
		i->cookie = (uint64_t)de->d_off;
		i->at += de->d_reclen;
		r = 0;
	}
	return r;
}
