/* Questions: nothing here changes anything. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/scope.h"
#include "keyd/anchor.h"
#include "keyd/certificate.h"
#include "keyd/decision.h"
#include "keyd/expiry.h"
#include "keyd/holders.h"
#include "keyd/facts_terms.h"
#include "keyd/forecast.h"
#include "keyd/methods.h"
#include "keyd/rules.h"
#include "keyd/session.h"
#include "keyd/slots.h"


/* ---- Status ---- */

static void warn(json_t *warnings, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void warn(json_t *warnings, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(warnings, json_string(text));
}

static bool sandbox_has(const struct worker *w, const char *part)
{
	const json_t *v = json_object_get(w->sandbox, part);

	return json_is_true(v) || json_integer_value(v) > 0 || (json_is_string(v) && *json_string_value(v));
}

/* What the workers said; before the first one nothing is known. */
static json_t *sandbox_json(struct keyd *k, json_t *warnings)
{
	const struct worker *w = k->children.workers;

	if (!w)
		return json_pack("{s:n, s:n, s:b}", "landlock", "seccomp", "memory_locked", k->memory_locked);
	if (!sandbox_has(w, "landlock"))
		warn(warnings,
			"workers run without Landlock: this kernel does not have it, or it is switched off");
	if (!sandbox_has(w, "seccomp"))
		warn(warnings, "workers run without a seccomp filter");
	if (!sandbox_has(w, "memory_locked"))
		warn(warnings,
			"a worker's memory is not locked: plaintext may reach swap; raise the memlock limit");
	return w->sandbox ? json_incref(w->sandbox) : json_object();
}

static void common_warnings(struct keyd *k, json_t *warnings)
{
	char destruction[192];
	int64_t waiting = 0;

	if (keyd_is_sealed(k))
		warn(warnings, KEYD_SEALED_TEXT);
	if (k->clock.unconfirmed)
		warn(warnings,
			"the clock is not confirmed (%s): nothing is destroyed until a custodian runs "
			"`coffer clock "
			"confirm`",
			k->clock.reason);
	if (k->children.ledger_damaged)
		warn(warnings, "the ledger is damaged, or somebody wrote into it: nothing can be mounted; `coffer log "
			       "verify` says where, coffer(1) under FILES what to do");
	else if (!fsd_is_running(k))
		warn(warnings, "coffer-fsd is not running: nothing can be mounted");
	if (facts_outbox_count(k->facts, &waiting) == 0 && waiting > 0)
		warn(warnings, "%lld records wait to be taken into the book", (long long)waiting);
	if (!k->memory_locked)
		warn(warnings, "the memory of coffer-keyd is not locked as a whole: its keys are, copies "
			       "inside libraries "
			       "may reach swap");
	if (facts_reviews_open(k->facts, &waiting) == 0 && waiting > 0)
		warn(warnings, "%lld emergencies, or changes that gave more to who made them, wait for a review: `coffer reviews`", (long long)waiting);
	expiry_warning(k, destruction, sizeof(destruction));
	if (*destruction)
		warn(warnings, "%s", destruction);
	if (k->erase_undecided)
		warn(warnings, "whether an erasure is done cannot be told, since the keys of its client do not read: log/keyd.log names it; "
			"put keyd/keys back out of the newest backup (`coffer restore`)");
	if (k->shred_unfinished)
		warn(warnings, "a destruction is not complete: the old root key is not overwritten yet");
	if (*k->key_warning)
		warn(warnings, "%s", k->key_warning);
	if (*k->head_warning)
		warn(warnings, "%s", k->head_warning);
	if (k->embedded)
		warn(warnings,
			"one user holds all roles here: the record is evidence against outsiders only");
}

static int64_t count_clients(struct keyd *k)
{
	int64_t n = 0;

	return facts_clients_count(k->facts, &n) < 0 ? 0 : n;
}

static size_t count_workers(const struct keyd *k)
{
	size_t n = 0;

	for (const struct worker *w = k->children.workers; w; w = w->next)
		n++;
	return n;
}

int keyd_status(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_t *warnings = json_array(), *red = json_array(), *recovery = NULL, *o;

	o = json_pack("{s:s, s:s, s:s, s:b, s:s, s:{s:s, s:s, s:s}, s:{s:s, s:s}}", "version", COFFER_VERSION,
		"state", keyd_is_sealed(k) ? "sealed" : "open", "mode",
		k->embedded ? "embedded" : "installed", "separation", !k->embedded, "owner", k->owner_name,
		"policy", "name", k->policy->name, "version", k->policy->version, "hash",
		k->policy->text_hash, "clock", "state", k->clock.unconfirmed ? "unconfirmed" : "trusted",
		"reason", k->clock.reason);
	common_warnings(k, warnings);
	json_object_set_new(o, "directory", json_string(k->dir.root));
	/* Where keys lie, who holds them, and where heads go is nothing for everybody. */
	if (has_role(call, ROLES_OVERSIGHT | ROLE_OWNER)) {
		json_object_set_new(o, "slots", slots_json(k, warnings, red));
		recovery = holders_json(k, warnings);
		json_object_set_new(o, "anchors", anchors_json(k, warnings));
	} else {
		json_object_set_new(o, "anchors", json_array());
		json_object_set_new(o, "slots", json_array());
	}
	json_object_set_new(o, "recovery", recovery ? recovery : json_null());
	json_object_set_new(o, "sandbox", sandbox_json(k, warnings));
	json_object_set_new(o, "clients", json_integer((json_int_t)count_clients(k)));
	json_object_set_new(o, "sessions", json_integer((json_int_t)sessions_count(k)));
	json_object_set_new(o, "workers", json_integer((json_int_t)count_workers(k)));
	json_object_set_new(o, "fsd", json_string(fsd_state(k)));
	json_object_set_new(o, "red", red);
	json_object_set_new(o, "warnings", warnings);
	return varlink_reply(call, o);
}

/* ---- clients and access ---- */

static bool grant_is_mine(const json_t *row, const struct peer *p)
{
	const char *subject = json_string_value(json_object_get(row, "subject"));

	if (json_is_true(json_object_get(row, "group")))
		return nss_is_member(p->user, subject);
	return strcmp(subject, p->user) == 0 &&
	       json_integer_value(json_object_get(row, "uid")) == (json_int_t)p->uid;
}

static bool has_grant(struct keyd *k, const struct peer *p, const char *client)
{
	json_t *rows = NULL, *row;
	bool found = false;
	size_t i;

	if (facts_access(k->facts, client, FACTS_LATEST, keyd_now(), &rows) < 0)
		return false;
	json_array_foreach(rows, i, row) found = found || grant_is_mine(row, p);
	json_decref(rows);
	return found;
}

static json_t *time_or_null(int64_t t)
{
	return t ? json_integer(t) : json_null();
}

static json_t *client_row(struct keyd *k, const struct fact_client *c, int64_t now)
{
	json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s}", "client", c->client, "client_id", c->hex, "name",
		c->name, "email", c->email, "state", facts_client_state_name(c, now));
	size_t sessions = 0;

	for (const struct session *s = k->sessions; s; s = s->next)
		sessions += strcmp(s->client, c->client) == 0;
	json_object_set_new(row, "ended_on", time_or_null(c->ended_on));
	json_object_set_new(row, "destroy_on", time_or_null(expiry_destroy_on(rules_now(k, c->row), c, now)));
	json_object_set_new(row, "destroyed_on", time_or_null(c->destroyed_on));
	json_object_set_new(row, "held", json_boolean(c->held));
	json_object_set_new(row, "sessions", json_integer((json_int_t)sessions));
	return row;
}

