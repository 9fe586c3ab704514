/* System calls on the backing store that need care: never through a symlink, never through /proc, whole
 * buffers, and permission bits that lock out even the owner (the worker may be an ordinary user): then the
 * bits are widened for the one call and put back. */
#ifndef COFFER_BACKING_H
#define COFFER_BACKING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* openat with O_NOFOLLOW, O_CLOEXEC, O_NOCTTY and O_NONBLOCK added.  Returns the descriptor. */
int backing_open(int dirfd, const char *entry, int flags);
/* Exactly n bytes, or -errno.  backing_read: *ret_n may be less at the end of the file. */
int backing_read(int fd, void *buf, size_t n, off_t off, size_t *ret_n);
int backing_write(int fd, const void *buf, size_t n, off_t off);
int backing_setxattr(int fd, const char *attr, const void *val, size_t n, int flags);
ssize_t backing_getxattr(int fd, const char *attr, void *buf, size_t cap);	/* length */
int backing_removexattr(int fd, const char *attr);
int backing_chmod(int dirfd, const char *entry, mode_t mode);	/* -EOPNOTSUPP on a symlink */
/* NUL-terminated; -ENOENT, -EINVAL: no symlink; -ENAMETOOLONG: longer than cap - 1.  Returns the length. */
ssize_t backing_readlink(int dirfd, const char *entry, char *buf, size_t cap);

/* Makes the directory writable and searchable for its owner, if it is not; *ret_mode is what backing_restore
 * puts back (0: nothing). */
void backing_relax(int dirfd, mode_t *ret_mode);
void backing_restore(int dirfd, mode_t mode);

#endif
