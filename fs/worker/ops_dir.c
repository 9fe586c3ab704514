/* Directories: finding, making and listing what is in them. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/file.h"
#include "fs/worker/handle.h"
#include "fs/worker/ops.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/stable.h"
#include "fs/worker/worker.h"

DEFINE_SCOPED(struct store_dir *, store_dir_unref)

static int lookup(const struct op *o, struct inode *dir, const char *name, struct op_entry *e)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	int r = op_may(o, dir, OP_X);

	if (r == 0 && strlen(name) > STORE_NAME_MAX)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = resolve_dir(o->w->resolver, dir, &d);
	if (r == 0)
		r = op_entry_find(o, dir, d, name, e);
	return op_outcome(o, dir, r);
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct op o = op_begin(req);
	struct inode *dir = op_inode(&o, parent);
	struct op_entry e = {.inode = NULL};
	uint32_t changes;
	int r;

	if (!dir) {
		op_reply(&o, -ESTALE);
		return;
	}
	pthread_rwlock_rdlock(&o.w->names);
	changes = atomic_load(&dir->changes);
	r = lookup(&o, dir, name, &e);
	if (r == 0)
		retry_found(o.s, fuse_req_ctx(req)->pid, e.inode);
	pthread_rwlock_unlock(&o.w->names);
	if (r == -ENOENT) { /* remembered, too */
		e.e.entry_timeout = OPS_DAY;
		r = 0;
	}
	if (r == 0)
		op_reply_entry(&o, &e, dir, name, changes);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, dir);
}

/* ---- making ---- */

struct making {
	enum record_op what;
	mode_t mode;
	dev_t dev;
	const char *target;
};

static int make_node(
	const struct op *o, struct store_dir *d, const char *name, const struct making *m, struct stat *st)
{
	mode_t mode = op_new_mode(o, d, m->mode);
	struct file *f = NULL;
	int r;

	if (m->what == RECORD_MKDIR)
		return store_mkdir(d, name, mode, st);
	if (m->what == RECORD_SYMLINK)
		return store_symlink(d, name, m->target, st);
	if (S_ISFIFO(m->mode) || S_ISSOCK(m->mode))
		return store_mknod(d, name, mode | (m->mode & S_IFMT), 0, st);
	if (!S_ISREG(m->mode))
		return -EPERM; /* devices: the mount is nodev */
	r = file_create(d, name, mode, &f, st);
	file_close(f);
	return r;
}

static int make(
	const struct op *o, struct inode *dir, const char *name, const struct making *m, struct op_entry *e)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct stat st;
	int r = op_may_change_in(o, dir);

	if (r == 0 && strlen(name) > STORE_NAME_MAX)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = resolve_dir(o->w->resolver, dir, &d);
	if (r == 0)
		r = make_node(o, d, name, m, &st);
	if (r == 0)
		r = op_new_owner(o, dir, d, name, NULL, &st);
	if (r == 0) {
		r = op_entry_enter(o, dir, name, &st, e);
		if (r < 0) /* no kernel would hear of it */
			(void)(S_ISDIR(st.st_mode) ? store_rmdir(d, name) : store_unlink(d, name));
	}
	r = op_outcome(o, dir, r);
	r = op_record_name(o, m->what, dir, name, r);
	if (r < 0)
		op_entry_undo(o, e);
	return r;
}

static void op_make(fuse_req_t req, fuse_ino_t parent, const char *name, const struct making *m)
{
	struct op o = op_begin(req);
	struct inode *dir = op_inode(&o, parent);
	struct op_entry e = {.inode = NULL};
	uint32_t changes = 0;
	int r;

	if (!dir) {
		op_reply(&o, -ESTALE);
		return;
	}
	pthread_rwlock_wrlock(&o.w->names);
	r = make(&o, dir, name, m, &e);
	notify_entry(o.s, dir, name);
	changes = atomic_load(&dir->changes);
	pthread_rwlock_unlock(&o.w->names);
	if (r == 0)
		op_reply_entry(&o, &e, dir, name, changes);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, dir);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_make(req, parent, name, &(struct making){.what = RECORD_MKDIR, .mode = mode});
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	op_make(req, parent, name, &(struct making){.what = RECORD_MKNOD, .mode = mode, .dev = dev});
}

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	op_make(req, parent, name, &(struct making){.what = RECORD_SYMLINK, .target = target});
}

/* Another name, or the first one of a file made with O_TMPFILE. */
static int give_name(const struct op *o, struct inode *i, struct store_dir *to, const char *name)
{
	scoped(store_dir_unrefp) struct store_dir *from = NULL;
	const char *old_name;
	struct file *f;
	int r = resolve_name(o->w->resolver, i, &from, &old_name);

	if (r != -ESTALE || !S_ISREG(atomic_load(&i->mode)))
		return r < 0 ? r : store_link(from, old_name, to, name);
	f = resolve_file_peek(o->w->resolver, i);
	if (!f)
		return -ENOENT;
	r = file_link_unnamed(f, to, name);
	resolve_file_put(o->w->resolver, i);
	if (r == 0) {
		inode_named(o->w->inodes, i);
		recorder_path_forget(o->w->recorder, i);
	}
	return r;
}

