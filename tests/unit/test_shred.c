/* Three clients: alpha goes, beta loses class 16, gamma stays.  After every way to be interrupted either all
 * of it still opens, or exactly what was to go is gone. */
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
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/shred.h"
#include "tests/unit/keys_fixture.h"
#include "tests/unit/slot_fixture.h"

#define SLOT "slot/root.slot"
#define FILES_MAX 16

static const struct client_id alpha = {{0xaa}}, beta = {{0xbb}}, stays = {{0xcc}};
static const struct leaf_index leaf16 = {16, 2500, 7}, leaf17 = {17, 2500, 7};
static const struct keyring_cut cuts[] = {
	{.client = {{0xaa}}, .whole = true},
	{.client = {{0xbb}}, .prefix = (uint64_t)16 << 48, .bits = 16},
};

struct place {
	char path[64];
	int fd;
	struct slot_set *slot;
	struct keyring *ring;
	struct key32 alpha16, beta16, beta17, stays16;
	const char *passphrase;
	/* of the hooks */
	enum shred_step stop_at, slot_away_at;
	int confirm_result;
	unsigned confirmed, steps;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	*state = p;
	p->fd = folder_make(p->path, sizeof(p->path), "/tmp", "shred");
	if (keys_create(p->fd, (const struct client_id *const[]){&alpha, &beta, &stays, NULL}, &p->slot, &p->ring) < 0)
		return -1;
	if (key_of(p->ring, &alpha, leaf16, &p->alpha16) < 0 ||
		key_of(p->ring, &beta, leaf16, &p->beta16) < 0 ||
		key_of(p->ring, &beta, leaf17, &p->beta17) < 0 ||
		key_of(p->ring, &stays, leaf16, &p->stays16) < 0)
		return -1;
	return 0;
}

static void close_all(struct place *p)
{
	keys_close(&p->slot, &p->ring);
}

static int teardown(void **state)
{
	struct place *p = *state;

	close_all(p);
	close(p->fd);
	folder_remove(AT_FDCWD, p->path);
	free(p);
	return 0;
}

static int confirm(void *arg)
{
	struct place *p = arg;

	p->confirmed++;
	return p->confirm_result;
}

static int before(enum shred_step step, void *arg)
{
	struct place *p = arg;

	assert_int_equal(step, p->steps + 1); /* in this order, none left out */
	p->steps = step;
	if (step == p->slot_away_at)
		assert_int_equal(renameat(p->fd, SLOT, p->fd, "away"), 0);
	return step == p->stop_at ? -EINTR : 0;
}

static int run(struct place *p, enum shred_outcome *ret)
{
	const struct shred_job job = {
		.cuts = cuts, .count = ARRAY_SIZE(cuts), .confirm = confirm, .before = before, .arg = p};

	p->steps = 0;
	return shred_run(&job, p->slot, &p->ring, ret, NULL);
}

static int try_open(struct place *p, struct shred_opened *ret, struct keys_error *err)
{
	int r;

	close_all(p);
	r = slot_set_open(p->fd, p->passphrase, p->passphrase ? strlen(p->passphrase) : 0, &p->slot, err);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof(*ret));
	r = shred_open(p->fd, p->slot, ret, err);
	p->ring = ret->ring;
	return r;
}

static enum shred_found reopen(struct place *p)
{
	struct keys_error err = {0};
	struct shred_opened o;

	if (try_open(p, &o, &err) < 0)
		fail_msg("does not open: %s", err.text);
	assert_string_equal(o.warning, "");
	return o.found;
}

static void same_key(
	struct place *p, const struct client_id *c, struct leaf_index leaf, const struct key32 *want)
{
	struct key32 got;

	assert_int_equal(key_of(p->ring, c, leaf, &got), 0);
	assert_memory_equal(&got, want, sizeof(got));
}

