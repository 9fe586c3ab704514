/* Random derivations, punctures, prunings, saves and loads of one key tree, compared with a model that knows nothing of trees:
 * the root, a flag for each leaf that is gone, and the 64 steps of doc/format-keys.md for each key.
 *
 * COFFER_STEPS (default 20,000) and COFFER_SEED in the environment: a longer run, another one. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "common/keytree.h"

#define ROOT_AT 17		/* of the serialised tree of one node */
#define CLASSES 4
#define DAYS 16
#define NUMBERS 1024
#define LEAVES (CLASSES * DAYS * NUMBERS)
#define FIRST_DAY 2500u
#define FIRST_NUMBER 0x51400000u
#define PUNCTURES_MAX 1500	/* the state stays of a size that a run of a million steps can save and load */

static struct {
	uint8_t root[32];
	bool gone[LEAVES];
	unsigned punctures;
} model;

static uint64_t rnd_state;

/* xorshift64* (Vigna 2016): the same run for the same seed everywhere. */
static uint64_t rnd(void)
{
	rnd_state ^= rnd_state >> 12;
	rnd_state ^= rnd_state << 25;
	rnd_state ^= rnd_state >> 27;
	return rnd_state * UINT64_C(2685821657736338717);
}

static long from_environment(const char *name, long otherwise)
{
	const char *text = getenv(name);

	return text ? strtol(text, NULL, 10) : otherwise;
}

static uint64_t index_of(unsigned i)
{
	return leaf_index_u64((struct leaf_index){.class = (uint16_t)(i / NUMBERS / DAYS),
		.day = (uint16_t)(FIRST_DAY + i / NUMBERS % DAYS), .number = FIRST_NUMBER + i % NUMBERS});
}

/* Three loads of the tree on each day, none on every fourth; the class does not matter.  The rest was never given out. */
static bool was_given_out(unsigned i)
{
	unsigned number = i % NUMBERS, day = i / NUMBERS % DAYS;

	return day % 4 != 3 && (number - 40 * day) % 300 < 90;
}

static void model_puncture(uint64_t value, unsigned bits)
{
	for (unsigned i = 0; i < LEAVES; i++)
		if (bits == 0 || (index_of(i) ^ value) >> (64 - bits) == 0)
			model.gone[i] = true;
}

static void step(const uint8_t key[32], uint32_t input, uint8_t ret[32])
{
	uint8_t in[16] = "coffer-tree1";

	for (int i = 0; i < 4; i++)
		in[12 + i] = (uint8_t)(input >> 8 * i);
	crypto_core_hchacha20(ret, in, key, NULL);
}

static void model_key(uint64_t index, enum key_use use, uint8_t ret[32])
{
	uint8_t node[32], next[32];

	memcpy(node, model.root, sizeof(node));
	for (int depth = 0; depth < 64; depth++) {
		step(node, (uint32_t)(index >> (63 - depth) & 1), next);
		memcpy(node, next, sizeof(node));
	}
	step(node, 256 + (uint32_t)use, ret);
}

static void check_key(struct keytree *t, unsigned i)
{
	struct leaf_index leaf = leaf_index_from_u64(index_of(i));
	enum key_use use = (enum key_use)(1 + rnd() % 5);
	struct key32 key;
	uint8_t expected[32];
	int r = keytree_derive(t, leaf, use, &key);

	assert_int_equal(keytree_holds(t, leaf), !model.gone[i]);
	if (model.gone[i]) {
		assert_int_equal(r, -ENOKEY);
		return;
	}
	assert_int_equal(r, 0);
	model_key(index_of(i), use, expected);
	assert_memory_equal(key.b, expected, sizeof(expected));
}

/* Few classes and days, numbers close together: so that what is drawn meets what was destroyed before. */
static void derive(struct keytree *t)
{
	check_key(t, (unsigned)(rnd() % LEAVES));
}

/* Mostly single leaves, sometimes some numbers, seldom a day: a class at once would soon leave nothing. */
static struct keytree_prefix draw_cut(void)
{
	uint64_t r = rnd() % 200, value = index_of((unsigned)(rnd() % LEAVES));
	unsigned bits = r == 0 ? 32 : r < 20 ? 58 + (unsigned)(rnd() % 6) : 64;

	return (struct keytree_prefix){bits < 64 ? value & ~(UINT64_MAX >> bits) : value, bits};
}

static void puncture(struct keytree *t)
{
	struct keytree_prefix cut = draw_cut();

	if (model.punctures++ > PUNCTURES_MAX)
		return;
	model_puncture(cut.prefix, cut.bits);
	assert_int_equal(keytree_puncture(t, cut.prefix, cut.bits), 0);
}

