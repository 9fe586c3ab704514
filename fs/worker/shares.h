/* What one user may have open of what the worker's process can have open for all: never more than is left for the others. So
 * the first takes half at most, a second half of that half, and there is always something for the next.  Thread-safe. */
#ifndef COFFER_SHARES_H
#define COFFER_SHARES_H

#include <stdint.h>

struct shares;

/* `room`: for all users together. */
int shares_new(uint64_t room, struct shares **ret);
void shares_free(struct shares *s);

/* One more for `uid`; without shares nothing is counted.  -EMFILE: he has as many as are left; -ENOMEM. */
int shares_take(struct shares *s, uint32_t uid);
/* What shares_take gave. */
void shares_give_back(struct shares *s, uint32_t uid);

#endif
