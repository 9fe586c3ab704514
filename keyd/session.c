#include "keyd/session.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/fusectl.h"
#include "keyd/keyd.h"
#include "keyd/member.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"

/* A worker breaks a connection that has not ended after LATE_MS, and is killed END_GRACE_MS later: a second in all. */
#define LATE_MS 600
#define END_GRACE_MS 400
#define LATE_MORE_MS 100u /* for each other session that ends at the same time, which ... */
#define LATE_MORE_MAX_MS 2400u /* ... is at most this */

struct session *session_find(const struct keyd *k, uint64_t id)
{
	for (struct session *s = k->sessions; s; s = s->next)
		if (s->id == id)
			return s;
	return NULL;
}

const struct session *session_in_the_way(const struct keyd *k, const char *client, bool exclusive)
{
	for (const struct session *s = k->sessions; s; s = s->next)
		if (!s->member_of && strcmp(s->client, client) == 0 && (exclusive || s->exclusive))
			return s;
	return NULL;
}

void session_free(struct session *s)
{
	if (!s)
		return;
	free(s->purpose);
	free(s->ticket);
	free(s->mountpoint);
	free(s->emergency);
	free(s->classes);
	free(s);
}

int session_take_decision(struct session *s, const struct decision *d)
{
	uint16_t *classes = calloc(d->classes_count + 1, sizeof(*classes));

	if (!classes)
		return -ENOMEM;
	memcpy(classes, d->classes, d->classes_count * sizeof(*classes));
	free(s->classes);
	s->classes = classes;
	s->classes_count = d->classes_count;
	s->all_classes = d->all_classes;
	s->rights = d->rights;
	s->until = d->until;
	s->idle = d->idle;
	s->export = d->export;
	s->durability = d->durability;
	s->rules = d->rules;
	return 0;
}

static bool opens_class(const struct session *s, uint16_t class)
{
	for (size_t i = 0; i < s->classes_count; i++)
		if (s->classes[i] == class)
			return true;
	return s->all_classes;
}

void session_put_classes(const struct session *s, json_t *o)
{
	json_t *classes = s->all_classes ? json_null() : json_array(), *uncached = json_array();

	for (size_t i = 0; !s->all_classes && i < s->classes_count; i++)
		json_array_append_new(classes, json_integer(s->classes[i]));
	for (size_t i = 0; s->rules && i < s->rules->classes_count; i++)
		if (s->rules->classes[i].uncached)
			json_array_append_new(uncached, json_integer(s->rules->classes[i].number));
	json_object_set_new(o, "classes", classes);
	json_object_set_new(o, "uncached", uncached);
}

int session_put(struct keyd *k, struct session *s, const struct decision *d)
{
	const struct fact_session f = {
		.client = s->client_row,
		.user = s->user,
		.uid = s->uid,
		.purpose = s->purpose,
		.ticket = s->ticket,
		.rights = policy_rights_name(s->rights),
		.grant = d->grant,
		.until = s->until,
	};
	int64_t id;
	int r = facts_session_begin(k->facts, &f, s->since, &id);

	if (r == 0)
		s->id = (uint64_t)id;
	return r;
}

void session_put_export(const struct session *s, json_t *o)
{
	if (s->shell)
		json_object_set_new(o, "shell", json_true());
	if (s->export != EXPORT_FREE)
		json_object_set_new(o, "export", json_string(policy_export_name(s->export)));
	if (s->durability == DURABILITY_SYNC)
		json_object_set_new(o, "durability", json_string(policy_durability_name(s->durability)));
}

void session_enter(struct keyd *k, struct session *s, struct worker *w)
{
	s->worker = w;
	w->sessions++;
	s->expected_at = k->tick;
	s->next = k->sessions;
	k->sessions = s;
}

