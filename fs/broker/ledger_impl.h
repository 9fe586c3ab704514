/* What the parts of the ledger share: ledger*.c. */
#ifndef COFFER_BROKER_LEDGER_IMPL_H
#define COFFER_BROKER_LEDGER_IMPL_H

#include "common/sql.h"
#include "fs/broker/blocks.h"
#include "fs/broker/chain.h"
#include "fs/broker/ledger.h"

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
	struct chain_batch last;  /* the newest batch */
	int64_t to[CHAIN_TABLES]; /* last ids given out, within the batch in the making */
	bool in_batch;
	struct blocks *blocks;
	struct chain_reader *chain;
	struct pack_record *pending; /* records of the batch in the making: they get their ids and go in at its end */
	size_t pending_n, pending_cap;
	char versions_of[CLIENT_ID_HEX]; /* ledger_versions.c: whose table there is */
	struct accesses *accesses;	 /* ledger_accesses.c: what is being counted; or NULL */
};

/* Runs an insert whose first parameter is the next id of `t`. */
int ledger_add_row(struct ledger *l, enum chain_table t, sqlite3_stmt *st);
/* The single number that a query answers.  -ENOENT: none. */
int ledger_lookup(sqlite3_stmt *st, int64_t *ret);
/* A record, to go in at the end of the batch. */
int ledger_add_pending(struct ledger *l, const struct pack_record *rec);

/* ---- ledger_accesses.c ---- */
void accesses_free(struct accesses *a);

/* ---- ledger_schema.c ---- */
int ledger_migrate(sqlite3 *db);

#endif
