/* D/keyd/slots.json: where the slots are and what each held when it was last seen.  Signed by the installation's key, so
 * that "it holds nothing older" can be believed of a slot that is away: an older note only says less. */
#ifndef COFFER_SLOT_NOTE_H
#define COFFER_SLOT_NOTE_H

#include "keyd/slot_list.h"

#define SLOT_NOTE_CONTEXT "coffer-slots"

struct keyring;

struct slot_note {
	struct slot_ref ref;
	uint64_t generation; /* 0: not known */
	uint8_t hash[32];    /* of the record that was there, twice */
	bool erased;	     /* a leaving one is overwritten */
	/* Written before a slot gets a (new) identity, so that a crash in the middle leaves nothing that cannot be told from
	 * another's slot: what `ref.id` is of, without R; and whose place it takes. */
	bool has_next, has_before;
	struct slot_record next;
	uint8_t before[SLOT_ID_BYTES];
};
struct slot_notes {
	size_t count;
	struct slot_note notes[SLOT_LIST_MAX];
};

/* -ENOENT: there is none.  -EBADMSG: not readable as one.  Not checked yet: good enough to look for slots. */
int slot_notes_read(int keyd_fd, struct slot_notes *ret);
/* The same, and only if it is signed by this ring's key.  Errors as before; -EKEYREJECTED. */
int slot_notes_read_signed(int keyd_fd, const struct keyring *k, struct slot_notes *ret);
/* Does nothing when the file says the same already. */
int slot_notes_write(int keyd_fd, const struct keyring *k, const struct slot_notes *n);

#endif
