/* The client's tree on disk: directories, names, links, extended attributes.  Everything that
 * touches the backing store goes through here and through file.h; nothing here knows FUSE, sessions
 * or records.  doc/FORMAT.md describes the bytes.
 *
 * Locking is the caller's: calls that change a name (create .. rename) of a directory must exclude each
 * other and every resolution through it (the worker's namespace lock); the rest may run in parallel.
 * All return 0 or a negative errno; -EBADMSG ("damage") means what is on disk is not what we wrote, and
 * store_damage_word() of the calling thread names it for the record. */
#ifndef COFFER_STORE_H
#define COFFER_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/ids.h"
#include "common/keytree.h"

struct store;
struct store_dir;	/* an open directory: descriptor, id, name keys.  Reference counted. */

#define STORE_NAME_MAX 255

struct store_options {
	uint8_t suite;		/* for new files: 1 AES-256-GCM, 2 XChaCha20-Poly1305; 0: by CPU */
	uint16_t class;		/* record class of what is made where no directory has a label */
	uint16_t today;		/* day of creation (ids.h); store_set_today() at midnight */
	uint64_t first_number, end_number;	/* of leaves that are given out, first <= n < end; both 0: from a random one */
	bool read_only;		/* a copy: opening it writes nothing, and it may lie where nothing can be written */
};

/* Takes root_fd (the client's folder, O_PATH or O_RDONLY) and keeps `tree` (the caller frees it after).  Gives
 * the root its id if it is empty.  -EROFS and -EACCES as the backing says; -EOPNOTSUPP: it keeps no user.* attributes.
 * On failure root_fd stays the caller's.  Files must be closed and directories let go before store_close. */
int store_open(int root_fd, struct keytree *tree, const struct store_options *opt, struct store **ret);
void store_close(struct store *s);
void store_set_today(struct store *s, uint16_t today);

/* Which numbers of leaves were given out, and on which days.  When `end` is reached nothing can be made (-EAGAIN) until
 * there are more. */
struct store_numbers {
	uint64_t first, next;	/* first <= n < next; equal: none */
	uint16_t from_day, to_day;	/* days on which they were given out, both included */
};
void store_numbers(struct store *s, bool begin_anew, struct store_numbers *ret);	/* anew: the next one tells what comes now */
void store_set_numbers_end(struct store *s, uint64_t end);
int store_statvfs(struct store *s, struct statvfs *ret);
const char *store_damage_word(void);	/* "header", "sector", "name", "directory", "place", "xattr", "link", "size" */

/* Directories.  Opening verifies the id against parent and name.  An id-less EMPTY directory gets a fresh one. */
int store_dir_root(struct store *s, struct store_dir **ret);
int store_dir_open(struct store_dir *parent, const char *name, struct store_dir **ret);
struct store_dir *store_dir_ref(struct store_dir *d);
void store_dir_unref(struct store_dir *d);	/* NULL is fine */
int store_dir_fd(const struct store_dir *d);	/* stays the directory's */
int store_dir_stat(struct store_dir *d, struct stat *ret);
int store_dir_sync(struct store_dir *d);

/* Record classes.  A directory may have a label; what is made in it is of that class, and in directories below it that
 * have none, as far as they are opened afterwards: open ones below must be let go when a label changes. */
#define STORE_CLASS_NONE 0u
uint16_t store_dir_class(const struct store_dir *d, bool *ret_labelled);
int store_dir_set_class(struct store_dir *d, uint16_t class);	/* STORE_CLASS_NONE: takes the label away; d's class is
								 * then `parent`'s when it is opened the next time */

/* Subjects: whom a file or directory is about (common/subject.h).  Sealed like extended attributes, but no call for those
 * shows or changes them.  A directory's count for all that is below it; open directories below must be let go when they
 * change.  A file keeps its own where it keeps its class; what is moved or linked out of a directory takes its labels along. */
struct subjects;
/* *own, *above: new sets, the caller's, NULL: none.  -EBADMSG. */
int store_dir_subjects(const struct store_dir *d, struct subjects **own, struct subjects **above);
bool store_dir_is_labelled(const struct store_dir *d);	/* with a subject, itself or above */
/* 1: changed; 0: it was so.  -EINVAL: no such text; -ENOSPC: too many; -EBADMSG; the namespace lock is held for writing. */
int store_dir_subject_set(struct store_dir *d, const char *id, size_t n, bool remove);

/* Documents on hold (header_line): who takes the name of one of them by saving becomes a state of it.  The namespace lock
 * is held for writing. */
int store_set_held(struct store *s, const uint64_t *lines, size_t n);

