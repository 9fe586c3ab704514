/* Attributes, access and extended attributes. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "common/scope.h"
#include "fs/store/file.h"
#include "fs/worker/classes.h"
#include "fs/worker/handle.h"
#include "fs/worker/ops.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/sources.h"
#include "fs/worker/subjects.h"
#include "fs/worker/worker.h"

#define XATTR_VALUE_MAX 65536u

DEFINE_SCOPED(struct store_dir *, store_dir_unref)

void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node);
	uint32_t changes = 0;
	struct stat st;
	int r = -ESTALE;

	if (i) {
		pthread_rwlock_rdlock(&o.w->names);
		changes = atomic_load(&i->changes);
		r = op_outcome(&o, i, op_stat(&o, i, &st));
		pthread_rwlock_unlock(&o.w->names);
	}
	if (r == 0)
		op_reply_attr(&o, i, changes, &st);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, i);
}

/* ---- setattr ---- */

static int set_mode(const struct op *o, struct inode *i, mode_t mode)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	mode_t was = atomic_load(&i->mode);
	const char *name;
	struct file *f;
	int r;

	mode = (was & S_IFMT) | (mode & (o->s->members ? 07777 : S_ISDIR(was) ? 03777 : 01777));
	if (S_ISLNK(was))
		return -EOPNOTSUPP;
	if (S_ISREG(was) && (f = resolve_file_peek(o->w->resolver, i))) {
		r = file_chmod(f, mode & 07777);
		resolve_file_put(o->w->resolver, i);
	} else if (i->index == INODE_ROOT) {
		return -EPERM; /* who may enter is not said by its mode */
	} else {
		r = resolve_name(o->w->resolver, i, &d, &name);
		if (r == 0)
			r = store_chmod(d, name, mode & 07777);
		else if (r == -ESTALE && i->last)
			r = 0; /* what has no name any more is nowhere but here */
	}
	if (r == 0)
		atomic_store(&i->mode, mode);
	if (r == 0 && (mode & S_ISGID))
		op_mode_changed(o, i, mode);
	return r;
}

/* In a private mount everything is the user's own: to oneself is nothing, to others is not allowed. */
static int set_owner(const struct op *o, struct inode *i, const struct stat *attr, int to_set)
{
	if (o->s->members)
		return op_set_owner(o, i, attr, to_set);
	if ((to_set & FUSE_SET_ATTR_UID) && attr->st_uid != o->s->uid)
		return -EPERM;
	if ((to_set & FUSE_SET_ATTR_GID) && attr->st_gid != o->s->gid)
		return -EPERM;
	return 0;
}

/* What it is now, for the record. */
static void set_version(struct file *f, struct record_access *a)
{
	a->size = file_version(f, a->detail);
	file_id(f, &a->file);
}

static int set_size(const struct op *o, struct inode *i, const struct fuse_file_info *fi, struct record_access *a)
{
	uint64_t size = a->size;
	struct handle *h = NULL;
	struct file *f;
	int r;

	if (fi) {
		h = op_handle(o, fi->fh, HANDLE_FILE, inode_node(i));
		if (!h)
			return -EBADF;
		r = h->flags & RECORD_WRITE ? op_may_passed_on(o, h) : -EINVAL;
		if (r == 0)
			r = file_truncate(h->file, size);
		set_version(h->file, a);
		ops_handle_put(o->s, h);
		return r;
	}
	r = op_may(o, i, OP_W);
	if (r == 0)
		r = resolve_file_get(o->w->resolver, i, &f);
	if (r < 0)
		return r;
	r = op_may_class(o, file_class(f));
	if (r == 0)
		r = waits_check(o->s, o->number, i, f);
	if (r == 0)
		r = file_writable(f) ? file_truncate(f, size) : -EROFS;
	set_version(f, a);
	resolve_file_put(o->w->resolver, i);
	return r;
}

