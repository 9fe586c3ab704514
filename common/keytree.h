/* The key tree of one client: a GGM puncturable PRF over 64-bit leaf indices (class, day,
 * number; see common/ids.h).  Holding a node is holding all leaves below it; puncturing a
 * prefix replaces the node above it by the siblings along the path, after which nothing
 * derives from what is left.  Source: Goldreich, Goldwasser, Micali 1986; puncturable key
 * wrapping: Backendal, Günther, Paterson, ASIACRYPT 2022.
 *
 * PRF: HChaCha20(node, input) with the distinct 16-byte inputs "left", "right" and one per
 * key use (doc/FORMAT.md has the table).  The nodes stay in the arena of common/secret.
 * keytree_derive (which keeps upper nodes of recent days), keytree_holds and keytree_puncture(_all) are
 * thread-safe; everything else needs the caller's exclusion.  Pure: no I/O, no clock. */
#ifndef COFFER_KEYTREE_H
#define COFFER_KEYTREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "common/secret.h"

struct keytree;

#define KEYTREE_BYTES_MAX (16u << 20)	/* serialised: 400,000 nodes, some 50,000 files destroyed singly and far apart */

enum key_use {		/* numbered once, never reused: part of the format */
	KEY_USE_WRAP = 1,	/* wraps a file's content key */
	KEY_USE_NAME = 2,	/* names in a directory */
	KEY_USE_PLACE = 3,	/* MACs of places of files and directories in a directory */
	KEY_USE_AUDIT = 4,	/* paths in the ledger */
	KEY_USE_LINK = 5,	/* a symlink's target */
};

int keytree_new(struct keytree **ret);		/* one random root: everything derivable */
void keytree_free(struct keytree *t);		/* wipes; NULL is fine */

/* The key of `leaf` for `use`.  -ENOKEY: punctured. */
int keytree_derive(struct keytree *t, struct leaf_index leaf, enum key_use use, struct key32 *ret);
bool keytree_holds(const struct keytree *t, struct leaf_index leaf);

/* Destroys every leaf whose index begins with the `bits` (0..64) upper bits of `prefix`.
 * 0 also if nothing of it was left.  -ENOMEM leaves the tree as it was. */
int keytree_puncture(struct keytree *t, uint64_t prefix, unsigned bits);

/* The same for all of them at once, in one pass over the tree: a thousand cost little more than one.  `cuts` is sorted
 * and shortened in place.  -EINVAL: more than 64 bits. */
struct keytree_prefix {
	uint64_t prefix;
	unsigned bits;
};
int keytree_puncture_all(struct keytree *t, struct keytree_prefix *cuts, size_t n);

/* Drops every node for whose leaves (first..last, ascending over the tree) `keep` says false: nothing that was ever given
 * out may be among them.  Since no two nodes could be one, what is left is the smallest set of nodes that derives all that
 * was given out and lives, and nothing that was destroyed.  -ENOMEM leaves the tree as it was. */
int keytree_prune(struct keytree *t, bool (*keep)(uint64_t first, uint64_t last, void *arg), void *arg,
	size_t *ret_dropped);

size_t keytree_nodes(const struct keytree *t);
size_t keytree_bytes(const struct keytree *t);	/* serialised */

/* The nodes as bytes (depth, prefix, key; sorted; canonical: same tree, same bytes), to be
 * sealed by the caller.  Secret.  *ret is from secret_alloc. */
int keytree_serialise(const struct keytree *t, uint8_t **ret, size_t *ret_n);
/* -EBADMSG: not canonical, overlapping nodes, unknown version. */
int keytree_parse(const uint8_t *buf, size_t n, struct keytree **ret);

#endif
