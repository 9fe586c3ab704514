#include <errno.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/pathseal.h"

#define TEXT_MAX 300

static const struct key32 key = {{1, 2, 3}};

static int setup(void **state)
{
	return sodium_init() < 0 ? -1 : 0;
}

static void test_round_trip_all_lengths(void **state)
{
	uint8_t text[TEXT_MAX], sealed[TEXT_MAX + PATHSEAL_OVERHEAD], again[TEXT_MAX + PATHSEAL_OVERHEAD],
		back[TEXT_MAX];

	for (size_t n = 0; n <= TEXT_MAX; n++) {
		randombytes_buf(text, n);
		pathseal_seal(&key, "dir", 3, text, n, sealed);
		pathseal_seal(&key, "dir", 3, text, n, again);
		assert_memory_equal(sealed, again, n + PATHSEAL_OVERHEAD);
		assert_int_equal(pathseal_open(&key, "dir", 3, sealed, n + PATHSEAL_OVERHEAD, back), 0);
		if (n > 0)
			assert_memory_equal(back, text, n);
		if (n > 8)
			assert_memory_not_equal(sealed + PATHSEAL_OVERHEAD, text, n);
	}
}

/* The bytes are the format: a change of the derivation must show. */
static void test_known_answer(void **state)
{
	uint8_t sealed[5 + PATHSEAL_OVERHEAD];
	char hex[2 * sizeof(sealed) + 1];

	pathseal_seal(&key, "ad", 2, "hello", 5, sealed);
	sodium_bin2hex(hex, sizeof(hex), sealed, sizeof(sealed));
	assert_string_equal(hex, "88022a623727953b1cd84fa41e8bfe441ae3114cdcd19861f893e6d000");
}

static void test_all_matters(void **state)
{
	uint8_t a[5 + PATHSEAL_OVERHEAD], b[6 + PATHSEAL_OVERHEAD], text[8];
	struct key32 other = key;

	other.b[31] ^= 1;
	pathseal_seal(&key, "ad", 2, "hello", 5, a);
	assert_int_equal(pathseal_open(&other, "ad", 2, a, sizeof(a), text), -EBADMSG);
	assert_int_equal(pathseal_open(&key, "ae", 2, a, sizeof(a), text), -EBADMSG);
	assert_int_equal(pathseal_open(&key, NULL, 0, a, sizeof(a), text), -EBADMSG);
	/* What of ad and text is which is authenticated too. */
	pathseal_seal(&key, "a", 1, "dhello", 6, b);
	assert_memory_not_equal(a, b, PATHSEAL_OVERHEAD);
	assert_int_equal(pathseal_open(&key, NULL, 0, b, sizeof(b), text), -EBADMSG);
	pathseal_seal(&key, NULL, 0, "hello", 5, a);
	assert_int_equal(pathseal_open(&key, NULL, 0, a, sizeof(a), text), 0);
	assert_memory_equal(text, "hello", 5);
}

static void test_bit_flips_and_truncations(void **state)
{
	uint8_t sealed[20 + PATHSEAL_OVERHEAD], text[20], zeros[20] = {0};

	pathseal_seal(&key, "ad", 2, "twenty bytes of text", 20, sealed);
	for (size_t bit = 0; bit < sizeof(sealed) * 8; bit++) {
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
		memset(text, 0xff, sizeof(text));
		assert_int_equal(pathseal_open(&key, "ad", 2, sealed, sizeof(sealed), text), -EBADMSG);
		assert_memory_equal(text, zeros, sizeof(text)); /* nothing unauthenticated comes out */
		sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t n = 0; n < sizeof(sealed); n++)
		assert_int_equal(pathseal_open(&key, "ad", 2, sealed, n, text), -EBADMSG);
	assert_int_equal(pathseal_open(&key, "ad", 2, sealed, sizeof(sealed), text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip_all_lengths),
		cmocka_unit_test(test_known_answer),
		cmocka_unit_test(test_all_matters),
		cmocka_unit_test(test_bit_flips_and_truncations),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
