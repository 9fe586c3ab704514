#include "keyd/fsck.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common/bytes.h"
#include "common/date.h"
#include "common/ids.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_leaves.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/restore.h"
#include "keyd/session.h"

#define ABANDONED_SECONDS 5 /* without a question: the tool is gone */
#define REMEMBER_SECONDS 3
#define CHECKPOINT_MAX (256u << 10)
#define ROW_BYTES 48 /* fs/worker/fsck.h */
#define BARE "v-"    /* fs/store/version.h */

struct fsck {
	json_int_t id;
	char client[CLIENT_NAME_MAX], hex[CLIENT_ID_HEX];
	struct worker *worker; /* NULL: gone */
	char *user;
	uid_t uid;
	json_t *options; /* for the worker */
	bool changes_names, part;
	bool copy; /* of the store, in a backup: nothing is compared with the record, its findings are not the store's */
	bool checking; /* else the record is being asked */
	char *after;   /* the next page of the record */
	FILE *table;
	int table_fd;
	json_t *counts;
	char *finished;
	uint64_t asked_at, remembered_at; /* ticks */
};

static void fsck_free(struct fsck *f)
{
	json_decref(f->options);
	json_decref(f->counts);
	if (f->table)
		fclose(f->table);
	free(f->user);
	free(f->after);
	free(f->finished);
	free(f);
}
DEFINE_SCOPED(struct fsck *, fsck_free)

/* ---- the book ---- */

/* Steals detail. */
static int record(struct keyd *k, const struct fsck *f, const char *kind, const char *outcome, json_t *detail)
{
	struct outbox_entry e = {.kind = kind,
		.outcome = outcome,
		.by = {.user = f->user, .uid = f->uid},
		.client = f->client,
		.detail = detail};
	int r = outbox_put(k, &e);

	if (r < 0)
		log_error("%s of %s is not recorded: %s", kind, f->client, strerror(-r));
	return r;
}

