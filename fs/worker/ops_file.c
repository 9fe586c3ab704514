/* Open files. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "common/scope.h"
#include "fs/store/file.h"
#include "fs/worker/classes.h"
#include "fs/worker/handle.h"
#include "fs/worker/lock.h"
#include "fs/worker/ops.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/shares.h"
#include "fs/worker/stable.h"
#include "fs/worker/worker.h"

#define FLAG_EXEC 0x20 /* the kernel's FMODE_EXEC among the open flags: execve */

DEFINE_SCOPED(struct store_dir *, store_dir_unref)

static uint8_t record_flags(int flags)
{
	unsigned f = 0;

	if ((flags & O_ACCMODE) != O_WRONLY)
		f |= RECORD_READ;
	if ((flags & O_ACCMODE) != O_RDONLY)
		f |= RECORD_WRITE;
	if (flags & O_TRUNC)
		f |= RECORD_TRUNC;
	if (flags & O_APPEND)
		f |= RECORD_APPEND;
	if (flags & FLAG_EXEC)
		f |= RECORD_EXEC;
	return (uint8_t)f;
}

static bool writes(unsigned flags)
{
	return flags & (RECORD_WRITE | RECORD_TRUNC);
}

/* ---- end of a handle ---- */

static void record_close(struct session *s, struct handle *h)
{
	struct record_access a = {.session = h->session,
		.op = RECORD_CLOSE,
		.flags = h->flags,
		.process = h->process,
		.bytes_read = atomic_load(&h->bytes_read),
		.bytes_written = atomic_load(&h->bytes_written)};

	a.size = file_version(h->file, a.detail);
	file_id(h->file, &a.file);
	pthread_rwlock_rdlock(&s->worker->names);
	a.path = recorder_path(s->worker->recorder, s->worker->inodes, h->inode, NULL);
	pthread_rwlock_unlock(&s->worker->names);
	recorder_append(s->worker->recorder, &a);
	if (s->sync && s->worker->stable) /* nobody waits for the answer to a close */
		stable_soon(s->worker->stable);
}

void ops_handle_put(struct session *s, struct handle *h)
{
	struct worker *w = s->worker;

	if (!handle_put(s->handles, h))
		return;
	if (h->kind == HANDLE_FILE && h->file) {
		if (h->recorded)
			record_close(s, h);
		inode_closed(w->inodes, h->inode, h->flags & RECORD_WRITE);
		resolve_file_put(w->resolver, h->inode);
		atomic_fetch_sub(&w->open_files, 1);
	}
	store_iter_free(h->iter);
	inode_unref(w->inodes, h->inode);
	shares_give_back(w->shares, h->uid);
	handle_free(s->handles, h);
}

int ops_handle_new(const struct op *o, enum handle_kind kind, uint64_t node, struct handle **ret, uint64_t *ret_fh)
{
	uint32_t uid = (uint32_t)o->uid;
	int r = shares_take(o->w->shares, uid);

	if (r < 0)
		return r;
	r = handle_new(o->s->handles, kind, node, ret, ret_fh);
	if (r < 0)
		shares_give_back(o->w->shares, uid);
	else
		(*ret)->uid = uid;
	return r;
}

static void handle_undo(const struct op *o, uint64_t fh, uint64_t node)
{
	struct handle *h = handle_release(o->s->handles, fh, HANDLE_FILE, node);

	if (h)
		ops_handle_put(o->s, h);
}

/* The record of its open is written, or is not to be: only now may requests name the handle. */
static void handle_settle(const struct op *o, struct handle *h, int r)
{
	if (!h)
		return;
	if (r < 0) {
		ops_handle_put(o->s, h); /* the table's reference: nobody else can have one yet */
		return;
	}
	h->recorded = true;
	h->due = stable_due_now();
	handle_publish(o->s->handles, h);
}

/* ---- open and create ---- */

/* Takes file (one use of it, by resolve_file_get). */
static int handle_make(const struct op *o, struct inode *i, struct file *file, uint8_t flags,
	struct fuse_file_info *fi, struct handle **ret)
{
	struct handle *h;
	bool conflict, uncached;
	int r = ops_handle_new(o, HANDLE_FILE, inode_node(i), &h, &fi->fh);

