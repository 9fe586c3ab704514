/* Recovery keys: text and bytes that were altered do not pass; copies of R follow it through every rotation, crash and
 * lost medium, and an old one opens nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
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
#include "keyd/recovery.h"
#include "tests/unit/keys_fixture.h"
#include "tests/unit/slot_fixture.h"


static const struct client_id goes = {{0xaa}}, stays = {{0xbb}};
static const struct keyring_cut cuts[] = {{.client = {{0xaa}}, .whole = true}};

struct place {
	char path[64], usb[96], away[96], copy[128], other[128];
	int fd;
	struct slot_set *slot;
	struct keyring *ring;
	struct recovery_pair *pair;
	enum shred_step stop_at;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	*state = p;
	p->fd = folder_make(p->path, sizeof(p->path), "/tmp", "recovery");
	snprintf(p->usb, sizeof(p->usb), "%s/usb", p->path);
	snprintf(p->away, sizeof(p->away), "%s/away", p->path);
	snprintf(p->copy, sizeof(p->copy), "%s/copy", p->usb);
	snprintf(p->other, sizeof(p->other), "%s/other", p->path);
	if (mkdir(p->usb, 0700) < 0 ||
		keys_create(p->fd, (const struct client_id *const[]){&goes, &stays, NULL}, &p->slot, &p->ring) < 0)
		return -1;
	return recovery_pair_new(&p->pair);
}

static int teardown(void **state)
{
	struct place *p = *state;

	keys_close(&p->slot, &p->ring);
	secret_free(p->pair);
	close(p->fd);
	folder_remove(AT_FDCWD, p->path);
	free(p);
	return 0;
}

static void add(struct place *p, const char *name, const struct recovery_public *public, const char *path)
{
	struct recovery_holder h = {.public = *public, .added_at = 5, .by = "ada"};
	struct keys_error err = {0};

	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.path, sizeof(h.path), "%s", path);
	if (recovery_add(p->ring, &h, &err) < 0)
		fail_msg("%s", err.text);
}

static struct recovery_holder holder(struct place *p, const char *name)
{
	struct recovery_set s;

	assert_int_equal(recovery_load(p->ring, &s, NULL), 0);
	for (size_t i = 0; i < s.count; i++)
		if (strcmp(s.holders[i].name, name) == 0)
			return s.holders[i];
	return (struct recovery_holder){0};
}

static bool remains(struct place *p, const char *name)
{
	struct recovery_holder h = holder(p, name);
	struct recovery_set s;

	assert_int_equal(recovery_load(p->ring, &s, NULL), 0);
	return *h.name && recovery_may_remain(&s, &h);
}

static int before(enum shred_step step, void *arg)
{
	struct place *p = arg;

	return step == p->stop_at ? -EINTR : 0;
}

static int rotate(struct place *p, const struct keyring_cut *cut, size_t n, enum shred_outcome *ret)
{
	const struct shred_job job = {.cuts = cut, .count = n, .before = before, .arg = p};

	return shred_run(&job, p->slot, &p->ring, ret, NULL);
}

static void rotate_well(struct place *p)
{
	enum shred_outcome o;

	assert_int_equal(rotate(p, NULL, 0, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
}

static void reopen(struct place *p)
{
	struct shred_opened o;
	struct keys_error err = {0};

	keyring_free(p->ring);
	slot_set_close(p->slot);
	p->ring = NULL;
	p->slot = NULL;
	if (slot_set_open(p->fd, NULL, 0, &p->slot, &err) < 0 || shred_open(p->fd, p->slot, &o, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(o.warning, "");
	p->ring = o.ring;
}

/* 0: the copy's R opens the ring of its generation. */
static int opens(struct place *p, const char *path, uint64_t *ret_generation)
{
	struct root_key *r = secret_alloc(sizeof(*r));
	uint8_t bytes[RECOVERY_COPY_BYTES];
	struct keyring *k = NULL;
	struct recovery_copy c;
	int e;

	e = recovery_copy_find(path, &p->pair->public, bytes, NULL);
	if (e == 0)
		e = recovery_copy_open(bytes, sizeof(bytes), p->pair, r);
	if (e == 0)
		e = recovery_copy_parse(bytes, sizeof(bytes), &c);
	if (e == 0)
		e = keyring_load(p->fd, r, c.generation, &k, NULL);
	if (e == 0 && ret_generation)
		*ret_generation = keyring_generation(k);
	keyring_free(k);
	secret_free(r);
	return e;
}

