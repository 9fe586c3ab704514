#include "keyd/restore.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_life.h"
#include "keyd/fsck.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/session.h"
#include "keyd/survey.h"

#define ABANDONED_SECONDS 10

struct restoring {
	json_int_t id;
	char client[CLIENT_NAME_MAX], hex[CLIENT_ID_HEX];
	char *user;
	uid_t uid;
	struct worker *worker; /* NULL: gone */
	json_t *counts;
	uint64_t asked_at; /* tick */
};

static void restoring_free(struct restoring *r)
{
	json_decref(r->counts);
	free(r->user);
	free(r);
}
DEFINE_SCOPED(struct restoring *, restoring_free)

bool restore_uses(const struct keyd *k, const struct worker *w)
{
	return k->restoring && k->restoring->worker == w;
}

bool restore_excludes(const struct keyd *k, const char *client)
{
	return k->restoring && strcmp(k->restoring->client, client) == 0;
}

/* Steals detail. */
static int record(struct keyd *k, const struct restoring *r, const char *kind, const char *outcome, json_t *detail)
{
	struct outbox_entry e = {.kind = kind,
		.outcome = outcome,
		.by = {.user = r->user, .uid = r->uid},
		.client = r->client,
		.detail = detail};

	return outbox_put(k, &e);
}

static void end(struct keyd *k, const char *outcome)
{
	scoped(restoring_freep) struct restoring *r = k->restoring;

	if (!r)
		return;
	k->restoring = NULL;
	if (r->worker)
		worker_dismiss(r->worker);
	if (record(k, r, "restore-end", outcome, json_incref(r->counts)) < 0)
		log_error("the end of a restore of %s is not recorded", r->client);
	(void)outbox_deliver(k);
}

void restore_worker_gone(struct keyd *k, const struct worker *w)
{
	if (!restore_uses(k, w))
		return;
	k->restoring->worker = NULL;
	end(k, "WorkerGone");
}

void restore_tick(struct keyd *k)
{
	if (k->restoring && k->tick - k->restoring->asked_at > ABANDONED_SECONDS)
		end(k, "Abandoned");
}

/* ---- its beginning ---- */

static bool may_begin(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	if (c->destroyed_on || c->destroying) {
		varlink_errorf(call, "Destroyed", NULL, "%s is destroyed: nothing of it comes back", c->client);
		return false;
	}
	survey_make_way(k, c->client);
	if (k->restoring || k->fsck || survey_runs(k, c->client)) {
		varlink_errorf(call, "Unavailable", "try again when it is through",
			"something is being restored, checked or destroyed");
		return false;
	}
	for (const struct session *s = k->sessions; s; s = s->next) {
		if (strcmp(s->client, c->client) != 0)
			continue;
		varlink_errorf(call, "Unavailable",
			"`coffer sessions` shows them; `coffer suspend` ends them and lets no new one in",
			"%s has open sessions: they would not see what is restored under them", c->client);
		return false;
	}
	return true;
}

static struct restoring *restoring_new(struct keyd *k, struct varlink_call *call, const struct fact_client *c)
{
	scoped(restoring_freep) struct restoring *r = calloc(1, sizeof(*r));
	const struct peer *p = varlink_call_peer(call);

	if (!r)
		return NULL;
	r->id = (json_int_t)randombytes_random() + 1;
	snprintf(r->client, sizeof(r->client), "%s", c->client);
	snprintf(r->hex, sizeof(r->hex), "%s", c->hex);
	r->user = strdup(p->user);
	r->uid = p->uid;
	r->counts = json_object();
	r->asked_at = k->tick;
	return r->user ? take_ptr(&r) : NULL;
}

static int tell_worker(struct keyd *k, struct varlink_call *call, const struct restoring *r, const char *path,
	const char *to, struct varlink_failure *failure)
{
	char beside[64], today[DATE_TEXT_MAX];

	snprintf(beside, sizeof(beside), ".restored-%s", date_format_day(keyd_now(), today));
	return worker_call(r->worker, "org.coffer.worker.Restore",
		json_pack("{s:s, s:s*, s:s, s:b}", "path", path, "to", to, "beside", beside, "names",
			may_see_names(k, call, r->hex)),
		WORKER_TIMEOUT_MS, failure);
}

