#include "keyd/anchor.h"
#include "keyd/keyd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/archive.h"
#include "keyd/expiry.h"
#include "keyd/classes.h"
#include "keyd/erase.h"
#include "keyd/fsck.h"
#include "keyd/job.h"
#include "keyd/subjects.h"
#include "keyd/leaves.h"
#include "keyd/sweeps.h"
#include "keyd/head.h"
#include "keyd/holders.h"
#include "keyd/member.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/refusals.h"
#include "keyd/prune.h"
#include "keyd/restore.h"
#include "keyd/rotate.h"
#include "keyd/rules.h"
#include "keyd/sealed.h"
#include "keyd/session.h"
#include "keyd/shred.h"

#define EVERY_EXPIRY 5 /* ticks */
#define EVERY_MINUTE 60

int64_t keyd_now(void)
{
	struct clock_reading r;

	clock_read(&r);
	return r.wall;
}

bool keyd_is_sealed(const struct keyd *k)
{
	return !k->ring;
}

int keyd_unseal(struct keyd *k, const void *passphrase, size_t n, struct keys_error *err)
{
	struct shred_opened opened = {0};
	int r;

	r = slot_set_open(k->keyd_fd, passphrase, n, &k->slot, err);
	if (r < 0)
		return r;
	r = shred_open(k->keyd_fd, k->slot, &opened, err);
	if (r < 0) {
		slot_set_close(k->slot);
		k->slot = NULL;
		return r;
	}
	k->ring = opened.ring;
	k->shred_unfinished = opened.found == SHRED_FOUND_PENDING;
	snprintf(k->key_warning, sizeof(k->key_warning), "%s", opened.warning);
	if (k->server)
		varlink_server_set_state(k->server, KEYD_OPEN, NULL);
	expiry_settle(k);
	rotate_settle(k);
	return 0;
}

void keyd_seal(struct keyd *k, int *ret_ended)
{
	*ret_ended = sessions_end(k, NULL, "sealed", EKEYREVOKED, FACTS_CLOCK);
	children_stop_workers(k);
	subjects_forget(k);
	keyring_free(k->ring);
	slot_set_close(k->slot);
	k->ring = NULL;
	k->slot = NULL;
	varlink_server_set_state(k->server, KEYD_SEALED, KEYD_SEALED_TEXT);
}

int keyd_shred(struct keyd *k, const struct shred_job *job, enum shred_outcome *ret_outcome, struct keys_error *err)
{
	const struct keyring_trim trim = {.fn = prune_tree, .arg = k};
	struct shred_job pruning = *job;
	int ended, r;

	pruning.trim = &trim;
	r = shred_run(&pruning, k->slot, &k->ring, ret_outcome, err);

	if (*ret_outcome == SHRED_DESTROYED) { /* what was waited for before is forgotten, or was given up, as well */
		k->shred_unfinished = false;
		*k->key_warning = '\0';
	}
	if (*ret_outcome == SHRED_PENDING) {
		k->shred_unfinished = true;
		snprintf(k->key_warning, sizeof(k->key_warning), "%s", err->text);
		log_error("the old root key is not overwritten yet, it is tried again: %s", err->text);
	}
	if (*ret_outcome == SHRED_UNKNOWN) {
		log_error("the keys are sealed, since the disk took neither the new ones nor their removal: %s; make "
			  "room or repair it, then run `coffer unseal`",
			err->text);
		keyd_seal(k, &ended);
	}
	return r;
}

void keyd_remember_clock(struct keyd *k)
{
	struct clock_memory m;
	char text[512];
	int r;

	clock_remember(&k->clock, &m);
	snprintf(text, sizeof(text), "%" PRId64 " %" PRId64 " %d %s %s", m.wall, m.boot, m.unconfirmed,
		m.boot_id, m.reason);
	r = facts_state_set(k->facts, "clock", text);
	if (r < 0)
		log_error("the time is not remembered: %s", strerror(-r));
}

static void note_doubt(struct keyd *k)
{
	struct outbox_entry e = {.kind = "clock-doubted", .by = FACTS_CLOCK};

	log_warning(
		"%s: nothing is destroyed until a custodian runs `coffer clock confirm`", k->clock.reason);
	e.detail = json_pack("{s:s}", "reason", k->clock.reason);
	if (outbox_put(k, &e) < 0)
		log_error("the doubt about the clock is not recorded");
	keyd_remember_clock(k);
}