/* Nothing in D and beside the path but copies of now. */
static void is_tidy(struct place *p)
{
	static const char *const folders[] = {"recovery", "usb"};
	char word[32], list[64];

	snprintf(word, sizeof(word), ".%llu", (unsigned long long)keyring_generation(p->ring));
	snprintf(list, sizeof(list), "keys/holders.%llu", (unsigned long long)keyring_generation(p->ring));
	assert_int_equal(faccessat(p->fd, list, F_OK, 0), 0);
	snprintf(list, sizeof(list), "keys/holders.%llu", (unsigned long long)keyring_generation(p->ring) - 1);
	assert_int_equal(faccessat(p->fd, list, F_OK, 0), -1);
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		int fd = openat(p->fd, folders[i], O_RDONLY | O_DIRECTORY);
		DIR *d = fdopendir(fd);
		struct dirent *e;

		assert_non_null(d);
		while ((e = readdir(d))) {
			const char *dot = strchr(e->d_name, '.');

			if (e->d_name[0] == '.' || strcmp(e->d_name, "CACHEDIR.TAG") == 0)
				continue;
			if (i == 0 && (!dot || strcmp(dot, word) != 0))
				fail_msg("%s is left", e->d_name);
			if (i == 1 && dot)
				fail_msg("%s is left", e->d_name);
		}
		closedir(d);
	}
}

static void is_current(struct place *p)
{
	uint64_t g = 0;

	assert_int_equal(opens(p, p->copy, &g), 0);
	assert_int_equal(g, keyring_generation(p->ring));
	assert_int_equal(holder(p, "ada").at_path, g);
	g = 0;
	snprintf(p->other, sizeof(p->other), "%s/recovery", p->path);
	assert_int_equal(opens(p, p->other, &g), 0);
	assert_int_equal(g, keyring_generation(p->ring));
	assert_false(remains(p, "ada"));
	is_tidy(p);
}

/* ---- text and bytes ---- */

static void test_public_line(void **state)
{
	struct place *p = *state;
	char line[RECOVERY_LINE_MAX], wrong[RECOVERY_LINE_MAX];
	struct recovery_public back;
	size_t n;

	recovery_public_format(&p->pair->public, line);
	assert_int_equal(recovery_public_parse(line, &back), 0);
	assert_memory_equal(&back, &p->pair->public, sizeof(back));
	n = strlen(line);
	for (size_t i = 0; i < n; i++) {
		strcpy(wrong, line);
		wrong[i] = wrong[i] == 'A' ? 'B' : 'A';
		assert_true(recovery_public_parse(wrong, &back) < 0);
		strcpy(wrong, line);
		wrong[i] = '\0';
		assert_true(recovery_public_parse(wrong, &back) < 0);
	}
	strcat(line, "A");
	assert_int_equal(recovery_public_parse(line, &back), -EBADMSG);
	assert_int_equal(recovery_public_parse("ssh-ed25519 AAAA", &back), -EINVAL);
}

