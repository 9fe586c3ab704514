/* What the tests of slots, keyrings and their rotations share: memory for keys, and the key of a file. */
#ifndef COFFER_TESTS_KEYS_FIXTURE_H
#define COFFER_TESTS_KEYS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/secret.h"
#include "keyd/keyring.h"
#include "keyd/slot_set.h"
#include "tests/unit/folder.h"

static inline int keys_setup_all(void **state)
{
	return secret_init(1u << 20);
}

/* No test may leave a secret behind. */
static inline int keys_teardown_all(void **state)
{
	int r = secret_in_use() == 0 ? 0 : -1;

	secret_done();
	return r;
}

/* The slot "main" by a key file and a ring with the keys of `clients`, which ends with NULL, below the folder of `fd`. */
static inline int keys_create(int fd, const struct client_id *const *clients, struct slot_set **slots, struct keyring **ring)
{
	int r = slot_set_create(fd, slots, NULL);

	if (r == 0)
		r = keyring_create(fd, slot_set_root(*slots), ring, NULL);
	for (; r == 0 && *clients; clients++)
		r = keyring_add(*ring, *clients, NULL);
	return r;
}

/* Also what is closed already. */
static inline void keys_close(struct slot_set **slots, struct keyring **ring)
{
	keyring_free(*ring);
	*ring = NULL;
	slot_set_close(*slots);
	*slots = NULL;
}

/* What wraps the keys of the files of `leaf`; as keyring_tree and keytree_derive fail. */
static inline int key_of(const struct keyring *k, const struct client_id *c, struct leaf_index leaf, struct key32 *ret)
{
	struct keytree *t;
	int r = keyring_tree(k, c, &t, NULL);

	if (r == 0) {
		r = keytree_derive(t, leaf, KEY_USE_WRAP, ret);
		keytree_free(t);
	}
	return r;
}

#endif
