/* The records in the database: table `block`, one row for the records from its id on.  Record n belongs to group
 * (n - 1) / 4096; a whole group is one block, the last group is a few blocks that grow together as records come in.
 * Lives on one thread, with one connection, and for as long as that. */
#ifndef COFFER_BROKER_BLOCKS_H
#define COFFER_BROKER_BLOCKS_H

#include <sqlite3.h>

#include "common/scope.h"
#include "fs/broker/pack.h"

struct blocks;

int blocks_new(sqlite3 *db, struct blocks **ret);
void blocks_free(struct blocks *b);
DEFINE_SCOPED(struct blocks *, blocks_free)

/* Record `id` and the *ret_n - 1 that follow it in its block.  Good until the next call.  -ENOENT: there is none;
 * -EUCLEAN: its block is damaged. */
int blocks_get(struct blocks *b, int64_t id, const struct pack_record **ret, size_t *ret_n);

/* Records up to this one are not in this database (they were archived): -ENOENT, and a group begins behind it. */
void blocks_set_floor(struct blocks *b, int64_t floor);
/* Within a transaction: the block over the floor loses its records up to there. */
int blocks_split(struct blocks *b);
/* Within a transaction.  `first` is the id behind the last record that is there. */
int blocks_append(struct blocks *b, int64_t first, const struct pack_record *records, size_t n);
/* What was read may have been rolled back. */
void blocks_forget(struct blocks *b);

static inline int64_t block_group(int64_t id)
{
	return (id - 1) / PACK_RECORDS_MAX;
}

#endif
