/* Names that come and go: mkdir, mknod, unlink, rmdir, link; attributes by name.  Renames: store_rename.c. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

static int entry_stat(struct store_dir *d, const char *entry, struct stat *ret)
{
	return fstatat(d->fd, entry, ret, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int fill_dir(struct store_dir *d, const char *entry, mode_t mode, struct stat *ret)
{
	scoped(close_fdp) int fd = -1;
	struct dir_id id;
	int r;

	fd = backing_open(d->fd, entry, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = dir_new_id(d->store, &id);
	if (r == 0)
		r = dir_write_id(fd, DIR_ID, &d->keys->place, &id, entry);
	if (r < 0)
		return r;
	if (fstat(fd, ret) < 0)
		return -errno;
	/* Only what was added for the moment: a default ACL may have given less than was asked for. */
	mode = ret->st_mode & ((mode & 0700) | ~(mode_t)0700) & 07777;
	if (mode == (ret->st_mode & 07777))
		return 0;
	if (fchmod(fd, mode) < 0)
		return -errno;
	ret->st_mode = S_IFDIR | mode;
	return 0;
}

int store_mkdir(struct store_dir *d, const char *name, mode_t mode, struct stat *ret)
{
	struct name_entry n;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	if (r == 0)
		r = dir_write_side(d, &n);
	if (r < 0)
		return r;
	if (mkdirat(d->fd, n.entry, (mode & 07777) | 0700) < 0)
		return -errno;
	r = fill_dir(d, n.entry, mode, ret);
	if (r < 0) {
		struct dir_removal m = {.fd = -1};

		(void)dir_prepare_removal(d, n.entry, &m);
		(void)unlinkat(d->fd, n.entry, AT_REMOVEDIR);
		dir_removal_done(&m);
	}
	return r;
}

