/* The calls that change names and attributes: see memfs_calls.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memfs_calls.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define ATTR_ROOM 65536

/* ---- names ---- */

CALL(int, mkdirat, int dirfd, const char *name, mode_t mode)
{
	if (!mem_ours(dirfd))
		return __real_mkdirat(dirfd, name, mode);
	if (mem_fails("mkdirat", CHANGES | NEEDS_ROOM) || !mem_may_add(dirfd, name))
		return -1;
	mem_add(dirfd, name, S_IFDIR | mode, NULL);
	return 0;
}

CALL(int, mknodat, int dirfd, const char *name, mode_t mode, dev_t dev)
{
	if (!mem_ours(dirfd))
		return __real_mknodat(dirfd, name, mode, dev);
	if (mem_fails("mknodat", CHANGES | NEEDS_ROOM) || !mem_may_add(dirfd, name))
		return -1;
	mem_add(dirfd, name, mode, NULL);
	return 0;
}

CALL(int, symlinkat, const char *target, int dirfd, const char *name)
{
	if (!mem_ours(dirfd))
		return __real_symlinkat(target, dirfd, name);
	if (mem_fails("symlinkat", CHANGES | NEEDS_ROOM) || !mem_may_add(dirfd, name))
		return -1;
	mem_add(dirfd, name, S_IFLNK | 0777, target);
	return 0;
}

CALL(int, linkat, int dirfd, const char *name, int to, const char *new_name, int flags)
{
	struct op o = {.kind = OP_LINK, .name = (char *)new_name};
	struct node *n;

	if (!mem_ours(dirfd))
		return __real_linkat(dirfd, name, to, new_name, flags);
	if (mem_fails("linkat", CHANGES | NEEDS_ROOM))
		return -1;
	n = mem_find(dirfd, name);
	if (!n || !mem_may_add(to, new_name))
		return -1;
	if (S_ISDIR(n->mode))
		return mem_error(EPERM);
	o.ino = n->ino;
	o.dir = mem_file(to)->node->ino;
	memfs_do(mem_fs, &o);
	return 0;
}

CALL(int, unlinkat, int dirfd, const char *name, int flags)
{
	struct op o = {.kind = OP_UNLINK, .name = (char *)name};
	struct node *n;

	if (!mem_ours(dirfd))
		return __real_unlinkat(dirfd, name, flags);
	if (mem_fails("unlinkat", CHANGES))
		return -1;
	n = mem_find(dirfd, name);
	if (!n)
		return -1;
	if (S_ISDIR(n->mode) != ((flags & AT_REMOVEDIR) != 0))
		return mem_error(S_ISDIR(n->mode) ? EISDIR : ENOTDIR);
	if (S_ISDIR(n->mode) && n->n_entries > 0)
		return mem_error(ENOTEMPTY);
	o.ino = n->ino;
	o.dir = mem_file(dirfd)->node->ino;
	memfs_do(mem_fs, &o);
	return 0;
}

static int rename_at(int dirfd, const char *name, int to, const char *new_name, unsigned flags)
{
	struct op o = {.kind = flags & RENAME_EXCHANGE ? OP_EXCHANGE : OP_RENAME,
		.name = (char *)name,
		.to_name = (char *)new_name};
	struct node *n, *target;

	if (mem_fails("renameat", CHANGES | NEEDS_ROOM))
		return -1;
	n = mem_find(dirfd, name);
	if (!n)
		return -1;
	target = mem_find(to, new_name);
	if (!target && errno != ENOENT)
		return -1;
	if (target && (flags & RENAME_NOREPLACE))
		return mem_error(EEXIST);
	if (!target && (flags & RENAME_EXCHANGE))
		return mem_error(ENOENT);
	if (target == n)
		return 0;
	if (target && !flags && S_ISDIR(n->mode) != S_ISDIR(target->mode))
		return mem_error(S_ISDIR(n->mode) ? ENOTDIR : EISDIR);
	if (target && !flags && target->n_entries > 0)
		return mem_error(ENOTEMPTY);
	o.ino = n->ino;
	o.dir = mem_file(dirfd)->node->ino;
	o.to_dir = mem_file(to)->node->ino;
	memfs_do(mem_fs, &o);
	return 0;
}

CALL(int, renameat2, int dirfd, const char *name, int to, const char *new_name, unsigned flags)
{
	if (!mem_ours(dirfd))
		return __real_renameat2(dirfd, name, to, new_name, flags);
	return rename_at(dirfd, name, to, new_name, flags);
}

CALL(int, renameat, int dirfd, const char *name, int to, const char *new_name)
{
	if (!mem_ours(dirfd))
		return __real_renameat(dirfd, name, to, new_name);
	return rename_at(dirfd, name, to, new_name, 0);
}

/* ---- attributes ---- */

CALL(int, fsetxattr, int fd, const char *name, const void *value, size_t n, int flags)
{
	struct op o = {.kind = OP_SETXATTR, .name = (char *)name, .value = (void *)value, .n = n};
	struct node *node;

	if (!mem_ours(fd))
		return __real_fsetxattr(fd, name, value, n, flags);
	if (mem_fails("fsetxattr", CHANGES | NEEDS_ROOM))
		return -1;
	node = mem_file(fd)->node;
	if ((flags & 1) && memfs_attr(node, name))
		return mem_error(EEXIST);
	if ((flags & 2) && !memfs_attr(node, name))
		return mem_error(ENODATA);
	if (n > ATTR_ROOM)
		return mem_error(E2BIG);
	o.ino = node->ino;
	memfs_do(mem_fs, &o);
	return 0;
}

