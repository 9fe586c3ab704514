/* The policy's versions: apply one, list them, their texts, and what another would change. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/decision.h"
#include "keyd/facts_terms.h"
#include "keyd/gain.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/rules.h"
#include "keyd/session.h"
#include "policy/compare.h"

#define ROWS_MAX 1000u /* of an answer; what is more is counted */

DEFINE_SCOPED(struct policy *, policy_free)

static bool params_policy(struct keyd *k, struct varlink_call *call, const char *text, struct policy **ret)
{
	struct policy_error err = {0};
	int r = policy_load_text(text, strlen(text), ret, &err);

	if (r == -EINVAL)
		varlink_errorf(call, "InvalidPolicy", "correct it: doc/POLICY.md describes the file", "line %u: %s", err.line, err.text);
	else if (r < 0)
		reply_failure(k, call, r, "the policy cannot be read");
	return r == 0;
}

static bool numbers_are_kept(struct keyd *k, struct varlink_call *call, const struct policy *p)
{
	char text[256];
	int r = rules_numbers_kept(k, p, text, sizeof(text));

	if (r == -EINVAL)
		varlink_error(call, "InvalidPolicy", text, RULES_NUMBERS_REMEDY);
	else if (r < 0)
		reply_failure(k, call, r, "the earlier versions cannot be compared");
	return r == 0;
}

/* We run it, as who we are: an admin must not become that.  Nor would it do to ask whose file it is: a shell takes a letter for
 * a script. */
static bool program_is_the_owners(const struct keyd *k, struct varlink_call *call, const struct policy *p)
{
	const char *now = k->policy->sendmail;

	if (!p->sendmail || has_role(call, ROLE_OWNER) || (now && strcmp(now, p->sendmail) == 0))
		return true;
	varlink_errorf(call, "PermissionDenied",
		"leave it as the policy in force has it, or let the owner of the state directory apply this one",
		"the mail program is run by coffer-keyd: only the owner of the state directory names one");
	return false;
}

/* An admin must not be able to have what was recorded about him destroyed sooner. */
static bool record_is_kept(const struct keyd *k, struct varlink_call *call, const struct policy *p)
{
	const struct policy *now = k->policy;
	int64_t t = keyd_now();

	if (!p->record_ends || has_role(call, ROLE_OWNER) ||
		(now->record_ends && policy_period_add(t, &p->record_keep) >= policy_period_add(t, &now->record_keep)))
		return true;
	varlink_errorf(call, "PermissionDenied", "leave `record: keep` as the policy in force has it, lengthen it, or let the owner "
			"of the state directory apply this one",
		"the record would be destroyed sooner than the policy in force says");
	return false;
}

static bool is_named(const struct policy *p, const struct policy_anchor *a)
{
	for (size_t i = 0; i < p->anchors_count; i++)
		if (p->anchors[i].kind == a->kind && strcmp(p->anchors[i].to, a->to) == 0)
			return true;
	return false;
}

/* Of what writes files, or runs, as who we are. */
static bool anchors_are_the_owners(const struct keyd *k, struct varlink_call *call, const struct policy *p)
{
	for (size_t i = 0; i < p->anchors_count; i++) {
		if (has_role(call, ROLE_OWNER) || p->anchors[i].kind == ANCHOR_MAIL || is_named(k->policy, &p->anchors[i]))
			continue;
		varlink_errorf(call, "PermissionDenied",
			"leave it as the policy in force has it, or let the owner of the state directory apply this one",
			"%s is written or run by coffer-keyd: only the owner of the state directory names it", p->anchors[i].to);
		return false;
	}
	return true;
}