static void session_remove(struct keyd *k, struct session *s)
{
	for (struct session **p = &k->sessions; *p; p = &(*p)->next) {
		if (*p != s)
			continue;
		*p = s->next;
		break;
	}
	if (s->worker && --s->worker->sessions == 0)
		s->worker->idle_since = k->tick;
	session_free(s);
}

/* The users of a shared mount go with it. */
static void members_gone(struct keyd *k, uint64_t mount, const char *reason)
{
	struct session *s = k->sessions;

	while (s) {
		if (s->member_of != mount) {
			s = s->next;
			continue;
		}
		session_gone(k, s->id, reason);
		s = k->sessions;
	}
}

void session_gone(struct keyd *k, uint64_t id, const char *reason)
{
	struct session *s = session_find(k, id);
	int r;

	if (!s)
		return;
	r = facts_session_end(k->facts, (int64_t)id, reason, keyd_now());
	if (r < 0)
		log_error("the end of session %llu is not noted: %s", (unsigned long long)id, strerror(-r));
	session_remove(k, s);
	members_gone(k, id, reason);
}

void sessions_of_worker_break(struct keyd *k, const struct worker *w)
{
	for (const struct session *s = k->sessions; s; s = s->next) {
		scoped(close_fdp) int fd = -1;

		if (s->worker != w || s->connection == 0)
			continue;
		fd = fusectl_breaker(k->fusectl_fd, s->connection);
		if (fd >= 0 && write(fd, "1", 1) < 0)
			log_warning("the connection of session %llu cannot be ended: %s", (unsigned long long)s->id,
				strerror(errno));
	}
}

void sessions_of_worker_gone(struct keyd *k, struct worker *w, const char *reason)
{
	struct session *next;

	for (struct session *s = k->sessions; s; s = next) {
		next = s->next;
		if (s->worker != w)
			continue;
		session_gone(k, s->id, reason);
		next = k->sessions; /* a shared mount's users went with it */
	}
}

/* The fact and its record; the access itself has ended before, so a full disk does not keep it open. */
static void record_end(struct keyd *k, const struct session *s, const char *reason, struct actor by)
{
	struct outbox_entry e = {
		.kind = "session-end",
		.by = by,
		.client = s->client,
		.purpose = s->purpose,
		.ticket = s->ticket,
		.session = s->id,
		.detail = json_pack("{s:s, s:s}", "reason", reason, "session_user", s->user),
	};
	int r = outbox_put(k, &e);

	if (r < 0)
		log_error("the end of session %llu (%s) is not recorded: %s", (unsigned long long)s->id,
			reason, strerror(-r));
}

/* What is asked of one worker. */
struct ending {
	struct worker *worker;
	json_t *numbers;
	int begun;
};

static size_t sort_by_worker(const struct keyd *k, const uint64_t *ids, size_t n, struct ending *endings)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		const struct session *s = session_find(k, ids[i]);
		size_t w = 0;

		if (!s || !s->worker)
			continue;
		while (w < count && endings[w].worker != s->worker)
			w++;
		if (w == count)
			endings[count++] = (struct ending){.worker = s->worker, .numbers = json_array()};
		json_array_append_new(endings[w].numbers, json_integer((json_int_t)s->id));
	}
	return count;
}

/* The facts and the records of all in one transaction: a commit for each would make the last one wait for the disk as often
 * as there are sessions.  A full disk keeps no door open. */
static bool note_ends(struct keyd *k, const uint64_t *ids, size_t n, const char *reason, struct actor by)
{
	bool ours = facts_begin(k->facts) == 0; /* else each for itself, or in the transaction that there is */

	for (size_t i = 0; i < n; i++) {
		const struct session *s = session_find(k, ids[i]);

		if (!s)
			continue;
		record_end(k, s, reason, by);
		(void)facts_session_end(k->facts, (int64_t)ids[i], reason, keyd_now());
	}
	return ours;
}

/* Many share the processors, so each is given more time: its own connection is not to be broken, and its worker not killed
 * with the sessions of others, because of theirs. */
