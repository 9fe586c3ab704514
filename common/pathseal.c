/* SIV: the nonce is a MAC of what is encrypted, so equal texts give equal bytes and nothing else repeats.
 *
 *	subkeys  = BLAKE2b-512(key = K, personal = "coffer-pathseal1"): MAC key 32, stream key 32
 *	nonce    = BLAKE2b-192(key = MAC key, message = u64 le ad_len || ad || text)
 *	out      = nonce || text XOR XChaCha20(stream key, nonce) */
#include "common/pathseal.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>

#include "common/bytes.h"
#include "common/scope.h"

struct subkeys {
	uint8_t mac[KEY_BYTES];
	uint8_t stream[KEY_BYTES];
};
static_assert(sizeof(struct subkeys) == crypto_generichash_blake2b_BYTES_MAX, "both come out of one hash");
static_assert(PATHSEAL_OVERHEAD == crypto_stream_xchacha20_NONCEBYTES, "the MAC is the nonce");

static void subkeys_wipe(struct subkeys *k)
{
	sodium_memzero(k, sizeof(*k));
}

static void subkeys_derive(const struct key32 *key, struct subkeys *ret)
{
	static const uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-pathseal1";

	crypto_generichash_blake2b_salt_personal(
		(uint8_t *)ret, sizeof(*ret), NULL, 0, key->b, sizeof(key->b), NULL, personal);
}

static void synthetic_nonce(const struct subkeys *k, const void *ad, size_t ad_len, const void *text,
	size_t n, uint8_t nonce[PATHSEAL_OVERHEAD])
{
	crypto_generichash_blake2b_state st;
	struct bytes_writer w;
	uint8_t len[8];

	bytes_writer_init(&w, len, sizeof(len));
	bytes_put_u64(&w, ad_len);
	crypto_generichash_blake2b_init(&st, k->mac, sizeof(k->mac), PATHSEAL_OVERHEAD);
	crypto_generichash_blake2b_update(&st, len, sizeof(len));
	if (ad_len > 0)
		crypto_generichash_blake2b_update(&st, ad, ad_len);
	if (n > 0)
		crypto_generichash_blake2b_update(&st, text, n);
	crypto_generichash_blake2b_final(&st, nonce, PATHSEAL_OVERHEAD);
	sodium_memzero(&st, sizeof(st));
}

void pathseal_seal(
	const struct key32 *key, const void *ad, size_t ad_len, const void *text, size_t n, uint8_t *out)
{
	scoped(subkeys_wipe) struct subkeys k;

	subkeys_derive(key, &k);
	synthetic_nonce(&k, ad, ad_len, text, n, out);
	if (n > 0)
		crypto_stream_xchacha20_xor(out + PATHSEAL_OVERHEAD, text, n, out, k.stream);
}

int pathseal_open(
	const struct key32 *key, const void *ad, size_t ad_len, const uint8_t *in, size_t n, void *text)
{
	scoped(subkeys_wipe) struct subkeys k = {0};
	uint8_t nonce[PATHSEAL_OVERHEAD];

	if (n < PATHSEAL_OVERHEAD)
		return -EBADMSG;
	n -= PATHSEAL_OVERHEAD;
	subkeys_derive(key, &k);
	if (n > 0)
		crypto_stream_xchacha20_xor(text, in + PATHSEAL_OVERHEAD, n, in, k.stream);
	synthetic_nonce(&k, ad, ad_len, text, n, nonce);
	if (sodium_memcmp(nonce, in, sizeof(nonce)) != 0) {
		if (n > 0)
			sodium_memzero(text, n);
		return -EBADMSG;
	}
	return 0;
}

uint32_t pathseal_key(const void *sealed, size_t n)
{
	static const unsigned char key[crypto_shorthash_KEYBYTES]; /* no secret: what is found is looked at */
	uint8_t h[crypto_shorthash_BYTES];

	crypto_shorthash(h, sealed, n, key);
	return (uint32_t)h[0] | (uint32_t)h[1] << 8 | (uint32_t)h[2] << 16 | (uint32_t)h[3] << 24;
}

void pathseal_bitmap_add(uint8_t bitmap[PATHSEAL_BITMAP_BYTES], uint32_t key)
{
	uint32_t bit = key >> (32 - PATHSEAL_KEY_BITS);

	bitmap[bit / 8] |= (uint8_t)(1 << bit % 8);
}

bool pathseal_bitmap_has(const uint8_t bitmap[PATHSEAL_BITMAP_BYTES], uint32_t key)
{
	uint32_t bit = key >> (32 - PATHSEAL_KEY_BITS);

	return bitmap[bit / 8] & 1 << bit % 8;
}
