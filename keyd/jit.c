#include "keyd/jit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/classes.h"
#include "keyd/decision.h"
#include "keyd/disk.h"
#include "keyd/facts_terms.h"
#include "keyd/methods.h"
#include "keyd/notice.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "keyd/rules.h"
#include "keyd/sendmail.h"
#include "keyd/session.h"

/* ---- asking ---- */

/* It must be all that is missing: a request says nothing about clients that one may not open anyway. */
static bool is_what_is_missing(struct keyd *k, struct varlink_call *call, const struct asked *a, const struct policy_class *class)
{
	struct decision d;
	int r = decision_make(k, a, FACTS_LATEST, keyd_now(), &d);

	if (r < 0) {
		reply_failure(k, call, r, "the decision could not be made");
		return false;
	}
	if (strcmp(d.error, "ApprovalMissing") == 0 || (class && d.verdict == VERDICT_ALLOW))
		return true;
	if (d.verdict != VERDICT_ALLOW)
		varlink_error(call, d.error, d.message, d.remedy);
	else
		varlink_errorf(call, "NothingMissing", "mount it", "%s needs no approval, or has it", a->purpose);
	return false;
}

static bool params_class(struct keyd *k, struct varlink_call *call, const char *id, const struct policy_class **ret)
{
	*ret = id ? policy_class(k->policy, id) : NULL;
	if (!id || (*ret && (*ret)->approval))
		return true;
	varlink_errorf(call, *ret ? "NothingMissing" : "UnknownClass", "`coffer policy show` lists the classes",
		*ret ? "the class %s needs no approval" : "the policy knows no record class %s", id);
	return false;
}

static bool has_room(struct keyd *k, struct varlink_call *call, const char *user)
{
	json_t *rows = NULL;
	size_t n;
	int r = facts_requests(k->facts, user, keyd_now(), false, &rows);

	n = json_array_size(rows);
	json_decref(rows);
	if (r < 0)
		return reply_failure(k, call, r, "the requests cannot be read"), false;
	if (n >= JIT_OPEN_MAX)
		varlink_errorf(call, "TooMany", "wait until somebody has decided: `coffer requests` shows them",
			"%s has %zu requests that wait or hold", user, n);
	return n < JIT_OPEN_MAX;
}

static int64_t seconds_of(const struct keyd *k, const char *purpose, const struct policy_class *class)
{
	const struct policy_purpose *u = policy_purpose(k->policy, purpose);

	return class || !u ? JIT_CLASS_SECONDS : policy_period_add(keyd_now(), &u->approval) - keyd_now();
}

int keyd_request(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const struct peer *p = varlink_call_peer(call);
	struct asked a = {.user = p->user, .uid = p->uid};
	struct outbox_entry e = {.kind = "request", .by = actor_of(call)};
	struct fact_request q = {.uid = p->uid, .person = p->person, .expires_at = keyd_now() + JIT_OPEN_SECONDS};
	const struct policy_class *class = NULL;
	const char *reason, *class_id = NULL;
	struct fact_client c;
	int64_t id = 0;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s:s, s?s, s?s}", "client", &a.client, "purpose", &a.purpose, "reason",
		    &reason, "ticket", &a.ticket, "class", &class_id) ||
		!params_text(call, "reason", reason) || !params_text(call, "ticket", a.ticket) ||
		!params_class(k, call, class_id, &class) || !is_what_is_missing(k, call, &a, class) || !has_room(k, call, p->user))
		return 0;
	r = facts_client(k->facts, a.client, FACTS_LATEST, &c);
	if (r < 0)
		return reply_failure(k, call, r, "the client cannot be looked up");
	q.client = c.row;
	q.class = class ? class->number : 0;
	q.seconds = seconds_of(k, a.purpose, class);
	snprintf(q.user, sizeof(q.user), "%s", p->user);
	snprintf(q.purpose, sizeof(q.purpose), "%s", a.purpose);
	snprintf(q.ticket, sizeof(q.ticket), "%s", a.ticket ? a.ticket : "");
	snprintf(q.reason, sizeof(q.reason), "%s", reason);
	e.client = c.client;
	e.purpose = a.purpose;
	e.ticket = a.ticket;
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_request_add(k->facts, &q, keyd_now(), &id);
	e.detail = json_pack("{s:I, s:s, s:s?}", "request", (json_int_t)id, "reason", reason, "class", class_id);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the request is not kept");
	log_info("%s asks for an approval: request %lld", p->user, (long long)id);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:I, s:I}", "request", (json_int_t)id, "expires_at", (json_int_t)q.expires_at));
}

int keyd_request_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *mine = has_role(call, ROLES_OVERSIGHT) ? NULL : varlink_call_peer(call)->user;
	json_t *rows = NULL, *row;
	size_t i;
	int all = 0, r;

	if (!params_unpack(call, params, "{s?b}", "all", &all))
		return 0;
	r = facts_requests(k->facts, mine, keyd_now(), all, &rows);
	if (r < 0)
		return reply_failure(k, call, r, "the requests cannot be read");
	json_array_foreach(rows, i, row)
	{
		const struct policy_class *class = policy_class_by_number(
			k->policy, (uint16_t)json_integer_value(json_object_get(row, "class_number")));

		json_object_set_new(row, "class", class ? json_string(class->id) : json_null());
		json_object_del(row, "class_number");
	}
	return varlink_reply(call, json_pack("{s:o}", "requests", rows));
}

/* ---- deciding ---- */