	if (r < 0) {
		resolve_file_put(o->w->resolver, i);
		return r;
	}
	h->inode = inode_ref(o->w->inodes, i);
	h->file = file;
	h->flags = flags;
	h->session = o->number;
	h->process = recorder_process(o->w->recorder, (uint32_t)fuse_req_ctx(o->req)->pid);
	atomic_fetch_add(&o->w->open_files, 1);
	inode_opened(o->w->inodes, i, o->s->number, flags & RECORD_WRITE, &conflict);
	/* Appends must find the true end here; and two kernels cannot share dirty pages. */
	uncached = !class_set_caches(o->classes, file_class(file));
	fi->direct_io = uncached || (!o->s->exclusive && (conflict || (flags & RECORD_APPEND)));
	fi->keep_cache = !uncached;
	/* The kernel tells of a close only if it was asked to at the open.  Files that are locked are so again and again: what is
	 * missed are the closes of descriptors that were open before the first lock of all. */
	fi->noflush = !(flags & RECORD_WRITE) && !atomic_load(&i->locked);
	*ret = h;
	return 0;
}

static int may_open(const struct op *o, struct inode *i, uint8_t flags)
{
	unsigned mask = 0;
	int r;

	if (flags & RECORD_EXEC)
		mask |= OP_X;
	else if (flags & RECORD_READ)
		mask |= OP_R;
	if (writes(flags))
		mask |= OP_W;
	r = writes(flags) ? op_may_change(o) : recorder_ready(o->w->recorder);
	return r < 0 ? r : op_may(o, i, mask);
}

static int truncate_on_open(const struct op *o, struct inode *i, struct file *f)
{
	int r = file_truncate(f, 0);

	if (r == 0)
		notify_content(o->s, i, 0, 0);
	return r;
}

static int open_file(const struct op *o, struct inode *i, struct fuse_file_info *fi, struct handle **ret)
{
	struct record_access a = {.flags = record_flags(fi->flags)};
	struct handle *h = NULL;
	struct file *f;
	int r = may_open(o, i, a.flags);

	if (r == 0)
		r = resolve_file_get(o->w->resolver, i, &f);
	if (r == 0) {
		a.size = file_size(f);
		file_id(f, &a.file);
		r = op_may_class(o, file_class(f));
		if (r == 0)
			r = waits_check(o->s, o->number, i, f);
		if (r == 0)
			r = handle_make(o, i, f, a.flags, fi, &h);
		else
			resolve_file_put(o->w->resolver, i);
	}
	if (r == 0 && writes(a.flags) && !file_writable(f))
		r = -EROFS;
	if (r == 0 && (a.flags & RECORD_TRUNC))
		r = truncate_on_open(o, i, f);
	if (h && (a.flags & RECORD_TRUNC))
		(void)file_version(f, a.detail);
	r = op_outcome(o, i, r);
	a.path = op_path(o, i);
	a.process = h ? h->process : 0;
	r = op_record(o, &a, RECORD_OPEN, r);
	handle_settle(o, h, r);
	if (r == 0)
		*ret = h;
	return r;
}

static void reply_open(const struct op *o, struct fuse_file_info *fi, uint64_t node)
{
	if (fuse_reply_open(o->req, fi) == -ENOENT)
		handle_undo(o, fi->fh, node);
}

void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct inode *i = op_inode(&o, node);
	bool ahead = i && op_may_go_ahead(&o, i, fi);
	struct handle *h; /* the table's; nobody knows it before the answer */
	int r = -ESTALE;

	if (i) {
		pthread_rwlock_rdlock(&o.w->names);
		r = open_file(&o, i, fi, &h);
		pthread_rwlock_unlock(&o.w->names);
	}
	op_tries_again(&o, BY_NAME_OPEN, r);
	if (r == 0 && ahead)
		op_go_ahead(&o, h, fi);
	if (r == 0)
		reply_open(&o, fi, node);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, i);
}

static int create_new(const struct op *o, struct inode *dir, const char *name, mode_t mode,
	struct fuse_file_info *fi, struct op_entry *e, struct handle **ret)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct file *f;
	struct stat st;
	bool labelled;
	int r = op_may_change_in(o, dir);

	if (r == 0 && strlen(name) > STORE_NAME_MAX)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = resolve_dir(o->w->resolver, dir, &d);
	if (r == 0)
		r = op_may_class(o, store_dir_class(d, &labelled));
	if (r == 0)
		r = file_create(d, name, op_new_mode(o, d, mode), &f, &st);
	if (r < 0)
		return r;
	r = op_new_owner(o, dir, d, name, f, &st);
	if (r < 0) {
		file_close(f);
		return r;
	}
	st.st_mode = (st.st_mode & ~(mode_t)S_IFMT) | S_IFREG;
	r = op_entry_enter(o, dir, name, &st, e);
	if (r < 0) {
		file_close(f);
	} else {
		f = resolve_file_adopt(o->w->resolver, e->inode, f);
		r = handle_make(o, e->inode, f, record_flags(fi->flags & ~O_TRUNC), fi, ret);
	}
	if (r < 0) /* no kernel would hear of it */
		(void)store_unlink(d, name);
	return r;
}