int store_mknod(struct store_dir *d, const char *name, mode_t mode, dev_t dev, struct stat *ret)
{
	struct name_entry n;
	struct file *f;
	int r;

	if (S_ISCHR(mode) || S_ISBLK(mode))
		return -EPERM;
	if (S_ISREG(mode) || (mode & S_IFMT) == 0) {
		r = file_create(d, name, mode, &f, ret);
		if (r == 0)
			file_close(f);
		return r;
	}
	if (!S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EINVAL;
	r = name_seal(&d->keys->name, name, &n);
	if (r == 0)
		r = dir_write_side(d, &n);
	if (r < 0)
		return r;
	if (mknodat(d->fd, n.entry, mode, 0) < 0)
		return -errno;
	return entry_stat(d, n.entry, ret);
}

int store_victim_find(struct store_dir *d, const char *name, struct store_victim *ret)
{
	struct name_entry n;
	int r = store_find(d, name, &n, &ret->st);

	ret->fd = -1;
	if (r == 0)
		memcpy(ret->entry, n.entry, sizeof(ret->entry));
	return r;
}

int store_unlink(struct store_dir *d, const char *name)
{
	struct store_victim v;
	int r = store_victim_find(d, name, &v);

	return r < 0 ? r : store_unlink_victim(d, &v);
}

int store_unlink_victim(struct store_dir *d, struct store_victim *v)
{
	scoped(close_fdp) int keeps = take_fd(&v->fd);
	struct link_side side = {.name = ""};
	int r = S_ISLNK(v->st.st_mode) ? link_side_of(d, v->entry, &side) : 0;

	if (r < 0)
		return r;
	if (keeps < 0 && S_ISREG(v->st.st_mode) && v->st.st_nlink == 1 && v->st.st_blocks > 0)
		keeps = openat(d->fd, v->entry, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (unlinkat(d->fd, v->entry, 0) < 0)
		return -errno;
	reaper_close(d->store->reaper, take_fd(&keeps));
	link_side_drop(&side, d);
	dir_drop_side(d, v->entry);
	return 0;
}

static int remove_dir(struct store_dir *d, const char *entry)
{
	struct dir_removal m = {.fd = -1};
	int r = dir_prepare_removal(d, entry, &m);

	if (r < 0)
		return r;
	if (unlinkat(d->fd, entry, AT_REMOVEDIR) < 0) {
		r = -errno;
		dir_undo_removal(&m);
		return r;
	}
	dir_removal_done(&m);
	dir_drop_side(d, entry);
	return 0;
}

int store_rmdir(struct store_dir *d, const char *name)
{
	struct name_entry n;
	int r = name_seal(&d->keys->name, name, &n);

	return r < 0 ? r : remove_dir(d, n.entry);
}

int store_rmdir_victim(struct store_dir *d, const struct store_victim *v)
{
	return remove_dir(d, v->entry);
}

/* What must be true before a second name may appear. */
static int prepare_link(struct store_dir *d, const char *entry, struct store_dir *to)
{
	struct link_side side;
	struct file *f;
	struct stat st;
	int r;

	r = entry_stat(d, entry, &st);
	if (r < 0)
		return r;
	if (S_ISDIR(st.st_mode))
		return -EPERM;
	if (S_ISREG(st.st_mode)) {
		r = file_open_entry(d, entry, &f);
		if (r < 0)
			return r;
		r = subjects_stick(d, to, NULL, f);
		if (r == 0)
			r = file_mark_linked(f);
		file_close(f);
		return r;
	}
	r = link_side_of(d, entry, &side);
	return r < 0 ? r : link_side_copy(&side, d, to);
}

int store_link(struct store_dir *d, const char *name, struct store_dir *to, const char *new_name)
{
	struct name_entry n, m;
	struct stat st;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	if (r == 0)
		r = name_seal(&to->keys->name, new_name, &m);
	if (r < 0)
		return r;
	if (entry_stat(to, m.entry, &st) == 0)
		return -EEXIST;
	r = prepare_link(d, n.entry, to);
	if (r == 0)
		r = dir_write_side(to, &m);
	if (r < 0)
		return r;
	r = linkat(d->fd, n.entry, to->fd, m.entry, 0) < 0 ? -errno : 0;
	atomic_fetch_add(&d->store->renames, 1);
	return r;
}

/* Whose attribute it is: an open file, or a directory. */
struct target {
	struct file *file;
	struct store_dir *dir;
};

static void target_done(struct target *t)
{
	file_close(t->file);
	store_dir_unref(t->dir);
}

/* -EPERM: a symlink, fifo or socket has none of user.*, as on ext4. */
static int target_open(struct store_dir *d, const char *name, struct target *ret)
{
	struct name_entry n;
	struct stat st;
	int r;

	if (!name) {
		ret->dir = store_dir_ref(d);
		return 0;
	}
	r = name_seal(&d->keys->name, name, &n);
	if (r == 0)
		r = entry_stat(d, n.entry, &st);
	if (r < 0)
		return r;
	if (S_ISREG(st.st_mode))
		return file_open_entry(d, n.entry, &ret->file);
	if (S_ISDIR(st.st_mode))
		return dir_open_entry(d, n.entry, &ret->dir);
	return -EPERM;
}

/* What `name` in d is: a file, or a directory as the owner of attributes, under `keys`.  `attr`: NULL, or to be one we have. */
static int attr_target(struct store_dir *d, const char *name, const char *attr, struct target *t, struct xattr_keys *keys,
	struct xattr_owner *ret)
{
	int r = attr ? xattr_check_name(attr) : 0;

	if (r == 0)
		r = target_open(d, name, t);
	if (r < 0 || t->file)
		return r;
	xattr_keys_of_dir(&t->dir->keys->name, keys);
	ret->fd = t->dir->fd;
	ret->keys = keys;
	place_dir_bytes(&t->dir->id, ret->id);
	return 0;
}

int store_getxattr(struct store_dir *d, const char *name, const char *attr, void *buf, size_t cap)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(target_done) struct target t = {0};
	struct xattr_owner o;
	int r = attr_target(d, name, attr, &t, &keys, &o);

	if (r < 0)
		return r == -EPERM ? -ENODATA : r;
	return t.file ? file_getxattr(t.file, attr, buf, cap) : xattr_get(&o, attr, buf, cap);
}

int store_setxattr(
	struct store_dir *d, const char *name, const char *attr, const void *val, size_t n, int flags)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(target_done) struct target t = {0};
	struct xattr_owner o;
	int r = attr_target(d, name, attr, &t, &keys, &o);

	if (r < 0)
		return r;
	return t.file ? file_setxattr(t.file, attr, val, n, flags) : xattr_set(&o, attr, val, n, flags);
}

int store_listxattr(struct store_dir *d, const char *name, char *buf, size_t cap)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(target_done) struct target t = {0};
	struct xattr_owner o;
	int r = attr_target(d, name, NULL, &t, &keys, &o);

	if (r < 0)
		return r == -EPERM ? 0 : r;
	return t.file ? file_listxattr(t.file, buf, cap) : xattr_list(&o, buf, cap);
}

int store_removexattr(struct store_dir *d, const char *name, const char *attr)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	scoped(target_done) struct target t = {0};
	struct xattr_owner o;
	int r = attr_target(d, name, attr, &t, &keys, &o);

	if (r < 0)
		return r;
	return t.file ? file_removexattr(t.file, attr) : xattr_remove(&o, attr);
}
