/* A destruction, a new client, a new passphrase, a slot that comes or goes: the process ends, or the disk fails, at every step that they do on the
 * disk, one after the other.  Whatever step it was, all opens as before or exactly what was to go is gone; both halves of
 * the slot are there; what was said of it is true; and the next try gets through. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/recovery.h"
#include "keyd/shred.h"
#include "slot_fixture.h"
#include "tests/crash/steps.h"

#define PASSPHRASE "one"

static const struct client_id alpha = {{0xaa}}, beta = {{0xbb}}, stays = {{0xcc}}, fresh = {{0xdd}};
static const struct leaf_index leaf16 = {16, 2500, 7}, leaf17 = {17, 2500, 7};
static const struct keyring_cut cuts[] = {
	{.client = {{0xaa}}, .whole = true},
	{.client = {{0xbb}}, .prefix = (uint64_t)16 << 48, .bits = 16},
};

enum op { DESTROY, DESTROY_TWO, ADD, SET_PASSPHRASE, PASSPHRASE_TWO, ADD_SLOT, REMOVE_SLOT }; /* from _TWO on: with two slots */

static struct shared { /* with the processes that the steps happen in */
	struct steps_plan plan;
	struct key32 alpha16, beta16, beta17, stays16;
	bool returned; /* the operation did; what it said: */
	int result;
	enum shred_outcome outcome;
} *shared;

static char path[64], usb[96], copy[128], third[96];

/* In a process of its own, whose exit status counts. */
#define CHECK(what)                                                                                          \
	do {                                                                                                 \
		if (!(what)) {                                                                               \
			fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                   \
			_exit(1);                                                                            \
		}                                                                                            \
	} while (0)

struct place {
	int fd;
	struct slot_set *slot;
	struct keyring *ring;
};

static bool destroys(enum op op)
{
	return op == DESTROY || op == DESTROY_TWO;
}

static bool has_two(enum op op)
{
	return op == DESTROY_TWO || op >= PASSPHRASE_TWO;
}

static const struct slot_seal by_key_file = {.protection = SLOT_BY_KEY_FILE};

/* With what was planned for the slots. */
static int rotate(struct place *p, enum shred_outcome *ret)
{
	const struct shred_job job = {0};
	int r = shred_run(&job, p->slot, &p->ring, ret, NULL);

	slot_set_plan_drop(p->slot);
	return r;
}

static void add_slot(struct place *p)
{
	enum shred_outcome o;
	char where[128];

	snprintf(where, sizeof(where), "%s/slot", usb);
	CHECK(slot_set_plan_add(p->slot, "usb", SLOT_FILE, where, &by_key_file, NULL) == 0);
	CHECK(rotate(p, &o) == 0 && o == SHRED_DESTROYED);
}

static int key_of(const struct keyring *k, const struct client_id *c, struct leaf_index leaf, struct key32 *ret)
{
	struct keytree *t;
	int r = keyring_tree(k, c, &t, NULL);

	if (r == 0) {
		r = keytree_derive(t, leaf, KEY_USE_WRAP, ret);
		keytree_free(t);
	}
	return r;
}

static bool same(const struct place *p, const struct client_id *c, struct leaf_index leaf, const struct key32 *want)
{
	struct key32 got;

	return key_of(p->ring, c, leaf, &got) == 0 && memcmp(&got, want, sizeof(got)) == 0;
}

static bool is_gone(const struct place *p, const struct client_id *c, struct leaf_index leaf)
{
	struct key32 got;

	return key_of(p->ring, c, leaf, &got) == -ENOKEY;
}

static void begin(struct place *p, enum op op)
{
	struct recovery_holder h = {.name = "safe", .added_at = 5, .by = "ada"};
	struct recovery_pair *pair = NULL;

	CHECK(secret_init(1u << 20) == 0);
	p->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(p->fd >= 0 && slot_set_create(p->fd, &p->slot, NULL) == 0);
	CHECK(keyring_create(p->fd, slot_set_root(p->slot), &p->ring, NULL) == 0);
	CHECK(keyring_add(p->ring, &alpha, NULL) == 0 && keyring_add(p->ring, &beta, NULL) == 0);
	CHECK(keyring_add(p->ring, &stays, NULL) == 0);
	CHECK(recovery_pair_new(&pair) == 0);
	h.public = pair->public;
	snprintf(h.path, sizeof(h.path), "%s", copy);
	CHECK(recovery_add(p->ring, &h, NULL) == 0);
	secret_free(pair);
	if (has_two(op))
		add_slot(p);
	CHECK(key_of(p->ring, &alpha, leaf16, &shared->alpha16) == 0);
	CHECK(key_of(p->ring, &beta, leaf16, &shared->beta16) == 0);
	CHECK(key_of(p->ring, &beta, leaf17, &shared->beta17) == 0);
	CHECK(key_of(p->ring, &stays, leaf16, &shared->stays16) == 0);
}

