#include "fs/worker/sources.h"

#include <errno.h>
#include <string.h>

#include "common/subject.h"
#include "fs/store/file.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/worker.h"

bool sources_are_meant(const char *attr)
{
	return strcmp(attr, SOURCE_ATTR) == 0;
}

/* Who may write it may say where it came from.  *ret_file: its id, in the record. */
static int may_say(const struct op *o, struct inode *i, const char *text, size_t n, struct file_id *ret_file)
{
	mode_t mode = atomic_load(&i->mode);
	struct file *file;
	int r = op_may_change(o);

	if (r == 0 && !S_ISREG(mode) && !S_ISDIR(mode))
		r = -EPERM;
	if (r == 0)
		r = op_may(o, i, OP_W);
	if (r == 0 && S_ISREG(mode)) {
		r = resolve_file_get(o->w->resolver, i, &file);
		if (r < 0)
			return r;
		r = op_may_class(o, file_class(file));
		file_id(file, ret_file);
		resolve_file_put(o->w->resolver, i);
	}
	return r == 0 && !subject_id_ok(text, n) ? -EINVAL : r;
}

static int nothing_more(void *arg)
{
	return 0;
}

int sources_set(const struct op *o, fuse_ino_t node, const char *text, size_t n)
{
	struct inode *i = op_inode(o, node);
	struct record_access a = {0};
	int r;

	if (!i)
		return -ESTALE;
	pthread_rwlock_rdlock(&o->w->names);
	r = op_outcome(o, i, may_say(o, i, text, n, &a.file));
	a.path = op_path(o, i);
	if (subject_id_ok(text, n))
		a.path2 = recorder_text(o->w->recorder, text, n);
	r = op_record(o, &a, RECORD_SOURCE, r);
	pthread_rwlock_unlock(&o->w->names);
	inode_unref(o->w->inodes, i);
	return r < 0 ? r : recorder_sync_with(o->w->recorder, nothing_more, NULL);
}
