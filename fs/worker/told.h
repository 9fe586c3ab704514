/* Which names a session's kernel was told of, present or absent: of the others it has nothing that could be wrong, so their
 * changes need not be told to it.  A Bloom filter (Bloom, CACM 1970): "no" is certain, "yes" may be a mistake, and after
 * some 100,000 names mostly is one; then everything is told, as it would be without it.  Nothing is ever taken out.
 *
 * Thread-safe, without locks: what was added before a change was counted is seen by who counted it. */
#ifndef COFFER_TOLD_H
#define COFFER_TOLD_H

#include <stdbool.h>
#include <stdint.h>

struct told;

int told_new(struct told **ret);	/* -ENOMEM */
void told_free(struct told *t);		/* NULL is fine */
void told_add(struct told *t, uint64_t dir, const char *name);
bool told_has(const struct told *t, uint64_t dir, const char *name);

#endif
