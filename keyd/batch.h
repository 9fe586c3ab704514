/* Destructions that share one rotation of the root key: each says what it cuts, keeps its intent, looks a last time whether
 * it may, and learns what came of it.  In order: all intents; the record, and its signed head; keyd_shred(). */
#ifndef COFFER_KEYD_BATCH_H
#define COFFER_KEYD_BATCH_H

#include "keyd/keyd.h"

struct batch_ops {
	int (*intend)(void *arg);	/* the fact, in its own transaction.  Negative: it is left out, and `failed` */
	int (*confirm)(void *arg);	/* the last moment, then the doors.  Negative: nothing of all is destroyed */
	void (*destroyed)(void *arg);
	/* Before its intent (`intended` false) or after it.  Of PENDING and UNKNOWN it is not known yet. */
	void (*failed)(void *arg, bool intended, enum shred_outcome outcome, int error, const char *text);
};

struct batch_item {
	const struct batch_ops *ops;
	void *arg;
	const struct keyring_cut *cuts;	/* the item's */
	size_t cuts_n;
};

/* Each item hears exactly one of `destroyed` and `failed` before this returns.  0: what was intended is destroyed. */
int batch_run(struct keyd *k, const struct batch_item *items, size_t n);

#endif
