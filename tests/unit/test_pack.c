#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/scope.h"
#include "fs/broker/pack.h"

static uint64_t state = 88172645463325252u;

static uint64_t random64(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Any width, the extremes among them. */
static int64_t random_number(void)
{
	static const int64_t extremes[] = {0, 1, INT64_MAX, INT64_MIN, -1};
	unsigned kind = (unsigned)(random64() % 20);

	return kind < ARRAY_SIZE(extremes) ? extremes[kind] : (int64_t)(random64() >> random64() % 64);
}

static void fill(struct pack_record *r, size_t n)
{
	memset(r, 0, n * sizeof(*r));
	for (size_t i = 0; i < n; i++) {
		r[i].time = random_number();
		r[i].session = random_number();
		r[i].path = random_number();
		r[i].path2 = random_number();
		r[i].process = random_number();
		r[i].size = random_number();
		r[i].bytes_read = random_number();
		r[i].bytes_written = random_number();
		r[i].op = (uint8_t)random64();
		r[i].flags = (uint8_t)random64();
		r[i].outcome = (uint16_t)random64();
		r[i].has_file = random64() % 4;
		if (r[i].has_file && i && random64() % 2 && r[i - 1].has_file)
			r[i].file = r[i - 1].file;
		else if (r[i].has_file)
			for (size_t b = 0; b < sizeof(r[i].file.b); b++)
				r[i].file.b[b] = (uint8_t)(random64() % 3);
		r[i].detail_len = (uint8_t)(random64() % PACK_DETAIL_MAX);
		for (size_t b = 0; b < r[i].detail_len; b++)
			r[i].detail[b] = (char)random64();
	}
}

static void assert_same(const struct pack_record *a, const struct pack_record *b)
{
	assert_int_equal(a->time, b->time);
	assert_int_equal(a->session, b->session);
	assert_int_equal(a->path, b->path);
	assert_int_equal(a->path2, b->path2);
	assert_int_equal(a->process, b->process);
	assert_int_equal(a->size, b->size);
	assert_int_equal(a->bytes_read, b->bytes_read);
	assert_int_equal(a->bytes_written, b->bytes_written);
	assert_int_equal(a->op, b->op);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->outcome, b->outcome);
	assert_int_equal(a->has_file, b->has_file);
	if (a->has_file)
		assert_memory_equal(&a->file, &b->file, sizeof(a->file));
	assert_int_equal(a->detail_len, b->detail_len);
	assert_memory_equal(a->detail, b->detail, a->detail_len);
}

static void test_there_and_back(void **unused)
{
	scoped(freep) struct pack_record *in = calloc(PACK_RECORDS_MAX, sizeof(*in));
	scoped(freep) struct pack_record *out = calloc(PACK_RECORDS_MAX, sizeof(*out));

	for (unsigned round = 0; round < 60; round++) {
		size_t n = round % 10 == 9 ? PACK_RECORDS_MAX : 1 + random64() % 100, got, bytes;
		uint8_t *data;

		fill(in, n);
		assert_int_equal(pack_encode(in, n, &data, &bytes), 0);
		assert_int_equal(pack_decode(data, bytes, out, &got), 0);
		assert_int_equal(got, n);
		for (size_t i = 0; i < n; i++)
			assert_same(&in[i], &out[i]);
		free(data);
	}
}

static void test_sizes(void **unused)
{
	struct pack_record r = {0};
	uint8_t *data;
	size_t n;

	assert_int_equal(pack_encode(&r, 0, &data, &n), -EINVAL);
	assert_int_equal(pack_encode(&r, PACK_RECORDS_MAX + 1, &data, &n), -EINVAL);
}

/* Each bit turned, each length cut: refused, or something that is packed again in another way (the checksum of the stream
 * makes that rare); never more than the room for it. */
static void test_damage(void **unused)
{
	scoped(freep) struct pack_record *out = calloc(PACK_RECORDS_MAX, sizeof(*out));
	struct pack_record in[20];
	unsigned refused = 0;
	uint8_t *data;
	size_t n, got;

	fill(in, ARRAY_SIZE(in));
	assert_int_equal(pack_encode(in, ARRAY_SIZE(in), &data, &n), 0);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(pack_decode(data, cut, out, &got), -EUCLEAN);
	for (size_t bit = 0; bit < n * 8; bit++) {
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		if (pack_decode(data, n, out, &got) == -EUCLEAN)
			refused++;
		else
			assert_true(got <= PACK_RECORDS_MAX);
		data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_true(refused > n * 8 - 20);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
