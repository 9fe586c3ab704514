#include "keyd/gain.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/disk.h"
#include "keyd/facts_terms.h"
#include "keyd/methods.h"
#include "keyd/notice.h"
#include "keyd/person.h"
#include "keyd/rules.h"
#include "keyd/sendmail.h"

/* ---- what he could open ---- */

struct opens {
	size_t passed;	/* steps of the decision */
	bool granted;	/* one of them is that he has a grant */
	enum verdict verdict;
	enum rights rights;
	int64_t until;
	bool all_classes;
	size_t classes_count;
	uint16_t classes[POLICY_CLASSES_MAX];
	enum policy_export export;
};

struct reach {
	char purpose[65];
	struct opens bare;
	struct opens presumed; /* as with a ticket that fits, and approved: without them a decision ends there, and says no more */
};

struct gain_look {
	int64_t now;
	size_t n;
	struct reach *reach;
};

void gain_look_free(struct gain_look *l)
{
	if (l)
		free(l->reach);
	free(l);
}

static void opens_take(struct opens *o, const struct decision *d)
{
	*o = (struct opens){.verdict = d->verdict, .rights = d->rights, .until = d->until ? d->until : INT64_MAX,
		.all_classes = d->all_classes, .classes_count = d->classes_count, .export = d->export};
	memcpy(o->classes, d->classes, d->classes_count * sizeof(*o->classes));
	for (size_t i = 0; i < d->steps_count && d->steps[i].passed; i++) {
		o->granted |= strcmp(d->steps[i].rule, "grant") == 0;
		o->passed += strcmp(d->steps[i].rule, "agreement") != 0; /* is there only where one says something */
	}
}

static bool opens_class(const struct opens *o, uint16_t class)
{
	for (size_t i = 0; i < o->classes_count; i++)
		if (o->classes[i] == class)
			return true;
	return o->all_classes;
}

/* One exchanged for another is one more, too. */
static bool has_new_class(const struct opens *a, const struct opens *b)
{
	if (b->all_classes)
		return !a->all_classes;
	for (size_t i = 0; i < b->classes_count; i++)
		if (!opens_class(a, b->classes[i]))
			return true;
	return false;
}

static bool opens_more(const struct opens *a, const struct opens *b)
{
	if (a->verdict != VERDICT_ALLOW || b->verdict != VERDICT_ALLOW)
		return a->verdict != VERDICT_ALLOW && (b->verdict == VERDICT_ALLOW || (b->granted && b->passed > a->passed));
	return (b->rights & ~a->rights) || b->until > a->until || has_new_class(a, b) || b->export < a->export;
}

static bool is_more(const struct reach *a, const struct reach *b)
{
	return opens_more(&a->bare, &b->bare) || opens_more(&a->presumed, &b->presumed);
}

static int look_as(const struct facts_view *view, const char *user, uid_t uid, const struct policy *rules, struct gain_look *l)
{
	scoped(decision_groups_done) struct decision_groups groups = {0};
	int r = decision_groups(user, uid, &groups);

	for (size_t i = 0; r == 0 && i < rules->purposes_count; i++) {
		const struct policy_purpose *u = &rules->purposes[i];
		struct asked a = {.user = user, .uid = uid, .client = view->client.client, .purpose = u->id, .shell = true};
		struct reach *reach = &l->reach[l->n];
		struct decision d;

		if (u->node)
			continue;
		snprintf(reach->purpose, sizeof(reach->purpose), "%s", u->id);
		r = decision_make_view(view, &a, &groups, rules, l->now, &d);
		opens_take(&reach->bare, &d);
		a.presumed = true;
		if (r == 0)
			r = decision_make_view(view, &a, &groups, rules, l->now, &d);
		opens_take(&reach->presumed, &d);
		l->n++;
	}
	return r;
}

int gain_look(struct keyd *k, const struct peer *p, const char *client, const struct policy *rules, int64_t now, struct gain_look **ret)
{
	scoped(gain_look_freep) struct gain_look *l = calloc(1, sizeof(*l));
	scoped(facts_view_done) struct facts_view view = {0};
	struct peer before = *p;
	int r;

	if (!l)
		return -ENOMEM;
	r = p->person == p->uid ? 0 : peer_from_uid(p->person, (uid_t)-1, &before);
	if (r == 0) /* approvals do not count: each has its own second person */
		r = facts_view(k->facts, client, "", FACTS_LATEST, &view);
	if (r < 0)
		return r;
	if (!rules)
		rules = rules_now(k, view.client.row);
	l->reach = calloc(2 * rules->purposes_count + 1, sizeof(*l->reach));
	if (!l->reach)
		return -ENOMEM;
	l->now = now;
	r = look_as(&view, p->user, p->uid, rules, l);
	if (r == 0 && before.uid != p->uid)
		r = look_as(&view, before.user, before.uid, rules, l);
	if (r < 0)
		return r;
	*ret = take_ptr(&l);
	return 0;
}

