/* The bytes of ring and tree files: encode and seal, open and decode, names.  No policy; keyring.h uses it.
 * Layouts are tables above the code and in doc/format-keys.md. */
#ifndef COFFER_RING_FILE_H
#define COFFER_RING_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "common/keytree.h"
#include "keyd/slot_list.h"

#define RING_CLIENTS_MAX 65536
#define SIGNING_SEED_BYTES 32

struct client_key { /* K_c */
	struct key32 key;
};

struct ring_entry {
	struct client_id client;
	uint64_t tree; /* number of the tree file that K_c opens */
	struct client_key key;
};

struct ring { /* in the arena, entries behind it; ascending by client id */
	uint64_t generation;
	uint64_t sequence; /* of writes under this generation */
	uint8_t seed[SIGNING_SEED_BYTES];
	struct slot_list slots;
	size_t count;
	struct ring_entry entries[];
};

int ring_alloc(size_t count, struct ring **ret); /* secret_free() frees */

#define RING_NAME_MAX 32
char *ring_name(uint64_t generation, char buf[RING_NAME_MAX]);
#define TREE_NAME_MAX (CLIENT_ID_HEX + 32)
char *tree_name(const struct client_id *client, uint64_t n, char buf[TREE_NAME_MAX]);
char *client_hex(const struct client_id *client, char buf[CLIENT_ID_HEX]);

int ring_write(int keys_fd, const struct ring *ring, const struct root_key *r, struct keys_error *err);
/* -ENOENT, -EKEYREJECTED, -EBADMSG as keyring_load. */
int ring_read(int keys_fd, uint64_t generation, const struct root_key *r, struct ring **ret,
	struct keys_error *err);
/* Which slots may have got the R of that ring (slot_list.h): readable without it.  -ENOENT: no such ring. */
int ring_reachable(int keys_fd, uint64_t generation, uint16_t *ret);

int tree_write(int keys_fd, const struct ring_entry *e, const struct keytree *t, struct keys_error *err);
/* The serialised tree: *ret is from secret_alloc.  What the box held was a tree when it was sealed; it is not parsed here. */
int tree_read_bytes(int keys_fd, const struct ring_entry *e, uint8_t **ret, size_t *ret_n, struct keys_error *err);
int tree_read(int keys_fd, const struct ring_entry *e, struct keytree **ret, struct keys_error *err);

#endif
