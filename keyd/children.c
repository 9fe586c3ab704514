#include "keyd/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/date.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/fsck.h"
#include "keyd/restore.h"
#include "keyd/retain.h"
#include "keyd/keyd.h"
#include "keyd/member.h"
#include "keyd/numbers.h"
#include "keyd/session.h"
#include "keyd/survey.h"

#define FSD_OPENED 3 /* seconds after which it has opened its ledger */
#define FSD_RETRY_MAX 30 /* seconds between two starts of an fsd that keeps dying */
#define FSD_STEADY 60    /* ... after this long it counts as well again */
#define PING_EVERY 10
#define WORKER_GRACE 5    /* without a session before it is asked to go */
#define EXIT_WAIT_MS 5000 /* asked to go */
#define SUITE_AES_GCM 1
#define SUITE_XCHACHA 2
#define FSD_NAME "coffer-fsd"
#define WORKER_NAME "coffer-worker"

/* ---- programs ---- */

static int find_program(const char *folder, const char *beside, const char *name, char **ret)
{
	scoped(freep) char *path = NULL;

	if (asprintf(&path, "%s/../%s/%s", folder, beside, name) < 0)
		return -ENOMEM;
	if (access(path, X_OK) < 0) { /* not a build tree */
		free(path);
		path = NULL;
		if (asprintf(&path, "%s/%s", folder, name) < 0)
			return -ENOMEM;
	}
	if (access(path, X_OK) < 0) {
		free(path);
		path = NULL;
		if (asprintf(&path, "%s/%s", COFFER_LIBEXECDIR, name) < 0)
			return -ENOMEM;
	}
	if (access(path, X_OK) < 0)
		log_error("%s is neither beside coffer-keyd nor at %s", name, path);
	*ret = take_ptr(&path); /* asking it to start will say what is missing, and work once it is there */
	return 0;
}

int children_find_programs(struct children *c)
{
	char folder[4096];
	ssize_t n = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	int r;

	if (n < 0)
		return -errno;
	folder[n] = '\0';
	*strrchr(folder, '/') = '\0';
	c->fsd.pidfd = -1;
	r = find_program(folder, "fs/broker", FSD_NAME, &c->fsd_path);
	return r < 0 ? r : find_program(folder, "fs/worker", WORKER_NAME, &c->worker_path);
}

/* ---- coffer-fsd ---- */

bool fsd_is_running(const struct keyd *k)
{
	return k->children.fsd.pid != 0;
}

const char *fsd_state(const struct keyd *k)
{
	return k->children.ledger_damaged ? "ledger damaged" : fsd_is_running(k) ? "running" : "not running";
}

/* What it had said of its sessions is void: the workers end them as they see it gone. */
static void fsd_gone(struct keyd *k)
{
	struct children *c = &k->children;
	unsigned wait;

	child_forget(&c->fsd);
	for (struct worker *w = c->workers; w; w = w->next)
		w->doomed = true;
	if (k->tick - c->fsd_started_at >= FSD_STEADY)
		c->fsd_failures = 0;
	wait = 1u << (c->fsd_failures < 5 ? c->fsd_failures : 5);
	c->fsd_failures++;
	c->fsd_retry_at = k->tick + (wait < FSD_RETRY_MAX ? wait : FSD_RETRY_MAX);
}

static int on_fsd_exit(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct keyd *k = userdata;
	char how[64];

	k->children.ledger_damaged = info->si_code == CLD_EXITED && info->si_status == FSD_EXIT_DAMAGED;
	if (k->children.ledger_damaged)
		log_error(FSD_NAME " %d ended: the ledger is damaged, or somebody wrote into it", (int)info->si_pid);
	else
		log_error(FSD_NAME " %d ended: %s; it is started again", (int)info->si_pid,
			child_how_it_ended(info, how, sizeof(how)));
	fsd_gone(k);
	if (k->children.ledger_damaged)
		k->children.fsd_retry_at = k->tick + FSD_RETRY_MAX; /* it does not mend itself */
	return 0;
}

static void on_fsd_news(json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *event = NULL, *mountpoint = NULL, *reason = NULL;
	json_int_t session = 0, connection = 0;

	if (json_unpack(params, "{s:s, s:I, s?s, s?s, s?I}", "event", &event, "session", &session, "mountpoint",
		    &mountpoint, "reason", &reason, "connection", &connection) < 0)
		return;
	if (strcmp(event, "session-attached") == 0)
		sessions_attached(k, (uint64_t)session, mountpoint,
			connection > 0 && connection <= UINT32_MAX ? (unsigned)connection : 0);
	else if (strcmp(event, "session-ended") == 0) {
		session_gone(k, (uint64_t)session, reason ? reason : "ended");
		k->ends[k->ends_n++ % ARRAY_SIZE(k->ends)] = (uint64_t)session;
		k->head_due = true;
	}
	k->traffic = true;
}

