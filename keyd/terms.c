#include "keyd/terms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/expiry.h"
#include "keyd/facts_terms.h"
#include "keyd/gain.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "keyd/rules.h"
#include "keyd/session.h"

static bool is_alive(struct varlink_call *call, const struct fact_client *c)
{
	if (!c->destroyed_on && !c->destroying)
		return true;
	varlink_errorf(call, "Destroyed", NULL, "%s is destroyed", c->client);
	return false;
}

/* ---- engagements ---- */

static bool params_service(struct keyd *k, struct varlink_call *call, const char *id)
{
	char list[512] = "the service lines are:";
	size_t n = strlen(list);

	if (strcmp(id, "*") == 0 || policy_service(k->policy, id))
		return true;
	for (size_t i = 0; i < k->policy->services_count && n < sizeof(list); i++)
		n += (size_t)snprintf(
			list + n, sizeof(list) - n, "%s %s", i > 0 ? "," : "", k->policy->services[i].id);
	varlink_errorf(call, "UnknownService", list, "the policy %s knows no service line %s", k->policy->name, id);
	return false;
}

bool terms_params_services(struct keyd *k, struct varlink_call *call, const json_t *services)
{
	const json_t *v;
	size_t i;

	if (services && !json_is_array(services)) {
		varlink_error(call, "org.varlink.service.InvalidParameter", "`services` is a list of ids", NULL);
		return false;
	}
	json_array_foreach(services, i, v)
		if (!params_service(k, call, json_is_string(v) ? json_string_value(v) : ""))
			return false;
	return true;
}

int terms_engage(struct keyd *k, const char *client, const json_t *services, struct actor by)
{
	struct fact_client c;
	const json_t *v;
	int64_t now = keyd_now();
	size_t i;
	int r = facts_client(k->facts, client, FACTS_LATEST, &c);

	if (r == 0 && !services)
		return facts_engagement_begin(k->facts, c.row, "*", now, 0, by, now);
	json_array_foreach(services, i, v)
		if (r == 0)
			r = facts_engagement_begin(k->facts, c.row, json_string_value(v), now, 0, by, now);
	return r;
}

int keyd_engagement_begin(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "engagement-begin", .by = actor_of(call)};
	scoped(gain_look_freep) struct gain_look *before = NULL;
	const char *client, *service;
	int64_t from = keyd_now(), until = 0;
	json_t *from_v = NULL, *until_v = NULL;
	struct fact_client c;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s?o, s?o}", "client", &client, "service", &service, "from", &from_v,
		    "until", &until_v) ||
		!params_service(k, call, service) || !params_client(k, call, client, &c) || !is_alive(call, &c) ||
		!params_time(call, params, "from", &from) || !params_time(call, params, "until", &until))
		return 0;
	if (until && until <= from)
		return varlink_error(call, "InvalidDate", "the engagement would end before it begins", "give a later --until");
	e.client = c.client;
	r = gain_look_before(k, call, c.client, &before);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r == 0)
		r = facts_engagement_begin(k->facts, c.row, service, from, until, e.by, keyd_now());
	if (r == 0 && gain_is_refused(k, call, c.client, before, "this engagement"))
		return 0;
	e.detail = json_pack("{s:s, s:I, s:I}", "service", service, "from", (json_int_t)from, "until", (json_int_t)until);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the engagement is not kept");
	(void)outbox_deliver(k);
	return varlink_reply(call, NULL);
}

int keyd_engagement_end(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "engagement-end", .by = actor_of(call)};
	const char *client, *service;
	int64_t on = keyd_now();
	json_t *on_v = NULL;
	struct fact_client c;
	int count = 0, ended, r;

	if (!params_unpack(call, params, "{s:s, s:s, s?o}", "client", &client, "service", &service, "on", &on_v) ||
		!params_client(k, call, client, &c) || !params_time(call, params, "on", &on))
		return 0;
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_engagement_end(k->facts, c.row, service, on, e.by, keyd_now(), &count);
	if (r == 0 && count == 0) {
		facts_rollback(k->facts);
		return varlink_errorf(call, "NotEngaged", "`coffer engagement list` shows the engagements",
			"%s has no such engagement for %s", c.client, service);
	}
	e.client = c.client;
	e.detail = json_pack("{s:s, s:I}", "service", service, "on", (json_int_t)on);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the end is not kept");
	ended = sessions_recheck(k, c.client, "the engagement ended", EKEYEXPIRED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:i}", "sessions_ended", ended));
}

/* The three lists are alike. */
static int list(struct varlink_call *call, json_t *params, struct keyd *k, const char *name,
	int (*rows_of)(struct facts *f, const char *client, json_t **ret))
{
	const char *client = NULL;
	json_t *rows = NULL;
	int r;

	if (!params_unpack(call, params, "{s?s}", "client", &client))
		return 0;
	r = rows_of(k->facts, client, &rows);
	return reply_rows(k, call, r, name, rows, "the facts cannot be read");
}

