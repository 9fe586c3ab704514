#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "tests/unit/keys_fixture.h"
#include "tests/unit/slot_fixture.h"

#define SLOT "slot/root.slot"
#define KEY "slot/root.key"

struct place {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	p->fd = folder_make(p->path, sizeof(p->path), "/tmp", "slot");
	*state = p;
	return p->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	close(p->fd);
	folder_remove(AT_FDCWD, p->path);
	free(p);
	return 0;
}

static struct slot_set *create(const struct place *p)
{
	struct slot_set *s;

	assert_int_equal(slot_set_create(p->fd, &s, NULL), 0);
	return s;
}

static int try_open(const struct place *p, const char *pass, struct slot_set **ret, struct keys_error *err)
{
	return slot_set_open(p->fd, pass, pass ? strlen(pass) : 0, ret, err);
}

static struct slot_set *reopen(const struct place *p, const char *pass)
{
	struct slot_set *s;

	assert_int_equal(try_open(p, pass, &s, NULL), 0);
	return s;
}

static void refused(const struct place *p, const char *pass, int want, const char *word)
{
	struct keys_error err = {0};
	struct slot_set *s = NULL;

	assert_int_equal(try_open(p, pass, &s, &err), want);
	assert_null(s);
	if (!strstr(err.text, word))
		fail_msg("'%s' does not say '%s'", err.text, word);
}

static void damage(const struct place *p, unsigned half, off_t at)
{
	int fd = openat(p->fd, SLOT, O_RDWR | O_CLOEXEC);
	uint8_t c;

	at += (off_t)half * SLOT_RECORD_BYTES;
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x10;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void fresh_root(struct root_key *r)
{
	randombytes_buf(r, sizeof(*r));
}

static bool same_root(const struct slot_set *s, const struct root_key *r)
{
	return memcmp(slot_set_root(s), r, sizeof(*r)) == 0;
}

static int set_passphrase(struct slot_set *s, const char *passphrase, const struct slot_kdf *kdf)
{
	const struct slot_seal seal = {.protection = SLOT_BY_PASSPHRASE, .text = passphrase, .n = strlen(passphrase), .kdf = *kdf};
	struct root_key fresh;
	int r = slot_set_plan_seal(s, NULL, &seal, NULL);

	fresh_root(&fresh);
	if (r == 0)
		r = slot_set_advance(s, &fresh, NULL);
	return r < 0 ? r : slot_set_settle(s, NULL);
}

static const char *view_text(const struct place *p)
{
	static struct slot_view first;
	struct slot_view *views;
	size_t n;

	assert_int_equal(slot_set_look(p->fd, &views, &n), 0);
	assert_int_equal(n, 1);
	first = views[0];
	free(views);
	return first.text;
}

static void test_create_and_open(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p), *again = NULL;
	struct root_key r = *slot_set_root(s);
	struct slot_look st;
	struct stat sb;

	assert_int_equal(slot_set_generation(s), 1);
	assert_int_equal(main_slot_protection(p->fd), SLOT_BY_KEY_FILE);
	assert_null(slot_set_older_root(s));
	slot_set_close(s);
	assert_int_equal(slot_set_create(p->fd, &again, NULL), -EEXIST);
	assert_null(again);
	s = reopen(p, NULL);
	assert_true(same_root(s, &r));
	slot_set_close(s);
	slot_set_close(NULL);
	assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
	assert_true(main_slot_is_settled(p->fd));
	assert_int_equal(fstatat(p->fd, KEY, &sb, 0), 0);
	assert_int_equal(sb.st_mode & 07777, 0600);
	assert_int_equal(fstatat(p->fd, SLOT, &sb, 0), 0);
	assert_int_equal(sb.st_mode & 07777, 0600);
	assert_int_equal(sb.st_size, 2 * SLOT_RECORD_BYTES);
	assert_int_equal(fstatat(p->fd, "slot/CACHEDIR.TAG", &sb, 0), 0);
}