static void all_opens(struct place *p)
{
	assert_int_equal(keyring_generation(p->ring), slot_set_generation(p->slot));
	assert_int_equal(keyring_count(p->ring), 3);
	same_key(p, &alpha, leaf16, &p->alpha16);
	same_key(p, &beta, leaf16, &p->beta16);
	same_key(p, &beta, leaf17, &p->beta17);
	same_key(p, &stays, leaf16, &p->stays16);
}

static void is_destroyed(struct place *p)
{
	struct key32 got;

	assert_int_equal(keyring_generation(p->ring), slot_set_generation(p->slot));
	assert_int_equal(keyring_count(p->ring), 2);
	assert_int_equal(key_of(p->ring, &alpha, leaf16, &got), -ENOKEY);
	assert_int_equal(key_of(p->ring, &beta, leaf16, &got), -ENOKEY);
	same_key(p, &beta, leaf17, &p->beta17);
	same_key(p, &stays, leaf16, &p->stays16);
}

static void slot_is_settled(struct place *p)
{
	assert_true(main_slot_is_settled(p->fd));
}

/* A folder in memory: what a backup has of it. */
struct copy {
	size_t count;
	struct {
		char name[128];
		uint8_t *data;
		size_t n;
	} files[FILES_MAX];
};

static void copy_take(const struct place *p, const char *folder, struct copy *c)
{
	int dir = openat(p->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *e;
	DIR *d = fdopendir(dir);

	memset(c, 0, sizeof(*c));
	assert_non_null(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		assert_true(c->count < FILES_MAX);
		(void)snprintf(c->files[c->count].name, sizeof(c->files[0].name), "%.127s", e->d_name);
		assert_int_equal(
			disk_read(dir, e->d_name, 1u << 20, &c->files[c->count].data, &c->files[c->count].n),
			0);
		c->count++;
	}
	closedir(d);
	assert_true(c->count > 0);
}

static void copy_put(const struct place *p, const char *folder, const struct copy *c)
{
	scoped(close_fdp) int dir = -1;

	folder_remove(p->fd, folder);
	assert_int_equal(mkdirat(p->fd, folder, 0700), 0);
	dir = openat(p->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < c->count; i++)
		assert_int_equal(disk_replace(dir, c->files[i].name, c->files[i].data, c->files[i].n), 0);
}

static void copy_done(struct copy *c)
{
	for (size_t i = 0; i < c->count; i++)
		free(c->files[i].data);
}

static void test_destroys(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	all_opens(p);
	assert_int_equal(run(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	assert_int_equal(p->confirmed, 1);
	assert_int_equal(p->steps, SHRED_STEP_SWEEP);
	is_destroyed(p);
	assert_int_equal(keyring_generation(p->ring), 2);
	slot_is_settled(p);
	assert_int_equal(faccessat(p->fd, "keys/ring.1", F_OK, 0), -1);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	is_destroyed(p);
}

static void test_confirm_says_no(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;
	struct copy keys, slot, keys2, slot2;

	copy_take(p, "keys", &keys);
	copy_take(p, "slot", &slot);
	p->confirm_result = -EPERM;
	assert_int_equal(run(p, &o), -EPERM);
	assert_int_equal(o, SHRED_NOTHING);
	assert_int_equal(p->steps, SHRED_STEP_CONFIRM);
	copy_take(p, "keys", &keys2);
	copy_take(p, "slot", &slot2);
	assert_int_equal(keys.count, keys2.count);
	for (size_t i = 0; i < slot.count; i++)
		assert_memory_equal(slot.files[i].data, slot2.files[i].data, slot.files[i].n);
	for (size_t i = 0; i < keys.count; i++)
		assert_memory_equal(keys.files[i].data, keys2.files[i].data, keys.files[i].n);
	copy_done(&keys);
	copy_done(&slot);
	copy_done(&keys2);
	copy_done(&slot2);
	all_opens(p);
}

static void test_crash_before_each_step(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	for (unsigned s = SHRED_STEP_CONFIRM; s <= SHRED_STEP_SLOT; s++) {
		p->stop_at = (enum shred_step)s;
		assert_int_equal(run(p, &o), -EINTR);
		assert_int_equal(o, SHRED_NOTHING);
		assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
		all_opens(p);
		assert_int_equal(faccessat(p->fd, "keys/ring.2", F_OK, 0), -1);
		slot_is_settled(p);
	}
	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, &o), -EINTR);
	assert_int_equal(o, SHRED_PENDING);
	assert_int_equal(reopen(p), SHRED_FOUND_COMPLETED);
	is_destroyed(p);
	slot_is_settled(p);
	assert_int_equal(faccessat(p->fd, "keys/ring.1", F_OK, 0), -1);
}

static void test_crash_before_sweep(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	p->stop_at = SHRED_STEP_SWEEP;
	assert_int_equal(run(p, &o), -EINTR);
	assert_int_equal(o, SHRED_DESTROYED);
	assert_int_equal(faccessat(p->fd, "keys/ring.1", F_OK, 0), 0);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	is_destroyed(p);
	assert_int_equal(faccessat(p->fd, "keys/ring.1", F_OK, 0), -1);
}

/* Within STATE: some of the new files, the last of them in half. */
static void test_crash_within_state(void **state)
{
	struct place *p = *state;
	static const char *const lost[] = {"keys/ring.2", "keys/bb000000000000000000000000000000.2.tree"};
	enum shred_outcome o;
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
		p->stop_at = SHRED_STEP_SLOT;
		assert_int_equal(run(p, &o), -EINTR);
		fd = openat(p->fd, lost[i], O_WRONLY);
		assert_int_equal(ftruncate(fd, 50), 0);
		close(fd);
		assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
		all_opens(p);
	}
}

