/* Every decision and act, on its way into the book.  An entry is put in the same transaction as the fact it tells
 * of, and leaves only when coffer-fsd has it on disk; entries have numbers, so that one told twice counts once. */
#ifndef COFFER_KEYD_OUTBOX_H
#define COFFER_KEYD_OUTBOX_H

#include <jansson.h>
#include <stdint.h>

#include "keyd/facts.h"

struct keyd;

struct outbox_entry {
	const char *kind;		/* "grant", "mount", "refused", ... */
	const char *outcome;		/* NULL: it succeeded; else the short name of the error */
	struct actor by;
	const char *client, *purpose, *ticket;	/* or NULL */
	uint64_t session;		/* 0: none */
	json_t *detail;			/* stolen; or NULL */
};

int outbox_put(struct keyd *k, const struct outbox_entry *e);
/* Ends the caller's transaction, whose facts went with r: puts e into it and commits it, or rolls it back.  Its result.  The
 * caller delivers, after what must not wait for that. */
int outbox_commit_with(struct keyd *k, int r, const struct outbox_entry *e);
/* The same, and then delivers if fsd is there. */
int outbox_record_with(struct keyd *k, int r, const struct outbox_entry *e);
/* An act without a fact: a transaction of its own; delivers, too. */
int outbox_record(struct keyd *k, const struct outbox_entry *e);
/* An act of a person that is no other fact: a row of its own, with `text` (or NULL), beside the record; delivers, too. */
int outbox_act(struct keyd *k, const char *text, const struct outbox_entry *e);
/* Commits the transaction of the caller and then delivers if fsd is there; the commit's result. */
int outbox_commit(struct keyd *k);
/* 0: all that was put is in the book.  -ENOTCONN, -ETIME, -ECONNRESET, -EREMOTEIO: it waits here. */
int outbox_deliver(struct keyd *k);

#endif