static int operate(struct place *p, enum op op)
{
	const struct shred_job job = {.cuts = cuts, .count = ARRAY_SIZE(cuts)};
	int r;

	switch (op) {
	case DESTROY:
	case DESTROY_TWO:
		return shred_run(&job, p->slot, &p->ring, &shared->outcome, NULL);
	case ADD:
		return keyring_add(p->ring, &fresh, NULL);
	case SET_PASSPHRASE:
	case PASSPHRASE_TWO:
		return slots_set_passphrase(p->slot, &p->ring, PASSPHRASE, WEAK, &shared->outcome);
	case ADD_SLOT:
		r = slot_set_plan_add(p->slot, "third", SLOT_FILE, third, &by_key_file, NULL);
		return r < 0 ? r : rotate(p, &shared->outcome);
	case REMOVE_SLOT:
		r = slot_set_plan_remove(p->slot, "usb", false, 5, NULL);
		return r < 0 ? r : rotate(p, &shared->outcome);
	}
	return -EINVAL;
}

static bool all_opens(const struct place *p)
{
	return keyring_generation(p->ring) == slot_set_generation(p->slot) &&
	       same(p, &alpha, leaf16, &shared->alpha16) && same(p, &beta, leaf16, &shared->beta16) &&
	       same(p, &beta, leaf17, &shared->beta17) && same(p, &stays, leaf16, &shared->stays16);
}

static bool is_destroyed(const struct place *p)
{
	return keyring_generation(p->ring) == slot_set_generation(p->slot) && is_gone(p, &alpha, leaf16) &&
	       is_gone(p, &beta, leaf16) && same(p, &beta, leaf17, &shared->beta17) &&
	       same(p, &stays, leaf16, &shared->stays16);
}

/* Neither old rings nor copies of an older R lie about. */
static bool is_swept(const struct place *p)
{
	static const char *const folders[] = {"keys", "recovery"};
	unsigned rings = 0, copies = 0;

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		int fd = openat(p->fd, folders[i], O_RDONLY | O_DIRECTORY);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		const struct dirent *e;

		while (d && (e = readdir(d))) {
			rings += strncmp(e->d_name, "ring.", 5) == 0;
			copies += strncmp(e->d_name, "safe.", 5) == 0;
		}
		if (d)
			closedir(d);
	}
	return rings == 1 && copies == 1;
}

/* All of them. */
static bool slot_is_settled(const struct place *p)
{
	struct slot_view v;

	for (size_t i = 0; i < slot_set_count(p->slot); i++) {
		slot_set_view(p->slot, i, &v);
		if (v.state != SLOT_OK && v.ref.role == SLOT_MEMBER)
			return false;
	}
	return main_slot_is_settled(p->fd);
}

static bool has_slot(const struct place *p, const char *name)
{
	struct slot_view v;

	for (size_t i = 0; i < slot_set_count(p->slot); i++) {
		slot_set_view(p->slot, i, &v);
		if (strcmp(v.ref.name, name) == 0 && v.ref.role == SLOT_MEMBER)
			return true;
	}
	return false;
}

static bool is_done(const struct place *p, enum op op)
{
	switch (op) {
	case DESTROY:
	case DESTROY_TWO:
		return is_destroyed(p);
	case ADD:
		return keyring_has(p->ring, &fresh);
	case SET_PASSPHRASE:
	case PASSPHRASE_TWO:
		return main_slot_protection(p->fd) == SLOT_BY_PASSPHRASE;
	case ADD_SLOT:
		return has_slot(p, "third");
	case REMOVE_SLOT:
		return !has_slot(p, "usb");
	}
	return false;
}

/* What the same process believes after a call failed under it. */
static void look_on(struct place *p, enum op op)
{
	if (!destroys(op)) {
		CHECK(all_opens(p));
		return;
	}
	CHECK(shared->outcome == SHRED_DESTROYED || shared->result < 0);
	switch (shared->outcome) {
	case SHRED_NOTHING:
		CHECK(all_opens(p));
		CHECK(operate(p, op) == 0 && shared->outcome == SHRED_DESTROYED);
		break;
	case SHRED_PENDING:
		CHECK(is_destroyed(p));
		CHECK(shred_finish(p->slot, p->ring, NULL) == 0);
		shared->outcome = SHRED_DESTROYED;
		break;
	case SHRED_UNKNOWN:
		return;
	default:
		break;
	}
	CHECK(is_destroyed(p) && slot_is_settled(p));
}

static void act(enum op op)
{
	struct place p;

	begin(&p, op);
	steps_use(&shared->plan, path);
	shared->result = operate(&p, op);
	shared->returned = true;
	shared->plan.mode = STEPS_OFF;
	look_on(&p, op);
	keyring_free(p.ring);
	slot_set_close(p.slot);
	CHECK(secret_in_use() == 0);
}

static int reopen_with(struct place *p, const char *passphrase, struct shred_opened *o)
{
	int r = slot_set_open(p->fd, passphrase, passphrase ? strlen(passphrase) : 0, &p->slot, NULL);

	if (r < 0)
		return r;
	r = shred_open(p->fd, p->slot, o, NULL);
	if (r < 0)
		slot_set_close(p->slot);
	p->ring = o->ring;
	return r;
}

