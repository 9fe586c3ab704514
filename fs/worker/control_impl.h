/* What the sources of the worker's control share.  Not for others: control.h is. */
#ifndef COFFER_CONTROL_IMPL_H
#define COFFER_CONTROL_IMPL_H

#include <systemd/sd-event.h>

#include "common/varlink.h"
#include "fs/worker/control.h"
#include "fs/worker/session.h"
#include "fs/worker/worker.h"

#define TOKEN_MAX 128

struct fsck;
struct keytree;
struct restore_job;
struct store;
struct survey_job;

/* One call for the end of sessions: it is answered when the last of them has ended. */
struct ending {
	struct varlink_call *call;
	unsigned left;
};

/* A member of a shared session whose end somebody may wait for. */
struct parting {
	struct parting *next;
	uint64_t number;
	char reason[SESSION_WORD];
	struct ending *end;
};

struct entry {
	struct entry *next;
	struct session *session;
	char token[TOKEN_MAX]; /* "": used */
	int64_t until;         /* seconds since 1970; 0: no end */
	struct varlink_call *attach;
	struct ending *end;    /* or NULL */
	sd_event_source *late; /* its end was asked for, and does not come */
	struct parting *partings;
};

struct control {
	sd_event *event;
	struct varlink_server *server;
	struct control_fds fds;
	bool memory_locked, open, exiting;
	struct worker worker;
	struct keytree *tree;
	struct entry *entries;
	struct fsck *fsck;
	struct survey_job *survey;
	struct store *copy; /* of this client's store, to restore from; or NULL */
	struct restore_job *restore;
	struct varlink_call *watch_keyd, *watch_fsd, *exit;
	uint64_t last_ping; /* monotonic seconds */
};

/* ---- control.c ---- */
uint64_t control_seconds(void); /* monotonic */
int control_bad_parameters(struct varlink_call *call, const json_error_t *e);
struct entry *control_entry_find(struct control *c, json_int_t number);
int control_no_session(struct varlink_call *call);
void control_ended(struct ending *end); /* one of its sessions; NULL is fine */
void control_tell_end(struct varlink_call *watch, uint64_t number, const char *reason); /* watch: NULL is fine */

/* ---- control_members.c: of a shared session ---- */
void control_members_look(struct control *c, struct entry *e); /* tells who is wanted, and who is gone */
void control_partings_done(struct entry *e); /* the whole session has ended: nothing of any member is readable */
/* Ends the member with that number, of whatever session; control_ended(end) when nothing of it is readable. */
void control_member_end(struct control *c, struct ending *end, uint64_t number, const char *reason, int error);
int control_member_decided(struct varlink_call *call, json_t *params, void *userdata);
int control_access_list(struct varlink_call *call, json_t *params, void *userdata);

/* ---- control_numbers.c: which numbers of leaves were given out; methods that keyd calls ---- */
json_t *control_numbers_of(struct control *c, bool begin_anew); /* {"numbers": {...}}; no client: {} */
json_t *control_numbers_last(struct control *c); /* the same, and none is given out any more */
int control_today(struct varlink_call *call, json_t *params, void *userdata);
int control_ping(struct varlink_call *call, json_t *params, void *userdata);
int control_numbers(struct varlink_call *call, json_t *params, void *userdata);

/* ---- control_walks.c: methods that keyd calls ---- */
int control_fsck(struct varlink_call *call, json_t *params, void *userdata);
int control_fsck_next(struct varlink_call *call, json_t *params, void *userdata);
int control_fsck_stop(struct varlink_call *call, json_t *params, void *userdata);
int control_survey(struct varlink_call *call, json_t *params, void *userdata);
int control_sweep_dead(struct varlink_call *call, json_t *params, void *userdata);
int control_forget(struct varlink_call *call, json_t *params, void *userdata);
int control_retain(struct varlink_call *call, json_t *params, void *userdata);
int control_survey_next(struct varlink_call *call, json_t *params, void *userdata);
int control_survey_stop(struct varlink_call *call, json_t *params, void *userdata);
int control_restore(struct varlink_call *call, json_t *params, void *userdata);
int control_restore_next(struct varlink_call *call, json_t *params, void *userdata);

#endif