CALL(ssize_t, fgetxattr, int fd, const char *name, void *buf, size_t cap)
{
	struct attr_mem *a;

	if (!mem_ours(fd))
		return __real_fgetxattr(fd, name, buf, cap);
	if (mem_fails("fgetxattr", READS))
		return -1;
	a = memfs_attr(mem_file(fd)->node, name);
	if (!a)
		return mem_error(ENODATA);
	if (cap > 0 && cap < a->n)
		return mem_error(ERANGE);
	if (cap > 0)
		memcpy(buf, a->value, a->n);
	return (ssize_t)a->n;
}

CALL(int, fremovexattr, int fd, const char *name)
{
	struct op o = {.kind = OP_REMOVEXATTR, .name = (char *)name};

	if (!mem_ours(fd))
		return __real_fremovexattr(fd, name);
	if (mem_fails("fremovexattr", CHANGES))
		return -1;
	if (!memfs_attr(mem_file(fd)->node, name))
		return mem_error(ENODATA);
	o.ino = mem_file(fd)->node->ino;
	memfs_do(mem_fs, &o);
	return 0;
}

CALL(ssize_t, flistxattr, int fd, char *buf, size_t cap)
{
	size_t used = 0, i, len;
	struct node *n;

	if (!mem_ours(fd))
		return __real_flistxattr(fd, buf, cap);
	if (mem_fails("flistxattr", READS))
		return -1;
	n = mem_file(fd)->node;
	for (i = 0; i < n->n_attrs; i++) {
		len = strlen(n->attrs[i].name) + 1;
		if (cap > 0 && used + len > cap)
			return mem_error(ERANGE);
		if (cap > 0)
			memcpy(buf + used, n->attrs[i].name, len);
		used += len;
	}
	return (ssize_t)used;
}

static int change_mode(struct node *n, mode_t mode)
{
	struct op o = {.kind = OP_CHMOD, .ino = n->ino, .mode = mode & 07777};

	memfs_do(mem_fs, &o);
	return 0;
}

CALL(int, fchmod, int fd, mode_t mode)
{
	if (!mem_ours(fd))
		return __real_fchmod(fd, mode);
	return mem_fails("fchmod", CHANGES) ? -1 : change_mode(mem_file(fd)->node, mode);
}

CALL(int, fchmodat, int dirfd, const char *name, mode_t mode, int flags)
{
	struct node *n;

	if (!mem_ours(dirfd))
		return __real_fchmodat(dirfd, name, mode, flags);
	if (mem_fails("fchmodat", CHANGES))
		return -1;
	n = mem_find(dirfd, name);
	return n ? change_mode(n, mode) : -1;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	long a[6];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number != SYS_fchmodat2 || !mem_ours((int)a[0]))
		return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return __wrap_fchmodat((int)a[0], (const char *)a[1], (mode_t)a[2], (int)a[3]);
}

static int change_owner(struct node *n, uid_t uid, gid_t gid)
{
	struct op o = {.kind = OP_CHOWN,
		.ino = n->ino,
		.uid = uid == (uid_t)-1 ? n->uid : uid,
		.gid = gid == (gid_t)-1 ? n->gid : gid};

	memfs_do(mem_fs, &o);
	return 0;
}

CALL(int, fchown, int fd, uid_t uid, gid_t gid)
{
	if (!mem_ours(fd))
		return __real_fchown(fd, uid, gid);
	return mem_fails("fchown", CHANGES) ? -1 : change_owner(mem_file(fd)->node, uid, gid);
}

CALL(int, fchownat, int dirfd, const char *name, uid_t uid, gid_t gid, int flags)
{
	struct node *n;

	if (!mem_ours(dirfd))
		return __real_fchownat(dirfd, name, uid, gid, flags);
	if (mem_fails("fchownat", CHANGES))
		return -1;
	n = mem_find(dirfd, name);
	return n ? change_owner(n, uid, gid) : -1;
}

/* Times are no promise: they are kept, not logged. */
static int change_times(struct node *n, const struct timespec ts[2])
{
	if (!ts || ts[1].tv_nsec == UTIME_NOW)
		n->mtime = mem_now();
	else if (ts[1].tv_nsec != UTIME_OMIT)
		n->mtime = ts[1];
	return 0;
}

CALL(int, futimens, int fd, const struct timespec ts[2])
{
	if (!mem_ours(fd))
		return __real_futimens(fd, ts);
	return mem_fails("futimens", CHANGES) ? -1 : change_times(mem_file(fd)->node, ts);
}

CALL(int, utimensat, int dirfd, const char *name, const struct timespec ts[2], int flags)
{
	struct node *n;

	if (!mem_ours(dirfd))
		return __real_utimensat(dirfd, name, ts, flags);
	if (mem_fails("utimensat", CHANGES))
		return -1;
	n = mem_find(dirfd, name);
	return n ? change_times(n, ts) : -1;
}

/* One thread: whatever wants another one does its work itself, in an order that is the same each time. */
int __wrap_pthread_create(void);
int __wrap_pthread_create(void)
{
	return EAGAIN;
}
