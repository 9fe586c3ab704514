#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/keytree.h"
#include "common/scope.h"

#define SERIAL_HEAD 8
#define SERIAL_NODE 41

static int setup(void **state)
{
	return secret_init(4u << 20);
}

static int teardown(void **state)
{
	/* Whatever a test forgot would show here. */
	int r = secret_in_use() == 0 ? 0 : -1;

	secret_done();
	return r;
}

/* A whole tree with a root of our choice. */
static struct keytree *tree_of(const uint8_t root[KEY_BYTES])
{
	uint8_t buf[SERIAL_HEAD + SERIAL_NODE];
	struct bytes_writer w;
	struct keytree *t;

	bytes_writer_init(&w, buf, sizeof(buf));
	bytes_put_u8(&w, 1);
	bytes_put_zeros(&w, 3);
	bytes_put_u32(&w, 1);
	bytes_put_u8(&w, 0);
	bytes_put_u64(&w, 0);
	bytes_put(&w, root, KEY_BYTES);
	assert_true(bytes_writer_ok(&w));
	assert_int_equal(keytree_parse(buf, sizeof(buf), &t), 0);
	return t;
}

static void test_known_answers(void **state)
{
	char path[4096];
	json_t *all, *v;
	size_t i;

	(void)snprintf(path, sizeof(path), "%s/tests/vectors/keytree.json", getenv("COFFER_SOURCE"));
	all = json_load_file(path, 0, NULL);
	assert_non_null(all);
	assert_int_equal(json_array_size(all), 90);
	json_array_foreach(all, i, v)
	{
		uint8_t root[KEY_BYTES], want[KEY_BYTES];
		struct leaf_index leaf = {
			.class = (uint16_t)json_integer_value(json_object_get(v, "class")),
			.day = (uint16_t)json_integer_value(json_object_get(v, "day")),
			.number = (uint32_t)json_integer_value(json_object_get(v, "number")),
		};
		enum key_use use = (enum key_use)json_integer_value(json_object_get(v, "use"));
		struct keytree *t;
		struct key32 key;

		sodium_hex2bin(root, sizeof(root), json_string_value(json_object_get(v, "root")), 64, NULL,
			NULL, NULL);
		sodium_hex2bin(want, sizeof(want), json_string_value(json_object_get(v, "key")), 64, NULL,
			NULL, NULL);
		t = tree_of(root);
		/* Twice: from the root, and from the nodes it then keeps. */
		for (int again = 0; again < 2; again++) {
			assert_int_equal(keytree_derive(t, leaf, use, &key), 0);
			assert_memory_equal(key.b, want, KEY_BYTES);
		}
		keytree_free(t);
	}
	json_decref(all);
}

static void test_uses_differ(void **state)
{
	struct key32 keys[KEY_USE_LINK + 1] = {0};
	struct leaf_index leaf = {16, 2500, 1};
	struct keytree *t;

	assert_int_equal(keytree_new(&t), 0);
	for (int u = KEY_USE_WRAP; u <= KEY_USE_LINK; u++) {
		assert_int_equal(keytree_derive(t, leaf, (enum key_use)u, &keys[u]), 0);
		for (int v = 0; v < u; v++)
			assert_memory_not_equal(&keys[u], &keys[v], sizeof(keys[u]));
	}
	assert_int_equal(keytree_derive(t, leaf, (enum key_use)0, &keys[0]), -EINVAL);
	assert_int_equal(keytree_derive(t, leaf, (enum key_use)(KEY_USE_LINK + 1), &keys[0]), -EINVAL);
	keytree_free(t);
}

/* The model: 256 leaves, spread over the index so that punctures cut at all depths, and a flag each. */
#define MODEL 256

static uint64_t model_index(unsigned i)
{
	/* two bits of the class, two of the day, two of the load's random part, two of the count */
	return (uint64_t)(i >> 6) << 62 | (uint64_t)(i >> 4 & 3) << 40 | (uint64_t)(i >> 2 & 3) << 20 |
	       (i & 3);
}

static void model_puncture(bool alive[MODEL], uint64_t prefix, unsigned bits)
{
	for (unsigned i = 0; i < MODEL; i++) {
		if (bits == 0 || (model_index(i) ^ prefix) >> (64 - bits) == 0)
			alive[i] = false;
	}
}