const char *gain_between(const struct gain_look *before, const struct gain_look *after)
{
	static const struct reach nothing = {0};
	size_t half = 0;

	for (size_t i = 0; i < after->n; i++) {
		const struct reach *b = &after->reach[i], *a = NULL;

		if (i > 0 && strcmp(b->purpose, after->reach[0].purpose) == 0)
			half = before->n / 2; /* as who he was before he became root */
		for (size_t j = half; j < before->n && !a; j++)
			if (strcmp(before->reach[j].purpose, b->purpose) == 0)
				a = &before->reach[j];
		/* A purpose that is new, and refused, gives nothing. */
		if (a ? is_more(a, b) : b->presumed.verdict == VERDICT_ALLOW && is_more(&nothing, b))
			return b->purpose;
	}
	return NULL;
}

int gain_look_before(struct keyd *k, const struct varlink_call *call, const char *client, struct gain_look **ret)
{
	const struct peer *p = varlink_call_peer(call);

	return person_is_alone(k, p) ? 0 : gain_look(k, p, client, NULL, keyd_now(), ret);
}

bool gain_is_refused(struct keyd *k, struct varlink_call *call, const char *client, const struct gain_look *before, const char *what)
{
	scoped(gain_look_freep) struct gain_look *after = NULL;
	const char *purpose;
	int r = before ? gain_look(k, varlink_call_peer(call), client, NULL, before->now, &after) : 0;

	if (r < 0)
		return reply_failure(k, call, r, "what it changes for yourself cannot be decided"), true;
	purpose = before ? gain_between(before, after) : NULL;
	if (!purpose)
		return false;
	facts_rollback(k->facts);
	varlink_errorf(call, "OwnRequest", "ask another admin",
		"by %s %s could open more of %s himself (%s): nobody records for himself what lets him in", what,
		varlink_call_peer(call)->user, client, purpose);
	return true;
}

/* ---- a policy ---- */

static bool names_group(const struct policy *p, const char *group)
{
	for (size_t i = 0; p->emergency && i < p->emergency->groups_count; i++)
		if (strcmp(p->emergency->groups[i], group) == 0)
			return true;
	return false;
}

bool gain_policy_is_others(struct keyd *k, struct varlink_call *call, const struct policy *will)
{
	const struct peer *p = varlink_call_peer(call);
	const struct policy_emergency *e = will->emergency;

	if (person_is_alone(k, p))
		return true;
	for (size_t i = 0; e && i < e->groups_count; i++)
		if (!names_group(k->policy, e->groups[i]) && person_is_member(p, e->groups[i])) {
			varlink_errorf(call, "OwnGrant", "let another admin apply it",
				"it names the group %s for emergencies, and %s is in it: nobody lets himself in", e->groups[i], p->user);
			return false;
		}
	if (!roles_grow(p, k->policy, will))
		return true;
	varlink_errorf(call, "OwnGrant", "let another admin apply it",
		"by `together` %s could use roles that he must not use together now: nobody enlarges his own powers", p->user);
	return false;
}

/* Emergencies of a group that he is in already. */
static bool emergency_grows(const struct policy *was, const struct policy *will, const struct peer *p, int64_t now)
{
	const struct policy_emergency *a = was->emergency, *b = will->emergency;

	if (!a || !b || (!(b->rights & ~a->rights) && policy_period_add(now, &b->max_session) <= policy_period_add(now, &a->max_session)))
		return false;
	for (size_t i = 0; i < b->groups_count; i++)
		if (person_is_member(p, b->groups[i]))
			return true;
	return false;
}

static int compare_client(struct keyd *k, struct varlink_call *call, const char *client, const struct policy *will, char *buf, size_t n)
{
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL;
	int64_t now = keyd_now();
	const char *purpose;
	int r = gain_look(k, varlink_call_peer(call), client, NULL, now, &before);

	if (r == 0)
		r = gain_look(k, varlink_call_peer(call), client, will, now, &after);
	purpose = r == 0 ? gain_between(before, after) : NULL;
	if (purpose)
		snprintf(buf, n, "%s may open more of %s for %s", varlink_call_peer(call)->user, client, purpose);
	return r;
}

