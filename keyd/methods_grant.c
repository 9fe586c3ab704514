/* Who may enter: Grant and Revoke. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "common/utf8.h"
#include "keyd/decision.h"
#include "keyd/member.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "keyd/rules.h"
#include "keyd/session.h"

struct subject {
	const char *user, *group; /* one of them */
	const char *name;
};

/* Why a grant is refused: for one, or with its line for many. */
struct problem {
	char error[32], message[384], remedy[192];
};

__attribute__((format(printf, 4, 5))) static bool refuse(
	struct problem *p, const char *error, const char *remedy, const char *fmt, ...)
{
	va_list ap;

	snprintf(p->error, sizeof(p->error), "%s", error);
	snprintf(p->remedy, sizeof(p->remedy), "%s", remedy ? remedy : "");
	va_start(ap, fmt);
	vsnprintf(p->message, sizeof(p->message), fmt, ap);
	va_end(ap);
	utf8_mend(p->message);
	return false;
}

static bool params_subject(struct varlink_call *call, struct subject *s)
{
	if (!s->user == !s->group) {
		varlink_error(call, "org.varlink.service.InvalidParameter",
			"a grant is to a user or to a group", "name one of them");
		return false;
	}
	s->name = s->user ? s->user : s->group;
	return params_text(call, "the name", s->name);
}

/* Who forgot --group is told. */
static bool is_only_a_group(const struct subject *s)
{
	uid_t uid;
	gid_t gid;

	return s->user && nss_user(s->user, &uid, &gid) == -ENOENT && nss_group(s->user, &gid) == 0;
}

static bool subject_exists(const struct subject *s, struct fact_grant *g, struct problem *p)
{
	gid_t gid;
	int r;

	r = s->user ? nss_user(s->user, &g->uid, &gid) : nss_group(s->group, &gid);
	g->subject = s->name;
	g->is_group = s->group;
	if (r == -ENOENT)
		return refuse(p, s->user ? "UnknownUser" : "UnknownGroup",
			is_only_a_group(s) ? "it is a group: --group"
			: s->user	   ? "`getent passwd` lists the users of this host"
					   : "`getent group` lists the groups of this host",
			"this host knows no %s %s", s->user ? "user" : "group", s->name);
	if (r < 0)
		return refuse(p, "Failed", NULL, "the name %s cannot be looked up: %s", s->name, strerror(-r));
	return true;
}

/* In the embedded default one person has all roles, and status says so; else nobody lets himself in. */
static bool is_not_himself(struct keyd *k, const struct peer *by, const struct fact_grant *g, struct problem *p)
{
	bool himself = g->is_group ? person_is_member(by, g->subject) : person_is(by, g->subject, g->uid);

	if (person_is_alone(k, by) || !himself)
		return true;
	return refuse(p, "OwnGrant", "ask another admin", "%s cannot grant access to himself%s", by->user,
		g->is_group ? " through a group that he is in" : "");
}

static bool party_is_satisfied(struct keyd *k, const struct fact_grant *g, struct problem *p)
{
	const struct policy_party *party = policy_party(k->policy, g->party);

	if (party && party->reference_required && !g->reference)
		return refuse(p, "ReferenceMissing", "name the request it rests on: --reference",
			"a grant to this party needs a reference (%s)", party->title);
	if (party && party->until_required && !g->until)
		return refuse(p, "UntilMissing", "say when it ends: --until", "a grant to this party needs an end (%s)",
			party->title);
	return true;
}

/* By the client's agreement, too: what it permits could not be granted else. */
static bool rights_are_allowed(struct keyd *k, const struct fact_client *c, const struct fact_grant *g, struct problem *p)
{
	const struct policy_purpose *purpose = policy_purpose(rules_now(k, c->row), g->purpose);

	if (!purpose)
		return refuse(p, "UnknownPurpose", "`coffer policy show` lists the purposes", "the policy %s knows no purpose %s",
			k->policy->name, g->purpose);
	if (purpose->node && g->rights != RIGHTS_NONE)
		return true; /* each of those below it says itself what it allows */
	if ((g->rights & purpose->rights) == g->rights && g->rights != RIGHTS_NONE)
		return true;
	return refuse(p, "InvalidRights", "grant less, or for another purpose", "the purpose %s allows %s at most (%s)",
		purpose->id, policy_rights_name(purpose->rights), purpose->source);
}

