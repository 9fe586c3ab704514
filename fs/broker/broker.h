/* The state of coffer-fsd, and what its sources share.  One thread, one loop. */
#ifndef COFFER_BROKER_BROKER_H
#define COFFER_BROKER_BROKER_H

#include <stdbool.h>
#include <systemd/sd-event.h>

#include "common/statedir.h"
#include "common/varlink.h"
#include "fs/broker/drain.h"
#include "fs/broker/ledger.h"

struct archive_job;
struct session;
struct verify_job;
struct worker;

struct broker {
	sd_event *event;
	struct statedir dir;
	char *ledger_path;
	int journal_dirfd;
	struct ledger *ledger;
	struct drain *drain;
	struct varlink_server *server;
	struct session *sessions;
	struct worker *workers;
	struct verify_job *verify_jobs;
	int64_t verify_number; /* the last one given to a job */
	struct archive_job *archive;
	struct varlink_call *watch;    /* keyd's: news go there */
	struct varlink_call *shutdown; /* keyd's, answered when all has ended */
	bool stopping;
	unsigned apart; /* roles beside which nobody is an auditor here, as keyd says; all, until it did */
	sd_event_source *stop_timer;
};

/* ---- session.c: sessions and workers ---- */
#define SESSION_ATTACH_SECONDS 60
#define SESSION_TABLE_ENTRIES 65536u

struct session_expected {
	uint64_t number, member_of; /* 0, or the shared session whose mount it uses: there it begins at once */
	const char *client_id, *client, *user, *purpose, *ticket, *rights;
	uid_t uid;
};

/* keyd announces a session.  It is in the ledger when this returns 0.  -ESRCH: member_of is not mounted. */
int session_expect(struct broker *b, const struct session_expected *e);

struct refusal {	/* for the caller of Attach */
	char error[48], message[400], remedy[200];
};
/* The user hands over his mount.  Takes fuse_fd and keeper_fd.  -EACCES: refused; *refusal says why. */
int session_breaker(struct broker *b, uint64_t number, int fd);	/* takes fd.  -ENOENT */
bool session_is_expected(const struct broker *b, uid_t uid);	/* one of this user waits to be attached */
int session_attach(struct broker *b, const struct peer *peer, uint64_t number, const char *token, const char *mountpoint,
	int fuse_fd, int keeper_fd, struct refusal *refusal);
unsigned sessions_count(const struct broker *b);

/* Takes fd, the socket to the worker. */
int worker_started(struct broker *b, const char *client, const char *client_id, pid_t pid, int fd);

/* Ends everything: waits for the workers, at most 2 s; the loop exits when all has ended. */
void broker_stop(struct broker *b, const char *why);

/* ---- methods.c, methods_keyd.c ---- */
extern const struct varlink_method broker_methods[];
void broker_drop_nulls(json_t *object);
int broker_reply_errno(struct varlink_call *call, int r, const char *what);

int keyd_worker_started(struct varlink_call *call, json_t *params, void *userdata);
int keyd_record(struct varlink_call *call, json_t *params, void *userdata);
int keyd_flush(struct varlink_call *call, json_t *params, void *userdata);
int keyd_head(struct varlink_call *call, json_t *params, void *userdata);
int keyd_versions(struct varlink_call *call, json_t *params, void *userdata);
int keyd_removals(struct varlink_call *call, json_t *params, void *userdata);
int keyd_accesses(struct varlink_call *call, json_t *params, void *userdata);
int keyd_head_signed(struct varlink_call *call, json_t *params, void *userdata);
int keyd_watch(struct varlink_call *call, json_t *params, void *userdata);
int keyd_roles(struct varlink_call *call, json_t *params, void *userdata);
int keyd_breaker(struct varlink_call *call, json_t *params, void *userdata);
int keyd_session_expected(struct varlink_call *call, json_t *params, void *userdata);
int keyd_shutdown(struct varlink_call *call, json_t *params, void *userdata);

#endif