static int link_node(
	const struct op *o, struct inode *i, struct inode *dir, const char *name, struct op_entry *e)
{
	scoped(store_dir_unrefp) struct store_dir *to = NULL;
	struct record_access a = {.path = recorder_path(o->w->recorder, o->w->inodes, i, NULL)};
	int r = op_may_change_in(o, dir);

	if (r == 0 && S_ISDIR(atomic_load(&i->mode)))
		r = -EPERM;
	if (r == 0 && strlen(name) > STORE_NAME_MAX)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = resolve_dir(o->w->resolver, dir, &to);
	if (r == 0)
		r = give_name(o, i, to, name);
	if (r == 0)
		r = op_entry_find(o, dir, to, name, e);
	r = op_outcome(o, i, r);
	a.path2 = recorder_path(o->w->recorder, o->w->inodes, dir, name);
	r = op_record(o, &a, RECORD_LINK, r);
	if (r < 0)
		op_entry_undo(o, e);
	return r;
}

void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node), *dir = op_inode(&o, parent);
	struct op_entry e = {.inode = NULL};
	uint32_t changes = 0;
	int r = -ESTALE;

	if (i && dir) {
		pthread_rwlock_wrlock(&o.w->names);
		r = link_node(&o, i, dir, name, &e);
		notify_entry(o.s, dir, name);
		notify_attributes(o.s, i);
		changes = atomic_load(&dir->changes);
		e.changes = atomic_load(&i->changes);
		pthread_rwlock_unlock(&o.w->names);
	}
	if (r == 0)
		op_reply_entry(&o, &e, dir, name, changes);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, i);
	inode_unref(o.w->inodes, dir);
}

static int read_link(const struct op *o, struct inode *i, char *buf, size_t cap)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	const char *name;
	int r = recorder_ready(o->w->recorder);

	if (r == 0 && !S_ISLNK(atomic_load(&i->mode)))
		r = -EINVAL;
	if (r == 0)
		r = resolve_name(o->w->resolver, i, &d, &name);
	if (r == 0)
		r = store_readlink(d, name, buf, cap);
	if (r > 0)
		r = 0;
	r = op_outcome(o, i, r);
	return op_record_inode(o, RECORD_READLINK, i, r);
}

void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node);
	char target[PATH_MAX];
	int r = -ESTALE;

	if (i) {
		pthread_rwlock_rdlock(&o.w->names);
		r = read_link(&o, i, target, sizeof(target));
		pthread_rwlock_unlock(&o.w->names);
	}
	if (r == 0)
		fuse_reply_readlink(req, target);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, i);
}

/* ---- listing ---- */

static int open_dir(const struct op *o, struct inode *i, uint64_t *ret_fh)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct handle *h = NULL;
	int r = recorder_ready(o->w->recorder);

	if (r == 0)
		r = op_may(o, i, OP_R);
	if (r == 0)
		r = resolve_dir(o->w->resolver, i, &d);
	if (r == 0 || r == -ESTALE) /* removed since it was looked up: it is empty, as on a local disk */
		r = ops_handle_new(o, HANDLE_DIR, inode_node(i), &h, ret_fh);
	if (r == 0) {
		h->inode = inode_ref(o->w->inodes, i);
		h->session = o->number;
		if (d)
			r = store_iter_new(d, &h->iter);
	}
	r = op_outcome(o, i, r);
	r = op_record_inode(o, RECORD_OPENDIR, i, r);
	if (r < 0 && h)
		ops_handle_put(o->s, h);
	if (r == 0 && h) {
		h->due = stable_due_now();
		handle_publish(o->s->handles, h);
	}
	return r;
}

void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node);
	int r = -ESTALE;

	if (i) {
		pthread_rwlock_rdlock(&o.w->names);
		r = open_dir(&o, i, &fi->fh);
		pthread_rwlock_unlock(&o.w->names);
	}
	fi->cache_readdir = 1;
	fi->keep_cache = 1;
	if (r < 0) {
		op_reply(&o, r);
	} else if (fuse_reply_open(req, fi) == -ENOENT) {
		struct handle *h = handle_release(o.s->handles, fi->fh, HANDLE_DIR, node);

		if (h)
			ops_handle_put(o.s, h);
	}
	inode_unref(o.w->inodes, i);
}

/* Positions of "." and "..", where no file system's own are: those of ext4 have 63 bits, of which all but the
 * largest may be taken. */
#define AFTER_DOT (INT64_MAX - 17)
#define AFTER_DOTDOT (INT64_MAX - 16)

struct listing {
	struct op *o;
	struct inode *dir;
	struct store_dir *d;
	bool plus;
	char *buf;
	size_t size, used;
	int error;
};

/* False: it does not fit. */
static bool list_add(struct listing *l, const char *name, const struct fuse_entry_param *e, uint64_t next)
{
	char *to = l->buf + l->used;
	size_t left = l->size - l->used, n;

	if (l->plus)
		n = fuse_add_direntry_plus(l->o->req, to, left, name, e, (off_t)next);
	else
		n = fuse_add_direntry(l->o->req, to, left, name, &e->attr, (off_t)next);
	if (n > left)
		return false;
	l->used += n;
	return true;
}

