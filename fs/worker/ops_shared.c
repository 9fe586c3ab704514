/* Real owners, modes and ACLs.  Only a shared session shows and checks them (the kernel does, by
 * default_permissions); every session of a daemon that may sets the owner of what it makes. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "common/scope.h"
#include "fs/store/file.h"
#include "fs/worker/handle.h"
#include "fs/worker/member.h"
#include "fs/worker/notify.h"
#include "fs/worker/ops.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/worker.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define SET_IDS (S_ISUID | S_ISGID)

DEFINE_SCOPED(struct store_dir *, store_dir_unref)

/* ---- what is made ---- */

/* With a default ACL the directory says what the umask says elsewhere. */
mode_t op_new_mode(const struct op *o, struct store_dir *d, mode_t mode)
{
	if (!o->s->members)
		return mode & 01777;
	if (store_acl_get(d, NULL, ACL_DEFAULT, NULL, 0) > 0)
		return mode & 07777;
	return mode & 07777 & ~fuse_req_ctx(o->req)->umask;
}

static int give(const struct op *o, struct store_dir *d, const char *name, struct file *f, bool group,
	const struct stat *st)
{
	gid_t gid = group ? o->gid : (gid_t)-1;
	int r = f ? file_chown(f, o->uid, gid) : store_chown(d, name, o->uid, gid);

	/* Changing the owner takes these away. */
	if (r == 0 && !S_ISDIR(st->st_mode) && (st->st_mode & SET_IDS))
		r = f ? file_chmod(f, st->st_mode & 07777) : store_chmod(d, name, st->st_mode & 07777);
	return r;
}

/* In a directory with its set-group-id bit the backing file system has given the group already. */
int op_new_owner(const struct op *o, struct inode *dir, struct store_dir *d, const char *name, struct file *f,
	struct stat *st)
{
	bool group = !(atomic_load(&dir->mode) & S_ISGID);
	int r;

	if (!o->w->owners || (st->st_uid == o->uid && (!group || st->st_gid == o->gid)))
		return 0;
	r = give(o, d, name, f, group, st);
	if (r < 0) {
		(void)(S_ISDIR(st->st_mode) ? store_rmdir(d, name) : store_unlink(d, name));
		return r;
	}
	st->st_uid = o->uid;
	if (group)
		st->st_gid = o->gid;
	return 0;
}

/* The set-id bits stay what was asked for: the owner's change drops them on disk, and gives them back. */
static int inherit_acl(struct store_dir *d, struct file *f, struct stat *st)
{
	struct stat now;
	int r = file_inherit_acl(f, d, st->st_mode);

	if (r == 0)
		r = file_stat(f, &now);
	if (r == 0)
		st->st_mode = (now.st_mode & ~(mode_t)SET_IDS) | (st->st_mode & SET_IDS);
	return r;
}

/* It does not stand in d, so nothing is inherited by itself. */
int op_new_unnamed_owner(const struct op *o, struct store_dir *d, struct file *f, struct stat *st)
{
	gid_t gid = o->gid;
	struct stat in;
	int r = inherit_acl(d, f, st);

	if (r < 0 || !o->w->owners)
		return r;
	r = store_dir_stat(d, &in);
	if (r == 0 && (in.st_mode & S_ISGID))
		gid = in.st_gid;
	if (r == 0)
		r = file_chown(f, o->uid, gid);
	if (r == 0 && (st->st_mode & SET_IDS))
		r = file_chmod(f, st->st_mode & 07777);
	if (r < 0)
		return r;
	st->st_uid = o->uid;
	st->st_gid = gid;
	return 0;
}

/* ---- what is changed ---- */

int op_set_owner(const struct op *o, struct inode *i, const struct stat *attr, int to_set)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
	const char *name;
	struct file *f;
	int r;

	if (i->index == INODE_ROOT)
		return -EPERM;
	if (S_ISREG(atomic_load(&i->mode)) && (f = resolve_file_peek(o->w->resolver, i))) {
		r = file_chown(f, uid, gid);
		resolve_file_put(o->w->resolver, i);
	} else {
		r = resolve_name(o->w->resolver, i, &d, &name);
		if (r == 0)
			r = store_chown(d, name, uid, gid);
	}
	if (r == 0)
		op_mode_changed(o, i, 0);
	return r;
}

