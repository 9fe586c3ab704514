/* Where R lives: all slots of an installation at once.
 *
 *	D/keyd/slot/      the slot called "main": a folder with root.slot (slot_pair.h)
 *	D/keyd/slots.json where the others are, and what each held when it was last seen; signed, nothing secret.  It only
 *	                  helps to find them: which slots there are says the ring (slot_list.h)
 *
 * R is in force when one slot has it; it is forgotten when *every* registered slot is known to hold nothing older.  A
 * slot that is away holds up nothing but that: it is brought up to date as soon as it is back, without its protector.
 *
 * Members that are added, removed or sealed anew change with the next rotation (keyd/shred.h): so what a slot that
 * left still holds opens nothing of afterwards, and an older ring does not bring back an older list.
 *
 * Not thread-safe.  Names in messages are below D. */
#ifndef COFFER_SLOT_SET_H
#define COFFER_SLOT_SET_H

#include "keyd/slot_pair.h"

struct keyring;
struct slot_set;

/* A fresh R of generation 1 in the slot "main", under a fresh key file.  -EEXIST. */
int slot_set_create(int keyd_fd, struct slot_set **ret, struct keys_error *err);
/* The same for an R that a recovery key opened. */
int slot_set_recreate(int keyd_fd, const struct root_key *r, uint64_t generation, struct slot_set **ret,
	struct keys_error *err);

/* Opens those that open: without a passphrase or with one.  Succeeds with one; the newest R counts.
 * If none does, what is wrong with "main" (or the first one that was said more about):
 * -ENOENT: no slot.  -ENODATA: nothing was ever written into it.  -ENOKEY: it wants a passphrase, or its credential is
 * missing.  -EKEYREJECTED: not this passphrase, key file or credential.  -EBADMSG: damaged.  -EPERM: others can read
 * what protects it. */
int slot_set_open(int keyd_fd, const void *passphrase, size_t n, struct slot_set **ret, struct keys_error *err);
void slot_set_close(struct slot_set *s); /* wipes; NULL is fine */

uint64_t slot_set_generation(const struct slot_set *s);
/* The newest R; and the one it replaces while a rotation is not settled (else NULL).  Borrowed. */
const struct root_key *slot_set_root(const struct slot_set *s);
const struct root_key *slot_set_older_root(const struct slot_set *s);
uint64_t slot_set_older_generation(const struct slot_set *s); /* 0: none */

/* What the ring in force says of slots: looks for those that are not there yet, drops the others.  From now on they are
 * what has to forget.  True: with them came a newer R than that of this ring; nothing else was done. */
bool slot_set_adopt(struct slot_set *s, const struct keyring *k);
/* Every slot that could hold the R of a ring that `reachable` says (slot_list.h) has been looked at.  Else *ret_name
 * (borrowed) is one that must be asked first. */
bool slot_set_can_decide(const struct slot_set *s, uint16_t reachable, const char **ret_name);
/* No slot has begun to forget the older R. */
bool slot_set_can_revert(const struct slot_set *s);
/* The list for the ring of the next generation, with what is planned. */
void slot_set_list(const struct slot_set *s, struct slot_list *ret);

/* Writes `fresh` as generation + 1 into all that can be reached: from here on it is the newest.  Succeeds when one has
 * it; fails when none has, and then the disks may hold either: call slot_set_revert(). */
int slot_set_advance(struct slot_set *s, const struct root_key *fresh, struct keys_error *err);
/* Whatever else than the newest R is in any slot is overwritten.  0: all are known to hold it alone.  Else text names
 * the slot that is waited for, and why.  Idempotent. */
int slot_set_settle(struct slot_set *s, struct keys_error *err);
/* The other way: what is newer is destroyed, the older R is the newest again.  Also after a failed advance.  What was
 * planned is forgotten. */