static int late_ms(size_t n)
{
	size_t more = LATE_MORE_MS * (n > 0 ? n - 1 : 0);

	return LATE_MS + (int)(more < LATE_MORE_MAX_MS ? more : LATE_MORE_MAX_MS);
}

/* All at once.  The doors are asked for before the commit, and waited for after it; if a worker dies of it, the reason given
 * here is in the transaction already, and stays. */
static void end_sessions(struct keyd *k, const uint64_t *ids, size_t n, const char *reason, int error, struct actor by)
{
	scoped(freep) struct ending *endings = calloc(n + 1, sizeof(*endings));
	const char *method = "org.coffer.worker.End";
	int late = late_ms(n), r;
	size_t count;
	bool ours;

	if (n == 0)
		return;
	if (!endings) { /* one after the other needs no memory of ours */
		for (size_t i = 0; n > 1 && i < n; i++)
			end_sessions(k, &ids[i], 1, reason, error, by);
		return;
	}
	ours = note_ends(k, ids, n, reason, by);
	count = sort_by_worker(k, ids, n, endings);
	for (size_t w = 0; w < count; w++)
		endings[w].begun = worker_call_begin(endings[w].worker, method,
			json_pack("{s:o, s:s, s:i, s:i}", "sessions", endings[w].numbers, "reason", reason, "errno", error, "late_ms",
				late),
			late + END_GRACE_MS);
	r = ours ? facts_commit(k->facts) : 0;
	if (r < 0) {
		facts_rollback(k->facts);
		log_error("%zu ends of sessions (%s) are not recorded: %s", n, reason, strerror(-r));
	}
	for (size_t w = 0; w < count; w++)
		(void)worker_call_finish(endings[w].worker, method, endings[w].begun);
	for (size_t i = 0; i < n; i++)
		session_gone(k, ids[i], reason);
}

void session_end(struct keyd *k, uint64_t id, const char *reason, int error, struct actor by)
{
	if (session_find(k, id))
		end_sessions(k, &id, 1, reason, error, by);
}

/* The ids first: ending one may, with its worker, end others. */
static size_t ids_of(const struct keyd *k, const char *client, uint64_t **ret)
{
	size_t n = 0, room = sessions_count(k);
	uint64_t *ids = calloc(room + 1, sizeof(*ids));

	for (const struct session *s = k->sessions; ids && s; s = s->next)
		if (!client || strcmp(s->client, client) == 0)
			ids[n++] = s->id;
	*ret = ids;
	return n;
}

int sessions_end(struct keyd *k, const char *client, const char *reason, int error, struct actor by)
{
	scoped(freep) uint64_t *ids = NULL;
	size_t n = ids_of(k, client, &ids);

	end_sessions(k, ids, n, reason, error, by);
	return (int)n;
}

/* The worker was told which classes it opens, and something of each may be open. */
static bool keeps_classes(const struct session *s, const struct decision *d)
{
	const struct session now = {
		.all_classes = d->all_classes, .classes = (uint16_t *)d->classes, .classes_count = d->classes_count};

	if (s->all_classes)
		return d->all_classes;
	for (size_t i = 0; i < s->classes_count; i++)
		if (!opens_class(&now, s->classes[i]))
			return false;
	return true;
}

static struct asked asked_by(const struct session *s)
{
	return (struct asked){
		.user = s->user,
		.uid = s->uid,
		.client = s->client,
		.purpose = s->purpose,
		.ticket = s->ticket,
		.rights = s->rights,
		.emergency = s->emergency,
		.shell = s->shell,
	};
}

static bool carries(const struct session *s, const struct decision *d)
{
	/* A program that runs is not confined afterwards. */
	return d->verdict == VERDICT_ALLOW && (d->rights & s->rights) == s->rights && keeps_classes(s, d) &&
	       (d->export != EXPORT_NO || s->export == EXPORT_NO) && d->durability <= s->durability;
}