/* Within FORGET: the old half overwritten, or in part, and not yet mirrored. */
static void test_crash_within_forget(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;
	uint8_t raw[2][DISK_BLOCK];
	struct slot_record head[2];
	unsigned old;

	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, &o), -EINTR);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(disk_read_block(p->fd, SLOT, i, raw[i]), 0);
		assert_int_equal(slot_record_parse(raw[i], &head[i]), 0);
	}
	old = head[0].generation < head[1].generation ? 0 : 1;
	for (size_t n = 512; n <= DISK_BLOCK; n += 512) {
		uint8_t torn[DISK_BLOCK];

		memcpy(torn, raw[old], sizeof(torn));
		memset(torn, 0x5a, n);
		assert_int_equal(disk_write_block(p->fd, SLOT, old, torn), 0);
		assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
		is_destroyed(p);
		slot_is_settled(p);
	}
}

static void test_new_state_lost_rolls_back(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, &o), -EINTR);
	assert_int_equal(unlinkat(p->fd, "keys/ring.2", 0), 0);
	assert_int_equal(reopen(p), SHRED_FOUND_ROLLED_BACK);
	all_opens(p);
	slot_is_settled(p);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	p->stop_at = 0;
	assert_int_equal(run(p, &o), 0);
	is_destroyed(p);
}

static void test_both_states_lost_changes_nothing(void **state)
{
	struct place *p = *state;
	struct keys_error err = {0};
	struct shred_opened opened;
	struct copy keys, slot, now;
	enum shred_outcome o;

	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, &o), -EINTR);
	copy_take(p, "keys", &keys);
	copy_take(p, "slot", &slot);
	assert_int_equal(unlinkat(p->fd, "keys/ring.1", 0), 0);
	assert_int_equal(unlinkat(p->fd, "keys/ring.2", 0), 0);
	assert_int_equal(try_open(p, &opened, &err), -ENOENT);
	assert_non_null(strstr(err.text, "ring.2 is missing"));
	copy_take(p, "slot", &now);
	assert_int_equal(now.count, slot.count);
	for (size_t i = 0; i < slot.count; i++)
		assert_memory_equal(slot.files[i].data, now.files[i].data, slot.files[i].n);
	copy_put(p, "keys", &keys);
	assert_int_equal(reopen(p), SHRED_FOUND_COMPLETED);
	is_destroyed(p);
	copy_done(&keys);
	copy_done(&slot);
	copy_done(&now);
}

