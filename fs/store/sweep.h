/* Removes from a client's store what no key opens any more.  Never what opens: a file, symlink or directory whose leaf is
 * held stays, and so does what cannot be told (a header that is none), unless nothing at all is held.  May be broken off
 * anywhere and begun again. */
#ifndef COFFER_SWEEP_H
#define COFFER_SWEEP_H

#include <sys/stat.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/keytree.h"

struct sweep_counts {
	uint64_t looked;		/* entries */
	uint64_t files, links, directories, others, bytes;	/* removed; bytes of files that had no other name */
	uint64_t kept;			/* in a dead directory: what still opens, or cannot be told */
	uint64_t failed;
};

struct sweep_options {
	struct keytree *tree;		/* NULL: the client is destroyed, nothing is held */
	pthread_rwlock_t *names;	/* the namespace lock, or NULL: no session can be */
	bool (*step)(const struct sweep_counts *c, void *arg);	/* false: stop */
	/* The last name of it is gone, and its number may be given to anything.  With the namespace lock.  May be NULL. */
	void (*gone)(const struct stat *was, void *arg);
	void *arg;
};

/* 0, -ECANCELED, -ENOMEM, or why the root could not be read. */
int store_sweep(int root_fd, const struct sweep_options *opt, struct sweep_counts *ret);

#endif
