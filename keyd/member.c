#include "keyd/member.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/expiry.h"
#include "keyd/keyd.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/rules.h"
#include "keyd/session.h"

#define RECORD_AGAIN 60 /* seconds: one record of a refusal for each uid and reason */
#define REFUSALS_MAX 4096u
#define ACCESS_EVERY 60 /* seconds: grants begin and end, groups change, without a word to us */
#define NSS_BUFFER (1u << 20)

struct wanted {
	struct wanted *next;
	uint64_t session;
	uid_t uid;
	gid_t gid;
};

struct refusal {
	struct refusal *next;
	uint64_t session, recorded_at; /* tick */
	uid_t uid;
	char error[32];
};

struct member_work {
	struct wanted *first, **last;
	struct refusal *refusals;
	unsigned refusal_count;
	bool access_changed;
	sd_event_source *source;
};

static void on_wanted_all(struct keyd *k);

static int on_deferred(sd_event_source *source, void *userdata)
{
	on_wanted_all(userdata);
	return 0;
}

static struct member_work *work_of(struct keyd *k)
{
	struct member_work *w = k->members;

	if (w)
		return w;
	w = calloc(1, sizeof(*w));
	if (!w || sd_event_add_defer(k->event, &w->source, on_deferred, k) < 0) {
		free(w);
		return NULL;
	}
	sd_event_source_set_enabled(w->source, SD_EVENT_OFF);
	w->last = &w->first;
	k->members = w;
	return w;
}

void member_wanted(struct keyd *k, uint64_t session, uid_t uid, gid_t gid)
{
	struct member_work *w = work_of(k);
	struct wanted *n = w ? malloc(sizeof(*n)) : NULL;

	if (!n)
		return; /* the worker refuses him when no answer comes, and asks again */
	*n = (struct wanted){.session = session, .uid = uid, .gid = gid};
	*w->last = n;
	w->last = &n->next;
	sd_event_source_set_enabled(w->source, SD_EVENT_ONESHOT);
}

static void refusals_free(struct member_work *w)
{
	for (struct refusal *r = w->refusals, *next; r; r = next) {
		next = r->next;
		free(r);
	}
	w->refusals = NULL;
	w->refusal_count = 0;
}

void members_done(struct keyd *k)
{
	struct member_work *w = k->members;

	if (!w)
		return;
	for (struct wanted *n = w->first, *next; n; n = next) {
		next = n->next;
		free(n);
	}
	refusals_free(w);
	sd_event_source_disable_unref(w->source);
	free(w);
	k->members = NULL;
}

/* ---- one decision ---- */

static void user_name(uid_t uid, char ret[256])
{
	scoped(freep) char *buf = malloc(NSS_BUFFER);
	struct passwd p, *found = NULL;

	if (buf && getpwuid_r(uid, &p, buf, NSS_BUFFER, &found) == 0 && found)
		snprintf(ret, 256, "%s", p.pw_name);
	else
		snprintf(ret, 256, "%u", (unsigned)uid);
}

static json_t *detail(const struct decision *d, uint64_t mount)
{
	json_t *o = decision_detail(d);

	json_object_set_new(o, "mount", json_integer((json_int_t)mount));
	return o;
}

/* True once for each uid and reason in RECORD_AGAIN seconds: a loop of `ls` must not fill the book. */
static bool is_news(struct keyd *k, uint64_t mount, uid_t uid, const char *error)
{
	struct member_work *w = k->members;
	struct refusal *r = w->refusals;

	while (r && (r->session != mount || r->uid != uid))
		r = r->next;
	if (r && strcmp(r->error, error) == 0 && k->tick - r->recorded_at < RECORD_AGAIN)
		return false;
	if (!r && w->refusal_count >= REFUSALS_MAX)
		refusals_free(w);
	if (!r) {
		r = calloc(1, sizeof(*r));
		if (!r)
			return true;
		r->next = w->refusals;
		w->refusals = r;
		w->refusal_count++;
	}
	r->session = mount;
	r->uid = uid;
	r->recorded_at = k->tick;
	snprintf(r->error, sizeof(r->error), "%s", error);
	return true;
}

static void refuse_member(
	struct keyd *k, const struct session *mount, const struct asked *a, const struct decision *d)
{
	struct outbox_entry e = {
		.kind = "refused",
		.outcome = *d->error ? d->error : "NotGranted",
		.by = {.user = a->user, .uid = a->uid},
		.client = a->client,
		.purpose = a->purpose,
		.ticket = a->ticket,
	};

	if (!is_news(k, mount->id, a->uid, e.outcome))
		return;
	e.detail = detail(d, mount->id);
	expiry_alarm(k, a->client, a->purpose, e.outcome, e.by);
	if (outbox_put(k, &e) < 0 || outbox_deliver(k) < 0)
		log_warning("the refusal of uid %u at session %llu waits to be recorded", (unsigned)a->uid,
			(unsigned long long)mount->id);
}

