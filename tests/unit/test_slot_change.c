/* Slots that come, go, and get another protector; also when the process ends in the middle of it. */
#include "tests/unit/slot_set_fixture.h"

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
	void *q = NULL;

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
