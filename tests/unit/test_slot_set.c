/* Two slots and more: what is destroyed is destroyed in all of them, or it is said which one is waited for; and nothing of
 * what happens to one of them loses R or brings an older one back. */
#include <dirent.h>
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


static const struct client_id alpha = {{0xaa}}, stays = {{0xcc}};
static const struct leaf_index leaf = {16, 2500, 7};
static const struct keyring_cut cut_alpha = {.client = {{0xaa}}, .whole = true};
static const struct slot_seal by_key_file = {.protection = SLOT_BY_KEY_FILE};
static const struct slot_seal by_passphrase = {
	.protection = SLOT_BY_PASSPHRASE, .text = "two", .n = 3, .kdf = {1, SLOT_KDF_MEMORY_MIN}};

struct place {
	char top[64], keyd[80], usb[80], away[80];
	int fd;
	struct slot_set *slots;
	struct keyring *ring;
	struct key32 key_alpha, key_stays;
	const char *passphrase;
	enum shred_step stop_at, unplug_at;
	struct keys_error err;
};

static int rotate(struct place *p, enum shred_outcome *ret);

/* main by a key file and, with it, usb. */
static int make(struct place *p, const struct slot_seal *usb)
{
	enum shred_outcome o;

	if (keys_create(p->fd, (const struct client_id *const[]){&alpha, &stays, NULL}, &p->slots, &p->ring) < 0 ||
		key_of(p->ring, &alpha, leaf, &p->key_alpha) < 0 || key_of(p->ring, &stays, leaf, &p->key_stays) < 0)
		return -1;
	if (!usb)
		return 0;
	if (slot_set_plan_add(p->slots, "usb", SLOT_FILE, p->usb, usb, &p->err) < 0 || rotate(p, &o) < 0)
		return -1;
	return o == SHRED_DESTROYED ? 0 : -1;
}

static int make_place(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	int top;

	if (!p)
		return -1;
	*state = p;
	top = folder_make(p->top, sizeof(p->top), "/tmp", "slots");
	if (top < 0)
		return -1;
	close(top);
	(void)snprintf(p->keyd, sizeof(p->keyd), "%s/keyd", p->top);
	(void)snprintf(p->usb, sizeof(p->usb), "%s/usb", p->top);
	(void)snprintf(p->away, sizeof(p->away), "%s/away", p->top);
	if (mkdir(p->keyd, 0700) < 0)
		return -1;
	p->fd = open(p->keyd, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return p->fd < 0 ? -1 : 0;
}

static int setup(void **state)
{
	return make_place(state) < 0 ? -1 : make(*state, &by_key_file);
}

static int setup_single(void **state)
{
	return make_place(state) < 0 ? -1 : make(*state, NULL);
}

static int setup_locked(void **state)
{
	return make_place(state) < 0 ? -1 : make(*state, &by_passphrase);
}

static void close_all(struct place *p)
{
	keys_close(&p->slots, &p->ring);
}

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	assert_int_equal(system(command), 0);
}

static int teardown(void **state)
{
	struct place *p = *state;

	close_all(p);
	close(p->fd);
	folder_remove(AT_FDCWD, p->top);
	free(p);
	return 0;
}

static void unplug(const struct place *p)
{
	assert_int_equal(rename(p->usb, p->away), 0);
}

static void plug(const struct place *p)
{
	assert_int_equal(rename(p->away, p->usb), 0);
}

static int before(enum shred_step step, void *arg)
{
	struct place *p = arg;

	if (step == p->unplug_at)
		unplug(p);
	return step == p->stop_at ? -EINTR : 0;
}

static int run(struct place *p, const struct keyring_cut *cuts, size_t n, enum shred_outcome *ret)
{
	const struct shred_job job = {.cuts = cuts, .count = n, .before = before, .arg = p};

	p->err.text[0] = '\0';
	return shred_run(&job, p->slots, &p->ring, ret, &p->err);
}

static int rotate(struct place *p, enum shred_outcome *ret)
{
	int r = run(p, NULL, 0, ret);

	slot_set_plan_drop(p->slots);
	return r;
}

static int destroy(struct place *p, enum shred_outcome *ret)
{
	return run(p, &cut_alpha, 1, ret);
}