/* Without the names in the share: they are the client's. */
static json_t *for_the_book(const json_t *finding)
{
	static const char *const kept[] = {"what", "done", "store", "file", "detail", NULL};
	json_t *o = json_object();

	for (const char *const *key = kept; *key; key++)
		if (json_object_get(finding, *key))
			json_object_set(o, *key, json_object_get(finding, *key));
	return o;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int record_findings(struct keyd *k, const struct fsck *f, const json_t *findings)
{
	json_t *list = json_array();
	const json_t *finding;
	size_t i;
	int r = 0;

	json_array_foreach(findings, i, finding)
	{
		const char *done = json_string_value(json_object_get(finding, "done"));
		json_t *o = for_the_book(finding);

		if (r == 0 && done && strcmp(done, "accepted") == 0) {
			json_object_set(o, "version", json_object_get(finding, "version"));
			json_object_set(o, "size", json_object_get(finding, "size"));
			json_object_set_new(o, "at", json_integer(now_ns())); /* among records, which tell more than seconds */
			r = record(k, f, "fsck-accept", NULL, o);
		} else {
			json_array_append_new(list, o);
		}
	}
	if (r == 0 && json_array_size(list) > 0)
		r = record(k, f, "fsck-findings", NULL, json_pack("{s:O}", "findings", list));
	json_decref(list);
	return r;
}

/* ---- where it goes on ---- */

static void checkpoint_key(const char *hex, char key[64])
{
	snprintf(key, 64, "fsck-%s", hex);
}

static void remember(struct keyd *k, struct fsck *f)
{
	scoped(freep) char *text = NULL;
	json_t *o;
	char key[64];

	if (f->part || !f->finished || !f->checking)
		return;
	o = json_pack("{s:s, s:O}", "after", f->finished, "counts", f->counts);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	checkpoint_key(f->hex, key);
	if (text && strlen(text) < CHECKPOINT_MAX && facts_state_set(k->facts, key, text) < 0)
		log_error("where the check of %s stands is not kept", f->client);
	f->remembered_at = k->tick;
}

static void forget(struct keyd *k, const struct fsck *f)
{
	char key[64];

	checkpoint_key(f->hex, key);
	if (!f->part)
		(void)facts_state_set(k->facts, key, "");
}

/* False: there is nothing to go on with. */
static bool recall(struct keyd *k, struct fsck *f)
{
	scoped(freep) char *text = malloc(CHECKPOINT_MAX);
	json_t *o, *after, *counts;
	char key[64];

	checkpoint_key(f->hex, key);
	if (!text || facts_state_get(k->facts, key, text, CHECKPOINT_MAX) < 0)
		return false;
	o = json_loads(text, 0, NULL);
	after = json_object_get(o, "after");
	counts = json_object_get(o, "counts");
	if (json_is_string(after) && json_is_object(counts)) {
		json_object_del(counts, "total");
		json_object_set(f->options, "after", after);
		json_object_set(f->options, "counts", counts);
		f->finished = strdup(json_string_value(after));
		json_decref(f->counts);
		f->counts = json_incref(counts);
	}
	json_decref(o);
	return f->finished != NULL;
}

/* ---- its end ---- */

static const char *end_kind(const struct fsck *f)
{
	return f->copy ? "drill-end" : "fsck-end";
}

bool fsck_uses(const struct keyd *k, const struct worker *w)
{
	return k->fsck && k->fsck->worker == w;
}

bool fsck_excludes_sessions(const struct keyd *k, const char *client)
{
	return k->fsck && k->fsck->changes_names && strcmp(k->fsck->client, client) == 0;
}

void fsck_end(struct keyd *k, const char *outcome)
{
	scoped(fsck_freep) struct fsck *f = k->fsck;

	if (!f)
		return;
	k->fsck = NULL;
	if (outcome)
		remember(k, f);
	else
		forget(k, f);
	(void)record(k, f, end_kind(f), outcome, json_incref(f->counts));
	if (!f->worker)
		return;
	if (f->copy) {
		worker_dismiss(f->worker);
		return;
	}
	f->worker->idle_since = k->tick;
	if (f->changes_names && f->worker->sessions == 0)
		children_stop_worker(k, f->hex); /* it knows names that are no more */
	else
		(void)worker_call(f->worker, "org.coffer.worker.FsckStop", NULL, WORKER_TIMEOUT_MS, NULL);
}

void fsck_worker_gone(struct keyd *k, const struct worker *w)
{
	if (!fsck_uses(k, w))
		return;
	k->fsck->worker = NULL;
	fsck_end(k, "WorkerGone");
}

void fsck_tick(struct keyd *k)
{
	if (k->fsck && k->tick - k->fsck->asked_at > ABANDONED_SECONDS)
		fsck_end(k, "Abandoned");
}

/* ---- its beginning ---- */

struct wanted {
	const char *client, *only, *accept;
	int repair, isolate, resume, copy;
	int fd; /* with copy: the client's folder in one */
};

static bool may_do(struct varlink_call *call, const struct wanted *w)
{
	const char *what = NULL, *who = NULL;

	if (!w->copy && !has_role(call, ROLES_OVERSIGHT)) {
		what = "check a store";
		who = "administrators, custodians and auditors";
	} else if (w->copy && !has_role(call, ROLE_OWNER | ROLE_CUSTODIAN)) {
		what = "look into a backup";
		who = "the owner of the state directory and custodians";
	} else if (w->accept && !has_role(call, ROLE_CUSTODIAN)) {
		what = "take what stands there for right";
		who = "custodians (the group coffer-custodian)";
	} else if ((w->repair || w->isolate) && !has_role(call, ROLE_ADMIN | ROLE_CUSTODIAN)) {
		what = "change a store";
		who = "administrators and custodians (the groups coffer-admin and coffer-custodian)";
	}
	if (what)
		varlink_errorf(call, "PermissionDenied", "run it without, or ask one of them", "to %s is for %s", what,
			who);
	return !what;
}

static bool may_begin(struct keyd *k, struct varlink_call *call, const struct fact_client *c, bool changes_names)
{
	if (c->destroyed_on || c->destroying) {
		varlink_errorf(call, "Destroyed", NULL, "%s is destroyed: there is nothing to check", c->client);
	} else if (k->fsck) {
		varlink_errorf(call, "Unavailable", "wait for its end", "%s is being checked", k->fsck->client);
	} else if (restore_excludes(k, c->client)) {
		varlink_errorf(call, "Unavailable", "wait for its end", "%s is being restored into", c->client);
	} else if (!fsd_is_running(k)) {
		varlink_error(call, "Unavailable", "coffer-fsd, which keeps the record, is not running",
			"try again in a few seconds; `coffer status` shows its state");
	} else {
		for (const struct session *s = k->sessions; changes_names && s; s = s->next)
			if (strcmp(s->client, c->client) == 0) {
				varlink_errorf(call, "Unavailable",
					"`coffer sessions` shows them; `coffer suspend` ends them and lets no new one in",
					"%s has open sessions: names cannot be changed under them", c->client);
				return false;
			}
		return true;
	}
	return false;
}

static struct fsck *fsck_new(
	struct keyd *k, struct varlink_call *call, const struct fact_client *c, const struct wanted *w)
{
	scoped(fsck_freep) struct fsck *f = calloc(1, sizeof(*f));
	const struct peer *p = varlink_call_peer(call);
	char today[DATE_TEXT_MAX];

	if (!f)
		return NULL;
	f->id = (json_int_t)randombytes_random() + 1;
	snprintf(f->client, sizeof(f->client), "%s", c->client);
	snprintf(f->hex, sizeof(f->hex), "%s", c->hex);
	f->user = strdup(p->user);
	f->uid = p->uid;
	f->asked_at = f->remembered_at = k->tick;
	f->changes_names = w->isolate || w->accept;
	f->part = w->only || w->accept || w->copy;
	f->copy = w->copy;
	f->counts = json_object();
	f->after = strdup("");
	f->options = json_pack("{s:b, s:b, s:b, s:b, s:b, s:s, s:I, s:s*}", "sweep_due", !w->copy && facts_sweep_is_due(k->facts, c->row), "repair", w->repair, "isolate", w->isolate,
		"accept", w->accept != NULL, "names", may_see_names(k, call, c->hex), "today",
		date_format_day(keyd_now(), today), "recorded_at", (json_int_t)now_ns(), "only",
		w->accept ? w->accept : w->only);
	f->table_fd = memfd_create("coffer-versions", MFD_CLOEXEC);
	if (f->table_fd >= 0)
		f->table = fdopen(f->table_fd, "w");
	if (!f->user || !f->after || !f->options || !f->table)
		return NULL;
	return take_ptr(&f);
}

static int begin(struct keyd *k, struct varlink_call *call, const struct fact_client *c, struct fsck **f,
	const struct wanted *w)
{
	int r;

	if (w->resume && !recall(k, *f))
		return varlink_errorf(call, "NothingToResume", "run it without --resume",
			"no check of %s was broken off", c->client);
	r = w->copy ? record(k, *f, "drill-start", NULL, NULL)
		    : record(k, *f, "fsck-start", NULL,
			      json_pack("{s:b, s:b, s:b, s:b, s:b}", "repair", w->repair, "isolate", w->isolate, "accept",
				      w->accept != NULL, "part", (*f)->part, "resume", w->resume));
	if (r < 0)
		return reply_failure(k, call, r, "the check cannot be recorded");
	(void)outbox_deliver(k);
	r = w->copy ? worker_start_apart(k, c, w->fd, -1, &(*f)->worker) : worker_get(k, c, &(*f)->worker);
	if (r < 0) {
		(void)record(k, *f, end_kind(*f), "StoreUnreadable", NULL);
		return varlink_errorf(call, "StoreUnreadable",
			"log/keyd.log in the state directory says why; if the id of the share's root is damaged, "
			"put store/CLIENT-ID/.id back from a backup",
			"the %s of %s (store/%s) does not open: %s", w->copy ? "copy" : "store", c->client, c->hex,
			strerror(-r));
	}
	k->fsck = take_ptr(f);
	return varlink_reply(call, json_pack("{s:I}", "fsck", k->fsck->id));
}

int keyd_fsck(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(close_fdp) int fd = varlink_call_take_fd(call, 0);
	scoped(fsck_freep) struct fsck *f = NULL;
	struct keyd *k = userdata;
	struct fact_client client;
	struct wanted w = {0};

	w.fd = fd;
	if (!params_unpack(call, params, "{s:s, s?s, s?s, s?b, s?b, s?b, s?b}", "client", &w.client, "only", &w.only,
		    "accept", &w.accept, "repair", &w.repair, "isolate", &w.isolate, "resume", &w.resume, "copy", &w.copy) ||
		!params_client(k, call, w.client, &client) || !may_do(call, &w))
		return 0;
	if (w.copy && (fd < 0 || w.accept || w.repair || w.isolate || w.resume))
		return varlink_error(call, "InvalidParameter", "a copy is only looked at, and comes along", NULL);
	if ((w.accept != NULL) + (w.only != NULL) + w.resume > 1)
		return varlink_error(call, "InvalidParameter", "only one of: accept, only, resume", NULL);
	if (!may_begin(k, call, &client, w.isolate || w.accept))
		return 0;
	f = fsck_new(k, call, &client, &w);
	if (!f)
		return -ENOMEM;
	return begin(k, call, &client, &f, &w);
}

/* ---- piece by piece ---- */

static bool parse_version(const char *text, uint64_t *ret_time, uint64_t *ret_counter)
{
	unsigned long long time = 0, counter = 0;

	if (strcmp(text, BARE) != 0 && sscanf(text, "v%16llx.%8llx", &time, &counter) != 2)
		return false;
	*ret_time = time;
	*ret_counter = counter;
	return true;
}

static int put_row(FILE *table, const json_t *row)
{
	uint8_t bytes[ROW_BYTES], id[FILE_ID_BYTES];
	const char *hex, *version;
	uint64_t moment, counter;
	struct bytes_writer w;
	json_int_t size, time;
	size_t n;

	if (json_unpack((json_t *)row, "[s,s,I,I]", &hex, &version, &size, &time) < 0 ||
		sodium_hex2bin(id, sizeof(id), hex, strlen(hex), NULL, &n, NULL) < 0 || n != sizeof(id) ||
		!parse_version(version, &moment, &counter))
		return 0; /* an act of another making */
	bytes_writer_init(&w, bytes, sizeof(bytes));
	bytes_put(&w, id, sizeof(id));
	bytes_put_u64(&w, moment);
	bytes_put_u64(&w, counter);
	bytes_put_u64(&w, (uint64_t)size);
	bytes_put_u64(&w, (uint64_t)time);
	return fwrite(bytes, sizeof(bytes), 1, table) == 1 ? 0 : -EIO;
}

/* One page of what the record knows; the last one starts the check. */
static int ask_record(struct keyd *k, struct fsck *f, struct varlink_failure *failure)
{
	json_t *answer = NULL, *row;
	const char *next;
	size_t i;
	int r;

	r = fsd_call(k, "org.coffer.fsd.Versions",
		json_pack("{s:s, s:s, s:s}", "client", f->client, "client_id", f->hex, "after", f->after), &answer,
		failure);
	json_array_foreach(json_object_get(answer, "rows"), i, row)
	{
		if (r == 0)
			r = put_row(f->table, row);
	}
	next = json_string_value(json_object_get(answer, "next"));
	free(f->after);
	f->after = next ? strdup(next) : NULL;
	json_decref(answer);
	return r;
}

static int start_worker(struct fsck *f, struct varlink_failure *failure)
{
	int r;

	if (fflush(f->table) != 0)
		return -EIO;
	f->checking = true;
	r = varlink_call(f->worker->child.client, "org.coffer.worker.Fsck", json_incref(f->options), &f->table_fd, 1,
		WORKER_OPEN_TIMEOUT_MS, NULL, NULL, failure);
	if (r < 0 && r != -EREMOTEIO)
		worker_kill(f->worker); /* ends this check as well */
	return r;
}

/* *ret: a new reference; a worker that does not answer is killed, and k->fsck gone. */
static int ask_worker(struct fsck *f, json_t **ret, struct varlink_failure *failure)
{
	int r = varlink_call(f->worker->child.client, "org.coffer.worker.FsckNext", NULL, NULL, 0, WORKER_TIMEOUT_MS,
		ret, NULL, failure);

	if (r < 0 && r != -EREMOTEIO)
		worker_kill(f->worker);
	return r;
}

static int next_piece(struct keyd *k, struct fsck *f, json_t **ret, struct varlink_failure *failure)
{
	int r;

	if (f->checking)
		return ask_worker(f, ret, failure);
	r = f->copy ? 0 : ask_record(k, f, failure); /* a copy is as old as it is */
	if (r == 0 && (f->copy || !f->after))
		r = start_worker(f, failure);
	if (r == 0)
		*ret = json_pack("{s:s, s:[], s:O}", "state", "comparing", "findings", "counts", f->counts);
	return r;
}

/* Keeps what the tool does not need. */
static int take_piece(struct keyd *k, struct fsck *f, json_t *piece)
{
	json_t *finished = json_object_get(piece, "finished");
	int r = f->copy ? 0 : record_findings(k, f, json_object_get(piece, "findings"));

	json_decref(f->counts);
	f->counts = json_incref(json_object_get(piece, "counts"));
	if (json_is_string(finished)) {
		free(f->finished);
		f->finished = strdup(json_string_value(finished));
	}
	json_object_del(piece, "finished");
	if (k->tick - f->remembered_at >= REMEMBER_SECONDS)
		remember(k, f);
	return r;
}

static struct fsck *fsck_of(struct keyd *k, struct varlink_call *call, json_t *params)
{
	json_int_t id = 0;

	if (!params_unpack(call, params, "{s:I}", "fsck", &id))
		return NULL;
	if (k->fsck && k->fsck->id == id && k->fsck->uid == varlink_call_peer(call)->uid)
		return k->fsck;
	varlink_error(call, "NoCheck", "this check has ended", "`coffer log` says why; --resume goes on with it");
	return NULL;
}

static int broken(struct keyd *k, struct varlink_call *call, int r, const struct varlink_failure *failure)
{
	fsck_end(k, "Failed");
	return varlink_errorf(call, "Unavailable", "--resume goes on with it", "the check was broken off: %s",
		r == -EREMOTEIO ? failure->message : strerror(-r));
}

int keyd_fsck_next(struct varlink_call *call, json_t *params, void *userdata)
{
	struct varlink_failure failure = {0};
	struct keyd *k = userdata;
	struct fsck *f = fsck_of(k, call, params);
	json_t *piece = NULL;
	const char *state;
	int r;

	if (!f)
		return 0;
	f->asked_at = k->tick;
	r = next_piece(k, f, &piece, &failure);
	if (r < 0)
		return broken(k, call, r, &failure);
	r = take_piece(k, f, piece);
	(void)outbox_deliver(k);
	if (r < 0) { /* nothing is done without a record */
		json_decref(piece);
		fsck_end(k, "NoRoom");
		return varlink_error(call, "NoRoom", "the check was broken off, since it could not be recorded",
			"the disk is full: make room, then go on with --resume");
	}
	state = json_string_value(json_object_get(piece, "state"));
	if (strcmp(state, "done") == 0)
		fsck_end(k, NULL);
	else if (strcmp(state, "failed") == 0)
		fsck_end(k, "Failed");
	(void)outbox_deliver(k);
	return varlink_reply(call, piece);
}

int keyd_fsck_stop(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;

	if (!fsck_of(k, call, params))
		return 0;
	fsck_end(k, "Stopped");
	(void)outbox_deliver(k);
	return varlink_reply(call, NULL);
}
