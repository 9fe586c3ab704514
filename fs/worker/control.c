#include "fs/worker/control_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "common/keytree.h"
#include "common/log.h"
#include "common/scope.h"
#include "common/secret.h"
#include "common/varlink.h"
#include "fs/worker/classes.h"
#include "fs/worker/fsck.h"
#include "fs/worker/member.h"
#include "fs/worker/recorder.h"
#include "fs/worker/sandbox.h"
#include "fs/worker/session.h"
#include "fs/worker/restore_job.h"
#include "fs/worker/survey_job.h"
#include "fs/worker/worker.h"

#define LEASE_SECONDS 30 /* without a Ping nobody can revoke: fail closed */
#define TICK_USEC 1000000u
#define TICK_ACCURACY_USEC 1000u /* unless told, a timer may come a quarter of a second late */
#define END_MS 600 /* after which a session that does not end is broken, unless keyd says another time */

uint64_t control_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec;
}

struct entry *control_entry_find(struct control *c, json_int_t number)
{
	for (struct entry *e = c->entries; e; e = e->next) {
		if (e->session->number == (uint64_t)number)
			return e;
	}
	return NULL;
}

int control_bad_parameters(struct varlink_call *call, const json_error_t *e)
{
	return varlink_errorf(call, "InvalidParameter", NULL, "%s", e->text);
}

int control_no_session(struct varlink_call *call)
{
	return varlink_error(call, "NoSuchSession", "this worker has no such session", NULL);
}

/* ---- ends ---- */

void control_tell_end(struct varlink_call *watch, uint64_t number, const char *reason)
{
	if (watch)
		varlink_reply_more(watch, json_pack("{s:s,s:I,s:s}", "event", "session-ended", "session",
						  (json_int_t)number, "reason", reason));
}

void control_ended(struct ending *end)
{
	if (!end || --end->left > 0)
		return;
	varlink_reply(end->call, NULL);
	free(end);
}

static void tell(struct varlink_call *watch, const struct session *s)
{
	control_tell_end(watch, s->number, s->end_reason);
}

static void entry_free(struct control *c, struct entry *e)
{
	for (struct entry **p = &c->entries; *p; p = &(*p)->next) {
		if (*p == e) {
			*p = e->next;
			break;
		}
	}
	control_partings_done(e);
	sd_event_source_disable_unref(e->late);
	session_free(e->session);
	sodium_memzero(e->token, sizeof(e->token));
	free(e);
}

/* A page is locked by a request that somebody took and does not answer: see keyd/fusectl.h. */
static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct entry *e = userdata;
	struct session *s = e->session;

	if (atomic_load(&s->state) >= SESSION_UNREADABLE || s->breaker_fd < 0)
		return 0;
	log_warning("session %" PRIu64 " does not end: its connection is broken", s->number);
	if (write(s->breaker_fd, "1", 1) < 0)
		log_error("session %" PRIu64 ": its connection cannot be broken: %s", s->number, strerror(errno));
	return 0;
}

static void entry_end(struct control *c, struct entry *e, int error, const char *reason, int late_ms)
{
	session_end(e->session, error, reason);
	if (atomic_load(&e->session->state) != SESSION_EXPECTED) {
		if (!e->late)
			(void)sd_event_add_time_relative(
				c->event, &e->late, CLOCK_MONOTONIC, (uint64_t)late_ms * 1000, 10000, on_late, e);
		return; /* its keeper goes on from here */
	}
	control_ended(e->end);
	tell(c->watch_keyd, e->session);
	tell(c->watch_fsd, e->session);
	entry_free(c, e);
}

/* Answers who waits for a session's next step; buries the dead. */
static void entry_look(struct control *c, struct entry *e)
{
	struct session *s = e->session;
	int state = atomic_load(&s->state);
	json_t *news;

	if (s->members && state == SESSION_SERVING)
		control_members_look(c, e);
	if (c->watch_keyd && (news = waits_news(s)))
		varlink_reply_more(c->watch_keyd, news);
	if (e->attach && atomic_load(&s->inited)) {
		varlink_reply(e->attach, NULL);
		e->attach = NULL;
	}
	if (state >= SESSION_UNREADABLE)
		control_ended(take_ptr(&e->end));
	if (state != SESSION_DEAD)
		return;
	if (e->attach)
		varlink_error(e->attach, "NotServed", "the mount ended before its first request", NULL);
	log_info("session %" PRIu64 " ended: %s", s->number, s->end_reason);
	tell(c->watch_keyd, s);
	tell(c->watch_fsd, s);
	entry_free(c, e);
}

