#include "fs/worker/ops.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "fs/store/file.h"
#include "fs/worker/handle.h"
#include "fs/worker/member.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/stable.h"
#include "fs/worker/told.h"
#include "fs/worker/classes.h"
#include "fs/worker/worker.h"

struct op op_begin(fuse_req_t req)
{
	struct session *s = fuse_req_userdata(req);

	const struct fuse_ctx *ctx;
	const struct member_identity *m;

	if (!s->members)
		return (struct op){.req = req,
			.s = s,
			.w = s->worker,
			.number = s->number,
			.uid = s->uid,
			.gid = s->gid,
			.read_only = s->read_only,
			.classes = s->classes};
	ctx = fuse_req_ctx(req);
	m = session_member();
	return (struct op){.req = req,
		.s = s,
		.w = s->worker,
		.number = m->number,
		.uid = ctx->uid,
		.gid = ctx->gid,
		.read_only = m->read_only || s->read_only,
		.classes = m->classes};
}

int op_may_class(const struct op *o, uint16_t class)
{
	return class_set_opens(o->classes, class) ? 0 : -EACCES;
}

/* ---- who may ---- */

int op_may(const struct op *o, const struct inode *i, unsigned mask)
{
	mode_t mode = atomic_load(&i->mode);

	if (o->s->members)
		return 0;
	if (o->s->uid == 0) {
		if ((mask & OP_X) && S_ISREG(mode) && !(mode & 0111))
			return -EACCES;
		return 0;
	}
	return (mode >> 6 & mask) == mask ? 0 : -EACCES;
}

int op_may_change(const struct op *o)
{
	return o->read_only ? -EROFS : recorder_ready(o->w->recorder);
}

int op_may_change_in(const struct op *o, const struct inode *dir)
{
	int r = op_may_change(o);

	return r < 0 ? r : op_may(o, dir, OP_W | OP_X);
}

struct inode *op_inode(const struct op *o, fuse_ino_t node)
{
	struct inode *i = inode_get(o->w->inodes, &o->s->view, node);

	if (!i)
		session_record_refused(o->s, "unknown-node");
	return i;
}

struct handle *op_handle(const struct op *o, uint64_t fh, int kind, fuse_ino_t node)
{
	struct handle *h = handle_get(o->s->handles, fh, (enum handle_kind)kind, node);

	if (!h && !handle_is_dead(o->s->handles, fh, (enum handle_kind)kind, node))
		session_record_refused(o->s, "unknown-handle");
	else if (h && o->s->sync)
		stable_due(h->due); /* its number can be guessed before its answer came */
	return h;
}

/* ---- attributes and entries ---- */

void op_present(const struct op *o, struct stat *st)
{
	if (o->s->members)
		return; /* real owners */
	st->st_uid = o->s->uid;
	st->st_gid = o->s->gid;
	if (!S_ISDIR(st->st_mode))
		st->st_mode &= ~(mode_t)(S_ISUID | S_ISGID); /* never offered: mounts are nosuid */
}

int op_stat(const struct op *o, struct inode *i, struct stat *ret)
{
	int r = resolve_stat(o->w->resolver, i, ret);

	if (r == 0)
		op_present(o, ret);
	if (r == 0 && o->s->members && i->index == INODE_ROOT) {
		ret->st_mode = S_IFDIR | 0770; /* with the access list as its ACL */
		ret->st_uid = 0;
		ret->st_gid = 0;
	}
	return r;
}

int op_entry_enter(
	const struct op *o, struct inode *dir, const char *name, const struct stat *st, struct op_entry *ret)
{
	struct inode *i;
	struct stat now = *st;
	int r;

	*ret = (struct op_entry){.inode = NULL};
	r = inode_enter(o->w->inodes, &o->s->view, dir, name, st, &i);
	if (r < 0)
		return r;
	ret->changes = atomic_load(&i->changes);
	/* What the name showed may be older than what another session did before it knew that this one looks.
	 */
	if (atomic_load(&i->written) || atomic_load(&o->w->session_count) > 1)
		r = resolve_stat(o->w->resolver, i, &now);
	if (r < 0) {
		inode_forget(o->w->inodes, &o->s->view, inode_node(i), 1);
		inode_unref(o->w->inodes, i);
		return r;
	}
	op_present(o, &now);
	ret->inode = i;
	ret->e = (struct fuse_entry_param){.ino = inode_node(i),
		.generation = 1,
		.attr = now,
		.attr_timeout = OPS_DAY,
		.entry_timeout = OPS_DAY};
	return 0;
}

int op_entry_find(
	const struct op *o, struct inode *dir, struct store_dir *d, const char *name, struct op_entry *ret)
{
	struct stat st;
	int r = store_lookup(d, name, &st);

	return r < 0 ? r : op_entry_enter(o, dir, name, &st, ret);
}

void op_entry_done(const struct op *o, struct op_entry *e)
{
	inode_unref(o->w->inodes, e->inode);
	e->inode = NULL;
}

void op_entry_undo(const struct op *o, struct op_entry *e)
{
	if (!e->inode)
		return;
	inode_forget(o->w->inodes, &o->s->view, e->e.ino, 1);
	op_entry_done(o, e);
}

bool op_waits(const struct op *o)
{
	return o->s->sync && !o->s->exclusive && stable_due_now();
}