int keyd_client_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	scoped(freep) struct fact_client *clients = NULL;
	json_t *rows;
	size_t n = 0;
	int r;

	r = facts_clients(k->facts, FACTS_LATEST, &clients, &n);
	if (r < 0)
		return reply_failure(k, call, r, "the clients cannot be read");
	rows = json_array();
	for (size_t i = 0; i < n; i++)
		if (has_role(call, ROLES_OVERSIGHT) ||
			has_grant(k, varlink_call_peer(call), clients[i].client))
			json_array_append_new(rows, client_row(k, &clients[i], keyd_now()));
	return varlink_reply(call, json_pack("{s:o}", "clients", rows));
}

/* A user's question covers what he has through his groups, as NSS knows them now. */
static bool row_concerns(const json_t *row, const char *user)
{
	const char *subject = json_string_value(json_object_get(row, "subject"));

	if (json_is_true(json_object_get(row, "group")))
		return nss_is_member(user, subject);
	return strcmp(subject, user) == 0;
}

static void finish_access_row(json_t *row)
{
	json_int_t party = json_integer_value(json_object_get(row, "party_number"));

	json_object_set_new(row, "party", json_string(policy_party_name((enum party)party)));
	json_object_del(row, "party_number");
	if (json_is_true(json_object_get(row, "group")))
		json_object_set_new(row, "uid", json_null());
}