static struct session *member_new(
	const struct session *mount, const struct asked *a, const struct decision *d, gid_t gid)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	memcpy(s->client, mount->client, sizeof(s->client));
	memcpy(s->hex, mount->hex, sizeof(s->hex));
	snprintf(s->user, sizeof(s->user), "%s", a->user);
	s->client_row = mount->client_row;
	s->member_of = mount->id;
	s->uid = a->uid;
	s->gid = gid;
	s->purpose = strdup(mount->purpose);
	s->ticket = mount->ticket ? strdup(mount->ticket) : NULL;
	s->mountpoint = mount->mountpoint ? strdup(mount->mountpoint) : NULL;
	s->since = keyd_now();
	s->attached = true;
	if (session_take_decision(s, d) < 0 || !s->purpose || (mount->ticket && !s->ticket)) {
		session_free(s);
		return NULL;
	}
	return s;
}

/* The session and the record of its decision, in one transaction; in the book when this returns 0. */
static int write_down(struct keyd *k, struct session *s, const struct decision *d)
{
	struct outbox_entry e = {
		.kind = "enter",
		.by = {.user = s->user, .uid = s->uid},
		.client = s->client,
		.purpose = s->purpose,
		.ticket = s->ticket,
	};
	int r = facts_begin(k->facts);

	if (r == 0)
		r = session_put(k, s, d);
	e.session = s->id;
	e.detail = detail(d, s->member_of);
	r = outbox_commit_with(k, r, &e);
	return r < 0 ? r : outbox_deliver(k);
}

static int tell_fsd(struct keyd *k, const struct session *s)
{
	struct varlink_failure failure = {0};
	json_t *o;
	int r;

	o = json_pack("{s:I, s:s, s:s, s:I, s:s, s:s, s:s, s:s?, s:I}", "session", (json_int_t)s->id,
		"client_id", s->hex, "user", s->user, "uid", (json_int_t)s->uid, "client", s->client,
		"purpose", s->purpose, "rights", policy_rights_name(s->rights), "ticket", s->ticket,
		"member_of", (json_int_t)s->member_of);
	r = fsd_call(k, "org.coffer.fsd.SessionExpected", o, NULL, &failure);
	if (r == -EREMOTEIO)
		log_error("coffer-fsd refuses a member's session: %s", failure.message);
	return r;
}

/* s NULL: refused.  The worker may die of it, and everything of its sessions with it. */
static int tell_worker(struct worker *w, uint64_t mount, uid_t uid, const struct session *s)
{
	struct varlink_failure failure = {0};
	json_t *o;
	int r;

	o = json_pack("{s:I, s:I, s:I, s:s, s:I, s:i, s:I}", "session", (json_int_t)mount, "uid", (json_int_t)uid, "member",
		(json_int_t)(s ? s->id : 0), "rights", s ? policy_rights_name(s->rights) : "r", "until",
		(json_int_t)(s ? s->until : 0), "errno", s ? 0 : EACCES, "idle",
		(json_int_t)(s ? s->idle : 0));
	if (s)
		session_put_classes(s, o);
	r = worker_call(w, "org.coffer.worker.MemberDecided", o, WORKER_TIMEOUT_MS, &failure);
	if (r == -EREMOTEIO)
		log_warning("the worker does not take a decision: %s", failure.message);
	return r;
}

/* Written down, and then not let in after all: that is written down too. */
static void undo(struct keyd *k, const struct session *s, int error)
{
	struct outbox_entry e = {
		.kind = "mount-failed",
		.outcome = "Failed",
		.by = {.user = s->user, .uid = s->uid},
		.client = s->client,
		.purpose = s->purpose,
		.session = s->id,
	};

	log_error("uid %u is not let in at session %llu: %s", (unsigned)s->uid,
		(unsigned long long)s->member_of, strerror(-error));
	if (!s->id)
		return;
	e.detail = json_pack("{s:s}", "error", strerror(-error));
	(void)facts_session_end(k->facts, (int64_t)s->id, "not let in", keyd_now());
	(void)outbox_put(k, &e);
}

static bool let_in(struct keyd *k, const struct session *mount, struct session *s, const struct decision *d)
{
	struct worker *w = mount->worker;
	uint64_t id, number = mount->id;
	uid_t uid = s->uid;
	int r = write_down(k, s, d);

	if (r == 0)
		r = tell_fsd(k, s);
	if (r < 0) {
		undo(k, s, r);
		session_free(s);
		return false;
	}
	id = s->id;
	session_enter(k, s, w);
	r = tell_worker(w, number, uid, s);
	if (r == -EREMOTEIO) /* he did not wait any more; he will ask again */
		session_end(k, id, "not let in", EKEYREVOKED, FACTS_CLOCK);
	return true;
}