int keyd_engagement_list(struct varlink_call *call, json_t *params, void *userdata)
{
	return list(call, params, userdata, "engagements", facts_engagements);
}

/* ---- consents ---- */

/* A purpose that can rest on it, or a node above one: a consent for something else would be a misunderstanding. */
static bool params_scope(struct keyd *k, struct varlink_call *call, const char *scope)
{
	bool known = false, rests = false;

	for (size_t i = 0; i < k->policy->purposes_count; i++) {
		const struct policy_purpose *u = &k->policy->purposes[i];
		const struct policy_basis *b = u->basis ? policy_basis(k->policy, u->basis) : NULL;

		known |= strcmp(u->id, scope) == 0;
		rests |= b && b->consent && policy_covers(k->policy, scope, u);
	}
	if (rests)
		return true;
	varlink_errorf(call, known ? "NoConsentNeeded" : "UnknownPurpose", "`coffer policy show` lists purposes and bases",
		known ? "the purpose %s does not rest on consent" : "the policy knows no purpose %s", scope);
	return false;
}

static bool params_evidence(struct varlink_call *call, const char *hash)
{
	if (strlen(hash) == 64 && strspn(hash, "0123456789abcdef") == 64)
		return true;
	varlink_error(call, "org.varlink.service.InvalidParameter", "`evidence` is a BLAKE2b-256 hash in hex", NULL);
	return false;
}

int keyd_consent_give(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "consent-give", .by = actor_of(call)};
	struct fact_consent s = {.from = keyd_now()};
	scoped(gain_look_freep) struct gain_look *before = NULL;
	json_t *from = NULL, *until = NULL;
	const char *client;
	struct fact_client c;
	int64_t id = 0;
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s?s, s?s, s?s, s:s, s:s, s?o, s?o}", "client", &client, "scope",
		    &s.scope, "recipient", &s.recipient, "giver", &s.giver, "reason", &s.reason, "evidence", &s.evidence,
		    "document", &s.document, "from", &from, "until", &until) ||
		!params_scope(k, call, s.scope) || !params_text(call, "recipient", s.recipient) ||
		!params_text(call, "giver", s.giver) || !params_text(call, "reason", s.reason) ||
		!params_text(call, "document", s.document) || !params_evidence(call, s.evidence) ||
		!params_client(k, call, client, &c) || !is_alive(call, &c) || !params_time(call, params, "from", &s.from) ||
		!params_time(call, params, "until", &s.until))
		return 0;
	if (s.recipient && !s.reason)
		return varlink_error(call, "ReasonMissing", "sharing with others needs the reason that the client was told",
			"say it with --reason");
	if (s.until && s.until <= s.from)
		return varlink_error(call, "InvalidDate", "the consent would end before it begins", "give a later --until");
	if (!s.giver)
		s.giver = c.name;
	s.client = c.row;
	e.client = c.client;
	r = gain_look_before(k, call, c.client, &before);
	if (r == 0)
		r = facts_begin(k->facts);
	if (r == 0)
		r = facts_consent_give(k->facts, &s, e.by, keyd_now(), &id);
	if (r == 0 && gain_is_refused(k, call, c.client, before, "this consent"))
		return 0;
	e.detail = json_pack("{s:I, s:s, s:s?, s:s, s:s?, s:s, s:s, s:I, s:I}", "consent", (json_int_t)id, "scope", s.scope,
		"recipient", s.recipient, "giver", s.giver, "reason", s.reason, "evidence", s.evidence, "document",
		s.document, "from", (json_int_t)s.from, "until", (json_int_t)s.until);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the consent is not kept");
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:I}", "consent", (json_int_t)id));
}

int keyd_consent_withdraw(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "consent-withdraw", .by = actor_of(call)};
	const char *client, *reason = NULL;
	json_int_t consent;
	struct fact_client c;
	int ended, r;

	if (!params_unpack(
		    call, params, "{s:s, s:I, s?s}", "client", &client, "consent", &consent, "reason", &reason) ||
		!params_text(call, "reason", reason) || !params_client(k, call, client, &c))
		return 0;
	e.client = c.client;
	e.detail = json_pack("{s:I, s:s?}", "consent", consent, "reason", reason);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_consent_withdraw(k->facts, c.row, consent, reason, e.by, keyd_now());
	r = outbox_commit_with(k, r, &e);
	if (r == -ENOENT)
		return varlink_errorf(call, "NoConsent", "`coffer consent list` shows the consents",
			"%s has no consent %lld that is not withdrawn", c.client, (long long)consent);
	if (r < 0)
		return reply_failure(k, call, r, "the withdrawal is not kept");
	ended = sessions_recheck(k, c.client, "consent withdrawn", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:i}", "sessions_ended", ended));
}