int keyd_access(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *client = NULL, *user = NULL;
	int64_t at = FACTS_LATEST;
	json_t *rows = NULL, *kept, *row, *v;
	struct fact_client known;
	size_t i;
	int r;

	if (!params_unpack(call, params, "{s?s, s?s, s?o}", "client", &client, "user", &user, "at", &v) ||
		!params_time(call, params, "at", &at))
		return 0;
	if (client && has_role(call, ROLE_ADMIN | ROLE_AUDITOR) && !params_client(k, call, client, &known))
		return 0; /* others are not told which clients there are */
	r = facts_access(k->facts, client, at, keyd_now(), &rows);
	if (r < 0)
		return reply_failure(k, call, r, "the grants cannot be read");
	kept = json_array();
	json_array_foreach(rows, i, row)
	{
		if (!has_role(call, ROLE_ADMIN | ROLE_AUDITOR) &&
			!grant_is_mine(row, varlink_call_peer(call)))
			continue;
		if (user && !row_concerns(row, user))
			continue;
		finish_access_row(row);
		json_array_append(kept, row);
	}
	json_decref(rows);
	return varlink_reply(call, json_pack("{s:o}", "grants", kept));
}

struct asker {
	const struct peer *peer;
	struct decision_groups groups;
};

static void asker_done(struct asker *q)
{
	decision_groups_done(&q->groups);
}

static json_t *share_row(struct keyd *k, const json_t *grant, const struct policy_purpose *purpose, const struct fact_client *c,
	const struct asker *q)
{
	const struct asked a = {.user = q->peer->user, .uid = q->peer->uid, .client = c->client, .purpose = purpose->id, .shell = true};
	const struct policy_purpose *here;
	struct decision d;
	json_t *row;

	row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:O, s:O, s:b, s:b}", "client", c->client, "name", c->name, "state",
		facts_client_state_name(c, keyd_now()), "purpose", purpose->id, "title", purpose->title, "rights",
		json_object_get(grant, "rights"), "until", json_object_get(grant, "until"), "ticket_required",
		purpose->ticket_required, "approval_required", !policy_period_is_zero(&purpose->approval));
	/* What a mount would say now, but for the ticket, which it does not know yet. */
	if (decision_make_with(k, &a, &q->groups, FACTS_LATEST, keyd_now(), &d) < 0)
		return row;
	if (d.verdict != VERDICT_ALLOW && strcmp(d.error, "TicketMissing") != 0)
		json_object_set_new(row, "refused", json_string(d.message));
	here = policy_purpose(d.rules, purpose->id); /* by the client's agreement, too */
	if (here && here->export != EXPORT_FREE)
		json_object_set_new(row, "export", json_string(policy_export_name(here->export)));
	return row;
}

/* A grant for a node is one for each purpose below it. */
static void add_shares(struct keyd *k, json_t *rows, const json_t *grant, const struct asker *q)
{
	const char *covers = json_string_value(json_object_get(grant, "purpose"));
	struct fact_client c;

	if (facts_client_brief(k->facts, json_string_value(json_object_get(grant, "client")), FACTS_LATEST, &c) < 0)
		return;
	for (size_t i = 0; i < k->policy->purposes_count; i++) {
		const struct policy_purpose *u = &k->policy->purposes[i];

		if (!u->node && policy_covers(k->policy, covers, u))
			json_array_append_new(rows, share_row(k, grant, u, &c, q));
	}
}

int shares_of(struct keyd *k, const struct peer *p, json_t **ret)
{
	scoped(asker_done) struct asker q = {.peer = p};
	json_t *grants = NULL, *rows, *grant;
	size_t i;
	int r;

	r = decision_groups(p->user, p->uid, &q.groups);
	if (r == 0)
		r = facts_access_of(k->facts, p->user, p->uid, (const char *const *)q.groups.name, q.groups.n, keyd_now(),
			&grants);
	if (r < 0)
		return r;
	rows = json_array();
	json_array_foreach(grants, i, grant) add_shares(k, rows, grant, &q);
	json_decref(grants);
	*ret = rows;
	return 0;
}

int keyd_shares(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_t *rows = NULL;
	int r = shares_of(k, varlink_call_peer(call), &rows);

	return reply_rows(k, call, r, "shares", rows, "the grants cannot be read");
}

