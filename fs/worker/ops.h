/* The FUSE operations: decode, call, record, answer exactly once.  ops.c has what they share and the table. */
#ifndef COFFER_OPS_H
#define COFFER_OPS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/record.h"
#include "fs/worker/handle.h"
#include "fs/worker/inode.h"
#include "fs/worker/session.h"
#include "fs/store/store.h"

struct file;
struct handle;

const struct fuse_lowlevel_ops *ops_table(void);
size_t ops_table_size(void);

/* Ends one reference; the last closes the handle, with its record. */
void ops_handle_put(struct session *s, struct handle *h);

/* ---- shared by ops_*.c ---- */
#define OPS_DAY 86400.0	/* how long the kernel may believe an answer: until we tell it otherwise */

struct op {			/* one request */
	fuse_req_t req;
	struct session *s;
	struct worker *w;
	/* who asks: of a shared session, the member */
	uint64_t number;
	uid_t uid;
	gid_t gid;
	bool read_only;
	const struct class_set *classes;
};

/* A handle of the caller's, as handle_new; -EMFILE also: he has his share (shares.h). */
int ops_handle_new(const struct op *o, enum handle_kind kind, uint64_t node, struct handle **ret, uint64_t *ret_fh);

struct op op_begin(fuse_req_t req);

enum { OP_X = 1, OP_W = 2, OP_R = 4 };
/* What the owner of a local file could do; uid 0 as root.  In a shared session the kernel has looked at owner, mode and ACL
 * (default_permissions): always 0. */
int op_may(const struct op *o, const struct inode *i, unsigned mask);
/* -EACCES: the session may not open files of that class. */
int op_may_class(const struct op *o, uint16_t class);
int op_may_change(const struct op *o);			/* -EROFS; -ENOSPC: a record is owed */
int op_may_change_in(const struct op *o, const struct inode *dir);	/* that, and write and search in dir */

/* What a request by a name is answered: after ESTALE its thread looks the name up once more (retry.h). */
enum op_by_name { BY_NAME_OPEN, BY_NAME_SETATTR, BY_NAME_XATTR };
/* Of i itself, for a record: its path, or the one under which it was found just before it lost it. */
uint32_t op_path(const struct op *o, struct inode *i);
void op_tries_again(const struct op *o, enum op_by_name what, int r);

/* With a reference (inode_unref); NULL: recorded as refused, answer ESTALE. */
struct inode *op_inode(const struct op *o, fuse_ino_t node);
struct handle *op_handle(const struct op *o, uint64_t fh, int kind, fuse_ino_t node);	/* NULL: recorded, answer EBADF */

/* Attributes as this session sees them. */
void op_present(const struct op *o, struct stat *st);
int op_stat(const struct op *o, struct inode *i, struct stat *ret);

/* An answer that the kernel may keep, and what it must not be older than. */
struct op_entry {
	struct fuse_entry_param e;
	struct inode *inode;	/* a reference, and a lookup of the session, once filled */
	uint32_t changes;
};
/* Under the namespace lock: finds d/name (dir's open directory) and adds the lookup. */
int op_entry_find(const struct op *o, struct inode *dir, struct store_dir *d, const char *name, struct op_entry *ret);
int op_entry_enter(const struct op *o, struct inode *dir, const char *name, const struct stat *st, struct op_entry *ret);
void op_entry_undo(const struct op *o, struct op_entry *e);	/* takes the lookup back */
void op_entry_done(const struct op *o, struct op_entry *e);	/* the reference only */
/* Answers and ends *e.  dir_changes: of the directory, from before it was looked at. */
void op_reply_entry(const struct op *o, struct op_entry *e, struct inode *dir, const char *name, uint32_t dir_changes);
/* Whatever leaves for the kernel and may be cached there is noted before it is compared with the changes: what
 * has not been noted is not told of later ones. */
void op_shown_entry(const struct op *o, const struct op_entry *e, const struct inode *dir, const char *name);
void op_shown(const struct op *o, const struct inode *i);	/* attributes, or a list of it */
/* The answer may wait for the disk, and notifications overtake it: nothing in it may be cached. */
bool op_waits(const struct op *o);
void op_reply_attr(const struct op *o, struct inode *i, uint32_t changes, const struct stat *st);

/* ops_shared.c: owners, modes and ACLs */
/* The mode of what is made in d: all bits and without the umask where there are real owners. */
mode_t op_new_mode(const struct op *o, struct store_dir *d, mode_t mode);
/* What was just made gets its owner (f NULL: d/name), and *st with it; on failure it is gone again. */
int op_new_owner(const struct op *o, struct inode *dir, struct store_dir *d, const char *name, struct file *f,
	struct stat *st);
int op_new_unnamed_owner(const struct op *o, struct store_dir *d, struct file *f, struct stat *st); /* O_TMPFILE in d */
int op_set_owner(const struct op *o, struct inode *i, const struct stat *attr, int to_set);
/* After a change of mode, owner or content: what the backing says now; set-group-id of directories is kept. */
void op_mode_changed(const struct op *o, struct inode *i, mode_t wanted);
void op_set_ids_dropped(const struct op *o, struct inode *i); /* after a write */
bool op_is_acl(const char *attr);
int op_acl_get(const struct op *o, struct inode *i, const char *attr, void *buf, size_t cap);
int op_acl_set(const struct op *o, struct inode *i, const char *attr, const void *val, size_t n, int flags);
/* A handle used by a member who did not open it is recorded as an open of his.  Without the namespace lock. */
int op_passed_on(const struct op *o, struct handle *h);
/* The permission alone, for what has a record of its own.  -EACCES. */
int op_may_passed_on(const struct op *o, const struct handle *h);

/* The outcome of an operation on the way out: damage is recorded and becomes -EIO. */
int op_outcome(const struct op *o, struct inode *i, int r);
void op_reply(const struct op *o, int r);	/* 0 or -errno */

/* One record, r its outcome (0 or negative).  Returns r, or -ENOSPC when it was 0 and there is no room. */
int op_record(const struct op *o, struct record_access *a, enum record_op what, int r);
int op_record_name(const struct op *o, enum record_op what, struct inode *dir, const char *name, int r);
int op_record_inode(const struct op *o, enum record_op what, struct inode *i, int r);

/* ops_dir.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name);
void op_readlink(fuse_req_t req, fuse_ino_t node);
void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi);

/* ops_name.c */
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to, const char *new_name, unsigned flags);

/* ops_file.c */
void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off, struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi);

/* ops_ahead.c.  Asked before the open: whether its content may go along.  Then, without the namespace lock and before the
 * answer: it does. */
bool op_may_go_ahead(const struct op *o, const struct inode *i, const struct fuse_file_info *fi);
void op_go_ahead(const struct op *o, struct handle *h, const struct fuse_file_info *fi);

/* ops_lock.c */
void op_getlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock);
void op_setlk(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, struct flock *lock, int sleep);
void op_flock(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi, int what);

/* ops_attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int to_set, struct fuse_file_info *fi);
void op_access(fuse_req_t req, fuse_ino_t node, int mask);
void op_statfs(fuse_req_t req, fuse_ino_t node);
void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value, size_t size, int flags);
void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name);

#endif