/* Reading.  `cookie`: 0 at first, then what fill was given; fill returns nonzero to stop (that entry is given
 * again next time).  Names that do not open are counted as damage and left out.  "." and ".." are the caller's. */
struct store_entry {
	const char *name;
	uint64_t cookie, ino;
	unsigned char d_type;
};
struct store_iter;	/* one open reading position: one per opendir handle */
int store_iter_new(struct store_dir *d, struct store_iter **ret);
void store_iter_free(struct store_iter *i);
int store_iter_read(struct store_iter *i, uint64_t cookie, int (*fill)(const struct store_entry *e, void *arg), void *arg,
	unsigned *ret_damaged);

/* Names.  `st` is translated: st_size of a file is the plaintext's, of a symlink its target's; st_blocks
 * counts the backing.  store_lookup opens nothing, unless the size hint is missing (after a crash). */
int store_lookup(struct store_dir *d, const char *name, struct stat *ret);
/* What is about to lose this name, for the calls that take it: a name is sealed once for all of them, and holds as long as
 * the namespace lock is held. */
struct store_victim {
	char entry[STORE_NAME_MAX + 1];
	struct stat st;	/* as of store_lookup */
	int fd;		/* of the file, or -1: the caller closes it, unless store_unlink_victim has taken it */
};
int store_victim_find(struct store_dir *d, const char *name, struct store_victim *ret);
int store_mkdir(struct store_dir *d, const char *name, mode_t mode, struct stat *ret);
int store_mknod(struct store_dir *d, const char *name, mode_t mode, dev_t dev, struct stat *ret);
int store_symlink(struct store_dir *d, const char *name, const char *target, struct stat *ret);
int store_readlink(struct store_dir *d, const char *name, char *buf, size_t cap);	/* NUL-terminated */
int store_unlink(struct store_dir *d, const char *name);
int store_unlink_victim(struct store_dir *d, struct store_victim *v);	/* no directory; takes v->fd, also on failure */
int store_rmdir(struct store_dir *d, const char *name);
int store_rmdir_victim(struct store_dir *d, const struct store_victim *v);
/* flags: 0, RENAME_NOREPLACE, RENAME_EXCHANGE.  Rewrites the places; a replaced file's class and origin day
 * pass to the file that takes its name. */
int store_rename(struct store_dir *d, const char *name, struct store_dir *to, const char *new_name, unsigned flags);
int store_link(struct store_dir *d, const char *name, struct store_dir *to, const char *new_name);
/* For the record of what is about to lose a name, so that an erasure finds its key later, when only backups have it: "k" and
 * the leaf in hex; "k-": no key goes with it; "k?": it cannot be told.  Not authenticated: who uses it looks whether something
 * that is there is under that leaf.  v->fd becomes a descriptor of the file that was read. */
#define STORE_GONE_WORD 20
void store_gone_word(struct store_dir *d, struct store_victim *v, char ret[STORE_GONE_WORD]);

/* Attributes of anything by name (files that are open: file.h). */
int store_chmod(struct store_dir *d, const char *name, mode_t mode);
int store_chown(struct store_dir *d, const char *name, uid_t uid, gid_t gid);	/* (uid_t)-1: leave */
int store_utimens(struct store_dir *d, const char *name, const struct timespec ts[2]);

/* Extended attributes: names and values encrypted, under the file's content key (directories: under the
 * directory's own).  Only "user." and "security." ; sizes as on ext4 (-ENOSPC, -E2BIG, -ERANGE, -ENODATA).
 * `name` NULL: of the directory d itself.  list: NUL-separated, returns the length needed. */
int store_getxattr(struct store_dir *d, const char *name, const char *attr, void *buf, size_t cap);	/* length or -errno */
int store_setxattr(struct store_dir *d, const char *name, const char *attr, const void *val, size_t n, int flags);
int store_listxattr(struct store_dir *d, const char *name, char *buf, size_t cap);
int store_removexattr(struct store_dir *d, const char *name, const char *attr);

/* POSIX ACLs (system.posix_acl_access, ..._default), native on the backing file system; `name` NULL: of d itself.
 * set: val NULL removes. */
int store_acl_get(struct store_dir *d, const char *name, const char *attr, void *buf, size_t cap);	/* length or -errno */
int store_acl_set(struct store_dir *d, const char *name, const char *attr, const void *val, size_t n, int flags);
int store_dir_set_gid_bit(struct store_dir *d);	/* whatever its group */

/* Paths in the ledger: deterministic sealing under the audit key of `month` (ids.h: day of the month's
 * first).  Returns the length (<= RECORD_PATH_MAX).  common/pathseal does the work (keyd opens them). */
int store_seal_path(struct store *s, uint16_t month, const char *path, size_t n, uint8_t *buf, size_t cap);

#endif
