/* The slots that an installation has, as its ring names them: what the ring says is what counts, since nobody alters it
 * without R.  Pure. */
#ifndef COFFER_SLOT_LIST_H
#define COFFER_SLOT_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "keyd/slot.h"

enum slot_kind {
	SLOT_FILE = 1,	/* a folder with root.slot */
	SLOT_TPM2,	/* two NV indices of a TPM */
};

enum slot_role {
	SLOT_MEMBER = 0,
	SLOT_LEAVING,	/* gets no more R; what is in it is to be overwritten */
	SLOT_LOST,	/* somebody said so: what is in it opens the keys of that time for ever */
};

#define SLOT_LIST_MAX 16
#define SLOT_NAME_BYTES 32	/* a-z, 0-9, dash; with the zero behind it */
#define SLOT_WHERE_BYTES 168
#define SLOT_REF_BYTES 256
#define SLOT_MAIN "main"	/* the one in D/keyd/slot */

struct slot_ref {
	uint8_t number;	/* one of 0..15, as long as it stands in the list */
	enum slot_kind kind;
	enum slot_role role;
	uint8_t id[SLOT_ID_BYTES];
	uint64_t left_generation; /* of R in it when it was lost, or was to leave; 0: a member */
	int64_t left_at;
	char name[SLOT_NAME_BYTES];
	char where[SLOT_WHERE_BYTES]; /* "": D/keyd/slot; else an absolute folder; "INDEX[@TCTI]" of a TPM */
};

struct slot_list {
	size_t count;	/* 0 in a ring that was made before there was a list: the main slot alone, whatever its id */
	uint16_t reachable; /* bit n: number n was there when this list was written, so it may have got this ring's R */
	struct slot_ref refs[SLOT_LIST_MAX];
};

void slot_ref_put(struct bytes_writer *w, const struct slot_ref *ref);	/* SLOT_REF_BYTES */
/* -EBADMSG: nothing that slot_ref_put() writes. */
int slot_ref_get(struct bytes_reader *rd, struct slot_ref *ret);
const struct slot_ref *slot_list_find(const struct slot_list *l, const char *name); /* members and leaving; NULL */
bool slot_name_is_valid(const char *name);
const char *slot_kind_name(enum slot_kind kind); /* "file", "tpm2" */
int slot_kind_parse(const char *text, enum slot_kind *ret); /* -EINVAL */

#endif
