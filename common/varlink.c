#include "common/varlink.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "common/utf8.h"
#include "common/varlink_conn.h"
#include "common/varlink_wire.h"

#define OUT_BYTES_MAX (2 * VARLINK_MESSAGE_MAX) /* a peer that lets more than this wait is dropped */

struct varlink_call {
	struct conn *conn; /* NULL: the peer is gone */
	char *method;
	struct peer peer;
	int fds[VARLINK_FDS_MAX];
	bool more, oneway, done;
	unsigned refs; /* the answer to come, and the dispatcher while it runs */
};

static void conn_update(struct conn *c);

/* ---- calls ---- */

static void call_unref(struct varlink_call *call)
{
	if (--call->refs > 0)
		return;
	for (unsigned i = 0; i < VARLINK_FDS_MAX; i++)
		close_fdp(&call->fds[i]);
	free(call->method);
	free(call);
}

static void call_finish(struct varlink_call *call)
{
	struct conn *c = call->conn;

	call->done = true;
	call->conn = NULL;
	if (c && c->watch == call)
		c->watch = NULL;
	else if (c)
		c->call = NULL;
	call_unref(call);
	if (c)
		conn_update(c);
}

void varlink_server_set_roles(struct varlink_server *s, unsigned (*usable)(const struct peer *p, void *userdata))
{
	s->usable = usable;
}

const struct peer *varlink_call_peer(const struct varlink_call *call)
{
	return &call->peer;
}

int varlink_call_take_fd(struct varlink_call *call, unsigned i)
{
	if (i >= VARLINK_FDS_MAX || call->fds[i] < 0)
		return -EBADF;
	return take_fd(&call->fds[i]);
}

bool varlink_call_wants_more(const struct varlink_call *call)
{
	return call->more;
}

/* ---- connections ---- */

static void conn_free(struct conn *c)
{
	sd_event_source_disable_unref(c->io);
	sd_event_source_disable_unref(c->again);
	sd_event_source_disable_unref(c->late);
	sd_event_source_disable_unref(c->gone);
	wire_done(&c->wire);
	free(c);
}

static void conn_unlink(struct conn *c)
{
	struct conn **p = &c->server->conns;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
}

/* Nothing happens on it any more; a call in progress stays valid and its answer goes nowhere. */
static void conn_detach(struct conn *c)
{
	if (c->call)
		c->call->conn = NULL;
	if (c->watch)
		c->watch->conn = NULL;
	c->call = c->watch = NULL;
	sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
	sd_event_source_set_enabled(c->again, SD_EVENT_OFF);
	c->late = sd_event_source_disable_unref(c->late);
}

void varlink_conn_drop(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	conn_detach(c);
	if (c->gone) {
		sd_event_source_set_enabled(c->gone, SD_EVENT_ONESHOT);
		return;
	}
	conn_unlink(c);
	if (!c->dispatching)
		conn_free(c);
}

/* From the event loop, never from within an answer: whoever answers may hold what on_close takes away. */
static int on_gone(sd_event_source *source, void *userdata)
{
	struct conn *c = userdata;
	void (*on_close)(void *userdata) = c->on_close;
	void *close_userdata = c->userdata;

	conn_unlink(c);
	conn_free(c);
	on_close(close_userdata);
	return 0;
}