static void secret_file(struct recovery_pair *pair, const char *passphrase)
{
	size_t n, with = passphrase ? strlen(passphrase) : 0;
	struct recovery_pair *back = NULL;
	struct slot_kdf kdf = WEAK;
	char *text, *comment_end;

	assert_int_equal(recovery_file_format(pair, passphrase, with, &kdf, &text, &n), 0);
	assert_int_equal(recovery_file_parse(text, n, passphrase, with, &back), 0);
	assert_memory_equal(back, pair, sizeof(*back));
	secret_free(back);
	if (passphrase) {
		assert_int_equal(recovery_file_parse(text, n, NULL, 0, &back), -ENOKEY);
		assert_int_equal(recovery_file_parse(text, n, "wrong", 5, &back), -EKEYREJECTED);
	}
	comment_end = strstr(text, "coffer-recovery-key");
	assert_non_null(comment_end);
	for (size_t i = (size_t)(comment_end - text); i < n; i++) {
		char was = text[i];

		text[i] = was == '1' ? '2' : '1';
		assert_true(recovery_file_parse(text, n, passphrase, with, &back) < 0);
		text[i] = was;
		assert_true(recovery_file_parse(text, i, passphrase, with, &back) < 0);
	}
	secret_free(text);
}

static void test_secret_file(void **state)
{
	struct place *p = *state;

	secret_file(p->pair, NULL);
	secret_file(p->pair, "correct horse");
}

static void test_copy_bytes(void **state)
{
	struct place *p = *state;
	struct recovery_copy head = {.generation = 7, .installation = {1, 2}, .to = p->pair->public}, back;
	struct root_key *r = secret_alloc(sizeof(*r)), *got = secret_alloc(sizeof(*got));
	struct recovery_pair *stranger;
	uint8_t bytes[RECOVERY_COPY_BYTES];

	memset(r, 0x5a, sizeof(*r));
	assert_int_equal(recovery_copy_seal(&head, r, bytes), 0);
	assert_int_equal(recovery_copy_parse(bytes, sizeof(bytes), &back), 0);
	assert_memory_equal(&back, &head, sizeof(back));
	assert_int_equal(recovery_copy_open(bytes, sizeof(bytes), p->pair, got), 0);
	assert_memory_equal(got, r, sizeof(*r));
	assert_int_equal(recovery_pair_new(&stranger), 0);
	assert_int_equal(recovery_copy_open(bytes, sizeof(bytes), stranger, got), -EKEYREJECTED);
	stranger->public = p->pair->public; /* claims to be him */
	assert_int_equal(recovery_copy_open(bytes, sizeof(bytes), stranger, got), -EBADMSG);
	secret_free(stranger);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_true(recovery_copy_parse(bytes, i, &back) < 0);
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[i] ^= (uint8_t)(1u << bit);
			assert_true(recovery_copy_open(bytes, sizeof(bytes), p->pair, got) < 0);
			bytes[i] ^= (uint8_t)(1u << bit);
		}
	}
	secret_free(r);
	secret_free(got);
}

/* ---- copies follow R ---- */

static void test_added_and_rotated(void **state)
{
	struct place *p = *state;

	rotate_well(p); /* without any */
	add(p, "ada", &p->pair->public, p->copy);
	is_current(p);
	rotate_well(p);
	is_current(p);
	reopen(p);
	is_current(p);
}

static void test_old_copy_opens_nothing(void **state)
{
	struct place *p = *state;
	uint8_t *old, *ring;
	size_t n, ring_n;
	enum shred_outcome o;

	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(disk_read(AT_FDCWD, p->copy, 4096, &old, &n), 0);
	assert_int_equal(rotate(p, cuts, 1, &o), 0);
	is_current(p);
	snprintf(p->other, sizeof(p->other), "%s/kept", p->path);
	assert_int_equal(disk_replace(p->fd, "kept", old, n), 0);
	assert_int_equal(opens(p, p->other, NULL), -ENOENT); /* its ring is gone */
	/* nor the ring of now under the old number */
	assert_int_equal(disk_read(p->fd, "keys/ring.2", 1u << 20, &ring, &ring_n), 0);
	assert_int_equal(disk_replace(p->fd, "keys/ring.1", ring, ring_n), 0);
	assert_true(opens(p, p->other, NULL) < 0);
	free(ring);
	free(old);
}

