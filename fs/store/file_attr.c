/* Mode, owner, times and extended attributes of a file. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/store/file_impl.h"

int file_chmod(struct file *f, mode_t mode)
{
	return fchmod(f->fd, mode & 07777) < 0 ? -errno : 0;
}

int file_chown(struct file *f, uid_t uid, gid_t gid)
{
	return fchown(f->fd, uid, gid) < 0 ? -errno : 0;
}

/* The hint first: setting it at close must not touch the times that are set here. */
int file_utimens(struct file *f, const struct timespec ts[2])
{
	int r = file_flush(f);

	if (r < 0)
		return r;
	return futimens(f->fd, ts) < 0 ? -errno : 0;
}

void file_xattr_owner(struct file *f, struct xattr_keys *keys, struct xattr_owner *ret)
{
	xattr_keys_of_file(f->key, keys);
	ret->fd = f->fd;
	ret->keys = keys;
	memcpy(ret->id, f->h.id.b, sizeof(ret->id));
}

/* The file as the owner of attributes, which it is by its key.  f->lock is held.  -ENODATA: it has none, and so no attributes. */
static int attr_owner(struct file *f, struct xattr_keys *keys, struct xattr_owner *ret)
{
	if (!f->has_header)
		return -ENODATA;
	file_xattr_owner(f, keys, ret);
	return 0;
}

int file_getxattr(struct file *f, const char *attr, void *buf, size_t cap)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o;
	int r = xattr_check_name(attr);

	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&f->lock);
	r = attr_owner(f, &keys, &o);
	if (r == 0)
		r = xattr_get(&o, attr, buf, cap);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_setxattr(struct file *f, const char *attr, const void *val, size_t n, int flags)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o;
	int r = xattr_check_name(attr);

	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	r = f->writable ? file_need_header(f, 0) : -EROFS;
	if (r == 0)
		r = attr_owner(f, &keys, &o);
	if (r == 0)
		r = xattr_set(&o, attr, val, n, flags);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_listxattr(struct file *f, char *buf, size_t cap)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o;
	int r;

	pthread_rwlock_rdlock(&f->lock);
	r = attr_owner(f, &keys, &o);
	r = r == 0 ? xattr_list(&o, buf, cap) : 0;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_removexattr(struct file *f, const char *attr)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o;
	int r = xattr_check_name(attr);

	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	r = attr_owner(f, &keys, &o);
	if (r == 0)
		r = xattr_remove(&o, attr);
	pthread_rwlock_unlock(&f->lock);
	return r;
}
