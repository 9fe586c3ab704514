/* Sessions and workers: who has which mount, and what happens when one of them goes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "common/ids.h"
#include "common/log.h"
#include "common/scope.h"
#include "fs/broker/broker.h"
#include "fs/broker/connection.h"
#include "fs/broker/invalidate.h"

#define FUSE_MAJOR 10
#define FUSE_MINOR 229
#define TABLE_BYTES (SESSION_TABLE_ENTRIES * sizeof(uint64_t))
#define WORKER_TIMEOUT_MS 5000
#define STOP_WAIT_US 2000000u
#define MOUNTPOINT_MAX 4096u

enum session_state { SESSION_EXPECTED, SESSION_ATTACHED, SESSION_ENDING };

struct worker {
	struct worker *next;
	struct broker *broker;
	struct varlink_client *calls;
	struct drain_journal *journal;
	int journal_fd; /* until the worker has it */
	char *client, client_id[CLIENT_ID_HEX];
	pid_t pid;
};

struct session {
	struct session *next;
	struct broker *broker;
	struct worker *worker; /* NULL unless attached */
	enum session_state state;
	uint64_t number, member_of; /* 0, or the shared session whose mount it uses */
	char client_id[CLIENT_ID_HEX], *client, *user, *purpose, *ticket, *mountpoint, *reason;
	uid_t uid;
	sd_event_source *expiry;
	int breaker_fd; /* writing to it ends the connection; -1: none */
	int fuse_fd, keeper_fd; /* an own clone, never read; the user's keeper waits at the other end */
	const uint64_t *table;  /* open node ids, written by the worker */
};

/* ---- acts and news ---- */

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Steals detail. */
static void note_session(struct session *s, const char *kind, const char *outcome, json_t *detail)
{
	scoped(freep) char *text = detail ? json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_t *word = outcome ? json_string(outcome) : NULL;
	const struct ledger_act act = {
		.time_ns = now_ns(),
		.kind = kind,
		.outcome = word,
		.user = s->user,
		.uid = s->uid,
		.client = s->client,
		.purpose = s->purpose,
		.ticket = s->ticket,
		.session = s->number,
		.detail = text,
	};

	if (drain_note(s->broker->drain, &act) < 0)
		log_error("session %llu of %s: its %s could not be noted", (unsigned long long)s->number,
			s->user, kind);
	json_decref(word);
	json_decref(detail);
}

/* Steals news. */
static void tell_keyd(struct broker *b, json_t *news)
{
	if (b->watch)
		varlink_reply_more(b->watch, news);
	else
		json_decref(news);
}

/* ---- the end of a session ---- */

static void session_free(struct session *s)
{
	struct session **at = &s->broker->sessions;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at)
		*at = s->next;
	sd_event_source_disable_unref(s->expiry);
	close_fdp(&s->fuse_fd);
	close_fdp(&s->keeper_fd);
	close_fdp(&s->breaker_fd);
	if (s->table)
		munmap((void *)s->table, TABLE_BYTES);
	free(s->client);
	free(s->user);
	free(s->purpose);
	free(s->ticket);
	free(s->mountpoint);
	free(s->reason);
	free(s);
}
DEFINE_SCOPED(struct session *, session_free)

