#include "fs/store/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/scope.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

int backing_chmod(int dirfd, const char *entry, mode_t mode)
{
	scoped(close_fdp) int fd = -1;
	struct stat st;

	if (syscall(SYS_fchmodat2, dirfd, entry, mode, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	if (errno != ENOSYS)
		return -errno;
	/* Linux before 6.6: only through a descriptor is a symlink surely not followed. */
	if (fstatat(dirfd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -EOPNOTSUPP;
	fd = openat(dirfd, entry, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0)
		return fchmod(fd, mode) < 0 ? -errno : 0;
	if (geteuid() == 0)
		return -errno;
	return fchmodat(dirfd, entry, mode, 0) < 0 ? -errno : 0;
}

int backing_open(int dirfd, const char *entry, int flags)
{
	struct stat st;
	mode_t widened;
	int fd, r;

	flags |= O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	fd = openat(dirfd, entry, flags);
	if (fd >= 0 || errno != EACCES)
		return fd < 0 ? -errno : fd;
	if (fstatat(dirfd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_uid != geteuid() ||
		!(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return -EACCES;
	widened = (st.st_mode & 07777) | (S_ISDIR(st.st_mode) ? 0700 : 0600);
	r = backing_chmod(dirfd, entry, widened);
	if (r < 0)
		return -EACCES;
	fd = openat(dirfd, entry, flags);
	r = fd < 0 ? -errno : fd;
	if (fd < 0)
		(void)backing_chmod(dirfd, entry, st.st_mode & 07777);
	else
		(void)fchmod(fd, st.st_mode & 07777);
	return r;
}

int backing_read(int fd, void *buf, size_t n, off_t off, size_t *ret_n)
{
	size_t done = 0;
	ssize_t k;

	while (done < n) {
		k = pread(fd, (char *)buf + done, n - done, off + (off_t)done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			break;
		done += (size_t)k;
	}
	*ret_n = done;
	return 0;
}

int backing_write(int fd, const void *buf, size_t n, off_t off)
{
	size_t done = 0;
	ssize_t k;

	while (done < n) {
		k = pwrite(fd, (const char *)buf + done, n - done, off + (off_t)done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		done += (size_t)k;
	}
	return 0;
}

/* The attribute calls look at the bits of the inode, not at how the descriptor was opened. */
static mode_t widen(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0600) == 0600)
		return 0;
	if (fchmod(fd, (st.st_mode & 07777) | 0600) < 0)
		return 0;
	return st.st_mode;
}

int backing_setxattr(int fd, const char *attr, const void *val, size_t n, int flags)
{
	mode_t mode;
	int r = 0;

	if (fsetxattr(fd, attr, val, n, flags) == 0)
		return 0;
	if (errno != EACCES)
		return -errno;
	mode = widen(fd);
	if (mode == 0)
		return -EACCES;
	if (fsetxattr(fd, attr, val, n, flags) < 0)
		r = -errno;
	(void)fchmod(fd, mode & 07777);
	return r;
}

ssize_t backing_getxattr(int fd, const char *attr, void *buf, size_t cap)
{
	mode_t mode;
	ssize_t n;

	n = fgetxattr(fd, attr, buf, cap);
	if (n >= 0 || errno != EACCES)
		return n < 0 ? -errno : n;
	mode = widen(fd);
	if (mode == 0)
		return -EACCES;
	n = fgetxattr(fd, attr, buf, cap);
	if (n < 0)
		n = -errno;
	(void)fchmod(fd, mode & 07777);
	return n;
}

int backing_removexattr(int fd, const char *attr)
{
	mode_t mode;
	int r = 0;

	if (fremovexattr(fd, attr) == 0)
		return 0;
	if (errno != EACCES)
		return -errno;
	mode = widen(fd);
	if (mode == 0)
		return -EACCES;
	if (fremovexattr(fd, attr) < 0)
		r = -errno;
	(void)fchmod(fd, mode & 07777);
	return r;
}

ssize_t backing_readlink(int dirfd, const char *entry, char *buf, size_t cap)
{
	ssize_t n = readlinkat(dirfd, entry, buf, cap);

	if (n < 0)
		return -errno;
	if ((size_t)n >= cap)
		return -ENAMETOOLONG;
	buf[n] = 0;
	return n;
}

void backing_relax(int dirfd, mode_t *ret_mode)
{
	struct stat st;

	*ret_mode = 0;
	if (fstat(dirfd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0700) == 0700)
		return;
	if (fchmod(dirfd, (st.st_mode & 07777) | 0700) == 0)
		*ret_mode = st.st_mode;
}

void backing_restore(int dirfd, mode_t mode)
{
	if (mode != 0)
		(void)fchmod(dirfd, mode & 07777);
}
