#include "keyd/rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_terms.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"
#include "keyd/session.h"
#include "policy/builtin.h"

struct version {
	struct version *next;
	int64_t row;
	struct policy *policy;
};

struct overlay {
	struct overlay *next;
	int64_t row; /* of the agreement */
	const struct policy *base;
	struct agreement *agreement;
	struct policy *merged;
};

struct rules {
	struct version *versions;
	struct overlay *overlays;
	int64_t row;  /* of the version in force */
	int64_t seen; /* latest time: a clock that is set back does not bring an older version back */
};

static int version_load(struct keyd *k, int64_t row, struct policy **ret)
{
	scoped(fact_text_done) struct fact_text t = {0};
	struct policy_error err = {0};
	struct version *v;
	int r;

	for (v = k->rules->versions; v; v = v->next)
		if (v->row == row) {
			*ret = v->policy;
			return 0;
		}
	r = facts_policy_get(k->facts, row, &t);
	if (r < 0)
		return r;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	r = policy_load_text(t.text, strlen(t.text), &v->policy, &err);
	if (r < 0) {
		log_error("the policy %s %s of the facts cannot be read (line %u: %s)", t.name, t.version, err.line, err.text);
		free(v);
		return r == -ENOMEM ? r : -EBADMSG;
	}
	v->row = row;
	v->next = k->rules->versions;
	k->rules->versions = v;
	*ret = v->policy;
	return 0;
}

static int overlay_load(struct keyd *k, int64_t row, const struct policy *base, const struct policy **ret)
{
	scoped(fact_text_done) struct fact_text t = {0};
	struct policy_error err = {0};
	struct overlay *o;
	int r;

	for (o = k->rules->overlays; o; o = o->next)
		if (o->row == row && o->base == base) {
			*ret = o->merged;
			return 0;
		}
	r = facts_agreement_get(k->facts, row, &t);
	if (r < 0)
		return r;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	r = agreement_load_text(t.text, strlen(t.text), NULL, &o->agreement, &err);
	if (r == 0)
		r = policy_merge(base, o->agreement, &o->merged);
	if (r < 0) {
		log_error("the agreement %s %s of the facts cannot be read (line %u: %s)", t.name, t.version, err.line,
			err.text);
		agreement_free(o->agreement);
		free(o);
		return r == -ENOMEM ? r : -EBADMSG;
	}
	o->row = row;
	o->base = base;
	o->next = k->rules->overlays;
	k->rules->overlays = o;
	*ret = o->merged;
	return 0;
}

/* Before the first version was recorded, and for a policy whose date lies ahead, there is the first one. */
static int policy_at(struct keyd *k, int64_t known_at, int64_t at, struct policy **ret)
{
	int64_t row = 0;
	int r;

	if (known_at == FACTS_LATEST && k->policy) {
		*ret = k->policy;
		return 0;
	}
	r = facts_policy_at(k->facts, known_at, at, &row);
	if (r == -ENOENT)
		row = 1;
	return r < 0 && r != -ENOENT ? r : version_load(k, row, ret);
}

int rules_for(struct keyd *k, int64_t client, int64_t known_at, int64_t at, const struct policy **ret)
{
	struct policy *p = NULL;
	int64_t row = 0;
	int r = policy_at(k, known_at, at, &p);

	if (r == 0 && client)
		r = facts_agreement_at(k->facts, client, known_at, at, &row);
	if (r < 0)
		return r;
	*ret = p;
	return row ? overlay_load(k, row, p, ret) : 0;
}

const struct policy *rules_now(struct keyd *k, int64_t client)
{
	const struct policy *p = NULL;

	return rules_for(k, client, FACTS_LATEST, keyd_now(), &p) == 0 ? p : k->policy;
}

int64_t rules_row(const struct keyd *k)
{
	return k->rules->row;
}

int rules_each_version(struct keyd *k, int (*fn)(const struct policy *p, void *arg), void *arg)
{
	scoped(json_decrefp) json_t *rows = NULL;
	const json_t *row;
	size_t i;
	int r = facts_policies(k->facts, &rows);

	json_array_foreach(rows, i, row)
	{
		struct policy *p = NULL;

		if (r == 0)
			r = version_load(k, json_integer_value(json_object_get(row, "id")), &p);
		if (r == 0)
			r = fn(p, arg);
		else if (r == -EBADMSG)
			r = 0; /* logged; of an earlier Coffer */
	}
	return r;
}

struct numbers {
	const struct policy *p;
	char *text;
	size_t n;
};

static int compare_numbers(const struct policy *old, void *arg)
{
	const struct numbers *n = arg;

	for (size_t i = 0; i < n->p->classes_count; i++) {
		const struct policy_class *c = &n->p->classes[i], *was = policy_class_by_number(old, c->number);
		const struct policy_class *same = policy_class(old, c->id);

		if ((!was || strcmp(was->id, c->id) == 0) && (!same || same->number == c->number))
			continue;
		snprintf(n->text, n->n, "the class %s had the number %u, %s has it now", was ? was->id : c->id,
			was ? was->number : same->number, was ? c->id : "another");
		return -EINVAL;
	}
	return 0;
}

int rules_numbers_kept(struct keyd *k, const struct policy *p, char *text, size_t n)
{
	struct numbers numbers = {p, text, n};

	return rules_each_version(k, compare_numbers, &numbers);
}

/* ---- start ---- */