static void exit_when_all_ended(struct broker *b)
{
	if (!b->stopping || b->sessions || b->workers)
		return;
	drain_run(b->drain);
	if (b->shutdown)
		varlink_reply(take_ptr(&b->shutdown), NULL);
	sd_event_exit(b->event, drain_failing(b->drain) ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* The record of the end is on disk (if the disk lets us) before keyd and the user's keeper hear of it. */
static void session_finish(struct session *s)
{
	struct broker *b = s->broker;
	const char *reason = s->reason ? s->reason : "ended";

	note_session(s, "session-end", NULL, json_pack("{s:s}", "reason", reason));
	drain_run(b->drain);
	close_fdp(&s->keeper_fd); /* first: who hears of the end from keyd may mount there again */
	tell_keyd(b, json_pack("{s:s,s:I,s:s}", "event", "session-ended", "session", (json_int_t)s->number,
			     "reason", reason));
	log_info("session %llu of %s for %s ended: %s", (unsigned long long)s->number, s->user, s->client,
		reason);
	session_free(s);
	exit_when_all_ended(b);
}

static void on_invalidated(void *userdata)
{
	session_finish(userdata);
}

/* A shared mount takes its members with it. */
static void members_finish(struct broker *b, uint64_t number, const char *reason)
{
	for (struct session *s = b->sessions, *next; s; s = next) {
		next = s->next;
		if (s->member_of != number)
			continue;
		s->state = SESSION_ENDING;
		s->reason = strdup(reason);
		session_finish(s); /* ends no other one */
	}
}

/* Without its worker: the kernel's caches must be emptied here. */
static void session_abandon(struct session *s, const char *reason)
{
	int r;

	if (s->state == SESSION_ENDING)
		return;
	s->reason = strdup(reason);
	if (s->state == SESSION_EXPECTED) {
		session_finish(s);
		return;
	}
	s->state = SESSION_ENDING;
	s->worker = NULL;
	members_finish(s->broker, s->number, reason);
	/* Nobody will answer what was read and not answered: its pages would stay locked, and we would wait for them. */
	if (s->breaker_fd >= 0 && write(s->breaker_fd, "1", 1) < 0)
		log_warning("session %llu: its connection cannot be ended: %s", (unsigned long long)s->number,
			strerror(errno));
	r = invalidate_start(s->broker->event, take_fd(&s->fuse_fd), take_fd(&s->keeper_fd), s->table,
		SESSION_TABLE_ENTRIES, on_invalidated, s);
	if (r < 0) {
		log_error("session %llu: cached pages cannot be invalidated: %s",
			(unsigned long long)s->number, strerror(-r));
		session_finish(s);
	}
}

static struct session *session_find(struct broker *b, uint64_t number)
{
	for (struct session *s = b->sessions; s; s = s->next)
		if (s->number == number)
			return s;
	return NULL;
}

unsigned sessions_count(const struct broker *b)
{
	unsigned n = 0;

	for (const struct session *s = b->sessions; s; s = s->next)
		n += s->state == SESSION_ATTACHED && !s->member_of;
	return n;
}

/* ---- workers ---- */

static void worker_free(struct worker *w)
{
	struct worker **at = &w->broker->workers;

	while (*at && *at != w)
		at = &(*at)->next;
	if (*at)
		*at = w->next;
	varlink_client_free(w->calls);
	close_fdp(&w->journal_fd);
	free(w->client);
	free(w);
}

static void on_worker_gone(void *userdata)
{
	struct worker *w = userdata;
	struct broker *b = w->broker;

	log_info("worker %d of %s ended", (int)w->pid, w->client);
	for (struct session *s = b->sessions, *next; s; s = next) {
		next = s->next;
		if (s->worker != w || s->state != SESSION_ATTACHED || s->member_of)
			continue;
		session_abandon(s, "worker died");
		next = b->sessions; /* its members went, too */
	}
	close_fdp(&w->journal_fd); /* it was never given: nobody writes there */
	if (w->journal)
		drain_retire_journal(b->drain, w->journal);
	worker_free(w);
	exit_when_all_ended(b);
}

static void on_worker_news(json_t *params, void *userdata)
{
	struct worker *w = userdata;
	const char *event = NULL, *reason = NULL;
	json_int_t number = 0;
	struct session *s;

	if (json_unpack(params, "{s:s,s:I,s?s}", "event", &event, "session", &number, "reason", &reason) <
			0 ||
		strcmp(event, "session-ended") != 0)
		return;
	s = session_find(w->broker, (uint64_t)number);
	if (!s || s->worker != w || s->state != SESSION_ATTACHED)
		return; /* a worker ends its own sessions only */
	s->state = SESSION_ENDING;
	s->reason = strdup(reason ? reason : "ended");
	if (!s->member_of)
		members_finish(s->broker, s->number, s->reason ? s->reason : "ended");
	session_finish(s);
}

/* Its sessions end when the socket is seen to be closed. */
static void on_worker_damage(void *userdata)
{
	struct worker *w = userdata;

	log_error("worker %d of %s wrote a journal that is not right: it is cut off", (int)w->pid, w->client);
	shutdown(varlink_client_fd(w->calls), SHUT_RDWR);
}

int worker_started(struct broker *b, const char *client, const char *client_id, pid_t pid, int fd)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w) {
		close(fd);
		return -ENOMEM;
	}
	w->broker = b;
	w->journal_fd = -1;
	w->pid = pid;
	snprintf(w->client_id, sizeof(w->client_id), "%s", client_id);
	w->client = strdup(client);
	r = varlink_client_new_fd(fd, &w->calls);
	if (r == 0)
		r = drain_add_journal(
			b->drain, client_id, pid, on_worker_damage, w, &w->journal, &w->journal_fd);
	if (r == 0)
		r = varlink_watch(w->calls, b->event, "org.coffer.worker.Watch", NULL, on_worker_news,
			on_worker_gone, w);
	if (r < 0) {
		close_fdp(&w->journal_fd);
		if (w->journal)
			drain_retire_journal(b->drain, w->journal);
		worker_free(w);
		return r;
	}
	w->next = b->workers;
	b->workers = w;
	return 0;
}

