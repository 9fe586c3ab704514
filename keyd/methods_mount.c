/* Mount: decide, write it down, and only then let the worker expect the session. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/expiry.h"
#include "keyd/fsck.h"
#include "keyd/jit.h"
#include "keyd/member.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/refusals.h"
#include "keyd/restore.h"
#include "keyd/session.h"
#include "keyd/survey.h"

#define UNATTACHED_MAX 64u /* sessions of one user that wait for their mount: each is searched for by all */

static int refuse(struct keyd *k, struct varlink_call *call, const struct asked *a, const struct decision *d)
{
	struct outbox_entry e = {
		.kind = "refused",
		.outcome = d->error,
		.by = actor_of(call),
		.client = a->client,
		.purpose = a->purpose,
		.ticket = a->ticket,
	};
	int r = 0;

	if (refusal_is_recorded(k, e.by)) {
		e.detail = decision_detail(d);
		r = outbox_put(k, &e);
		expiry_alarm(k, a->client, a->purpose, d->error, e.by);
		if (r < 0)
			return reply_failure(k, call, r, "the refusal cannot be recorded");
		(void)outbox_deliver(k);
	}
	return varlink_error(
		call, *d->error ? d->error : "NotGranted", d->message, *d->remedy ? d->remedy : NULL);
}

static struct session *session_new(const struct varlink_call *call, const struct asked *a,
	const struct decision *d, const struct fact_client *c)
{
	const struct peer *p = varlink_call_peer(call);
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->client_row = c->row;
	snprintf(s->client, sizeof(s->client), "%s", c->client);
	snprintf(s->hex, sizeof(s->hex), "%s", c->hex);
	snprintf(s->user, sizeof(s->user), "%s", p->user);
	s->uid = p->uid;
	s->gid = p->gid;
	s->purpose = strdup(a->purpose);
	s->ticket = a->ticket ? strdup(a->ticket) : NULL;
	s->since = keyd_now();
	s->emergency = a->emergency ? strdup(a->emergency) : NULL;
	if (session_take_decision(s, d) < 0 || !s->purpose || (a->ticket && !s->ticket) || (a->emergency && !s->emergency)) {
		session_free(s);
		return NULL;
	}
	return s;
}

/* The session and the record of its decision, in one transaction; in the book when this returns 0. */
static int write_down(struct keyd *k, struct varlink_call *call, struct session *s, const struct decision *d)
{
	struct outbox_entry e = {
		.kind = "mount",
		.by = actor_of(call),
		.client = s->client,
		.purpose = s->purpose,
		.ticket = s->ticket,
	};
	scoped(facts_rollbackp) struct facts *open = NULL;
	int64_t review = 0;
	int r;

	r = facts_begin(k->facts);
	if (r < 0)
		return r;
	open = k->facts;
	r = session_put(k, s, d);
	if (r < 0)
		return r;
	e.session = s->id;
	e.detail = decision_detail(d);
	if (s->shared)
		json_object_set_new(e.detail, "shared", json_true());
	if (s->exclusive)
		json_object_set_new(e.detail, "exclusive", json_true());
	session_put_export(s, e.detail);
	if (s->emergency) {
		e.kind = "emergency";
		json_object_set_new(e.detail, "reason", json_string(s->emergency));
	}
	r = outbox_put(k, &e);
	expiry_alarm(k, s->client, s->purpose, NULL, e.by);
	if (r == 0 && s->emergency)
		r = jit_emergency_note(k, s, varlink_call_peer(call)->person, &review);
	if (r == 0)
		r = facts_commit(k->facts);
	if (r == 0 && s->emergency)
		jit_emergency_tell(k, s, review);
	return r < 0 ? r : outbox_deliver(k);
}

static int tell_worker(struct worker *w, const struct session *s, const char *token)
{
	const struct policy_purpose *purpose = policy_purpose(w->keyd->policy, s->purpose);
	struct varlink_failure failure = {0};
	json_t *o;
	int r;

	o = json_pack("{s:I, s:s, s:I, s:I, s:s, s:I, s:b, s:b, s:I}", "session", (json_int_t)s->id, "token", token, "uid",
		(json_int_t)s->uid, "gid", (json_int_t)s->gid, "rights", policy_rights_name(s->rights), "until",
		(json_int_t)s->until, "shared", s->shared, "exclusive", s->exclusive, "idle",
		(json_int_t)s->idle);
	json_object_set_new(o, "sync", json_boolean(s->durability == DURABILITY_SYNC));
	json_object_set_new(o, "late", json_boolean(purpose && purpose->after_end));
	session_put_classes(s, o);
	r = worker_call(w, "org.coffer.worker.Expect", o, WORKER_TIMEOUT_MS, &failure);
	if (r == -EREMOTEIO)
		log_error("the worker of %s refuses a session: %s", s->client, failure.message);
	return r;
}