int keyd_consent_list(struct varlink_call *call, json_t *params, void *userdata)
{
	return list(call, params, userdata, "consents", facts_consents);
}

/* ---- agreements ---- */

/* a NULL: none any more. */
static int gain_by_agreement(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const struct agreement *a, char *buf,
	size_t n)
{
	struct policy *merged = NULL;
	int r = a ? policy_merge(k->policy, a, &merged) : 0;

	if (r == 0)
		r = gain_by_rules(k, call, c->client, merged ? merged : k->policy, buf, n);
	policy_merged_free(merged);
	return r;
}

int keyd_agreement_set(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "agreement-set", .by = actor_of(call)};
	struct fact_text t = {0};
	struct agreement *a = NULL;
	struct policy_error err = {0};
	const char *client, *text;
	char gain[FACT_TEXT_MAX];
	struct fact_client c;
	int64_t id = 0, review = 0, destroy_on;
	int ended, r;

	if (!params_unpack(call, params, "{s:s, s:s}", "client", &client, "text", &text) ||
		!params_client(k, call, client, &c) || !is_alive(call, &c))
		return 0;
	r = agreement_load_text(text, strlen(text), k->policy, &a, &err);
	if (r == -EINVAL)
		return varlink_errorf(call, "InvalidAgreement", "doc/POLICY.md describes the file", "line %u: %s", err.line,
			err.text);
	if (r < 0)
		return reply_failure(k, call, r, "the agreement cannot be read");
	t.effective = a->effective;
	t.until = a->until;
	t.text = (char *)text;
	snprintf(t.name, sizeof(t.name), "%s", a->name);
	snprintf(t.version, sizeof(t.version), "%s", a->version);
	snprintf(t.hash, sizeof(t.hash), "%s", a->text_hash);
	r = gain_by_agreement(k, call, &c, a, gain, sizeof(gain));
	agreement_free(a);
	e.client = c.client;
	if (r == 0)
		r = facts_begin(k->facts);
	if (r == 0)
		r = facts_agreement_add(k->facts, c.row, &t, e.by, keyd_now(), &id);
	if (r == 0 && *gain)
		r = gain_note(k, call, &c, "agreement", gain, &review);
	e.detail = json_pack("{s:I, s:s, s:s, s:s, s:I}", "agreement", (json_int_t)id, "name", t.name, "version", t.version,
		"hash", t.hash, "effective", (json_int_t)t.effective);
	r = outbox_commit_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the agreement is not kept");
	if (*gain)
		gain_tell(k, call, &c, "agreement", gain, review);
	ended = sessions_recheck(k, c.client, "the agreement changed", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	destroy_on = expiry_destroy_on(rules_now(k, c.row), &c, keyd_now());
	return varlink_reply(call,
		json_pack("{s:I, s:I, s:i, s:I, s:I}", "agreement", (json_int_t)id, "effective", (json_int_t)t.effective,
			"sessions_ended", ended, "destroy_on", (json_int_t)destroy_on, "review", (json_int_t)review));
}

int keyd_agreement_end(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "agreement-end", .by = actor_of(call)};
	const char *client, *reason;
	char gain[FACT_TEXT_MAX];
	struct fact_client c;
	int64_t review = 0;
	int ended, r;

	if (!params_unpack(call, params, "{s:s, s:s}", "client", &client, "reason", &reason) ||
		!params_text(call, "reason", reason) || !params_client(k, call, client, &c))
		return 0;
	e.client = c.client;
	e.detail = json_pack("{s:s}", "reason", reason);
	r = gain_by_agreement(k, call, &c, NULL, gain, sizeof(gain));
	if (r == 0)
		r = facts_begin(k->facts);
	if (r == 0)
		r = facts_agreement_end(k->facts, c.row, e.by, keyd_now());
	if (r == 0 && *gain)
		r = gain_note(k, call, &c, "agreement", gain, &review);
	r = outbox_commit_with(k, r, &e);
	if (r == -ENOENT)
		return varlink_errorf(call, "NoAgreement", "`coffer agreement show` shows what was agreed",
			"%s has no agreement in force or to come", c.client);
	if (r < 0)
		return reply_failure(k, call, r, "the end is not kept");
	if (*gain)
		gain_tell(k, call, &c, "agreement", gain, review);
	ended = sessions_recheck(k, c.client, "the agreement ended", EKEYREVOKED, e.by);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:i, s:I}", "sessions_ended", ended, "review", (json_int_t)review));
}

int keyd_agreement_list(struct varlink_call *call, json_t *params, void *userdata)
{
	return list(call, params, userdata, "agreements", facts_agreements);
}
