/* What takes names away: unlink, rmdir, rename. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "fs/worker/ops.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/worker.h"

DEFINE_SCOPED(struct store_dir *, store_dir_unref)

/* What a name means now, and whether some session knows that inode (with a reference; else NULL). */
static int victim_find(
	const struct op *o, struct store_dir *d, const char *name, struct store_victim *v, struct inode **ret)
{
	int r = store_victim_find(d, name, v);

	if (r == 0)
		*ret = inode_find(o->w->inodes, &v->st);
	return r;
}

static void victim_gone(
	const struct op *o, struct inode *dir, const char *name, struct inode *i, const struct stat *st)
{
	bool last = S_ISDIR(st->st_mode) || st->st_nlink <= 1;

	if (!i) {
		notify_entry(o->s, dir, name);
		return;
	}
	if (last)
		inode_last_seen(i, st);
	if (last)
		notify_deleted(o->s, dir, i, name);
	else
		notify_unlinked(o->s, dir, i, name);
	inode_name_remove(o->w->inodes, i, dir, name, last);
	if (!last)
		recorder_path_forget(o->w->recorder, i);
	if (S_ISDIR(st->st_mode))
		resolve_dir_drop(o->w->resolver, i);
}

static int remove_name(const struct op *o, struct inode *dir, const char *name, bool is_dir)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct record_access a = {.path = recorder_path(o->w->recorder, o->w->inodes, dir, name)};
	char gone[STORE_GONE_WORD] = "";
	struct store_victim v = {.fd = -1};
	struct inode *i = NULL;
	int r = op_may_change_in(o, dir);

	if (r == 0)
		r = resolve_dir(o->w->resolver, dir, &d);
	if (r == 0)
		r = victim_find(o, d, name, &v, &i);
	if (r == 0 && S_ISDIR(v.st.st_mode) != is_dir)
		r = is_dir ? -ENOTDIR : -EISDIR;
	if (r == 0) {
		/* A directory's open descriptor and keys go first: it loses its id. */
		if (i && is_dir)
			resolve_dir_drop(o->w->resolver, i);
		store_gone_word(d, &v, gone);
		r = is_dir ? store_rmdir_victim(d, &v) : store_unlink_victim(d, &v);
	}
	if (r == 0) {
		a.size = S_ISREG(v.st.st_mode) ? (uint64_t)v.st.st_size : 0;
		snprintf(a.detail, sizeof(a.detail), "%s", gone);
		victim_gone(o, dir, name, i, &v.st);
	}
	inode_unref(o->w->inodes, i);
	r = op_outcome(o, dir, r);
	return op_record(o, &a, is_dir ? RECORD_RMDIR : RECORD_UNLINK, r);
}

static void op_remove(fuse_req_t req, fuse_ino_t parent, const char *name, bool is_dir)
{
	struct op o = op_begin(req);
	struct inode *dir = op_inode(&o, parent);
	int r = -ESTALE;

	if (dir) {
		pthread_rwlock_wrlock(&o.w->names);
		r = remove_name(&o, dir, name, is_dir);
		pthread_rwlock_unlock(&o.w->names);
	}
	op_reply(&o, r);
	inode_unref(o.w->inodes, dir);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	op_remove(req, parent, name, false);
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	op_remove(req, parent, name, true);
}

/* ---- rename ---- */

struct side {
	struct inode *dir;
	const char *name;
	struct store_dir *d;
	struct inode *inode; /* what the name means, if known */
	struct store_victim v;
	bool there;
};

static int side_find(const struct op *o, struct side *s)
{
	int r = resolve_dir(o->w->resolver, s->dir, &s->d);

	if (r == 0)
		r = victim_find(o, s->d, s->name, &s->v, &s->inode);
	s->there = r == 0;
	return r;
}

/* As a local disk does: no directory into itself; and moving one rewrites its "..". */
static int rename_allowed(const struct op *o, const struct side *from, const struct side *to, unsigned flags)
{
	bool dir = S_ISDIR(from->v.st.st_mode), to_dir = to->there && S_ISDIR(to->v.st.st_mode);

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
		flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if ((flags & RENAME_NOREPLACE) && to->there)
		return -EEXIST;
	if ((flags & RENAME_EXCHANGE) && !to->there)
		return -ENOENT;
	if (to->there && !(flags & RENAME_EXCHANGE) && dir != to_dir)
		return dir ? -ENOTDIR : -EISDIR;
	if (from->inode && dir && inode_is_below(o->w->inodes, to->dir, from->inode))
		return -EINVAL;
	if ((flags & RENAME_EXCHANGE) && to->inode && to_dir &&
		inode_is_below(o->w->inodes, from->dir, to->inode))
		return -EINVAL;
	if (from->dir == to->dir)
		return 0;
	if ((flags & RENAME_EXCHANGE) && to_dir && to->inode && op_may(o, to->inode, OP_W) < 0)
		return -EACCES;
	return dir && from->inode ? op_may(o, from->inode, OP_W) : 0;
}