static int tell_fsd(struct keyd *k, const struct session *s)
{
	struct varlink_failure failure = {0};
	json_t *o;
	int r;

	o = json_pack("{s:I, s:s, s:s, s:I, s:s, s:s, s:s}", "session", (json_int_t)s->id, "client_id",
		s->hex, "user", s->user, "uid", (json_int_t)s->uid, "client", s->client, "purpose",
		s->purpose, "rights", policy_rights_name(s->rights));
	if (s->ticket)
		json_object_set_new(o, "ticket", json_string(s->ticket));
	r = fsd_call(k, "org.coffer.fsd.SessionExpected", o, NULL, &failure);
	if (r == -EREMOTEIO)
		log_error("coffer-fsd refuses a session: %s", failure.message);
	return r;
}

/* Written down, and then not opened after all: that is written down too. */
static int undo(
	struct keyd *k, struct varlink_call *call, const struct session *s, int error, const char *why)
{
	struct outbox_entry e = {
		.kind = "mount-failed",
		.outcome = "Failed",
		.by = actor_of(call),
		.client = s->client,
		.purpose = s->purpose,
		.session = s->id,
		.detail = json_pack("{s:s, s:s}", "why", why, "error", strerror(-error)),
	};

	facts_rollback(k->facts);
	if (s->id) {
		(void)facts_session_end(k->facts, (int64_t)s->id, why, keyd_now());
		(void)outbox_put(k, &e);
	} else {
		json_decref(e.detail);
	}
	if (error == -ENOSPC)
		return varlink_errorf(call, "NoRoom", "the disk is full: make room, then mount again",
			"%s is not opened, since that could not be recorded", s->client);
	return varlink_errorf(call, "Unavailable",
		"try again in a few seconds; if it stays, `coffer status` and the logs in the state "
		"directory say why",
		"%s cannot be opened now: %s (%s)", s->client, why, strerror(-error));
}

static int open_session(struct keyd *k, struct varlink_call *call, struct session **s,
	const struct fact_client *c, const struct decision *d)
{
	char token[2 * SESSION_TOKEN_BYTES + 1];
	uint8_t random[SESSION_TOKEN_BYTES];
	struct worker *w = NULL;
	uint64_t id;
	json_t *answer;
	int r;

	r = write_down(k, call, *s, d);
	if (r < 0)
		return undo(k, call, *s, r, "the record could not be written");
	r = worker_get(k, c, &w);
	if (r < 0)
		return undo(k, call, *s, r, "its worker could not be started");
	randombytes_buf(random, sizeof(random));
	sodium_bin2hex(token, sizeof(token), random, sizeof(random));
	sodium_memzero(random, sizeof(random));
	r = tell_worker(w, *s, token);
	if (r < 0)
		return undo(k, call, *s, r, "its worker does not take the session");
	answer = json_pack("{s:I, s:s, s:s, s:s}", "session", (json_int_t)(*s)->id, "token", token,
		"client_id", (*s)->hex, "rights", policy_rights_name((*s)->rights));
	json_object_set_new(answer, "until", (*s)->until ? json_integer((*s)->until) : json_null());
	session_put_export(*s, answer);
	sodium_memzero(token, sizeof(token));
	id = (*s)->id;
	session_enter(k, take_ptr(s), w);
	r = tell_fsd(k, session_find(k, id));
	if (r == 0 && session_find(k, id)->shared)
		r = members_tell_access(k, session_find(k, id));
	if (r < 0) {
		json_decref(answer);
		session_end(k, id, "coffer-fsd is not there", EKEYREVOKED, FACTS_CLOCK);
		return varlink_error(call, "Unavailable", "coffer-fsd does not take the session",
			"try again in a few seconds");
	}
	return varlink_reply(call, answer);
}

static void session_freep(struct session **s)
{
	session_free(*s);
}

/* Whoever mounts it could put any uid into its requests: so it must be somebody who could become any uid, or
 * who says who may enter. */
static bool may_mount_shared(const struct keyd *k, struct varlink_call *call)
{
	if (!has_role(call, ROLE_ADMIN) && varlink_call_peer(call)->uid != 0) {
		varlink_error(call, "PermissionDenied",
			"a shared mount is for root and admins (group coffer-admin)",
			"leave --shared out, or ask one of them");
		return false;
	}
	if (geteuid() != 0) {
		varlink_error(call, "NotRoot",
			"a shared mount needs daemons that were started by root: only they "
			"can give files their owners",
			"start them by root: sudo coffer up");
		return false;
	}
	return true;
}

/* The mount lets nobody in by itself: only what holds for everybody is asked here. */
static int decide_shared(struct keyd *k, const struct asked *a, struct decision *d)
{
	int r = members_decide_mount(k, a->client, a->purpose, a->ticket, d);

	if (r < 0 || d->verdict != VERDICT_ALLOW)
		return r;
	d->grant = d->until = d->idle = 0;
	if (a->rights)
		d->rights &= a->rights;
	snprintf(d->message, sizeof(d->message), "a shared mount: each user is decided when he comes");
	return 0;
}

/* One kernel keeps what is written, or several look at it.  Who may mount may know whom to ask. */
static int refuse_beside(struct varlink_call *call, const struct session *other, bool exclusive)
{
	if (other->exclusive)
		return varlink_errorf(call, "Unavailable", "wait for its end, or ask for it (`coffer session end`: that user or an admin)",
			"%s is mounted exclusively by %s (session %llu)", other->client, other->user, (unsigned long long)other->id);
	return varlink_errorf(call, "Unavailable", "leave --exclusive out, or wait until nobody has it mounted",
		"%s is mounted already by %s (session %llu): an exclusive mount must be the only one", other->client, other->user,
		(unsigned long long)other->id);
}

