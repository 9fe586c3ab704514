/* Old leaves of what was re-wrapped: they wait for a destruction, at most a day, and are then destroyed for themselves.
 * Sessions go on: nothing is under them any more, which a survey shows before. */
#ifndef COFFER_KEYD_LEAVES_H
#define COFFER_KEYD_LEAVES_H

#include "keyd/keyd.h"

void leaves_tick(struct keyd *k);

/* `dying` without what `used` names; the new count.  Both are reordered. */
size_t leaves_without(uint64_t *dying, size_t n, uint64_t *used, size_t used_n);

#endif
