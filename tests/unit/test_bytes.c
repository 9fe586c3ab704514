#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"

static void test_round_trip(void **state)
{
	uint8_t buf[64];
	struct bytes_writer w;
	struct bytes_reader r;
	char text[4];

	bytes_writer_init(&w, buf, sizeof(buf));
	bytes_put_u8(&w, 0xa1);
	bytes_put_u16(&w, 0xb1b2);
	bytes_put_u32(&w, 0xc1c2c3c4);
	bytes_put_u64(&w, 0xd1d2d3d4d5d6d7d8);
	bytes_put(&w, "abc", 4);
	bytes_put_zeros(&w, 3);
	bytes_put(&w, NULL, 0);
	assert_true(bytes_writer_ok(&w));
	assert_int_equal(bytes_writer_size(&w), 22);
	assert_memory_equal(buf,
		"\xa1\xb2\xb1\xc4\xc3\xc2\xc1\xd8\xd7\xd6\xd5\xd4\xd3\xd2\xd1"
		"abc\0\0\0\0",
		22);

	bytes_reader_init(&r, buf, 22);
	assert_int_equal(bytes_get_u8(&r), 0xa1);
	assert_int_equal(bytes_get_u16(&r), 0xb1b2);
	assert_int_equal(bytes_get_u32(&r), 0xc1c2c3c4);
	assert_true(bytes_get_u64(&r) == 0xd1d2d3d4d5d6d7d8);
	assert_int_equal(bytes_reader_left(&r), 7);
	bytes_get(&r, text, 4);
	assert_string_equal(text, "abc");
	assert_false(bytes_reader_end(&r));
	assert_true(bytes_get_zeros(&r, 3));
	assert_true(bytes_reader_end(&r));
}

/* Every getter and every length: short by one byte is failure, and it stays. */
static void test_reader_overruns(void **state)
{
	uint8_t buf[8] = {1, 2, 3, 4, 5, 6, 7, 8}, to[8];
	struct bytes_reader r;

	for (size_t have = 0; have < 8; have++) {
		bytes_reader_init(&r, buf, have);
		assert_true(bytes_get_u64(&r) == 0);
		assert_true(r.failed);
		assert_int_equal(bytes_get_u8(&r), 0);
		assert_int_equal(bytes_reader_left(&r), 0);
		assert_false(bytes_reader_end(&r));

		bytes_reader_init(&r, buf, have);
		memset(to, 0xff, sizeof(to));
		bytes_get(&r, to, 8);
		assert_memory_equal(to, "\0\0\0\0\0\0\0\0", 8);
		assert_true(r.failed);

		bytes_reader_init(&r, buf, have);
		assert_null(bytes_get_ref(&r, have + 1));
		assert_null(bytes_get_ref(&r, 0));
	}
	bytes_reader_init(&r, buf, 1);
	assert_int_equal(bytes_get_u16(&r), 0);
	bytes_reader_init(&r, buf, 3);
	assert_int_equal(bytes_get_u32(&r), 0);
	assert_true(r.failed);
	bytes_reader_init(&r, buf, 8);
	assert_null(bytes_get_ref(&r, SIZE_MAX));
	assert_true(r.failed);
}

static void test_reader_zeros(void **state)
{
	uint8_t buf[4] = {0, 0, 1, 0};
	struct bytes_reader r;

	bytes_reader_init(&r, buf, sizeof(buf));
	assert_true(bytes_get_zeros(&r, 2));
	assert_false(bytes_get_zeros(&r, 2));
	assert_true(r.failed);
	bytes_reader_init(&r, buf, 2);
	assert_false(bytes_get_zeros(&r, 3));
	assert_false(bytes_reader_end(&r));
	bytes_reader_init(&r, buf, 0);
	assert_true(bytes_get_zeros(&r, 0));
	assert_true(bytes_reader_end(&r));
}

static void test_reader_ref(void **state)
{
	uint8_t buf[4] = {1, 2, 3, 4};
	struct bytes_reader r;

	bytes_reader_init(&r, buf, sizeof(buf));
	(void)bytes_get_u8(&r);
	assert_ptr_equal(bytes_get_ref(&r, 3), buf + 1);
	assert_true(bytes_reader_end(&r));
}

static void test_writer_overruns(void **state)
{
	uint8_t buf[16];
	struct bytes_writer w;

	for (size_t room = 0; room < 8; room++) {
		memset(buf, 0xee, sizeof(buf));
		bytes_writer_init(&w, buf, room);
		bytes_put_u64(&w, 0);
		assert_false(bytes_writer_ok(&w));
		bytes_put_u8(&w, 0); /* would fit, but the object is in error */
		bytes_put_zeros(&w, 0);
		assert_false(bytes_writer_ok(&w));
		assert_int_equal(bytes_writer_size(&w), 0);
		for (size_t i = 0; i < sizeof(buf); i++)
			assert_int_equal(buf[i], 0xee);
	}
	bytes_writer_init(&w, buf, 3);
	bytes_put(&w, "abcd", 4);
	assert_false(bytes_writer_ok(&w));
	bytes_writer_init(&w, buf, 3);
	bytes_put_zeros(&w, SIZE_MAX);
	assert_false(bytes_writer_ok(&w));
	bytes_writer_init(&w, buf, 3);
	bytes_put(&w, "abc", 3);
	assert_true(bytes_writer_ok(&w));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_reader_overruns),
		cmocka_unit_test(test_reader_zeros),
		cmocka_unit_test(test_reader_ref),
		cmocka_unit_test(test_writer_overruns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