int keyd_policy_apply(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(policy_freep) struct policy *p = NULL;
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "policy-apply", .by = actor_of(call)};
	struct fact_text t = {0};
	const char *text;
	int64_t row, review = 0, now = keyd_now();
	char gain[FACT_TEXT_MAX];
	int ended = 0, r;

	if (!params_unpack(call, params, "{s:s}", "text", &text) || !params_policy(k, call, text, &p) ||
		!numbers_are_kept(k, call, p) || !program_is_the_owners(k, call, p) || !anchors_are_the_owners(k, call, p) ||
		!record_is_kept(k, call, p) || !gain_policy_is_others(k, call, p))
		return 0;
	r = gain_by_rules(k, call, NULL, p, gain, sizeof(gain));
	if (r < 0)
		return reply_failure(k, call, r, "what it changes for yourself cannot be decided");
	t.effective = p->effective;
	t.text = (char *)text;
	snprintf(t.name, sizeof(t.name), "%s", p->name);
	snprintf(t.version, sizeof(t.version), "%s", p->version);
	snprintf(t.hash, sizeof(t.hash), "%s", p->text_hash);
	snprintf(t.origin, sizeof(t.origin), "applied");
	e.detail = rules_json(p);
	json_object_set_new(e.detail, "effective", json_integer(p->effective));
	if (*gain)
		json_object_set_new(e.detail, "gain", json_string(gain));
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_policy_add(k->facts, &t, e.by, now, &row);
	if (r == 0 && *gain)
		r = gain_note(k, call, NULL, "policy", gain, &review);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the policy is not kept");
	if (*gain)
		gain_tell(k, call, NULL, "policy", gain, review);
	if (rules_refresh(k))
		ended = sessions_recheck(k, NULL, "another policy is in force", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:s, s:s, s:s, s:I, s:i, s:I}", "name", p->name, "version", p->version, "hash",
					   p->text_hash, "from", (json_int_t)(p->effective > now ? p->effective : now),
					   "sessions_ended", ended, "review", (json_int_t)review));
}

int keyd_policy_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_t *rows = NULL, *row;
	size_t i;
	int r = facts_policies(k->facts, &rows);

	if (r < 0)
		return reply_failure(k, call, r, "the versions cannot be read");
	json_array_foreach(rows, i, row) json_object_set_new(row, "in_force",
		json_boolean(json_integer_value(json_object_get(row, "id")) == rules_row(k)));
	return varlink_reply(call, json_pack("{s:o}", "versions", rows));
}

/* The text in force, or in force then: the policy is no secret. */
int keyd_policy_text(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(fact_text_done) struct fact_text t = {0};
	struct keyd *k = userdata;
	int64_t at = FACTS_LATEST, row = 0;
	json_t *v = NULL;
	int r;

	if (!params_unpack(call, params, "{s?o}", "at", &v) || !params_time(call, params, "at", &at))
		return 0;
	r = at == FACTS_LATEST ? 0 : facts_policy_at(k->facts, at, at, &row);
	if (at == FACTS_LATEST)
		row = rules_row(k);
	if (r == 0)
		r = facts_policy_get(k->facts, row, &t);
	if (r == -ENOENT)
		return varlink_error(call, "NotFound", "no policy was recorded by then", "`coffer policy versions` lists them");
	if (r < 0)
		return reply_failure(k, call, r, "the policy cannot be read");
	return varlink_reply(call, json_pack("{s:s, s:s, s:s, s:s}", "name", t.name, "version", t.version, "hash", t.hash, "text",
					   t.text));
}

/* ---- what another would change ---- */

struct diff {
	struct keyd *k;
	const struct policy *policy;		/* instead of the one in force; NULL: that */
	const struct agreement *agreement;	/* instead of the client's; NULL: that */
	json_t *rules, *grants, *sessions;
	size_t left_out;
};

static void add(struct diff *d, json_t *list, json_t *row)
{
	if (json_array_size(list) < ROWS_MAX) {
		json_array_append_new(list, row);
		return;
	}
	json_decref(row);
	d->left_out++;
}

static void on_change(const struct policy_change *c, void *arg)
{
	struct diff *d = arg;

	add(d, d->rules, json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", c->kind, "id", c->id, "key", c->key, "was", c->was, "will",
				 c->will));
}

static const char *outcome_text(const struct decision *d, char buf[256])
{
	if (d->verdict != VERDICT_ALLOW)
		return d->error;
	snprintf(buf, 256, "%s%s%zu classes%s%s", policy_rights_name(d->rights), d->all_classes ? ", all of " : ", ", d->classes_count,
		d->export == EXPORT_FREE ? "" : ", export: ", policy_export_name(d->export));
	return buf;
}

