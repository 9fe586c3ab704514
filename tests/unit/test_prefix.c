/* A class before a date: which prefixes that is, and when it is due. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/date.h"
#include "common/keytree.h"
#include "keyd/prefix.h"

#define DAY 86400

static bool covered(const struct prefix *p, unsigned n, uint64_t leaf)
{
	for (unsigned i = 0; i < n; i++)
		if (leaf >> (64 - p[i].bits) == p[i].prefix >> (64 - p[i].bits))
			return true;
	return false;
}

static void test_cuts(void **state)
{
	static const uint16_t some[] = {0, 1, 2, 3, 255, 256, 2517, 2518, 32768, 65535};
	struct prefix p[PREFIXES_MAX];

	for (size_t k = 0; k < sizeof(some) / sizeof(*some); k++) {
		unsigned n = prefix_cuts(17, some[k], p);

		assert_int_equal(n, __builtin_popcount(some[k]));
		for (uint32_t day = 0; day < 65536; day++) {
			uint64_t leaf = (uint64_t)17 << 48 | (uint64_t)day << 32;

			assert_int_equal(covered(p, n, leaf), day < some[k]);
			assert_int_equal(covered(p, n, leaf | UINT32_MAX), day < some[k]);
		}
		assert_false(covered(p, n, (uint64_t)16 << 48) || covered(p, n, (uint64_t)18 << 48));
	}
}

static const struct policy_class *class_of(struct policy *p, const char *id)
{
	const struct policy_class *c = policy_class(p, id);

	assert_non_null(c);
	return c;
}

static void test_judge(void **state)
{
	const int64_t made = DAY_EPOCH_UNIX + (int64_t)1000 * DAY; /* the day after the youngest */
	struct fact_client client = {.client = "acme"};
	struct prefix_answer a;
	struct policy_error err;
	struct policy *p;

	assert_int_equal(policy_load_text(NULL, 0, &p, &err), 0);
	/* 30 days after it was modified: what was modified since then is not due, all else is. */
	assert_int_equal(prefix_judge(class_of(p, "credentials"), &client, 1000, made + 100 * DAY, &a), 0);
	assert_true(a.due);
	assert_true(a.modified_since > made + 69 * DAY && a.modified_since <= made + 71 * DAY);
	client.held = true;
	assert_int_equal(prefix_judge(class_of(p, "credentials"), &client, 1000, made + 100 * DAY, &a), 0);
	assert_false(a.due);
	client.held = false;
	/* While the relationship lasts its end has no date. */
	assert_int_equal(prefix_judge(class_of(p, "personal"), &client, 1000, made + 10000 * DAY, &a), 0);
	assert_false(a.due);
	assert_null(a.rule);
	client.ended_on = made;
	assert_int_equal(prefix_judge(class_of(p, "personal"), &client, 1000, made + 89 * DAY, &a), 0);
	assert_false(a.due);
	assert_int_equal(prefix_judge(class_of(p, "personal"), &client, 1000, made + 91 * DAY, &a), 0);
	assert_true(a.due);
	assert_true(a.modified_since == INT64_MAX);
	/* Of two rules the longer: 7 years after it was made, the youngest of them. */
	assert_int_equal(prefix_judge(class_of(p, "billing"), &client, 1000, made + 91 * DAY, &a), 0);
	assert_false(a.due);
	assert_int_equal(prefix_judge(class_of(p, "billing"), &client, 1000, made + (7 * 365 - 1) * DAY, &a), 0);
	assert_false(a.due);
	assert_int_equal(prefix_judge(class_of(p, "billing"), &client, 1000, made + (7 * 365 + 3) * DAY, &a), 0);
	assert_true(a.due);
	assert_int_equal(a.rule->event, EVENT_CREATED);
	policy_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuts), cmocka_unit_test(test_judge)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