static void compare(struct keytree *t, const bool alive[MODEL], const struct key32 want[MODEL])
{
	struct key32 key;

	for (unsigned i = 0; i < MODEL; i++) {
		struct leaf_index leaf = leaf_index_from_u64(model_index(i));
		int r = keytree_derive(t, leaf, KEY_USE_WRAP, &key);

		assert_int_equal(r, alive[i] ? 0 : -ENOKEY);
		assert_int_equal(keytree_holds(t, leaf), alive[i]);
		if (alive[i])
			assert_memory_equal(&key, &want[i], sizeof(key));
	}
}

/* Same tree, same bytes; and the bytes make the same tree. */
static struct keytree *round_trip(struct keytree *t)
{
	uint8_t *a, *b;
	size_t an, bn;
	struct keytree *back;

	assert_int_equal(keytree_serialise(t, &a, &an), 0);
	assert_int_equal(an, SERIAL_HEAD + keytree_nodes(t) * SERIAL_NODE);
	assert_int_equal(keytree_parse(a, an, &back), 0);
	assert_int_equal(keytree_serialise(back, &b, &bn), 0);
	assert_int_equal(an, bn);
	assert_memory_equal(a, b, an);
	secret_free(a);
	secret_free(b);
	return back;
}

static void test_against_model(void **state)
{
	static const unsigned depths[] = {2, 16, 17, 32, 40, 46, 60, 63, 64};
	static struct key32 want[MODEL];

	srandom(4711);
	for (int round = 0; round < 12; round++) {
		bool alive[MODEL];
		struct keytree *t, *back;

		assert_int_equal(keytree_new(&t), 0);
		for (unsigned i = 0; i < MODEL; i++) {
			alive[i] = true;
			assert_int_equal(keytree_derive(t, leaf_index_from_u64(model_index(i)), KEY_USE_WRAP,
						 &want[i]),
				0);
		}
		for (int cut = 0; cut < 20; cut++) {
			/* Deep cuts first, else nothing is left to cut after the first rounds. */
			size_t from = cut < 14 ? 3 : 0;
			unsigned bits = depths[from + (size_t)random() % (ARRAY_SIZE(depths) - from)];
			uint64_t prefix = model_index((unsigned)random() % MODEL);

			assert_int_equal(keytree_puncture(t, prefix, bits), 0);
			model_puncture(alive, prefix, bits);
			compare(t, alive, want);
		}
		back = round_trip(t);
		compare(back, alive, want);
		keytree_free(back);
		keytree_free(t);
	}
}

static void test_puncture_ends(void **state)
{
	struct leaf_index leaf = {16, 2500, 1};
	struct keytree *t, *back;
	struct key32 key;

	assert_int_equal(keytree_new(&t), 0);
	assert_int_equal(keytree_puncture(t, 0, 65), -EINVAL);
	assert_int_equal(keytree_nodes(t), 1);
	assert_int_equal(keytree_puncture(t, leaf_index_u64(leaf), 64), 0);
	assert_int_equal(keytree_nodes(t), 64);
	assert_int_equal(keytree_puncture(t, leaf_index_u64(leaf), 64), 0); /* nothing of it left */
	assert_int_equal(keytree_nodes(t), 64);
	assert_int_equal(keytree_derive(t, leaf, KEY_USE_WRAP, &key), -ENOKEY);
	assert_int_equal(keytree_puncture(t, UINT64_MAX, 0), 0); /* all of it */
	assert_int_equal(keytree_nodes(t), 0);
	leaf.number++;
	assert_int_equal(keytree_derive(t, leaf, KEY_USE_WRAP, &key), -ENOKEY);
	back = round_trip(t);
	assert_int_equal(keytree_nodes(back), 0);
	keytree_free(back);
	keytree_free(t);
	keytree_free(NULL);
}

/* No byte of a destroyed node may be left anywhere in the arena, cache included. */
static void test_puncture_forgets(void **state)
{
	struct leaf_index leaf = {16, 2500, 1}, other = {17, 2500, 1};
	uint8_t *before, *after;
	struct keytree *t;
	struct key32 key;
	size_t n, m;

	assert_int_equal(keytree_new(&t), 0);
	assert_int_equal(keytree_derive(t, leaf, KEY_USE_WRAP, &key), 0);
	assert_int_equal(keytree_serialise(t, &before, &n), 0);
	assert_int_equal(keytree_puncture(t, leaf_index_u64(leaf), 32), 0);
	assert_int_equal(keytree_derive(t, leaf, KEY_USE_WRAP, &key), -ENOKEY);
	assert_int_equal(keytree_derive(t, other, KEY_USE_WRAP, &key), 0);
	assert_int_equal(keytree_serialise(t, &after, &m), 0);
	assert_null(memmem(after, m, before + n - KEY_BYTES, KEY_BYTES));
	secret_free(before);
	secret_free(after);
	keytree_free(t);
}

