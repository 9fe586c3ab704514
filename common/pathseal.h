/* SIV encryption of short texts (BLAKE2b-192 as the synthetic nonce, XChaCha20): file names in the store,
 * paths in the ledger.  Deterministic: the same text under the same key gives the same bytes. */
#ifndef COFFER_PATHSEAL_H
#define COFFER_PATHSEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/secret.h"

#define PATHSEAL_OVERHEAD 24

/* out has room for n + PATHSEAL_OVERHEAD.  `ad` (may be NULL) is authenticated with it. */
void pathseal_seal(const struct key32 *key, const void *ad, size_t ad_len, const void *text, size_t n, uint8_t *out);
/* -EBADMSG unless it was sealed so.  text has room for n - PATHSEAL_OVERHEAD. */
int pathseal_open(const struct key32 *key, const void *ad, size_t ad_len, const uint8_t *in, size_t n, void *text);

/* A short key of a sealed path, to look for it in an index.  No secret; others may have the same. */
uint32_t pathseal_key(const void *sealed, size_t n);
/* Many paths in one question: a bit for each of the upper PATHSEAL_KEY_BITS of a key.  Those that are not meant but have the same
 * come along; the message stays below what fsd reads of anybody. */
#define PATHSEAL_KEY_BITS 18
#define PATHSEAL_BITMAP_BYTES ((1u << PATHSEAL_KEY_BITS) / 8)
void pathseal_bitmap_add(uint8_t bitmap[PATHSEAL_BITMAP_BYTES], uint32_t key);
bool pathseal_bitmap_has(const uint8_t bitmap[PATHSEAL_BITMAP_BYTES], uint32_t key);

#endif