/* As somebody whom the grant is for: of a group, any member. */
static void compare_grant(struct diff *d, const struct facts_view *view, const struct policy *was, const struct policy *will,
	const struct decide_grant *g)
{
	const struct decision_groups groups = {.name = (char **)&g->subject, .n = g->is_group};
	int64_t now = keyd_now();

	for (size_t i = 0; i < was->purposes_count; i++) {
		const struct policy_purpose *u = &was->purposes[i];
		struct asked a = {.user = g->is_group ? "(a member)" : g->subject, .uid = g->is_group ? (uid_t)-1 : g->uid,
			.client = view->client.client, .purpose = u->id, .shell = true};
		struct decision before, after;
		char was_text[256], will_text[256];

		if (u->node || !policy_covers(was, g->purpose, u) ||
			decision_make_view(view, &a, &groups, was, now, &before) < 0 ||
			decision_make_view(view, &a, &groups, will, now, &after) < 0)
			continue;
		if (strcmp(outcome_text(&before, was_text), outcome_text(&after, will_text)) != 0)
			add(d, d->grants,
				json_pack("{s:I, s:s, s:s, s:b, s:s, s:s, s:s}", "grant", (json_int_t)g->id, "client", view->client.client,
					"subject", g->subject, "group", g->is_group, "purpose", u->id, "was",
					outcome_text(&before, was_text), "will", outcome_text(&after, will_text)));
	}
}

static void compare_sessions(struct diff *d, const struct fact_client *c, const struct policy *will)
{
	for (struct session *s = d->k->sessions; s; s = s->next) {
		struct decision now;

		if (s->shared || s->client_row != c->row || session_would_stand(d->k, s, will, &now))
			continue;
		add(d, d->sessions,
			json_pack("{s:I, s:s, s:s, s:s, s:s}", "session", (json_int_t)s->id, "client", c->client, "user", s->user,
				"purpose", s->purpose, "why", *now.message ? now.message : "it may open less"));
	}
}

static int compare_client(struct diff *d, const struct fact_client *c)
{
	scoped(facts_view_done) struct facts_view view = {0};
	const struct policy *was = rules_now(d->k, c->row), *base = d->policy ? d->policy : d->k->policy;
	const struct agreement *agreement = d->agreement ? d->agreement : was->agreement;
	struct policy *merged = NULL;
	int r = agreement ? policy_merge(base, agreement, &merged) : 0;

	if (r == 0)
		r = facts_view(d->k->facts, c->client, "", FACTS_LATEST, &view);
	if (r == 0 && d->agreement)
		policy_compare(was, merged, on_change, d);
	for (size_t i = 0; r == 0 && i < view.grants_count; i++)
		compare_grant(d, &view, was, merged ? merged : base, &view.grants[i]);
	if (r == 0)
		compare_sessions(d, c, merged ? merged : base);
	policy_merged_free(merged);
	return r;
}

static int compare_all(struct diff *d, const struct fact_client *one)
{
	scoped(freep) struct fact_client *all = NULL;
	size_t n = 0;
	int r;

	if (d->policy && !one)
		policy_compare(d->k->policy, d->policy, on_change, d);
	if (one)
		return compare_client(d, one);
	r = facts_clients(d->k->facts, FACTS_LATEST, &all, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!all[i].destroyed_on)
			r = compare_client(d, &all[i]);
	return r;
}

static int diff_reply(struct keyd *k, struct varlink_call *call, struct diff *d, const struct fact_client *one)
{
	int r;

	d->k = k;
	d->rules = json_array();
	d->grants = json_array();
	d->sessions = json_array();
	r = compare_all(d, one);
	if (r < 0) {
		json_decref(d->rules);
		json_decref(d->grants);
		json_decref(d->sessions);
		return reply_failure(k, call, r, "the grants cannot be compared");
	}
	return varlink_reply(call, json_pack("{s:o, s:o, s:o, s:I}", "rules", d->rules, "grants", d->grants, "sessions",
					   d->sessions, "left_out", (json_int_t)d->left_out));
}

int keyd_policy_diff(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(policy_freep) struct policy *p = NULL;
	struct keyd *k = userdata;
	struct diff d = {0};
	const char *text;

	if (!params_unpack(call, params, "{s:s}", "text", &text) || !params_policy(k, call, text, &p))
		return 0;
	d.policy = p;
	return diff_reply(k, call, &d, NULL);
}

int keyd_agreement_diff(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct agreement *a = NULL;
	struct policy_error err = {0};
	const char *client, *text;
	struct fact_client c;
	struct diff d = {0};
	int r;

	if (!params_unpack(call, params, "{s:s, s:s}", "client", &client, "text", &text) || !params_client(k, call, client, &c))
		return 0;
	r = agreement_load_text(text, strlen(text), k->policy, &a, &err);
	if (r < 0)
		return varlink_errorf(call, "InvalidAgreement", "doc/POLICY.md describes the file", "line %u: %s", err.line, err.text);
	d.agreement = a;
	r = diff_reply(k, call, &d, &c);
	agreement_free(a);
	return r;
}
