/* AES-256-GCM: published vectors, and the two libraries against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/secret.h"
#include "fs/store/aes_gcm.h"

#define AD 32
#define MAX 4096

static struct aes_gcm *best, *openssl;

static int setup(void **state)
{
	if (secret_init(1u << 20) < 0 || !aes_gcm_init())
		return -1;
	best = aes_gcm_new(AES_GCM_BEST);
	openssl = aes_gcm_new(AES_GCM_OPENSSL);
	return best && openssl ? 0 : -1;
}

static int teardown(void **state)
{
	aes_gcm_free(best);
	aes_gcm_free(openssl);
	aes_gcm_free(NULL);
	assert_int_equal(secret_in_use(), 0);
	secret_done();
	return 0;
}

static size_t from_hex(const char *hex, uint8_t *out, size_t cap)
{
	size_t n;

	assert_int_equal(sodium_hex2bin(out, cap, hex, strlen(hex), NULL, &n, NULL), 0);
	return n;
}

/* McGrew and Viega, The Galois/Counter Mode of Operation, test case 16. */
static void known_answer(void **state)
{
	static const char key_hex[] = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
	static const char plain_hex[] = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525"
					"b16aedf5aa0de657ba637b39";
	static const char cipher_hex[] = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838"
					 "c5f61e6393ba7a0abcc9f662";
	struct aes_gcm *const both[] = {best, openssl};
	uint8_t key[32], nonce[AES_GCM_NONCE_BYTES], ad[20], plain[60], expected[60], tag[16], expected_tag[16], out[60];

	from_hex(key_hex, key, sizeof(key));
	from_hex("cafebabefacedbaddecaf888", nonce, sizeof(nonce));
	from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2", ad, sizeof(ad));
	assert_int_equal(from_hex(plain_hex, plain, sizeof(plain)), 60);
	assert_int_equal(from_hex(cipher_hex, expected, sizeof(expected)), 60);
	from_hex("76fc6ece0f4e1768cddf8853bb2d551b", expected_tag, sizeof(expected_tag));
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(aes_gcm_key(both[i], key, true), 0);
		assert_int_equal(aes_gcm_seal(both[i], nonce, ad, sizeof(ad), plain, sizeof(plain), out, tag), 0);
		assert_memory_equal(out, expected, sizeof(out));
		assert_memory_equal(tag, expected_tag, sizeof(tag));
	}
}

static void both_libraries_agree(void **state)
{
	static uint8_t plain[MAX], a[MAX], b[MAX], back[MAX];
	static const size_t lengths[] = {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257, 511, 1024, 1025, 2047, 3000, 4031, 4032, MAX};
	uint8_t key[32], nonce[AES_GCM_NONCE_BYTES], ad[AD], tag_a[16], tag_b[16];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t n = lengths[i];

		randombytes_buf(key, sizeof(key));
		randombytes_buf(nonce, sizeof(nonce));
		randombytes_buf(ad, sizeof(ad));
		randombytes_buf(plain, n);
		assert_int_equal(aes_gcm_key(best, key, true), 0);
		assert_int_equal(aes_gcm_key(openssl, key, true), 0);
		assert_int_equal(aes_gcm_seal(best, nonce, ad, AD, plain, n, a, tag_a), 0);
		assert_int_equal(aes_gcm_seal(openssl, nonce, ad, AD, plain, n, b, tag_b), 0);
		assert_memory_equal(a, b, n);
		assert_memory_equal(tag_a, tag_b, sizeof(tag_a));
		assert_int_equal(aes_gcm_key(best, key, false), 0);
		assert_int_equal(aes_gcm_key(openssl, key, false), 0);
		assert_int_equal(aes_gcm_open(best, nonce, ad, AD, b, n, tag_b, back), 0);
		assert_memory_equal(back, plain, n);
		assert_int_equal(aes_gcm_open(openssl, nonce, ad, AD, a, n, tag_a, a), 0); /* in place */
		assert_memory_equal(a, plain, n);
		assert_int_equal(aes_gcm_open(best, nonce, ad, AD, b, n, tag_b, b), 0);
		assert_memory_equal(b, plain, n);
	}
}

/* One bit in any of the inputs, one after another. */
static void what_was_changed_is_refused(void **state)
{
	struct aes_gcm *const both[] = {best, openssl};
	uint8_t key[32] = {1}, nonce[AES_GCM_NONCE_BYTES] = {2}, ad[AD] = {3}, plain[100] = {4}, sealed[100], tag[16], out[100];
	struct {
		uint8_t *at;
		size_t n;
	} parts[] = {{nonce, sizeof(nonce)}, {ad, sizeof(ad)}, {sealed, sizeof(sealed)}, {tag, sizeof(tag)}};

	assert_int_equal(aes_gcm_key(best, key, true), 0);
	assert_int_equal(aes_gcm_seal(best, nonce, ad, AD, plain, sizeof(plain), sealed, tag), 0);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(aes_gcm_key(both[i], key, false), 0);
		for (size_t p = 0; p < 4; p++) {
			for (size_t bit = 0; bit < parts[p].n * 8; bit++) {
				parts[p].at[bit / 8] ^= (uint8_t)(1u << bit % 8);
				assert_int_equal(
					aes_gcm_open(both[i], nonce, ad, AD, sealed, sizeof(sealed), tag, out), -EBADMSG);
				parts[p].at[bit / 8] ^= (uint8_t)(1u << bit % 8);
			}
		}
		assert_int_equal(aes_gcm_open(both[i], nonce, ad, AD, sealed, sizeof(sealed), tag, out), 0);
		assert_memory_equal(out, plain, sizeof(plain));
		key[0] ^= 1;
		assert_int_equal(aes_gcm_key(both[i], key, false), 0);
		assert_int_equal(aes_gcm_open(both[i], nonce, ad, AD, sealed, sizeof(sealed), tag, out), -EBADMSG);
		key[0] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answer),
		cmocka_unit_test(both_libraries_agree),
		cmocka_unit_test(what_was_changed_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
