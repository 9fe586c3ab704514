/* A small file system in memory that stands below the store library: the linker (--wrap, see meson.build) sends the
 * store's system calls here when they concern a descriptor of ours.  It keeps a log of everything that changes the
 * disk or waits for it, which crash.c turns into what a power cut may leave.  It can also let the n-th call fail.
 * One thread; one file system at a time is "in use". */
#ifndef COFFER_POWERCUT_MEMFS_H
#define COFFER_POWERCUT_MEMFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define BLOCK_BYTES 4096
#define MEMFS_FD_BASE 1000000
#define MEMFS_ROOT 1

struct block {		/* never changes once it is in a file; NULL stands for zeros */
	unsigned refs;
	uint8_t b[BLOCK_BYTES];
};
struct block *block_ref(struct block *b);
void block_unref(struct block *b);

struct dirent_mem {
	char *name;
	uint32_t ino;
	uint64_t cookie;
};

struct attr_mem {
	char *name;
	void *value;
	size_t n;
};

struct node {
	uint32_t ino;
	mode_t mode;
	unsigned nlink, opens;
	uid_t uid;
	gid_t gid;
	struct timespec atime, mtime, ctime;
	off_t size;
	struct block **blocks;
	size_t n_blocks;
	char *target;
	struct dirent_mem *entries;
	size_t n_entries;
	uint64_t next_cookie;
	struct attr_mem *attrs;
	size_t n_attrs;
};

enum op_kind {
	OP_CREATE,	/* any kind of inode, with its entry */
	OP_LINK,
	OP_UNLINK,	/* of anything */
	OP_RENAME,
	OP_EXCHANGE,
	OP_SETXATTR,
	OP_REMOVEXATTR,
	OP_CHMOD,
	OP_CHOWN,
	OP_SIZE,	/* ftruncate */
	OP_PUNCH,
	OP_LAST_META = OP_PUNCH,
	OP_WRITE,	/* data: `blocks` are what the pages hold afterwards */
	OP_SYNC,	/* fsync, fdatasync that succeeded */
	OP_LOST,	/* one that failed: what was dirty is clean now, and perhaps nowhere */
};

struct op {
	enum op_kind kind;
	bool data_only;		/* OP_SYNC */
	uint32_t ino, dir, to_dir;
	char *name, *to_name;	/* names, attribute, target */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	off_t from, to;		/* sizes before and after; a punched range */
	size_t first, n_blocks;
	struct block **blocks;
	bool allocates;		/* OP_WRITE: it changes the inode too (size, or new blocks) */
	void *value;
	size_t n;
};

struct memfs {
	struct node **nodes;	/* by inode number */
	size_t n_nodes;
	uint32_t next_ino;
	bool logging;
	struct op *log;
	size_t n_log, cap_log;
};

struct memfs *memfs_new(void);
void memfs_free(struct memfs *m);		/* the log too */
struct node *memfs_node(const struct memfs *m, uint32_t ino);	/* NULL */
/* Repeats one operation on metadata of another file system's log (blocks are set by memfs_set_block). */
void memfs_apply(struct memfs *m, const struct op *o);
void memfs_set_block(struct node *n, size_t index, struct block *b);	/* takes a reference */
void memfs_set_size(struct node *n, off_t size);	/* cuts blocks as ftruncate does */
void op_print(const struct op *o, char *buf, size_t cap);

/* The calls. */
void memfs_use(struct memfs *m);		/* what MEMFS descriptors refer to from now on; NULL */
int memfs_open_root(void);			/* a descriptor of the root */
unsigned memfs_open_fds(void);

/* Faults: call number `at` (from 0) of those that concern us fails with `error`, before it does anything; `all`: it and
 * every later one.  A call is asked only if it can fail so: `allocating` errors (ENOSPC, EDQUOT) meet only calls that need
 * room, EROFS those that change something, EMFILE those that open.  `part`: a pwrite does half before. */
struct fault {
	int error;
	unsigned at;
	bool all, part;
};
void memfs_fault(const struct fault *f);	/* NULL: none; the count begins anew */
unsigned memfs_fault_calls(void);		/* how many could have failed so far */
unsigned memfs_fault_hits(void);		/* how many did */
const char *memfs_fault_call(void);		/* which one did last */

#endif