static void exit_when_done(struct control *c)
{
	if (!c->exiting || c->entries)
		return;
	survey_job_stop(take_ptr(&c->survey)); /* what makes something: the answer tells what was used */
	restore_job_free(take_ptr(&c->restore));
	fsck_stop(take_ptr(&c->fsck));
	if (c->exit)
		varlink_reply(c->exit, control_numbers_last(c));
	c->exit = NULL;
	sd_event_exit(c->event, 0);
}

static int on_session_event(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct control *c = userdata;
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		return -errno;
	for (struct entry *e = c->entries, *next; e; e = next) {
		next = e->next;
		entry_look(c, e);
	}
	exit_when_done(c);
	return 0;
}

static void end_all(struct control *c, int error, const char *reason)
{
	c->exiting = true;
	for (struct entry *e = c->entries, *next; e; e = next) {
		next = e->next;
		entry_end(c, e, error, reason, END_MS);
	}
	exit_when_done(c);
}

static void on_keyd_gone(void *userdata)
{
	struct control *c = userdata;

	c->watch_keyd = NULL;
	end_all(c, EKEYREVOKED, "coffer-keyd is gone");
}

static void on_fsd_gone(void *userdata)
{
	struct control *c = userdata;

	c->watch_fsd = NULL;
	end_all(c, EKEYREVOKED, "coffer-fsd is gone");
}

/* The time of a permission ends at the second that it names, not somewhere in the one after it.  By the clock on the wall: a
 * change of that is seen after TICK_USEC at most. */
static uint64_t until_tick(const struct timespec *now, int64_t end)
{
	int64_t left;

	if (end - now->tv_sec > 1)
		return TICK_USEC;
	left = (end - now->tv_sec) * 1000000 - now->tv_nsec / 1000 + 1;
	return left < (int64_t)TICK_USEC ? (uint64_t)left : TICK_USEC;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct control *c = userdata;
	struct timespec precise; /* time() may still be in the second before */
	int64_t now, first = INT64_MAX;

	clock_gettime(CLOCK_REALTIME, &precise);
	now = precise.tv_sec;
	if (!c->exiting && control_seconds() - c->last_ping > LEASE_SECONDS) {
		log_error("no sign of life from coffer-keyd for %d seconds: all sessions end", LEASE_SECONDS);
		end_all(c, EKEYREVOKED, "coffer-keyd is silent");
	}
	for (struct entry *e = c->entries, *next; e; e = next) {
		next = e->next;
		if (e->until > now && e->until < first)
			first = e->until;
		if (e->until && now >= e->until)
			entry_end(c, e, EKEYEXPIRED, "expired", END_MS);
		else if (session_is_idle(e->session))
			entry_end(c, e, EKEYEXPIRED, "not used", END_MS);
		else if (e->session->members)
			members_tick(e->session->members, now, &first);
	}
	sd_event_source_set_time_relative(source, until_tick(&precise, first));
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/* ---- from keyd ---- */

static int tree_take(struct control *c, int fd)
{
	void *bytes = NULL;
	size_t n;
	int r = secret_fd_take(fd, KEYTREE_BYTES_MAX, &bytes, &n);

	if (r == 0)
		r = keytree_parse(bytes, n, &c->tree);
	secret_free(bytes);
	return r;
}

/* Before the sandbox closes; fd (-1: there is none) stays the caller's. */
static int open_copy(struct control *c, int fd, const struct store_options *opt)
{
	struct store_options copy = *opt; /* of which nothing is made */
	int root = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0), r;

	if (fd < 0)
		return 0;
	copy.read_only = true;
	r = root < 0 ? -errno : store_open(root, c->tree, &copy, &c->copy);
	if (r < 0)
		close_fdp(&root);
	return r;
}

static int open_client(struct control *c, int tree_fd, int copy_fd, const struct store_options *opt,
	struct sandbox_report *ret)
{
	struct store *s = NULL;
	int r = tree_fd < 0 ? tree_fd : tree_take(c, tree_fd);
	int root = -1;

	if (r == 0) {
		root = fcntl(
			c->fds.store, F_DUPFD_CLOEXEC, 0); /* the store's own; ours is for Landlock's rule */
		r = root < 0 ? -errno : store_open(root, c->tree, opt, &s);
	}
	if (r == 0)
		r = worker_use_store(&c->worker, s);
	if (r == 0)
		r = open_copy(c, copy_fd, opt);
	if (r == 0)
		r = sandbox_enter(c->fds.store, c->fds.proc, copy_fd, ret);
	return r;
}

