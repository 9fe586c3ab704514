/* The destruction of a client as a whole: one item of a batch, from its intent to its certificate. */
#ifndef COFFER_KEYD_DESTRUCTION_H
#define COFFER_KEYD_DESTRUCTION_H

#include "keyd/batch.h"
#include "keyd/expiry.h"

struct destruction;

/* `a` says that it is due.  -ENOMEM. */
int destruction_new(struct keyd *k, const struct fact_client *c, const struct expiry_answer *a, int64_t now,
	struct destruction **ret);
void destruction_free(struct destruction *d);
struct batch_item destruction_item(struct destruction *d);	/* borrows d */

/* Intents without an end: those whose key is gone are destroyed, of the others nothing was touched. */
void destructions_settle(struct keyd *k);

#endif
