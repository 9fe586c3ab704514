#include "keyd/shred.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/recovery.h"

DEFINE_SCOPED(struct keyring *, keyring_free)

static void root_key_freep(struct root_key **p)
{
	secret_free(*p);
}

const char *shred_step_name(enum shred_step s)
{
	static const char *const names[] = {
		[SHRED_STEP_CONFIRM] = "confirm",
		[SHRED_STEP_STATE] = "state",
		[SHRED_STEP_CHECK] = "check",
		[SHRED_STEP_SLOT] = "slot",
		[SHRED_STEP_FORGET] = "forget",
		[SHRED_STEP_SWEEP] = "sweep",
	};

	return s >= SHRED_STEP_CONFIRM && s <= SHRED_STEP_SWEEP ? names[s] : "?";
}

/* Negative: the test's crash. */
static int before(const struct shred_job *job, enum shred_step step)
{
	return job->before ? job->before(step, job->arg) : 0;
}

/* New state beside the old one, complete and read back; nothing old is touched.  *ret_crash: leave all as it
 * is. */
static int write_state(const struct shred_job *job, const struct slot_set *slots, struct keyring *ring,
	const struct root_key *fresh, struct keyring **ret, bool *ret_crash, struct keys_error *err)
{
	struct slot_list list;
	int r;

	r = before(job, SHRED_STEP_STATE);
	if (r < 0) {
		*ret_crash = true;
		return r;
	}
	slot_set_list(slots, &list);
	keyring_plan_slots(ring, &list);
	r = job->signing_at ? keyring_rotate_signing(ring, fresh, job->signing_at, ret, err)
			    : keyring_rotate(ring, fresh, job->cuts, job->count, job->trim, ret, err);
	if (r < 0)
		return r;
	r = before(job, SHRED_STEP_CHECK);
	if (r < 0) {
		*ret_crash = true;
		return r;
	}
	r = keyring_check(*ret, ring, err);
	return r < 0 ? r : recovery_prepare(ring, *ret, err);
}

/* Nothing happened: what was made for the next generation goes. */
static int sweep_back(const struct keyring *ring)
{
	int r = keyring_sweep(ring, NULL);

	(void)recovery_settle(ring, NULL, NULL);
	return r;
}

/* The slot did not take the fresh R for certain.  Either of these makes it certain that nothing has happened:
 * no ring of the next generation (a half that turns up later with its R is then rolled back), or no half with
 * its R. */
static int undo_slot(struct slot_set *slots, struct keyring *ring, int cause, enum shred_outcome *ret_outcome,
	struct keys_error *err)
{
	int swept = sweep_back(ring), reverted = slot_set_revert(slots, NULL);

	if (swept < 0 && reverted < 0) {
		keys_error_set(err,
			"keyd takes no writes any more: whether the destruction took place shows at the "
			"next start of coffer-keyd.  See to the disk before it");
		*ret_outcome = SHRED_UNKNOWN;
	}
	return cause;
}

/* What can forget the old R forgets it.  As soon as no slot at hand has it any more the old ring goes, too, whatever is
 * away: or that one, by itself, would open it. */
static int forget_all(struct slot_set *slots, struct keyring *ring, struct keys_error *err)
{
	int r = slot_set_settle(slots, err), r2 = recovery_settle(ring, NULL, r < 0 ? NULL : err);

	(void)slot_set_note(slots, ring);
	if (r < 0 && !slot_set_older_root(slots))
		(void)keyring_sweep(ring, NULL);
	return r < 0 ? r : r2;
}

int shred_finish(struct slot_set *slots, struct keyring *ring, struct keys_error *err)
{
	int r = forget_all(slots, ring, err);

	/* What is left lying about does not open any more: no reason to say that it is not destroyed. */
	if (r == 0)
		(void)keyring_sweep(ring, NULL);
	return r;
}

static int forget(const struct shred_job *job, struct slot_set *slots, struct keyring *ring,
	enum shred_outcome *ret_outcome, struct keys_error *err)
{
	int r;

	*ret_outcome = SHRED_PENDING;
	r = before(job, SHRED_STEP_FORGET);
	if (r < 0)
		return r;
	r = forget_all(slots, ring, err);
	if (r < 0)
		return r;
	*ret_outcome = SHRED_DESTROYED;
	r = before(job, SHRED_STEP_SWEEP);
	if (r < 0)
		return r;
	(void)keyring_sweep(ring, NULL);
	return 0;
}

int shred_run(const struct shred_job *job, struct slot_set *slots, struct keyring **ring,
	enum shred_outcome *ret_outcome, struct keys_error *err)
{
	scoped(root_key_freep) struct root_key *fresh = NULL;
	scoped(keyring_freep) struct keyring *next = NULL;
	bool crash = false;
	int r;