static int method_open(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	struct store_options opt = {0};
	struct sandbox_report box;
	scoped(close_fdp) int tree_fd = -1, copy_fd = -1;
	json_int_t first, end;
	const char *client;
	json_error_t e;
	int class, suite, today, r;

	if (c->open || c->survey)
		return varlink_error(call, "AlreadyOpen", "this worker has its client", NULL);
	if (json_unpack_ex(params, &e, 0, "{s:s,s:i,s:i,s:i,s:{s:I,s:I}}", "client_id", &client, "class", &class,
		    "suite", &suite, "today", &today, "numbers", "first", &first, "end", &end) < 0)
		return control_bad_parameters(call, &e);
	opt = (struct store_options){
		.suite = (uint8_t)suite, .class = (uint16_t) class, .today = (uint16_t)today,
		.first_number = (uint64_t)first, .end_number = (uint64_t)end};
	tree_fd = varlink_call_take_fd(call, 0);
	copy_fd = varlink_call_take_fd(call, 1);
	r = open_client(c, tree_fd, copy_fd, &opt, &box);
	if (r < 0) {
		log_error("the store cannot be opened: %s", strerror(-r));
		c->exiting = true;
		sd_event_exit(c->event, r);
		return varlink_errorf(call, "OpenFailed", NULL, "the store of the client: %s", strerror(-r));
	}
	c->open = true;
	if (!box.landlock)
		log_warning(
			"this kernel has no Landlock (2 or later): file access is limited by ownership only");
	return varlink_reply(call, json_pack("{s:{s:b,s:b,s:b}}", "sandbox", "landlock", box.landlock > 0,
					   "seccomp", box.seccomp, "memory_locked", c->memory_locked));
}

/* keyd has asked this already; it is what keeps data whole, so here, too. */
static bool may_stand_beside(const struct control *c, bool exclusive)
{
	for (const struct entry *e = c->entries; e; e = e->next)
		if ((exclusive || e->session->exclusive) && atomic_load(&e->session->state) < SESSION_UNREADABLE)
			return false;
	return true;
}

static int method_expect(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	const char *token, *rights;
	json_int_t number, uid, gid, until, idle = 0;
	json_t *classes = NULL, *uncached = NULL;
	const struct class_set *set;
	int shared = 0, exclusive = 0, late = 0, sync = 0;
	struct session_terms terms;
	struct entry *entry;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:I,s:s,s:I,s:I,s:s,s:I,s?b,s?b,s:o,s?o,s?I,s?b,s?b}", "session", &number, "token",
		    &token, "uid", &uid, "gid", &gid, "rights", &rights, "until", &until, "shared", &shared,
		    "exclusive", &exclusive, "classes",
		    &classes, "uncached", &uncached, "idle", &idle, "late", &late, "sync", &sync) < 0)
		return control_bad_parameters(call, &e);
	r = class_set_get(&c->worker.class_sets, classes, uncached, &set);
	if (r < 0)
		return r;
	if (!c->open || c->exiting)
		return varlink_error(call, "NotOpen", "this worker has no client, or ends", NULL);
	if (!may_stand_beside(c, exclusive))
		return varlink_error(call, "NotAlone", "an exclusive session is not beside others", NULL);
	if (control_entry_find(c, number) || !token[0] || strlen(token) >= TOKEN_MAX)
		return varlink_error(call, "InvalidParameter",
			"session is there already, or a token that cannot be", NULL);
	terms = (struct session_terms){.number = (uint64_t)number,
		.uid = (uid_t)uid,
		.gid = (gid_t)gid,
		.read_only = strcmp(rights, "rw") != 0,
		.shared = shared,
		.exclusive = exclusive,
		.classes = set,
		.late = late,
		.sync = sync};
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	r = session_new(&c->worker, &terms, &entry->session);
	if (r < 0) {
		free(entry);
		return r;
	}
	memcpy(entry->token, token, strlen(token) + 1);
	entry->until = until;
	entry->session->idle = shared ? 0 : (uint64_t)idle;
	entry->next = c->entries;
	c->entries = entry;
	return varlink_reply(call, NULL);
}

static void end_one(struct control *c, struct ending *end, uint64_t number, const char *reason, int error, int late_ms)
{
	struct entry *e = control_entry_find(c, (json_int_t)number);

	if (!e) {
		control_member_end(c, end, number, reason, error);
		return;
	}
	if (e->end) { /* the call names it twice */
		control_ended(end);
		return;
	}
	e->end = end;
	entry_end(c, e, error, reason, late_ms);
	/* It may have become unreadable by itself a moment ago. */
	e = control_entry_find(c, (json_int_t)number);
	if (e)
		entry_look(c, e);
}

