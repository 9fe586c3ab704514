/* `coffer restore`: one file or tree out of a copy of a client's store into the store itself, by a worker of its own with
 * both folders; asked for piece by piece by the tool.  One at a time.  Nobody else is in that client's store meanwhile.
 * keyd and tool see no content, and names only if the caller may see them. */
#ifndef COFFER_KEYD_RESTORE_H
#define COFFER_KEYD_RESTORE_H

#include "common/varlink.h"
#include "keyd/keyd.h"

int keyd_restore(struct varlink_call *call, json_t *params, void *userdata);
int keyd_restore_next(struct varlink_call *call, json_t *params, void *userdata);

bool restore_uses(const struct keyd *k, const struct worker *w);
bool restore_excludes(const struct keyd *k, const char *client);	/* no session, check or survey of it may begin */
void restore_worker_gone(struct keyd *k, const struct worker *w);
void restore_tick(struct keyd *k);	/* ends one that nobody asks about any more */

#endif
