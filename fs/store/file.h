/* One open regular file: its header, its key, its sectors.  One object per inode, shared by all handles and
 * sessions; internally locked (reads in parallel, writes exclusive), so callers need no lock.
 * Sizes and offsets are of the plaintext. */
#ifndef COFFER_FILE_H
#define COFFER_FILE_H

#include <sys/types.h>

#include "fs/store/store.h"

struct file;

/* Opens d/name read-write if the backing allows, else read-only (file_writable tells).  Verifies header, place
 * and the last sector; -EBADMSG: damage; -ENOKEY: its key is destroyed.  Opened twice, by whatever name, it is the
 * same object: each opening is closed once.  After a crash the size can differ from what store_lookup said. */
int file_open(struct store_dir *d, const char *name, struct file **ret);
/* O_CREAT|O_EXCL.  Costs one openat: no header until there is content.  The umask of the process must be 0. */
int file_create(struct store_dir *d, const char *name, mode_t mode, struct file **ret, struct stat *ret_st);
/* O_TMPFILE: stands hidden in `root`, is of the class that is made in d. */
int file_create_unnamed(struct store_dir *root, struct store_dir *d, mode_t mode, struct file **ret,
	struct stat *ret_st);
/* Gives f, made with `mode` and without an entry in d, what d's default ACL says (acl(5), OBJECT CREATION AND DEFAULT
 * ACLs).  Without one: nothing.  0, or a negative errno. */
int file_inherit_acl(struct file *f, struct store_dir *d, mode_t mode);
/* Its ACL, as store_acl_get and store_acl_set, also when it has no name any more. */
int file_acl_get(struct file *f, const char *attr, void *buf, size_t cap);
int file_acl_set(struct file *f, const char *attr, const void *val, size_t n, int flags);
int file_link_unnamed(struct file *f, struct store_dir *to, const char *new_name);
void file_close(struct file *f);	/* flushes the size hint; NULL is fine */

bool file_writable(const struct file *f);
uint16_t file_class(struct file *f);	/* its record class */
void file_id(const struct file *f, struct file_id *ret);	/* zero while it has no header */

/* The size, and with it what was written last through this object (version.h), for the record of it: "" when nothing
 * was.  Room for VERSION_TEXT. */
uint64_t file_version(struct file *f, char *text);

int file_stat(struct file *f, struct stat *ret);
uint64_t file_size(struct file *f);
/* Bytes read into buf (0 at the end), or -errno.  buf is written only within [0, n). */
ssize_t file_read(struct file *f, void *buf, size_t n, uint64_t off);
ssize_t file_write(struct file *f, const void *buf, size_t n, uint64_t off);
/* At the true end, atomically; *ret_off is where it went. */
ssize_t file_append(struct file *f, const void *buf, size_t n, uint64_t *ret_off);
int file_truncate(struct file *f, uint64_t size);
int file_allocate(struct file *f, int mode, uint64_t off, uint64_t n);	/* fallocate(2) modes 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE */
int64_t file_seek(struct file *f, uint64_t off, int whence);		/* SEEK_DATA, SEEK_HOLE */
int file_flush(struct file *f);			/* size hint; no disk wait */
int file_sync(struct file *f, bool data_only);	/* data, then (at most once a second, and when it is closed) the size floor; once it has failed, -EIO for that file while the store is open */
int file_chmod(struct file *f, mode_t mode);
int file_chown(struct file *f, uid_t uid, gid_t gid);
int file_utimens(struct file *f, const struct timespec ts[2]);
int file_getxattr(struct file *f, const char *attr, void *buf, size_t cap);
int file_setxattr(struct file *f, const char *attr, const void *val, size_t n, int flags);
int file_listxattr(struct file *f, char *buf, size_t cap);
int file_removexattr(struct file *f, const char *attr);
/* Its own subjects, as store_dir_subjects and store_dir_subject_set. */
int file_subjects(struct file *f, struct subjects **ret);
int file_subject_set(struct file *f, const char *id, size_t n, bool remove);

#endif