/* One slot may be under the passphrase already, and the other not. */
static int reopen(struct place *p, struct shred_opened *o)
{
	return reopen_with(p, NULL, o) == 0 ? 0 : reopen_with(p, PASSPHRASE, o);
}

static void look_after_restart(enum op op)
{
	struct shred_opened o = {0};
	struct place p = {0};
	bool destroyed;

	CHECK(secret_init(1u << 20) == 0);
	p.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(reopen(&p, &o) == 0);
	CHECK(o.found != SHRED_FOUND_PENDING && o.warning[0] == 0);
	destroyed = destroys(op) && is_destroyed(&p);
	CHECK(destroyed || all_opens(&p));
	CHECK(slot_is_settled(&p) && is_swept(&p));
	if (destroys(op) && shared->returned && shared->outcome != SHRED_UNKNOWN)
		CHECK(destroyed == (shared->outcome == SHRED_DESTROYED));
	if (shared->returned && shared->result == 0)
		CHECK(is_done(&p, op));
	if (!is_done(&p, op))
		CHECK(operate(&p, op) == 0);
	CHECK(is_done(&p, op));
	CHECK(slot_is_settled(&p) && is_swept(&p));
}

static int in_child(void (*fn)(enum op op), enum op op)
{
	int status = -1;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		fn(op);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void clean(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", path);
	assert_int_equal(system(command), 0);
}

/* True: step number `at` was reached. */
static bool try_step(enum op op, enum steps_mode mode, uint32_t at, int error)
{
	int status, after;

	clean();
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mkdir(usb, 0700), 0);
	memset(shared, 0, sizeof(*shared));
	shared->plan.mode = mode;
	shared->plan.at = at;
	shared->plan.error = (uint32_t)error;
	status = in_child(act, op);
	after = in_child(look_after_restart, op);
	if ((!WIFSIGNALED(status) && status != 0) || after != 0)
		fail_msg("operation %d, mode %d, step %u (%s): %x, %x; said %d, outcome %d", op, mode, at, shared->plan.last,
			status, after, shared->result, shared->outcome);
	clean();
	return shared->plan.hits > 0;
}

static void every_step(enum op op, enum steps_mode mode, int error)
{
	uint32_t at = 0;

	while (try_step(op, mode, at, error))
		at++;
	print_message("%u steps\n", at);
	assert_true(at >= 5);
}

static int setup_all(void **state)
{
	const char *top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(path, sizeof(path), "%s/coffer-test-steps.%d", top, (int)getpid());
	snprintf(usb, sizeof(usb), "%s/usb", path);
	snprintf(copy, sizeof(copy), "%s/copy", usb);
	snprintf(third, sizeof(third), "%s/third", path);
	return shared == MAP_FAILED ? -1 : 0;
}

#define EACH(name, mode, error)                                                                              \
	static void test_destroy_##name(void **state) { every_step(DESTROY, mode, error); }                  \
	static void test_add_##name(void **state) { every_step(ADD, mode, error); }                          \
	static void test_passphrase_##name(void **state) { every_step(SET_PASSPHRASE, mode, error); }

#define TWO(name, mode, error)                                                                               \
	static void test_two_slots_##name(void **state) { every_step(DESTROY_TWO, mode, error); }            \
	static void test_two_passphrases_##name(void **state) { every_step(PASSPHRASE_TWO, mode, error); }   \
	static void test_add_slot_##name(void **state) { every_step(ADD_SLOT, mode, error); }                \
	static void test_remove_slot_##name(void **state) { every_step(REMOVE_SLOT, mode, error); }

TWO(killed, STEPS_KILL, 0)
TWO(torn, STEPS_TEAR, 0)
TWO(error, STEPS_FAIL, EIO)
TWO(error_on, STEPS_FAIL_ON, EIO)
EACH(killed, STEPS_KILL, 0)
EACH(torn, STEPS_TEAR, 0)
EACH(error, STEPS_FAIL, EIO)
EACH(error_on, STEPS_FAIL_ON, EIO)
EACH(full, STEPS_FAIL, ENOSPC)
EACH(full_on, STEPS_FAIL_ON, ENOSPC)

#define TESTS(name)                                                                                          \
	cmocka_unit_test(test_destroy_##name), cmocka_unit_test(test_add_##name),                            \
		cmocka_unit_test(test_passphrase_##name)

#define TESTS_TWO(name)                                                                                      \
	cmocka_unit_test(test_two_slots_##name), cmocka_unit_test(test_two_passphrases_##name),              \
		cmocka_unit_test(test_add_slot_##name), cmocka_unit_test(test_remove_slot_##name)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TESTS_TWO(killed), TESTS_TWO(torn), TESTS_TWO(error), TESTS_TWO(error_on),
		TESTS(killed), TESTS(torn), TESTS(error), TESTS(error_on), TESTS(full), TESTS(full_on),
	};

	return cmocka_run_group_tests(tests, setup_all, NULL);
}