static struct keytree *cut_tree(void)
{
	struct keytree *t;

	assert_int_equal(keytree_new(&t), 0);
	assert_int_equal(keytree_puncture(t, (uint64_t)16 << 48, 16), 0);
	assert_int_equal(keytree_puncture(t, (uint64_t)40 << 48 | 7, 64), 0);
	return t;
}

static void test_parse_truncations(void **state)
{
	struct keytree *t = cut_tree(), *back = NULL;
	uint8_t *buf;
	size_t n;

	assert_int_equal(keytree_serialise(t, &buf, &n), 0);
	for (size_t len = 0; len < n; len++)
		assert_int_equal(keytree_parse(buf, len, &back), -EBADMSG);
	assert_null(back);
	secret_free(buf);
	keytree_free(t);
}

/* Every bit: outside the keys (which nothing here authenticates) either refused, or still a canonical tree.
 */
static void test_parse_bit_flips(void **state)
{
	struct keytree *t = cut_tree();
	unsigned refused = 0, taken = 0;
	uint8_t *buf;
	size_t n;

	assert_int_equal(keytree_serialise(t, &buf, &n), 0);
	for (size_t bit = 0; bit < n * 8; bit++) {
		struct keytree *other;
		uint8_t *again;
		size_t again_n, at = bit / 8;
		int r;

		buf[at] ^= (uint8_t)(1u << bit % 8);
		r = keytree_parse(buf, n, &other);
		if (r == 0) {
			assert_int_equal(keytree_serialise(other, &again, &again_n), 0);
			assert_int_equal(again_n, n);
			assert_memory_equal(again, buf, n);
			secret_free(again);
			keytree_free(other);
			taken++;
		} else {
			assert_int_equal(r, -EBADMSG);
			refused++;
		}
		if (at < SERIAL_HEAD)
			assert_int_equal(r, -EBADMSG);
		if (at >= SERIAL_HEAD && (at - SERIAL_HEAD) % SERIAL_NODE >= 9)
			assert_int_equal(r, 0);
		buf[at] ^= (uint8_t)(1u << bit % 8);
	}
	assert_true(refused > 0 && taken > 0);
	secret_free(buf);
	keytree_free(t);
}

static void put_node(struct bytes_writer *w, uint8_t depth, uint64_t prefix)
{
	uint8_t key[KEY_BYTES] = {1};

	bytes_put_u8(w, depth);
	bytes_put_u64(w, prefix);
	bytes_put(w, key, sizeof(key));
}

static int parse_two(uint8_t d1, uint64_t p1, uint8_t d2, uint64_t p2)
{
	uint8_t buf[SERIAL_HEAD + 2 * SERIAL_NODE];
	struct keytree *t = NULL;
	struct bytes_writer w;
	int r;

	bytes_writer_init(&w, buf, sizeof(buf));
	bytes_put_u8(&w, 1);
	bytes_put_zeros(&w, 3);
	bytes_put_u32(&w, 2);
	put_node(&w, d1, p1);
	put_node(&w, d2, p2);
	r = keytree_parse(buf, sizeof(buf), &t);
	keytree_free(t);
	return r;
}

static void test_parse_not_canonical(void **state)
{
	const uint64_t half = (uint64_t)1 << 63, quarter = (uint64_t)1 << 62;

	assert_int_equal(parse_two(2, 0, 1, half), 0);
	assert_int_equal(parse_two(1, 0, 1, half), -EBADMSG);     /* siblings: their parent */
	assert_int_equal(parse_two(1, half, 2, 0), -EBADMSG);     /* order */
	assert_int_equal(parse_two(1, 0, 2, 0), -EBADMSG);        /* overlap */
	assert_int_equal(parse_two(1, 0, 2, quarter), -EBADMSG);  /* overlap */
	assert_int_equal(parse_two(2, 0, 2, 0), -EBADMSG);        /* twice */
	assert_int_equal(parse_two(2, 0, 1, half | 1), -EBADMSG); /* bits below its depth */
	assert_int_equal(parse_two(2, 0, 65, half), -EBADMSG);    /* too deep */
	assert_int_equal(parse_two(0, 0, 0, 0), -EBADMSG);        /* two roots */
	assert_int_equal(parse_two(64, 4, 64, 5), -EBADMSG);
	assert_int_equal(parse_two(64, 5, 64, 6), 0); /* neighbours, not siblings */
}

