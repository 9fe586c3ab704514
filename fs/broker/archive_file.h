/* The file of an archived month (doc/format-ledger.md, "Archives"): an SQLite database in zstd frames, behind them an index
 * with the hash of each frame, then a statement and the signature of coffer-keyd over it.  The statement names the hash of
 * the index; so whatever is read of the file is what was signed, and `zstd -d` makes the database of it for anybody.
 *
 * Knows nothing of what is in the database, nor whose signature is good. */
#ifndef COFFER_BROKER_ARCHIVE_FILE_H
#define COFFER_BROKER_ARCHIVE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sqlite3.h>

#include "common/scope.h"

#define ARCHIVE_HASH_BYTES 32
#define ARCHIVE_SIGNATURE_BYTES 64
#define ARCHIVE_STATEMENT_MAX 8192u
#define ARCHIVE_SUFFIX ".coffer-log.zst"

struct archive_index {
	uint8_t hash[ARCHIVE_HASH_BYTES]; /* of the index */
	int64_t bytes;			  /* of the database */
	int64_t at, end;		  /* where it is in the file */
};

/* Frames and index of the database `from_fd`, at the end of `to_fd`, which is empty.  -ECANCELED: *stop was set (or NULL). */
int archive_file_write(int from_fd, int to_fd, const atomic_bool *stop, struct archive_index *ret);
/* Statement and signature behind that; all of it is on disk when this returns 0. */
int archive_file_sign(int fd, const struct archive_index *index, const char *statement,
	const uint8_t signature[ARCHIVE_SIGNATURE_BYTES]);

struct archive_file;

/* -ENOENT; -EUCLEAN: no archive, or its statement or index is damaged, or it was cut.
 * The index is as the statement says; the frames are checked as they are read. */
int archive_file_open(const char *path, struct archive_file **ret);
void archive_file_close(struct archive_file *f);
DEFINE_SCOPED(struct archive_file *, archive_file_close)

const char *archive_file_statement(const struct archive_file *f);
const uint8_t *archive_file_signature(const struct archive_file *f);
int64_t archive_file_bytes(const struct archive_file *f); /* of the database */
/* Of the database.  -EUCLEAN: the frame was changed.  -ERANGE: beyond the end. */
int archive_file_read(struct archive_file *f, int64_t offset, void *to, size_t n);
/* All frames, each against its hash. */
int archive_file_check(struct archive_file *f, const atomic_bool *stop);

/* The database, read-only, through SQLite.  A frame that was changed: SQLITE_CORRUPT, which is -EUCLEAN. */
int archive_db_open(const char *path, sqlite3 **ret);

#endif
