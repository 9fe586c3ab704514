#include "keyd/wrap.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/scope.h"

#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES
#define COMMITMENT_BYTES 32

static_assert(WRAP_OVERHEAD == NONCE_BYTES + COMMITMENT_BYTES + TAG_BYTES, "layout");

static const uint8_t personals[][crypto_generichash_blake2b_PERSONALBYTES] = {
	[WRAP_SLOT] = "coffer-wrap-slot",
	[WRAP_RING] = "coffer-wrap-ring",
	[WRAP_TREE] = "coffer-wrap-tree",
	[WRAP_RECOVERY_KEY] = "coffer-wrap-rkey",
	[WRAP_RECOVERY_SET] = "coffer-wrap-rset",
};

struct wrap_keys {
	uint8_t box[crypto_aead_xchacha20poly1305_ietf_KEYBYTES];
	uint8_t commitment[COMMITMENT_BYTES];
};
static_assert(sizeof(struct wrap_keys) == crypto_generichash_blake2b_BYTES_MAX, "both come out of one hash");

static void wrap_keys_wipe(struct wrap_keys *k)
{
	sodium_memzero(k, sizeof(*k));
}

static void wrap_keys_derive(const struct key32 *key, enum wrap_use use, struct wrap_keys *ret)
{
	crypto_generichash_blake2b_salt_personal(
		(uint8_t *)ret, sizeof(*ret), NULL, 0, key->b, sizeof(key->b), NULL, personals[use]);
}

void wrap_seal(const struct key32 *key, enum wrap_use use, const void *ad, size_t ad_len, const void *plain,
	size_t n, uint8_t *out)
{
	scoped(wrap_keys_wipe) struct wrap_keys k;

	wrap_keys_derive(key, use, &k);
	randombytes_buf(out, NONCE_BYTES);
	memcpy(out + NONCE_BYTES, k.commitment, COMMITMENT_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(
		out + NONCE_BYTES + COMMITMENT_BYTES, NULL, plain, n, ad, ad_len, NULL, out, k.box);
}

int wrap_open(const struct key32 *key, enum wrap_use use, const void *ad, size_t ad_len,
	const uint8_t *sealed, size_t n, void *plain)
{
	scoped(wrap_keys_wipe) struct wrap_keys k = {0};
	const uint8_t *box = sealed + NONCE_BYTES + COMMITMENT_BYTES;

	if (n < WRAP_OVERHEAD)
		return -EBADMSG;
	wrap_keys_derive(key, use, &k);
	if (sodium_memcmp(sealed + NONCE_BYTES, k.commitment, COMMITMENT_BYTES) != 0)
		return -EKEYREJECTED;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(plain, NULL, NULL, box,
		    n - NONCE_BYTES - COMMITMENT_BYTES, ad, ad_len, sealed, k.box) < 0)
		return -EBADMSG;
	return 0;
}
