/* The AEADs of the sectors.  A subkey per (file, salt) encrypts up to 2^20 sectors, its counter is the nonce.
 * Each thread keeps the last few subkeys expanded, so that a sector costs one nonce, one pass, one tag and no
 * allocation.  They stay until pushed out, the thread ends, or cipher_forget(). */
#ifndef COFFER_CIPHER_H
#define COFFER_CIPHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "common/secret.h"

enum cipher_suite {
	CIPHER_AES_256_GCM = 1,		/* aes_gcm.h */
	CIPHER_XCHACHA20_POLY1305 = 2,	/* libsodium */
	/* 3 is reserved for AEGIS-256 */
};

#define CIPHER_SALT_BYTES 16
#define CIPHER_TAG_BYTES 16

struct cipher_file {
	uint8_t suite;
	struct file_id id;
	const struct key32 *key;	/* the content key; the caller's */
};

struct cipher_nonce {
	uint8_t salt[CIPHER_SALT_BYTES];
	uint64_t counter;	/* never twice under one salt */
};

bool cipher_suite_known(uint8_t suite);
uint8_t cipher_suite_default(void);	/* 1 where the CPU has AES, else 2 */

/* out has room for n; in place is fine. */
int cipher_seal(const struct cipher_file *f, const struct cipher_nonce *nonce, const void *ad, size_t ad_len,
	const uint8_t *plain, size_t n, uint8_t *out, uint8_t tag[CIPHER_TAG_BYTES]);
/* -EBADMSG: not authentic; then `plain` is zeroed. */
int cipher_open(const struct cipher_file *f, const struct cipher_nonce *nonce, const void *ad, size_t ad_len,
	const uint8_t *in, size_t n, const uint8_t tag[CIPHER_TAG_BYTES], uint8_t *plain);

void cipher_forget(void);	/* the calling thread's subkeys */

#endif