static void test_creation_cut_short_begins_again(void **state)
{
	struct place *p = *state;
	struct slot_set *s;
	int fd;

	assert_int_equal(mkdirat(p->fd, "slot", 0700), 0);
	fd = openat(p->fd, KEY, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	close(fd);
	s = create(p);
	slot_set_close(s);
	slot_set_close(reopen(p, NULL));
}

static void test_missing(void **state)
{
	struct place *p = *state;
	struct slot_look st;

	assert_int_equal(main_slot_look(p->fd, &st, NULL), -ENOENT);
	refused(p, NULL, -ENOENT, "keyd/slot");
	slot_set_close(create(p));
	assert_int_equal(unlinkat(p->fd, SLOT, 0), 0);
	refused(p, NULL, -ENOENT, "root.slot is missing");
}

static void test_key_file_refusals(void **state)
{
	struct place *p = *state;
	uint8_t other[KEY_BYTES] = {7};
	int fd;

	slot_set_close(create(p));
	assert_int_equal(fchmodat(p->fd, KEY, 0640, 0), 0);
	refused(p, NULL, -EPERM, "chmod 600");
	assert_int_equal(fchmodat(p->fd, KEY, 0600, 0), 0);
	fd = openat(p->fd, KEY, O_WRONLY | O_TRUNC);
	assert_int_equal(pwrite(fd, other, KEY_BYTES, 0), KEY_BYTES);
	refused(p, NULL, -EKEYREJECTED, "does not belong");
	assert_int_equal(pwrite(fd, other, 1, KEY_BYTES), 1);
	refused(p, NULL, -EBADMSG, "damaged");
	assert_int_equal(ftruncate(fd, KEY_BYTES - 1), 0);
	refused(p, NULL, -EBADMSG, "damaged");
	close(fd);
	assert_int_equal(unlinkat(p->fd, KEY, 0), 0);
	refused(p, NULL, -ENOKEY, "root.key");
	assert_int_equal(symlinkat("/dev/zero", p->fd, KEY), 0);
	refused(p, NULL, -ELOOP, "root.key");
}

static void test_one_half_damaged(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p);
	struct root_key r = *slot_set_root(s);
	struct slot_look st;

	slot_set_close(s);
	for (unsigned half = 0; half < 2; half++) {
		damage(p, half, 130);
		assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
		assert_int_equal(st.half[half], SLOT_HALF_DAMAGED);
		assert_false(main_slot_is_settled(p->fd));
		assert_non_null(strstr(view_text(p), half == 0 ? "half A" : "half B"));
		s = reopen(p, NULL);
		assert_true(same_root(s, &r));
		assert_int_equal(slot_set_settle(s, NULL), 0);
		slot_set_close(s);
		assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
		assert_true(main_slot_is_settled(p->fd));
	}
	damage(p, 0, 0);
	damage(p, 1, 4095);
	refused(p, NULL, -EBADMSG, "half A (bytes 0-4095) has no record, half B (bytes 4096-8191) is torn");
}

static void test_short_file(void **state)
{
	struct place *p = *state;
	struct slot_look st;

	slot_set_close(create(p));
	{
		int fd = openat(p->fd, SLOT, O_WRONLY);

		assert_int_equal(ftruncate(fd, SLOT_RECORD_BYTES + 100), 0);
		assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
		assert_int_equal(st.half[1], SLOT_HALF_UNREADABLE);
		slot_set_close(reopen(p, NULL));
		assert_int_equal(ftruncate(fd, 0), 0);
		close(fd);
	}
	refused(p, NULL, -EBADMSG, "cannot be read");
}

static void test_later_version_is_not_skipped(void **state)
{
	struct place *p = *state;
	uint8_t raw[SLOT_RECORD_BYTES];

	slot_set_close(create(p));
	assert_int_equal(disk_read_block(p->fd, SLOT, 1, raw), 0);
	raw[8] = 3;
	crypto_generichash(raw + 4064, 32, raw, 4064, NULL, 0);
	assert_int_equal(disk_write_block(p->fd, SLOT, 1, raw), 0);
	refused(p, NULL, -EPROTONOSUPPORT, "another version");
}

