#include "store_fixture.h"

#include <pthread.h>

struct sample {
	struct key32 key;
	struct cipher_file f;
	struct cipher_nonce nonce;
	uint8_t plain[SECTOR_DATA], b[SECTOR_BYTES];
};

static void make(struct sample *s, uint8_t suite, size_t n)
{
	randombytes_buf(s, sizeof(*s));
	s->f.suite = suite;
	s->f.key = &s->key;
	assert_int_equal(sector_seal(&s->f, &s->nonce, 7, s->plain, n, s->b), 0);
}

static void test_round_trip(void **state)
{
	static const size_t sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 4030, 4031, 4032};
	uint8_t plain[SECTOR_DATA], zeros[SECTOR_DATA] = {0};
	struct sample s;
	size_t i, n;
	uint8_t suite;

	for (suite = 1; suite <= 2; suite++)
		for (i = 0; i < ARRAY_SIZE(sizes); i++) {
			make(&s, suite, sizes[i]);
			assert_int_equal(sector_open(&s.f, 7, s.b, plain, &n), 0);
			assert_int_equal(n, sizes[i]);
			assert_memory_equal(plain, s.plain, n);
			assert_memory_equal(plain + n, zeros, SECTOR_DATA - n);
			assert_false(sector_is_hole(s.b));
		}
	memset(s.b, 0, sizeof(s.b));
	assert_true(sector_is_hole(s.b));
	assert_int_equal(sector_open(&s.f, 7, s.b, plain, &n), -EBADMSG);
}

static void test_flips(void **state)
{
	uint8_t plain[SECTOR_DATA], zeros[SECTOR_DATA] = {0};
	struct sample s;
	uint8_t suite;
	size_t i, n;

	for (suite = 1; suite <= 2; suite++) {
		make(&s, suite, 1000);
		for (i = 0; i < SECTOR_BYTES; i++) {
			s.b[i] ^= 1 << i % 8;
			assert_int_equal(sector_open(&s.f, 7, s.b, plain, &n), -EBADMSG);
			assert_memory_equal(plain, zeros, sizeof(zeros));
			s.b[i] ^= 1 << i % 8;
		}
		assert_int_equal(sector_open(&s.f, 7, s.b, plain, &n), 0);
	}
}

static void test_elsewhere(void **state)
{
	uint8_t plain[SECTOR_DATA];
	struct key32 other_key;
	struct cipher_file other;
	struct sample s;
	size_t n;

	make(&s, CIPHER_AES_256_GCM, SECTOR_DATA);
	assert_int_equal(sector_open(&s.f, 8, s.b, plain, &n), -EBADMSG);
	other = s.f;
	other.id.b[0] ^= 1;
	assert_int_equal(sector_open(&other, 7, s.b, plain, &n), -EBADMSG);
	other = s.f;
	other.suite = CIPHER_XCHACHA20_POLY1305;
	assert_int_equal(sector_open(&other, 7, s.b, plain, &n), -EBADMSG);
	/* Another key, in a thread that has the right one in its cache no more. */
	other = s.f;
	randombytes_buf(&other_key, sizeof(other_key));
	other.key = &other_key;
	cipher_forget();
	assert_int_equal(sector_open(&other, 7, s.b, plain, &n), -EBADMSG);
	cipher_forget();
	assert_int_equal(sector_open(&s.f, 7, s.b, plain, &n), 0);
}

/* More files than a thread remembers, in turn. */
static void test_many_keys(void **state)
{
	static struct sample s[30];
	uint8_t plain[SECTOR_DATA];
	size_t i, k, n;

	for (i = 0; i < ARRAY_SIZE(s); i++)
		make(&s[i], 1 + i % 2, 100 + i);
	for (k = 0; k < 3; k++)
		for (i = 0; i < ARRAY_SIZE(s); i++) {
			assert_int_equal(sector_open(&s[i].f, 7, s[i].b, plain, &n), 0);
			assert_memory_equal(plain, s[i].plain, 100 + i);
		}
}

/* Suite 1 is OpenSSL's; libsodium must read it. */
static void test_against_libsodium(void **state)
{
	static const uint8_t personal[16] = "coffer-file-sect";
	uint8_t subkey[32], nonce[12] = {0}, ad[32] = {0}, plain[SECTOR_DATA];
	struct sample s;
	int i;

	if (!crypto_aead_aes256gcm_is_available())
		skip();
	make(&s, CIPHER_AES_256_GCM, 1000);
	crypto_generichash_blake2b_salt_personal(subkey, 32, NULL, 0, s.key.b, 32, s.nonce.salt, personal);
	for (i = 0; i < 8; i++)
		nonce[i] = (uint8_t)(s.nonce.counter >> 8 * i);
	ad[0] = 1;
	ad[1] = 1;
	ad[2] = 1000 & 255;
	ad[3] = 1000 >> 8;
	ad[8] = 7;
	memcpy(ad + 16, s.f.id.b, 16);
	assert_int_equal(crypto_aead_aes256gcm_decrypt_detached(
				 plain, NULL, s.b + 64, 1000, s.b + 32, ad, sizeof(ad), nonce, subkey),
		0);
	assert_memory_equal(plain, s.plain, 1000);
}

static void *in_a_thread(void *arg)
{
	struct sample s;

	make(&s, CIPHER_AES_256_GCM, 10);
	return NULL;
}

/* What a thread remembers goes with it. */
static void test_thread_ends(void **state)
{
	size_t before = secret_in_use();
	pthread_t t;
	int i;

	for (i = 0; i < 20; i++) {
		assert_int_equal(pthread_create(&t, NULL, in_a_thread, NULL), 0);
		pthread_join(t, NULL);
	}
	assert_int_equal(secret_in_use(), before);
}

/* The arena hides the main thread's contexts from the leak checker. */
static int forget(void **state)
{
	cipher_forget();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_elsewhere),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_against_libsodium),
		cmocka_unit_test(test_thread_ends),
	};

	if (secret_init(1 << 20) < 0)
		return 1;
	return cmocka_run_group_tests_name("sector", tests, NULL, forget);
}
