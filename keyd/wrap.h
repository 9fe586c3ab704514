/* One secret sealed under a key: XChaCha20-Poly1305 with a random 192-bit nonce, and a commitment to the key
 * that is compared before anything is decrypted (so that a wrong key is told from damage, and no ciphertext
 * opens under two keys).  Pure.
 *
 *	key use      = BLAKE2b-512(key = K, personal = one per use, message empty): box key 32, commitment 32
 *	sealed       = nonce 24 || commitment 32 || XChaCha20-Poly1305(box key, nonce, ad, plain) || tag 16
 *
 * The personal strings are the list of all domains below keyd (never reused): see wrap.c. */
#ifndef COFFER_WRAP_H
#define COFFER_WRAP_H

#include <stddef.h>
#include <stdint.h>

#include "common/secret.h"

enum wrap_use {
	WRAP_SLOT, /* root key under the slot's protector */
	WRAP_RING, /* ring under the root key */
	WRAP_TREE, /* key tree under its client's key */
	WRAP_RECOVERY_KEY, /* a recovery key's secret under what a passphrase makes */
	WRAP_RECOVERY_SET, /* whom R is sealed to, under R */
};

#define WRAP_OVERHEAD (24 + 32 + 16)

/* out has room for n + WRAP_OVERHEAD; it is not secret. */
void wrap_seal(const struct key32 *key, enum wrap_use use, const void *ad, size_t ad_len, const void *plain,
	size_t n, uint8_t *out);
/* `n` of the sealed; plain has room for n - WRAP_OVERHEAD.  -EKEYREJECTED: sealed under another key.
 * -EBADMSG: too short, or it or ad was altered. */
int wrap_open(const struct key32 *key, enum wrap_use use, const void *ad, size_t ad_len,
	const uint8_t *sealed, size_t n, void *plain);

#endif
