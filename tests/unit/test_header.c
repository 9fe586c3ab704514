#include "store_fixture.h"

struct sample {
	struct key32 wrap, content;
	struct header h;
	uint8_t b[HEADER_BYTES];
};

static void make(struct sample *s)
{
	randombytes_buf(s, sizeof(*s));
	s->h = (struct header){.suite = CIPHER_AES_256_GCM,
		.leaf = {.class = 16, .day = 77, .number = 5},
		.rec = {.generation = 1,
			.floor = 1234,
			.flags = HEADER_HOLES,
			.origin_day = 70,
			.origin_class = 17}};
	randombytes_buf(s->h.id.b, sizeof(s->h.id.b));
	header_seal(&s->h, &s->wrap, &s->content, s->b);
}

static int reopen(const struct sample *s, struct header *h)
{
	struct key32 content;
	int r = header_open(s->b, &s->wrap, h, &content);

	if (r == 0)
		assert_memory_equal(content.b, s->content.b, sizeof(content.b));
	return r;
}

static void test_round_trip(void **state)
{
	struct header h, peek;
	struct sample s;

	make(&s);
	assert_int_equal(header_peek(s.b, &peek), 0);
	assert_int_equal(leaf_index_u64(peek.leaf), leaf_index_u64(s.h.leaf));
	assert_int_equal(peek.rec.generation, 0);
	assert_int_equal(reopen(&s, &h), 0);
	assert_memory_equal(&h.id, &s.h.id, sizeof(h.id));
	assert_int_equal(h.suite, s.h.suite);
	assert_int_equal(h.rec.floor, 1234);
	assert_int_equal(h.rec.flags, HEADER_HOLES);
	assert_int_equal(h.rec.origin_day, 70);
	assert_int_equal(h.rec.origin_class, 17);
}

static void test_flips(void **state)
{
	struct header h;
	struct sample s;
	size_t i;
	int bit;

	make(&s);
	for (i = 0; i < HEADER_BYTES; i++)
		for (bit = 0; bit < 8; bit++) {
			s.b[i] ^= 1 << bit;
			/* The even record is not there: what is written there instead counts for nothing. */
			assert_int_equal(reopen(&s, &h), i >= 512 && i < 1024 ? 0 : -EBADMSG);
			s.b[i] ^= 1 << bit;
		}
	assert_int_equal(reopen(&s, &h), 0);
}

static void test_wrong_key(void **state)
{
	struct header h;
	struct sample s;

	make(&s);
	s.wrap.b[3] ^= 1;
	assert_int_equal(reopen(&s, &h), -EBADMSG);
}

static void add_record(struct sample *s, uint64_t generation, uint64_t floor)
{
	s->h.rec.generation = generation;
	s->h.rec.floor = floor;
	header_seal_record(&s->h, &s->content, s->b + header_record_offset(&s->h.rec));
}

static void test_records(void **state)
{
	uint8_t old[HEADER_RECORD_BYTES];
	struct sample s, other;
	struct header h;
	uint64_t g;

	make(&s);
	for (g = 2; g < 9; g++) {
		add_record(&s, g, g * 100);
		assert_int_equal(reopen(&s, &h), 0);
		assert_int_equal(h.rec.generation, g);
		assert_int_equal(h.rec.floor, g * 100);
	}
	/* The newest one torn: the one before it counts. */
	s.b[512 + 9] ^= 1;
	assert_int_equal(reopen(&s, &h), 0);
	assert_int_equal(h.rec.generation, 7);
	/* A copy in the other's place, and a record of another file: not valid there. */
	memcpy(old, s.b + 1024, sizeof(old));
	memcpy(s.b + 512, old, sizeof(old));
	memset(s.b + 1024, 0, sizeof(old));
	assert_int_equal(reopen(&s, &h), -EBADMSG);
	make(&other);
	other.content = s.content;
	add_record(&other, 8, 1);
	memcpy(s.b + 512, other.b + 512, sizeof(old));
	assert_int_equal(reopen(&s, &h), -EBADMSG);
}

static void test_unknown(void **state)
{
	struct sample s;
	struct header h;

	make(&s);
	s.h.suite = 3;
	header_seal(&s.h, &s.wrap, &s.content, s.b);
	assert_int_equal(reopen(&s, &h), -EBADMSG);
	make(&s);
	s.h.rec.flags = 1u << 7;
	header_seal(&s.h, &s.wrap, &s.content, s.b);
	assert_int_equal(reopen(&s, &h), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_flips),
		cmocka_unit_test(test_wrong_key),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_unknown),
	};

	if (secret_init(1 << 20) < 0)
		return 1;
	return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
