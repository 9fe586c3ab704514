#include "store_fixture.h"

#include "fs/store/name.h"
#include "fs/store/place.h"

static void test_every_length(void **state)
{
	char name[NAME_MAX_BYTES + 2], back[NAME_MAX_BYTES + 1];
	struct name_entry e, again;
	struct key32 key, other;
	size_t n;

	randombytes_buf(&key, sizeof(key));
	randombytes_buf(&other, sizeof(other));
	for (n = 1; n <= NAME_MAX_BYTES; n++) {
		memset(name, 'a', n);
		name[n] = 0;
		assert_int_equal(name_seal(&key, name, &e), 0);
		assert_int_equal(name_seal(&key, name, &again), 0);
		assert_string_equal(e.entry, again.entry);
		assert_true(strlen(e.entry) <= 255 && e.entry[0] != '.' && !strchr(e.entry, '/'));
		assert_int_equal(name_is_long(e.entry), n > NAME_DIRECT_MAX);
		assert_int_equal(e.side[0] != 0, n > NAME_DIRECT_MAX);
		assert_int_equal(name_open(&key, e.entry, e.side[0] ? e.text : NULL, back), 0);
		assert_string_equal(back, name);
		assert_int_equal(name_open(&other, e.entry, e.side[0] ? e.text : NULL, back), -EBADMSG);
	}
	name[n] = 0;
	memset(name, 'a', n);
	assert_int_equal(name_seal(&key, name, &e), -ENAMETOOLONG);
}

static void test_illegal(void **state)
{
	static const char *const bad[] = {"", ".", "..", "/", "a/b"};
	struct name_entry e;
	struct key32 key = {0};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(name_seal(&key, bad[i], &e), -EINVAL);
	assert_int_equal(name_seal(&key, "...", &e), 0);
}

static void test_altered(void **state)
{
	char back[NAME_MAX_BYTES + 1], name[201], was;
	struct key32 key = {0};
	struct name_entry e;
	size_t i;

	assert_int_equal(name_seal(&key, "report.txt", &e), 0);
	for (i = 0; e.entry[i]; i++) {
		was = e.entry[i];
		e.entry[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(name_open(&key, e.entry, NULL, back), -EBADMSG);
		e.entry[i] = 0;
		assert_int_equal(name_open(&key, e.entry, NULL, back), -EBADMSG);
		e.entry[i] = was;
	}
	memset(name, 'n', 200);
	name[200] = 0;
	assert_int_equal(name_seal(&key, name, &e), 0);
	assert_int_equal(name_open(&key, e.entry, NULL, back), -EBADMSG);
	for (i = 0; e.text[i]; i++) {
		was = e.text[i];
		e.text[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(name_open(&key, e.entry, e.text, back), -EBADMSG);
		e.text[i] = was;
	}
	e.entry[5] = e.entry[5] == 'A' ? 'B' : 'A';
	assert_int_equal(name_open(&key, e.entry, e.text, back), -EBADMSG);
}

static void test_place(void **state)
{
	struct place_mac a, b;
	struct place p, q;
	uint8_t bytes[PLACE_BYTES + 1] = {0};
	struct file_id id = {{1}};
	struct key32 key = {{2}};

	place_of_file(&key, &id, "entry", &a);
	place_of_file(&key, &id, "entrz", &b);
	assert_memory_not_equal(&a, &b, sizeof(a));
	p.now = a;
	p.before = b;
	assert_true(place_fits(&p, &a) && place_fits(&p, &b));
	place_encode(&p, bytes);
	assert_int_equal(place_decode(bytes, PLACE_BYTES, &q), 0);
	assert_memory_equal(&p, &q, sizeof(p));
	assert_int_equal(place_decode(bytes, PLACE_BYTES - 1, &q), -EBADMSG);
	assert_int_equal(place_decode(bytes, PLACE_BYTES + 1, &q), -EBADMSG);
	bytes[0] = 2;
	assert_int_equal(place_decode(bytes, PLACE_BYTES, &q), -EBADMSG);
	id.b[0] = 9;
	place_of_file(&key, &id, "entry", &b);
	assert_false(sodium_memcmp(&a, &b, sizeof(a)) == 0);
}

static void test_dir_id(void **state)
{
	struct dir_id id = {.leaf = {.day = 5, .number = 6}, .random = {7}}, back;
	struct place_mac mac, got;
	struct key32 key = {{2}};
	char text[PLACE_DIR_TEXT];
	size_t n;

	place_of_dir(&key, &id, "entry", &mac);
	place_dir_encode(&id, &mac, text);
	assert_int_equal(strlen(text), 43);
	assert_int_equal(place_dir_decode(text, 43, &back, &got), 0);
	assert_int_equal(leaf_index_u64(back.leaf), leaf_index_u64(id.leaf));
	assert_memory_equal(&mac, &got, sizeof(mac));
	for (n = 0; n < 43; n++)
		assert_int_equal(place_dir_decode(text, n, &back, &got), -EBADMSG);
	id.leaf.class = CLASS_FIRST_POLICY;
	place_dir_encode(&id, &mac, text);
	assert_int_equal(place_dir_decode(text, 43, &back, &got), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_length),
		cmocka_unit_test(test_illegal),
		cmocka_unit_test(test_altered),
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_dir_id),
	};

	if (secret_init(1 << 20) < 0)
		return 1;
	return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