int keyd_mount(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(session_freep) struct session *s = NULL;
	struct keyd *k = userdata;
	const struct peer *p = varlink_call_peer(call);
	struct asked a = {.user = p->user, .uid = p->uid};
	const char *rights = NULL, *reason = NULL;
	int shared = 0, exclusive = 0, emergency = 0, shell = 0;
	const struct session *other;
	struct fact_client client;
	struct decision d;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s?s, s?s, s?b, s?b, s?b, s?b, s?s}", "client", &a.client, "purpose", &a.purpose,
		    "ticket", &a.ticket, "rights", &rights, "shared", &shared, "exclusive", &exclusive,
		    "emergency", &emergency, "shell", &shell, "reason", &reason) ||
		!params_text(call, "reason", reason) ||
		!params_text(call, "client", a.client) || !params_text(call, "purpose", a.purpose) ||
		!params_text(call, "ticket", a.ticket) || !params_rights(call, rights, &a.rights))
		return 0;
	a.emergency = emergency ? reason ? reason : "" : NULL;
	if (shared && emergency)
		return varlink_error(call, "PermissionDenied", "an emergency is one person's: nobody else comes in with him",
			"leave --shared out");
	if (shared && shell)
		return varlink_error(call, "PermissionDenied", "coffer shell is one person's: nobody else comes in with him",
			"leave --shared out");
	a.shell = shell;
	if (!shared && !roles_may_consult(k, p))
		return varlink_errorf(call, "RolesTogether",
			"let the policy say which roles go together with consultant (together), or use an account without the role",
			"%s has a role beside which he may open no client here", p->user);
	if (shared && !may_mount_shared(k, call))
		return 0;
	r = shared ? decide_shared(k, &a, &d) : decision_make(k, &a, FACTS_LATEST, keyd_now(), &d);
	if (r < 0)
		return reply_failure(k, call, r, "the decision could not be made");
	if (d.verdict != VERDICT_ALLOW)
		return refuse(k, call, &a, &d);
	r = facts_client(k->facts, a.client, FACTS_LATEST, &client);
	if (r < 0)
		return reply_failure(k, call, r, "the client cannot be looked up");
	if (!fsd_is_running(k))
		return varlink_error(call, "Unavailable",
			"coffer-fsd, which keeps the record, is not running: nothing is opened without a "
			"record",
			"try again in a few seconds; `coffer status` shows its state");
	if (fsck_excludes_sessions(k, client.client))
		return varlink_errorf(call, "Unavailable", "try again when `coffer fsck` is through",
			"the store of %s is being repaired", client.client);
	if (restore_excludes(k, client.client))
		return varlink_errorf(call, "Unavailable", "try again when `coffer restore` is through",
			"the store of %s is being restored into", client.client);
	if (survey_excludes_sessions(k, client.client))
		return varlink_errorf(call, "Unavailable", "try again in a moment",
			"something of %s is being destroyed", client.client);
	if (p->uid != 0 && sessions_of(k, p->uid) >= k->sessions_max)
		return varlink_errorf(call, "TooMany", "unmount what you do not need: `coffer sessions` shows it",
			"%s has %u sessions: nobody has more at a time", p->user, k->sessions_max);
	if (sessions_unattached(k, p->uid) >= UNATTACHED_MAX)
		return varlink_errorf(call, "TooMany", "wait a minute: they end by themselves",
			"%s has asked for %u mounts that were not made", p->user, UNATTACHED_MAX);
	other = session_in_the_way(k, client.client, exclusive);
	if (other)
		return refuse_beside(call, other, exclusive);
	if (exclusive && !(d.rights & RIGHTS_WRITE))
		return varlink_error(call, "InvalidRights", "an exclusive mount is for writing, and this one could only read",
			"leave --exclusive out");
	s = session_new(call, &a, &d, &client);
	if (!s)
		return -ENOMEM;
	s->shared = shared;
	s->exclusive = exclusive;
	s->shell = shell;
	return open_session(k, call, &s, &client, &d);
}

int keyd_session_end(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *reason = NULL;
	json_int_t id = 0;
	struct session *s;

	if (!params_unpack(call, params, "{s:I, s?s}", "session", &id, "reason", &reason) ||
		!params_text(call, "reason", reason))
		return 0;
	s = session_find(k, (uint64_t)id);
	/* What is another's does not exist, so that nobody can count them. */
	if (!s || (s->uid != varlink_call_peer(call)->uid && !has_role(call, ROLE_ADMIN)))
		return varlink_errorf(call, "UnknownSession", "`coffer sessions` shows your sessions",
			"you have no session %lld", (long long)id);
	session_end(k, s->id, reason ? reason : "ended by request", EKEYREVOKED, actor_of(call));
	(void)outbox_deliver(k);
	return varlink_reply(call, NULL);
}
