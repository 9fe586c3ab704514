/* One slot: a pair of records, A and B, on a medium.  Normally both say the same.  A new R goes into one while the other
 * keeps the old one; settling then overwrites the old one with random bytes and, that read back, with a copy of the new
 * record: so one bad sector loses nothing.  Every state between is legal, and opening takes the half of the highest
 * generation.
 *
 * A slot need not be open to be given a new R: it is sealed to the slot's public key.  keyd/slot_set.h keeps several. */
#ifndef COFFER_SLOT_PAIR_H
#define COFFER_SLOT_PAIR_H

#include "keyd/slot_medium.h"

enum slot_half {
	SLOT_HALF_SOUND = 0,
	SLOT_HALF_EMPTY,      /* no record: overwritten, or never written */
	SLOT_HALF_DAMAGED,    /* torn or altered */
	SLOT_HALF_UNREADABLE, /* the disk refuses, or the file is too short */
	SLOT_HALF_UNKNOWN,    /* of another version */
};

#define SLOT_HASH_BYTES 32

struct slot_look { /* what can be said without a key */
	uint8_t raw[2][SLOT_RECORD_BYTES];
	uint8_t hash[2][SLOT_HASH_BYTES]; /* of raw */
	struct slot_record rec[2];
	enum slot_half half[2];
	int newest; /* a sound one; -1: none */
	bool mirrored, stray_key; /* both sound and equal; a key file beside another protection */
};

struct slot_secrets {
	struct key32 key; /* the slot's own */
	struct root_key newest, older;
};

struct slot_pair {
	struct slot_medium medium;
	struct slot_ref ref;
	struct slot_secrets *secrets; /* arena; NULL: not open */
	struct slot_record rec;	      /* head and sealed key are what advancing writes */
	bool has_rec;
	uint64_t generation, older_generation; /* of secrets; older 0: none */
	/* The record that is known to hold an R of ours: it was opened, or written by us, or written down. */
	uint64_t known; /* generation of that R; 0: none is known */
	uint8_t hash[SLOT_HASH_BYTES];
	struct slot_record before; /* while advanced: what was there, and its hash */
	bool has_before;
	uint8_t before_hash[SLOT_HASH_BYTES];
	/* The identity that ref.id names was being written when the process ended: what lies there may be nothing, torn, or
	 * that of `replaces`. */
	struct slot_record next;
	bool has_next, has_replaces;
	uint8_t replaces[SLOT_ID_BYTES];
	bool blank;	/* made by us, no record in it yet: one is not missed */
};

void slot_pair_init(struct slot_pair *p, const struct slot_medium *m, const struct slot_ref *ref);
void slot_pair_done(struct slot_pair *p); /* wipes */

/* -ENOENT: there is none.  -ENODATA: no half has a record.  -EBADMSG: none is sound.  -EPROTONOSUPPORT.  Others: it cannot
 * be reached.  In all cases text says what to do. */
int slot_pair_look(const struct slot_medium *m, struct slot_look *ret, struct keys_error *err);

/* Opens the newest sound half.  -ENOKEY: it wants a passphrase, or its protector is missing.  -EKEYREJECTED: not this
 * passphrase, key file or credential.  -EPERM: others can read the protector.  Else as slot_pair_look(). */
int slot_pair_open(struct slot_pair *p, const void *passphrase, size_t n, struct keys_error *err);

/* A fresh identity under `protector`, to be written by the next advance in the place of the one it has. */
void slot_pair_renew(struct slot_pair *p, const struct slot_head *head, const struct key32 *protector);

/* Writes R of a generation into one half, durable, read back; what was there stays in the other one.
 * -EXDEV: another slot lies there.  -ESTALE: one of a later generation: somebody else wrote it. */
int slot_pair_advance(struct slot_pair *p, uint64_t generation, const struct root_key *fresh, struct keys_error *err);
/* The record of this R becomes the only one (it is written first if it is not there); key file too. Idempotent. */
int slot_pair_settle(struct slot_pair *p, uint64_t generation, const struct root_key *r, struct keys_error *err);
/* After an advance, also one that failed: what was there before is the only one again. */
int slot_pair_revert(struct slot_pair *p, struct keys_error *err);

#endif