static int try_open(struct place *p, struct shred_opened *ret)
{
	int r;

	close_all(p);
	memset(ret, 0, sizeof(*ret));
	p->err.text[0] = '\0';
	r = slot_set_open(p->fd, p->passphrase, p->passphrase ? strlen(p->passphrase) : 0, &p->slots, &p->err);
	if (r < 0)
		return r;
	r = shred_open(p->fd, p->slots, ret, &p->err);
	p->ring = ret->ring;
	return r;
}

static enum shred_found reopen(struct place *p, const char *warning)
{
	struct shred_opened o;

	if (try_open(p, &o) < 0)
		fail_msg("does not open: %s", p->err.text);
	if (warning ? !strstr(o.warning, warning) : o.warning[0] != 0)
		fail_msg("warns: '%s'", o.warning);
	return o.found;
}

static void says(const struct place *p, const char *word)
{
	if (!strstr(p->err.text, word))
		fail_msg("'%s' does not say '%s'", p->err.text, word);
}

static bool lives(const struct place *p)
{
	struct key32 got;
	int r = key_of(p->ring, &alpha, leaf, &got);

	assert_true(r == 0 || r == -ENOKEY);
	assert_true(r < 0 || memcmp(&got, &p->key_alpha, sizeof(got)) == 0);
	assert_int_equal(key_of(p->ring, &stays, leaf, &got), 0);
	assert_memory_equal(&got, &p->key_stays, sizeof(got));
	return r == 0;
}

static struct slot_view view(const struct place *p, const char *name)
{
	struct slot_view v;

	for (size_t i = 0; i < slot_set_count(p->slots); i++) {
		slot_set_view(p->slots, i, &v);
		if (strcmp(v.ref.name, name) == 0)
			return v;
	}
	fail_msg("there is no slot %s", name);
	return v;
}

static void state_is(const struct place *p, const char *name, enum slot_state want)
{
	struct slot_view v = view(p, name);

	if (v.state != want)
		fail_msg("%s is %s, not %s: %s", name, slot_state_name(v.state), slot_state_name(want), v.text);
	assert_true((want == SLOT_OK) == (v.text[0] == 0));
}

static bool there(const struct place *p, const char *name)
{
	return faccessat(p->fd, name, F_OK, 0) == 0;
}

static void usb_raw(const struct place *p, const char *folder, uint8_t ret[2][SLOT_RECORD_BYTES])
{
	scoped(close_fdp) int fd = open(folder, O_RDONLY | O_DIRECTORY);

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(disk_read_block(fd, "root.slot", i, ret[i]), 0);
}

/* ---- adding, and either of them alone ---- */

static void test_either_opens(void **state)
{
	struct place *p = *state;
	struct shred_opened o;

	state_is(p, "main", SLOT_OK);
	state_is(p, "usb", SLOT_OK);
	assert_int_equal(keyring_slots(p->ring)->count, 2);
	assert_int_equal(slot_set_generation(p->slots), 2);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_true(lives(p));
	unplug(p);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	state_is(p, "usb", SLOT_AWAY);
	plug(p);
	/* main's disk is lost: usb opens, and main can be made anew. */
	assert_int_equal(renameat(p->fd, "slot", p->fd, "lost"), 0);
	assert_int_equal(try_open(p, &o), 0);
	assert_true(lives(p));
	state_is(p, "main", SLOT_AWAY);
	assert_int_equal(slot_set_plan_replace(p->slots, "main", NULL, &by_key_file, 5, &p->err), 0);
	enum shred_outcome out;

	assert_int_equal(rotate(p, &out), 0);
	state_is(p, "usb", SLOT_OK);
	assert_int_equal(slot_list_find(keyring_slots(p->ring), "main")->role, SLOT_MEMBER);
	unplug(p);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_true(lives(p));
	/* The lost one, found again, opens nothing. */
	shell("rm -r %s/slot; mv %s/lost %s/slot", p->keyd, p->keyd, p->keyd);
	assert_int_equal(try_open(p, &o), -ENOENT);
	says(p, "ring.2 is missing");
}