bool keyd_compare_ledger(struct keyd *k)
{
	bool before = k->clock.unconfirmed;
	int64_t confirmed = 0;
	json_int_t newest = 0;
	json_t *answer = NULL;
	char text[32];

	if (k->ledger_compared)
		return true;
	if (!fsd_is_running(k) || fsd_call(k, "org.coffer.fsd.Head", NULL, &answer, NULL) < 0)
		return false;
	if (json_unpack(answer, "{s:I}", "newest", &newest) == 0)
		k->ledger_compared = true;
	json_decref(answer);
	k->ledger_newest = newest;
	if (facts_state_get(k->facts, FACTS_STATE_LEDGER, text, sizeof(text)) == 0)
		confirmed = strtoll(text, NULL, 10);
	clock_compare_ledger(&k->clock, newest, confirmed, keyd_now());
	if (k->clock.unconfirmed && !before)
		note_doubt(k);
	return k->ledger_compared;
}

static void tick_clock(struct keyd *k)
{
	struct clock_reading now;

	clock_read(&now);
	if (clock_tick(&k->clock, &now))
		note_doubt(k);
}

static int on_timer(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct keyd *k = userdata;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) != sizeof(n) || k->stopping)
		return 0;
	k->tick++;
	tick_clock(k);
	children_tick(k);
	sessions_tick(k);
	rules_tick(k);
	members_tick(k);
	refusals_tick(k);
	anchors_tick(k);
	roles_tick(k);
	fsck_tick(k);
	jobs_tick(k);
	subjects_tick(k);
	if (!keyd_is_sealed(k) && fsd_is_running(k)) {
		classes_tick(k);
		erase_tick(k);
		sweeps_tick(k);
		leaves_tick(k);
		archive_tick(k);
	}
	restore_tick(k);
	if (k->tick % EVERY_EXPIRY == 0 || k->expiry_again)
		expiry_tick(k);
	if (k->tick % EVERY_EXPIRY == 0)
		sealed_tick(k);
	if (fsd_is_running(k))
		(void)outbox_deliver(k);
	if (k->tick % EVERY_MINUTE == 0) {
		keyd_remember_clock(k);
		holders_tick(k);
		rotate_settle(k);
	}
	if (k->traffic && (k->head_due || k->tick % EVERY_MINUTE == 0) && !keyd_is_sealed(k)) {
		k->head_due = false;
		(void)head_sign(k, NULL);
	}
	return 0;
}

/* Relative, and by the bare system call: neither a clock that is set nor a library that plays with the clocks
 * of this process (libfaketime) stops the seconds. */
int keyd_start_timer(struct keyd *k)
{
	const struct itimerspec every = {.it_interval = {.tv_sec = 1}, .it_value = {.tv_sec = 1}};
	scoped(close_fdp) int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	sd_event_source *source = NULL;
	int r;

	if (fd < 0 || syscall(SYS_timerfd_settime, fd, 0, &every, NULL) < 0)
		return -errno;
	r = sd_event_add_io(k->event, &source, fd, EPOLLIN, on_timer, k);
	if (r < 0)
		return r;
	sd_event_source_set_io_fd_own(source, true);
	take_fd(&fd);
	sd_event_source_set_floating(source, true);
	sd_event_source_unref(source);
	return 0;
}

static int on_idle(sd_event_source *source, void *userdata)
{
	sd_event_exit(sd_event_source_get_event(source), 0);
	return 0;
}

void keyd_shutdown(struct keyd *k)
{
	struct outbox_entry e = {.kind = "shutdown", .by = FACTS_CLOCK};
	sd_event_source *source = NULL;

	if (k->stopping)
		return;
	sessions_end(k, NULL, "shutdown", EKEYREVOKED, FACTS_CLOCK);
	children_stop_workers(k);
	refusals_flush(k);
	(void)outbox_put(k, &e);
	if (fsd_is_running(k) && outbox_deliver(k) == 0 && !keyd_is_sealed(k))
		(void)head_sign(k, NULL);
	anchors_flush(k);
	k->stopping = true;
	children_stop_fsd(k);
	keyd_remember_clock(k);
	/* The answer to whoever asked goes out first. */
	if (sd_event_add_defer(k->event, &source, on_idle, k) < 0) {
		sd_event_exit(k->event, 0);
		return;
	}
	sd_event_source_set_priority(source, SD_EVENT_PRIORITY_IDLE);
	sd_event_source_set_floating(source, true);
	sd_event_source_unref(source);
}