static void on_fsd_closed(void *userdata)
{
	struct keyd *k = userdata;

	if (k->children.fsd.pid != 0 && !k->stopping)
		child_closed(&k->children.fsd);
}

int fsd_start(struct keyd *k)
{
	struct children *c = &k->children;
	char *const argv[] = {(char *)FSD_NAME, (char *)"--dir", k->dir.root, NULL};
	scoped(close_fdp) int ours = -1, theirs = -1;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	ours = pair[0];
	theirs = pair[1];
	r = child_start(
		k, &c->fsd, c->fsd_path, argv, &theirs, 1, "log/fsd.log", take_fd(&ours), on_fsd_exit, k);
	if (r < 0) {
		log_error("%s cannot be started: %s", c->fsd_path, strerror(-r));
		fsd_gone(k);
		return r;
	}
	c->fsd_started_at = k->tick;
	r = varlink_watch(
		c->fsd.client, k->event, "org.coffer.fsd.Watch", NULL, on_fsd_news, on_fsd_closed, k);
	if (r < 0)
		(void)pidfd_send_signal(
			c->fsd.pidfd, SIGKILL, NULL, 0); /* its exit is handled as any other */
	return r;
}

static int fsd_send(struct keyd *k, const char *method, json_t *params, const int *fds, unsigned n, json_t **ret,
	struct varlink_failure *failure)
{
	struct child *fsd = &k->children.fsd;
	int r;

	if (fsd->pid == 0) {
		json_decref(params);
		return -ENOTCONN;
	}
	r = varlink_call(fsd->client, method, params, fds, n, FSD_TIMEOUT_MS, ret, NULL, failure);
	if (r < 0 && r != -EREMOTEIO) {
		log_error("%s: %s; " FSD_NAME " is ended and started again", method, strerror(-r));
		(void)pidfd_send_signal(fsd->pidfd, SIGKILL, NULL, 0);
	}
	return r;
}

int fsd_call(
	struct keyd *k, const char *method, json_t *params, json_t **ret, struct varlink_failure *failure)
{
	return fsd_send(k, method, params, NULL, 0, ret, failure);
}

int fsd_pass(struct keyd *k, const char *method, json_t *params, int fd)
{
	return fsd_send(k, method, params, &fd, 1, NULL, NULL);
}

/* ---- workers ---- */

static void worker_free(struct worker *w)
{
	child_forget(&w->child);
	json_decref(w->sandbox);
	close_fdp(&w->fsd_end);
	free(w);
}

static void worker_gone(struct worker *w, const char *reason)
{
	struct keyd *k = w->keyd;

	for (struct worker **p = &k->children.workers; *p; p = &(*p)->next) {
		if (*p != w)
			continue;
		*p = w->next;
		break;
	}
	sessions_of_worker_gone(k, w, reason);
	fsck_worker_gone(k, w);
	restore_worker_gone(k, w);
	survey_worker_gone(k, w);
	worker_free(w);
}

void worker_kill(struct worker *w)
{
	log_warning(WORKER_NAME " %d of %s is killed", (int)w->child.pid, w->client);
	/* A thread of it may wait in the kernel for an answer that nobody will give: then it cannot die. */
	sessions_of_worker_break(w->keyd, w);
	child_kill(&w->child, WORKER_NAME);
	worker_gone(w, "worker killed");
}

static int on_worker_exit(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct worker *w = userdata;
	char how[64];

	if (info->si_code != CLD_EXITED || info->si_status != 0)
		log_error(WORKER_NAME " %d of %s ended: %s", (int)info->si_pid, w->client,
			child_how_it_ended(info, how, sizeof(how)));
	worker_gone(w, "worker died");
	return 0;
}