static int method_end(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	int error, late_ms = END_MS;
	json_t *numbers, *number;
	struct ending *end;
	const char *reason;
	struct entry *entry;
	json_error_t e;
	size_t k;

	if (json_unpack_ex(params, &e, 0, "{s:o,s:s,s:i,s?i}", "sessions", &numbers, "reason", &reason, "errno", &error, "late_ms",
		    &late_ms) < 0)
		return control_bad_parameters(call, &e);
	json_array_foreach(numbers, k, number)
	{
		entry = control_entry_find(c, json_integer_value(number));
		if (entry && entry->end)
			return varlink_error(call, "Busy", "this session is ending", NULL);
	}
	end = calloc(1, sizeof(*end));
	if (!end)
		return -ENOMEM;
	*end = (struct ending){.call = call, .left = (unsigned)json_array_size(numbers) + 1};
	json_array_foreach(numbers, k, number)
		end_one(c, end, (uint64_t)json_integer_value(number), reason, error > 0 ? error : EKEYREVOKED, late_ms);
	control_ended(end);
	return 0;
}

static int method_breaker(struct varlink_call *call, json_t *params, void *userdata)
{
	struct entry *entry;
	json_int_t number;
	json_error_t e;
	int fd;

	if (json_unpack_ex(params, &e, 0, "{s:I}", "session", &number) < 0)
		return control_bad_parameters(call, &e);
	fd = varlink_call_take_fd(call, 0);
	if (fd < 0)
		return varlink_error(call, "InvalidParameter", "no descriptor came", NULL);
	entry = control_entry_find(userdata, number);
	if (!entry || entry->session->breaker_fd >= 0)
		close(fd); /* it has ended meanwhile */
	else
		entry->session->breaker_fd = fd;
	return varlink_reply(call, NULL);
}

static int method_watch(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	struct varlink_call **watch =
		varlink_call_peer(call)->roles & ROLE_KEYD ? &c->watch_keyd : &c->watch_fsd;

	if (!varlink_call_wants_more(call) || *watch)
		return varlink_error(call, "InvalidParameter", "one Watch, with \"more\"", NULL);
	*watch = call;
	return 0;
}

static int method_exit(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;

	c->exit = call;
	end_all(c, EKEYREVOKED, "shut down");
	return 0;
}

/* ---- from fsd ---- */

static int journal_use(struct control *c, int journal_fd, int kick_fd)
{
	struct journal_writer *journal;
	int r;

	if (journal_fd < 0 || kick_fd < 0)
		return -EBADF;
	r = journal_writer_open(journal_fd, kick_fd, &journal);
	if (r < 0)
		return r;
	r = recorder_new(journal, c->worker.store, c->fds.proc, &c->worker.recorder);
	if (r < 0)
		journal_writer_close(journal);
	return r;
}

/* The writer keeps neither descriptor, but uses kick_fd as long as it lives: so they stay open. */
static int method_journal(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	int r;

	if (!c->open || c->worker.recorder)
		return varlink_error(call, "NotOpen", "no client yet, or a journal already", NULL);
	r = journal_use(c, varlink_call_take_fd(call, 0), varlink_call_take_fd(call, 1));
	if (r < 0)
		return varlink_errorf(call, "InvalidParameter", NULL, "the journal: %s", strerror(-r));
	return varlink_reply(call, NULL);
}

/* A token is good once, whatever comes of it. */
static bool token_take(struct entry *e, const char *token)
{
	char given[TOKEN_MAX] = "";
	bool same = false;

	if (e->token[0] && strlen(token) < TOKEN_MAX) {
		memcpy(given, token, strlen(token));
		same = sodium_memcmp(given, e->token, TOKEN_MAX) == 0;
	}
	sodium_memzero(e->token, sizeof(e->token));
	sodium_memzero(given, sizeof(given));
	return same;
}

