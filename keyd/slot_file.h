/* The file slot: where R lives on this machine.
 *
 *	D/keyd/slot/root.slot     two records (halves A, B) of 4096 bytes; normally both say the same
 *	D/keyd/slot/root.key      32 random bytes, 0600: the protector, until a passphrase replaces it
 *	D/keyd/slot/CACHEDIR.TAG  so that backup tools leave it out: a copy voids destruction
 *
 * A new R goes into one half while the other keeps the old one; slot_file_settle() then overwrites the old
 * one in place with random bytes and, that read back, with a copy of the new record: so one bad sector loses
 * nothing. Every state between is legal, and slot_file_open() takes the half with the highest generation and
 * sequence. Overwriting in place is what a program can do; SSDs and copy-on-write file systems may keep old
 * blocks.
 *
 * Not thread-safe.  Names in messages are below D. */
#ifndef COFFER_SLOT_FILE_H
#define COFFER_SLOT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/slot.h"

struct slot_file;

enum slot_half {
	SLOT_HALF_SOUND = 0,
	SLOT_HALF_EMPTY,      /* no record: overwritten, or never written */
	SLOT_HALF_DAMAGED,    /* torn or altered */
	SLOT_HALF_UNREADABLE, /* the disk refuses, or the file is too short */
	SLOT_HALF_UNKNOWN,    /* of a later version */
};

struct slot_status { /* what can be said without the key */
	enum slot_half half[2];
	struct slot_head head; /* of the newest sound half */
	bool settled;          /* both halves sound and equal; no key file beside a passphrase */
	char text[256];        /* one sentence for `status` */
};

/* -ENOENT: there is no slot (text says so).  -EBADMSG: no half is sound. */
int slot_file_inspect(int keyd_fd, struct slot_status *ret, struct keys_error *err);

/* A fresh R of generation 1 under a fresh key file, in keyd/slot (made, 0700).  -EEXIST. */
int slot_file_create(int keyd_fd, struct slot_file **ret, struct keys_error *err);
/* The same for an R that a recovery key opened. */
int slot_file_recreate(int keyd_fd, const struct root_key *r, uint64_t generation, struct slot_file **ret,
	struct keys_error *err);

/* Opens the newest sound half.  `passphrase` NULL: by the key file.
 * -ENOENT: no slot.  -ENOKEY: it wants a passphrase.  -EKEYREJECTED: not this passphrase or key file.
 * -EBADMSG: damaged (text: which half, and what to do).  -EPERM: others can read the key file. */
int slot_file_open(
	int keyd_fd, const void *passphrase, size_t n, struct slot_file **ret, struct keys_error *err);
void slot_file_close(struct slot_file *s); /* wipes; NULL is fine */

uint64_t slot_file_generation(const struct slot_file *s);
enum slot_protection slot_file_protection(const struct slot_file *s);
/* The newest R; and the one it replaces while a rotation is not settled (else NULL).  Borrowed. */
const struct root_key *slot_file_root(const struct slot_file *s);
const struct root_key *slot_file_older_root(const struct slot_file *s);
uint64_t slot_file_older_generation(const struct slot_file *s); /* 0: none */

/* Writes `fresh` as generation + 1 over one half, synced and read back: from here on it is the newest.  The
 * old one is still there.  On failure the newest is what it was, but the disk may hold either: call
 * slot_file_revert(). */
int slot_file_advance(struct slot_file *s, const struct root_key *fresh, struct keys_error *err);
/* The newest record becomes the only one: whatever else is there is overwritten, read back, and mirrored;
 * the key file goes when a passphrase has replaced it.  Idempotent; does nothing when all is settled. */
int slot_file_settle(struct slot_file *s, struct keys_error *err);
/* The other way: the newer half is destroyed and the older R is the newest again.  Also after a failed
 * advance. */
int slot_file_revert(struct slot_file *s, struct keys_error *err);

/* Puts R under a passphrase: writes, settles, destroys the key file. */
int slot_file_set_passphrase(struct slot_file *s, const void *passphrase, size_t n,
	const struct slot_kdf *kdf, struct keys_error *err);

#endif