static void test_advance_and_settle(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p);
	struct root_key old = *slot_set_root(s), fresh;
	uint8_t before[2][SLOT_RECORD_BYTES], after[SLOT_RECORD_BYTES];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(disk_read_block(p->fd, SLOT, i, before[i]), 0);
	fresh_root(&fresh);
	assert_int_equal(slot_set_advance(s, &fresh, NULL), 0);
	assert_int_equal(slot_set_generation(s), 2);
	assert_true(same_root(s, &fresh));
	assert_memory_equal(slot_set_older_root(s), &old, sizeof(old));
	slot_set_close(s);

	/* As after a crash: both are there, the newer one counts. */
	s = reopen(p, NULL);
	assert_true(same_root(s, &fresh));
	assert_memory_equal(slot_set_older_root(s), &old, sizeof(old));
	assert_int_equal(slot_set_older_generation(s), 1);
	assert_int_equal(slot_set_settle(s, NULL), 0);
	assert_int_equal(slot_set_settle(s, NULL), 0);
	assert_null(slot_set_older_root(s));
	slot_set_close(s);

	s = reopen(p, NULL);
	assert_true(same_root(s, &fresh));
	assert_null(slot_set_older_root(s));
	slot_set_close(s);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(disk_read_block(p->fd, SLOT, i, after), 0);
		assert_memory_not_equal(after, before[0], sizeof(after));
	}
}

static void test_advance_and_revert(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p);
	struct root_key old = *slot_set_root(s), fresh;

	fresh_root(&fresh);
	assert_int_equal(slot_set_advance(s, &fresh, NULL), 0);
	assert_int_equal(slot_set_revert(s, NULL), 0);
	assert_int_equal(slot_set_generation(s), 1);
	assert_true(same_root(s, &old));
	slot_set_close(s);
	s = reopen(p, NULL);
	assert_true(same_root(s, &old));
	assert_int_equal(slot_set_advance(s, &fresh, NULL), 0);
	assert_int_equal(slot_set_settle(s, NULL), 0);
	slot_set_close(s);
}

static void test_torn_advance(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p);
	struct root_key old = *slot_set_root(s), fresh;
	uint8_t a[SLOT_RECORD_BYTES], b[SLOT_RECORD_BYTES];
	unsigned half;

	assert_int_equal(disk_read_block(p->fd, SLOT, 0, a), 0);
	fresh_root(&fresh);
	assert_int_equal(slot_set_advance(s, &fresh, NULL), 0);
	slot_set_close(s);
	assert_int_equal(disk_read_block(p->fd, SLOT, 0, b), 0);
	half = memcmp(a, b, sizeof(a)) != 0 ? 0 : 1;
	assert_int_equal(disk_read_block(p->fd, SLOT, half, b), 0);
	/* The head is new, the rest is what was there: for each sector boundary. */
	for (size_t cut = 512; cut < SLOT_RECORD_BYTES; cut += 512) {
		uint8_t torn[SLOT_RECORD_BYTES];

		memcpy(torn, b, cut);
		memcpy(torn + cut, a + cut, sizeof(torn) - cut);
		assert_int_equal(disk_write_block(p->fd, SLOT, half, torn), 0);
		s = reopen(p, NULL);
		assert_true(same_root(s, &old));
		assert_null(slot_set_older_root(s));
		slot_set_close(s);
	}
}

