#include "common/varlink.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "common/scope.h"
#include "common/varlink_wire.h"

#define CONNECT_SECONDS 10 /* only a full backlog makes connect() wait */
#define WATCH_SEND_MS 10000
#define NEWS_MAX 4096 /* of a watch, while one call waits */

struct varlink_client {
	struct wire wire;
	bool broken;            /* out of step with the peer: no further call */
	int64_t deadline;       /* of the call that was begun */
	sd_event_source *io;    /* a watch runs */
	sd_event_source *later; /* hands over what came for the watch during a call */
	json_t *news;           /* array of these messages */
	bool in_callback, freed;
	void (*on_reply)(json_t *params, void *userdata);
	void (*on_close)(void *userdata);
	void *userdata;
};

int varlink_client_new_fd(int fd, struct varlink_client **ret)
{
	struct varlink_client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	wire_init(&c->wire, fd);
	*ret = c;
	return 0;
}

int varlink_client_connect(const char *dir, const char *name, struct varlink_client **ret)
{
	scoped(close_fdp) int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	scoped(close_fdp) int fd = -1;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = CONNECT_SECONDS};
	int n;

	if (dirfd < 0)
		return -errno;
	n = snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	if (n < 0 || (size_t)n >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		if (errno != EINTR)
			return errno == EAGAIN ? -ETIME : -errno;
	return varlink_client_new_fd(take_fd(&fd), ret);
}

void varlink_client_free(struct varlink_client *c)
{
	if (!c)
		return;
	c->io = sd_event_source_disable_unref(c->io);
	c->later = sd_event_source_disable_unref(c->later);
	if (c->in_callback) {
		c->freed = true;
		return;
	}
	wire_done(&c->wire);
	json_decref(c->news);
	free(c);
}

int varlink_client_fd(const struct varlink_client *c)
{
	return c->wire.fd;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(struct varlink_client *c, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p = {.fd = c->wire.fd, .events = events};
		int64_t left = deadline - now_ms();
		int r = poll(&p, 1, left > 0 ? (int)left : 0);

		if (r > 0)
			return 0;
		if (r == 0)
			return -ETIME;
		if (errno != EINTR)
			return -errno;
	}
}

static int send_call(struct varlink_client *c, const char *method, json_t *params, bool more, const int *fds,
	unsigned n, int64_t deadline)
{
	json_t *m = json_pack("{s:s, s:o}", "method", method, "parameters", params ? params : json_object());
	int r = 0;

	if (!m)
		return -ENOMEM;
	if (more && json_object_set_new(m, "more", json_true()) < 0)
		r = -ENOMEM;
	if (r == 0)
		r = wire_queue(&c->wire, m, fds, n);
	json_decref(m);
	if (r < 0)
		return r;
	c->broken = true; /* until the answer is there */
	while ((r = wire_flush(&c->wire)) == 0) {
		r = wait_for(c, POLLOUT, deadline);
		if (r < 0)
			return r;
	}
	return r < 0 ? (r == -EPIPE ? -ECONNRESET : r) : 0;
}

/* For the watch, not for the call that waits: its callback must not run inside a call.  Steals message. */
static int keep_news(struct varlink_client *c, json_t *message, int *fds)
{
	for (unsigned i = 0; i < VARLINK_FDS_MAX; i++)
		close_fdp(&fds[i]); /* no watch hands over descriptors */
	if (json_array_size(c->news) >= NEWS_MAX) {
		json_decref(message);
		return -EMSGSIZE;
	}
	if (json_array_append_new(c->news, message) < 0)
		return -ENOMEM;
	return sd_event_source_set_enabled(c->later, SD_EVENT_ONESHOT) < 0 ? -ENOMEM : 0;
}

static int receive(struct varlink_client *c, int64_t deadline, json_t **ret, int *fds)
{
	for (;;) {
		int r = wire_next(&c->wire, ret, fds);

		if (r > 0 && c->io && json_object_get(*ret, "continues")) {
			r = keep_news(c, *ret, fds);
			if (r < 0)
				return r;
			continue;
		}
		if (r != 0)
			return r < 0 ? r : 0;
		r = wire_read(&c->wire);
		if (r == 0)
			return -ECONNRESET;
		if (r == -EAGAIN)
			r = wait_for(c, POLLIN, deadline);
		if (r < 0)
			return r;
	}
}

static void copy_text(char *to, size_t n, const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	snprintf(to, n, "%s", text ? text : "");
}

static void fill_failure(const json_t *message, struct varlink_failure *failure)
{
	const json_t *params = json_object_get(message, "parameters");

	copy_text(failure->error, sizeof(failure->error), message, "error");
	copy_text(failure->message, sizeof(failure->message), params, "message");
	copy_text(failure->remedy, sizeof(failure->remedy), params, "remedy");
	if (failure->message[0] == '\0')
		snprintf(
			failure->message, sizeof(failure->message), "the daemon answered %s", failure->error);
}

