/* Destruction that backups cannot undo: what is cut (keyring.h) goes from the keys, the rest moves under a
 * fresh root key, and the slot forgets the old one.  In order:
 *
 *	CONFIRM    the caller checks holds again and revokes sessions: the last moment to say no
 *	STATE      new trees and ring of generation + 1, synced, read back
 *	CHECK      what is new opens (a tree damaged before hinders nobody else's destruction); the fresh R sealed to
 *	           the recovery keys (keyd/recovery.h)
 *	SLOT       the fresh R into one half of each slot, synced, read back  <- from here on forward only
 *	FORGET     the old halves overwritten in place, read back, mirrored; recovery copies of the old R, too
 *	                                                                     <- from here on destroyed
 *	SWEEP      old state unlinked (it does not open any more)
 *
 * Nothing is remembered here between steps but what is on disk, so any step may be the last before a crash:
 * shred_open(), which is also how keyd opens its keys at all, looks at slot and rings and goes forward or
 * back. The caller keeps the intent, with keyring_generation() at its time, in its database before CONFIRM;
 * when the generation is higher after shred_open(), the destruction took place.
 *
 * Not thread-safe: lives on keyd's loop. */
#ifndef COFFER_SHRED_H
#define COFFER_SHRED_H

#include "keyd/keyring.h"
#include "keyd/slot_set.h"

enum shred_step {
	SHRED_STEP_CONFIRM = 1,
	SHRED_STEP_STATE,
	SHRED_STEP_CHECK,
	SHRED_STEP_SLOT,
	SHRED_STEP_FORGET,
	SHRED_STEP_SWEEP
};
const char *shred_step_name(enum shred_step s);

enum shred_outcome {
	SHRED_NOTHING = 0,	/* nothing was destroyed; all opens as before */
	SHRED_DESTROYED,
	/* The fresh keys are in force, but the old root key may still be in a slot (text says which): not destroyed until
	 * shred_finish() or the next shred_open() says so.  Say that openly. */
	SHRED_PENDING,
	/* The disk took neither the new state nor its removal: the next shred_open() decides.  Go on with
	 * nothing. */
	SHRED_UNKNOWN,
};

struct shred_job {
	const struct keyring_cut *cuts;
	size_t count;
	int64_t signing_at; /* nonzero: the signing key is exchanged as of that moment, and nothing is cut */
	const struct keyring_trim *trim; /* after CONFIRM; may be NULL */
	/* Nonzero (negative errno) stops it: nothing was touched. */
	int (*confirm)(void *arg);
	/* For the progress record of the caller, and for tests: called before each step.  Negative: it
	 * returns at once and cleans up nothing, as if the process had died there.  May be NULL. */
	int (*before)(enum shred_step step, void *arg);
	void *arg;
};

/* *ring is replaced by the new one as soon as the slot has its R.  Returns 0 with DESTROYED (or, when only
 * FORGET failed, the error with PENDING); any other error with NOTHING, or in the worst case UNKNOWN.
 * *ret_outcome is always set. */
int shred_run(const struct shred_job *job, struct slot_set *slots, struct keyring **ring,
	enum shred_outcome *ret_outcome, struct keys_error *err);

/* After PENDING: forgets and sweeps again.  0: it is destroyed. */
int shred_finish(struct slot_set *slots, struct keyring *ring, struct keys_error *err);

enum shred_found {
	SHRED_FOUND_NOTHING = 0,
	SHRED_FOUND_COMPLETED,
	SHRED_FOUND_PENDING, /* went forward, but the old half cannot be overwritten: as SHRED_PENDING */
	SHRED_FOUND_ROLLED_BACK,
};

struct shred_opened {
	struct keyring *ring;
	enum shred_found found; /* what an interrupted run had left, and what became of it */
	char warning[512]; /* empty: none.  For the log and `status`: a half that cannot be renewed, ... */
};

/* Opens the keyring that belongs to the slot, completing or rolling back what a crash interrupted.
 * Errors as keyring_load(): nothing was changed then. */
int shred_open(int keyd_fd, struct slot_set *slots, struct shred_opened *ret, struct keys_error *err);

#endif
