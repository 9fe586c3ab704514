#include "keyd/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"

static int write_at(int fd, const uint8_t *p, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t k = pwrite(fd, p, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		p += k;
		n -= (size_t)k;
		at += k;
	}
	return 0;
}

/* Exactly n bytes; -ENODATA when the file ends before. */
static int read_at(int fd, uint8_t *p, size_t n, off_t at)
{
	while (n > 0) {
		ssize_t k = pread(fd, p, n, at);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -ENODATA;
		p += k;
		n -= (size_t)k;
		at += k;
	}
	return 0;
}

int disk_sync_dir(int dirfd)
{
	return fsync(dirfd) < 0 ? -errno : 0;
}

void disk_mark_private(int fd)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return;
	flags |= FS_NODUMP_FL;
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	flags |= FS_NOCOW_FL; /* btrfs alone knows it, others refuse the whole call: hence apart */
	(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

int disk_read(int dirfd, const char *name, size_t max, uint8_t **ret, size_t *ret_n)
{
	scoped(close_fdp) int fd = -1;
	scoped(freep) uint8_t *buf = NULL;
	struct stat st;
	int r;

	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	if ((uint64_t)st.st_size > max)
		return -EMSGSIZE;
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return -ENOMEM;
	r = read_at(fd, buf, (size_t)st.st_size, 0);
	if (r < 0)
		return r;
	*ret = take_ptr(&buf);
	*ret_n = (size_t)st.st_size;
	return 0;
}

static int compare_written(int dirfd, const char *name, const void *buf, size_t n)
{
	scoped(freep) uint8_t *back = NULL;
	size_t back_n;
	int r;

	r = disk_read(dirfd, name, n, &back, &back_n);
	if (r < 0)
		return r;
	return back_n == n && memcmp(back, buf, n) == 0 ? 0 : -EIO;
}

int disk_replace(int dirfd, const char *name, const void *buf, size_t n)
{
	scoped(close_fdp) int fd = -1;
	char tmp[128];
	int r, k;

	k = snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	if (k < 0 || (size_t)k >= sizeof(tmp))
		return -ENAMETOOLONG;
	if (unlinkat(dirfd, tmp, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = write_at(fd, buf, n, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* so that it is the disk that is read back */
	if (r == 0)
		r = compare_written(dirfd, tmp, buf, n);
	if (r == 0 && renameat(dirfd, tmp, dirfd, name) < 0)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dirfd, tmp, 0);
		return r;
	}
	return disk_sync_dir(dirfd);
}

int disk_read_block(int dirfd, const char *name, unsigned block, uint8_t buf[DISK_BLOCK])
{
	_Alignas(DISK_BLOCK) uint8_t aligned[DISK_BLOCK];
	scoped(close_fdp) int fd = -1;
	off_t at = (off_t)block * DISK_BLOCK;
	int r = -EINVAL;

	/* Past the cache where possible: what counts is what the medium says. */
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_DIRECT);
	if (fd >= 0)
		r = read_at(fd, aligned, DISK_BLOCK, at);
	if (r == -EINVAL) {
		close_fdp(&fd);
		fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0)
			return -errno;
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		r = read_at(fd, aligned, DISK_BLOCK, at);
	}
	if (r < 0)
		return r;
	memcpy(buf, aligned, DISK_BLOCK);
	return 0;
}

int disk_write_block(int dirfd, const char *name, unsigned block, const uint8_t buf[DISK_BLOCK])
{
	scoped(close_fdp) int fd = -1;
	uint8_t back[DISK_BLOCK];
	int r;

	fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	r = write_at(fd, buf, DISK_BLOCK, (off_t)block * DISK_BLOCK);
	if (r < 0)
		return r;
	if (fsync(fd) < 0)
		return -errno;
	r = disk_read_block(dirfd, name, block, back);
	if (r < 0)
		return r;
	return memcmp(back, buf, DISK_BLOCK) == 0 ? 0 : -EIO;
}

int disk_destroy(int dirfd, const char *name)
{
	scoped(close_fdp) int fd = -1;
	uint8_t noise[DISK_BLOCK];
	struct stat st;
	int r;

	fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	for (off_t at = 0; at < st.st_size; at += DISK_BLOCK) {
		off_t left = st.st_size - at;

		randombytes_buf(noise, sizeof(noise));
		r = write_at(fd, noise, left < DISK_BLOCK ? (size_t)left : DISK_BLOCK, at);
		if (r < 0)
			return r;
	}
	if (fsync(fd) < 0 || unlinkat(dirfd, name, 0) < 0)
		return -errno;
	return disk_sync_dir(dirfd);
}
