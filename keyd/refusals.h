/* What anybody may ask for and is refused, in the book, bounded: anybody on the host can ask without end, and a full disk closes every share.  Of each user
 * so many a minute are recorded one by one; that there are more is recorded at once, and how many when the minute is over. */
#ifndef COFFER_KEYD_REFUSALS_H
#define COFFER_KEYD_REFUSALS_H

#include <stdbool.h>

#include "keyd/facts.h"

#define REFUSALS_A_MINUTE 30u

struct keyd;

/* Whether this one is recorded by itself; else it is counted here. */
bool refusal_is_recorded(struct keyd *k, struct actor by);
/* Once a second: what was counted in a minute that is over is recorded. */
void refusals_tick(struct keyd *k);
/* The same for all of it, at the end. */
void refusals_flush(struct keyd *k);

#endif