static void on_worker_news(json_t *params, void *userdata)
{
	struct worker *w = userdata;
	const char *event = NULL, *reason = NULL;
	json_int_t session = 0, uid = -1, gid = -1, class = 0, used = 0, refused = 0;
	struct session *s;

	if (json_unpack(params, "{s:s, s:I, s?s, s?I, s?I, s?I, s?I, s?I}", "event", &event, "session", &session,
		    "reason", &reason, "uid", &uid, "gid", &gid, "class", &class, "used", &used, "refused",
		    &refused) < 0)
		return;
	s = session_find(w->keyd, (uint64_t)session);
	if (s && s->worker == w && strcmp(event, "member-wanted") == 0 && uid >= 0 && uid < UINT32_MAX)
		member_wanted(w->keyd, s->id, (uid_t)uid, (gid_t)gid);
	if (s && s->worker == w && strcmp(event, "waiting-opened") == 0)
		retain_alarm(w->keyd, s, class, used, refused);
	if (s && s->worker == w && strcmp(event, "session-ended") == 0) /* it speaks for its own only */
		session_gone(w->keyd, s->id, reason ? reason : "ended");
	w->keyd->traffic = true;
}

static void on_worker_closed(void *userdata)
{
	struct worker *w = userdata;

	child_closed(&w->child);
}

/* w is gone when it did not answer. */
static int worker_answered(struct worker *w, const char *method, int r)
{
	if (r < 0 && r != -EREMOTEIO) {
		log_error("%s is not answered by " WORKER_NAME " of %s: %s", method, w->client, strerror(-r));
		worker_kill(w);
	}
	return r;
}

static int worker_send(struct worker *w, const char *method, json_t *params, const int *fds, unsigned n,
	int timeout_ms, json_t **ret, struct varlink_failure *failure)
{
	return worker_answered(w, method, varlink_call(w->child.client, method, params, fds, n, timeout_ms, ret, NULL, failure));
}

int worker_call_begin(struct worker *w, const char *method, json_t *params, int timeout_ms)
{
	return varlink_call_begin(w->child.client, method, params, NULL, 0, timeout_ms);
}

int worker_call_finish(struct worker *w, const char *method, int begun)
{
	return worker_answered(w, method, begun < 0 ? begun : varlink_call_finish(w->child.client, NULL, NULL, NULL));
}

int worker_call(
	struct worker *w, const char *method, json_t *params, int timeout_ms, struct varlink_failure *failure)
{
	return worker_send(w, method, params, NULL, 0, timeout_ms, NULL, failure);
}

int worker_ask(struct worker *w, const char *method, json_t *params, int timeout_ms, json_t **ret)
{
	return worker_send(w, method, params, NULL, 0, timeout_ms, ret, NULL);
}

int worker_pass(struct worker *w, const char *method, json_t *params, int fd)
{
	return worker_send(w, method, params, &fd, 1, WORKER_TIMEOUT_MS, NULL, NULL);
}

struct worker *worker_find(struct keyd *k, const char *hex)
{
	for (struct worker *w = k->children.workers; w; w = w->next)
		if (!w->apart && strcmp(w->hex, hex) == 0)
			return w;
	return NULL;
}

/* Hands over the key tree; the answer tells of the sandbox that closed after it. */
static int worker_open(struct keyd *k, struct worker *w, const struct client_id *id)
{
	scoped(close_fdp) int fd = -1;
	struct varlink_failure failure = {0};
	struct keys_error err = {0};
	json_t *answer = NULL, *params;
	uint8_t *tree = NULL;
	size_t n;
	int r;

	r = keyring_tree_bytes(k->ring, id, &tree, &n, &err);
	if (r < 0) {
		log_error("the keys of %s: %s", w->client, err.text);
		return r;
	}
	r = secret_fd_new(tree, n, &fd);
	secret_free(tree);
	if (r < 0)
		return r;
	params = json_pack("{s:s, s:i, s:i}", "client_id", w->hex, "class",
		(int)policy_default_class(k->policy)->number, "suite",
		crypto_aead_aes256gcm_is_available() ? SUITE_AES_GCM : SUITE_XCHACHA);
	r = numbers_begin(k, w, params);
	if (r < 0)
		return r;
	r = varlink_call(w->child.client, "org.coffer.worker.Open", params, (int[]){fd, w->copy_fd},
		w->copy_fd >= 0 ? 2 : 1, WORKER_OPEN_TIMEOUT_MS,
		&answer, NULL, &failure);
	if (r < 0) {
		log_error(WORKER_NAME " of %s does not open: %s", w->client,
			r == -EREMOTEIO ? failure.message : strerror(-r));
		return r;
	}
	w->sandbox = json_incref(json_object_get(answer, "sandbox"));
	json_decref(answer);
	return 0;
}