static int record_version(struct keyd *k, const struct policy *p, const char *text, const char *origin)
{
	struct fact_text t = {.effective = p->effective, .text = (char *)text};
	int64_t row;

	snprintf(t.name, sizeof(t.name), "%s", p->name);
	snprintf(t.version, sizeof(t.version), "%s", p->version);
	snprintf(t.hash, sizeof(t.hash), "%s", p->text_hash);
	snprintf(t.origin, sizeof(t.origin), "%s", origin);
	return facts_policy_add(k->facts, &t, FACTS_CLOCK, keyd_now(), &row);
}

static int start_with_builtin(struct keyd *k, const struct fact_text *last)
{
	struct policy_error err;
	scoped(freep) char *copy = NULL;
	struct policy *p = NULL;
	size_t n;
	const char *text = policy_builtin_text(&n);
	int r;

	if (last && strcmp(last->origin, "built-in") != 0)
		return 0; /* one that was named or applied stays in force */
	copy = strndup(text, n);
	r = copy ? policy_load_text(copy, n, &p, &err) : -ENOMEM;
	if (r == 0 && (!last || strcmp(last->hash, p->text_hash) != 0))
		r = record_version(k, p, copy, "built-in");
	policy_free(p);
	return r;
}

/* A file that was recorded before stays where it is in the order: a start does not undo a later version. */
static int start_with_file(struct keyd *k, const struct policy *named, const char *text)
{
	json_t *rows = NULL, *row;
	bool known = false, last = false;
	char why[256];
	size_t i;
	int r = facts_policies(k->facts, &rows);

	if (r < 0)
		return r;
	json_array_foreach(rows, i, row)
	{
		last = strcmp(json_string_value(json_object_get(row, "hash")), named->text_hash) == 0;
		known |= last;
	}
	json_decref(rows);
	if (known && !last)
		log_warning("a later version than the policy that was named (%s %s) is recorded: that one stays; `coffer policy "
			    "apply` makes another the latest",
			named->name, named->version);
	if (known)
		return 0;
	r = rules_numbers_kept(k, named, why, sizeof(why));
	if (r == -EINVAL)
		log_error("the policy %s %s: %s; " RULES_NUMBERS_REMEDY, named->name, named->version, why);
	return r < 0 ? r : record_version(k, named, text, "file");
}

int rules_start(struct keyd *k, struct policy *named, const char *named_text)
{
	scoped(fact_text_done) struct fact_text last = {0};
	int r;

	k->rules = calloc(1, sizeof(*k->rules));
	if (!k->rules)
		return -ENOMEM;
	r = facts_policy_last(k->facts, &last);
	if (r < 0 && r != -ENOENT)
		return r;
	if (!named)
		r = start_with_builtin(k, r == 0 ? &last : NULL);
	else
		r = start_with_file(k, named, named_text);
	if (r == 0)
		(void)rules_refresh(k);
	return r < 0 ? r : k->policy ? 0 : -EBADMSG;
}

void rules_done(struct keyd *k)
{
	if (!k->rules)
		return;
	for (struct overlay *o = k->rules->overlays, *next; o; o = next) {
		next = o->next;
		policy_merged_free(o->merged);
		agreement_free(o->agreement);
		free(o);
	}
	for (struct version *v = k->rules->versions, *next; v; v = next) {
		next = v->next;
		policy_free(v->policy);
		free(v);
	}
	free(k->rules);
	k->rules = NULL;
	k->policy = NULL;
}

/* ---- changes ---- */

bool rules_refresh(struct keyd *k)
{
	struct policy *p = NULL, *was = k->policy;
	int64_t row = 0;
	int r;

	if (keyd_now() > k->rules->seen)
		k->rules->seen = keyd_now();
	r = facts_policy_at(k->facts, FACTS_LATEST, k->rules->seen, &row);
	if (r == -ENOENT)
		row = 1;
	else if (r < 0)
		return false;
	if (row == k->rules->row)
		return false;
	if (version_load(k, row, &p) < 0)
		return false;
	k->rules->row = row;
	k->policy = p;
	return was != NULL;
}

/* Agreements begin and end on a date without a word to us; the rules that a session was opened under are compared. */
void rules_tick(struct keyd *k)
{
	if (rules_refresh(k)) {
		struct outbox_entry e = {.kind = "policy-begin", .by = FACTS_CLOCK, .detail = rules_json(k->policy)};

		log_info("the policy %s %s is in force", k->policy->name, k->policy->version);
		if (outbox_put(k, &e) == 0)
			(void)outbox_deliver(k);
		sessions_recheck(k, NULL, "another policy is in force", EKEYREVOKED, FACTS_CLOCK);
	}
	for (;;) { /* a session's end may change the list */
		const struct session *s = k->sessions;

		while (s && (s->shared || s->rules == rules_now(k, s->client_row)))
			s = s->next;
		if (!s)
			return;
		sessions_rules_changed(k, s->id);
	}
}

json_t *rules_json(const struct policy *p)
{
	json_t *o = json_pack("{s:s, s:s, s:s}", "policy_name", p->name, "policy", p->version, "policy_hash", p->text_hash);

	if (o && p->agreement)
		json_object_set_new(o, "agreement",
			json_pack("{s:s, s:s, s:s}", "name", p->agreement->name, "version", p->agreement->version, "hash",
				p->agreement->text_hash));
	return o;
}