static void test_plans_that_are_refused(void **state)
{
	struct place *p = *state;
	const struct slot_seal no = {.protection = SLOT_BY_CREDENTIAL, .locator = "/nonexistent/x", .kdf = WEAK};
	char where[96];

	(void)snprintf(where, sizeof(where), "%s/third", p->top);
	assert_int_equal(slot_set_plan_add(p->slots, "usb", SLOT_FILE, where, &by_key_file, &p->err), -EEXIST);
	assert_int_equal(slot_set_plan_add(p->slots, "other", SLOT_FILE, p->usb, &by_key_file, &p->err), -EEXIST);
	says(p, "is the slot called usb");
	assert_int_equal(slot_set_plan_add(p->slots, "Bad Name", SLOT_FILE, where, &by_key_file, &p->err), -EINVAL);
	assert_int_equal(slot_set_plan_add(p->slots, "x", SLOT_FILE, "relative", &by_key_file, &p->err), -EINVAL);
	assert_int_equal(slot_set_plan_add(p->slots, "x", SLOT_FILE, "/nonexistent/a/b", &by_key_file, &p->err), -ENOENT);
	assert_int_equal(slot_set_plan_add(p->slots, "x", SLOT_FILE, where, &no, &p->err), -ENOKEY);
	says(p, "/nonexistent/x");
	shell("test ! -e %s/root.slot", where);
	assert_int_equal(slot_set_plan_remove(p->slots, "nope", false, 5, &p->err), -ENOENT);
	assert_int_equal(slot_set_plan_seal(p->slots, "nope", &by_passphrase, &p->err), -ENOENT);
	assert_int_equal(slot_set_plan_seal(p->slots, "usb", &by_key_file, &p->err), -EALREADY);
	unplug(p);
	assert_int_equal(slot_set_plan_remove(p->slots, "usb", false, 5, &p->err), -EUNATCH);
	assert_int_equal(slot_set_plan_remove(p->slots, "main", true, 5, &p->err), -EBUSY);
	says(p, "last slot");
	assert_int_equal(slot_set_plan_seal(p->slots, NULL, &by_passphrase, &p->err), -EUNATCH);
	says(p, "usb");
	plug(p);
	assert_int_equal(slot_set_count(p->slots), 2);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	state_is(p, "main", SLOT_OK);
	state_is(p, "usb", SLOT_OK);
}

/* ---- destroying ---- */

static void test_all_forget(void **state)
{
	struct place *p = *state;
	uint8_t old[2][SLOT_RECORD_BYTES], now[2][SLOT_RECORD_BYTES];
	enum shred_outcome o;

	usb_raw(p, p->usb, old);
	assert_int_equal(destroy(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	assert_false(lives(p));
	usb_raw(p, p->usb, now);
	assert_memory_equal(now[0], now[1], SLOT_RECORD_BYTES);
	assert_memory_not_equal(now[0], old[0], SLOT_RECORD_BYTES);
	state_is(p, "main", SLOT_OK);
	state_is(p, "usb", SLOT_OK);
	assert_false(there(p, "keys/ring.2"));
}

/* Whenever it is unplugged: not destroyed, and said for which slot; when it is back, destroyed. */
static void test_unplugged_at_each_step(void **state)
{
	struct place *p = *state;

	for (unsigned s = SHRED_STEP_CONFIRM; s <= SHRED_STEP_FORGET; s++) {
		enum shred_outcome o;

		p->unplug_at = (enum shred_step)s;
		assert_int_equal(run(p, NULL, 0, &o), -ENOENT);
		p->unplug_at = 0;
		assert_int_equal(o, SHRED_PENDING);
		says(p, "waits for the slot usb");
		says(p, p->usb);
		state_is(p, "usb", SLOT_MISSING);
		/* Also after a restart; and what was unplugged opens nothing by itself. */
		assert_int_equal(reopen(p, "waits for the slot usb"), SHRED_FOUND_PENDING);
		assert_true(lives(p));
		assert_int_not_equal(shred_finish(p->slots, p->ring, &p->err), 0);
		says(p, "waits for the slot usb");
		plug(p);
		assert_int_equal(shred_finish(p->slots, p->ring, &p->err), 0);
		state_is(p, "usb", SLOT_OK);
		assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	}
}

static void test_old_slot_alone_opens_nothing(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	unplug(p);
	assert_int_equal(destroy(p, &o), -ENOENT);
	assert_int_equal(o, SHRED_PENDING);
	assert_false(lives(p));
	assert_false(there(p, "keys/ring.2"));
	plug(p);
	assert_int_equal(renameat(p->fd, "slot", p->fd, "elsewhere"), 0);
	assert_int_equal(try_open(p, &opened), -ENOENT);
	says(p, "ring.2 is missing");
	assert_int_equal(renameat(p->fd, "elsewhere", p->fd, "slot"), 0);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_COMPLETED);
	assert_false(lives(p));
	state_is(p, "usb", SLOT_OK);
}

/* More than one rotation while it is away: it is brought up to date at once, and then alone opens what is now. */
static void test_far_behind(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	unplug(p);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(run(p, NULL, 0, &o), -ENOENT);
		assert_int_equal(o, SHRED_PENDING);
	}
	plug(p);
	state_is(p, "usb", SLOT_OLD);
	assert_int_equal(shred_finish(p->slots, p->ring, &p->err), 0);
	state_is(p, "usb", SLOT_OK);
	shell("rm -r %s/slot", p->keyd);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_true(lives(p));
}

