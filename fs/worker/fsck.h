/* The check of a client's store, in a thread of its own; what it finds waits here until coffer-keyd asks.  A check whose
 * findings nobody takes waits too.  Lives on the main thread, but for the check itself. */
#ifndef COFFER_FSCK_H
#define COFFER_FSCK_H

#include <jansson.h>

struct fsck;
struct worker;

#define FSCK_ROW_BYTES 48	/* of the table: file id 16, moment 8, counter 8, size 8, time 8; little-endian */

/* `params` as of org.coffer.worker.Fsck in doc/PROTOCOL.md; table_fd (may be -1) stays the caller's.  -EINVAL. */
int fsck_start(struct worker *w, json_t *params, int table_fd, struct fsck **ret);
/* {state, error?, findings, counts, finished?}: what there is now. */
json_t *fsck_next(struct fsck *f);
void fsck_stop(struct fsck *f);	/* waits for its end; NULL is fine */

#endif
