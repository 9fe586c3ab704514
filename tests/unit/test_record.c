#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/record.h"

static const uint8_t sealed[40] = "forty bytes that stand for a sealed path";

static struct record sample_path(void)
{
	return (struct record){.kind = RECORD_KIND_PATH,
		.path = {.ref = 7, .month = 2500, .sealed_len = 40, .sealed = sealed}};
}

static struct record sample_process(void)
{
	return (struct record){.kind = RECORD_KIND_PROCESS,
		.process = {.ref = 3, .pid = 4711, .loginuid = 1000, .comm = "rsync"}};
}

static struct record sample_access(void)
{
	struct record r = {.kind = RECORD_KIND_ACCESS,
		.access = {.session = 0x1122334455667788,
			.time_ns = 1700000000123456789,
			.op = RECORD_OPEN,
			.flags = RECORD_READ | RECORD_WRITE,
			.outcome = 13,
			.path = 7,
			.path2 = 8,
			.process = 3,
			.size = 1 << 20,
			.bytes_read = 17,
			.bytes_written = 18,
			.detail = "forged handle"}};

	memset(r.access.file.b, 0xab, sizeof(r.access.file.b));
	return r;
}

static void test_path(void **state)
{
	struct record in = sample_path(), out;
	uint8_t buf[RECORD_BYTES_MAX];
	int n = record_encode(&in, buf, sizeof(buf));

	assert_true(n > 0);
	assert_int_equal(record_decode(buf, (size_t)n, &out), 0);
	assert_int_equal(out.path.ref, 7);
	assert_int_equal(out.path.month, 2500);
	assert_int_equal(out.path.sealed_len, 40);
	assert_memory_equal(out.path.sealed, sealed, 40);
}

static void test_access(void **state)
{
	struct record in = sample_access(), out;
	uint8_t buf[RECORD_BYTES_MAX];
	int n = record_encode(&in, buf, sizeof(buf));

	assert_true(n > 0);
	assert_int_equal(record_decode(buf, (size_t)n, &out), 0);
	assert_memory_equal(&in.access, &out.access, sizeof(in.access));
}

static void test_process(void **state)
{
	struct record in = sample_process(), out;
	uint8_t buf[RECORD_BYTES_MAX];
	int n = record_encode(&in, buf, sizeof(buf));

	assert_true(n > 0);
	assert_int_equal(record_decode(buf, (size_t)n, &out), 0);
	assert_memory_equal(&in.process, &out.process, sizeof(in.process));
}

static void test_largest_path_fits(void **state)
{
	static uint8_t text[RECORD_PATH_MAX + 1];
	uint8_t buf[RECORD_BYTES_MAX];
	struct record in = sample_path(), out;
	int n;

	in.path.sealed = text;
	in.path.sealed_len = RECORD_PATH_MAX;
	n = record_encode(&in, buf, sizeof(buf));
	assert_true(n > RECORD_PATH_MAX);
	assert_int_equal(record_decode(buf, (size_t)n, &out), 0);
	in.path.sealed_len++;
	assert_int_equal(record_encode(&in, buf, sizeof(buf)), -EMSGSIZE);
}

static void test_no_room_is_refused(void **state)
{
	struct record samples[] = {sample_path(), sample_access(), sample_process()};
	uint8_t buf[RECORD_BYTES_MAX];

	for (size_t i = 0; i < 3; i++) {
		int n = record_encode(&samples[i], buf, sizeof(buf));

		for (int cap = 0; cap < n; cap++)
			assert_int_equal(record_encode(&samples[i], buf, (size_t)cap), -EMSGSIZE);
	}
}

static void test_unknown_is_refused(void **state)
{
	struct record in = sample_access(), out;
	uint8_t buf[RECORD_BYTES_MAX];
	int n;

	in.kind = 9;
	assert_true(record_encode(&in, buf, sizeof(buf)) < 0);
	in = sample_access();
	in.access.op = 200;
	n = record_encode(&in, buf, sizeof(buf));
	assert_int_equal(record_decode(buf, (size_t)n, &out), -EBADMSG);
	in = sample_access();
	in.access.flags = 0x80;
	n = record_encode(&in, buf, sizeof(buf));
	assert_int_equal(record_decode(buf, (size_t)n, &out), -EBADMSG);
	in = sample_access();
	in.access.detail[0] = '\n';
	n = record_encode(&in, buf, sizeof(buf));
	assert_int_equal(record_decode(buf, (size_t)n, &out), -EBADMSG);
	in = sample_path();
	in.path.ref = 0;
	n = record_encode(&in, buf, sizeof(buf));
	assert_int_equal(record_decode(buf, (size_t)n, &out), -EBADMSG);
	in = sample_path();
	in.path.sealed_len = 23; /* shorter than the seal's own overhead */
	n = record_encode(&in, buf, sizeof(buf));
	assert_int_equal(record_decode(buf, (size_t)n, &out), -EBADMSG);
}

/* Every truncation and every added byte is refused; a flipped bit is refused or decodes to something that
 * encodes to the same bytes again: there is one form of each record. */
static void test_mutations(void **state)
{
	struct record samples[] = {sample_path(), sample_access(), sample_process()}, out;
	uint8_t buf[RECORD_BYTES_MAX], again[RECORD_BYTES_MAX];

	for (size_t i = 0; i < 3; i++) {
		int n = record_encode(&samples[i], buf, sizeof(buf));

		for (int cut = 0; cut < n; cut++)
			assert_int_equal(record_decode(buf, (size_t)cut, &out), -EBADMSG);
		buf[n] = 0;
		assert_int_equal(record_decode(buf, (size_t)n + 1, &out), -EBADMSG);
		for (int bit = 0; bit < 8 * n; bit++) {
			buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
			if (record_decode(buf, (size_t)n, &out) == 0) {
				assert_int_equal(record_encode(&out, again, sizeof(again)), n);
				assert_memory_equal(again, buf, n);
			}
			buf[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

static void test_names(void **state)
{
	assert_string_equal(record_op_name(RECORD_OPEN), "open");
	assert_string_equal(record_op_name(RECORD_SESSION_END), "session-end");
	assert_string_equal(record_op_name(0), "?");
	assert_string_equal(record_op_name(RECORD_SUBJECT_UNLABEL), "subject-unlabel");
	assert_string_equal(record_op_name(RECORD_SOURCE + 1), "?");
	assert_string_equal(record_op_name(1000000), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_process),
		cmocka_unit_test(test_largest_path_fits),
		cmocka_unit_test(test_no_room_is_refused),
		cmocka_unit_test(test_unknown_is_refused),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
