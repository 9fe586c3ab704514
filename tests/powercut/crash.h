/* What a power cut may leave of a log of operations: the model of ext4 (data=ordered, delayed allocation) and XFS that
 * doc/CRASH.md explains.  A state is described by two points of the log and a list of picks:
 *
 *	meta	operations on metadata before it are on disk, later ones are not (the journal: a prefix)
 *	time	when the power went: writes in place before it may be on disk, syncs before it have been obeyed
 *	picks	for each block and each size that the syncs left open: which of the versions it has had */
#ifndef COFFER_POWERCUT_CRASH_H
#define COFFER_POWERCUT_CRASH_H

#include "memfs.h"

enum crash_mark { CRASH_SURE = 0, CRASH_ZERO, CRASH_TORN };

struct crash_state {
	size_t meta, time, number;	/* number: which of the states of (meta, time) */
	struct memfs *fs;
};

struct crash_options {
	size_t meta_from;	/* where the scenario begins: what came before is on disk */
	size_t exhaustive;	/* so many states of one (meta, time) are tried all, else samples */
	size_t samples;
	bool tear;		/* blocks may be torn into 512-byte parts */
	uint64_t seed;
	bool only;		/* only this state */
	size_t only_meta, only_time, only_number;
};

/* Calls `each` with every state; it returns nonzero to stop, which is handed on.  Returns 0 at the end. */
int crash_each(const struct memfs *recorded, const struct crash_options *o,
	int (*each)(const struct crash_state *s, void *arg), void *arg);

/* What is known of a block of a state: CRASH_ZERO: it was written, and the state has zeros there. */
enum crash_mark crash_mark_of(const struct crash_state *s, uint32_t ino, size_t block);

#endif