static struct worker *worker_find(struct broker *b, const char *client_id)
{
	for (struct worker *w = b->workers; w; w = w->next)
		if (strcmp(w->client_id, client_id) == 0)
			return w;
	return NULL;
}

static int worker_call(
	struct worker *w, const char *method, json_t *params, const int fds[2], struct refusal *why)
{
	struct varlink_failure failure = {0};
	int r;

	r = varlink_call(w->calls, method, params, fds, 2, WORKER_TIMEOUT_MS, NULL, NULL, &failure);
	if (r == -EREMOTEIO)
		snprintf(why->message, sizeof(why->message), "the worker of %s refused: %.300s", w->client,
			failure.message);
	else if (r < 0)
		snprintf(why->message, sizeof(why->message), "the worker of %s does not answer: %s",
			w->client, strerror(-r));
	return r;
}

/* Once, before the first session: by then keyd has told it everything else. */
static int worker_give_journal(struct worker *w, struct refusal *why)
{
	const int fds[2] = {w->journal_fd, drain_kick_fd(w->broker->drain)};
	int r;

	if (w->journal_fd < 0)
		return 0;
	r = worker_call(w, "org.coffer.worker.Journal", NULL, fds, why);
	if (r == 0)
		close_fdp(&w->journal_fd);
	return r;
}

/* ---- a session begins ---- */

static int on_never_attached(sd_event_source *source, uint64_t usec, void *userdata)
{
	session_abandon(userdata, "never attached");
	return 0;
}

static int expect_in_ledger(struct broker *b, const struct session_expected *e)
{
	const struct ledger_session row = {
		.number = e->number,
		.client_id = e->client_id,
		.client = e->client,
		.user = e->user,
		.purpose = e->purpose,
		.ticket = e->ticket,
		.rights = e->rights,
		.uid = e->uid,
		.begun_ns = now_ns(),
	};
	int r = ledger_begin(b->ledger);

	if (r == 0)
		r = ledger_add_session(b->ledger, &row);
	if (r == 0)
		r = ledger_commit(b->ledger);
	if (r < 0)
		ledger_rollback(b->ledger);
	return r;
}

/* A member has no mount to wait for: the worker serves him as soon as keyd tells it so. */
static int join_shared(struct session *s, const struct session *mount)
{
	s->member_of = mount->number;
	s->worker = mount->worker;
	s->state = SESSION_ATTACHED;
	s->mountpoint = strdup(mount->mountpoint);
	return s->mountpoint ? 0 : -ENOMEM;
}

int session_expect(struct broker *b, const struct session_expected *e)
{
	scoped(session_freep) struct session *s = NULL;
	const struct session *mount = e->member_of ? session_find(b, e->member_of) : NULL;
	int r;

	if (session_find(b, e->number))
		return -EEXIST;
	if (e->member_of && (!mount || mount->state != SESSION_ATTACHED || mount->member_of))
		return -ESRCH;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->broker = b;
	s->fuse_fd = s->keeper_fd = s->breaker_fd = -1;
	s->number = e->number;
	s->uid = e->uid;
	snprintf(s->client_id, sizeof(s->client_id), "%s", e->client_id);
	s->client = strdup(e->client);
	s->user = strdup(e->user);
	s->purpose = strdup(e->purpose);
	s->ticket = e->ticket ? strdup(e->ticket) : NULL;
	if (!s->client || !s->user || !s->purpose)
		return -ENOMEM;
	if (mount)
		r = join_shared(s, mount);
	else
		r = sd_event_add_time_relative(b->event, &s->expiry, CLOCK_MONOTONIC,
			SESSION_ATTACH_SECONDS * 1000000ull, 0, on_never_attached, s);
	if (r >= 0)
		r = expect_in_ledger(b, e);
	if (r < 0)
		return r;
	if (mount)
		note_session(s, "session-begin", NULL,
			json_pack(
				"{s:s,s:I}", "mountpoint", s->mountpoint, "mount", (json_int_t)s->member_of));
	s->next = b->sessions;
	b->sessions = take_ptr(&s);
	return 0;
}