/* O_TMPFILE: it stands hidden in the share's root, since its own directory may go before it does. */
static int create_unnamed(const struct op *o, struct inode *dir, mode_t mode, struct fuse_file_info *fi,
	struct op_entry *e, struct handle **ret)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL, *root = NULL;
	struct file *f;
	struct stat st;
	bool labelled;
	int r = op_may_change_in(o, dir);

	if (r == 0)
		r = resolve_dir(o->w->resolver, dir, &d);
	if (r == 0)
		r = op_may_class(o, store_dir_class(d, &labelled));
	if (r == 0)
		r = store_dir_root(o->w->store, &root);
	if (r == 0)
		r = file_create_unnamed(root, d, op_new_mode(o, d, mode), &f, &st);
	if (r < 0)
		return r;
	r = op_new_unnamed_owner(o, d, f, &st);
	if (r < 0) {
		file_close(f);
		return r;
	}
	st.st_mode = (st.st_mode & ~(mode_t)S_IFMT) | S_IFREG;
	r = inode_enter_unnamed(o->w->inodes, &o->s->view, &st, &e->inode);
	if (r < 0) {
		file_close(f);
		return r;
	}
	e->changes = atomic_load(&e->inode->changes);
	op_present(o, &st);
	e->e = (struct fuse_entry_param){
		.ino = inode_node(e->inode), .generation = 1, .attr = st, .attr_timeout = OPS_DAY};
	f = resolve_file_adopt(o->w->resolver, e->inode, f);
	return handle_make(o, e->inode, f, record_flags(fi->flags), fi, ret);
}

/* The name was there after all (another session made it): an open like any other. */
static int create_found(const struct op *o, struct inode *dir, const char *name, struct fuse_file_info *fi,
	struct op_entry *e)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct handle *h;
	int r = resolve_dir(o->w->resolver, dir, &d);

	if (r == 0)
		r = op_entry_find(o, dir, d, name, e);
	if (r == 0 && !S_ISREG(atomic_load(&e->inode->mode)))
		r = S_ISDIR(atomic_load(&e->inode->mode)) ? -EISDIR : -EEXIST;
	if (r == 0)
		r = open_file(o, e->inode, fi, &h);
	if (r < 0)
		op_entry_undo(o, e);
	return r;
}

static int create(const struct op *o, struct inode *dir, const char *name, mode_t mode,
	struct fuse_file_info *fi, struct op_entry *e)
{
	struct record_access a = {.flags = record_flags(fi->flags & ~O_TRUNC)};
	struct handle *h = NULL;
	bool unnamed = (fi->flags & O_TMPFILE) == O_TMPFILE;
	int r = unnamed ? create_unnamed(o, dir, mode, fi, e, &h)
			: create_new(o, dir, name, mode, fi, e, &h);

	if (r == -EEXIST && !(fi->flags & O_EXCL))
		return create_found(o, dir, name, fi, e);
	r = op_outcome(o, dir, r);
	if (r == 0 && !unnamed)
		notify_entry(o->s, dir, name);
	if (unnamed)
		a.path = recorder_path(o->w->recorder, o->w->inodes, dir, NULL);
	else if (e->inode)
		a.path = recorder_path(o->w->recorder, o->w->inodes, e->inode, NULL);
	else
		a.path = recorder_path(o->w->recorder, o->w->inodes, dir, name);
	a.process = h ? h->process : 0;
	r = op_record(o, &a, RECORD_CREATE, r);
	handle_settle(o, h, r);
	if (r < 0)
		op_entry_undo(o, e);
	return r;
}

static void reply_create(const struct op *o, struct op_entry *e, struct inode *dir, const char *name, uint32_t changes,
	struct fuse_file_info *fi)
{
	int r;

