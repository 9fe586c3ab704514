#include "fs/worker/subjects.h"

#include <errno.h>
#include <linux/limits.h>
#include <string.h>

#include "common/scope.h"
#include "common/subject.h"
#include "fs/store/file.h"
#include "fs/worker/classes.h"
#include "fs/worker/notify.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/worker.h"

DEFINE_SCOPED(struct store_dir *, store_dir_unref)
DEFINE_SCOPED(struct subjects *, subjects_free)

struct target { /* one of them */
	struct store_dir *dir;
	struct file *file;
};

bool subjects_are_meant(const char *attr)
{
	return strncmp(attr, SUBJECT_ATTR_PREFIX, sizeof(SUBJECT_ATTR_PREFIX) - 1) == 0;
}

/* A label is content, too: the file tells its class. */
static int target_find(const struct op *o, struct inode *i, struct target *ret)
{
	mode_t mode = atomic_load(&i->mode);
	int r;

	if (S_ISDIR(mode))
		return resolve_dir(o->w->resolver, i, &ret->dir);
	if (!S_ISREG(mode))
		return -EPERM;
	r = resolve_file_get(o->w->resolver, i, &ret->file);
	return r < 0 ? r : op_may_class(o, file_class(ret->file));
}

static void target_done(const struct op *o, struct inode *i, struct target *t)
{
	store_dir_unref(t->dir);
	if (t->file)
		resolve_file_put(o->w->resolver, i);
}

/* ---- changing ---- */

static int change(const struct op *o, struct inode *i, struct target *t, const char *id, size_t n, bool remove)
{
	int r = op_may_change(o);

	if (r == 0)
		r = op_may(o, i, OP_W);
	if (r == 0)
		r = target_find(o, i, t);
	if (r == 0)
		r = t->file ? file_subject_set(t->file, id, n, remove) : store_dir_subject_set(t->dir, id, n, remove);
	if (r > 0 && t->dir)
		resolve_dirs_drop(o->w->resolver); /* who is below has what was above it */
	if (r == 0 && remove)
		return -ENODATA;
	return r < 0 ? r : 0;
}

/* The namespace lock excludes who reads a label on the way to what is below it. */
static int change_recorded(
	const struct op *o, struct inode *i, struct target *t, const char *id, size_t n, bool remove)
{
	struct record_access a = {0};
	int r;

	pthread_rwlock_wrlock(&o->w->names);
	r = recorder_ready(o->w->recorder);
	if (r == 0)
		r = op_outcome(o, i, change(o, i, t, id, n, remove));
	a.path = recorder_path(o->w->recorder, o->w->inodes, i, NULL);
	if (subject_id_ok(id, n))
		a.path2 = recorder_text(o->w->recorder, id, n);
	r = op_record(o, &a, remove ? RECORD_SUBJECT_UNLABEL : RECORD_SUBJECT_LABEL, r);
	if (r == 0)
		notify_attributes(o->s, i);
	pthread_rwlock_unlock(&o->w->names);
	return r;
}

int subjects_set(const struct op *o, fuse_ino_t node, const char *attr, const char *id, size_t n)
{
	bool remove = strcmp(attr, SUBJECT_ATTR_REMOVE) == 0;
	struct target t = {0};
	struct inode *i;
	int r;

	if (!remove && strcmp(attr, SUBJECT_ATTR_ADD) != 0)
		return -EOPNOTSUPP;
	i = op_inode(o, node);
	if (!i)
		return -ESTALE;
	r = change_recorded(o, i, &t, id, n, remove);
	/* Whoever trusts that it is labelled may trust it after a power cut. */
	if (r == 0)
		r = t.file ? file_sync(t.file, false) : store_dir_sync(t.dir);
	target_done(o, i, &t);
	inode_unref(o->w->inodes, i);
	return r;
}

/* ---- reading ---- */

static int put(const struct subjects *s, char mark, char *buf, size_t cap, size_t *used)
{
	size_t at = 0, n;
	const char *id;

	while (subjects_next(s, &at, &id, &n)) {
		if (cap > 0 && *used + n + 2 > cap)
			return -ERANGE;
		if (cap > 0) {
			buf[*used] = mark;
			memcpy(buf + *used + 1, id, n);
			buf[*used + 1 + n] = 0;
		}
		*used += n + 2;
	}
	return 0;
}

static int above_of(const struct op *o, struct inode *i, const struct target *t, struct subjects **own, struct subjects **above)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	scoped(subjects_freep) struct subjects *at = NULL, *higher = NULL;
	const char *name;
	int r;

	if (t->dir)
		return store_dir_subjects(t->dir, own, above);
	r = file_subjects(t->file, own);
	if (r == 0)
		r = resolve_name(o->w->resolver, i, &d, &name);
	if (r == -ESTALE)
		return 0; /* it has no name any more, and nothing is above it */
	if (r == 0)
		r = store_dir_subjects(d, &at, &higher);
	if (r == 0)
		r = subjects_add_all(&higher, at, SUBJECTS_UNION_MAX);
	if (r < 0)
		return r;
	*above = take_ptr(&higher);
	return 0;
}

static int list(const struct op *o, struct inode *i, char *buf, size_t cap)
{
	scoped(subjects_freep) struct subjects *own = NULL, *above = NULL;
	struct target t = {0};
	size_t used = 0;
	int r = op_may(o, i, OP_R);

	if (r == 0)
		r = target_find(o, i, &t);
	if (r == 0)
		r = above_of(o, i, &t, &own, &above);
	if (r == 0)
		r = put(own, '=', buf, cap, &used);
	if (r == 0)
		r = put(above, '^', buf, cap, &used);
	target_done(o, i, &t);
	if (r < 0)
		return r;
	return used == 0 ? -ENODATA : used > XATTR_SIZE_MAX ? -E2BIG : (int)used;
}

int subjects_get(const struct op *o, fuse_ino_t node, const char *attr, char *buf, size_t cap)
{
	struct inode *i;
	int r;

	if (strcmp(attr, SUBJECT_ATTR_LIST) != 0)
		return -EOPNOTSUPP;
	i = op_inode(o, node);
	if (!i)
		return -ESTALE;
	pthread_rwlock_rdlock(&o->w->names);
	r = recorder_ready(o->w->recorder);
	if (r == 0)
		r = op_outcome(o, i, list(o, i, buf, cap));
	if (r != -ENODATA && op_record_inode(o, RECORD_GETXATTR, i, r < 0 ? r : 0) < 0 && r >= 0)
		r = -ENOSPC;
	pthread_rwlock_unlock(&o->w->names);
	inode_unref(o->w->inodes, i);
	return r;
}
