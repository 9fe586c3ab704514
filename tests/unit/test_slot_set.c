/* Two slots and more: what is destroyed is destroyed in all of them, or it is said which one is waited for; and nothing of
 * what happens to one of them loses R or brings an older one back. */
#include "tests/unit/slot_set_fixture.h"

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
	void *q = NULL;

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
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
