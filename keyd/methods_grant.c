/* Who may enter: Grant and Revoke. */
#include <errno.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/member.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/session.h"

struct subject {
	const char *user, *group; /* one of them */
	const char *name;
};

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

static bool subject_exists(
	struct keyd *k, struct varlink_call *call, const struct subject *s, struct fact_grant *g)
{
	gid_t gid;
	int r;

	r = s->user ? nss_user(s->user, &g->uid, &gid) : nss_group(s->group, &gid);
	g->subject = s->name;
	g->is_group = s->group;
	if (r == -ENOENT)
		varlink_errorf(call, s->user ? "UnknownUser" : "UnknownGroup",
			s->user ? "`getent passwd` lists the users of this host"
				: "`getent group` lists the groups of this host",
			"this host knows no %s %s", s->user ? "user" : "group", s->name);
	else if (r < 0)
		reply_failure(k, call, r, "the name cannot be looked up");
	return r == 0;
}

/* In the embedded default one person has all roles, and status says so; else nobody lets himself in. */
static bool is_not_himself(struct keyd *k, struct varlink_call *call, const struct fact_grant *g)
{
	const struct peer *p = varlink_call_peer(call);
	bool himself = g->is_group ? nss_is_member(p->user, g->subject) : g->uid == p->uid;

	if (k->embedded || !himself)
		return true;
	varlink_errorf(call, "OwnGrant", "ask another admin", "%s cannot grant access to himself%s", p->user,
		g->is_group ? " through a group that he is in" : "");
	return false;
}

static bool party_is_satisfied(struct keyd *k, struct varlink_call *call, const struct fact_grant *g)
{
	const struct policy_party *p = policy_party(k->policy, g->party);

	if (p && p->reference_required && !g->reference) {
		varlink_errorf(call, "ReferenceMissing", "name the request it rests on: --reference",
			"%s (%s)", "a grant to this party needs a reference", p->title);
		return false;
	}
	if (p && p->until_required && !g->until) {
		varlink_errorf(call, "UntilMissing", "say when it ends: --until", "%s (%s)",
			"a grant to this party needs an end", p->title);
		return false;
	}
	return true;
}

static bool rights_are_allowed(
	struct varlink_call *call, const struct policy_purpose *purpose, const struct fact_grant *g)
{
	if (purpose->node && g->rights != RIGHTS_NONE)
		return true; /* each of those below it says itself what it allows */
	if ((g->rights & purpose->rights) == g->rights && g->rights != RIGHTS_NONE)
		return true;
	varlink_errorf(call, "InvalidRights", "grant less, or for another purpose",
		"the purpose %s allows %s at most (%s)", purpose->id, policy_rights_name(purpose->rights),
		purpose->source);
	return false;
}

static json_t *grant_detail(const struct fact_grant *g, int64_t id)
{
	return json_pack("{s:I, s:s, s:b, s:s, s:s, s:s?, s:s?, s:I, s:I}", "grant", (json_int_t)id, "subject",
		g->subject, "group", g->is_group, "rights", policy_rights_name(g->rights), "party",
		policy_party_name(g->party), "reference", g->reference, "organisation", g->organisation, "from", (json_int_t)g->from, "until",
		(json_int_t)g->until);
}

static int grant_store(
	struct keyd *k, struct varlink_call *call, const struct fact_client *c, const struct fact_grant *g)
{
	struct outbox_entry e = {
		.kind = "grant", .by = actor_of(call), .client = c->client, .purpose = g->purpose};
	int64_t id = 0;
	int r;

	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_grant_add(k->facts, c->row, g, e.by, keyd_now(), &id);
	if (r == 0) {
		e.detail = grant_detail(g, id);
		r = outbox_put(k, &e);
	}
	if (r == 0)
		r = outbox_commit(k);
	if (r < 0)
		return reply_failure(k, call, r, "the grant is not kept");
	members_access_changed(k);
	return varlink_reply(call, json_pack("{s:I}", "grant", (json_int_t)id));
}

int keyd_grant(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const struct policy_purpose *purpose;
	const char *client, *rights, *party = NULL;
	struct fact_grant g = {.uid = (uid_t)-1};
	struct subject subject = {0};
	json_t *from = NULL, *until = NULL;
	struct fact_client c;

	if (!params_unpack(call, params, "{s:s, s?s, s?s, s:s, s:s, s?o, s?o, s?s, s?s, s?s}", "client", &client,
		    "user", &subject.user, "group", &subject.group, "purpose", &g.purpose, "rights", &rights,
		    "from", &from, "until", &until, "party", &party, "reference", &g.reference,
		    "organisation", &g.organisation) ||
		!params_text(call, "organisation", g.organisation) ||
		!params_subject(call, &subject) || !params_text(call, "reference", g.reference) ||
		!params_client(k, call, client, &c) || !params_purpose(k, call, g.purpose, &purpose) ||
		!params_rights(call, rights, &g.rights) || !params_time(call, params, "from", &g.from) ||
		!params_time(call, params, "until", &g.until))
		return 0;
	if (party && policy_party_parse(party, &g.party) < 0)
		return varlink_errorf(call, "UnknownParty", "employee, provider, partner or affiliate",
			"there is no party %s", party);
	if (g.from == 0)
		g.from = keyd_now();
	if (g.until && g.until <= g.from)
		return varlink_error(
			call, "InvalidDate", "the grant would end before it begins", "give a later --until");
	if (!rights_are_allowed(call, purpose, &g) || !party_is_satisfied(k, call, &g) ||
		!subject_exists(k, call, &subject, &g) || !is_not_himself(k, call, &g))
		return 0;
	if (c.destroyed_on || c.destroying)
		return varlink_errorf(
			call, "Destroyed", NULL, "%s is destroyed: there is nothing to grant", c.client);
	return grant_store(k, call, &c, &g);
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
		return varlink_errorf(call, "NoGrant", "`coffer access` shows who has which grant",
			"%s has no such grant on %s", subject.name, c.client);
	}
	e.client = c.client;
	e.detail = json_pack(
		"{s:s, s:b, s:i}", "subject", subject.name, "group", subject.group != NULL, "grants", count);
	if (r == 0)
		r = outbox_put(k, &e);
	else
		json_decref(e.detail);
	if (r == 0)
		r = facts_commit(k->facts);
	if (r < 0)
		return reply_failure(k, call, r, "the grant is not revoked");
	members_access_changed(k);
	/* First the doors, then the delivery of the record, which waits safely in the database. */
	ended = sessions_recheck(k, c.client, "revoked", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:i, s:i}", "revoked", count, "sessions_ended", ended));
}