int keyd_why(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const struct peer *p = varlink_call_peer(call);
	int64_t at = FACTS_LATEST;
	struct asked a = {.shell = true}; /* the step says when an ordinary mount would not do */
	const char *class = NULL;
	struct decision d;
	gid_t gid;
	json_t *v, *answer;
	int r;

	if (!params_unpack(call, params, "{s?s, s:s, s:s, s?s, s?o, s?s, s?s}", "user", &a.user, "client", &a.client,
		    "purpose", &a.purpose, "ticket", &a.ticket, "at", &v, "class", &class, "emergency", &a.emergency) ||
		!params_time(call, params, "at", &at))
		return 0;
	if (!a.user)
		a.user = p->user;
	if (strcmp(a.user, p->user) == 0) {
		a.uid = p->uid;
	} else if (!has_role(call, ROLE_ADMIN | ROLE_AUDITOR)) {
		return varlink_error(call, "PermissionDenied",
			"why another may enter is for admins and auditors",
			"ask about yourself, or ask one of them");
	} else if (nss_user(a.user, &a.uid, &gid) < 0) {
		return varlink_errorf(call, "UnknownUser", "`getent passwd` lists the users of this host",
			"this host knows no user %s", a.user);
	}
	if (class && policy_class(k->policy, class))
		a.class = policy_class(k->policy, class)->number;
	else if (class)
		a.class = UINT16_MAX; /* of no policy */
	r = decision_make(k, &a, at, at == FACTS_LATEST ? keyd_now() : at, &d);
	if (r < 0)
		return reply_failure(k, call, r, "the decision could not be made");
	answer = decision_detail(&d);
	json_object_set_new(answer, "verdict", json_string(d.verdict == VERDICT_ALLOW ? "allow" : "deny"));
	json_object_set_new(answer, "error", json_string(d.error));
	json_object_set_new(answer, "remedy", json_string(d.remedy));
	return varlink_reply(call, answer);
}

int keyd_sessions(struct varlink_call *call, json_t *params, void *userdata)
{
	uid_t uid = has_role(call, ROLES_OVERSIGHT) ? (uid_t)-1 : varlink_call_peer(call)->uid;

	struct keyd *k = userdata;
	const char *client = NULL;
	json_t *rows = NULL;
	int ended = 0, r;

	if (!params_unpack(call, params, "{s?b, s?s}", "ended", &ended, "client", &client))
		return 0;
	if (!ended)
		return varlink_reply(call, json_pack("{s:o}", "sessions", sessions_json(k, uid)));
	r = facts_sessions_ended(k->facts, client, uid, &rows);
	return reply_rows(k, call, r, "sessions", rows, "the sessions cannot be read");
}

int keyd_hold_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *client = NULL;
	json_t *rows = NULL;
	int r;

	if (!params_unpack(call, params, "{s?s}", "client", &client))
		return 0;
	r = facts_holds(k->facts, client, &rows);
	if (r == 0)
		expiry_name_classes(k->policy, rows);
	return reply_rows(k, call, r, "holds", rows, "the holds cannot be read");
}

int keyd_retention_forecast(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *client = NULL;
	json_t *rows = NULL;
	int r;

	if (!params_unpack(call, params, "{s?s}", "client", &client))
		return 0;
	r = expiry_forecast(k, client, &rows);
	return reply_rows(k, call, r, "forecast", rows, "the clients cannot be read");
}

/* From the file beside the facts: it carries the public key also while the keys are sealed. */
static json_t *stored_certificate(struct keyd *k, const char *client)
{
	char path[CLIENT_NAME_MAX + 32];
	scoped(close_fdp) int fd = -1;

	snprintf(path, sizeof(path), "certificates/%s.json", client);
	fd = openat(k->keyd_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? NULL : json_loadfd(fd, 0, NULL);
}

int keyd_certificate(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct fact_client c;
	const char *client;
	json_t *o;

	if (!params_unpack(call, params, "{s:s}", "client", &client) || !params_client(k, call, client, &c))
		return 0;
	if (!c.destroyed_on)
		return varlink_errorf(call, "NotDestroyed",
			"`coffer retention forecast` shows when it is due",
			"%s is not destroyed: there is no certificate", c.client);
	o = stored_certificate(k, c.client);
	if (!o)
		return varlink_errorf(call, "Failed", "its text and signature stand in keyd/facts.db too",
			"the file keyd/certificates/%s.json is missing or damaged", c.client);
	return varlink_reply(call, o);
}