void op_shown(const struct op *o, const struct inode *i)
{
	if (S_ISDIR(atomic_load(&i->mode)))
		inode_view_show(o->w->inodes, &o->s->view, i);
}

void op_shown_entry(const struct op *o, const struct op_entry *e, const struct inode *dir, const char *name)
{
	told_add(o->s->told, inode_node(dir), name);
	if (e->inode)
		op_shown(o, e->inode);
}

void op_reply_entry(const struct op *o, struct op_entry *e, struct inode *dir, const char *name, uint32_t dir_changes)
{
	int r;

	pthread_rwlock_rdlock(&o->s->replies);
	op_shown_entry(o, e, dir, name);
	if (op_waits(o) || atomic_load(&dir->changes) != dir_changes)
		e->e.entry_timeout = 0;
	if (op_waits(o) || (e->inode && atomic_load(&e->inode->changes) != e->changes))
		e->e.attr_timeout = 0;
	r = fuse_reply_entry(o->req, &e->e);
	pthread_rwlock_unlock(&o->s->replies);
	if (r < 0)
		op_entry_undo(o, e); /* the caller is gone: the kernel never heard of it */
	else
		op_entry_done(o, e);
}

void op_reply_attr(const struct op *o, struct inode *i, uint32_t changes, const struct stat *st)
{
	pthread_rwlock_rdlock(&o->s->replies);
	op_shown(o, i);
	/* The kernel asks for a shared root's attributes each time that a path leads through it, and says for
	 * whom: so nobody walks on cached names whom we have not let in. */
	if (o->s->members && i->index == INODE_ROOT)
		fuse_reply_attr(o->req, st, 0);
	else
		fuse_reply_attr(o->req, st, !op_waits(o) && atomic_load(&i->changes) == changes ? OPS_DAY : 0);
	pthread_rwlock_unlock(&o->s->replies);
}

/* ---- outcome and record ---- */

int op_outcome(const struct op *o, struct inode *i, int r)
{
	struct record_access a = {.path = 0};

	if (r != -EBADMSG)
		return r;
	snprintf(a.detail, sizeof(a.detail), "%s", store_damage_word());
	log_error("session %llu: damaged %s in the store", (unsigned long long)o->s->number, a.detail);
	if (i)
		a.path = recorder_path(o->w->recorder, o->w->inodes, i, NULL);
	op_record(o, &a, RECORD_DAMAGE, -EIO);
	return -EIO;
}

void op_reply(const struct op *o, int r)
{
	fuse_reply_err(o->req, r < 0 ? -r : 0);
}

int op_record(const struct op *o, struct record_access *a, enum record_op what, int r)
{
	int e;

	a->session = o->number;
	a->op = (uint8_t)what;
	a->outcome = (uint16_t)(r < 0 ? -r : 0);
	if (!a->process)
		a->process = recorder_process(o->w->recorder, (uint32_t)fuse_req_ctx(o->req)->pid);
	e = recorder_append(o->w->recorder, a);
	if (o->s->sync && e == 0)
		stable_due(journal_position(recorder_journal(o->w->recorder)));
	return r < 0 ? r : e;
}

int op_record_name(const struct op *o, enum record_op what, struct inode *dir, const char *name, int r)
{
	struct record_access a = {.path = name ? recorder_path(o->w->recorder, o->w->inodes, dir, name) : op_path(o, dir)};

	return op_record(o, &a, what, r);
}

int op_record_inode(const struct op *o, enum record_op what, struct inode *i, int r)
{
	return op_record_name(o, what, i, NULL, r);
}

uint32_t op_path(const struct op *o, struct inode *i)
{
	uint32_t path = recorder_path(o->w->recorder, o->w->inodes, i, NULL);

	return path ? path : retry_path(o->s, fuse_req_ctx(o->req)->pid, i);
}

void op_tries_again(const struct op *o, enum op_by_name what, int r)
{
	pid_t pid = fuse_req_ctx(o->req)->pid;

	if (r == -ESTALE)
		retry_expect(o->s, pid, (int)what);
	else
		retry_over(o->s, pid, (int)what);
}

/* ---- the session as a whole ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	const struct session *s = userdata;

	conn->want = conn->capable &
		     (FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			     FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_HANDLE_KILLPRIV |
			     FUSE_CAP_CACHE_SYMLINKS);
	/* Locks that only one kernel asks for it can keep itself. */
	conn->want |= conn->capable &
		      (s->exclusive ? FUSE_CAP_WRITEBACK_CACHE : FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS);
	if (s->members)
		conn->want |= conn->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
	conn->max_write = LOOP_IO_MAX;
	conn->max_read = LOOP_IO_MAX;
	conn->max_readahead = LOOP_IO_MAX;
	conn->time_gran = 1;
}

static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t n)
{
	struct op o = op_begin(req);

	inode_forget(o.w->inodes, &o.s->view, node, n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *what)
{
	struct op o = op_begin(req);

	for (size_t k = 0; k < n; k++)
		inode_forget(o.w->inodes, &o.s->view, what[k].ino, what[k].nlookup);
	fuse_reply_none(req);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.access = op_access,
	.create = op_create,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.flock = op_flock,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
};

const struct fuse_lowlevel_ops *ops_table(void)
{
	return &ops;
}

size_t ops_table_size(void)
{
	return sizeof(ops);
}