int varlink_call_begin(struct varlink_client *c, const char *method, json_t *params, const int *fds, unsigned n, int timeout_ms)
{
	if (c->broken) {
		json_decref(params);
		return -ECONNRESET;
	}
	c->deadline = now_ms() + timeout_ms;
	return send_call(c, method, params, false, fds, n, c->deadline);
}

int varlink_call_finish(struct varlink_client *c, json_t **ret, int *ret_fds, struct varlink_failure *failure)
{
	int got[VARLINK_FDS_MAX];
	json_t *message = NULL, *answer;
	int r = receive(c, c->deadline, &message, got);

	if (r < 0)
		return r;
	if (c->io && wire_has_message(&c->wire))
		sd_event_source_set_enabled(c->later, SD_EVENT_ONESHOT);
	c->broken = json_object_get(message, "continues") != NULL; /* not asked for: out of step */
	if (json_object_get(message, "error")) {
		if (failure)
			fill_failure(message, failure);
		r = -EREMOTEIO;
	}
	answer = json_object_get(message, "parameters");
	if (r == 0 && ret)
		*ret = json_is_object(answer) ? json_incref(answer) : json_object();
	json_decref(message);
	for (unsigned i = 0; i < VARLINK_FDS_MAX; i++) {
		if (r == 0 && ret_fds)
			ret_fds[i] = take_fd(&got[i]);
		close_fdp(&got[i]);
	}
	return r;
}

int varlink_call(struct varlink_client *c, const char *method, json_t *params, const int *fds, unsigned n,
	int timeout_ms, json_t **ret, int *ret_fds, struct varlink_failure *failure)
{
	int r = varlink_call_begin(c, method, params, fds, n, timeout_ms);

	return r < 0 ? r : varlink_call_finish(c, ret, ret_fds, failure);
}

/* ---- watches ---- */

static void watch_close(struct varlink_client *c)
{
	c->io = sd_event_source_disable_unref(c->io);
	c->later = sd_event_source_disable_unref(c->later);
	c->broken = true;
	if (c->on_close)
		c->on_close(c->userdata);
}

/* One message.  Steals it.  A message without "continues" is the late answer to a call that gave up. */
static void watch_take(struct varlink_client *c, json_t *message)
{
	const json_t *continues = json_object_get(message, "continues");

	if (continues && !json_object_get(message, "error"))
		c->on_reply(json_object_get(message, "parameters"), c->userdata);
	if (!c->freed && c->io && !json_is_true(continues))
		watch_close(c);
	json_decref(message);
}

/* What was kept during calls comes first: it is older than what is in the buffer. */
static void watch_deliver(struct varlink_client *c)
{
	int fds[VARLINK_FDS_MAX], r = 0;
	json_t *message = NULL;

	while (!c->freed && c->io && json_array_size(c->news) > 0) {
		message = json_incref(json_array_get(c->news, 0));
		json_array_remove(c->news, 0);
		watch_take(c, message);
	}
	while (!c->freed && c->io && (r = wire_next(&c->wire, &message, fds)) > 0) {
		for (unsigned i = 0; i < VARLINK_FDS_MAX; i++)
			close_fdp(&fds[i]);
		watch_take(c, message);
	}
	if (!c->freed && c->io && r < 0)
		watch_close(c);
}

static void watch_run(struct varlink_client *c, bool ended)
{
	c->in_callback = true;
	watch_deliver(c);
	if (!c->freed && c->io && ended)
		watch_close(c);
	c->in_callback = false;
	if (c->freed)
		varlink_client_free(c);
}

static int on_watch_later(sd_event_source *source, void *userdata)
{
	watch_run(userdata, false);
	return 0;
}

static int on_watch_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct varlink_client *c = userdata;
	int r = wire_read(&c->wire);

	if (r != -EAGAIN)
		watch_run(c, r <= 0);
	return 0;
}

int varlink_watch(struct varlink_client *c, sd_event *event, const char *method, json_t *params,
	void (*on_reply)(json_t *params, void *userdata), void (*on_close)(void *userdata), void *userdata)
{
	int r;

	if (c->broken || c->io) {
		json_decref(params);
		return -ECONNRESET;
	}
	r = send_call(c, method, params, true, NULL, 0, now_ms() + WATCH_SEND_MS);
	if (r < 0)
		return r;
	c->news = json_array();
	if (!c->news)
		return -ENOMEM;
	r = sd_event_add_defer(event, &c->later, on_watch_later, c);
	if (r >= 0)
		r = sd_event_source_set_enabled(c->later, SD_EVENT_OFF);
	if (r >= 0)
		r = sd_event_add_io(event, &c->io, c->wire.fd, EPOLLIN, on_watch_io, c);
	if (r < 0)
		return r;
	c->on_reply = on_reply;
	c->on_close = on_close;
	c->userdata = userdata;
	c->broken = false;
	return 0;
}