/* The process ends before each step; afterwards either one is missing, or none. */
static void test_crash_at_each_step_and_one_is_missing(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	for (int which = 0; which < 3; which++) {
		for (unsigned s = SHRED_STEP_CONFIRM; s <= SHRED_STEP_SWEEP; s++) {
			uint64_t generation = slot_set_generation(p->slots);
			int r;

			p->stop_at = (enum shred_step)s;
			assert_int_equal(run(p, NULL, 0, &o), -EINTR);
			p->stop_at = 0;
			if (which == 1)
				unplug(p);
			if (which == 2)
				assert_int_equal(renameat(p->fd, "slot", p->fd, "elsewhere"), 0);
			r = try_open(p, &opened);
			if (which && (s == SHRED_STEP_STATE + 1 || s == SHRED_STEP_SLOT)) {
				/* The one that is missing may have the new R: nobody decides without it. */
				assert_int_equal(r, -EUNATCH);
				says(p, which == 1 ? "usb" : "main");
				assert_true(there(p, "keys/ring.2") || generation > 2);
			} else {
				assert_int_equal(r, 0);
				assert_true(lives(p));
				assert_int_equal(slot_set_generation(p->slots), generation + (s >= SHRED_STEP_FORGET));
			}
			if (which == 1)
				plug(p);
			if (which == 2)
				assert_int_equal(renameat(p->fd, "elsewhere", p->fd, "slot"), 0);
			assert_int_equal(try_open(p, &opened), 0);
			assert_string_equal(opened.warning, "");
			assert_true(lives(p));
			assert_int_equal(slot_set_generation(p->slots), generation + (s >= SHRED_STEP_FORGET));
			state_is(p, "main", SLOT_OK);
			state_is(p, "usb", SLOT_OK);
		}
	}
}

/* Only one of them had got the new R when the process ended. */
static void test_crash_between_two_slots(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	for (int first = 0; first < 2; first++) {
		uint64_t generation = slot_set_generation(p->slots);

		shell("cp -a %s %s.old; cp -a %s/slot %s/slot.old", p->usb, p->usb, p->keyd, p->keyd);
		p->stop_at = SHRED_STEP_FORGET;
		assert_int_equal(run(p, NULL, 0, &o), -EINTR);
		p->stop_at = 0;
		if (first == 0) /* usb had not got it */
			shell("rm -r %s; mv %s.old %s; rm -r %s/slot.old", p->usb, p->usb, p->usb, p->keyd);
		else
			shell("rm -r %s/slot; mv %s/slot.old %s/slot; rm -r %s.old", p->keyd, p->keyd, p->keyd, p->usb);
		/* The one that has it is missing: the other must not go on by itself. */
		if (first == 0)
			assert_int_equal(renameat(p->fd, "slot", p->fd, "elsewhere"), 0);
		else
			unplug(p);
		assert_int_equal(try_open(p, &opened), -EUNATCH);
		if (first == 0)
			assert_int_equal(renameat(p->fd, "elsewhere", p->fd, "slot"), 0);
		else
			plug(p);
		assert_int_equal(reopen(p, NULL), SHRED_FOUND_COMPLETED);
		assert_int_equal(slot_set_generation(p->slots), generation + 1);
		assert_true(lives(p));
		state_is(p, "main", SLOT_OK);
		state_is(p, "usb", SLOT_OK);
	}
}

