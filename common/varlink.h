/* Varlink (https://varlink.org) over Unix stream sockets: JSON objects ended by NUL, descriptors
 * beside a message (SCM_RIGHTS).  The server side lives on an sd-event loop; the client side is a
 * blocking call with a deadline.  Methods are declared once, in a table, with the roles that may
 * call each; nothing is callable that is not in the table.
 *
 * Who may wait for whom is a fixed order, so that blocking calls cannot deadlock:
 * tools -> keyd -> fsd -> worker, and tools -> fsd.  Nobody calls upwards. */
#ifndef COFFER_VARLINK_H
#define COFFER_VARLINK_H

#include <jansson.h>
#include <systemd/sd-event.h>

#include "common/peer.h"

#define VARLINK_MESSAGE_MAX (16u << 20)	/* a larger message ends the connection */
#define VARLINK_FDS_MAX 4
#define VARLINK_PART_SECONDS 10
#define VARLINK_PEER_CONNECTIONS_MAX 64	/* per uid; more are closed at once (not for root) */

/* ---- server ---- */
struct varlink_server;
struct varlink_call;		/* one call in progress; ended by exactly one reply or error, also when the peer has
				 * gone: varlink_reply_more() then says -ECONNRESET, and the end goes nowhere */

struct varlink_method {
	const char *name;	/* "org.coffer.keyd.Grant" */
	unsigned roles;		/* any of these (enum role) */
	unsigned states;	/* any of these, or 0: always (see varlink_server_set_state) */
	int (*handle)(struct varlink_call *call, json_t *params, void *userdata);
		/* Must reply (or keep the call and reply later).  Returning a negative errno
		 * without having replied sends a generic error. */
};

/* `methods` ends with a NULL name and outlives the server.  org.varlink.service.GetInfo is answered
 * by the library. */
int varlink_server_new(sd_event *event, const struct varlink_method *methods, uid_t state_dir_owner,
	void *userdata, struct varlink_server **ret);
void varlink_server_free(struct varlink_server *s);
int varlink_server_listen(struct varlink_server *s, int dirfd, const char *name, unsigned mode); /* replaces a stale socket */
/* An already connected socket (inherited socketpair) whose peer has exactly `roles`.  `on_close` may be NULL;
 * it comes from the event loop, never from within a call or an answer. */
int varlink_server_add_connection(struct varlink_server *s, int fd, unsigned roles,
	void (*on_close)(void *userdata), void *userdata);
void varlink_server_set_state(struct varlink_server *s, unsigned state_bit, const char *refusal); /* text when a method is refused in this state */

/* For connections that are accepted: no larger message is read (VARLINK_MESSAGE_MAX unless set, and at most), none may
 * take longer to arrive (VARLINK_PART_SECONDS unless set); descriptors are taken only from peers of which `from` says
 * so (NULL, unless set: from all), the kernel drops the others'. */
void varlink_server_set_limits(struct varlink_server *s, size_t message_max, unsigned part_seconds);
void varlink_server_set_fds_from(struct varlink_server *s, bool (*from)(const struct peer *p, void *userdata));

/* Which of a peer's roles count (NULL, unless set: all).  One that is refused for a role that does not count is told so. */
void varlink_server_set_roles(struct varlink_server *s, unsigned (*usable)(const struct peer *p, void *userdata));

const struct peer *varlink_call_peer(const struct varlink_call *call);
int varlink_call_take_fd(struct varlink_call *call, unsigned i);	/* -EBADF when none came; caller owns it */
bool varlink_call_wants_more(const struct varlink_call *call);
int varlink_reply(struct varlink_call *call, json_t *params);	/* steals params; NULL = {} */
int varlink_reply_fds(struct varlink_call *call, json_t *params, const int *fds, unsigned n); /* fds stay the caller's */
int varlink_reply_more(struct varlink_call *call, json_t *params);	/* "continues": the call stays open */
/* `error`: short name without interface ("NotGranted"); `message`: a sentence that names the thing;
 * `remedy`: what to do, or NULL. */
int varlink_error(struct varlink_call *call, const char *error, const char *message, const char *remedy);
int varlink_errorf(struct varlink_call *call, const char *error, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* ---- client ---- */
struct varlink_client;

struct varlink_failure {	/* filled on -EREMOTEIO: the peer answered with an error */
	char error[128];	/* full name, "org.coffer.keyd.NotGranted" */
	char message[1024];
	char remedy[1024];	/* "" when none */
};

int varlink_client_connect(const char *dir, const char *name, struct varlink_client **ret); /* through /proc/self/fd: any path length */
int varlink_client_new_fd(int fd, struct varlink_client **ret);	/* takes fd */
void varlink_client_free(struct varlink_client *c);
int varlink_client_fd(const struct varlink_client *c);

/* One call, one reply.  Steals params.  *ret (may be NULL) is a new reference.  `fds`/`n`: sent along, stay
 * the caller's.  ret_fds[VARLINK_FDS_MAX] (or NULL) gets the received descriptors, -1 beyond.
 * -ETIME: no answer in timeout_ms (the connection is unusable after it); -EREMOTEIO: *failure is filled;
 * -ECONNRESET: the peer is gone. */
int varlink_call(struct varlink_client *c, const char *method, json_t *params, const int *fds, unsigned n,
	int timeout_ms, json_t **ret, int *ret_fds, struct varlink_failure *failure);

/* The same in two steps, so that several peers can work on their answers at once.  After a begin that succeeded the finish
 * must come before any other call on c; the deadline is that of the begin.  On failure of the begin there is none. */
int varlink_call_begin(struct varlink_client *c, const char *method, json_t *params, const int *fds, unsigned n, int timeout_ms);
int varlink_call_finish(struct varlink_client *c, json_t **ret, int *ret_fds, struct varlink_failure *failure);

/* Starts a call with "more": every reply reaches on_reply(params) from the event loop; on_close when the peer goes,
 * or when it ends the watch, or when the answer to a call came too late.  varlink_call() works on the same connection
 * beside one watch: each answer to a call with "more" has "continues" (false in the last), the others have not. */
int varlink_watch(struct varlink_client *c, sd_event *event, const char *method, json_t *params,
	void (*on_reply)(json_t *params, void *userdata), void (*on_close)(void *userdata), void *userdata);

#endif