static void test_no_memory_leaves_it_as_it_was(void **state)
{
	struct leaf_index leaf = {16, 2500, 1};
	void *hogs[8192];
	size_t count = 0;
	struct keytree *t, *none = NULL;
	struct key32 a, b;

	assert_int_equal(keytree_new(&t), 0);
	assert_int_equal(keytree_derive(t, leaf, KEY_USE_WRAP, &a), 0);
	while (count < ARRAY_SIZE(hogs) && (hogs[count] = secret_alloc(1024)))
		count++;
	while (count < ARRAY_SIZE(hogs) && (hogs[count] = secret_alloc(1)))
		count++;
	assert_true(count < ARRAY_SIZE(hogs));
	assert_int_equal(keytree_puncture(t, leaf_index_u64(leaf), 64), -ENOMEM);
	assert_int_equal(keytree_new(&none), -ENOMEM);
	assert_null(none);
	while (count > 0)
		secret_free(hogs[--count]);
	assert_int_equal(keytree_derive(t, leaf, KEY_USE_WRAP, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	keytree_free(t);
}

struct job {
	struct keytree *t;
	const struct key32 *want;
	bool wrong;
};

static void *derive_all(void *arg)
{
	struct job *j = arg;
	struct key32 key;

	for (int round = 0; round < 20; round++) {
		for (unsigned i = 0; i < MODEL; i++) {
			if (keytree_derive(j->t, leaf_index_from_u64(model_index(i)), KEY_USE_WRAP, &key) <
					0 ||
				memcmp(&key, &j->want[i], sizeof(key)) != 0)
				j->wrong = true;
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	static struct key32 want[MODEL];
	struct job jobs[4];
	pthread_t threads[4];
	struct keytree *t;

	assert_int_equal(keytree_new(&t), 0);
	for (unsigned i = 0; i < MODEL; i++)
		assert_int_equal(
			keytree_derive(t, leaf_index_from_u64(model_index(i)), KEY_USE_WRAP, &want[i]), 0);
	for (size_t i = 0; i < 4; i++) {
		jobs[i] = (struct job){.t = t, .want = want};
		assert_int_equal(pthread_create(&threads[i], NULL, derive_all, &jobs[i]), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_false(jobs[i].wrong);
	}
	keytree_free(t);
}

/* One thread punctures while another derives: what is punctured is gone, also from what is kept of upper nodes. */
static void *derive_on(void *arg)
{
	struct keytree *t = arg;
	struct key32 key;

	for (unsigned i = 0; i < 20000; i++)
		(void)keytree_derive(t, (struct leaf_index){.class = 16, .day = 1, .number = i % 64}, KEY_USE_WRAP, &key);
	return NULL;
}

static void test_puncture_while_deriving(void **state)
{
	struct keytree *t;
	struct key32 key;
	pthread_t thread;

	assert_int_equal(keytree_new(&t), 0);
	assert_int_equal(pthread_create(&thread, NULL, derive_on, t), 0);
	for (uint32_t i = 0; i < 64; i += 2)
		assert_int_equal(keytree_puncture(t, (uint64_t)16 << 48 | (uint64_t)1 << 32 | i, 64), 0);
	pthread_join(thread, NULL);
	for (uint32_t i = 0; i < 64; i++)
		assert_int_equal(keytree_derive(t, (struct leaf_index){.class = 16, .day = 1, .number = i}, KEY_USE_WRAP,
					 &key), i % 2 ? 0 : -ENOKEY);
	keytree_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_answers),
		cmocka_unit_test(test_uses_differ),
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_puncture_ends),
		cmocka_unit_test(test_puncture_forgets),
		cmocka_unit_test(test_parse_truncations),
		cmocka_unit_test(test_parse_bit_flips),
		cmocka_unit_test(test_parse_not_canonical),
		cmocka_unit_test(test_no_memory_leaves_it_as_it_was),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_puncture_while_deriving),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
