#include "fs/store/cipher.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#include "common/bytes.h"
#include "common/scope.h"
#include "fs/store/aes_gcm.h"

#define CACHE_SLOTS 8 /* files a thread works on at a time, times directions */
#define XCHACHA_NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
static_assert(XCHACHA_NONCE_BYTES >= AES_GCM_NONCE_BYTES, "one buffer serves both");

static const uint8_t personal_sector[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-file-sect";

struct slot {
	bool used, sealing;
	uint8_t suite;
	struct file_id id;
	uint8_t salt[CIPHER_SALT_BYTES];
	struct key32 subkey; /* suite 2; suite 1 has it expanded in aes */
	struct aes_gcm *aes;
};

struct cache { /* one a thread, in the arena */
	struct slot slots[CACHE_SLOTS];
	unsigned next; /* the one to push out */
	unsigned last; /* the one used last: nearly always the right one */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t cache_key;
static bool cache_key_made;
static __thread struct cache *cache;

static void cache_free(void *arg)
{
	struct cache *c = arg;
	unsigned i;

	for (i = 0; i < CACHE_SLOTS; i++)
		aes_gcm_free(c->slots[i].aes);
	secret_free(c);
	cache = NULL;
}

static void init_once(void)
{
	cache_key_made = pthread_key_create(&cache_key, cache_free) == 0;
}

static struct cache *cache_get(void)
{
	if (cache)
		return cache;
	pthread_once(&once, init_once);
	if (!cache_key_made)
		return NULL;
	cache = secret_alloc(sizeof(*cache));
	if (cache)
		pthread_setspecific(cache_key, cache);
	return cache;
}

void cipher_forget(void)
{
	if (!cache)
		return;
	pthread_setspecific(cache_key, NULL);
	cache_free(cache);
}

bool cipher_suite_known(uint8_t suite)
{
	return suite == CIPHER_AES_256_GCM || suite == CIPHER_XCHACHA20_POLY1305;
}

uint8_t cipher_suite_default(void)
{
	return crypto_aead_aes256gcm_is_available() ? CIPHER_AES_256_GCM : CIPHER_XCHACHA20_POLY1305;
}

static bool slot_fits(const struct slot *s, const struct cipher_file *f, const uint8_t *salt, bool sealing)
{
	return s->used && s->sealing == sealing && s->suite == f->suite &&
	       memcmp(s->salt, salt, CIPHER_SALT_BYTES) == 0 && memcmp(&s->id, &f->id, sizeof(s->id)) == 0;
}

static int slot_fill(struct slot *s, const struct cipher_file *f, const uint8_t *salt, bool sealing)
{
	int r;

	s->used = false;
	crypto_generichash_blake2b_salt_personal(s->subkey.b, sizeof(s->subkey.b), NULL, 0, f->key->b,
		sizeof(f->key->b), salt, personal_sector);
	if (f->suite == CIPHER_AES_256_GCM) {
		if (!s->aes)
			s->aes = aes_gcm_new(AES_GCM_BEST);
		r = s->aes ? aes_gcm_key(s->aes, s->subkey.b, sealing) : -ENOMEM;
		key32_wipe(&s->subkey);
		if (r < 0)
			return r;
	}
	s->sealing = sealing;
	s->suite = f->suite;
	s->id = f->id;
	memcpy(s->salt, salt, CIPHER_SALT_BYTES);
	s->used = true;
	return 0;
}

static int slot_get(const struct cipher_file *f, const uint8_t *salt, bool sealing, struct slot **ret)
{
	struct cache *c = cache_get();
	unsigned i;
	int r;

	if (!c)
		return -ENOMEM;
	if (slot_fits(&c->slots[c->last], f, salt, sealing)) {
		*ret = &c->slots[c->last];
		return 0;
	}
	for (i = 0; i < CACHE_SLOTS; i++)
		if (slot_fits(&c->slots[i], f, salt, sealing))
			break;
	if (i == CACHE_SLOTS) {
		i = c->next;
		c->next = (c->next + 1) % CACHE_SLOTS;
		r = slot_fill(&c->slots[i], f, salt, sealing);
		if (r < 0)
			return r;
	}
	c->last = i;
	*ret = &c->slots[i];
	return 0;
}

static void nonce_bytes(const struct cipher_nonce *nonce, uint8_t out[XCHACHA_NONCE_BYTES])
{
	struct bytes_writer w;

	bytes_writer_init(&w, out, XCHACHA_NONCE_BYTES);
	bytes_put_u64(&w, nonce->counter);
	bytes_put_zeros(&w, XCHACHA_NONCE_BYTES - 8);
}

int cipher_seal(const struct cipher_file *f, const struct cipher_nonce *nonce, const void *ad, size_t ad_len,
	const uint8_t *plain, size_t n, uint8_t *out, uint8_t tag[CIPHER_TAG_BYTES])
{
	uint8_t iv[XCHACHA_NONCE_BYTES];
	struct slot *s;
	int r;

	r = slot_get(f, nonce->salt, true, &s);
	if (r < 0)
		return r;
	nonce_bytes(nonce, iv);
	if (f->suite == CIPHER_XCHACHA20_POLY1305) {
		crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
			out, tag, NULL, plain, n, ad, ad_len, NULL, iv, s->subkey.b);
		return 0;
	}
	r = aes_gcm_seal(s->aes, iv, ad, ad_len, plain, n, out, tag);
	if (r < 0)
		s->used = false;
	return r;
}

int cipher_open(const struct cipher_file *f, const struct cipher_nonce *nonce, const void *ad, size_t ad_len,
	const uint8_t *in, size_t n, const uint8_t tag[CIPHER_TAG_BYTES], uint8_t *plain)
{
	uint8_t iv[XCHACHA_NONCE_BYTES];
	struct slot *s;
	int r;

	r = slot_get(f, nonce->salt, false, &s);
	if (r < 0)
		return r;
	nonce_bytes(nonce, iv);
	if (f->suite == CIPHER_XCHACHA20_POLY1305)
		r = crypto_aead_xchacha20poly1305_ietf_decrypt_detached(plain, NULL, in, n, tag, ad, ad_len, iv, s->subkey.b);
	else
		r = aes_gcm_open(s->aes, iv, ad, ad_len, in, n, tag, plain);
	if (r == 0)
		return 0;
	sodium_memzero(plain, n);
	return -EBADMSG;
}
