#include "keyd/decision.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "common/peer.h"
#include "common/scope.h"

#define NSS_BUFFER (1u << 20)

struct names {
	char **name;
	size_t n;
};

static void names_done(struct names *g)
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
static int groups_of(const char *user, gid_t primary, struct names *ret)
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
	scoped(names_done) struct names g = {0};
	uid_t uid;
	gid_t gid;

	if (nss_user(user, &uid, &gid) < 0 || groups_of(user, gid, &g) < 0)
		return false;
	for (size_t i = 0; i < g.n; i++)
		if (strcmp(g.name[i], group) == 0)
			return true;
	return false;
}

int decision_make(struct keyd *k, const struct asked *a, int64_t known_at, int64_t now, struct decision *ret)
{
	scoped(facts_view_done) struct facts_view view = {0};
	scoped(names_done) struct names groups = {0};
	struct decide_facts facts;
	struct decide_request rq;
	uid_t uid;
	gid_t gid;
	int r;

	*ret = (struct decision){.verdict = VERDICT_DENY};
	/* A name that NSS does not know as this uid (any more) is in no group. */
	r = nss_user(a->user, &uid, &gid);
	if (r == 0 && uid == a->uid)
		r = groups_of(a->user, gid, &groups);
	if (r == 0 || r == -ENOENT)
		r = facts_view(k->facts, a->client, known_at, &view);
	if (r < 0)
		return r;
	facts_view_facts(&view, now, &facts);
	rq = (struct decide_request){
		.client = a->client,
		.user = a->user,
		.uid = a->uid,
		.groups = (const char *const *)groups.name,
		.groups_count = groups.n,
		.purpose = a->purpose,
		.rights = a->rights,
		.ticket = a->ticket,
	};
	return decide(k->policy, &facts, &rq, now, ret);
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