/* fsd gets the other end of the worker's second socket. */
static int worker_introduce(struct keyd *k, const struct worker *w, int fd)
{
	struct varlink_failure failure = {0};
	int r;

	if (!fsd_is_running(k))
		return -ENOTCONN;
	r = varlink_call(k->children.fsd.client, "org.coffer.fsd.WorkerStarted",
		json_pack("{s:s, s:s, s:I}", "client", w->client, "client_id", w->hex, "pid",
			(json_int_t)w->child.pid),
		&fd, 1, FSD_TIMEOUT_MS, NULL, NULL, &failure);
	if (r < 0)
		log_error(FSD_NAME " does not take the worker of %s: %s", w->client,
			r == -EREMOTEIO ? failure.message : strerror(-r));
	return r;
}

static int worker_spawn(struct keyd *k, struct worker *w, int *ret_fsd_end)
{
	char *const argv[] = {(char *)WORKER_NAME, NULL};
	scoped(close_fdp) int keyd_end = -1, fsd_end = -1, folder = -1, for_keyd = -1, for_fsd = -1;
	char path[64];
	int a[2], b[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a) < 0)
		return -errno;
	keyd_end = a[0];
	for_keyd = a[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b) < 0)
		return -errno;
	fsd_end = b[0];
	for_fsd = b[1];
	snprintf(path, sizeof(path), "store/%s", w->hex);
	folder = w->folder_fd >= 0 ? fcntl(w->folder_fd, F_DUPFD_CLOEXEC, 0)
				   : statedir_open(&k->dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (folder < 0)
		return folder;
	r = child_start(k, &w->child, k->children.worker_path, argv, (int[]){for_keyd, for_fsd, folder}, 3,
		"log/worker.log", take_fd(&keyd_end), on_worker_exit, w);
	if (r == 0)
		*ret_fsd_end = take_fd(&fsd_end);
	return r;
}

/* folder_fd -1: the client's own. */
static int worker_new(struct keyd *k, const struct fact_client *c, int folder_fd, struct worker **ret, int *ret_fsd_end)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->keyd = k;
	w->child.pidfd = w->fsd_end = w->copy_fd = -1;
	w->folder_fd = folder_fd;
	w->idle_since = k->tick;
	snprintf(w->client, sizeof(w->client), "%s", c->client);
	snprintf(w->hex, sizeof(w->hex), "%s", c->hex);
	r = worker_spawn(k, w, ret_fsd_end);
	if (r < 0) {
		log_error(WORKER_NAME " of %s cannot be started: %s", w->client, strerror(-r));
		worker_free(w);
		return r;
	}
	w->next = k->children.workers;
	k->children.workers = w;
	*ret = w;
	return 0;
}

int worker_get_dead(struct keyd *k, const struct fact_client *c, struct worker **ret)
{
	struct varlink_failure failure = {0};
	struct worker *w;
	int fsd_end = -1, r;

	children_stop_worker(k, c->hex);
	r = worker_new(k, c, -1, &w, &fsd_end);
	if (r < 0)
		return r;
	w->fsd_end = fsd_end;
	r = varlink_call(w->child.client, "org.coffer.worker.SweepDead", NULL, NULL, 0, WORKER_OPEN_TIMEOUT_MS, NULL,
		NULL, &failure);
	if (r < 0) {
		log_error(WORKER_NAME " of %s does not sweep: %s", w->client,
			r == -EREMOTEIO ? failure.message : strerror(-r));
		worker_kill(w);
		return r;
	}
	*ret = w;
	return 0;
}

/* Opens the store of w, which is new, and listens to it.  fsd_end: the end that fsd gets; -1: none.  Ends w when it fails. */
static int worker_begin(struct keyd *k, const struct fact_client *c, const struct client_id *id, struct worker *w, int fsd_end,
	struct worker **ret)
{
	int r = worker_open(k, w, id);

	if (r == 0)
		r = retain_open(k, c, w);
	if (r == 0 && fsd_end >= 0)
		r = worker_introduce(k, w, fsd_end);
	if (r == 0)
		r = varlink_watch(w->child.client, k->event, "org.coffer.worker.Watch", NULL, on_worker_news,
			on_worker_closed, w);
	if (r < 0) {
		worker_kill(w);
		return r;
	}
	*ret = w;
	return 0;
}