static bool grant_is_good(struct keyd *k, const struct peer *by, const struct fact_client *c, const struct subject *s,
	struct fact_grant *g, struct problem *p)
{
	if (g->from == 0)
		g->from = keyd_now();
	if (g->until && g->until <= g->from)
		return refuse(p, "InvalidDate", "give a later --until", "the grant would end before it begins");
	if (!rights_are_allowed(k, c, g, p) || !party_is_satisfied(k, g, p) || !subject_exists(s, g, p) ||
		!is_not_himself(k, by, g, p))
		return false;
	if (c->destroyed_on || c->destroying)
		return refuse(p, "Destroyed", NULL, "%s is destroyed: there is nothing to grant", c->client);
	return true;
}

static json_t *grant_detail(const struct fact_grant *g, int64_t id)
{
	return json_pack("{s:I, s:s, s:b, s:s, s:s, s:s?, s:s?, s:I, s:I}", "grant", (json_int_t)id, "subject",
		g->subject, "group", g->is_group, "rights", policy_rights_name(g->rights), "party",
		policy_party_name(g->party), "reference", g->reference, "organisation", g->organisation, "from",
		(json_int_t)g->from, "until", (json_int_t)g->until);
}

/* Fact and record, in the caller's transaction. */
static int grant_put(struct keyd *k, const struct fact_client *c, const struct fact_grant *g, struct actor by, int64_t *ret_id)
{
	struct outbox_entry e = {.kind = "grant", .by = by, .client = c->client, .purpose = g->purpose};
	int r = facts_grant_add(k->facts, c->row, g, by, keyd_now(), ret_id);

	if (r < 0)
		return r;
	e.detail = grant_detail(g, *ret_id);
	return outbox_put(k, &e);
}

int keyd_grant(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *client, *rights, *party = NULL;
	struct fact_grant g = {.uid = (uid_t)-1};
	struct subject subject = {0};
	json_t *from = NULL, *until = NULL;
	struct problem problem;
	struct fact_client c;
	int64_t id = 0;
	int r;

	if (!params_unpack(call, params, "{s:s, s?s, s?s, s:s, s:s, s?o, s?o, s?s, s?s, s?s}", "client", &client,
		    "user", &subject.user, "group", &subject.group, "purpose", &g.purpose, "rights", &rights,
		    "from", &from, "until", &until, "party", &party, "reference", &g.reference,
		    "organisation", &g.organisation) ||
		!params_text(call, "organisation", g.organisation) ||
		!params_subject(call, &subject) || !params_text(call, "reference", g.reference) ||
		!params_client(k, call, client, &c) || !params_rights(call, rights, &g.rights) ||
		!params_time(call, params, "from", &g.from) || !params_time(call, params, "until", &g.until))
		return 0;
	if (party && policy_party_parse(party, &g.party) < 0)
		return varlink_errorf(call, "UnknownParty", "employee, provider, partner or affiliate",
			"there is no party %s", party);
	if (!grant_is_good(k, varlink_call_peer(call), &c, &subject, &g, &problem))
		return varlink_error(call, problem.error, problem.message, *problem.remedy ? problem.remedy : NULL);
	r = facts_begin(k->facts);
	if (r == 0)
		r = grant_put(k, &c, &g, actor_of(call), &id);
	if (r == 0)
		r = outbox_commit(k);
	if (r < 0)
		return reply_failure(k, call, r, "the grant is not kept");
	members_access_changed(k);
	return varlink_reply(call, json_pack("{s:I}", "grant", (json_int_t)id));
}

/* ---- many at once ---- */

#define IMPORT_PROBLEMS 100u /* that are told */

static bool row_time(const json_t *row, const char *key, int64_t *ret, struct problem *p)
{
	const char *text = json_string_value(json_object_get(row, key));

	if (!text || date_parse(text, keyd_now(), ret) == 0)
		return true;
	return refuse(p, "InvalidDate", NULL, "\"%s\" is no date: write 2026-12-31", text);
}

static bool row_read(struct keyd *k, const struct peer *by, const json_t *row, struct fact_client *c, struct fact_grant *g,
	struct problem *p)
{
	const char *client = NULL, *rights = NULL, *party = NULL;
	struct subject s = {0};

