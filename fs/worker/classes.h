/* Which record classes a session, or a member of a shared one, may open, and which it must not leave in the page cache:
 * as keyd decided.  A set is kept until the worker ends, so that a request may use it without a lock. */
#ifndef COFFER_WORKER_CLASSES_H
#define COFFER_WORKER_CLASSES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct class_set;
struct class_sets;	/* of a worker */

/* `classes`: list of numbers, or JSON null: all; `uncached`: list.  The main thread's.  -EINVAL, -ENOMEM. */
int class_set_get(struct class_sets **sets, const json_t *classes, const json_t *uncached, const struct class_set **ret);
void class_sets_free(struct class_sets *sets);	/* NULL is fine */

/* c NULL: nobody said; nothing opens (false). */
bool class_set_opens(const struct class_set *c, uint16_t class);
const struct class_set *class_set_all(void);	/* opens everything */
bool class_set_opens_all(const struct class_set *c);
bool class_set_caches(const struct class_set *c, uint16_t class);

#endif