bool session_would_stand(struct keyd *k, const struct session *s, const struct policy *rules, struct decision *ret)
{
	scoped(decision_groups_done) struct decision_groups groups = {0};
	const struct asked a = asked_by(s);

	return decision_groups(s->user, s->uid, &groups) == 0 &&
	       decision_make_under(k, &a, &groups, rules, keyd_now(), ret) == 0 && carries(s, ret);
}

/* Whether the decision that opened it would be the same now; its end moves forward with it, never back. */
static bool still_stands(struct keyd *k, struct session *s, bool if_unsure)
{
	struct asked a = asked_by(s);
	struct decision d;
	int r, may;

	if (s->shared)
		return members_mount_stands(k, s);
	r = decision_make(k, &a, FACTS_LATEST, keyd_now(), &d);
	may = r < 0 ? r : roles_uid_may_consult(k, s->uid);
	if (may < 0)
		return if_unsure;
	if (!may || !carries(s, &d))
		return false;
	if (d.until && (!s->until || d.until < s->until))
		s->until = d.until;
	s->rules = d.rules;
	if (d.export > s->export) /* how it was opened stays true of it */
		s->export = d.export;
	return true;
}

static int recheck(struct keyd *k, const char *client, const char *user, bool if_unsure, const char *reason,
	int error, struct actor by)
{
	scoped(freep) uint64_t *ids = NULL;
	size_t n = ids_of(k, client, &ids), fall = 0;

	for (size_t i = 0; i < n; i++) {
		struct session *s = session_find(k, ids[i]);

		if (s && (!user || strcmp(s->user, user) == 0) && !still_stands(k, s, if_unsure))
			ids[fall++] = ids[i];
	}
	end_sessions(k, ids, fall, reason, error, by);
	return (int)fall;
}

/* After a change: what cannot be decided does not stand. */
int sessions_recheck(struct keyd *k, const char *client, const char *reason, int error, struct actor by)
{
	return recheck(k, client, NULL, false, reason, error, by);
}

int sessions_recheck_user(struct keyd *k, const char *user, const char *reason, int error, struct actor by)
{
	return recheck(k, NULL, user, false, reason, error, by);
}

void sessions_rules_changed(struct keyd *k, uint64_t id)
{
	struct session *s = session_find(k, id);

	if (s && !still_stands(k, s, false))
		session_end(k, id, "the rules changed", EKEYREVOKED, FACTS_CLOCK);
}

int sessions_class_changed(struct keyd *k, const char *client, uint16_t class, struct actor by)
{
	scoped(freep) uint64_t *ids = NULL;
	size_t n = ids_of(k, client, &ids), fall = 0;

	for (size_t i = 0; i < n; i++) {
		const struct session *s = session_find(k, ids[i]);

		if (s && !s->shared && !opens_class(s, class))
			ids[fall++] = ids[i];
	}
	end_sessions(k, ids, fall, "a class label changed", EKEYREVOKED, by);
	return (int)fall;
}

/* Groups change without our hearing of it.  A name service that does not answer for a moment ends nothing. */
static void recheck_groups(struct keyd *k)
{
	if (k->tick % k->recheck_seconds == 0)
		recheck(k, NULL, NULL, true, "no grant holds any more", EKEYREVOKED, FACTS_CLOCK);
}

static void hand_down_breaker(struct keyd *k, struct session *s)
{
	scoped(close_fdp) int fd = fusectl_breaker(k->fusectl_fd, s->connection);
	json_int_t id = (json_int_t)s->id;

	s->breaker_due = false;
	if (fd < 0)
		return;
	(void)fsd_pass(k, "org.coffer.fsd.Breaker", json_pack("{s:I}", "session", id), fd);
	s = session_find(k, (uint64_t)id);
	if (s)
		(void)worker_pass(s->worker, "org.coffer.worker.Breaker", json_pack("{s:I}", "session", id), fd);
}

