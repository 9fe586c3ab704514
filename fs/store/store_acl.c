/* POSIX ACLs are kept native, so that the backing file system keeps, inherits and backs them up itself. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/xattr.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

/* A socket and a symlink cannot be opened: they have no ACL here. */
static int entry_open(struct store_dir *d, const char *name, int *ret)
{
	struct name_entry n;
	int r = name_seal(&d->keys->name, name, &n);

	if (r == 0)
		r = backing_open(d->fd, n.entry, O_RDONLY);
	if (r < 0)
		return r == -ENXIO || r == -ELOOP ? -EOPNOTSUPP : r;
	*ret = r;
	return 0;
}

int store_acl_get(struct store_dir *d, const char *name, const char *attr, void *buf, size_t cap)
{
	scoped(close_fdp) int fd = -1;
	int r = name ? entry_open(d, name, &fd) : 0;

	if (r < 0)
		return r == -EOPNOTSUPP ? -ENODATA : r;
	return (int)backing_getxattr(name ? fd : d->fd, attr, buf, cap);
}

int store_acl_set(
	struct store_dir *d, const char *name, const char *attr, const void *val, size_t n, int flags)
{
	scoped(close_fdp) int fd = -1;
	int r = name ? entry_open(d, name, &fd) : 0;

	if (r < 0)
		return r;
	return val ? backing_setxattr(name ? fd : d->fd, attr, val, n, flags)
		   : backing_removexattr(name ? fd : d->fd, attr);
}

int file_acl_get(struct file *f, const char *attr, void *buf, size_t cap)
{
	return (int)backing_getxattr(f->fd, attr, buf, cap);
}

int file_acl_set(struct file *f, const char *attr, const void *val, size_t n, int flags)
{
	return val ? backing_setxattr(f->fd, attr, val, n, flags) : backing_removexattr(f->fd, attr);
}

/* Group class: the mask where there is one, else the owning group. */
static void acl_mask_by(struct posix_acl_xattr_entry *e, size_t n, mode_t mode)
{
	struct posix_acl_xattr_entry *group = NULL;

	for (size_t i = 0; i < n; i++)
		switch (e[i].e_tag) {
		case ACL_USER_OBJ:
			e[i].e_perm &= (uint16_t)(mode >> 6 & 7);
			break;
		case ACL_OTHER:
			e[i].e_perm &= (uint16_t)(mode & 7);
			break;
		case ACL_GROUP_OBJ:
			if (!group)
				group = &e[i];
			break;
		case ACL_MASK:
			group = &e[i];
			break;
		}
	if (group)
		group->e_perm &= (uint16_t)(mode >> 3 & 7);
}

int file_inherit_acl(struct file *f, struct store_dir *d, mode_t mode)
{
	struct {
		struct posix_acl_xattr_header head;
		struct posix_acl_xattr_entry entries[XATTR_SIZE_MAX / sizeof(struct posix_acl_xattr_entry)];
	} *acl = malloc(sizeof(*acl));
	int n, r = 0;

	if (!acl)
		return -ENOMEM;
	n = store_acl_get(d, NULL, XATTR_NAME_POSIX_ACL_DEFAULT, acl, sizeof(*acl));
	if (n > (int)sizeof(acl->head)) {
		acl_mask_by(acl->entries, ((size_t)n - sizeof(acl->head)) / sizeof(acl->entries[0]), mode);
		r = backing_setxattr(f->fd, XATTR_NAME_POSIX_ACL_ACCESS, acl, (size_t)n, 0);
	} else if (n < 0 && n != -ENODATA && n != -EOPNOTSUPP) {
		r = n;
	}
	free(acl);
	return r;
}

/* Without CAP_FSETID the bit can be set only for a group of our own: so the directory has one for a moment.
 */
int store_dir_set_gid_bit(struct store_dir *d)
{
	struct stat st;
	int r = 0;

	if (fstat(d->fd, &st) < 0 || fchown(d->fd, (uid_t)-1, getegid()) < 0)
		return -errno;
	if (fchmod(d->fd, (st.st_mode & 07777) | S_ISGID) < 0)
		r = -errno;
	if (fchown(d->fd, (uid_t)-1, st.st_gid) < 0)
		r = -errno;
	return r;
}
