/* An erasure that somebody asks for waits for nothing, neither notice nor time, so where roles are separate it takes two custodians: the same
 * command by both, the second one's with `confirm`. */
#ifndef COFFER_KEYD_ERASE_TWO_H
#define COFFER_KEYD_ERASE_TWO_H

#include "keyd/erase_impl.h"

#define ERASE_ASK_SECONDS (7 * 86400) /* then it is asked for anew */

/* True: go on; e->asked_by says who asked (NULL: he is alone).  Else whoever asked has his answer: it was recorded, or why not.
 * target: what is to go, as the facts and the book may name it; former: as it was called ERASE_ASK_SECONDS ago, since what is sealed
 * for the book is sealed by the month; NULL: the same. */
bool erase_takes_two(struct erase *e, const char *target, const char *former);

#endif
