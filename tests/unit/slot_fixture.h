/* What tests want to know of the slot "main" below D/keyd. */
#ifndef COFFER_TESTS_SLOT_FIXTURE_H
#define COFFER_TESTS_SLOT_FIXTURE_H

#include <string.h>

#include "keyd/shred.h"

/* A passphrase that is stretched as little as is allowed. */
#define WEAK ((struct slot_kdf){.passes = 1, .memory = SLOT_KDF_MEMORY_MIN})

static inline int main_slot_look(int keyd_fd, struct slot_look *ret, struct keys_error *err)
{
	struct slot_medium m;

	slot_medium_init(&m, keyd_fd, SLOT_FILE, "");
	return slot_pair_look(&m, ret, err);
}

static inline bool main_slot_is_settled(int keyd_fd)
{
	struct slot_look l;

	return main_slot_look(keyd_fd, &l, NULL) == 0 && l.mirrored && !l.stray_key;
}

static inline enum slot_protection main_slot_protection(int keyd_fd)
{
	struct slot_look l;

	return main_slot_look(keyd_fd, &l, NULL) == 0 ? l.rec[l.newest].head.protection : 0;
}

/* All slots by a passphrase of little cost, with a rotation. */
static inline int slots_set_passphrase(struct slot_set *slots, struct keyring **ring, const char *passphrase, struct slot_kdf kdf,
	enum shred_outcome *ret_outcome)
{
	const struct slot_seal seal = {.protection = SLOT_BY_PASSPHRASE, .text = passphrase, .n = strlen(passphrase), .kdf = kdf};
	const struct shred_job job = {0};
	int r = slot_set_plan_seal(slots, NULL, &seal, NULL);

	*ret_outcome = SHRED_NOTHING;
	if (r < 0)
		return r;
	r = shred_run(&job, slots, ring, ret_outcome, NULL);
	slot_set_plan_drop(slots);
	return r;
}

#endif
