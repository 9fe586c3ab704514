/* AES-256-GCM with a key that is used many times: by intel-ipsec-mb, which uses all that the processor has (VAES, AVX-512), where
 * it was there at build time and the processor has AES, else by OpenSSL.  Both give the same bytes.  Of one thread. */
#ifndef COFFER_AES_GCM_H
#define COFFER_AES_GCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AES_GCM_NONCE_BYTES 12
#define AES_GCM_TAG_BYTES 16

enum aes_gcm_by {
	AES_GCM_BEST,
	AES_GCM_OPENSSL,	/* for tests and comparisons */
};

struct aes_gcm;

/* Loads the libraries: before the process gives up its rights, and may be called again.  Returns what AES_GCM_BEST is. */
const char *aes_gcm_init(void);
bool aes_gcm_is_fast(void);	/* a megabyte takes less than waking another thread for half of it */

/* In the arena of common/secret.h; NULL: no memory.  aes_gcm_free wipes; NULL is fine. */
struct aes_gcm *aes_gcm_new(enum aes_gcm_by by);
void aes_gcm_free(struct aes_gcm *a);

/* Expands the key, for one direction.  -ENOMEM */
int aes_gcm_key(struct aes_gcm *a, const uint8_t key[32], bool sealing);
/* out has room for n > 0 bytes; in place is fine.  -EIO: the library failed, another key must be set before the next call. */
int aes_gcm_seal(struct aes_gcm *a, const uint8_t nonce[AES_GCM_NONCE_BYTES], const void *ad, size_t ad_len, const uint8_t *plain,
	size_t n, uint8_t *out, uint8_t tag[AES_GCM_TAG_BYTES]);
/* -EBADMSG: not authentic; what plain holds then is the caller's to wipe. */
int aes_gcm_open(struct aes_gcm *a, const uint8_t nonce[AES_GCM_NONCE_BYTES], const void *ad, size_t ad_len, const uint8_t *in,
	size_t n, const uint8_t tag[AES_GCM_TAG_BYTES], uint8_t *plain);

#endif