static void test_crash_at_each_step(void **state)
{
	struct place *p = *state;
	struct keytree *t;
	enum shred_outcome o;

	add(p, "ada", &p->pair->public, p->copy);
	for (int step = SHRED_STEP_CONFIRM; step <= SHRED_STEP_SWEEP; step++) {
		uint64_t g = keyring_generation(p->ring);

		p->stop_at = (enum shred_step)step;
		assert_true(rotate(p, NULL, 0, &o) < 0);
		/* whatever R is in force at the next start, there is a copy of it by now */
		reopen(p);
		p->stop_at = 0;
		assert_int_equal(keyring_generation(p->ring), step > SHRED_STEP_SLOT ? g + 1 : g);
		is_current(p);
	}
	p->stop_at = SHRED_STEP_FORGET;
	assert_true(rotate(p, cuts, 1, &o) < 0);
	reopen(p);
	is_current(p);
	assert_int_equal(keyring_tree(p->ring, &goes, &t, NULL), -ENOKEY);
}

static void test_copy_is_there_before_the_slot_turns(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;
	struct stat st;

	add(p, "ada", &p->pair->public, p->copy);
	p->stop_at = SHRED_STEP_SLOT;
	assert_int_equal(rotate(p, NULL, 0, &o), -EINTR);
	assert_int_equal(fstatat(p->fd, "recovery/ada.1", &st, 0), 0);
	assert_int_equal(fstatat(p->fd, "recovery/ada.2", &st, 0), 0);
	assert_int_equal(fstatat(p->fd, "usb/copy", &st, 0), 0);
	assert_int_equal(fstatat(p->fd, "usb/copy.new", &st, 0), 0);
	p->stop_at = 0;
}

/* A crash between the removal of the old one and the new one's renaming: ours, not lost. */
static void test_crash_between_removal_and_renaming(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	add(p, "ada", &p->pair->public, p->copy);
	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(rotate(p, NULL, 0, &o), -EINTR);
	assert_int_equal(unlink(p->copy), 0);
	p->stop_at = 0;
	reopen(p);
	is_current(p);
}

static void test_medium_that_is_away(void **state)
{
	struct place *p = *state;
	bool changed;

	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(rename(p->usb, p->away), 0);
	rotate_well(p);
	assert_true(remains(p, "ada"));
	assert_int_equal(holder(p, "ada").at_path, 1);
	rotate_well(p);
	assert_int_equal(holder(p, "ada").at_path, 1);
	assert_int_equal(recovery_settle(p->ring, &changed, NULL), 0);
	assert_false(changed);
	assert_int_equal(rename(p->away, p->usb), 0);
	assert_int_equal(recovery_settle(p->ring, &changed, NULL), 0);
	assert_true(changed);
	is_current(p);
}

static void test_copy_that_somebody_took(void **state)
{
	struct place *p = *state;

	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(rename(p->copy, p->other), 0);
	rotate_well(p);
	assert_true(remains(p, "ada"));
	assert_int_equal(holder(p, "ada").astray, 1);
	assert_int_equal(holder(p, "ada").at_path, 2); /* and there is a new one */
	rotate_well(p);
	assert_true(remains(p, "ada"));
	assert_int_equal(recovery_confirm(p->ring, "nobody", NULL), -ENOENT);
	assert_int_equal(recovery_confirm(p->ring, "ada", NULL), 0);
	assert_int_equal(recovery_confirm(p->ring, "ada", NULL), -ENOENT);
	is_current(p);
}

static void test_what_is_not_ours_is_not_touched(void **state)
{
	struct place *p = *state;
	char text[16] = "";
	int fd;

	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(unlink(p->copy), 0);
	fd = open(p->copy, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "mine", 4), 4);
	close(fd);
	rotate_well(p);
	fd = open(p->copy, O_RDONLY);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	close(fd);
	assert_string_equal(text, "mine");
	assert_true(remains(p, "ada"));
}