void sessions_tick(struct keyd *k)
{
	scoped(freep) uint64_t *over = NULL, *unused = NULL;
	size_t n = ids_of(k, NULL, &over), over_n = 0, unused_n = 0;
	int64_t now = keyd_now();

	n = ids_of(k, NULL, &unused) < n ? 0 : n; /* no memory: at the next tick */
	for (size_t i = 0; i < n; i++) {
		const struct session *s = session_find(k, over[i]);

		if (s->until && s->until <= now)
			over[over_n++] = s->id;
		else if (!s->attached && k->tick - s->expected_at > SESSION_TOKEN_SECONDS)
			unused[unused_n++] = s->id;
	}
	end_sessions(k, over, over_n, "its time is over", EKEYEXPIRED, FACTS_CLOCK);
	end_sessions(k, unused, unused_n, "never mounted", EKEYEXPIRED, FACTS_CLOCK);
	recheck_groups(k);
}

static int on_attached(sd_event_source *source, void *userdata)
{
	scoped(freep) uint64_t *ids = NULL;
	struct keyd *k = userdata;
	size_t n = ids_of(k, NULL, &ids);

	for (size_t i = 0; i < n; i++) {
		struct session *s = session_find(k, ids[i]);

		if (s && s->breaker_due)
			hand_down_breaker(k, s);
	}
	return 0;
}

/* The breaker goes down a moment later: this may be called in the middle of a call to coffer-fsd. */
size_t sessions_unattached(const struct keyd *k, uid_t uid)
{
	size_t n = 0;

	for (const struct session *s = k->sessions; s; s = s->next)
		n += s->uid == uid && !s->attached && !s->member_of;
	return n;
}

size_t sessions_of(const struct keyd *k, uid_t uid)
{
	size_t n = 0;

	for (const struct session *s = k->sessions; s; s = s->next)
		n += s->uid == uid && !s->member_of;
	return n;
}

void sessions_attached(struct keyd *k, uint64_t id, const char *mountpoint, unsigned connection)
{
	struct session *s = session_find(k, id);

	if (!s)
		return;
	s->attached = true;
	s->connection = connection;
	s->breaker_due = connection && sd_event_add_defer(k->event, NULL, on_attached, k) >= 0;
	free(s->mountpoint);
	s->mountpoint = mountpoint ? strdup(mountpoint) : NULL;
}

size_t sessions_count(const struct keyd *k)
{
	size_t n = 0;

	for (const struct session *s = k->sessions; s; s = s->next)
		n++;
	return n;
}

json_t *sessions_json(const struct keyd *k, uid_t uid)
{
	json_t *rows = json_array();

	for (const struct session *s = k->sessions; s; s = s->next) {
		json_t *row;

		if (uid != (uid_t)-1 && s->uid != uid)
			continue;
		row = json_pack("{s:I, s:s, s:s, s:I, s:s, s:s?, s:s, s:I, s:s?, s:s, s:I}", "session",
			(json_int_t)s->id, "client", s->client, "user", s->user, "uid", (json_int_t)s->uid,
			"purpose", s->purpose, "ticket", s->ticket, "rights", policy_rights_name(s->rights),
			"since", (json_int_t)s->since, "mountpoint", s->mountpoint, "state",
			s->attached ? "mounted" : "expected", "worker_pid", (json_int_t)s->worker->child.pid);
		json_object_set_new(row, "until", s->until ? json_integer(s->until) : json_null());
		if (s->shared)
			json_object_set_new(row, "shared", json_true());
		if (s->exclusive)
			json_object_set_new(row, "exclusive", json_true());
		session_put_export(s, row);
		if (s->member_of)
			json_object_set_new(row, "member_of", json_integer((json_int_t)s->member_of));
		json_array_insert_new(rows, 0, row); /* oldest first */
	}
	return rows;
}