/* Under its agreement, if it has one. */
static int compare_policy(struct keyd *k, struct varlink_call *call, const char *client, const struct policy *will, char *buf, size_t n)
{
	struct policy *merged = NULL;
	const struct policy *now;
	struct fact_client c;
	int r = facts_client_brief(k->facts, client, FACTS_LATEST, &c);

	if (r < 0)
		return r;
	now = rules_now(k, c.row);
	r = now->agreement ? policy_merge(will, now->agreement, &merged) : 0;
	if (r == 0)
		r = compare_client(k, call, client, merged ? merged : will, buf, n);
	policy_merged_free(merged);
	return r;
}

/* Clients that he has a grant for, also as who he was before he became root. */
static int own_grants(struct keyd *k, const struct peer *p, json_t **ret)
{
	scoped(decision_groups_done) struct decision_groups groups = {0};
	int r = decision_groups(p->user, p->uid, &groups);

	if (r == 0)
		r = facts_access_of(k->facts, p->user, p->uid, (const char *const *)groups.name, groups.n, keyd_now(), ret);
	return r;
}

int gain_has_grants(struct keyd *k, const struct varlink_call *call, bool *ret)
{
	const struct peer *p = varlink_call_peer(call);
	struct peer before = *p;
	json_t *rows = NULL, *more = NULL;
	int r = own_grants(k, p, &rows);

	if (r == 0 && p->person != p->uid)
		r = peer_from_uid(p->person, (uid_t)-1, &before);
	if (r == 0 && before.uid != p->uid)
		r = own_grants(k, &before, &more);
	*ret = json_array_size(rows) + json_array_size(more) > 0;
	json_decref(rows);
	json_decref(more);
	return r;
}

static int compare_all(struct keyd *k, struct varlink_call *call, const struct peer *p, const struct policy *will, char *buf, size_t n)
{
	scoped(json_decrefp) json_t *rows = NULL, *seen = json_object();
	json_t *row;
	size_t i;
	int r = own_grants(k, p, &rows);

	json_array_foreach(rows, i, row)
	{
		const char *client = json_string_value(json_object_get(row, "client"));

		if (r < 0 || *buf || json_object_get(seen, client))
			continue;
		json_object_set_new(seen, client, json_true());
		r = compare_policy(k, call, client, will, buf, n);
	}
	return r;
}

int gain_by_rules(struct keyd *k, struct varlink_call *call, const char *client, const struct policy *will, char *buf, size_t n)
{
	const struct peer *p = varlink_call_peer(call);
	struct peer before = *p;
	int r;

	*buf = '\0';
	if (person_is_alone(k, p))
		return 0;
	if (client)
		return compare_client(k, call, client, will, buf, n);
	if (emergency_grows(k->policy, will, p, keyd_now())) {
		snprintf(buf, n, "%s may do more in an emergency", p->user);
		return 0;
	}
	r = compare_all(k, call, p, will, buf, n);
	if (r == 0 && p->person != p->uid)
		r = peer_from_uid(p->person, (uid_t)-1, &before);
	if (r == 0 && before.uid != p->uid)
		r = compare_all(k, call, &before, will, buf, n);
	return r;
}

/* ---- loudly ---- */

int gain_note(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *what, const char *text, int64_t *ret_review)
{
	const struct actor by = person_of_call(call);

	return facts_review_open_act(k->facts, c ? c->row : 0, by, what, text, keyd_now(), ret_review);
}

void gain_tell(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *what, const char *text, int64_t review)
{
	const struct notice_gain g = {.review = review, .client = c ? c->client : NULL, .user = varlink_call_peer(call)->user, .what = what,
		.text = text, .policy = k->policy, .now = keyd_now()};
	scoped(close_fdp) int fd = statedir_open(&k->dir, "outbox", O_RDONLY | O_DIRECTORY, 0);
	scoped(freep) char *letter = NULL;
	char name[NOTICE_NAME_MAX];
	int r = fd < 0 ? fd : notice_gain_text(&g, &letter);

	log_error("OWN POWERS: %s changed the %s%s%s (review %" PRId64 "): %s", g.user, what, c ? " of " : "", c ? c->client : "", review, text);
	snprintf(name, sizeof(name), "gain-%" PRId64 ".eml", review);
	if (r == 0)
		r = disk_replace(fd, name, letter, strlen(letter));
	if (r == 0)
		notice_send(k, name, g.client);
	else
		log_error("the letter about it cannot be written: %s", strerror(-r));
}
