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
static int write_state(const struct shred_job *job, const struct keyring *ring, const struct root_key *fresh,
	struct keyring **ret, bool *ret_crash, struct keys_error *err)
{
	int r;

	r = before(job, SHRED_STEP_STATE);
	if (r < 0) {
		*ret_crash = true;
		return r;
	}
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
static int undo_slot(struct slot_file *slot, struct keyring *ring, int cause, enum shred_outcome *ret_outcome,
	struct keys_error *err)
{
	int swept = sweep_back(ring), reverted = slot_file_revert(slot, NULL);

	if (swept < 0 && reverted < 0) {
		keys_error_set(err,
			"keyd takes no writes any more: whether the destruction took place shows at the "
			"next start of coffer-keyd.  See to the disk before it");
		*ret_outcome = SHRED_UNKNOWN;
	}
	return cause;
}

int shred_finish(struct slot_file *slot, struct keyring *ring, struct keys_error *err)
{
	int r;

	r = slot_file_settle(slot, err);
	if (r == 0)
		r = recovery_settle(ring, NULL, err);
	if (r < 0)
		return r;
	/* What is left lying about does not open any more: no reason to say that it is not destroyed. */
	(void)keyring_sweep(ring, NULL);
	return 0;
}

static int forget(const struct shred_job *job, struct slot_file *slot, struct keyring *ring,
	enum shred_outcome *ret_outcome, struct keys_error *err)
{
	int r;

	*ret_outcome = SHRED_PENDING;
	r = before(job, SHRED_STEP_FORGET);
	if (r < 0)
		return r;
	r = slot_file_settle(slot, err);
	if (r == 0)
		r = recovery_settle(ring, NULL, err);
	if (r < 0)
		return r;
	*ret_outcome = SHRED_DESTROYED;
	r = before(job, SHRED_STEP_SWEEP);
	if (r < 0)
		return r;
	(void)keyring_sweep(ring, NULL);
	return 0;
}

int shred_run(const struct shred_job *job, struct slot_file *slot, struct keyring **ring,
	enum shred_outcome *ret_outcome, struct keys_error *err)
{
	scoped(root_key_freep) struct root_key *fresh = NULL;
	scoped(keyring_freep) struct keyring *next = NULL;
	bool crash = false;
	int r;

	*ret_outcome = SHRED_NOTHING;
	if (slot_file_older_root(slot) || slot_file_generation(slot) != keyring_generation(*ring)) {
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
	r = write_state(job, *ring, fresh, &next, &crash, err);
	if (r < 0) {
		if (!crash)
			(void)sweep_back(*ring);
		return r;
	}
	r = before(job, SHRED_STEP_SLOT);
	if (r < 0)
		return r;
	r = slot_file_advance(slot, fresh, err);
	if (r < 0)
		return undo_slot(slot, *ring, r, ret_outcome, err);
	keyring_free(*ring);
	*ring = take_ptr(&next);
	return forget(job, slot, *ring, ret_outcome, err);
}

/* Says that the state is not there or not ours; a disk that fails now may read tomorrow. */
static bool is_verdict(int r)
{
	return r == -ENOENT || r == -EBADMSG || r == -EKEYREJECTED;
}

static void go_forward(struct slot_file *slot, struct shred_opened *o)
{
	struct keys_error warn = {0};

	o->found = SHRED_FOUND_COMPLETED;
	if (slot_file_settle(slot, &warn) < 0) {
		o->found = SHRED_FOUND_PENDING;
		(void)snprintf(o->warning, sizeof(o->warning), "%s", warn.text);
	}
}

/* The slot holds a newer and an older R: forward if what is new opens, else back.  What neither of them opens
 * (a tree damaged before) decides nothing. */
static int resolve(int keyd_fd, struct slot_file *slot, struct shred_opened *o, struct keys_error *err)
{
	scoped(keyring_freep) struct keyring *older = NULL, *newer = NULL;
	int r, back;

	back = keyring_load(
		keyd_fd, slot_file_older_root(slot), slot_file_older_generation(slot), &older, err);
	if (back < 0 && !is_verdict(back))
		return back;
	r = keyring_load(keyd_fd, slot_file_root(slot), slot_file_generation(slot), &newer, err);
	if (r == 0 && older)
		r = keyring_check(newer, older, err);
	if (r == 0) {
		go_forward(slot, o);
		o->ring = take_ptr(&newer);
		return 0;
	}
	if (!older || !is_verdict(r))
		return r;
	r = slot_file_revert(slot, err);
	if (r < 0)
		return r;
	o->ring = take_ptr(&older);
	o->found = SHRED_FOUND_ROLLED_BACK;
	return 0;
}

int shred_open(int keyd_fd, struct slot_file *slot, struct shred_opened *ret, struct keys_error *err)
{
	struct shred_opened o = {0};
	struct keys_error warn = {0};
	int r;

	if (slot_file_older_root(slot)) {
		r = resolve(keyd_fd, slot, &o, err);
	} else {
		r = keyring_load(keyd_fd, slot_file_root(slot), slot_file_generation(slot), &o.ring, err);
		/* A half that cannot be renewed is no reason to keep everybody out: it is said.  Nor is it known
		 * what it holds: a root key that was to be forgotten, perhaps. */
		if (r == 0 && slot_file_settle(slot, &warn) < 0) {
			o.found = SHRED_FOUND_PENDING;
			(void)snprintf(o.warning, sizeof(o.warning), "%s", warn.text);
		}
	}
	if (r < 0)
		return r;
	if (recovery_settle(o.ring, NULL, &warn) < 0) {
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
