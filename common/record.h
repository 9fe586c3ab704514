/* What one row of the book says.  The worker writes records into its journal, coffer-fsd moves them
 * into the ledger; both use this table, and doc/FORMAT.md shows it. */
#ifndef COFFER_RECORD_H
#define COFFER_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"

#define RECORD_OPS(X) /* number (never reused), name as `coffer log` prints it */                          \
	X(1, OPEN, "open")                                                                                 \
	X(2, CLOSE, "close")                                                                               \
	X(3, OPENDIR, "opendir")                                                                           \
	X(4, CREATE, "create")                                                                             \
	X(5, MKDIR, "mkdir")                                                                               \
	X(6, MKNOD, "mknod")                                                                               \
	X(7, SYMLINK, "symlink")                                                                           \
	X(8, LINK, "link")                                                                                 \
	X(9, UNLINK, "unlink")                                                                             \
	X(10, RMDIR, "rmdir")                                                                              \
	X(11, RENAME, "rename")                                                                            \
	X(12, READLINK, "readlink")                                                                        \
	X(13, TRUNCATE, "truncate")                                                                        \
	X(14, CHMOD, "chmod")                                                                              \
	X(15, CHOWN, "chown")                                                                              \
	X(16, GETXATTR, "getxattr")                                                                        \
	X(17, SETXATTR, "setxattr")                                                                        \
	X(18, REMOVEXATTR, "removexattr")                                                                  \
	X(19, FALLOCATE, "fallocate")                                                                      \
	X(20, REFUSED, "refused") /* a request nobody sane sends: forged id, handle or uid; detail says */ \
	X(21, DAMAGE, "damage")	 /* what is on disk is not what we wrote; outcome = errno returned */      \
	X(22, SESSION_END, "session-end")                                                                  \
	X(23, SUBJECT_LABEL, "subject-label")	 /* path2: the label, sealed as a path is */                       \
	X(24, SUBJECT_UNLABEL, "subject-unlabel")                                                            \
	X(25, SOURCE, "source") /* path2: where it came from, sealed as a path is */

enum record_op {
#define X(n, id, name) RECORD_##id = n,
	RECORD_OPS(X)
#undef X
};

const char *record_op_name(unsigned op);	/* "?" when unknown */

enum record_flags { /* of an open or create */
	RECORD_READ = 1 << 0,
	RECORD_WRITE = 1 << 1,
	RECORD_EXEC = 1 << 2,
	RECORD_TRUNC = 1 << 3,
	RECORD_APPEND = 1 << 4,
};

enum record_kind { RECORD_KIND_PATH = 1, RECORD_KIND_ACCESS = 2, RECORD_KIND_PROCESS = 3 };

/* A path, named once per worker and then by its number.  `sealed` is the path below the share's root
 * ("a/b.txt") under the client's audit key of `month`: deterministic, so that it can be looked up. */
struct record_path {
	uint32_t ref;		/* 1, 2, ... within the journal; 0 = none */
	uint16_t month;		/* day (ids.h) of the month's first */
	uint16_t sealed_len;
	const uint8_t *sealed;
};

/* A process that opens, named once and then by its number. */
struct record_process {
	uint32_t ref;
	uint32_t pid;		/* as the kernel reported it */
	uint32_t loginuid;	/* UINT32_MAX: none */
	char comm[16];
};

struct record_access {
	uint64_t session;
	uint64_t time_ns;	/* CLOCK_REALTIME */
	uint8_t op;		/* enum record_op */
	uint8_t flags;		/* enum record_flags */
	uint16_t outcome;	/* 0, or the errno the program got */
	uint32_t path;		/* record_path.ref; 0: the path is not known */
	uint32_t path2;		/* rename, link: the new path; subject-label, subject-unlabel: the label; source: the text */
	uint32_t process;	/* record_process.ref */
	struct file_id file;	/* zero when it has none */
	uint64_t size;		/* of the file then */
	uint64_t bytes_read;	/* close: bytes delivered by us (cached pages are read without us) */
	uint64_t bytes_written;
	char detail[32];	/* REFUSED, DAMAGE, SESSION_END: a fixed word; of what takes a name away, whose key went with it
				 * (store_gone_word; "d": a directory was renamed, "x": two names exchanged); NUL-padded */
};

struct record {
	uint8_t kind;		/* enum record_kind */
	union {
		struct record_path path;
		struct record_process process;
		struct record_access access;
	};
};

#define RECORD_PATH_MAX 4200	/* a sealed path: 4095 + tag, rounded up */
#define RECORD_BYTES_MAX (RECORD_PATH_MAX + 64)

/* Encode into buf; returns the bytes used, or -EMSGSIZE.  Decode checks everything: -EBADMSG.  A decoded
 * path's `sealed` points into buf. */
int record_encode(const struct record *r, uint8_t *buf, size_t cap);
int record_decode(const uint8_t *buf, size_t n, struct record *ret);

#endif