static void test_passphrase(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p);
	struct root_key r = *slot_set_root(s), fresh;
	struct slot_look st;
	uint8_t key_half[SLOT_RECORD_BYTES];

	assert_int_equal(disk_read_block(p->fd, SLOT, 0, key_half), 0);
	assert_int_equal(set_passphrase(s, "x", &(struct slot_kdf){1, 100}), -EINVAL);
	assert_int_equal(set_passphrase(s, "one", &WEAK), 0);
	r = *slot_set_root(s);
	slot_set_close(s);
	assert_int_equal(faccessat(p->fd, KEY, F_OK, 0), -1);
	refused(p, NULL, -ENOKEY, "passphrase");
	refused(p, "two", -EKEYREJECTED, "wrong passphrase");
	refused(p, "", -EKEYREJECTED, "wrong passphrase");
	s = reopen(p, "one");
	assert_true(same_root(s, &r));
	assert_int_equal(main_slot_protection(p->fd), SLOT_BY_PASSPHRASE);

	/* A rotation stays under the passphrase without asking for it. */
	fresh_root(&fresh);
	assert_int_equal(slot_set_advance(s, &fresh, NULL), 0);
	assert_int_equal(slot_set_settle(s, NULL), 0);
	assert_int_equal(set_passphrase(s, "two", &WEAK), 0);
	fresh = *slot_set_root(s);
	slot_set_close(s);
	refused(p, "one", -EKEYREJECTED, "wrong passphrase");
	s = reopen(p, "two");
	assert_true(same_root(s, &fresh));
	slot_set_close(s);
	assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
	assert_true(main_slot_is_settled(p->fd));
	assert_int_equal(st.rec[0].head.protection, SLOT_BY_PASSPHRASE);
	assert_true(st.rec[0].head.kdf.memory == SLOT_KDF_MEMORY_MIN);
}

/* Died after the passphrase's record was written: the other half and the key file still open it without. */
static void test_passphrase_cut_short(void **state)
{
	struct place *p = *state;
	struct slot_set *s = create(p);
	struct root_key r = *slot_set_root(s);
	uint8_t old[SLOT_RECORD_BYTES], key[KEY_BYTES];
	struct slot_look st;
	int fd;

	assert_int_equal(disk_read_block(p->fd, SLOT, 0, old), 0);
	fd = openat(p->fd, KEY, O_RDONLY);
	assert_int_equal(read(fd, key, sizeof(key)), sizeof(key));
	close(fd);
	assert_int_equal(set_passphrase(s, "one", &WEAK), 0);
	r = *slot_set_root(s);
	slot_set_close(s);
	assert_int_equal(disk_write_block(p->fd, SLOT, 0, old), 0);
	fd = openat(p->fd, KEY, O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, key, sizeof(key)), sizeof(key));
	close(fd);

	assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
	assert_false(main_slot_is_settled(p->fd));
	refused(p, NULL, -ENOKEY, "passphrase");
	s = reopen(p, "one");
	assert_true(same_root(s, &r));
	assert_null(slot_set_older_root(s));
	assert_int_equal(slot_set_settle(s, NULL), 0);
	slot_set_close(s);
	assert_int_equal(faccessat(p->fd, KEY, F_OK, 0), -1);
	assert_int_equal(main_slot_look(p->fd, &st, NULL), 0);
	assert_true(main_slot_is_settled(p->fd));
}