	*ret_outcome = SHRED_NOTHING;
	if (slot_set_older_root(slots) || slot_set_generation(slots) != keyring_generation(*ring)) {
		keys_error_set(err, "an earlier destruction is not finished: finish it first");
		return -EBUSY;
	}
	fresh = secret_alloc(sizeof(*fresh));
	if (!fresh) {
		keys_error_set(err, "no locked memory left for a root key");
		return -ENOMEM;
	}
	randombytes_buf(fresh, sizeof(*fresh));
	r = before(job, SHRED_STEP_CONFIRM);
	if (r == 0 && job->confirm)
		r = job->confirm(job->arg);
	if (r != 0) {
		keys_error_set(err, "stopped before anything was destroyed");
		return r < 0 ? r : -ECANCELED;
	}
	r = write_state(job, slots, *ring, fresh, &next, &crash, err);
	if (r < 0) {
		if (!crash)
			(void)sweep_back(*ring);
		return r;
	}
	r = slot_set_note_plan(slots, *ring, err);
	if (r < 0) {
		(void)sweep_back(*ring);
		return r;
	}
	r = before(job, SHRED_STEP_SLOT);
	if (r < 0)
		return r;
	r = slot_set_advance(slots, fresh, err);
	if (r < 0)
		return undo_slot(slots, *ring, r, ret_outcome, err);
	keyring_free(*ring);
	*ring = take_ptr(&next);
	return forget(job, slots, *ring, ret_outcome, err);
}

/* Says that the state is not there or not ours; a disk that fails now may read tomorrow. */
static bool is_verdict(int r)
{
	return r == -ENOENT || r == -EBADMSG || r == -EKEYREJECTED;
}

/* The slots hold a newer and an older R: forward if what is new opens, else back.  What neither of them opens
 * (a tree damaged before) decides nothing.  Back is not possible any more when a slot has begun to forget. */
static int resolve(int keyd_fd, struct slot_set *slots, struct shred_opened *o, struct keys_error *err)
{
	scoped(keyring_freep) struct keyring *older = NULL, *newer = NULL;
	int r, back;

	back = keyring_load(
		keyd_fd, slot_set_older_root(slots), slot_set_older_generation(slots), &older, err);
	if (back < 0 && !is_verdict(back))
		return back;
	r = keyring_load(keyd_fd, slot_set_root(slots), slot_set_generation(slots), &newer, err);
	if (r == 0 && older)
		r = keyring_check(newer, older, err);
	if (r == 0) {
		o->found = SHRED_FOUND_COMPLETED;
		o->ring = take_ptr(&newer);
		return 0;
	}
	if (!older || !is_verdict(r))
		return r;
	(void)slot_set_adopt(slots, older);
	if (!slot_set_can_revert(slots))
		return r;
	r = slot_set_revert(slots, err);
	if (r < 0)
		return r;
	o->ring = take_ptr(&older);
	o->found = SHRED_FOUND_ROLLED_BACK;
	return 0;
}

/* A ring of the next generation that a slot which is away may have the R of: who goes on without asking it would sweep
 * what is perhaps in force. */
static int check_decided(const struct slot_set *slots, const struct keyring *ring, struct keys_error *err)
{
	const char *name;
	uint16_t reachable;

	if (!keyring_next_reachable(ring, &reachable) || slot_set_can_decide(slots, reachable, &name))
		return 0;
	keys_error_set(err,
		"an exchange of the root key was interrupted, and the slot %s may have the new one: plug it in or give its "
		"passphrase (coffer unseal); if it is lost for good, move keyd/keys/ring.%llu away",
		name, (unsigned long long)keyring_generation(ring) + 1);
	return -EUNATCH;
}

/* The ring in force, and the slots it names.  A slot that it names may turn out to have a newer R. */
static int find_ring(int keyd_fd, struct slot_set *slots, struct shred_opened *o, struct keys_error *err)
{
	int r;

	for (;;) {
		if (slot_set_older_root(slots))
			r = resolve(keyd_fd, slots, o, err);
		else
			r = keyring_load(keyd_fd, slot_set_root(slots), slot_set_generation(slots), &o->ring, err);
		if (r < 0 || !slot_set_adopt(slots, o->ring))
			return r;
		keyring_free(o->ring);
		o->ring = NULL;
	}
}

int shred_open(int keyd_fd, struct slot_set *slots, struct shred_opened *ret, struct keys_error *err)
{
	struct shred_opened o = {0};
	struct keys_error warn = {0};
	int r;

	r = find_ring(keyd_fd, slots, &o, err);
	if (r < 0)
		return r;
	r = check_decided(slots, o.ring, err);
	if (r < 0) {
		keyring_free(o.ring);
		return r;
	}
	/* A slot that cannot be renewed is no reason to keep everybody out: it is said.  Nor is it known what it holds: a
	 * root key that was to be forgotten, perhaps. */
	if (forget_all(slots, o.ring, &warn) < 0) {
		o.found = SHRED_FOUND_PENDING;
		(void)snprintf(o.warning, sizeof(o.warning), "%s", warn.text);
	}
	/* Only now, with everything of ours known to be there, what is not ours may go. */
	r = keyring_check(o.ring, NULL, &warn);
	if (r == 0)
		r = keyring_sweep(o.ring, &warn);
	if (r < 0 && o.warning[0] == '\0')
		(void)snprintf(o.warning, sizeof(o.warning), "%s", warn.text);
	*ret = o;
	return 0;
}
