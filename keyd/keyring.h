/* The keys of all clients: R -> K_c per client -> that client's key tree; and the signing key of the
 * installation.  On disk, below D/keyd:
 *
 *	keys/ring.<generation>          ids, K_c and tree numbers of all clients, signing key; under R
 *	keys/<client-id>.<n>.tree       a serialised key tree, sealed under K_c
 *	signing.pub, signing.chain      the public key, base64; what leads to it from earlier ones (signing.h)
 *
 * A ring is of the generation of its R (slot_set.h).  Adding a client writes the ring anew under the same
 * R. Taking something away never does: keyring_rotate() makes a ring for a fresh R, with a fresh K_c and
 * tree for each client that loses something, so that no file of before opens with what is left.
 * keyd/shred.h drives it.
 *
 * Not thread-safe: lives on keyd's loop.  Keys are in the arena of common/secret. */
#ifndef COFFER_KEYRING_H
#define COFFER_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "common/keytree.h"
#include "keyd/slot_list.h"

struct keyring;

/* The id that stands in hex in the facts and names the client's folder.  -EINVAL. */
int client_id_parse(const char *hex, struct client_id *ret);

#define SIGNATURE_BYTES 64
#define PUBLIC_KEY_BYTES 32
#define TRANSFER_KEY_BYTES 32

/* There are rings in keyd/keys: whoever finds no slot then has lost it, and makes no new one. */
bool keyring_exists(int keyd_fd);
/* Generation 1: no clients, a fresh signing key.  -EEXIST: there are rings already (text says what to do). */
int keyring_create(int keyd_fd, const struct root_key *r, struct keyring **ret, struct keys_error *err);

/* Reads ring.<generation>; trees are read when asked for.  Writes signing.pub if it is missing. -ENOENT: no
 * such ring.  -EKEYREJECTED: it does not open under r.  -EBADMSG: damaged, or signing.pub is not ours. */
int keyring_load(int keyd_fd, const struct root_key *r, uint64_t generation, struct keyring **ret,
	struct keys_error *err);
void keyring_free(struct keyring *k); /* wipes; NULL is fine */

uint64_t keyring_generation(const struct keyring *k);
/* The R it is under, and D/keyd: for keyd/recovery.h alone.  Borrowed. */
const struct root_key *keyring_root(const struct keyring *k);
int keyring_folder(const struct keyring *k);
size_t keyring_count(const struct keyring *k);
const struct client_id *keyring_client(const struct keyring *k, size_t i); /* ascending; borrowed */
bool keyring_has(const struct keyring *k, const struct client_id *client);

/* A new client with a whole tree: on disk, ring included, when it returns 0.  -EEXIST. */
int keyring_add(struct keyring *k, const struct client_id *client, struct keys_error *err);
/* The same with a tree that came from elsewhere; it stays the caller's. */
int keyring_adopt(struct keyring *k, const struct client_id *client, const struct keytree *tree, struct keys_error *err);

/* -ENOKEY: no such client, or destroyed.  -ENOENT, -EBADMSG, -EKEYREJECTED: the tree's file is missing,
 * damaged, foreign. */
int keyring_tree(const struct keyring *k, const struct client_id *client, struct keytree **ret,
	struct keys_error *err);
/* The same as bytes (keytree_serialise), for a worker.  *ret is from secret_alloc. */
int keyring_tree_bytes(const struct keyring *k, const struct client_id *client, uint8_t **ret, size_t *ret_n,
	struct keys_error *err);
/* Every client's tree opens; those left out to which `since` (may be NULL) refers as well: they are no news.
 * */
int keyring_check(const struct keyring *k, const struct keyring *since, struct keys_error *err);

/* What is to be destroyed: all of a client, or the leaves below a prefix of its tree; or nothing. */
struct keyring_cut {
	struct client_id client;
	bool whole;
	bool rekey;      /* a fresh K_c for the same tree, nothing else */
	uint64_t prefix; /* as keytree_puncture; one client may be named several times */
	unsigned bits;
};

/* Makes a tree that is written anew smaller (keytree_prune), after the cuts.  Negative: nothing is rotated. */
struct keyring_trim {
	int (*fn)(const struct client_id *client, struct keytree *tree, void *arg);
	void *arg;
};

/* Writes, syncs and reads back the ring of generation + 1 under `fresh` without what is cut; *k and its
 * files stay.  `trim` may be NULL. -ENOKEY: a cut names a client that is not there. */
int keyring_rotate(const struct keyring *k, const struct root_key *fresh, const struct keyring_cut *cuts,
	size_t count, const struct keyring_trim *trim, struct keyring **ret, struct keys_error *err);
/* The same with nothing cut and a fresh signing key, in force since `at`; the two sign each other (signing.h). */
int keyring_rotate_signing(const struct keyring *k, const struct root_key *fresh, int64_t at, struct keyring **ret,
	struct keys_error *err);
const struct slot_list *keyring_slots(const struct keyring *k); /* borrowed; may be empty */
/* What the ring of the next rotation says of slots; without it the list stays as it is. */
void keyring_plan_slots(struct keyring *k, const struct slot_list *next);
/* A ring of the next generation lies there: begun, and perhaps in force.  *ret: the slots that may have its R. */
bool keyring_next_reachable(const struct keyring *k, uint16_t *ret);
/* This ring is in force: unlinks every file of keys/ that it does not refer to, and publishes its public key. */
int keyring_sweep(const struct keyring *k, struct keys_error *err);

/* Ed25519 over context || 0x00 || msg; `context` names what is signed ("coffer-certificate"), one list in
 * doc/format-keys.md. */
int keyring_sign(const struct keyring *k, const char *context, const void *msg, size_t n,
	uint8_t ret_sig[SIGNATURE_BYTES]);
void keyring_public_key(const struct keyring *k, uint8_t ret[PUBLIC_KEY_BYTES]);
/* The key pair to which others seal what they hand over to this installation (X25519); of the signing key's seed. */
void keyring_transfer_key(const struct keyring *k, uint8_t ret_public[TRANSFER_KEY_BYTES], struct key32 *ret_secret);
/* -EBADMSG: not by this key, or not of this context. */
int keyring_signature_check(const uint8_t public_key[PUBLIC_KEY_BYTES], const char *context, const void *msg,
	size_t n, const uint8_t sig[SIGNATURE_BYTES]);

#endif