/* In no order, and with some within others. */
static void puncture_many(struct keytree *t)
{
	struct keytree_prefix cuts[40];
	size_t n = rnd() % 40;

	model.punctures += (unsigned)n;
	for (size_t i = 0; i < n; i++) {
		cuts[i] = draw_cut();
		model_puncture(cuts[i].prefix, cuts[i].bits);
	}
	assert_int_equal(keytree_puncture_all(t, cuts, n), 0);
}

struct asked {
	uint64_t last;
	bool any;
};

static bool holds_given_out(uint64_t first, uint64_t last, void *arg)
{
	struct asked *a = arg;

	assert_true(last >= first);
	assert_true(!a->any || first > a->last);
	*a = (struct asked){.last = last, .any = true};
	for (uint64_t day = first >> 32; day <= last >> 32; day++) {
		struct leaf_index at = leaf_index_from_u64(day << 32);
		uint64_t from = day == first >> 32 ? (uint32_t)first : 0, to = day == last >> 32 ? (uint32_t)last : UINT32_MAX;

		if (at.class >= CLASSES)
			return false;
		if (at.day < FIRST_DAY || at.day >= FIRST_DAY + DAYS) {
			day |= at.day < FIRST_DAY ? 0 : UINT16_MAX;
			continue;
		}
		for (uint64_t n = from < FIRST_NUMBER ? FIRST_NUMBER : from; n <= to && n < FIRST_NUMBER + NUMBERS; n++)
			if (was_given_out((at.class * DAYS + at.day - FIRST_DAY) * NUMBERS + (unsigned)(n - FIRST_NUMBER)))
				return true;
	}
	return false;
}

/* What was given out and not destroyed stays to the last leaf; what was not may go, and never comes back. */
static void prune(struct keytree *t)
{
	size_t dropped, before = keytree_nodes(t), living = 0;
	struct asked asked = {0};

	assert_int_equal(keytree_prune(t, holds_given_out, &asked, &dropped), 0);
	assert_int_equal(keytree_nodes(t), before - dropped);
	for (unsigned i = 0; i < LEAVES; i++) {
		bool holds = keytree_holds(t, leaf_index_from_u64(index_of(i)));

		assert_true(!holds || !model.gone[i]);
		if (was_given_out(i)) {
			assert_int_equal(holds, !model.gone[i]);
			living += holds;
			if (rnd() % 64 == 0)
				check_key(t, i);
		}
		model.gone[i] = !holds;
	}
	assert_true(keytree_nodes(t) <= living);	/* a table of keys has one for each */
	assert_int_equal(keytree_prune(t, holds_given_out, &(struct asked){0}, &dropped), 0);
	assert_int_equal(dropped, 0);
}

static void save_and_load(struct keytree **t)
{
	uint8_t *bytes, *again;
	size_t n, m;
	struct keytree *loaded;

	assert_int_equal(keytree_serialise(*t, &bytes, &n), 0);
	assert_int_equal(keytree_parse(bytes, n, &loaded), 0);
	assert_int_equal(keytree_serialise(loaded, &again, &m), 0);
	assert_int_equal(n, m);
	assert_memory_equal(bytes, again, n);
	secret_free(bytes);
	secret_free(again);
	keytree_free(*t);
	*t = loaded;
}

static void begin(struct keytree **t)
{
	uint8_t *bytes;
	size_t n;

	keytree_free(*t);
	assert_int_equal(keytree_new(t), 0);
	assert_int_equal(keytree_serialise(*t, &bytes, &n), 0);
	assert_int_equal(n, ROOT_AT + 32);
	memcpy(model.root, bytes + ROOT_AT, sizeof(model.root));
	secret_free(bytes);
	memset(model.gone, 0, sizeof(model.gone));
	model.punctures = 0;
}

static void test_random_steps(void **state)
{
	long steps = from_environment("COFFER_STEPS", 20000), seed = from_environment("COFFER_SEED", 4711);
	struct keytree *t = NULL;

	(void)state;
	rnd_state = (uint64_t)seed * 2 + 1;
	begin(&t);
	for (long i = 0; i < steps; i++) {
		uint64_t r = rnd() % 1000;

		if (model.punctures > PUNCTURES_MAX && rnd() % 1000 == 0)
			begin(&t);
		else if (r < 2)
			save_and_load(&t);
		else if (r < 3)
			prune(t);
		else if (r < 5)
			puncture_many(t);
		else if (r < 60)
			puncture(t);
		else
			derive(t);
	}
	prune(t);
	keytree_free(t);
	assert_int_equal(secret_in_use(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_steps)};
	int r;

	if (sodium_init() < 0 || secret_init(8u << 20) < 0)
		return 1;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	secret_done();
	return r;
}
