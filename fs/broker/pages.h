/* Where a search goes on.  The place carries a tag of who asked for what, so that only the pages of a search that was recorded
 * go on without a record of their own. */
#ifndef COFFER_BROKER_PAGES_H
#define COFFER_BROKER_PAGES_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#define PAGE_PLACE_MAX 64 /* what ledger_query() says, with the NUL */

/* "<place>.<tag>" for this user and these parameters of LogQuery (`after` and `limit` do not count).  malloc'd; NULL: no memory. */
char *page_seal(uid_t uid, const json_t *params, const char *place);
/* The place in `after`, whatever its tag; *ret_known: the tag is of this process, this user and these parameters.  False: there
 * is no room for it in place. */
bool page_open(uid_t uid, const json_t *params, const char *after, char place[PAGE_PLACE_MAX], bool *ret_known);

#endif