int worker_get(struct keyd *k, const struct fact_client *c, struct worker **ret)
{
	struct worker *w = worker_find(k, c->hex);
	scoped(close_fdp) int fsd_end = -1;
	struct client_id id;
	int r;

	if (w && w->doomed) {
		worker_kill(w);
		w = NULL;
	}
	if (w) {
		*ret = w;
		return 0;
	}
	if (client_id_parse(c->hex, &id) < 0)
		return -EINVAL;
	r = worker_new(k, c, -1, &w, &fsd_end);
	if (r < 0)
		return r;
	return worker_begin(k, c, &id, w, fsd_end, ret);
}

/* It keeps the end that fsd would have: without it, it would take fsd for dead. */
int worker_start_apart(struct keyd *k, const struct fact_client *c, int folder_fd, int copy_fd, struct worker **ret)
{
	struct client_id id;
	struct worker *w;
	int fsd_end = -1, r;

	if (client_id_parse(c->hex, &id) < 0)
		return -EINVAL;
	r = worker_new(k, c, folder_fd, &w, &fsd_end);
	if (r < 0)
		return r;
	w->apart = true;
	w->fsd_end = fsd_end;
	w->copy_fd = copy_fd;
	r = worker_begin(k, c, &id, w, -1, ret);
	if (r == 0)
		w->folder_fd = w->copy_fd = -1;
	return r;
}

/* ---- what happens by itself ---- */

/* Each call may end a worker and with it the list's entry: so by number, newest first. */
static void each_worker(struct keyd *k, void (*visit)(struct worker *w))
{
	scoped(freep) struct worker **all = NULL;
	size_t n = 0;

	for (struct worker *w = k->children.workers; w; w = w->next)
		n++;
	all = calloc(n + 1, sizeof(struct worker *));
	if (!all)
		return;
	n = 0;
	for (struct worker *w = k->children.workers; w; w = w->next)
		all[n++] = w;
	for (size_t i = 0; i < n; i++)
		visit(all[i]);
}

static void ask_to_go(struct worker *w)
{
	json_t *answer = NULL;
	int r = varlink_call(w->child.client, "org.coffer.worker.Exit", NULL, NULL, 0, WORKER_TIMEOUT_MS,
		&answer, NULL, NULL);

	if (r == 0)
		numbers_end(w, answer);
	json_decref(answer);
	/* It may be gone before its answer was read. */
	if ((r < 0 && r != -ECONNRESET) || !child_wait(&w->child, EXIT_WAIT_MS))
		worker_kill(w);
	else
		worker_gone(w, "worker ended");
}

static void retire_idle(struct worker *w)
{
	if (!w->doomed && (fsck_uses(w->keyd, w) || survey_uses(w->keyd, w) || restore_uses(w->keyd, w)))
		return;
	if (w->doomed ? w->keyd->tick - w->idle_since >= 2
		      : w->sessions == 0 && w->keyd->tick - w->idle_since >= WORKER_GRACE)
		ask_to_go(w);
}

void children_tick(struct keyd *k)
{
	struct children *c = &k->children;
	uint16_t today = date_day(keyd_now());

	if (c->fsd.pid != 0 && k->tick - c->fsd_started_at >= FSD_OPENED)
		c->ledger_damaged = false;
	if (c->fsd.pid == 0 && k->tick >= c->fsd_retry_at)
		(void)fsd_start(k);
	each_worker(k, retire_idle);
	if (k->tick % PING_EVERY == 0)
		each_worker(k, numbers_ping);
	if (today != c->today) {
		c->today = today;
		each_worker(k, numbers_new_day);
	}
}

void children_stop_workers(struct keyd *k)
{
	each_worker(k, ask_to_go);
}

void worker_dismiss(struct worker *w)
{
	ask_to_go(w);
}

void children_stop_worker(struct keyd *k, const char *hex)
{
	struct worker *w = k->children.workers;

	while (w) {
		if (strcmp(w->hex, hex) == 0) {
			ask_to_go(w);
			w = k->children.workers; /* what ends with it may have ended others */
		} else {
			w = w->next;
		}
	}
}

void children_stop_fsd(struct keyd *k)
{
	struct child *fsd = &k->children.fsd;

	if (fsd->pid == 0)
		return;
	(void)varlink_call(
		fsd->client, "org.coffer.fsd.Shutdown", NULL, NULL, 0, FSD_TIMEOUT_MS, NULL, NULL, NULL);
	if (!child_wait(fsd, EXIT_WAIT_MS))
		child_kill(fsd, FSD_NAME);
	child_forget(fsd);
}

void children_done(struct children *c)
{
	free(c->fsd_path);
	free(c->worker_path);
}
