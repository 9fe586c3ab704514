/* Looks at everything a client's store holds, and says what is not as it was written.  Works beside open sessions:
 * it looks without keeping anybody waiting, and looks again, with everybody kept out for a moment, before it calls
 * something damage.  Changes nothing unless it is told to, and never removes what somebody may want.
 *
 * Damage, by word:
 *	header		the header does not open: no key, no content
 *	destroyed	the header's leaf of the key tree is destroyed
 *	place		it stands where it was not put, or its place is missing
 *	sector		sectors do not open
 *	size		shorter than at its last fsync
 *	rolled-back	older than the newest version in the record
 *	cut		of another length than this version had in the record
 *	links		it has names that it was not given
 *	xattr		an attribute does not open
 *	link		a symlink's target does not open
 *	directory	the id does not fit: nothing below it can be looked at
 *	name		an entry that is no name
 *	foreign		of a kind that Coffer does not make
 *	unreadable	the file system below gives an error
 * What crashes leave, and is legal:
 *	size-hint	the size below does not tell the length
 *	id		a directory's id is missing, or still where a rename put it
 *	side		belongs to no name
 *	unnamed		a file that had no name
 *	emptied		no content, though it once had some: a power cut, or somebody cut it to nothing */
#ifndef COFFER_CHECK_H
#define COFFER_CHECK_H

#include <pthread.h>

#include "fs/store/store.h"
#include "fs/store/version.h"

struct check_finding {
	const char *what;	/* as above */
	bool damage;
	const char *path;	/* below the share, as far as names open; "" is the share itself */
	const char *store;	/* below the store's folder */
	struct file_id file;	/* or zero */
	const char *done;	/* "", "repaired", "isolated", "accepted", "busy" (in use, or replaced meanwhile: not now), "failed" */
	char detail[160];
	struct version version;	/* of a file whose sectors were looked at */
	uint64_t size;
};

struct check_counts {
	uint64_t directories, files, bytes;	/* of ciphertext */
	uint64_t total;				/* bytes there are; 0: not known */
	uint64_t damaged, leftovers;		/* still there */
	uint64_t destroyed;			/* by an erasure, and about to be swept: no damage */
	uint64_t repaired, isolated, accepted;
};

/* What the record says of a file; several of one file: the latest counts. */
struct check_recorded {
	struct file_id file;
	struct version version;	/* {0}: the content changed without one */
	int64_t size;		/* -1: not told */
	int64_t time;		/* ns since 1970 */
};

struct check_options {
	bool repair;		/* mend what crashes leave */
	bool isolate;		/* give what is damaged another name: NAME.damaged-TODAY; no session may be open */
	bool accept;		/* take what stands at `only` for right: places, directory ids, versions; no session either */
	const char *only;	/* one file or directory, by its path or its path in the store; NULL: everything */
	bool sweep_due;		/* what is destroyed is no damage: it is removed soon.  Else there should be none: put back, or altered */
	bool by_name;		/* `only` may be a path in the share too */
	const char *after;	/* go on behind this path in the store; NULL */
	const char *today;	/* "2026-11-23" */
	struct check_recorded *recorded;	/* is sorted by the call */
	size_t recorded_n;
	int64_t recorded_at;	/* ns: what changed later is not compared */
	pthread_rwlock_t *names;	/* the namespace lock */
	void (*found)(const struct check_finding *f, void *arg);
	/* After each step, without locks.  `finished`: path in the store to go on behind, or NULL.  False: stop. */
	bool (*step)(const struct check_counts *c, const char *finished, void *arg);
	void *arg;
};

/* Adds to *ret.  0: all was looked at; -ECANCELED; -ENOENT: no such `only`. */
int store_check(struct store *s, const struct check_options *opt, struct check_counts *ret);

#endif