	*g = (struct fact_grant){.uid = (uid_t)-1};
	if (json_unpack((json_t *)row, "{s:s, s?s, s?s, s:s, s:s, s?s, s?s, s?s}", "client", &client, "user", &s.user, "group",
		    &s.group, "purpose", &g->purpose, "rights", &rights, "party", &party, "reference", &g->reference,
		    "organisation", &g->organisation) < 0 ||
		!s.user == !s.group)
		return refuse(p, "InvalidParameter", NULL, "client, user or group, purpose and rights must be there");
	s.name = s.user ? s.user : s.group;
	if (strlen(s.name) >= FACT_TEXT_MAX || (g->reference && strlen(g->reference) >= FACT_TEXT_MAX) ||
		(g->organisation && strlen(g->organisation) >= FACT_TEXT_MAX))
		return refuse(p, "InvalidParameter", NULL, "a text is longer than %d characters", FACT_TEXT_MAX - 1);
	if (facts_client(k->facts, client, FACTS_LATEST, c) < 0)
		return refuse(p, "UnknownClient", NULL, "there is no client %s", client);
	if (policy_rights_parse(rights, &g->rights) < 0)
		return refuse(p, "InvalidRights", NULL, "there are no rights \"%s\": write r or rw", rights);
	if (party && policy_party_parse(party, &g->party) < 0)
		return refuse(p, "UnknownParty", NULL, "there is no party %s", party);
	return row_time(row, "from", &g->from, p) && row_time(row, "until", &g->until, p) && grant_is_good(k, by, c, &s, g, p);
}

struct import {
	json_t *problems;
	int64_t added, already;
	size_t refused;
};

static int import_row(struct keyd *k, struct varlink_call *call, size_t i, const json_t *row, struct import *m)
{
	struct problem p = {0};
	struct fact_client c;
	struct fact_grant g;
	bool there = false;
	int64_t id;
	int r;

	if (!row_read(k, varlink_call_peer(call), row, &c, &g, &p)) {
		if (m->refused++ < IMPORT_PROBLEMS)
			json_array_append_new(m->problems, json_pack("{s:I, s:s}", "row", (json_int_t)i, "text", p.message));
		return 0;
	}
	r = facts_grant_exists(k->facts, c.row, &g, keyd_now(), &there);
	if (r < 0 || there) {
		m->already += there;
		return r;
	}
	m->added++;
	return grant_put(k, &c, &g, actor_of(call), &id);
}

/* All or nothing: what is put is taken back when one row is refused, and after a dry run. */
int keyd_grant_import(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(json_decrefp) json_t *problems = json_array();
	scoped(facts_rollbackp) struct facts *open = NULL;
	struct import m = {.problems = problems};
	struct keyd *k = userdata;
	int dry_run = 0, r;
	json_t *rows, *row;
	bool kept;
	size_t i;

	if (!params_unpack(call, params, "{s:o, s?b}", "rows", &rows, "dry_run", &dry_run))
		return 0;
	if (!json_is_array(rows))
		return varlink_error(call, "org.varlink.service.InvalidParameter", "`rows` is a list", NULL);
	r = facts_begin(k->facts);
	if (r < 0)
		return reply_failure(k, call, r, "the grants are not kept");
	open = k->facts;
	json_array_foreach(rows, i, row)
	{
		r = import_row(k, call, i, row, &m);
		if (r < 0)
			return reply_failure(k, call, r, "the grants are not kept");
	}
	kept = !dry_run && m.refused == 0;
	if (kept) {
		r = outbox_commit(k);
		if (r < 0)
			return reply_failure(k, call, r, "the grants are not kept");
		members_access_changed(k);
	}
	return varlink_reply(call, json_pack("{s:b, s:I, s:I, s:I, s:O}", "kept", kept, "added", (json_int_t)m.added, "already",
					   (json_int_t)m.already, "refused", (json_int_t)m.refused, "problems", problems));
}

int keyd_revoke(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "revoke", .by = actor_of(call)};
	struct subject subject = {0};
	const char *client;
	struct fact_client c;
	int count = 0, ended, r;

	if (!params_unpack(call, params, "{s:s, s?s, s?s, s?s}", "client", &client, "user", &subject.user,
		    "group", &subject.group, "purpose", &e.purpose) ||
		!params_subject(call, &subject) || !params_client(k, call, client, &c))
		return 0;
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_grant_revoke(
			k->facts, c.row, subject.name, subject.group, e.purpose, e.by, keyd_now(), &count);
	if (r == 0 && count == 0) {
		facts_rollback(k->facts);
		return varlink_errorf(call, "NoGrant", is_only_a_group(&subject) ? "it is a group: --group"
								   : "`coffer access` shows who has which grant",
			"%s has no such grant on %s", subject.name, c.client);
	}
	e.client = c.client;
	e.detail = json_pack(
		"{s:s, s:b, s:i}", "subject", subject.name, "group", subject.group != NULL, "grants", count);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the grant is not revoked");
	members_access_changed(k);
	/* First the doors, then the delivery of the record, which waits safely in the database. */
	ended = sessions_recheck(k, c.client, "revoked", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:i, s:i}", "revoked", count, "sessions_ended", ended));
}