/* The promise: all of the key state from before, put back, opens nothing; with the old slot beside it, it
 * does. */
static void test_old_state_does_not_open(void **state)
{
	struct place *p = *state;
	struct keys_error err = {0};
	struct shred_opened opened;
	struct copy keys, slot, keys_after, slot_after;
	enum shred_outcome o;

	copy_take(p, "keys", &keys);
	copy_take(p, "slot", &slot);
	assert_int_equal(run(p, &o), 0);
	copy_take(p, "keys", &keys_after);
	copy_take(p, "slot", &slot_after);

	copy_put(p, "keys", &keys);
	assert_int_equal(try_open(p, &opened, &err), -ENOENT);
	/* Nor under the name of the new one. */
	assert_int_equal(renameat(p->fd, "keys/ring.1", p->fd, "keys/ring.2"), 0);
	assert_int_equal(try_open(p, &opened, &err), -EBADMSG);
	{
		int fd = openat(p->fd, "keys/ring.2", O_WRONLY);

		assert_int_equal(pwrite(fd, "\2", 1, 16), 1);
		close(fd);
	}
	assert_int_equal(try_open(p, &opened, &err), -EKEYREJECTED);

	copy_put(p, "keys", &keys_after);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	is_destroyed(p);

	copy_put(p, "keys", &keys);
	copy_put(p, "slot", &slot);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	all_opens(p);
	copy_done(&keys);
	copy_done(&slot);
	copy_done(&keys_after);
	copy_done(&slot_after);
}

static void test_slot_cannot_be_written(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	p->slot_away_at = SHRED_STEP_SLOT;
	assert_int_equal(run(p, &o), -ENOENT);
	assert_int_equal(o, SHRED_NOTHING);
	assert_int_equal(renameat(p->fd, "away", p->fd, SLOT), 0);
	all_opens(p);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	all_opens(p);
}

static void test_old_half_cannot_be_overwritten(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	p->slot_away_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, &o), -ENOENT);
	assert_int_equal(o, SHRED_PENDING);
	is_destroyed(p); /* for whoever asks here; but the old R may still be there */
	assert_int_equal(run(p, &o), -EBUSY);
	assert_int_equal(o, SHRED_NOTHING);
	assert_int_not_equal(shred_finish(p->slot, p->ring, NULL), 0);
	assert_int_equal(renameat(p->fd, "away", p->fd, SLOT), 0);
	assert_int_equal(shred_finish(p->slot, p->ring, NULL), 0);
	slot_is_settled(p);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	is_destroyed(p);
}

/* Died before forgetting, and now the other half neither reads as a root key nor takes a write: it may still hold the old one. */
static void test_unreadable_half_that_takes_no_write(void **state)
{
	const struct rlimit none = {.rlim_cur = 0, .rlim_max = RLIM_INFINITY};
	struct place *p = *state;
	uint8_t byte;
	struct keys_error err = {0};
	struct shred_opened o;
	struct rlimit before;
	unsigned newest;
	int fd, r, r2;

	slot_is_settled(p);
	fd = openat(p->fd, SLOT, O_RDWR);
	for (newest = 0; newest < 2; newest++) { /* damage either half in turn: the other one is taken */
		assert_int_equal(pread(fd, &byte, 1, (off_t)newest * SLOT_RECORD_BYTES + 100), 1);
		byte ^= 0x5a;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)newest * SLOT_RECORD_BYTES + 100), 1);
		signal(SIGXFSZ, SIG_IGN);
		assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
		r = try_open(p, &o, &err);
		r2 = shred_finish(p->slot, p->ring, NULL);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
		assert_int_equal(r, 0);
		assert_int_equal(o.found, SHRED_FOUND_PENDING);
		assert_string_not_equal(o.warning, "");
		assert_int_not_equal(r2, 0);
		all_opens(p);
		assert_int_equal(shred_finish(p->slot, p->ring, NULL), 0);
		slot_is_settled(p);
		assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	}
	close(fd);
}