	pthread_rwlock_rdlock(&o->s->replies);
	op_shown_entry(o, e, dir, name);
	if (op_waits(o) || atomic_load(&dir->changes) != changes)
		e->e.entry_timeout = 0;
	if (op_waits(o) || atomic_load(&e->inode->changes) != e->changes)
		e->e.attr_timeout = 0;
	r = fuse_reply_create(o->req, &e->e, fi);
	pthread_rwlock_unlock(&o->s->replies);
	if (r < 0) {
		handle_undo(o, fi->fh, e->e.ino);
		op_entry_undo(o, e);
	} else {
		op_entry_done(o, e);
	}
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct inode *dir = op_inode(&o, parent);
	struct op_entry e = {.inode = NULL};
	uint32_t changes = 0;
	int r = -ESTALE;

	if (dir) {
		pthread_rwlock_wrlock(&o.w->names);
		r = create(&o, dir, name, mode, fi, &e);
		changes = atomic_load(&dir->changes);
		pthread_rwlock_unlock(&o.w->names);
	}
	if (r == 0)
		reply_create(&o, &e, dir, name, changes, fi);
	else
		op_reply(&o, r);
	inode_unref(o.w->inodes, dir);
}

/* ---- data ---- */

static struct handle *file_handle(const struct op *o, const struct fuse_file_info *fi, fuse_ino_t node)
{
	return fi ? op_handle(o, fi->fh, HANDLE_FILE, node) : NULL;
}

static void damaged(const struct op *o, struct handle *h)
{
	pthread_rwlock_rdlock(&o->w->names);
	op_outcome(o, h->inode, -EBADMSG);
	pthread_rwlock_unlock(&o->w->names);
}

/* To fill a page of which a part is overwritten the kernel reads through any handle it has.  What leaves is in the record
 * first: here that it was read as well. */
static int may_read(const struct op *o, struct handle *h)
{
	struct record_access a = {.flags = h->flags | RECORD_READ, .process = h->process};
	int r;

	if (h->flags & (RECORD_READ | RECORD_EXEC))
		return 0;
	if (!o->s->exclusive) {
		session_record_refused(o->s, "read-not-opened");
		return -EBADF;
	}
	if (atomic_load(&h->read_back))
		return 0;
	a.size = file_size(h->file);
	file_id(h->file, &a.file);
	pthread_rwlock_rdlock(&o->w->names);
	a.path = recorder_path(o->w->recorder, o->w->inodes, h->inode, NULL);
	pthread_rwlock_unlock(&o->w->names);
	r = op_record(o, &a, RECORD_OPEN, 0);
	if (r == 0)
		atomic_store(&h->read_back, true);
	return r;
}

void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h = file_handle(&o, fi, node);
	void *buf = loop_answer_buffer();
	ssize_t n = h ? op_passed_on(&o, h) : -EBADF;

	if (size > LOOP_IO_MAX)
		size = LOOP_IO_MAX;
	if (n == 0)
		n = may_read(&o, h);
	if (n == 0 && off < 0) {
		n = -EINVAL;
	} else if (n == 0) {
		n = buf ? file_read(h->file, buf, size, (uint64_t)off) : -ENOMEM;
	}
	if (n == -EBADMSG) {
		damaged(&o, h);
		n = -EIO;
	}
	if (n > 0)
		atomic_fetch_add(&h->bytes_read, (uint64_t)n);
	if (n >= 0)
		fuse_reply_buf(req, buf, (size_t)n);
	else
		op_reply(&o, (int)n);
	if (h)
		ops_handle_put(o.s, h);
}

static ssize_t write_file(
	const struct op *o, struct handle *h, const char *buf, size_t size, uint64_t off, bool append)
{
	int r = recorder_ready(o->w->recorder);
	uint64_t at;
	ssize_t n;

	if (r == 0)
		r = op_passed_on(o, h);
	if (r < 0)
		return r;
	if (append) {
		n = file_append(h->file, buf, size, &at);
		/* O_APPEND was set after the open: this kernel has put the data into its cache where it saw the end. */
		if (n > 0 && at != off && !(h->flags & RECORD_APPEND))
			notify_self(o->s, h->inode);
		return n;
	}
	return file_write(h->file, buf, size, off);
}