static bool list_dot(struct listing *l, const char *name, uint64_t next)
{
	struct fuse_entry_param e = {.attr = {.st_mode = S_IFDIR, .st_ino = l->dir->ino}};

	return list_add(l, name, &e, next);
}

static bool fits(const struct listing *l, const char *name)
{
	return fuse_add_direntry_plus(l->o->req, NULL, 0, name, NULL, 0) <= l->size - l->used;
}

static int list_entry(const struct store_entry *entry, void *arg)
{
	struct listing *l = arg;
	struct fuse_entry_param bare = {
		.attr = {.st_mode = (mode_t)DTTOIF(entry->d_type), .st_ino = entry->ino}};
	uint32_t dir_changes = atomic_load(&l->dir->changes);
	struct op_entry e;

	if (!l->plus)
		return !list_add(l, entry->name, &bare, entry->cookie);
	if (!fits(l, entry->name))
		return 1;
	/* What cannot be looked up is listed by name: opening it tells why. */
	if (op_may(l->o, l->dir, OP_X) < 0 || op_entry_find(l->o, l->dir, l->d, entry->name, &e) < 0)
		return !list_add(l, entry->name, &bare, entry->cookie);
	op_shown_entry(l->o, &e, l->dir, entry->name);
	/* Many entries leave in one answer: among several sessions it may pass a notification on the way. */
	if (atomic_load(&l->o->w->session_count) > 1 && atomic_load(&l->dir->changes) != dir_changes)
		e.e.entry_timeout = 0;
	if (!list_add(l, entry->name, &e.e, entry->cookie)) {
		op_entry_undo(l->o, &e);
		return 1;
	}
	op_entry_done(l->o, &e);
	return 0;
}

static int list(struct listing *l, struct handle *h, uint64_t off)
{
	unsigned damaged = 0;
	int r;

	if (off == 0) {
		if (!list_dot(l, ".", AFTER_DOT))
			return -EINVAL;
		off = AFTER_DOT;
	}
	if (off == AFTER_DOT) {
		if (!list_dot(l, "..", AFTER_DOTDOT))
			return 0;
		off = AFTER_DOTDOT;
	}
	if (off == AFTER_DOTDOT)
		off = 0;
	pthread_mutex_lock(&h->lock);
	r = store_iter_read(h->iter, off, list_entry, l, &damaged);
	pthread_mutex_unlock(&h->lock);
	if (r >= 0 && damaged > 0)
		op_outcome(l->o, l->dir, -EBADMSG); /* recorded; the rest is listed */
	return r < 0 ? op_outcome(l->o, l->dir, r) : 0;
}

static void read_dir(
	fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct op o = op_begin(req);
	struct handle *h = op_handle(&o, fi->fh, HANDLE_DIR, node);
	struct listing l = {.o = &o, .plus = plus, .buf = loop_answer_buffer(), .size = size};
	int r;

	r = h ? op_passed_on(&o, h) : -EBADF;
	if (r < 0 || !l.buf) {
		op_reply(&o, r < 0 ? r : -ENOMEM);
	} else {
		if (l.size > LOOP_IO_MAX)
			l.size = LOOP_IO_MAX;
		l.dir = h->inode;
		pthread_rwlock_rdlock(&o.w->names);
		op_shown(&o, l.dir);
		r = resolve_dir(o.w->resolver, l.dir, &l.d);
		if (r == -ESTALE)
			r = 0; /* removed while open: empty */
		else if (r == 0 && h->iter)
			r = list(&l, h, (uint64_t)off);
		if (r < 0 && l.used > 0)
			r = 0; /* what came before it is the answer, the next call tells the error */
		store_dir_unref(l.d);
		pthread_rwlock_unlock(&o.w->names);
		if (r < 0)
			op_reply(&o, r);
		else
			fuse_reply_buf(req, l.buf, l.used);
	}
	if (h)
		ops_handle_put(o.s, h);
}

void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_dir(req, node, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_dir(req, node, size, off, fi, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h = handle_release(o.s->handles, fi->fh, HANDLE_DIR, node);

	if (h)
		ops_handle_put(o.s, h);
	else
		session_record_refused(o.s, "unknown-handle");
	op_reply(&o, h ? 0 : -EBADF);
}

static int sync_dir(void *arg)
{
	return store_dir_sync(arg);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h = op_handle(&o, fi->fh, HANDLE_DIR, node);
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	int r = -EBADF;

	if (h) {
		pthread_rwlock_rdlock(&o.w->names);
		r = resolve_dir(o.w->resolver, h->inode, &d);
		pthread_rwlock_unlock(&o.w->names);
		if (r == 0)
			r = recorder_sync_with(o.w->recorder, sync_dir, d);
		ops_handle_put(o.s, h);
	}
	op_reply(&o, r == -ESTALE ? 0 : r);
}