/* What a note keeps of a slot that is being made: whatever is altered in it, R does not come out with the right protector. */
static void test_face_bit_flips(void **state)
{
	const struct slot_head head = {.protection = SLOT_BY_PASSPHRASE, .kdf = WEAK};
	struct key32 protector = {{1}}, secret;
	struct root_key r = {{{2}}}, out;
	uint8_t face[SLOT_FACE_BYTES], raw[SLOT_RECORD_BYTES];
	struct slot_record rec, got;

	slot_record_new(&head, &protector, &rec);
	slot_record_face(&rec, face);
	assert_int_equal(slot_record_from_face(face, &got), 0);
	assert_int_equal(got.generation, 0);
	assert_int_equal(slot_record_write(&got, 3, &r, raw), 0);
	assert_int_equal(slot_record_parse(raw, &got), 0);
	assert_int_equal(slot_record_unlock(&got, &protector, &secret), 0);
	assert_int_equal(slot_record_open(&got, &secret, &out), 0);
	assert_memory_equal(&out, &r, sizeof(r));
	for (size_t bit = 0; bit < sizeof(face) * 8; bit++) {
		int rc;

		face[bit / 8] ^= (uint8_t)(1u << bit % 8);
		rc = slot_record_from_face(face, &got);
		if (rc == 0)
			rc = slot_record_write(&got, 3, &r, raw);
		if (rc == 0)
			rc = slot_record_unlock(&got, &protector, &secret);
		assert_true(rc == -EBADMSG || rc == -EKEYREJECTED);
		face[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

static void test_record_bit_flips(void **state)
{
	const struct slot_head head = {.protection = SLOT_BY_KEY_FILE};
	struct key32 protector = {{1}}, secret;
	struct root_key r = {{{2}}}, out;
	uint8_t raw[SLOT_RECORD_BYTES], sum[32];
	struct slot_record rec, got;

	slot_record_new(&head, &protector, &rec);
	assert_int_equal(slot_record_write(&rec, 3, &r, raw), 0);
	assert_int_equal(slot_record_parse(raw, &got), 0);
	assert_int_equal(slot_record_unlock(&got, &protector, &secret), 0);
	assert_int_equal(slot_record_open(&got, &secret, &out), 0);
	assert_memory_equal(&out, &r, sizeof(r));
	memcpy(sum, raw + 4064, sizeof(sum));
	for (size_t bit = 0; bit < sizeof(raw) * 8; bit++) {
		int rc;

		raw[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(slot_record_parse(raw, &got), bit < 64 ? -ENODATA : -EBADMSG);
		/* And with a checksum that somebody made fit: the boxes must notice. */
		if (bit < SLOT_USED_BYTES * 8) {
			crypto_generichash(raw + 4064, 32, raw, 4064, NULL, 0);
			rc = slot_record_parse(raw, &got);
			if (rc == 0)
				rc = slot_record_unlock(&got, &protector, &secret);
			if (rc == 0)
				rc = slot_record_open(&got, &secret, &out);
			assert_true(rc == -EBADMSG || rc == -EKEYREJECTED || rc == -ENODATA ||
				    rc == -EPROTONOSUPPORT);
			memcpy(raw + 4064, sum, sizeof(sum));
		}
		raw[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	assert_int_equal(slot_record_parse(raw, &got), 0);
	protector.b[31] ^= 1;
	assert_int_equal(slot_record_unlock(&got, &protector, &secret), -EKEYREJECTED);
}

static int parse_of(const struct slot_head *head)
{
	const struct key32 protector = {{1}};
	const struct root_key r = {{{2}}};
	uint8_t raw[SLOT_RECORD_BYTES];
	struct slot_record rec, got;

	slot_record_new(head, &protector, &rec);
	assert_int_equal(slot_record_write(&rec, 1, &r, raw), 0);
	return slot_record_parse(raw, &got);
}

static void test_record_of_absurd_cost(void **state)
{
	struct slot_head head = {.protection = SLOT_BY_PASSPHRASE, .kdf = {3, 1ull << 50}};

	assert_int_equal(parse_of(&head), -EBADMSG);
	head.kdf = (struct slot_kdf){1u << 30, 1u << 20};
	assert_int_equal(parse_of(&head), -EBADMSG);
	head.kdf = WEAK;
	assert_int_equal(parse_of(&head), 0);
	memset(head.locator, 'x', sizeof(head.locator));
	assert_int_equal(parse_of(&head), -EBADMSG);
	head.locator[3] = 0;
	assert_int_equal(parse_of(&head), -EBADMSG); /* something behind the text */
	head.protection = SLOT_PROTECTION_LAST + 1;
	memset(head.locator, 0, sizeof(head.locator));
	assert_int_equal(parse_of(&head), -EBADMSG);
}

#define IN_PLACE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(test_create_and_open),
		IN_PLACE(test_creation_cut_short_begins_again),
		IN_PLACE(test_missing),
		IN_PLACE(test_key_file_refusals),
		IN_PLACE(test_one_half_damaged),
		IN_PLACE(test_short_file),
		IN_PLACE(test_later_version_is_not_skipped),
		IN_PLACE(test_advance_and_settle),
		IN_PLACE(test_advance_and_revert),
		IN_PLACE(test_torn_advance),
		IN_PLACE(test_passphrase),
		IN_PLACE(test_passphrase_cut_short),
		cmocka_unit_test(test_face_bit_flips),
		cmocka_unit_test(test_record_bit_flips),
		cmocka_unit_test(test_record_of_absurd_cost),
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
