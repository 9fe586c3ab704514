#include "keyd/survey.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_leaves.h"
#include "keyd/keyd.h"
#include "keyd/restore.h"
#include "keyd/session.h"

#define FIRST_USEC 2000u /* most are short */
#define EVERY_USEC 20000u

struct survey {
	struct survey *next;
	struct keyd *k;
	char client[CLIENT_NAME_MAX];
	int64_t client_row;
	struct worker *worker; /* NULL: gone */
	struct survey_spec spec;
	sd_event_source *timer;
	int timer_fd; /* the source's */
	uint64_t *leaves;
	size_t n, cap;
	bool over; /* done is being told */
	bool dead; /* the worker has no keys, and nothing else to do */
};

struct reserved {
	struct reserved *next;
	char client[CLIENT_NAME_MAX];
};

/* As keyd_start_timer: no event loop's timer, and past whoever bends the clock of this process. */
static void ask_in(struct survey *s, unsigned usec)
{
	const struct itimerspec when = {.it_value = {.tv_nsec = usec > 0 ? (long)usec * 1000 : 1}};

	if (syscall(SYS_timerfd_settime, s->timer_fd, 0, &when, NULL) < 0)
		log_error("no timer: %s", strerror(errno));
}

static void survey_free(struct survey *s)
{
	sd_event_source_disable_unref(s->timer);
	free(s->leaves);
	free(s);
}

static struct survey *find(const struct keyd *k, const char *client)
{
	for (struct survey *s = k->surveys; s; s = s->next)
		if (strcmp(s->client, client) == 0)
			return s;
	return NULL;
}

bool survey_is_incomplete(const struct survey_result *r)
{
	return json_integer_value(json_object_get(r->counts, "failed")) > 0;
}

static bool is_reserved(const struct keyd *k, const char *client)
{
	for (const struct reserved *r = k->reserved; r; r = r->next)
		if (strcmp(r->client, client) == 0)
			return true;
	return false;
}

void survey_release(struct keyd *k, const char *client)
{
	struct reserved *r;

	for (struct reserved **p = &k->reserved; *p; p = &(*p)->next)
		if (strcmp((*p)->client, client) == 0) {
			r = *p;
			*p = r->next;
			free(r);
			return;
		}
}

bool survey_runs(const struct keyd *k, const char *client)
{
	return find(k, client) || is_reserved(k, client);
}

bool survey_excludes_sessions(const struct keyd *k, const char *client)
{
	if (is_reserved(k, client))
		return true;
	for (const struct survey *s = k->surveys; s; s = s->next)
		if (s->spec.alone && strcmp(s->client, client) == 0)
			return true;
	return false;
}

bool survey_uses(const struct keyd *k, const struct worker *w)
{
	for (const struct survey *s = k->surveys; s; s = s->next)
		if (s->worker == w)
			return true;
	return false;
}

static void finish(struct survey *s, struct survey_result *r)
{
	struct keyd *k = s->k;

	s->over = true;
	if (s->worker) {
		s->worker->idle_since = k->tick;
		if (s->dead)
			children_stop_worker(k, s->worker->hex);
		else
			(void)worker_call(
				s->worker, "org.coffer.worker.SurveyStop", NULL, WORKER_TIMEOUT_MS, NULL);
		s->worker = NULL;
	}
	r->leaves = s->leaves;
	r->leaves_n = s->n;
	s->spec.done(k, r, s->spec.arg);
	for (struct survey **p = &k->surveys; *p; p = &(*p)->next)
		if (*p == s) {
			*p = s->next;
			break;
		}
	survey_free(s);
}

static void fail(struct survey *s, int error, const char *text)
{
	struct survey_result r = {.error = error, .text = text};

	finish(s, &r);
}

void survey_make_way(struct keyd *k, const char *client)
{
	struct survey *s = find(k, client);

	if (s && s->spec.way >= SURVEY_YIELDS && !s->over)
		fail(s, -ECANCELED, NULL);
}

static void end_if_last(struct keyd *k, const char *client)
{
	struct survey *s = find(k, client);

	if (s && s->spec.way == SURVEY_IS_LAST && !s->over)
		fail(s, -ECANCELED, NULL);
}

bool survey_blocks(struct keyd *k, const char *client)
{
	end_if_last(k, client);
	return survey_runs(k, client);
}

int survey_reserve(struct keyd *k, const char *client)
{
	struct reserved *r;

	end_if_last(k, client);
	if (find(k, client))
		return -EBUSY;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	snprintf(r->client, sizeof(r->client), "%s", client);
	r->next = k->reserved;
	k->reserved = r;
	return 0;
}

void survey_worker_gone(struct keyd *k, const struct worker *w)
{
	for (struct survey *s = k->surveys, *next; s; s = next) {
		next = s->next;
		if (s->worker != w || s->over)
			continue;
		s->worker = NULL;
		/* Not from here: the caller is in the middle of something else. */
		ask_in(s, 0);
	}
}

static int parse_leaves(const json_t *list, uint64_t *out)
{
	const json_t *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v)
	{
		const char *text = json_string_value(v);

		if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
			return -EBADMSG;
		out[i] = strtoull(text, NULL, 16);
	}
	return 0;
}

/* What something is about to move away from: on disk before the worker hears of it. */
static int note(struct survey *s, const json_t *list)
{
	size_t n = json_array_size(list);
	scoped(freep) uint64_t *leaves = NULL;
	int r;

	if (n == 0)
		return 0;
	leaves = calloc(n, sizeof(*leaves));
	if (!leaves)
		return -ENOMEM;
	r = parse_leaves(list, leaves);
	return r == 0 ? facts_dying_add(s->k->facts, s->client_row, leaves, n, keyd_now()) : r;
}