static int refuse(struct refusal *why, const char *error, const char *remedy, const char *message)
{
	snprintf(why->error, sizeof(why->error), "%s", error);
	snprintf(why->remedy, sizeof(why->remedy), "%s", remedy);
	snprintf(why->message, sizeof(why->message), "%s", message);
	return -EACCES;
}

/* Is it a mount's descriptor?  FUSE_DEV_IOC_CLONE is the kernel's own answer: it refuses what is not
 * connected. */
static int clone_fuse(int user_fd, int *ret)
{
	scoped(close_fdp) int fd = -1;
	uint32_t from = (uint32_t)user_fd;
	struct stat st;
	int flags;

	if (fstat(user_fd, &st) < 0)
		return -errno;
	flags = fcntl(user_fd, F_GETFL);
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(FUSE_MAJOR, FUSE_MINOR) || flags < 0 ||
		flags & O_PATH)
		return -EINVAL;
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, FUSE_DEV_IOC_CLONE, &from) < 0)
		return -errno;
	*ret = take_fd(&fd);
	return 0;
}

/* Two clones: one the worker serves, one is kept here.  What the worker has read and not answered when it
 * dies is ended by the kernel when the worker's clone closes: a mere duplicate would keep it open, and its
 * callers hanging. */
static int clone_twice(int user_fd, int *ret_worker, int *ret_own, struct refusal *why)
{
	scoped(close_fdp) int worker = -1;
	int r;

	r = clone_fuse(user_fd, &worker);
	if (r == 0)
		r = clone_fuse(user_fd, ret_own);
	if (r == 0) {
		*ret_worker = take_fd(&worker);
		return 0;
	}
	if (r == -EINVAL || r == -EPERM || r == -EBADF)
		return refuse(why, "NotFuse", "mount with `coffer mount`",
			"the descriptor that was handed over is not that of a mounted FUSE file system");
	log_error("/dev/fuse: %s", strerror(-r));
	return refuse(
		why, "NoFuse", "check that coffer-fsd may open /dev/fuse", "/dev/fuse cannot be opened here");
}