static bool is_member(const struct keyd *k, uint64_t mount, uid_t uid)
{
	for (const struct session *s = k->sessions; s; s = s->next)
		if (s->member_of == mount && s->uid == uid)
			return true;
	return false;
}

/* As for a mount of his own. */
static int decide_member(struct keyd *k, const struct asked *a, struct decision *d)
{
	int r = decision_make(k, a, FACTS_LATEST, keyd_now(), d);
	int may = r == 0 ? roles_uid_may_consult(k, a->uid) : r;

	if (may == 0 && d->verdict == VERDICT_ALLOW) {
		d->verdict = VERDICT_DENY;
		snprintf(d->error, sizeof(d->error), "RolesTogether");
		snprintf(d->message, sizeof(d->message), "%s has a role beside which he may open no client here", a->user);
	}
	return may < 0 ? may : r;
}

static void decide_one(struct keyd *k, const struct wanted *n)
{
	struct session *mount = session_find(k, n->session), *s = NULL;
	struct asked a = {.uid = n->uid};
	struct decision d;
	char user[256];
	bool in = false;

	if (!mount || !mount->shared || !mount->worker || is_member(k, n->session, n->uid))
		return;
	user_name(n->uid, user);
	a.user = user;
	a.client = mount->client;
	a.purpose = mount->purpose;
	a.ticket = mount->ticket;
	a.rights = mount->rights == RIGHTS_READ ? RIGHTS_READ : RIGHTS_NONE;
	if (decide_member(k, &a, &d) < 0 || d.verdict != VERDICT_ALLOW) {
		refuse_member(k, mount, &a, &d);
	} else {
		s = member_new(mount, &a, &d, n->gid);
		in = s && let_in(k, mount, s, &d);
	}
	if (!in)
		(void)tell_worker(mount->worker, n->session, n->uid, NULL);
}

static void on_wanted_all(struct keyd *k)
{
	struct member_work *w = k->members;
	struct wanted *n;

	while ((n = w->first)) {
		w->first = n->next;
		if (!w->first)
			w->last = &w->first;
		decide_one(k, n);
		free(n);
	}
}

/* ---- the access list ---- */

static void add_access(json_t *list, const json_t *row)
{
	bool group = json_is_true(json_object_get(row, "group"));
	json_int_t id = json_integer_value(json_object_get(row, "uid"));
	gid_t gid;

	if (group && nss_group(json_string_value(json_object_get(row, "subject")), &gid) < 0)
		return;
	json_array_append_new(list, json_pack("{s:I, s:b, s:O}", "id", group ? (json_int_t)gid : id, "group",
					    group, "rights", json_object_get(row, "rights")));
}

int members_tell_access(struct keyd *k, const struct session *s)
{
	const struct policy *rules = rules_now(k, s->client_row);
	const struct policy_purpose *used = policy_purpose(rules, s->purpose);
	json_t *rows = NULL, *row, *list;
	int64_t now = keyd_now();
	size_t i;
	int r;

	r = facts_access(k->facts, s->client, FACTS_LATEST, now, &rows);
	if (r < 0)
		return r;
	list = json_array();
	json_array_foreach(rows, i, row)
	{
		const char *purpose = json_string_value(json_object_get(row, "purpose"));

		if (purpose && used && policy_covers(rules, purpose, used) &&
			json_integer_value(json_object_get(row, "from")) <= now)
			add_access(list, row);
	}
	json_decref(rows);
	return worker_call(s->worker, "org.coffer.worker.AccessList",
		json_pack("{s:I, s:o}", "session", (json_int_t)s->id, "access", list), WORKER_TIMEOUT_MS,
		NULL);
}

void members_access_changed(struct keyd *k)
{
	struct member_work *w = work_of(k);

	if (w)
		w->access_changed = true;
}

bool members_mount_stands(struct keyd *k, const struct session *s)
{
	struct decision d;

	return members_decide_mount(k, s->client, s->purpose, s->ticket, &d) == 0 && d.verdict == VERDICT_ALLOW &&
	       d.durability <= s->durability;
}

/* Asked for a user of its own who may everything that a user may be granted; what is left is what holds for all. */
int members_decide_mount(struct keyd *k, const char *client, const char *purpose, const char *ticket, struct decision *ret)
{
	const struct asked a = {.user = "*", .uid = (uid_t)-1, .client = client, .purpose = purpose, .ticket = ticket};

	return decision_make_shared(k, &a, keyd_now(), ret);
}

void members_tick(struct keyd *k)
{
	struct member_work *w = k->members;

	if (!w || (!w->access_changed && k->tick % ACCESS_EVERY != 0))
		return;
	w->access_changed = false;
	for (const struct session *s = k->sessions; s; s = s->next) {
		if (!s->shared || !s->attached)
			continue;
		if (members_tell_access(k, s) < 0)
			w->access_changed = true;
		if (w->access_changed)
			return; /* its worker may be gone, and the list with it */
	}
}
