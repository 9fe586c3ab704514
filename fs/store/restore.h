/* Brings back what stands in a copy of a client's store into the store itself, as new files at their old paths: places,
 * names and keys are those of now, content, attributes, owners, times and the day and class that retention counts from are
 * those of then.  Nothing that is there is overwritten: what finds its name taken stands beside it.  What was shredded does
 * not open, and is told.  The caller lets nobody else into the store meanwhile.  Both stores have the tree of now. */
#ifndef COFFER_STORE_RESTORE_H
#define COFFER_STORE_RESTORE_H

#include <stdint.h>

#include "fs/store/store.h"

struct restore_options {
	const char *path;	/* in the share of then; "": all of it */
	const char *to;		/* in the share of now, and not there yet; NULL: the same path */
	const char *beside;	/* goes behind a name that is taken */
	/* What could not be brought back: error -ENOKEY: its key is destroyed; -EBADMSG: damage, `word` says which.
	 * path NULL: its name does not open. */
	void (*lost)(const char *path, int error, const char *word, void *arg);
	void *arg;
};

struct restore_counts {
	uint64_t files, directories, bytes, lost;
};

struct restore;

/* -ENOENT: no such path in the copy, or no parent of `to`; -EEXIST: `to` is there; -ENOKEY, -EBADMSG: as with lost.
 * The texts stay the caller's, and are needed until restore_free. */
int restore_new(struct store *from, struct store *to, const struct restore_options *o, struct restore **ret);
/* Works for about `ms`.  1: there is more; 0: done; negative: the store takes nothing any more (-ENOSPC, ...). */
int restore_step(struct restore *r, unsigned ms);
void restore_counts(const struct restore *r, struct restore_counts *ret);
/* Where it stands now, in the share; "" while nothing does. */
const char *restore_target(const struct restore *r);
void restore_free(struct restore *r);

#endif