static int table_new(int *ret_fd, const uint64_t **ret_map)
{
	scoped(close_fdp) int fd = memfd_create("coffer-nodes", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map;

	if (fd < 0 || ftruncate(fd, TABLE_BYTES) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	map = mmap(NULL, TABLE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret_map = map;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int serve(
	struct session *s, struct worker *w, const char *token, int worker_clone, struct refusal *why)
{
	scoped(close_fdp) int table_fd = -1;
	int r;

	r = table_new(&table_fd, &s->table);
	if (r < 0)
		return r;
	r = worker_give_journal(w, why);
	if (r < 0)
		return r;
	return worker_call(w, "org.coffer.worker.Attach",
		json_pack("{s:I,s:s}", "session", (json_int_t)s->number, "token", token),
		(const int[2]){worker_clone, table_fd}, why);
}

static int attach_to_worker(struct session *s, const char *token, int worker_clone, struct refusal *why)
{
	struct worker *w = worker_find(s->broker, s->client_id);
	int r;

	refuse(why, "WorkerFailed", "mount again; when it persists, see worker.log",
		"the session could not be prepared");
	if (!w)
		return refuse(why, "WorkerFailed", "mount again", "the worker of this client has ended");
	s->worker = w;
	note_session(s, "session-begin", NULL, json_pack("{s:s}", "mountpoint", s->mountpoint));
	r = drain_run(s->broker->drain);
	if (r < 0)
		return refuse(why, "LedgerUnavailable", "make room on the disk that holds the ledger",
			"the ledger cannot be written, and nothing is opened that cannot be recorded");
	r = serve(s, w, token, worker_clone, why);
	return r < 0 ? -EACCES : 0;
}

int session_breaker(struct broker *b, uint64_t number, int fd)
{
	struct session *s = session_find(b, number);

	if (!s || s->state != SESSION_ATTACHED) {
		close(fd);
		return -ENOENT;
	}
	close_fdp(&s->breaker_fd);
	s->breaker_fd = fd;
	return 0;
}

bool session_is_expected(const struct broker *b, uid_t uid)
{
	for (const struct session *s = b->sessions; s; s = s->next)
		if (s->state == SESSION_EXPECTED && s->uid == uid)
			return true;
	return false;
}

static int check_attach(
	struct broker *b, const struct peer *peer, uint64_t number, struct session **ret, struct refusal *why)
{
	struct session *s = session_find(b, number);

	if (!s || s->uid != peer->uid || s->state != SESSION_EXPECTED) {
		/* The act is his to read: it must not tell him whose session, of which client, he tried. */
		*ret = s && s->uid == peer->uid ? s : NULL;
		return refuse(why, "NoSession", "mount with `coffer mount`",
			"no session with this number waits for you; a session is taken up once, within a "
			"minute, by its user");
	}
	*ret = s;
	return 0;
}

static void note_refused(struct broker *b, const struct peer *peer, const struct session *s, uint64_t number,
	const struct refusal *why)
{
	json_t *detail = json_pack("{s:s,s:i}", "why", why->message, "pid", (int)peer->pid);
	scoped(freep) char *text = json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS);
	json_t *outcome = json_string("refused");
	const struct ledger_act act = {
		.time_ns = now_ns(),
		.kind = "attach-refused",
		.outcome = outcome,
		.user = peer->user,
		.uid = peer->uid,
		.client = s ? s->client : NULL,
		.purpose = s ? s->purpose : NULL,
		.session = number,
		.detail = text,
	};

	drain_note(b->drain, &act);
	json_decref(outcome);
	json_decref(detail);
	log_warning("attach of %s (uid %u) refused: %s", peer->user, (unsigned)peer->uid, why->message);
}

int session_attach(struct broker *b, const struct peer *peer, uint64_t number, const char *token,
	const char *mountpoint, int fuse_fd_taken, int keeper_fd_taken, struct refusal *why)
{
	scoped(close_fdp) int fuse_fd = fuse_fd_taken, keeper_fd = keeper_fd_taken, clone = -1, own = -1;
	struct session *s = NULL;
	unsigned connection;
	int r;

	r = check_attach(b, peer, number, &s, why);
	if (r == 0 && strlen(mountpoint) > MOUNTPOINT_MAX)
		r = refuse(why, "BadMountpoint", "use a shorter path",
			"the path of the mount point is too long");
	if (r == 0)
		r = clone_twice(fuse_fd, &clone, &own, why);
	close_fdp(&fuse_fd); /* the user's: while a copy lives the connection is not ended */
	if (r < 0) {
		note_refused(b, peer, s, number, why);
		return r;
	}
	s->expiry = sd_event_source_disable_unref(s->expiry);
	s->state = SESSION_ATTACHED;
	s->mountpoint = strdup(mountpoint);
	s->fuse_fd = take_fd(&own);
	s->keeper_fd = take_fd(&keeper_fd);
	r = attach_to_worker(s, token, clone, why);
	close_fdp(&clone);
	if (r < 0) {
		note_refused(b, peer, s, number, why);
		session_abandon(s, "attach failed");
		return r;
	}
	connection = connection_number(s->fuse_fd);
	connection_tune(connection);
	tell_keyd(b, json_pack("{s:s,s:I,s:s,s:I}", "event", "session-attached", "session",
			     (json_int_t)number, "mountpoint", mountpoint, "connection", (json_int_t)connection));
	return 0;
}

/* ---- the end of all ---- */

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct broker *b = userdata;

	/* A worker that is still there hangs: its socket is closed on it, and its mounts are emptied from
	 * here. */
	while (b->workers)
		on_worker_gone(b->workers);
	return 0;
}

void broker_stop(struct broker *b, const char *why)
{
	if (b->stopping)
		return;
	log_info("stopping: %s", why);
	b->stopping = true;
	for (struct session *s = b->sessions, *next; s; s = next) {
		next = s->next;
		if (s->state == SESSION_EXPECTED)
			session_abandon(s, why);
	}
	for (struct worker *w = b->workers; w; w = w->next)
		shutdown(varlink_client_fd(w->calls), SHUT_WR); /* its end of file: it ends its sessions */
	if (sd_event_add_time_relative(
		    b->event, &b->stop_timer, CLOCK_MONOTONIC, STOP_WAIT_US, 0, on_stop_timer, b) < 0)
		on_stop_timer(NULL, 0, b);
	exit_when_all_ended(b);
}