static void test_under_a_passphrase(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	assert_int_equal(slots_set_passphrase(p->slot, &p->ring, "one", WEAK, &o), 0);
	p->passphrase = "one";
	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, &o), -EINTR);
	assert_int_equal(reopen(p), SHRED_FOUND_COMPLETED);
	is_destroyed(p);
	slot_is_settled(p);
}

static void test_again_and_again(void **state)
{
	struct place *p = *state;
	struct shred_job job = {0};
	enum shred_outcome o;

	for (uint64_t i = 2; i < 6; i++) {
		assert_int_equal(
			shred_run(&job, p->slot, &p->ring, &o, NULL), 0); /* a rotation, nothing cut */
		assert_int_equal(o, SHRED_DESTROYED);
		assert_int_equal(keyring_generation(p->ring), i);
		all_opens(p);
		assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
		all_opens(p);
	}
	assert_int_equal(run(p, &o), 0);
	assert_int_equal(run(p, &o), -ENOKEY); /* alpha is gone already */
	assert_int_equal(o, SHRED_NOTHING);
	assert_int_equal(reopen(p), SHRED_FOUND_NOTHING);
	is_destroyed(p);
}

/* A damaged tree of a client that is not meant hinders nothing, and is as damaged afterwards. */
static void test_damaged_neighbour(void **state)
{
	static const enum shred_step stops[] = {SHRED_STEP_SLOT, SHRED_STEP_FORGET};
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;
	struct key32 key;
	int fd;

	fd = openat(p->fd, "keys/cc000000000000000000000000000000.1.tree", O_WRONLY);
	assert_int_equal(pwrite(fd, "\377", 1, 100), 1);
	close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
		p->stop_at = stops[i];
		assert_int_equal(run(p, &o), -EINTR);
		assert_int_equal(try_open(p, &opened, NULL), 0);
		assert_int_equal(opened.found, i == 0 ? SHRED_FOUND_NOTHING : SHRED_FOUND_COMPLETED);
		assert_non_null(strstr(opened.warning, "cc000000000000000000000000000000.1.tree is damaged"));
		assert_int_equal(keyring_has(p->ring, &alpha), i == 0);
		assert_int_equal(key_of(p->ring, &stays, leaf16, &key), -EBADMSG);
		same_key(p, &beta, leaf17, &p->beta17);
	}
}

/* A damaged tree of one that is to be punctured: it cannot be carried over, so nothing is destroyed, and it
 * is said. */
static void test_damaged_victim(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;
	int fd;

	fd = openat(p->fd, "keys/bb000000000000000000000000000000.1.tree", O_WRONLY);
	assert_int_equal(pwrite(fd, "\377", 1, 100), 1);
	close(fd);
	assert_int_equal(run(p, &o), -EBADMSG);
	assert_int_equal(o, SHRED_NOTHING);
	same_key(p, &alpha, leaf16, &p->alpha16);
	slot_is_settled(p);
}

#define IN_PLACE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(test_destroys),
		IN_PLACE(test_confirm_says_no),
		IN_PLACE(test_crash_before_each_step),
		IN_PLACE(test_crash_before_sweep),
		IN_PLACE(test_crash_within_state),
		IN_PLACE(test_crash_within_forget),
		IN_PLACE(test_new_state_lost_rolls_back),
		IN_PLACE(test_both_states_lost_changes_nothing),
		IN_PLACE(test_old_state_does_not_open),
		IN_PLACE(test_slot_cannot_be_written),
		IN_PLACE(test_old_half_cannot_be_overwritten),
		IN_PLACE(test_unreadable_half_that_takes_no_write),
		IN_PLACE(test_under_a_passphrase),
		IN_PLACE(test_again_and_again),
		IN_PLACE(test_damaged_neighbour),
		IN_PLACE(test_damaged_victim),
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
