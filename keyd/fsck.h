/* `coffer fsck`: a check of one client's store, run by its worker, asked for piece by piece by the tool.  One at a
 * time.  Findings, repairs and what was accepted go into the book before the tool hears of them. */
#ifndef COFFER_KEYD_FSCK_H
#define COFFER_KEYD_FSCK_H

#include "common/varlink.h"
#include "keyd/keyd.h"

int keyd_fsck(struct varlink_call *call, json_t *params, void *userdata);
int keyd_fsck_next(struct varlink_call *call, json_t *params, void *userdata);
int keyd_fsck_stop(struct varlink_call *call, json_t *params, void *userdata);

bool fsck_uses(const struct keyd *k, const struct worker *w);
/* Names are being changed in this client's store: no session may begin. */
bool fsck_excludes_sessions(const struct keyd *k, const char *client);
void fsck_worker_gone(struct keyd *k, const struct worker *w);
void fsck_tick(struct keyd *k);		/* ends one that nobody asks about any more */
void fsck_end(struct keyd *k, const char *outcome);	/* if there is one; NULL: it is complete */

#endif