static int decided(struct keyd *k, struct varlink_call *call, const struct fact_request *q, bool approve, int64_t until,
	const char *note)
{
	struct outbox_entry e = {.kind = approve ? "approve" : "deny", .by = actor_of(call), .purpose = q->purpose};
	struct fact_client c;
	int ended = 0, r = facts_client_by_row(k->facts, q->client, &c);

	if (r == 0) {
		e.client = c.client;
		r = facts_begin(k->facts);
	}
	if (r == 0 && q->decided)
		r = facts_request_revoke(k->facts, q->row, e.by, keyd_now());
	else if (r == 0)
		r = facts_request_decide(k->facts, q->row, approve, until, note, e.by, keyd_now());
	e.detail = json_pack("{s:I, s:s, s:I, s:s?}", "request", (json_int_t)q->row, "asked_by", q->user, "until",
		(json_int_t)until, "note", note);
	r = outbox_commit_with(k, r, &e);
	if (r == -ENOENT)
		return varlink_errorf(call, "UnknownRequest", "`coffer requests --all` shows them",
			"request %lld is decided, and holds no more", (long long)q->row);
	if (r < 0)
		return reply_failure(k, call, r, "the decision is not kept");
	if (!approve)
		ended = sessions_recheck(k, c.client, "the approval was taken back", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:I, s:i}", "until", (json_int_t)until, "sessions_ended", ended));
}

int keyd_request_decide(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct fact_request q;
	const char *note = NULL;
	json_int_t id;
	int approve, r;

	if (!params_unpack(call, params, "{s:I, s:b, s?s}", "request", &id, "approve", &approve, "note", &note) ||
		!params_text(call, "note", note))
		return 0;
	r = facts_request_get(k->facts, id, &q);
	if (r == -ENOENT)
		return varlink_errorf(
			call, "UnknownRequest", "`coffer requests` shows them", "there is no request %lld", (long long)id);
	if (r < 0)
		return reply_failure(k, call, r, "the request cannot be read");
	if (!person_is_another(call, q.user, q.uid, "decides about his own request:") ||
		!person_is_another(call, q.user, q.person, "decides about his own request:"))
		return 0;
	if (approve && q.decided)
		return varlink_errorf(call, "Decided", "he can ask again", "request %lld is decided already", (long long)id);
	if (!q.decided && q.expires_at <= keyd_now())
		return varlink_errorf(call, "Decided", "he can ask again", "request %lld has expired", (long long)id);
	return decided(k, call, &q, approve, approve ? keyd_now() + q.seconds : 0, note);
}

/* ---- emergencies ---- */

int jit_emergency_note(struct keyd *k, const struct session *s, uid_t person, int64_t *ret_review)
{
	const struct fact_session f = {.client = s->client_row, .user = s->user, .uid = person, .purpose = s->purpose};

	return facts_review_open(k->facts, &f, (int64_t)s->id, s->emergency, keyd_now(), ret_review);
}

void jit_emergency_tell(struct keyd *k, const struct session *s, int64_t review)
{
	const struct notice_alarm a = {.review = review, .client = s->client, .user = s->user, .purpose = s->purpose,
		.reason = s->emergency, .until = s->until, .policy = k->policy, .now = keyd_now()};
	scoped(close_fdp) int fd = statedir_open(&k->dir, "outbox", O_RDONLY | O_DIRECTORY, 0);
	scoped(freep) char *text = NULL;
	char name[NOTICE_NAME_MAX];
	int r = fd < 0 ? fd : notice_alarm_text(&a, &text);

	log_error("EMERGENCY: %s opened %s for %s without a grant (session %llu, review %lld): %s", s->user, s->client,
		s->purpose, (unsigned long long)s->id, (long long)review, s->emergency);
	snprintf(name, sizeof(name), "emergency-%lld-%s.eml", (long long)review, s->client);
	if (r == 0)
		r = disk_replace(fd, name, text, strlen(text));
	if (r == 0)
		notice_send(k, name, s->client);
	else
		log_error("the letter about it cannot be written: %s", strerror(-r));
}

/* ---- reviews ---- */

int keyd_review_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_t *rows = NULL;
	int all = 0, r;

	if (!params_unpack(call, params, "{s?b}", "all", &all))
		return 0;
	r = facts_reviews(k->facts, all, &rows);
	return reply_rows(k, call, r, "reviews", rows, "the reviews cannot be read");
}

int keyd_review_close(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "review-close", .by = actor_of(call)};
	struct fact_review v;
	struct fact_client c;
	const char *note;
	json_int_t id;
	int r;

	if (!params_unpack(call, params, "{s:I, s:s}", "review", &id, "note", &note) || !params_text(call, "note", note))
		return 0;
	r = facts_review_get(k->facts, id, &v);
	if (r == 0 && !v.closed && v.client)
		r = facts_client_by_row(k->facts, v.client, &c);
	if (r == -ENOENT || (r == 0 && v.closed))
		return varlink_errorf(call, "UnknownReview", "`coffer reviews` shows them", "there is no open review %lld",
			(long long)id);
	if (r < 0)
		return reply_failure(k, call, r, "the review cannot be read");
	if (!person_is_another(call, v.user, v.uid, "reviews what he did"))
		return 0;
	e.client = v.client ? c.client : NULL;
	e.detail = json_pack("{s:I, s:s, s:s}", "review", id, "of", v.user, "note", note);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_review_close(k->facts, id, note, e.by, keyd_now());
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the review is not kept");
	(void)outbox_deliver(k);
	return varlink_reply(call, NULL);
}
