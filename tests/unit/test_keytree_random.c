/* Random derivations, punctures, saves and loads of one key tree, compared with a model that knows nothing of trees: the root,
 * a list of what was destroyed, and the 64 steps of doc/format-keys.md for each key.
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

#define DESTROYED_MAX 1500	/* the state stays of a size that a run of a million steps can save and load */
#define ROOT_AT 17		/* of the serialised tree of one node */

struct prefix {
	uint64_t value;
	unsigned bits;
};

static struct {
	uint8_t root[32];
	struct prefix destroyed[DESTROYED_MAX];
	unsigned count;
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

static bool below(uint64_t index, const struct prefix *p)
{
	return p->bits == 0 || (index ^ p->value) >> (64 - p->bits) == 0;
}

static bool model_holds(uint64_t index)
{
	for (unsigned i = 0; i < model.count; i++) {
		if (below(index, &model.destroyed[i]))
			return false;
	}
	return true;
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

/* Few classes and days, numbers close together: so that what is drawn meets what was destroyed before. */
static struct leaf_index some_leaf(void)
{
	uint64_t r = rnd();

	return (struct leaf_index){.class = (uint16_t)(r & 3), .day = (uint16_t)(2500 + (r >> 2 & 15)),
		.number = (uint32_t)(0x51400000u + (r >> 6 & 1023))};
}

static void derive(struct keytree *t)
{
	struct leaf_index leaf = some_leaf();
	enum key_use use = (enum key_use)(1 + rnd() % 5);
	uint64_t index = leaf_index_u64(leaf);
	struct key32 key;
	uint8_t expected[32];
	int r = keytree_derive(t, leaf, use, &key);

	assert_int_equal(keytree_holds(t, leaf), model_holds(index));
	if (!model_holds(index)) {
		assert_int_equal(r, -ENOKEY);
		return;
	}
	assert_int_equal(r, 0);
	model_key(index, use, expected);
	assert_memory_equal(key.b, expected, sizeof(expected));
}

/* Mostly single leaves, sometimes some numbers, seldom a day: a class at once would soon leave nothing. */
static void puncture(struct keytree *t)
{
	uint64_t r = rnd() % 200;
	unsigned bits = r == 0 ? 32 : r < 20 ? 58 + (unsigned)(rnd() % 6) : 64;
	uint64_t value = leaf_index_u64(some_leaf());

	if (model.count == DESTROYED_MAX)
		return;
	if (bits < 64)
		value &= ~(UINT64_MAX >> bits);
	assert_int_equal(keytree_puncture(t, value, bits), 0);
	model.destroyed[model.count++] = (struct prefix){value, bits};
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
	model.count = 0;
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

		if (r == 0 && model.count == DESTROYED_MAX)
			begin(&t);
		else if (r < 2)
			save_and_load(&t);
		else if (r < 100)
			puncture(t);
		else
			derive(t);
	}
	assert_true(model.count > 0);
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
