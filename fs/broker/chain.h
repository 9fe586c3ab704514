/* The hash chain over the ledger's rows.  Every transaction ends with one batch: the rows that it added to each
 * covered table, hashed in the order of their ids together with the hash of the batch before.  doc/format-ledger.md
 * describes the bytes, so that a stranger can check a ledger without this code.
 *
 * Needs SQLite and libsodium only: the daemon, and whoever verifies a copy, use the same functions. */
#ifndef COFFER_BROKER_CHAIN_H
#define COFFER_BROKER_CHAIN_H

#include <stdint.h>
#include <sqlite3.h>

#include "common/scope.h"
#include "fs/broker/blocks.h"

#define LEDGER_VERSION 4 /* of the tables: ledger_schema.c */

#define CHAIN_HASH_BYTES 32
#define CHAIN_HASH_HEX (2 * CHAIN_HASH_BYTES + 1)
#define CHAIN_SIGNATURE_BYTES 64
#define CHAIN_KEY_BYTES 32

enum chain_table { /* numbered once: part of the format */
	CHAIN_JOURNAL,
	CHAIN_SESSION,
	CHAIN_PATH,
	CHAIN_PROCESS,
	CHAIN_RECORD,
	CHAIN_ACT,
	CHAIN_TABLES,
};

struct chain_hash {
	uint8_t b[CHAIN_HASH_BYTES];
};

struct chain_batch {
	int64_t batch;		  /* 1, 2, ... */
	int64_t time;		  /* seconds since 1970 */
	int64_t to[CHAIN_TABLES]; /* last row id of each table that it, or one before it, covers */
	struct chain_hash hash;
};

extern const char *const chain_table_names[CHAIN_TABLES];

/* What stands before batch 1: bound to this ledger by its random id. */
int chain_genesis(sqlite3 *db, struct chain_batch *ret);
/* What stands before the first batch that is in this file: the last one that was archived, or that of chain_genesis. */
int chain_base(sqlite3 *db, struct chain_batch *ret);

/* What reads the rows of one batch after the other.  Records come from `blocks`, which stays the caller's. */
struct chain_reader;
int chain_reader_new(sqlite3 *db, struct blocks *blocks, struct chain_reader **ret);
void chain_reader_free(struct chain_reader *c);
DEFINE_SCOPED(struct chain_reader *, chain_reader_free)

/* The hash of `b` (whose own hash field is not read), from the rows as they are now, after `prev`.
 * -EUCLEAN: the rows that it should cover are not all there. */
int chain_batch_hash(struct chain_reader *c, const struct chain_batch *prev, const struct chain_batch *b,
	struct chain_hash *ret);

/* Acts about single uses, in SQL: who was let in, or not, and who searched.  They go with the months that they belong to.  Part of
 * the format. */
#define CHAIN_MOVED_ACTS \
	"('mount','mount-failed','enter','refused','session-begin','session-end','attach-refused','log-search')"

/* The hash of the rows up to `base` that stay in a ledger: all of journal and session, of act all (acts_moved: but CHAIN_MOVED_ACTS), and of path and process those
 * that tables kept_path and kept_process name. */
int chain_kept_hash(sqlite3 *db, const struct chain_batch *base, bool acts_moved, struct chain_hash *ret);

/* The row of table `chain` with the highest number; that of chain_base when there is none. */
int chain_last(sqlite3 *db, struct chain_batch *ret);
/* Reads the current row of a statement that selects CHAIN_COLUMNS.  -EUCLEAN: not such a row. */
#define CHAIN_COLUMNS "id,time,journal_to,session_to,path_to,process_to,record_to,act_to,hash"
int chain_from_row(sqlite3_stmt *st, struct chain_batch *ret);

/* What coffer-keyd signs for a head: context, zero byte and text (doc/format-keys.md, "Signatures"):
 * "coffer-head\0coffer-ledger-head-2\n<batch>\n<hash in hex>\n<time in seconds>\n".  Of version 1 (heads of before) the time is not
 * in it: whatever stands beside it, nobody vouches for. */
#define CHAIN_MESSAGE_MAX 160
#define CHAIN_HEAD_VERSION 2
int chain_head_message(unsigned version, int64_t batch, const struct chain_hash *hash, int64_t time, char buf[CHAIN_MESSAGE_MAX]); /* length */

#endif