/* Sends what it can, then waits for what can happen next.  May free the connection. */
static void conn_update(struct conn *c)
{
	bool idle;
	int r;

	if (c->dead)
		return;
	r = wire_flush(&c->wire);
	if (r < 0 || (r > 0 && c->closing)) {
		varlink_conn_drop(c);
		return;
	}
	/* A peer with an answer still to take gets no further call: that bounds what it can pile up. */
	idle = r > 0 && !c->call;
	sd_event_source_set_io_events(c->io, (idle ? EPOLLIN : 0) | (r > 0 ? 0 : EPOLLOUT));
	sd_event_source_set_enabled(c->again,
		idle && !c->dispatching && wire_has_message(&c->wire) ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* Steals message. */
static int conn_send(struct conn *c, json_t *message, const int *fds, unsigned n)
{
	int r;

	if (!message)
		return -ENOMEM;
	r = wire_queue(&c->wire, message, fds, n);
	json_decref(message);
	if (r < 0)
		return r;
	if (wire_flush(&c->wire) < 0 || c->wire.out_bytes > OUT_BYTES_MAX) {
		varlink_conn_drop(c);
		return -ECONNRESET;
	}
	return 0;
}

/* ---- answers ---- */

static json_t *error_message(const char *error, const char *message, const char *remedy)
{
	return json_pack("{s:s, s:{s:s, s:s}}", "error", error, "parameters", "message", message, "remedy",
		remedy ? remedy : "");
}

static int answer(struct varlink_call *call, json_t *message, const int *fds, unsigned n, bool final)
{
	struct conn *c = call->conn;
	int r = 0;

	/* Each answer to a call with "more" says whether more follows; so a client can tell it from the
	 * answers to the other calls on the connection. */
	if (message && call->more)
		json_object_set_new(message, "continues", json_boolean(!final));
	if (!c || call->oneway)
		json_decref(message);
	else
		r = conn_send(c, message, fds, n);
	if (!c)
		r = -ECONNRESET;
	if (r < 0 && r != -ECONNRESET && final && call->conn)
		/* Too large, or no memory: the peer must not wait for ever. */
		r = conn_send(call->conn,
			error_message("org.coffer.AnswerFailed",
				r == -EMSGSIZE ? "the answer is larger than a message may be"
					       : "the answer could not be sent",
				"ask for less at a time"),
			NULL, 0);
	if (r < 0 && r != -ECONNRESET && call->conn)
		varlink_conn_drop(call->conn);
	if (final)
		call_finish(call);
	else if (call->conn)
		conn_update(call->conn);
	return r;
}

static json_t *reply_message(json_t *params)
{
	json_t *m = json_object();

	if (!params)
		params = json_object();
	if (json_object_set_new(m, "parameters", params) < 0) {
		json_decref(m);
		return NULL;
	}
	return m;
}

int varlink_reply_fds(struct varlink_call *call, json_t *params, const int *fds, unsigned n)
{
	return answer(call, reply_message(params), fds, n, true);
}

int varlink_reply(struct varlink_call *call, json_t *params)
{
	return varlink_reply_fds(call, params, NULL, 0);
}

int varlink_reply_more(struct varlink_call *call, json_t *params)
{
	if (!call->more) {
		json_decref(params);
		return -EPROTO;
	}
	return answer(call, reply_message(params), NULL, 0, false);
}

int varlink_error(struct varlink_call *call, const char *error, const char *message, const char *remedy)
{
	scoped(freep) char *full = NULL;
	const char *dot = strrchr(call->method, '.');
	json_t *m = NULL;

	if (strchr(error, '.'))
		m = error_message(error, message, remedy);
	else if (asprintf(&full, "%.*s.%s", (int)(dot - call->method), call->method, error) >= 0)
		m = error_message(full, message, remedy);
	if (!m) /* text from outside that is not UTF-8 must not lose the refusal */
		m = error_message("org.coffer.Failed", "refused; the reason cannot be shown", NULL);
	return answer(call, m, NULL, 0, true);
}

int varlink_errorf(struct varlink_call *call, const char *error, const char *remedy, const char *fmt, ...)
{
	char message[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	utf8_mend(message);
	return varlink_error(call, error, message, remedy);
}

/* ---- dispatch ---- */

static const struct {
	unsigned role;
	const char *text;
} role_texts[] = {
	{ROLE_ADMIN, "admin (group coffer-admin)"},
	{ROLE_CUSTODIAN, "custodian (group coffer-custodian)"},
	{ROLE_AUDITOR, "auditor (group coffer-auditor)"},
	{ROLE_OWNER, "owner of the state directory"},
	{ROLE_KEYD, "coffer-keyd itself"},
	{ROLE_FSD, "coffer-fsd itself"},
};

static int refuse_role(struct varlink_call *call, const struct varlink_method *m, unsigned withheld)
{
	char needed[256] = "";
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(role_texts); i++) {
		if (!(m->roles & role_texts[i].role) || n >= sizeof(needed))
			continue;
		n += (size_t)snprintf(
			needed + n, sizeof(needed) - n, "%s%s", n > 0 ? " or " : "", role_texts[i].text);
	}
	if (withheld & m->roles)
		return varlink_errorf(call, "RolesTogether",
			"leave all but one of the groups, or let the policy say which roles go together (together)",
			"%s has several roles that may not be used together here", call->peer.user);
	return varlink_errorf(call, "PermissionDenied",
		"ask someone who has the role, or ask the administrator of this host to add you to the group",
		"%s is for the role %s; %s does not have it", strrchr(m->name, '.') + 1,
		n > 0 ? needed : "of nobody", call->peer.user);
}

static int get_info(struct varlink_call *call, const struct varlink_server *s)
{
	json_t *interfaces = json_pack("[s]", "org.varlink.service");
	const char *last = "";
	size_t last_n = 0;

	for (const struct varlink_method *m = s->methods; m->name; m++) {
		size_t n = (size_t)(strrchr(m->name, '.') - m->name);

		if (n == last_n && strncmp(m->name, last, n) == 0)
			continue;
		last = m->name;
		last_n = n;
		json_array_append_new(interfaces, json_stringn(m->name, n));
	}
	return varlink_reply(
		call, json_pack("{s:s, s:s, s:s, s:s, s:o}", "vendor", "Coffer", "product", "coffer",
			      "version", COFFER_VERSION, "url", "", "interfaces", interfaces));
}

static int method_not_found(struct varlink_call *call)
{
	json_t *m = json_pack("{s:s, s:{s:s, s:s, s:s}}", "error", "org.varlink.service.MethodNotFound",
		"parameters", "method", call->method, "message", "there is no such method here", "remedy",
		"check that tool and daemon are of the same version");

	return answer(call, m, NULL, 0, true);
}

/* All checks are here, so that no handler need repeat one. */
static int dispatch(struct varlink_server *s, struct varlink_call *call, json_t *params)
{
	const struct varlink_method *m = s->methods;
	unsigned usable = s->usable ? s->usable(&call->peer, s->userdata) : ~0u, withheld = call->peer.roles & ~usable;

	if (strcmp(call->method, "org.varlink.service.GetInfo") == 0)
		return get_info(call, s);
	call->peer.roles &= usable;
	while (m->name && strcmp(m->name, call->method) != 0)
		m++;
	if (!m->name)
		return method_not_found(call);
	if (!(m->roles & call->peer.roles))
		return refuse_role(call, m, withheld);
	if (m->states && !(m->states & s->state))
		return varlink_error(call, "Sealed", s->refusal ? s->refusal : "not in this state", NULL);
	if (!json_is_object(params))
		return varlink_error(call, "org.varlink.service.InvalidParameter",
			"the parameters are not an object", NULL);
	return m->handle(call, params, s->userdata);
}

/* A call from a message; NULL when it is none.  Takes the descriptors in either case. */
static struct varlink_call *call_new(struct conn *c, json_t *message, int *fds)
{
	const char *method = json_string_value(json_object_get(message, "method"));
	struct varlink_call *call = calloc(1, sizeof(*call));

	if (call)
		call->method = strdup(method ? method : "");
	if (!call || !call->method || !strchr(call->method, '.')) {
		for (unsigned i = 0; i < VARLINK_FDS_MAX; i++)
			close_fdp(&fds[i]);
		free(call ? call->method : NULL);
		free(call);
		return NULL;
	}
	memcpy(call->fds, fds, sizeof(call->fds));
	call->conn = c;
	call->refs = 1;
	call->more = json_is_true(json_object_get(message, "more"));
	call->oneway = json_is_true(json_object_get(message, "oneway"));
	/* Roles are those of now: someone taken out of a group must not keep them while he stays connected.
	 */
	if (!c->inherited) {
		pid_t pid = c->peer.pid;
		gid_t gid = c->peer.gid;
		uid_t person = c->peer.person;

		if (peer_from_uid(c->peer.uid, c->server->owner, &c->peer) < 0)
			c->peer.roles = ROLE_NONE;
		c->peer.pid = pid;
		c->peer.gid = gid;
		c->peer.person = person;
	}
	call->peer = c->peer;
	return call;
}

static void conn_bad_message(struct conn *c)
{
	log_warning_limited(&c->server->log_limit, "a malformed message from %s (uid %u, pid %d); connection closed", c->peer.user,
		(unsigned)c->peer.uid, (int)c->peer.pid);
	c->closing = true;
	conn_send(c,
		error_message("org.coffer.BadMessage", "this is not a varlink call",
			"check that tool and daemon are of the same version"),
		NULL, 0);
}

/* One message at most, so that no peer keeps the loop for himself. */
static void conn_process(struct conn *c)
{
	struct varlink_call *call;
	json_t *message = NULL, *params;
	int fds[VARLINK_FDS_MAX], r;

	if (c->call || c->closing)
		return;
	r = wire_next(&c->wire, &message, fds);
	if (r == 0)
		return;
	call = r > 0 ? call_new(c, message, fds) : NULL;
	if (!call) {
		json_decref(message);
		conn_bad_message(c);
		return;
	}
	params = json_incref(json_object_get(message, "parameters"));
	if (!params)
		params = json_object();
	json_decref(message);
	c->call = call;
	call->refs++;
	r = dispatch(c->server, call, params);
	if (r < 0 && !call->done) {
		log_warning("%s failed: %s", call->method, strerror(-r));
		varlink_errorf(
			call, "Failed", "see the log of the daemon", "the request failed: %s", strerror(-r));
	}
	if (!call->done && call->more && c->call == call && !c->watch)
		c->watch = take_ptr(&c->call);
	json_decref(params);
	call_unref(call);
}

static void conn_run(struct conn *c)
{
	c->dispatching = true;
	conn_process(c);
	c->dispatching = false;
	if (!c->dead)
		conn_update(c);
	else if (!c->gone)
		conn_free(c);
}

static int on_again(sd_event_source *source, void *userdata)
{
	conn_run(userdata);
	return 0;
}

static int on_late(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct conn *c = userdata;

	log_warning("a message of %s (uid %u) was not finished in %u seconds; connection closed", c->peer.user,
		(unsigned)c->peer.uid, c->server->part_seconds);
	varlink_conn_drop(c);
	return 0;
}

/* A timer of our own and the bare call: libfaketime, with which the clock is moved in tests, moves absolute ones like the event
 * loop's, too, and its loop would end. */
static int begin_late(struct conn *c)
{
	const struct itimerspec when = {.it_value.tv_sec = c->server->part_seconds};
	scoped(close_fdp) int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int r;

	if (fd < 0 || syscall(SYS_timerfd_settime, fd, 0, &when, NULL) < 0)
		return -errno;
	r = sd_event_add_io(c->server->event, &c->late, fd, EPOLLIN, on_late, c);
	if (r < 0)
		return r;
	(void)sd_event_source_set_io_fd_own(c->late, true);
	take_fd(&fd);
	return 0;
}

/* From the first byte of a message: more of it gives no more time.  False: the connection is gone. */
static bool watch_part(struct conn *c)
{
	int r;

	if (c->inherited)
		return true;
	if (!wire_has_part(&c->wire)) {
		c->late = sd_event_source_disable_unref(c->late);
		return true;
	}
	r = c->late ? 0 : begin_late(c);
	if (r < 0) {
		log_warning("no timer for a message of %s: %s; connection closed", c->peer.user, strerror(-r));
		varlink_conn_drop(c);
	}
	return r == 0;
}

static int conn_read(struct conn *c)
{
	const struct varlink_server *s = c->server;

	if (!c->inherited) {
		c->wire.in_max = s->message_max;
		c->wire.no_fds = s->fds_from && !s->fds_from(&c->peer, s->userdata);
	}
	return wire_read(&c->wire);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct conn *c = userdata;
	int r;

	/* Gone in both directions while it should wait for an answer: nobody will take it. */
	if ((events & (EPOLLHUP | EPOLLERR)) && (c->call || c->watch || c->wire.out)) {
		varlink_conn_drop(c);
		return 0;
	}
	if (!c->call && !c->closing && !c->wire.out && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		if (!wire_has_message(&c->wire)) {
			r = conn_read(c);
			if (r == 0 || (r < 0 && r != -EAGAIN)) {
				if (r == -EMSGSIZE)
					log_warning_limited(&c->server->log_limit,
						"a message beyond %zu bytes from %s (uid %u); connection closed", c->wire.in_max, c->peer.user, (unsigned)c->peer.uid);
				varlink_conn_drop(c);
				return 0;
			}
			if (!watch_part(c))
				return 0;
		}
		conn_run(c);
		return 0;
	}
	conn_update(c);
	return 0;
}

/* ---- sockets ---- */

int varlink_conn_new(struct varlink_server *s, int fd, const struct peer *peer, struct conn **ret)
{
	struct conn *c = calloc(1, sizeof(*c));
	int r;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	wire_init(&c->wire, fd);
	c->server = s;
	c->peer = *peer;
	r = sd_event_add_io(s->event, &c->io, fd, EPOLLIN, on_io, c);
	if (r >= 0)
		r = sd_event_add_defer(s->event, &c->again, on_again, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->again, SD_EVENT_OFF);
	if (r < 0) {
		conn_free(c);
		return r;
	}
	c->next = s->conns;
	s->conns = c;
	*ret = c;
	return 0;
}

int varlink_server_add_connection(
	struct varlink_server *s, int fd, unsigned roles, void (*on_close)(void *userdata), void *userdata)
{
	struct peer peer = {.uid = (uid_t)-1, .gid = (gid_t)-1, .roles = roles};
	struct conn *c;
	int r;

	snprintf(peer.user, sizeof(peer.user), "%s",
		roles & ROLE_KEYD  ? "coffer-keyd"
		: roles & ROLE_FSD ? "coffer-fsd"
				   : "inherited");
	r = varlink_conn_new(s, fd, &peer, &c);
	if (r < 0)
		return r;
	c->inherited = true;
	if (!on_close)
		return 0;
	c->on_close = on_close;
	c->userdata = userdata;
	r = sd_event_add_defer(s->event, &c->gone, on_gone, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->gone, SD_EVENT_OFF);
	if (r < 0) {
		conn_unlink(c);
		conn_free(c);
	}
	return r;
}

/* ---- the server ---- */

int varlink_server_new(sd_event *event, const struct varlink_method *methods, uid_t state_dir_owner,
	void *userdata, struct varlink_server **ret)
{
	struct varlink_server *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->event = sd_event_ref(event);
	s->methods = methods;
	s->owner = state_dir_owner;
	s->userdata = userdata;
	s->message_max = VARLINK_MESSAGE_MAX;
	s->part_seconds = VARLINK_PART_SECONDS;
	*ret = s;
	return 0;
}

void varlink_server_free(struct varlink_server *s)
{
	if (!s)
		return;
	varlink_listeners_free(s->listeners);
	while (s->conns) {
		struct conn *c = s->conns;

		wire_flush(&c->wire); /* the last answers, as far as they go without waiting */
		conn_detach(c);
		conn_unlink(c);
		conn_free(c);
	}
	sd_event_unref(s->event);
	free(s->refusal);
	free(s);
}

void varlink_server_set_limits(struct varlink_server *s, size_t message_max, unsigned part_seconds)
{
	s->message_max = message_max;
	s->part_seconds = part_seconds;
}

void varlink_server_set_fds_from(
	struct varlink_server *s, bool (*from)(const struct peer *p, void *userdata))
{
	s->fds_from = from;
}

void varlink_server_set_state(struct varlink_server *s, unsigned state_bit, const char *refusal)
{
	char *copy = refusal ? strdup(refusal) : NULL;

	free(s->refusal);
	s->refusal = copy;
	s->state = state_bit;
}
