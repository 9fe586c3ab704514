#include "keyd/decision.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "common/peer.h"
#include "common/scope.h"
#include "keyd/rules.h"

#define NSS_BUFFER (1u << 20)

void decision_groups_done(struct decision_groups *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->name[i]);
	free(g->name);
}

static int group_name(gid_t gid, char *buf, size_t n, const char **ret)
{
	struct group g, *found = NULL;
	int r = getgrgid_r(gid, &g, buf, n, &found);

	if (!found)
		return r > 0 ? -r : -ENOENT;
	*ret = found->gr_name;
	return 0;
}

/* A group without a name cannot have a grant: left out. */
static int groups_of(const char *user, gid_t primary, struct decision_groups *ret)
{
	scoped(freep) gid_t *gids = NULL;
	scoped(freep) char *buf = malloc(NSS_BUFFER);
	const char *name;
	int n, r;

	if (!buf)
		return -ENOMEM;
	r = peer_groups(user, primary, &gids, &n);
	if (r < 0)
		return r;
	ret->name = calloc((size_t)n + 1, sizeof(*ret->name));
	if (!ret->name)
		return -ENOMEM;
	for (int i = 0; i < n; i++) {
		if (group_name(gids[i], buf, NSS_BUFFER, &name) < 0)
			continue;
		ret->name[ret->n] = strdup(name);
		if (!ret->name[ret->n])
			return -ENOMEM;
		ret->n++;
	}
	return 0;
}

int nss_user(const char *name, uid_t *ret_uid, gid_t *ret_gid)
{
	scoped(freep) char *buf = malloc(NSS_BUFFER);
	struct passwd p, *found = NULL;
	int r;

	if (!buf)
		return -ENOMEM;
	r = getpwnam_r(name, &p, buf, NSS_BUFFER, &found);
	if (!found)
		return r > 0 ? -r : -ENOENT;
	*ret_uid = p.pw_uid;
	*ret_gid = p.pw_gid;
	return 0;
}

int nss_group(const char *name, gid_t *ret_gid)
{
	scoped(freep) char *buf = malloc(NSS_BUFFER);
	struct group g, *found = NULL;
	int r;

	if (!buf)
		return -ENOMEM;
	r = getgrnam_r(name, &g, buf, NSS_BUFFER, &found);
	if (!found)
		return r > 0 ? -r : -ENOENT;
	*ret_gid = g.gr_gid;
	return 0;
}

bool nss_is_member(const char *user, const char *group)
{
	scoped(decision_groups_done) struct decision_groups g = {0};
	uid_t uid;
	gid_t gid;

	if (nss_user(user, &uid, &gid) < 0 || groups_of(user, gid, &g) < 0)
		return false;
	for (size_t i = 0; i < g.n; i++)
		if (strcmp(g.name[i], group) == 0)
			return true;
	return false;
}

int decision_groups(const char *user, uid_t uid, struct decision_groups *ret)
{
	uid_t known;
	gid_t gid;
	int r = nss_user(user, &known, &gid);

	if (r == 0 && known == uid)
		r = groups_of(user, gid, ret);
	return r == -ENOENT ? 0 : r;
}

static void request_of(const struct asked *a, const struct decision_groups *g, struct decide_request *ret)
{
	*ret = (struct decide_request){
		.client = a->client,
		.user = a->user,
		.uid = a->uid,
		.groups = (const char *const *)g->name,
		.groups_count = g->n,
		.purpose = a->purpose,
		.rights = a->rights,
		.ticket = a->ticket,
		.emergency = a->emergency,
		.reason = a->emergency,
		.presumed = a->presumed,
		.shell = a->shell,
		.class = a->class,
	};
}