void op_write(
	fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	bool pages = o.s->exclusive && fi->writepage;
	struct handle *h = pages ? handle_get_even_dead(o.s->handles, fi->fh, node) : file_handle(&o, fi, node);
	/* as it is now: fcntl(F_SETFL) changes it; an exclusive kernel has placed it where its own end is */
	bool append = (fi->flags & O_APPEND) && !fi->writepage && !o.s->exclusive;
	ssize_t n = -EBADF;

	if (pages && !h)
		session_record_refused(o.s, "unknown-handle");
	if (h && !(h->flags & RECORD_WRITE))
		session_record_refused(o.s, "write-not-opened");
	else if (h && off < 0)
		n = -EINVAL;
	else if (h && o.read_only && !fi->writepage)
		n = -EROFS; /* opened by another member, who may write */
	else if (h)
		n = write_file(&o, h, buf, size, (uint64_t)off, append);
	if (n == -EBADMSG) {
		damaged(&o, h);
		n = -EIO;
	}
	if (n > 0) {
		atomic_fetch_add(&h->bytes_written, (uint64_t)n);
		if (append)
			notify_content(o.s, h->inode, 0, 0);
		else
			notify_content(o.s, h->inode, off, n);
		op_set_ids_dropped(&o, h->inode);
	}
	if (n >= 0)
		fuse_reply_write(req, (size_t)n);
	else
		op_reply(&o, (int)n);
	if (h)
		ops_handle_put(o.s, h);
}

void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h;
	int r = -EBADF;

	/* The kernel has brought all data and times by now and has the locks: never asked again. */
	if (o.s->exclusive) {
		op_reply(&o, -ENOSYS);
		return;
	}
	h = handle_get_even_dead(o.s->handles, fi->fh, node);
	if (!h) {
		session_record_refused(o.s, "unknown-handle");
	} else {
		lock_release_owner(o.w->locks, LOCK_POSIX, o.s->number, fi->lock_owner, node);
		r = h->flags & RECORD_WRITE ? file_flush(h->file) : 0;
		ops_handle_put(o.s, h);
	}
	op_reply(&o, r == -EBADMSG ? -EIO : r);
}

void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h = handle_release(o.s->handles, fi->fh, HANDLE_FILE, node);

	if (!h) {
		session_record_refused(o.s, "unknown-handle");
		op_reply(&o, -EBADF);
		return;
	}
	lock_release_handle(o.w->locks, o.s->number, fi->fh, node);
	ops_handle_put(o.s, h);
	op_reply(&o, 0);
}

struct wanted_sync {
	struct file *file;
	bool data_only;
};

static int sync_file(void *arg)
{
	const struct wanted_sync *w = arg;

	return file_sync(w->file, w->data_only);
}

void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h = file_handle(&o, fi, node);
	int r = -EBADF;

	if (h) {
		struct wanted_sync w = {.file = h->file, .data_only = datasync};

		r = recorder_sync_with(o.w->recorder, sync_file, &w);
		ops_handle_put(o.s, h);
	}
	op_reply(&o, r == -EBADMSG ? -EIO : r);
}

static int allocate(const struct op *o, struct handle *h, int mode, uint64_t off, uint64_t len)
{
	struct record_access a = {.size = 0};
	int r = op_may_change(o);

	if (r == 0)
		r = op_may_passed_on(o, h);
	if (r == 0)
		r = file_allocate(h->file, mode, off, len);
	a.size = file_version(h->file, a.detail);
	if (r == 0)
		notify_content(o->s, h->inode, 0, 0);
	file_id(h->file, &a.file);
	pthread_rwlock_rdlock(&o->w->names);
	r = op_outcome(o, h->inode, r);
	a.path = recorder_path(o->w->recorder, o->w->inodes, h->inode, NULL);
	pthread_rwlock_unlock(&o->w->names);
	return op_record(o, &a, RECORD_FALLOCATE, r);
}

void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h = file_handle(&o, fi, node);
	int r = -EBADF;

	if (h && !(h->flags & RECORD_WRITE))
		session_record_refused(o.s, "write-not-opened");
	else if (h && (off < 0 || len <= 0))
		r = -EINVAL;
	else if (h)
		r = allocate(&o, h, mode, (uint64_t)off, (uint64_t)len);
	if (h)
		ops_handle_put(o.s, h);
	op_reply(&o, r);
}

void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi)
{
	struct op o = op_begin(req);
	struct handle *h;
	int64_t to = -EBADF;

	/* What the kernel has not brought yet would be a hole: it is to look at its own size, and find none. */
	if (o.s->exclusive) {
		op_reply(&o, -ENOSYS);
		return;
	}
	h = file_handle(&o, fi, node);
	if (h && whence != SEEK_DATA && whence != SEEK_HOLE)
		to = -EINVAL;
	else if (h && off < 0)
		to = -ENXIO;
	else if (h)
		to = file_seek(h->file, (uint64_t)off, whence);
	if (h)
		ops_handle_put(o.s, h);
	if (to >= 0)
		fuse_reply_lseek(req, to);
	else
		op_reply(&o, to == -EBADMSG ? -EIO : (int)to);
}