static int take(struct survey *s, const json_t *list)
{
	size_t count = json_array_size(list);
	uint64_t *more;
	int r;

	if (s->n + count > s->cap) {
		more = reallocarray(s->leaves, s->n + count + s->cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		s->leaves = more;
		s->cap += s->n + count;
	}
	r = parse_leaves(list, s->leaves + s->n);
	if (r == 0)
		s->n += count;
	return r;
}

static void take_answer(struct survey *s, const json_t *answer)
{
	const char *state = json_string_value(json_object_get(answer, "state"));
	const json_t *counts = json_object_get(answer, "counts");
	struct survey_result result = {.counts = counts};
	int r = note(s, json_object_get(answer, "leaving"));

	if (r == 0)
		r = take(s, json_object_get(answer, "leaves"));
	if (r < 0) {
		fail(s, r, strerror(-r));
	} else if (state && strcmp(state, "running") == 0) {
		if (s->spec.running)
			s->spec.running(counts, s->spec.arg);
		ask_in(s, EVERY_USEC);
	} else if (state && strcmp(state, "done") == 0) {
		result.store = json_string_value(json_object_get(answer, "store"));
		result.moved = json_is_true(json_object_get(counts, "moved"));
		finish(s, &result);
	} else {
		r = -(int)json_integer_value(json_object_get(answer, "errno"));
		result.text = json_string_value(json_object_get(answer, "error"));
		result.error = r < 0 ? r : -EREMOTEIO;
		finish(s, &result);
	}
}

static int on_timer(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct survey *s = userdata;
	json_t *answer = NULL;
	uint64_t n;
	int r;

	if (read(fd, &n, sizeof(n)) != sizeof(n))
		return 0;

	if (!s->worker) {
		fail(s, -EPIPE, "the client's worker has ended");
		return 0;
	}
	r = varlink_call(s->worker->child.client, "org.coffer.worker.SurveyNext", NULL, NULL, 0,
		WORKER_TIMEOUT_MS, &answer, NULL, NULL);
	if (r == 0) {
		take_answer(s, answer);
		json_decref(answer);
		return 0;
	}
	if (r != -EREMOTEIO)
		worker_kill(s->worker); /* it comes back here, without one */
	else
		fail(s, r, "the survey is not there any more");
	return 0;
}

static int leaves_fd(const struct survey_spec *spec)
{
	size_t size = spec->leaves_n * sizeof(uint64_t);
	scoped(close_fdp) int fd = memfd_create("coffer-leaves", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (size_t at = 0; at < size;) {
		ssize_t n = write(
			fd, (const char *)spec->leaves + at, size - at); /* little-endian, as all we run on */

		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	return take_fd(&fd);
}

static int start_timer(struct survey *s)
{
	scoped(close_fdp) int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int r;

	if (fd < 0)
		return -errno;
	r = sd_event_add_io(s->k->event, &s->timer, fd, EPOLLIN, on_timer, s);
	if (r < 0)
		return r;
	sd_event_source_set_io_fd_own(s->timer, true);
	s->timer_fd = take_fd(&fd);
	ask_in(s, FIRST_USEC);
	return 0;
}

static int begin(struct survey *s, json_t *params)
{
	struct varlink_failure failure = {0};
	scoped(close_fdp) int fd = -1;
	int r = 0;

	if (s->spec.leaves_n > 0) {
		fd = leaves_fd(&s->spec);
		if (fd < 0)
			return fd;
	}
	json_object_set_new(params, "mode", json_string(s->spec.mode));
	if (!s->dead)
		r = varlink_call(s->worker->child.client, "org.coffer.worker.Survey", json_incref(params),
			fd >= 0 ? &fd : &s->spec.list_fd, fd >= 0 || s->spec.list_fd > 0 ? 1 : 0, WORKER_TIMEOUT_MS, NULL, NULL, &failure);
	if (r == -EREMOTEIO)
		log_error("the survey of %s: %s", s->client, failure.message);
	else if (r < 0)
		worker_kill(s->worker);
	return r < 0 ? r : start_timer(s);
}

static int start(struct keyd *k, const struct fact_client *c, const struct survey_spec *spec, json_t *params)
{
	struct survey *other = find(k, c->client), *s;
	int r;

	if ((other && !other->over) || restore_excludes(k, c->client))
		return -EBUSY;
	if (!fsd_is_running(k))
		return -ENOTCONN;
	if (spec->alone)
		sessions_end(k, c->client, spec->why, EKEYREVOKED, spec->by.user ? spec->by : FACTS_CLOCK);
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->k = k;
	s->spec = *spec;
	snprintf(s->client, sizeof(s->client), "%s", c->client);
	s->client_row = c->row;
	s->dead = strcmp(spec->mode, "sweep-dead") == 0;
	r = s->dead ? worker_get_dead(k, c, &s->worker) : worker_get(k, c, &s->worker);
	if (r == 0)
		r = begin(s, params);
	if (r < 0) {
		survey_free(s);
		return r;
	}
	s->spec.leaves = NULL;
	s->spec.list_fd = 0;
	s->next = k->surveys;
	k->surveys = s;
	return 0;
}

int survey_start(struct keyd *k, const struct fact_client *c, const struct survey_spec *spec)
{
	json_t *params = spec->params ? spec->params : json_object();
	int r = start(k, c, spec, params);

	json_decref(params);
	return r;
}