int decision_make_shared(struct keyd *k, const struct asked *a, int64_t now, struct decision *ret)
{
	scoped(facts_view_done) struct facts_view view = {0};
	const struct decide_approval approval = {.user = a->user, .uid = a->uid, .purpose = a->purpose, .by = "everybody",
		.from = now, .until = now + 1};
	struct decide_grant grants[PARTY_AFFILIATE + 1];
	const struct policy *rules;
	struct decide_facts facts;
	struct decide_request rq;
	int r;

	*ret = (struct decision){.verdict = VERDICT_DENY, .rules = k->policy};
	r = facts_view(k->facts, a->client, a->user, FACTS_LATEST, &view);
	if (r == 0)
		r = rules_for(k, view.known ? view.client.row : 0, FACTS_LATEST, now, &rules);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(grants); i++)
		grants[i] = (struct decide_grant){.subject = a->user, .uid = a->uid, .purpose = a->purpose, .rights = RIGHTS_RW,
			.party = (enum party)i, .from = now, .until = now + 1, .reference = "shared"};
	facts_view_facts(&view, now, &facts);
	facts.grants = grants;
	facts.grants_count = ARRAY_SIZE(grants);
	facts.approvals = &approval;
	facts.approvals_count = 1;
	request_of(a, &(struct decision_groups){0}, &rq);
	return decide(rules, &facts, &rq, now, ret);
}

int decision_make_view(const struct facts_view *view, const struct asked *a, const struct decision_groups *g,
	const struct policy *rules, int64_t now, struct decision *ret)
{
	struct decide_facts facts;
	struct decide_request rq;

	facts_view_facts(view, now, &facts);
	request_of(a, g, &rq);
	return decide(rules, &facts, &rq, now, ret);
}

/* rules NULL: those of then. */
static int decision(struct keyd *k, const struct asked *a, const struct decision_groups *g, const struct policy *rules,
	int64_t known_at, int64_t now, struct decision *ret)
{
	scoped(facts_view_done) struct facts_view view = {0};
	int r;

	*ret = (struct decision){.verdict = VERDICT_DENY, .rules = k->policy};
	r = facts_view(k->facts, a->client, a->user, known_at, &view);
	if (r == 0 && !rules)
		r = rules_for(k, view.known ? view.client.row : 0, known_at, now, &rules);
	if (r < 0)
		return r;
	return decision_make_view(&view, a, g, rules, now, ret);
}

int decision_make_under(struct keyd *k, const struct asked *a, const struct decision_groups *g, const struct policy *rules,
	int64_t now, struct decision *ret)
{
	return decision(k, a, g, rules, FACTS_LATEST, now, ret);
}

int decision_make_with(struct keyd *k, const struct asked *a, const struct decision_groups *g, int64_t known_at, int64_t now,
	struct decision *ret)
{
	return decision(k, a, g, NULL, known_at, now, ret);
}

int decision_make(struct keyd *k, const struct asked *a, int64_t known_at, int64_t now, struct decision *ret)
{
	scoped(decision_groups_done) struct decision_groups groups = {0};
	int r = decision_groups(a->user, a->uid, &groups);

	if (r == 0)
		return decision_make_with(k, a, &groups, known_at, now, ret);
	*ret = (struct decision){.verdict = VERDICT_DENY, .rules = k->policy};
	return r;
}

json_t *decision_detail(const struct decision *d)
{
	json_t *o = json_pack("{s:I, s:s, s:I, s:s, s:o}", "grant", (json_int_t)d->grant, "rights",
		policy_rights_name(d->rights), "until", (json_int_t)d->until, "message", d->message, "steps",
		decision_steps(d));

	json_object_update_new(o, rules_json(d->rules));
	if (d->consent)
		json_object_set_new(o, "consent", json_integer((json_int_t)d->consent));
	return o;
}

json_t *decision_steps(const struct decision *d)
{
	json_t *steps = json_array();

	for (size_t i = 0; i < d->steps_count; i++)
		json_array_append_new(steps,
			json_pack("{s:s, s:b, s:s, s:s}", "rule", d->steps[i].rule, "passed",
				d->steps[i].passed, "text", d->steps[i].text, "source", d->steps[i].source));
	return steps;
}