static void test_removed(void **state)
{
	struct place *p = *state;
	struct stat st;

	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(recovery_remove(p->ring, "ada", 9, NULL), 0);
	assert_int_equal(stat(p->copy, &st), -1);
	assert_string_equal(holder(p, "ada").name, "");
	assert_int_equal(recovery_remove(p->ring, "ada", 9, NULL), -ENOENT);
	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(rename(p->usb, p->away), 0);
	assert_int_equal(recovery_remove(p->ring, "ada", 9, NULL), 0);
	assert_int_equal(holder(p, "ada").removed_at, 9);
	assert_true(remains(p, "ada"));
	rotate_well(p);
	assert_true(remains(p, "ada"));
	assert_int_equal(fstatat(p->fd, "recovery/ada.2", &st, 0), -1);
	assert_int_equal(recovery_confirm(p->ring, "ada", NULL), 0);
	assert_string_equal(holder(p, "ada").name, "");
}

static void refused(struct place *p, const char *name, const struct recovery_public *public, const char *path, int want)
{
	struct recovery_holder h = {.public = *public};
	struct keys_error err = {0};

	snprintf(h.name, sizeof(h.name), "%s", name);
	snprintf(h.path, sizeof(h.path), "%s", path);
	assert_int_equal(recovery_add(p->ring, &h, &err), want);
	assert_true(*err.text);
}

static void test_refused(void **state)
{
	struct place *p = *state;
	struct recovery_public zero = {{0}};
	struct recovery_pair *bob;
	char open_to_all[128];

	assert_int_equal(recovery_pair_new(&bob), 0);
	add(p, "ada", &p->pair->public, p->copy);
	refused(p, "ada", &bob->public, p->other, -EEXIST);
	refused(p, "bob", &p->pair->public, p->other, -EEXIST);
	refused(p, "bob", &bob->public, p->copy, -EEXIST);
	refused(p, "holders", &bob->public, p->other, -EINVAL);
	refused(p, "b/b", &bob->public, p->other, -EINVAL);
	refused(p, "", &bob->public, p->other, -EINVAL);
	refused(p, "bob", &zero, p->other, -EINVAL);
	refused(p, "bob", &bob->public, "relative", -EINVAL);
	refused(p, "bob", &bob->public, "/nowhere/at/all", -ENOENT);
	snprintf(open_to_all, sizeof(open_to_all), "%s/open", p->path);
	assert_int_equal(mkdir(open_to_all, 0700), 0);
	assert_int_equal(chmod(open_to_all, 0777), 0);
	strcat(open_to_all, "/copy");
	refused(p, "bob", &bob->public, open_to_all, -EPERM);
	add(p, "bob", &bob->public, p->other);
	secret_free(bob);
}

/* Nobody adds himself by writing into D. */
static void test_altered_set(void **state)
{
	struct place *p = *state;
	struct recovery_set s;
	enum shred_outcome o;
	uint8_t *file;
	size_t n;

	add(p, "ada", &p->pair->public, p->copy);
	assert_int_equal(disk_read(p->fd, "keys/holders.1", 1u << 16, &file, &n), 0);
	for (size_t i = 0; i < n; i++) {
		file[i] ^= 1;
		assert_int_equal(disk_replace(p->fd, "keys/holders.1", file, n), 0);
		assert_true(recovery_load(p->ring, &s, NULL) < 0);
		file[i] ^= 1;
	}
	file[n - 1] ^= 1;
	assert_int_equal(disk_replace(p->fd, "keys/holders.1", file, n), 0);
	assert_int_equal(rotate(p, NULL, 0, &o), -EBADMSG);
	assert_int_equal(o, SHRED_NOTHING);
	free(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_public_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_secret_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_added_and_rotated, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_copy_opens_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_at_each_step, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy_is_there_before_the_slot_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_between_removal_and_renaming, setup, teardown),
		cmocka_unit_test_setup_teardown(test_medium_that_is_away, setup, teardown),
		cmocka_unit_test_setup_teardown(test_copy_that_somebody_took, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_ours_is_not_touched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_altered_set, setup, teardown),
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