static struct timespec time_to_set(const struct timespec *given, int to_set, int set, int now)
{
	if (to_set & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return to_set & set ? *given : (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(const struct op *o, struct inode *i, const struct stat *attr, int to_set)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct timespec ts[2] = {
		time_to_set(&attr->st_atim, to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
		time_to_set(&attr->st_mtim, to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW),
	};
	const char *name;
	struct file *f;
	int r;

	if (S_ISREG(atomic_load(&i->mode)) && (f = resolve_file_peek(o->w->resolver, i))) {
		r = file_utimens(f, ts);
		resolve_file_put(o->w->resolver, i);
		return r;
	}
	if (i->index == INODE_ROOT)
		return 0; /* its times follow what happens in it */
	r = resolve_name(o->w->resolver, i, &d, &name);
	if (r == -ESTALE && i->last)
		return 0; /* as set_mode */
	return r < 0 ? r : store_utimens(d, name, ts);
}

/* The kernel brings the time of what was written, by itself or because somebody closes the file: then through a handle,
 * which no program's own call does. */
static bool is_time_brought(const struct op *o, int to_set, const struct fuse_file_info *fi)
{
	return o->s->exclusive && !(to_set & ~(FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME)) &&
	       (fi || o->number == o->s->number);
}

/* Each part with its record; stops at the first that fails. */
static int set_attributes(const struct op *o, struct inode *i, const struct stat *attr, int to_set,
	const struct fuse_file_info *fi)
{
	const int times =
		FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW;
	struct record_access a = {.size = (uint64_t)attr->st_size};
	bool brought = is_time_brought(o, to_set, fi);
	int r = brought ? 0 : op_may_change(o);

	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		r = r < 0 ? r : set_owner(o, i, attr, to_set);
		r = op_record_inode(o, RECORD_CHOWN, i, r);
	}
	if (to_set & FUSE_SET_ATTR_MODE) {
		r = r < 0 ? r : op_outcome(o, i, set_mode(o, i, attr->st_mode));
		r = op_record_inode(o, RECORD_CHMOD, i, r);
	}
	if (to_set & FUSE_SET_ATTR_SIZE) {
		r = r < 0 ? r : op_outcome(o, i, set_size(o, i, fi, &a));
		a.path = op_path(o, i);
		r = op_record(o, &a, RECORD_TRUNCATE, r);
		notify_content(o->s, i, 0, 0);
	}
	if (r == 0 && (to_set & times))
		r = op_outcome(o, i, set_times(o, i, attr, to_set));
	if (r == -ESTALE && brought)
		r = 0; /* its last name is gone and so is its time */
	notify_attributes(o->s, i);
	return r;
}

void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node);
	uint32_t changes = 0;
	struct stat st;
	int r = -ESTALE;

	if (i) {
		pthread_rwlock_rdlock(&o.w->names);
		r = (to_set & FUSE_SET_ATTR_SIZE) && attr->st_size < 0
			    ? -EINVAL
			    : set_attributes(&o, i, attr, to_set, fi);
		changes = atomic_load(&i->changes);
		if (r == 0)
			r = op_outcome(&o, i, op_stat(&o, i, &st));
		pthread_rwlock_unlock(&o.w->names);
	}
	op_tries_again(&o, BY_NAME_SETATTR, r);
	if (r == 0)
		op_reply_attr(&o, i, changes, &st);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, i);
}

void op_access(fuse_req_t req, fuse_ino_t node, int mask)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node);
	int r = i ? 0 : -ESTALE;

	if (i && (mask & OP_W) && o.read_only)
		r = -EROFS;
	else if (i)
		r = op_may(&o, i, (unsigned)mask & (OP_R | OP_W | OP_X));
	op_reply(&o, r);
	inode_unref(o.w->inodes, i);
}

void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct op o = op_begin(req);
	struct statvfs st;
	int r = store_statvfs(o.w->store, &st);

	if (r == 0)
		fuse_reply_statfs(req, &st);
	else
		op_reply(&o, r);
}

/* ---- extended attributes ---- */

struct xattr {
	enum { XATTR_GET, XATTR_SET, XATTR_LIST, XATTR_REMOVE } what;
	const char *name;
	const void *value;
	void *buf;
	size_t size;
	int flags;
};

static int xattr_file(struct file *f, const struct xattr *x)
{
	switch (x->what) {
	case XATTR_GET:
		return file_getxattr(f, x->name, x->buf, x->size);
	case XATTR_SET:
		return file_setxattr(f, x->name, x->value, x->size, x->flags);
	case XATTR_LIST:
		return file_listxattr(f, x->buf, x->size);
	case XATTR_REMOVE:
		return file_removexattr(f, x->name);
	}
	return -EINVAL;
}

static int xattr_name(struct store_dir *d, const char *name, const struct xattr *x)
{
	switch (x->what) {
	case XATTR_GET:
		return store_getxattr(d, name, x->name, x->buf, x->size);
	case XATTR_SET:
		return store_setxattr(d, name, x->name, x->value, x->size, x->flags);
	case XATTR_LIST:
		return store_listxattr(d, name, x->buf, x->size);
	case XATTR_REMOVE:
		return store_removexattr(d, name, x->name);
	}
	return -EINVAL;
}

static int xattr_acl(const struct op *o, struct inode *i, const struct xattr *x)
{
	if (x->what == XATTR_GET)
		return op_acl_get(o, i, x->name, x->buf, x->size);
	return op_acl_set(o, i, x->name, x->what == XATTR_SET ? x->value : NULL, x->size, x->flags);
}

/* Attributes are content, too: the file tells its class. */
static int xattr_class(const struct op *o, struct inode *i)
{
	struct file *f;
	int r = resolve_file_get(o->w->resolver, i, &f);

	if (r < 0)
		return r;
	r = op_may_class(o, file_class(f));
	resolve_file_put(o->w->resolver, i);
	return r;
}

