/* What the sources of slot_set.h share. */
#ifndef COFFER_SLOT_SET_IMPL_H
#define COFFER_SLOT_SET_IMPL_H

#include "keyd/slot_note.h"
#include "keyd/slot_set.h"

enum slot_plan { PLAN_NONE = 0, PLAN_JOIN, PLAN_LEAVE, PLAN_LOSE, PLAN_SEAL };

struct slot_member {
	struct slot_pair pair;
	uint64_t noted; /* generation of the R that it was last seen to hold alone; 0: not known */
	uint8_t noted_hash[SLOT_HASH_BYTES];
	bool erased; /* of one that leaves */
	enum slot_plan plan;
	int64_t plan_at;
};

struct slot_set_secrets {
	struct root_key newest, older;
};

struct slot_set {
	int keyd_fd; /* borrowed */
	struct slot_set_secrets *secrets; /* arena */
	uint64_t generation, older_generation;
	size_t count;
	struct slot_member members[SLOT_LIST_MAX];
};

int slot_set_alloc(int keyd_fd, struct slot_set **ret);
/* Appends a member at a place; not looked at yet.  -ENOSPC. */
int slot_set_append(struct slot_set *s, const struct slot_ref *ref, struct slot_member **ret);
void slot_set_drop(struct slot_set *s, size_t i);
struct slot_member *slot_set_member(struct slot_set *s, const char *name); /* members only; NULL */
/* The places to look at before anything is open: slots.json, and "main" in any case. */
void slot_set_places(int keyd_fd, struct slot_notes *ret);

static inline bool slot_is_member(const struct slot_member *m)
{
	return m->pair.ref.role == SLOT_MEMBER;
}

#endif