static int method_attach(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	scoped(close_fdp) int fuse_fd = -1, table_fd = -1;
	json_int_t number;
	const char *token;
	struct entry *entry;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:I,s:s}", "session", &number, "token", &token) < 0)
		return control_bad_parameters(call, &e);
	fuse_fd = varlink_call_take_fd(call, 0);
	table_fd = varlink_call_take_fd(call, 1);
	entry = control_entry_find(c, number);
	if (!entry || atomic_load(&entry->session->state) != SESSION_EXPECTED)
		return control_no_session(call);
	if (!token_take(entry, token))
		return varlink_error(call, "WrongToken", "that is not the token of this session", NULL);
	if (!c->worker.recorder || fuse_fd < 0 || table_fd < 0)
		return varlink_error(
			call, "InvalidParameter", "a journal, a mount and a table are needed first", NULL);
	r = session_attach(entry->session, take_fd(&fuse_fd), table_fd);
	if (r < 0)
		return varlink_errorf(
			call, "NotServed", NULL, "the mount cannot be served: %s", strerror(-r));
	entry->attach = call;
	entry_look(c, entry);
	return 0;
}

static const struct varlink_method methods[] = {
	{"org.coffer.worker.Open", ROLE_KEYD, 0, method_open},
	{"org.coffer.worker.Expect", ROLE_KEYD, 0, method_expect},
	{"org.coffer.worker.End", ROLE_KEYD, 0, method_end},
	{"org.coffer.worker.MemberDecided", ROLE_KEYD, 0, control_member_decided},
	{"org.coffer.worker.AccessList", ROLE_KEYD, 0, control_access_list},
	{"org.coffer.worker.Breaker", ROLE_KEYD, 0, method_breaker},
	{"org.coffer.worker.Today", ROLE_KEYD, 0, control_today},
	{"org.coffer.worker.Ping", ROLE_KEYD, 0, control_ping},
	{"org.coffer.worker.Numbers", ROLE_KEYD, 0, control_numbers},
	{"org.coffer.worker.Exit", ROLE_KEYD, 0, method_exit},
	{"org.coffer.worker.Fsck", ROLE_KEYD, 0, control_fsck},
	{"org.coffer.worker.FsckNext", ROLE_KEYD, 0, control_fsck_next},
	{"org.coffer.worker.FsckStop", ROLE_KEYD, 0, control_fsck_stop},
	{"org.coffer.worker.Survey", ROLE_KEYD, 0, control_survey},
	{"org.coffer.worker.SweepDead", ROLE_KEYD, 0, control_sweep_dead},
	{"org.coffer.worker.Forget", ROLE_KEYD, 0, control_forget},
	{"org.coffer.worker.Retain", ROLE_KEYD, 0, control_retain},
	{"org.coffer.worker.SurveyNext", ROLE_KEYD, 0, control_survey_next},
	{"org.coffer.worker.SurveyStop", ROLE_KEYD, 0, control_survey_stop},
	{"org.coffer.worker.Restore", ROLE_KEYD, 0, control_restore},
	{"org.coffer.worker.RestoreNext", ROLE_KEYD, 0, control_restore_next},
	{"org.coffer.worker.Journal", ROLE_FSD, 0, method_journal},
	{"org.coffer.worker.Attach", ROLE_FSD, 0, method_attach},
	{"org.coffer.worker.Watch", ROLE_KEYD | ROLE_FSD, 0, method_watch},
	{NULL, 0, 0, NULL},
};

static int control_begin(struct control *c)
{
	uint64_t now;
	int r = sd_event_default(&c->event);

	if (r >= 0)
		r = sd_event_now(c->event, CLOCK_MONOTONIC, &now);
	if (r >= 0)
		r = sd_event_add_io(c->event, NULL, c->worker.event_fd, EPOLLIN, on_session_event, c);
	if (r >= 0)
		r = sd_event_add_time(c->event, NULL, CLOCK_MONOTONIC, now + TICK_USEC, TICK_ACCURACY_USEC, on_tick, c);
	if (r >= 0)
		r = varlink_server_new(c->event, methods, (uid_t)-1, c, &c->server);
	if (r >= 0)
		r = varlink_server_add_connection(c->server, c->fds.keyd, ROLE_KEYD, on_keyd_gone, c);
	if (r >= 0)
		r = varlink_server_add_connection(c->server, c->fds.fsd, ROLE_FSD, on_fsd_gone, c);
	return r;
}

int control_run(const struct control_fds *fds, bool memory_locked)
{
	struct control c = {.fds = *fds, .memory_locked = memory_locked, .last_ping = control_seconds()};
	int r = worker_init(&c.worker);

	c.worker.proc_fd = fds->proc;
	if (r == 0)
		r = control_begin(&c);
	if (r >= 0)
		r = sd_event_loop(c.event);
	fsck_stop(c.fsck);
	survey_job_stop(c.survey);
	restore_job_free(c.restore);
	store_close(c.copy);
	varlink_server_free(c.server);
	worker_done(&c.worker);
	keytree_free(c.tree);
	sd_event_unref(c.event);
	return r;
}