static int xattr_do(const struct op *o, struct inode *i, const struct xattr *x)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	mode_t mode = atomic_load(&i->mode);
	const char *name = NULL;
	struct file *f;
	int r;

	if (x->name && op_is_acl(x->name))
		return xattr_acl(o, i, x);
	if (S_ISREG(mode) && x->what != XATTR_LIST && !class_set_opens_all(o->classes)) {
		r = xattr_class(o, i);
		if (r < 0)
			return r;
	}
	if (S_ISREG(mode) && (f = resolve_file_peek(o->w->resolver, i))) {
		r = xattr_file(f, x);
		resolve_file_put(o->w->resolver, i);
		return r;
	}
	r = S_ISDIR(mode) ? resolve_dir(o->w->resolver, i, &d) : resolve_name(o->w->resolver, i, &d, &name);
	return r < 0 ? r : xattr_name(d, name, x);
}

/* As on a local disk: user.* needs the mode's bits and exists on files and directories; security.* is root's
 * to set. */
static int xattr_may(const struct op *o, const struct inode *i, const struct xattr *x)
{
	mode_t mode = atomic_load(&i->mode);
	bool change = x->what == XATTR_SET || x->what == XATTR_REMOVE;
	int r = change ? op_may_change(o) : 0;

	if (r < 0 || x->what == XATTR_LIST)
		return r;
	if (op_is_acl(x->name))
		return o->s->members ? 0 : -EOPNOTSUPP;
	if (strncmp(x->name, "user.", 5) == 0) {
		if (!S_ISREG(mode) && !S_ISDIR(mode))
			return change ? -EPERM : -ENODATA;
		return op_may(o, i, change ? OP_W : OP_R);
	}
	if (strncmp(x->name, "security.", 9) != 0)
		return -EOPNOTSUPP;
	if (strcmp(x->name, "security.capability") == 0) /* means nothing here: mounts are nosuid */
		return change ? -EPERM : -ENODATA;
	return change && o->uid != 0 ? -EPERM : 0;
}

static int xattr(const struct op *o, fuse_ino_t node, const struct xattr *x)
{
	static const enum record_op ops[] = {[XATTR_GET] = RECORD_GETXATTR,
		[XATTR_SET] = RECORD_SETXATTR,
		[XATTR_REMOVE] = RECORD_REMOVEXATTR};
	struct inode *i = op_inode(o, node);
	bool user, change = x->what == XATTR_SET || x->what == XATTR_REMOVE;
	int r, e;

	if (!i)
		return -ESTALE;
	user = x->what != XATTR_LIST && strncmp(x->name, "user.", 5) == 0;
	pthread_rwlock_rdlock(&o->w->names);
	r = xattr_may(o, i, x);
	if (r == 0 && user)
		r = recorder_ready(o->w->recorder);
	if (r == 0)
		r = op_outcome(o, i, xattr_do(o, i, x));
	/* What is there is recorded; that there is nothing is asked of every file by ls and cp. */
	if ((change || user) && r != -ENODATA && r != -EOPNOTSUPP) {
		e = op_record_inode(o, ops[x->what], i, r < 0 ? r : 0);
		if (e < 0)
			r = e;
	}
	if (change && r >= 0)
		notify_attributes(o->s, i);
	pthread_rwlock_unlock(&o->w->names);
	op_tries_again(o, BY_NAME_XATTR, r);
	inode_unref(o->w->inodes, i);
	return r;
}

static void reply_bytes(const struct op *o, const void *buf, size_t size, int r)
{
	if (r < 0)
		op_reply(o, r);
	else if (size == 0)
		fuse_reply_xattr(o->req, (size_t)r);
	else
		fuse_reply_buf(o->req, buf, (size_t)r);
}

static void xattr_read(fuse_req_t req, fuse_ino_t node, struct xattr *x)
{
	struct op o = op_begin(req);
	int r = -ENOMEM;

	x->buf = loop_answer_buffer();
	if (x->size > XATTR_VALUE_MAX)
		x->size = XATTR_VALUE_MAX;
	if (x->buf && x->name && subjects_are_meant(x->name))
		r = subjects_get(&o, node, x->name, x->buf, x->size);
	else if (x->buf)
		r = xattr(&o, node, x);
	reply_bytes(&o, x->buf, x->size, r);
}

void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	xattr_read(req, node, &(struct xattr){.what = XATTR_GET, .name = name, .size = size});
}

void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	xattr_read(req, node, &(struct xattr){.what = XATTR_LIST, .size = size});
}

void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags)
{
	struct op o = op_begin(req);

	if (subjects_are_meant(name)) {
		op_reply(&o, subjects_set(&o, node, name, value, size));
		return;
	}
	if (sources_are_meant(name)) {
		op_reply(&o, sources_set(&o, node, value, size));
		return;
	}
	op_reply(&o, xattr(&o, node,
			     &(struct xattr){.what = XATTR_SET,
				     .name = name,
				     .value = value,
				     .size = size,
				     .flags = flags}));
}

void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	struct op o = op_begin(req);

	op_reply(&o, xattr(&o, node, &(struct xattr){.what = XATTR_REMOVE, .name = name}));
}
