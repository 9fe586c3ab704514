/* The daemon's state, for its own sources: one thread, one loop, all of it reachable from here. */
#ifndef COFFER_KEYD_KEYD_H
#define COFFER_KEYD_KEYD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/statedir.h"
#include "common/varlink.h"
#include "keyd/children.h"
#include "keyd/clock.h"
#include "keyd/facts.h"
#include "keyd/keyring.h"
#include "keyd/shred.h"
#include "keyd/slot_set.h"
#include "policy/policy.h"

enum keyd_state { KEYD_OPEN = 1 << 0, KEYD_SEALED = 1 << 1 };
#define KEYD_SEALED_TEXT "the keys are sealed: a custodian must run `coffer unseal`"

struct anchors;
struct fsck;
struct job;
struct survey;
struct member_work;
struct report;
struct reserved;
struct restoring;
struct session;
struct subject_list;
struct window;

struct keyd {
	sd_event *event;
	struct varlink_server *server;
	struct statedir dir;
	int keyd_fd;		/* D/keyd */
	uid_t owner;		/* of D */
	char owner_name[256];
	bool embedded;		/* any directory but the installed default: its owner has all roles */
	bool memory_locked;
	struct rules *rules;
	struct policy *policy;	/* the version in force; belongs to rules */
	struct facts *facts;
	struct clock clock;

	struct slot_set *slot;	/* both NULL: sealed */
	struct keyring *ring;
	bool shred_unfinished;	/* the slot may still hold an old root key: tried again */
	bool erase_undecided;	/* whether an erasure took place cannot be told: the client's keys do not read */
	char key_warning[512], head_warning[256];

	int fusectl_fd;		/* see fusectl.h; -1: none */
	struct children children;
	struct session *sessions;
	struct refusals *refusals;	/* counted, refusals.h */
	struct member_work *members;	/* of shared mounts; NULL before the first */
	struct fsck *fsck;	/* the one that runs, or NULL */
	struct restoring *restoring;	/* the one that runs, or NULL */
	struct survey *surveys;	/* those that run */
	struct reserved *reserved;	/* survey_reserve */
	struct window *window;	/* the destructions that are under way together, or NULL */
	unsigned looks;		/* under way, at what is due */
	struct job *jobs;	/* what somebody waits for */
	struct subject_list *subject_lists;	/* what was found about persons, for who fetches it */
	struct anchors *anchors;	/* anchor.h; NULL before the first head */
	struct report *report;	/* the one that is being made, or NULL */

	unsigned window_seconds;	/* how long old leaves wait for a destruction */
	unsigned sessions_max; /* of one user */
	unsigned recheck_seconds;	/* between two looks at the groups of who has a session */
	uint64_t tick;		/* seconds of our own timer: no clock moves it */
	bool expiry_again;	/* something changed what the next run depends on */
	bool expiry_urgent;	/* the next run does not wait for the window */
	uint64_t archive_next_at; /* archive.c */
	bool archive_making;
	uint64_t expiry_next_at, expiry_retry_at, sweep_retry_at, leaves_retry_at;
	bool ledger_compared;	/* the clock with the newest row of the record: nothing is destroyed before */
	int64_t ledger_newest;
	bool traffic;		/* since the last signed head */
	bool head_due;		/* a session has ended: its rows do not wait for the minute */
	uint64_t ends[64];	/* the last sessions whose end coffer-fsd told: it is in the book */
	unsigned ends_n;
	pid_t roles_told;	/* the fsd that knows which roles go together with auditor ... */
	unsigned apart_told;	/* ... and which do not, as it was told */
	bool stopping;
};

/* The one "now" of keyd. */
int64_t keyd_now(void);
bool keyd_is_sealed(const struct keyd *k);

/* Opens slot and ring (passphrase NULL: by the key file), completes what a crash interrupted.  Errors of slot_set_open. */
int keyd_unseal(struct keyd *k, const void *passphrase, size_t n, struct keys_error *err);
/* Ends all sessions and workers, wipes the keys; *ret_ended sessions. */
void keyd_seal(struct keyd *k, int *ret_ended);
/* shred_run() on the slot and keys of this installation.  PENDING is noted, logged and tried again; after UNKNOWN only the disk
 * knows, as after a crash: the keys are sealed.  *ret_outcome must be initialised to SHRED_NOTHING. */
int keyd_shred(struct keyd *k, const struct shred_job *job, enum shred_outcome *ret_outcome, struct keys_error *err);

/* Starts the one-second timer that drives everything that happens by itself. */
int keyd_start_timer(struct keyd *k);
/* Sessions, workers, fsd, in this order; the loop ends when it is idle. */
void keyd_shutdown(struct keyd *k);
void keyd_remember_clock(struct keyd *k);
/* Compares the clock with the record, once, as soon as fsd is there; false: not yet. */
bool keyd_compare_ledger(struct keyd *k);

#endif
