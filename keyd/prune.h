/* Which nodes of a client's key tree hold nothing that was ever given out, of days that are over: they go with the next
 * destruction that writes the tree anew (keytree_prune).  doc/DESIGN.md section 4 says why that is safe. */
#ifndef COFFER_KEYD_PRUNE_H
#define COFFER_KEYD_PRUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/facts_loads.h"
#include "keyd/keyring.h"

struct keyd;

/* A day is over when two more have begun: no clock that is a little wrong or in another zone makes a file on it. */
#define PRUNE_DAYS 2

struct prune_book {
	const struct fact_load *loads;	/* ascending by first */
	size_t n;
	uint16_t since, before;	/* only days since <= day < before are pruned */
	/* of the day that was asked about last: those of `loads` that were there; NULL before the first; free() them */
	const struct fact_load **day_loads;
	size_t day_n;
	uint16_t day;
};

/* For keytree_prune, over a tree in its order; `arg` is a prune_book.  True also when there is no memory to tell. */
bool prune_keep(uint64_t first, uint64_t last, void *arg);

/* For shred_job.trim; `arg` is the keyd.  Prunes a client's tree, if nobody else has it in memory; when in doubt, and when
 * the facts cannot be read, it stays as it is. */
int prune_tree(const struct client_id *client, struct keytree *tree, void *arg);

#endif
