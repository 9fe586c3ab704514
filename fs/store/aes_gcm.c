#include "fs/store/aes_gcm.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#if COFFER_IPSEC_MB
#include <intel-ipsec-mb.h>
#endif

#include "common/secret.h"

struct aes_gcm {
#if COFFER_IPSEC_MB
	struct gcm_key_data key;
	struct gcm_context_data state; /* of one message; here for what it says of the key stream */
#endif
	bool fast;
	EVP_CIPHER_CTX *ctx; /* OpenSSL's, when not fast */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *aes;

#if COFFER_IPSEC_MB
static IMB_MGR *fast; /* a table of functions as far as it is used here, so threads share it */

static void fast_init(void)
{
	const uint64_t needed = IMB_FEATURE_AESNI | IMB_FEATURE_PCLMULQDQ | IMB_FEATURE_SELF_TEST_PASS;

	fast = alloc_mb_mgr(0);
	if (!fast)
		return;
	init_mb_mgr_auto(fast, NULL);
	if (imb_get_errno(fast) != 0 || (fast->features & needed) != needed) {
		free_mb_mgr(fast);
		fast = NULL;
	}
}
#endif

static void init_once(void)
{
	aes = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
#if COFFER_IPSEC_MB
	fast_init();
#endif
}

bool aes_gcm_is_fast(void)
{
	pthread_once(&once, init_once);
#if COFFER_IPSEC_MB
	return fast && (fast->features & IMB_FEATURE_VAES);
#else
	return false;
#endif
}

const char *aes_gcm_init(void)
{
	pthread_once(&once, init_once);
#if COFFER_IPSEC_MB
	if (fast)
		return "intel-ipsec-mb";
#endif
	return "OpenSSL";
}

struct aes_gcm *aes_gcm_new(enum aes_gcm_by by)
{
	struct aes_gcm *a;

	pthread_once(&once, init_once);
	if (!aes)
		return NULL;
	a = secret_alloc(sizeof(*a)); /* aligned as the library wants it */
	if (!a)
		return NULL;
#if COFFER_IPSEC_MB
	a->fast = by == AES_GCM_BEST && fast;
#endif
	if (!a->fast)
		a->ctx = EVP_CIPHER_CTX_new();
	if (!a->fast && !a->ctx) {
		secret_free(a);
		return NULL;
	}
	return a;
}

void aes_gcm_free(struct aes_gcm *a)
{
	if (!a)
		return;
	EVP_CIPHER_CTX_free(a->ctx);
	secret_free(a);
}

int aes_gcm_key(struct aes_gcm *a, const uint8_t key[32], bool sealing)
{
#if COFFER_IPSEC_MB
	if (a->fast) {
		IMB_AES256_GCM_PRE(fast, key, &a->key);
		return 0;
	}
#endif
	return EVP_CipherInit_ex(a->ctx, aes, NULL, key, NULL, sealing) == 1 ? 0 : -ENOMEM;
}

int aes_gcm_seal(struct aes_gcm *a, const uint8_t nonce[AES_GCM_NONCE_BYTES], const void *ad, size_t ad_len, const uint8_t *plain,
	size_t n, uint8_t *out, uint8_t tag[AES_GCM_TAG_BYTES])
{
	int len;

#if COFFER_IPSEC_MB
	if (a->fast) {
		IMB_AES256_GCM_ENC(fast, &a->key, &a->state, out, plain, n, nonce, ad, ad_len, tag, AES_GCM_TAG_BYTES);
		return 0;
	}
#endif
	if (EVP_EncryptInit_ex(a->ctx, NULL, NULL, NULL, nonce) != 1 ||
		EVP_EncryptUpdate(a->ctx, NULL, &len, ad, (int)ad_len) != 1 ||
		EVP_EncryptUpdate(a->ctx, out, &len, plain, (int)n) != 1 ||
		EVP_EncryptFinal_ex(a->ctx, out + len, &len) != 1 ||
		EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_GET_TAG, AES_GCM_TAG_BYTES, tag) != 1)
		return -EIO;
	return 0;
}

int aes_gcm_open(struct aes_gcm *a, const uint8_t nonce[AES_GCM_NONCE_BYTES], const void *ad, size_t ad_len, const uint8_t *in,
	size_t n, const uint8_t tag[AES_GCM_TAG_BYTES], uint8_t *plain)
{
	uint8_t mine[AES_GCM_TAG_BYTES];
	int len;

#if COFFER_IPSEC_MB
	if (a->fast) {
		IMB_AES256_GCM_DEC(fast, &a->key, &a->state, plain, in, n, nonce, ad, ad_len, mine, AES_GCM_TAG_BYTES);
		return sodium_memcmp(mine, tag, sizeof(mine)) == 0 ? 0 : -EBADMSG;
	}
#endif
	memcpy(mine, tag, sizeof(mine));
	if (EVP_DecryptInit_ex(a->ctx, NULL, NULL, NULL, nonce) == 1 &&
		EVP_DecryptUpdate(a->ctx, NULL, &len, ad, (int)ad_len) == 1 &&
		EVP_DecryptUpdate(a->ctx, plain, &len, in, (int)n) == 1 &&
		EVP_CIPHER_CTX_ctrl(a->ctx, EVP_CTRL_AEAD_SET_TAG, AES_GCM_TAG_BYTES, mine) == 1 &&
		EVP_DecryptFinal_ex(a->ctx, plain + len, &len) == 1)
		return 0;
	return -EBADMSG;
}
