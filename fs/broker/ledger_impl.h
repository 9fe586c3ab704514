/* What the parts of the ledger share: ledger*.c. */
#ifndef COFFER_BROKER_LEDGER_IMPL_H
#define COFFER_BROKER_LEDGER_IMPL_H

#include "common/sql.h"
#include "fs/broker/blocks.h"
#include "fs/broker/chain.h"
#include "fs/broker/ledger.h"
#include "fs/broker/parts.h"

enum statement {
	ADD_JOURNAL,
	ADD_PROGRESS,
	SET_PROGRESS,
	GET_PROGRESS,
	ADD_SESSION,
	FIND_SESSION,
	ADD_PATH,
	FIND_PATH,
	ADD_PROCESS,
	FIND_PROCESS,
	ADD_ACT,
	FIND_ACT,
	ADD_CHAIN,
	GET_CHAIN_HASH,
	ADD_HEAD,
	STATEMENTS,
};

struct ledger {
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
	char *path;
	struct chain_batch base;  /* the newest that is archived */
	struct chain_batch last;  /* the newest batch */
	int64_t to[CHAIN_TABLES]; /* last ids given out, within the batch in the making */
	bool in_batch;
	struct blocks *blocks;
	struct chain_reader *chain;
	struct pack_record *pending; /* records of the batch in the making: they get their ids and go in at its end */
	size_t pending_n, pending_cap;
	char versions_of[CLIENT_ID_HEX]; /* ledger_versions.c: whose table there is */
	struct parts parts;		 /* ledger_archive.c: the archives */
	size_t part_open;		 /* number + 1 of the one that is open; 0: none */
	sqlite3 *part_db;
	struct blocks *part_blocks;
	size_t act_open;		 /* as part_open, for acts: a search may be in two months */
	sqlite3 *act_db;
	bool cleaning;			 /* there may be rows that are in archives */
	struct accesses *accesses;	 /* ledger_accesses.c: what is being counted; or NULL */
};

/* Runs an insert whose first parameter is the next id of `t`. */
int ledger_add_row(struct ledger *l, enum chain_table t, sqlite3_stmt *st);
/* The single number that a query answers.  -ENOENT: none. */
int ledger_lookup(sqlite3_stmt *st, int64_t *ret);
/* A record, to go in at the end of the batch. */
int ledger_add_pending(struct ledger *l, const struct pack_record *rec);
/* Parameters 1 to 9 of a row of "chain" or "base".  The hash is not copied. */
void ledger_bind_batch(sqlite3_stmt *st, const struct chain_batch *b);

/* ---- ledger_archive.c ---- */
int ledger_parts_load(struct ledger *l);
void ledger_parts_tidy(struct ledger *l);
void ledger_parts_free(struct ledger *l);
int ledger_archive_unlink(struct ledger *l, const char *name);
void ledger_archive_stats(struct ledger *l, struct ledger_stats *s);
int ledger_archived_hash(struct ledger *l, int64_t batch, struct chain_hash *ret);

/* Where records are: good until the next call of any of these. */
struct ledger_records {
	sqlite3 *db;		/* with their paths, processes and postings; NULL: none is there (destroyed, or of another time) */
	struct blocks *blocks;
	int64_t last;		/* the last record that is there, or would be */
	bool whole;		/* its last segment has postings, too */
	size_t number;		/* of the archive, from 1; 0: the ledger */
};
/* Where acts behind `act` are, of those between since and until; up to *ret_last.  *ret_kept: of a month that is destroyed, those
 * that stayed.  NULL: none can fit.  Good until the next call. */
int ledger_acts_of(struct ledger *l, int64_t act, int64_t since, int64_t until, sqlite3 **ret, int64_t *ret_last, bool *ret_kept);
/* 0: an act of keyd is in an archive already.  -ENOENT */
int ledger_act_archived(struct ledger *l, const struct ledger_act *a);
/* The last act of which only what stays is in the ledger; 0: all are. */
int64_t ledger_acts_moved(const struct ledger *l);
/* since, until: nanoseconds. */
int ledger_source_of(struct ledger *l, int64_t record, int64_t since, int64_t until, struct ledger_records *ret);
/* *ret (the caller's): on the row month, sealed of a path.  -ENOENT */
int ledger_find_path(struct ledger *l, int64_t id, sqlite3_stmt **ret);

/* ---- ledger_accesses.c ---- */
void accesses_free(struct accesses *a);

/* ---- ledger_schema.c ---- */
int ledger_migrate(sqlite3 *db);

#endif
