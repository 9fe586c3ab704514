/* Locks on open files.  An exclusive session's kernel keeps them itself and asks for none. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fs/worker/handle.h"
#include "fs/worker/lock.h"
#include "fs/worker/ops.h"
#include "fs/worker/worker.h"

static struct lock_claim claim(
	const struct op *o, fuse_ino_t node, const struct fuse_file_info *fi, const struct flock *l)
{
	struct lock_claim c = {.session = o->s->number,
		.owner = fi->lock_owner,
		.node = node,
		.fh = fi->fh,
		.uid = (uint32_t)o->uid,
		.kind = LOCK_POSIX,
		.type = l->l_type,
		.start = (uint64_t)l->l_start,
		.pid = (uint32_t)l->l_pid};

	c.end = l->l_len == 0 ? UINT64_MAX : c.start + (uint64_t)l->l_len - 1;
	return c;
}

static bool range_ok(const struct flock *l)
{
	return l->l_start >= 0 && l->l_len >= 0 &&
	       (l->l_type == F_RDLCK || l->l_type == F_WRLCK || l->l_type == F_UNLCK);
}

void op_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock)
{
	struct op o = op_begin(req);
	struct handle *h = op_handle(&o, fi->fh, HANDLE_FILE, node);
	struct lock_claim want, found;

	if (!h || !range_ok(lock)) {
		op_reply(&o, h ? -EINVAL : -EBADF);
	} else {
		want = claim(&o, node, fi, lock);
		lock_test(o.w->locks, &want, &found);
		lock->l_type = found.type;
		lock->l_start = (off_t)found.start;
		lock->l_len = found.end == UINT64_MAX ? 0 : (off_t)(found.end - found.start + 1);
		/* Another session's process is of another user: his pid is none of this one's business. */
		lock->l_pid = found.session == o.s->number ? (pid_t)found.pid : -1;
		fuse_reply_lock(req, lock);
	}
	if (h)
		ops_handle_put(o.s, h);
}

static void set_lock(const struct op *o, const struct lock_claim *c, bool wait)
{
	if (wait && c->type != F_UNLCK)
		lock_set_wait(o->w->locks, c, o->req);
	else
		op_reply(o, lock_set(o->w->locks, c));
}

void op_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct op o = op_begin(req);
	struct handle *h = op_handle(&o, fi->fh, HANDLE_FILE, node);
	struct lock_claim c;

	if (!h || !range_ok(lock)) {
		op_reply(&o, h ? -EINVAL : -EBADF);
	} else {
		c = claim(&o, node, fi, lock);
		atomic_store(&h->inode->locked, true);
		set_lock(&o, &c, sleep);
	}
	if (h)
		ops_handle_put(o.s, h);
}

void op_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int what)
{
	struct op o = op_begin(req);
	struct handle *h = op_handle(&o, fi->fh, HANDLE_FILE, node);
	struct lock_claim c = {.session = o.s->number,
		.owner = fi->lock_owner,
		.node = node,
		.fh = fi->fh,
		.uid = (uint32_t)o.uid,
		.kind = LOCK_FLOCK,
		.end = UINT64_MAX};

	c.type = what & LOCK_UN ? F_UNLCK : what & LOCK_SH ? F_RDLCK : F_WRLCK;
	if (h)
		set_lock(&o, &c, !(what & LOCK_NB));
	else
		op_reply(&o, -EBADF);
	if (h)
		ops_handle_put(o.s, h);
}