/* Whatever fails after the worker is there ends it, and with it the restore. */
static int begin(struct keyd *k, struct varlink_call *call, const struct fact_client *c, struct restoring **restoring,
	int copy, const char *path, const char *to)
{
	struct restoring *r = *restoring;
	struct varlink_failure failure = {0};
	int e = record(k, r, "restore-start", NULL, NULL);

	if (e == 0)
		e = facts_looks_forget(k->facts, c->row); /* what comes back may be old */
	if (e < 0)
		return reply_failure(k, call, e, "the restore cannot be recorded");
	(void)outbox_deliver(k);
	children_stop_worker(k, c->hex);
	e = worker_start_apart(k, c, -1, copy, &r->worker);
	if (e < 0) {
		(void)record(k, r, "restore-end", "StoreUnreadable", NULL);
		return varlink_errorf(call, "StoreUnreadable", "log/worker.log in the state directory says why",
			"the copy or the store of %s does not open: %s", c->client, strerror(-e));
	}
	k->restoring = take_ptr(restoring);
	e = tell_worker(k, call, r, path, to, &failure);
	if (e < 0) {
		end(k, "Failed");
		return varlink_errorf(call, "Failed", NULL, "nothing was restored: %s",
			e == -EREMOTEIO ? failure.message : strerror(-e));
	}
	return varlink_reply(call, json_pack("{s:I}", "restore", r->id));
}

int keyd_restore(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(restoring_freep) struct restoring *r = NULL;
	scoped(close_fdp) int copy = varlink_call_take_fd(call, 0);
	const char *client, *path, *to = NULL;
	struct keyd *k = userdata;
	struct fact_client c;
	struct stat st;

	if (!params_unpack(call, params, "{s:s, s:s, s?s}", "client", &client, "path", &path, "to", &to) ||
		!params_client(k, call, client, &c))
		return 0;
	if (copy < 0 || fstat(copy, &st) < 0 || !S_ISDIR(st.st_mode))
		return varlink_error(call, "InvalidParameter", "the folder to restore from did not come along", NULL);
	if (!may_begin(k, call, &c))
		return 0;
	r = restoring_new(k, call, &c);
	if (!r)
		return -ENOMEM;
	return begin(k, call, &c, &r, copy, path, to);
}

/* ---- piece by piece ---- */

static int failed(struct keyd *k, struct varlink_call *call, int error)
{
	const char *name = error == ENOENT ? "NoSuchPath" : error == EEXIST ? "PathExists" : "Failed";
	const char *what = error == ENOENT   ? "there is no such path in the backup, or no directory to put it in"
			   : error == EEXIST ? "something stands there already"
			   : error == EINVAL ? "a path is written as DIRECTORY/FILE, below the share's root"
			   : error == ENOKEY ? "its key, or that of a directory above it, is destroyed"
			   : error == EBADMSG ? "a directory above it is damaged"
					      : strerror(error);

	end(k, name);
	return varlink_errorf(call, name, error == EEXIST ? "name another with --to" : NULL, "%s", what);
}

int keyd_restore_next(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct restoring *r = k->restoring;
	json_int_t id = 0, error;
	json_t *answer = NULL;
	const char *state;
	int e;

	if (!params_unpack(call, params, "{s:I}", "restore", &id))
		return 0;
	if (!r || r->id != id || r->uid != varlink_call_peer(call)->uid)
		return varlink_error(call, "NoCheck", "this restore has ended", "`coffer log` says why");
	r->asked_at = k->tick;
	e = varlink_call(r->worker->child.client, "org.coffer.worker.RestoreNext", NULL, NULL, 0, WORKER_TIMEOUT_MS,
		&answer, NULL, NULL);
	if (e < 0) {
		worker_kill(r->worker); /* ends the restore as well */
		return varlink_errorf(call, "Unavailable", NULL, "the restore was broken off: %s", strerror(-e));
	}
	json_decref(r->counts);
	r->counts = json_incref(json_object_get(answer, "counts"));
	state = json_string_value(json_object_get(answer, "state"));
	error = json_integer_value(json_object_get(answer, "errno"));
	if (state && strcmp(state, "failed") == 0) {
		json_decref(answer);
		return failed(k, call, (int)error);
	}
	if (!state || strcmp(state, "done") == 0)
		end(k, NULL);
	return varlink_reply(call, answer);
}