void op_mode_changed(const struct op *o, struct inode *i, mode_t wanted)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	struct stat st;

	if (resolve_stat(o->w->resolver, i, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode) && (wanted & S_ISGID) && !(st.st_mode & S_ISGID) && o->w->owners &&
		resolve_dir(o->w->resolver, i, &d) == 0 && store_dir_set_gid_bit(d) == 0)
		st.st_mode |= S_ISGID;
	atomic_store(&i->mode, st.st_mode);
}

/* The backing file system took them away as it does for everybody who is not root; this kernel does not know.
 */
void op_set_ids_dropped(const struct op *o, struct inode *i)
{
	mode_t mode = atomic_load(&i->mode);

	if (!S_ISREG(mode) || !(mode & SET_IDS))
		return;
	pthread_rwlock_rdlock(&o->w->names);
	op_mode_changed(o, i, 0);
	pthread_rwlock_unlock(&o->w->names);
	notify_own_attributes(o->s, i);
}

/* ---- ACLs ---- */

bool op_is_acl(const char *attr)
{
	return strcmp(attr, ACL_ACCESS) == 0 || strcmp(attr, ACL_DEFAULT) == 0;
}

static int acl_place(const struct op *o, struct inode *i, struct store_dir **ret_d, const char **ret_name)
{
	*ret_name = NULL;
	return S_ISDIR(atomic_load(&i->mode)) ? resolve_dir(o->w->resolver, i, ret_d)
					      : resolve_name(o->w->resolver, i, ret_d, ret_name);
}

/* What is open may have no name (any more): the file itself has the list.  NULL: not open, so it goes by its name. */
static struct file *acl_file(const struct op *o, struct inode *i)
{
	return S_ISREG(atomic_load(&i->mode)) ? resolve_file_peek(o->w->resolver, i) : NULL;
}

int op_acl_get(const struct op *o, struct inode *i, const char *attr, void *buf, size_t cap)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	const char *name;
	struct file *f;
	int r;

	if (i->index == INODE_ROOT)
		return strcmp(attr, ACL_ACCESS) == 0 ? members_acl(o->s->members, buf, cap) : -ENODATA;
	if ((f = acl_file(o, i))) {
		r = file_acl_get(f, attr, buf, cap);
		resolve_file_put(o->w->resolver, i);
		return r;
	}
	r = acl_place(o, i, &d, &name);
	if (r == -ESTALE && i->last)
		return -ENODATA; /* it is nowhere and holds nothing; its mode still says who may */
	return r < 0 ? r : store_acl_get(d, name, attr, buf, cap);
}

int op_acl_set(const struct op *o, struct inode *i, const char *attr, const void *val, size_t n, int flags)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	mode_t was = atomic_load(&i->mode);
	const char *name;
	struct file *f;
	int r;

	if (i->index == INODE_ROOT)
		return -EPERM; /* it shows who may enter: `coffer grant` changes that */
	if ((f = acl_file(o, i))) {
		r = file_acl_set(f, attr, val, n, flags);
		resolve_file_put(o->w->resolver, i);
	} else {
		r = acl_place(o, i, &d, &name);
		if (r == 0)
			r = store_acl_set(d, name, attr, val, n, flags);
	}
	if (r == 0)
		op_mode_changed(o, i, was);
	return r;
}

/* ---- descriptors that went to another member ---- */

/* The kernel's own requests come as the session itself. */
static bool is_passed_on(const struct op *o, const struct handle *h)
{
	return o->s->members && o->number != h->session && o->number != o->s->number;
}

int op_may_passed_on(const struct op *o, const struct handle *h)
{
	return h->file && is_passed_on(o, h) ? op_may_class(o, file_class(h->file)) : 0;
}

/* Only who was let in with a record of it need not be asked again. */
int op_passed_on(const struct op *o, struct handle *h)
{
	struct record_access a = {.flags = h->flags};
	int r;

	if (!is_passed_on(o, h) || atomic_load(&h->passed_to) == o->number)
		return 0;
	r = op_may_passed_on(o, h);
	if (h->file) {
		a.size = file_size(h->file);
		file_id(h->file, &a.file);
	}
	pthread_rwlock_rdlock(&o->w->names);
	a.path = recorder_path(o->w->recorder, o->w->inodes, h->inode, NULL);
	pthread_rwlock_unlock(&o->w->names);
	r = op_record(o, &a, h->kind == HANDLE_DIR ? RECORD_OPENDIR : RECORD_OPEN, r);
	if (r == 0)
		atomic_store(&h->passed_to, o->number);
	return r;
}