int slot_set_revert(struct slot_set *s, struct keys_error *err);
/* Writes down where the slots are and what each holds (slots.json).  What fails here is only looked for later. */
int slot_set_note(struct slot_set *s, const struct keyring *k);
/* The same before slot_set_advance(), if slots get an identity by it: so that a crash in it is finished by slot_set_settle(),
 * without the protector.  Durable when it returns 0. */
int slot_set_note_plan(struct slot_set *s, const struct keyring *k, struct keys_error *err);

/* ---- what the next rotation changes; each fails with nothing changed ---- */

struct slot_seal { /* what a slot is to be sealed by */
	enum slot_protection protection;
	const void *text; /* the passphrase; else NULL */
	size_t n;
	const char *locator; /* the credential's path or name; else NULL */
	struct slot_kdf kdf;
};

/* -EEXIST: the name is taken, or a slot lies there.  -ENOSPC: SLOT_LIST_MAX.  -EINVAL: name or place will not do. */
int slot_set_plan_add(struct slot_set *s, const char *name, enum slot_kind kind, const char *where,
	const struct slot_seal *seal, struct keys_error *err);
/* It is overwritten when all others have the next R.  `lost`: it is not waited for, and remembered as lost.
 * -ENOENT: no such slot.  -EBUSY: it is the last one.  -EUNATCH: it cannot be reached, and `lost` was not said. */
int slot_set_plan_remove(struct slot_set *s, const char *name, bool lost, int64_t now, struct keys_error *err);
/* Another slot in its place: for one that is damaged, foreign or sealed by what nobody has.  What is there is destroyed. */
int slot_set_plan_replace(struct slot_set *s, const char *name, const char *where, const struct slot_seal *seal, int64_t now,
	struct keys_error *err);
/* Sealed anew.  name NULL: all that can be reached.  Old protectors open nothing that comes after. */
int slot_set_plan_seal(struct slot_set *s, const char *name, const struct slot_seal *seal, struct keys_error *err);
/* Drops what was planned. */
void slot_set_plan_drop(struct slot_set *s);

/* ---- for people ---- */

enum slot_state {
	SLOT_OK = 0,	  /* holds R alone */
	SLOT_AWAY,	  /* cannot be reached; held R alone when last seen */
	SLOT_MISSING,	  /* cannot be reached, and may hold an older R */
	SLOT_UNSETTLED,	  /* holds an older R, too */
	SLOT_OLD,	  /* holds an older R only */
	SLOT_TORN,	  /* one half is not sound: it is renewed */
	SLOT_DAMAGED,	  /* neither half is sound */
	SLOT_FOREIGN,	  /* another slot lies there */
	SLOT_ERASING,	  /* was removed, and is not overwritten yet */
	SLOT_GONE,	  /* was lost */
};

struct slot_view {
	struct slot_ref ref;
	enum slot_state state;
	bool has_head;
	struct slot_head head; /* if has_head */
	bool open;	       /* its protector was at hand when the keys were opened */
	const char *assurance;
	char label[SLOT_WHERE_BYTES + 24], device[64];
	char text[640]; /* what is wrong and what to do; "" when nothing is */
};
const char *slot_state_name(enum slot_state s);

size_t slot_set_count(const struct slot_set *s);
/* Looks at the medium now. */
void slot_set_view(const struct slot_set *s, size_t i, struct slot_view *ret);

/* The same without keys, by slots.json: for when they are sealed.  *ret is malloc'd. */
int slot_set_look(int keyd_fd, struct slot_view **ret, size_t *ret_n);
enum slot_opening { /* what opens without anybody */
	SLOT_OPENS_NOTHING = 0, /* a passphrase is wanted */
	SLOT_OPENS_CREDENTIAL,	/* what a credential or a TPM opens: it may not be there yet */
	SLOT_OPENS_KEY_FILE,
};
/* At start: 0 when a slot is sound.  -ENOENT: there is none at all.  Else what is wrong with "main". */
int slot_set_find(int keyd_fd, enum slot_opening *ret, struct keys_error *err);

#endif
