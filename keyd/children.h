/* coffer-fsd and the workers: started with a clean environment, watched through pidfds, asked over their
 * inherited sockets.  A call has a deadline; a child that misses it is killed, since its exit is an answer too. */
#ifndef COFFER_KEYD_CHILDREN_H
#define COFFER_KEYD_CHILDREN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "common/varlink.h"
#include "keyd/child.h"
#include "keyd/facts_loads.h"

struct keyd;

#define FSD_TIMEOUT_MS 5000
#define WORKER_TIMEOUT_MS 5000		/* what is not a revocation may meet a loaded machine */
#define WORKER_OPEN_TIMEOUT_MS 10000

struct worker {
	struct worker *next;
	struct keyd *keyd;
	struct child child;
	char client[CLIENT_NAME_MAX], hex[CLIENT_ID_HEX];
	json_t *sandbox;	/* what Open answered */
	unsigned sessions;
	uint64_t idle_since;	/* tick when the last session left */
	bool doomed;		/* its fsd is gone: no new session */
	bool apart;		/* without sessions and record: see worker_start_apart */
	int fsd_end;		/* of one apart or without keys, which fsd is not told of; else -1 */
	int64_t row;		/* of the client */
	struct fact_load load;	/* the numbers that it may give out; its row 0: none */
	uint16_t pruned;	/* days before it are pruned: nothing is made on them */
	int folder_fd, copy_fd;	/* of one apart that is being started; else -1 */
};

struct children {
	char *fsd_path, *worker_path;
	struct child fsd;
	uint64_t fsd_retry_at;	/* tick */
	unsigned fsd_failures;	/* in a row */
	uint64_t fsd_started_at;
	bool ledger_damaged;	/* what fsd said as it ended, until one has stayed */
	struct worker *workers;
	uint16_t today;		/* what the workers were told */
};

/* Finds the programs, next to our own or where they are installed. */
int children_find_programs(struct children *c);

int fsd_start(struct keyd *k);
bool fsd_is_running(const struct keyd *k);
const char *fsd_state(const struct keyd *k);	/* a word for `status` */
/* Steals params.  -ENOTCONN: it is not running.  Errors of varlink_call. */
int fsd_call(struct keyd *k, const char *method, json_t *params, json_t **ret, struct varlink_failure *failure);

/* The worker of that client, started when there is none. */
int worker_get(struct keyd *k, const struct fact_client *c, struct worker **ret);
struct worker *worker_find(struct keyd *k, const char *hex);	/* the one that runs, or NULL */
/* A worker without keys, for the folder of a destroyed client: it only sweeps. */
int worker_get_dead(struct keyd *k, const struct fact_client *c, struct worker **ret);
/* One more worker with that client's keys, that has no sessions and no journal: on another folder than the client's own
 * (folder_fd), or with a copy of it to restore from (copy_fd: then the caller lets no other worker of that client be).
 * Either may be -1; both stay the caller's, and are needed until this returns.  It ends by worker_dismiss, or with all
 * workers of its client. */
int worker_start_apart(struct keyd *k, const struct fact_client *c, int folder_fd, int copy_fd, struct worker **ret);
void worker_dismiss(struct worker *w);	/* asks it to go, and waits; w is gone */
/* Steals params.  A worker that does not answer in time is killed and gone when this returns (-ETIME, -ECONNRESET). */
int worker_call(struct worker *w, const char *method, json_t *params, int timeout_ms, struct varlink_failure *failure);
/* In two steps, so that many workers can work at once.  Nothing else is asked of w between them; `begun` is what the first
 * returned, and only the second kills. */
int worker_call_begin(struct worker *w, const char *method, json_t *params, int timeout_ms);
int worker_call_finish(struct worker *w, const char *method, int begun);
/* The same; *ret (new reference) is what it answered. */
int worker_ask(struct worker *w, const char *method, json_t *params, int timeout_ms, json_t **ret);
/* The same with a descriptor, which stays the caller's. */
int fsd_pass(struct keyd *k, const char *method, json_t *params, int fd);
int worker_pass(struct worker *w, const char *method, json_t *params, int fd);
void worker_kill(struct worker *w);	/* waits for its exit; w is gone */

void children_tick(struct keyd *k);
void children_stop_workers(struct keyd *k);
void children_stop_worker(struct keyd *k, const char *hex);	/* all with that client's keys: gone when this returns */
void children_stop_fsd(struct keyd *k);
void children_done(struct children *c);

#endif
