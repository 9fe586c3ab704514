#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "common/subject.h"

static int add(struct subjects **s, const char *id)
{
	return subjects_add(s, id, strlen(id), SUBJECTS_BYTES_MAX);
}

static void test_texts(void **state)
{
	char most[SUBJECT_ID_MAX + 1];

	memset(most, 'x', sizeof(most));
	assert_true(subject_id_ok(most, SUBJECT_ID_MAX));
	assert_false(subject_id_ok(most, SUBJECT_ID_MAX + 1));
	assert_false(subject_id_ok("", 0));
	assert_true(subject_id_ok("Jos\xc3\xa9 / 12 ", 11));
	assert_true(subject_id_ok("..", 2)); /* no path */
	assert_true(subject_id_ok("\xc2\xa0", 2));
	assert_false(subject_id_ok("\xc2\x85", 2));
	assert_false(subject_id_ok("\xc2", 1));
	assert_false(subject_id_ok("a\0b", 3));
	assert_false(subject_id_ok("a\nb", 3));
	assert_false(subject_id_ok("\x1b[0m", 4));
	assert_false(subject_id_ok("a\x7f", 2));
	assert_false(subject_id_ok("\xff\xfe", 2));
	assert_false(subject_id_ok("\xed\xa0\x80", 3)); /* half a surrogate */
}

static void test_set(void **state)
{
	struct subjects *s = NULL, *t = NULL;
	size_t at = 0, n;
	const char *id;

	assert_true(subjects_is_empty(s) && !subjects_has(s, "a", 1) && !subjects_next(s, &at, &id, &n));
	assert_int_equal(add(&s, "bob"), 1);
	assert_int_equal(add(&s, "bo"), 1);
	assert_int_equal(add(&s, "alice"), 1);
	assert_int_equal(add(&s, "bob"), 0);
	assert_int_equal(add(&s, ""), -EINVAL);
	assert_true(subjects_next(s, &at, &id, &n) && n == 5 && memcmp(id, "alice", 5) == 0);
	assert_true(subjects_next(s, &at, &id, &n) && n == 2 && memcmp(id, "bo", 2) == 0);
	assert_true(subjects_next(s, &at, &id, &n) && n == 3 && memcmp(id, "bob", 3) == 0);
	assert_false(subjects_next(s, &at, &id, &n));
	assert_true(subjects_has(s, "bo", 2) && !subjects_has(s, "b", 1) && !subjects_has(s, "Bob", 3));
	assert_int_equal(add(&t, "bob"), 1);
	assert_true(subjects_cover(s, t) && !subjects_cover(t, s) && subjects_cover(t, NULL) && !subjects_cover(NULL, t));
	assert_false(subjects_has_other(t, "bob", 3));
	assert_true(subjects_has_other(s, "bob", 3));
	assert_int_equal(subjects_add_all(&t, s, SUBJECTS_BYTES_MAX), 1);
	assert_int_equal(subjects_add_all(&t, s, SUBJECTS_BYTES_MAX), 0);
	assert_true(subjects_remove(s, "bo", 2) && !subjects_remove(s, "bo", 2));
	assert_true(subjects_remove(s, "bob", 3) && subjects_remove(s, "alice", 5));
	assert_true(subjects_is_empty(s));
	subjects_free(s);
	subjects_free(t);
}

static void test_limit(void **state)
{
	struct subjects *s = NULL;
	char id[SUBJECT_ID_MAX];

	for (int i = 0; i < 4; i++) {
		memset(id, 'a' + i, sizeof(id));
		assert_int_equal(subjects_add(&s, id, sizeof(id), SUBJECTS_BYTES_MAX), 1);
	}
	assert_int_equal(add(&s, "z"), -ENOSPC);
	assert_int_equal(subjects_add(&s, id, sizeof(id), SUBJECTS_BYTES_MAX), 0);
	subjects_free(s);
}

static void test_bytes(void **state)
{
	uint8_t bytes[SUBJECTS_STORED_MAX], bad[SUBJECTS_STORED_MAX + 64];
	struct subjects *s = NULL, *back = NULL;
	size_t n;

	assert_int_equal(add(&s, "bob"), 1);
	assert_int_equal(add(&s, "alice"), 1);
	n = subjects_encode(s, bytes);
	assert_int_equal(n, 64);
	assert_memory_equal(bytes, "\x01\x05" "alice\x03" "bob\0\0", 13);
	assert_int_equal(subjects_decode(bytes, n, &back), 0);
	assert_true(subjects_cover(back, s) && subjects_cover(s, back));
	subjects_free(back);
	back = NULL;
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(subjects_decode(bytes, cut, &back), -EBADMSG);
	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			memcpy(bad, bytes, n);
			bad[i] ^= (uint8_t)(1 << bit);
			if (subjects_decode(bad, n, &back) == 0) { /* other labels, then: as long as before */
				assert_true(i > 1 && !(subjects_cover(back, s) && subjects_cover(s, back)));
				subjects_free(back);
				back = NULL;
			}
			assert_null(back);
		}
	memcpy(bad, "\x01\x03" "bob\x05" "alice", 12); /* not in order */
	memset(bad + 12, 0, 52);
	assert_int_equal(subjects_decode(bad, 64, &back), -EBADMSG);
	memcpy(bad, "\x01\x03" "bob\x03" "bob", 9);
	memset(bad + 9, 0, 55);
	assert_int_equal(subjects_decode(bad, 64, &back), -EBADMSG);
	memcpy(bad, bytes, n);
	memset(bad + n, 0, 64); /* more zeros than need be */
	assert_int_equal(subjects_decode(bad, n + 64, &back), -EBADMSG);
	memset(bad, 0, 64);
	bad[0] = 1; /* none at all */
	assert_int_equal(subjects_decode(bad, 64, &back), -EBADMSG);
	subjects_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