/* The one that is missing will never come back: what the message says to do opens the other one. */
static void test_undecided_for_ever(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	p->stop_at = SHRED_STEP_SLOT;
	assert_int_equal(destroy(p, &o), -EINTR);
	p->stop_at = 0;
	unplug(p);
	assert_int_equal(try_open(p, &opened), -EUNATCH);
	says(p, "move keyd/keys/ring.3 away");
	shell("mv %s/keys/ring.3 %s/", p->keyd, p->top);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_true(lives(p));
	assert_int_equal(slot_set_plan_remove(p->slots, "usb", true, 5, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	assert_true(lives(p));
}

static void test_new_state_lost_rolls_both_back(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(destroy(p, &o), -EINTR);
	p->stop_at = 0;
	assert_int_equal(unlinkat(p->fd, "keys/ring.3", 0), 0);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_ROLLED_BACK);
	assert_true(lives(p));
	state_is(p, "main", SLOT_OK);
	state_is(p, "usb", SLOT_OK);
	assert_int_equal(destroy(p, &o), 0);
	assert_false(lives(p));
}

/* One has begun to forget: there is no way back, whatever became of the new state. */
static void test_no_way_back_after_one_forgot(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	shell("cp -a %s %s.old", p->usb, p->usb);
	shell("cp -a %s/keys %s/keys.old", p->keyd, p->keyd);
	assert_int_equal(destroy(p, &o), 0);
	shell("rm -r %s; mv %s.old %s; mv %s/keys.old/ring.2 %s/keys/; rm -r %s/keys.old %s/keys/ring.3", p->usb, p->usb, p->usb,
		p->keyd, p->keyd, p->keyd, p->keyd);
	assert_int_equal(try_open(p, &opened), -ENOENT);
	says(p, "ring.3 is missing");
}

/* ---- what can be wrong with one ---- */

static void test_torn_and_damaged(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	shell("printf x | dd of=%s/root.slot bs=1 seek=4200 conv=notrunc status=none", p->usb);
	state_is(p, "usb", SLOT_TORN);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	state_is(p, "usb", SLOT_OK);
	shell("printf x | dd of=%s/root.slot bs=1 seek=100 conv=notrunc status=none", p->usb);
	shell("printf x | dd of=%s/root.slot bs=1 seek=4200 conv=notrunc status=none", p->usb);
	state_is(p, "usb", SLOT_DAMAGED);
	assert_int_equal(reopen(p, "usb"), SHRED_FOUND_PENDING);
	assert_int_equal(destroy(p, &o), -EBADMSG);
	assert_int_equal(o, SHRED_PENDING);
	assert_int_equal(slot_set_plan_replace(p->slots, "usb", NULL, &by_key_file, 5, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	state_is(p, "usb", SLOT_OK);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_false(lives(p));
}

static void test_foreign_slot_is_not_touched(void **state)
{
	struct place *p = *state, other = {.top = "", .fd = -1};
	uint8_t was[2][SLOT_RECORD_BYTES], is[2][SLOT_RECORD_BYTES];
	enum shred_outcome o;
	void *q;

	assert_int_equal(setup(&q), 0);
	other = *(struct place *)q;
	unplug(p);
	shell("cp -a %s %s", other.usb, p->usb);
	usb_raw(p, p->usb, was);
	state_is(p, "usb", SLOT_FOREIGN);
	assert_int_equal(destroy(p, &o), -EXDEV);
	assert_int_equal(o, SHRED_PENDING);
	says(p, "another slot");
	assert_int_equal(reopen(p, "another slot"), SHRED_FOUND_PENDING);
	state_is(p, "usb", SLOT_FOREIGN);
	usb_raw(p, p->usb, is);
	assert_memory_equal(was, is, sizeof(was));
	shell("rm -r %s", p->usb);
	plug(p);
	assert_int_equal(shred_finish(p->slots, p->ring, &p->err), 0);
	assert_false(lives(p));
	assert_int_equal(teardown(&q), 0);
}

/* ---- the process ended while a slot got its identity ---- */

/* All have the new R; the process ends before anything is settled. */
static void stop_before_forgetting(struct place *p)
{
	enum shred_outcome o;

	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(run(p, NULL, 0, &o), -EINTR);
	p->stop_at = 0;
}

static void add_third(struct place *p)
{
	char where[96];

	(void)snprintf(where, sizeof(where), "%s/third", p->top);
	assert_int_equal(slot_set_plan_add(p->slots, "third", SLOT_FILE, where, &by_passphrase, &p->err), 0);
	stop_before_forgetting(p);
}

static void is_finished(struct place *p)
{
	(void)reopen(p, NULL);
	state_is(p, "third", SLOT_OK);
	assert_true(view(p, "third").head.protection == SLOT_BY_PASSPHRASE);
	assert_true(lives(p));
}

/* Nothing in it yet, or the beginning of a record; its passphrase is not at hand. */
static void test_new_slot_that_was_not_written_is_finished(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	add_third(p);
	shell("head -c 8192 /dev/urandom > %s/third/root.slot", p->top);
	is_finished(p);
	assert_int_equal(slot_set_plan_remove(p->slots, "third", false, 5, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(rotate(p, &o), 0); /* now nobody names it */
	add_third(p);
	shell("cd %s/third && mv root.slot was && (head -c 4200 was | tail -c 104; head -c 8088 /dev/zero) > root.slot", p->top);
	is_finished(p);
	/* and it opens alone */
	unplug(p);
	shell("rm -r %s/slot", p->keyd);
	p->passphrase = "two";
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_true(lives(p));
}

static void test_slot_with_the_identity_of_before_is_finished(void **state)
{
	struct place *p = *state;

	shell("cp -a %s %s/was", p->usb, p->top);
	assert_int_equal(slot_set_plan_seal(p->slots, "usb", &by_passphrase, &p->err), 0);
	stop_before_forgetting(p);
	shell("rm -r %s && mv %s/was %s", p->usb, p->top, p->usb);
	(void)reopen(p, NULL);
	state_is(p, "usb", SLOT_OK);
	assert_true(view(p, "usb").head.protection == SLOT_BY_PASSPHRASE);
	shell("test ! -e %s/root.key", p->usb);
	assert_true(lives(p));
}

/* Another's slot lies there, or the note of what was being done is not ours: nothing is written over. */
static void test_interruption_excuses_no_stranger(void **state)
{
	uint8_t was[2][SLOT_RECORD_BYTES], is[2][SLOT_RECORD_BYTES];
	struct place *p = *state, other = {.top = "", .fd = -1};
	char third[96];
	void *q;

	assert_int_equal(setup(&q), 0);
	other = *(struct place *)q;
	add_third(p);
	(void)snprintf(third, sizeof(third), "%s/third", p->top);
	shell("cp -a %s %s/mine && cp %s/root.slot %s/root.slot", third, p->top, other.usb, third);
	usb_raw(p, third, was);
	assert_int_equal(reopen(p, "another slot"), SHRED_FOUND_PENDING);
	state_is(p, "third", SLOT_FOREIGN);
	usb_raw(p, third, is);
	assert_memory_equal(was, is, sizeof(was));
	shell("head -c 8192 /dev/urandom > %s/root.slot; sed -i 's/\"number\": 2/\"number\": 3/' %s/slots.json", third, p->keyd);
	assert_int_equal(reopen(p, "coffer slot replace third"), SHRED_FOUND_PENDING);
	assert_true(lives(p));
	assert_int_equal(teardown(&q), 0);
}

static void test_removed_and_lost(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;
	uint64_t generation;

	assert_int_equal(slot_set_plan_remove(p->slots, "usb", false, 5, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	shell("test ! -e %s/root.slot && test ! -e %s/root.key", p->usb, p->usb);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(keyring_slots(p->ring)->count, 1);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_int_equal(slot_set_count(p->slots), 1);

	assert_int_equal(slot_set_plan_add(p->slots, "usb", SLOT_FILE, p->usb, &by_key_file, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	generation = slot_set_generation(p->slots);
	unplug(p);
	assert_int_equal(destroy(p, &o), -ENOENT);
	assert_int_equal(slot_set_plan_remove(p->slots, "usb", true, 77, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	state_is(p, "usb", SLOT_GONE);
	assert_int_equal(view(p, "usb").ref.left_generation, generation);
	assert_int_equal(view(p, "usb").ref.left_at, 77);
	/* Found again it is none of ours any more; the name is free. */
	plug(p);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_false(lives(p));
	shell("rm -r %s", p->usb);
	assert_int_equal(slot_set_plan_add(p->slots, "usb", SLOT_FILE, p->usb, &by_key_file, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(keyring_slots(p->ring)->count, 3);
}

/* It cannot be overwritten when its turn comes: that is waited for. */
static void test_removed_while_it_goes_away(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	assert_int_equal(slot_set_plan_remove(p->slots, "usb", false, 5, &p->err), 0);
	p->unplug_at = SHRED_STEP_FORGET;
	assert_int_equal(rotate(p, &o), -ENOENT);
	p->unplug_at = 0;
	assert_int_equal(o, SHRED_PENDING);
	says(p, "waits for the slot usb");
	assert_int_equal(reopen(p, "waits for the slot usb"), SHRED_FOUND_PENDING);
	state_is(p, "usb", SLOT_ERASING);
	plug(p);
	assert_int_equal(shred_finish(p->slots, p->ring, &p->err), 0);
	shell("test ! -e %s/root.slot", p->usb);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
}

/* ---- who is registered ---- */

static void test_list_on_the_disk_is_not_believed(void **state)
{
	struct place *p = *state;
	enum shred_outcome o;

	shell("cp %s/slots.json %s/before.json", p->keyd, p->top);
	unplug(p);
	shell("rm %s/slots.json", p->keyd);
	/* Nobody knows what it held: it is asked for. */
	assert_int_equal(reopen(p, "waits for the slot usb"), SHRED_FOUND_PENDING);
	assert_int_equal(destroy(p, &o), -ENOENT);
	/* A note that says more than it may, and one of before. */
	shell("sed -i 's/\"generation\": 2/\"generation\": 3/' %s/slots.json", p->keyd);
	assert_int_equal(reopen(p, "waits for the slot usb"), SHRED_FOUND_PENDING);
	shell("cp %s/before.json %s/slots.json", p->top, p->keyd);
	assert_int_equal(reopen(p, "waits for the slot usb"), SHRED_FOUND_PENDING);
	shell("sed -i 's/usb/xyz/' %s/slots.json", p->keyd);
	assert_int_equal(reopen(p, "waits for the slot usb"), SHRED_FOUND_PENDING);
	plug(p);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_COMPLETED);
	state_is(p, "usb", SLOT_OK);
	assert_false(lives(p));
}

/* ---- protectors ---- */

static void test_locked_slot_is_kept_up_to_date(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_false(view(p, "usb").open);
	state_is(p, "usb", SLOT_OK);
	assert_int_equal(destroy(p, &o), 0);
	assert_int_equal(o, SHRED_DESTROYED);
	state_is(p, "usb", SLOT_OK);
	unplug(p);
	assert_int_equal(rotate(p, &o), -ENOENT);
	plug(p);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	/* By itself, with its passphrase. */
	shell("rm -r %s/slot", p->keyd);
	assert_int_equal(try_open(p, &opened), -ENOKEY);
	p->passphrase = "one";
	assert_int_equal(try_open(p, &opened), -EKEYREJECTED);
	p->passphrase = "two";
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	assert_false(lives(p));
}

/* Only the locked one got the new R: without its passphrase nobody decides. */
static void test_locked_slot_decides(void **state)
{
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	shell("cp -a %s/slot %s/slot.old", p->keyd, p->keyd);
	p->stop_at = SHRED_STEP_FORGET;
	assert_int_equal(destroy(p, &o), -EINTR);
	p->stop_at = 0;
	shell("rm -r %s/slot; mv %s/slot.old %s/slot", p->keyd, p->keyd, p->keyd);
	assert_int_equal(try_open(p, &opened), -EUNATCH);
	says(p, "usb");
	p->passphrase = "two";
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_COMPLETED);
	assert_false(lives(p));
	state_is(p, "main", SLOT_OK);
}

/* What sealed it before opens nothing of now, not even a copy of the slot from before. */
static void test_old_protector_is_locked_out(void **state)
{
	const struct slot_seal next = {.protection = SLOT_BY_PASSPHRASE, .text = "three", .n = 5, .kdf = WEAK};
	struct place *p = *state;
	struct shred_opened opened;
	enum shred_outcome o;

	shell("cp -a %s %s.old; cp -a %s/slot %s/slot.old", p->usb, p->usb, p->keyd, p->keyd);
	assert_int_equal(slot_set_plan_seal(p->slots, NULL, &next, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_false(there(p, "slot/root.key"));
	p->passphrase = "two";
	assert_int_equal(try_open(p, &opened), -EKEYREJECTED);
	p->passphrase = NULL;
	assert_int_equal(try_open(p, &opened), -ENOKEY);
	p->passphrase = "three";
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	close_all(p);
	shell("rm -r %s %s/slot; mv %s.old %s; mv %s/slot.old %s/slot", p->usb, p->keyd, p->usb, p->usb, p->keyd, p->keyd);
	p->passphrase = "two";
	assert_int_equal(try_open(p, &opened), -ENOENT);
	says(p, "ring.2 is missing");
}

static void test_credential_file(void **state)
{
	struct place *p = *state;
	char path[96];
	const struct slot_seal seal = {.protection = SLOT_BY_CREDENTIAL, .locator = path, .kdf = WEAK};
	const struct slot_seal systemd = {.protection = SLOT_BY_SYSTEMD, .locator = "coffer", .kdf = WEAK};
	struct shred_opened opened;
	enum shred_outcome o;

	(void)snprintf(path, sizeof(path), "%s/credential", p->top);
	shell("umask 077; echo something long > %s", path);
	assert_int_equal(slot_set_plan_seal(p->slots, NULL, &seal, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_string_equal(view(p, "main").head.locator, path);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	shell("chmod 640 %s", path);
	assert_int_equal(try_open(p, &opened), -EPERM);
	says(p, "chmod 600");
	shell("chmod 600 %s; echo another > %s", path, path);
	assert_int_equal(try_open(p, &opened), -EKEYREJECTED);
	says(p, path);
	shell("rm %s", path);
	assert_int_equal(try_open(p, &opened), -ENOKEY);
	says(p, path);
	shell("umask 077; printf 'something long' > %s", path); /* the newline does not count */
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);

	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(slot_set_plan_seal(p->slots, NULL, &systemd, &p->err), -ENOKEY);
	says(p, "CREDENTIALS_DIRECTORY");
	setenv("CREDENTIALS_DIRECTORY", p->top, 1);
	shell("umask 077; echo of the unit > %s/coffer", p->top);
	assert_int_equal(slot_set_plan_seal(p->slots, NULL, &systemd, &p->err), 0);
	assert_int_equal(rotate(p, &o), 0);
	assert_int_equal(reopen(p, NULL), SHRED_FOUND_NOTHING);
	unsetenv("CREDENTIALS_DIRECTORY");
	assert_int_equal(try_open(p, &opened), -ENOKEY);
}

#define WITH(f, s) cmocka_unit_test_setup_teardown(f, s, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(test_either_opens, setup),
		WITH(test_plans_that_are_refused, setup),
		WITH(test_all_forget, setup),
		WITH(test_unplugged_at_each_step, setup),
		WITH(test_old_slot_alone_opens_nothing, setup),
		WITH(test_far_behind, setup),
		WITH(test_crash_at_each_step_and_one_is_missing, setup),
		WITH(test_crash_between_two_slots, setup),
		WITH(test_undecided_for_ever, setup),
		WITH(test_new_state_lost_rolls_both_back, setup),
		WITH(test_no_way_back_after_one_forgot, setup),
		WITH(test_torn_and_damaged, setup),
		WITH(test_foreign_slot_is_not_touched, setup),
		WITH(test_new_slot_that_was_not_written_is_finished, setup),
		WITH(test_slot_with_the_identity_of_before_is_finished, setup),
		WITH(test_interruption_excuses_no_stranger, setup),
		WITH(test_removed_and_lost, setup),
		WITH(test_removed_while_it_goes_away, setup),
		WITH(test_list_on_the_disk_is_not_believed, setup),
		WITH(test_locked_slot_is_kept_up_to_date, setup_locked),
		WITH(test_locked_slot_decides, setup_locked),
		WITH(test_old_protector_is_locked_out, setup_locked),
		WITH(test_credential_file, setup_single),
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