static void forget_dirs(const struct op *o, const struct side *from, const struct side *to)
{
	if (from->inode && S_ISDIR(from->v.st.st_mode))
		resolve_dir_drop(o->w->resolver, from->inode);
	if (to->inode && S_ISDIR(to->v.st.st_mode))
		resolve_dir_drop(o->w->resolver, to->inode);
}

/* Directories below one that moved know the labels that were above them: they are opened anew. */
static void labels_moved(const struct op *o, const struct side *from, const struct side *to)
{
	if (store_dir_is_labelled(from->d) || store_dir_is_labelled(to->d))
		resolve_dirs_drop(o->w->resolver);
}

/* A name that could not be remembered for want of memory is found again by the next lookup. */
static void renamed(const struct op *o, struct side *from, struct side *to, unsigned flags)
{
	bool exchange = flags & RENAME_EXCHANGE;

	if (to->there && !exchange)
		victim_gone(o, to->dir, to->name, to->inode, &to->v.st);
	if (from->inode) {
		inode_name_add(o->w->inodes, from->inode, to->dir, to->name);
		inode_name_remove(o->w->inodes, from->inode, from->dir, from->name, false);
		notify_attributes(o->s, from->inode);
	}
	if (exchange && to->inode) {
		inode_name_add(o->w->inodes, to->inode, from->dir, from->name);
		inode_name_remove(o->w->inodes, to->inode, to->dir, to->name, false);
		notify_attributes(o->s, to->inode);
	}
	if (S_ISDIR(from->v.st.st_mode) || (exchange && S_ISDIR(to->v.st.st_mode)))
		labels_moved(o, from, to);
	recorder_paths_changed(o->w->recorder);
	notify_entry(o->s, from->dir, from->name);
	notify_entry(o->s, to->dir, to->name);
}

/* What an erasure must know of it later: which key went with what stood there, or what else it was. */
static void tell_replaced(const struct side *from, struct side *to, unsigned flags, char word[STORE_GONE_WORD])
{
	if (flags & RENAME_EXCHANGE) {
		snprintf(word, STORE_GONE_WORD, "x");
	} else if (S_ISDIR(from->v.st.st_mode)) {
		snprintf(word, STORE_GONE_WORD, "d");
	} else if (to->there) {
		store_gone_word(to->d, &to->v, word);
		close_fdp(&to->v.fd);
	} else {
		snprintf(word, STORE_GONE_WORD, "k-");
	}
}

static int do_rename(const struct op *o, struct side *from, struct side *to, unsigned flags)
{
	struct record_access a = {.path = recorder_path(o->w->recorder, o->w->inodes, from->dir, from->name),
		.path2 = recorder_path(o->w->recorder, o->w->inodes, to->dir, to->name)};
	char gone[STORE_GONE_WORD] = "";
	int r = op_may_change_in(o, from->dir);

	if (r == 0)
		r = op_may_change_in(o, to->dir);
	if (r == 0 && strlen(to->name) > STORE_NAME_MAX)
		r = -ENAMETOOLONG;
	if (r == 0)
		r = side_find(o, from);
	if (r == 0)
		r = side_find(o, to);
	if (r == -ENOENT && from->there)
		r = 0;
	if (r == 0)
		r = rename_allowed(o, from, to, flags);
	if (r == 0) {
		bool same = to->there && from->v.st.st_ino == to->v.st.st_ino && from->v.st.st_dev == to->v.st.st_dev;

		forget_dirs(o, from, to);
		if (!same) { /* two links of one file: rename(2) does nothing */
			tell_replaced(from, to, flags, gone);
			r = store_rename(from->d, from->name, to->d, to->name, flags);
		}
		if (r == 0)
			snprintf(a.detail, sizeof(a.detail), "%s", same ? "k-" : gone);
		if (r == 0 && !same)
			renamed(o, from, to, flags);
	}
	r = op_outcome(o, from->dir, r);
	return op_record(o, &a, RECORD_RENAME, r);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
	const char *new_name, unsigned flags)
{
	struct op o = op_begin(req);
	struct side from = {.dir = op_inode(&o, parent), .name = name, .v.fd = -1};
	struct side to = {.dir = op_inode(&o, to_parent), .name = new_name, .v.fd = -1};
	int r = -ESTALE;

	if (from.dir && to.dir) {
		pthread_rwlock_wrlock(&o.w->names);
		r = do_rename(&o, &from, &to, flags);
		pthread_rwlock_unlock(&o.w->names);
	}
	op_reply(&o, r);
	store_dir_unref(from.d);
	store_dir_unref(to.d);
	inode_unref(o.w->inodes, from.inode);
	inode_unref(o.w->inodes, to.inode);
	inode_unref(o.w->inodes, from.dir);
	inode_unref(o.w->inodes, to.dir);
}
