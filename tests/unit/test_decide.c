#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "policy/decide.h"

#define NOW 1700000000
#define DAY 86400

static struct policy *policy;

static const char policy_text[] =
	"format: 1\nname: p\nversion: \"1\"\neffective: \"2024-01-01\"\ncontroller: c\ncontact: c\n"
	"legal_bases:\n- {id: interest, title: Interest, source: BASES}\n"
	"- {id: consent, title: Consent, source: BASES, consent: true}\n"
	"purposes:\n"
	"- {id: open, title: Open, basis: interest, source: USE, rights: rw}\n"
	"- {id: strict, title: Strict, basis: consent, source: USE, rights: r, max_session: 1d,\n"
	"   ticket: {pattern: '^T-[0-9]+$', required: true}, parties: [employee, provider]}\n"
	"- {id: late, title: Late, basis: interest, source: USE, rights: r, after_end: true,\n"
	"   ticket: {pattern: '^T-[0-9]+$'}}\n"
	"parties:\n- {id: employee, title: E, source: PEOPLE}\n"
	"- {id: provider, title: P, source: PEOPLE, reference_required: true, until_required: true}\n"
	"- {id: affiliate, title: A, source: PEOPLE, until_required: true}\n"
	"classes:\n- {number: 16, id: c, title: C, source: S, default: true,\n"
	"   retention: [{event: created, period: 1y, source: S}]}\n";

static int load(void **state)
{
	struct policy_error err;

	return policy_load_text(policy_text, sizeof(policy_text) - 1, &policy, &err);
}

static int unload(void **state)
{
	policy_free(policy);
	return 0;
}

static void assert_is_utf8(const char *text)
{
	json_t *j = json_string(text);

	assert_non_null(j);
	json_decref(j);
}

static const char *const groups[] = {"team", "staff"};

static struct decide_grant grant(int64_t id, const char *purpose)
{
	return (struct decide_grant){.id = id,
		.subject = "bob",
		.uid = 1000,
		.purpose = purpose,
		.rights = RIGHTS_RW,
		.organisation = "Org",
		.from = NOW - DAY};
}

static struct decide_request request(const char *purpose)
{
	return (struct decide_request){
		.user = "bob", .uid = 1000, .groups = groups, .groups_count = 2, .purpose = purpose};
}

static struct decide_facts facts(const struct decide_grant *g, size_t n)
{
	static const struct decide_consent consents[] = {
		{.id = 1, .scope = "strict"}, {.id = 2, .scope = "strict", .recipient = "Org"}};

	return (struct decide_facts){.client = "acme",
		.grants = g,
		.grants_count = n,
		.consents = consents,
		.consents_count = 2};
}

/* ---- every combination against a table of its own ---- */

enum subject { NOBODY, USER, OTHER_USER, OTHER_UID, GROUP, OTHER_GROUP, USER_AS_GROUP, SUBJECTS };
enum span { OPEN, RUNNING, EXPIRED, ENDS_NOW, NOT_YET, BEGINS_NOW, SPANS };

struct combination {
	bool known;
	enum client_state state;
	const char *purpose;
	enum subject subject;
	enum span span;
	bool other_purpose; /* the grant is for another one */
	enum party party;
	bool reference;
	enum rights rights, wanted;
	const char *ticket;
};

/* What must come out, written from the rules and not from the code: the error, or "" for allowed. */
static const char *expected(const struct combination *c)
{
	bool strict = strcmp(c->purpose, "strict") == 0, late = strcmp(c->purpose, "late") == 0;
	bool good_ticket = c->ticket && strcmp(c->ticket, "T-1") == 0;
	enum rights most = strcmp(c->purpose, "open") == 0 ? RIGHTS_RW : RIGHTS_READ;

	if (!c->known)
		return "UnknownClient";
	if (c->state == CLIENT_SUSPENDED)
		return "Suspended";
	if (c->state == CLIENT_DESTROYED)
		return "Destroyed";
	if (c->state == CLIENT_ENDED && !late)
		return "Ended";
	if (strcmp(c->purpose, "nonsense") == 0)
		return "UnknownPurpose";
	if (c->other_purpose || (c->subject != USER && c->subject != GROUP))
		return "NotGranted";
	if (c->span == EXPIRED || c->span == ENDS_NOW)
		return "GrantExpired";
	if (c->span == NOT_YET)
		return "GrantNotYet";
	if (c->party == PARTY_PARTNER) /* the policy does not describe partners */
		return "PartyNotAllowed";
	if (strict && c->party == PARTY_AFFILIATE)
		return "PartyNotAllowed";
	if (c->party == PARTY_PROVIDER && !c->reference)
		return "ReferenceMissing";
	if (c->party != PARTY_EMPLOYEE && (c->span == OPEN || c->span == BEGINS_NOW))
		return "EndMissing";
	if (c->wanted == RIGHTS_RW && (most == RIGHTS_READ || c->rights == RIGHTS_READ))
		return "RightsNotGranted";
	if (strict && !c->ticket)
		return "TicketMissing";
	if ((strict || late) && c->ticket && !good_ticket)
		return "TicketInvalid";
	return "";
}

static void set_span(struct decide_grant *g, enum span span)
{
	static const struct {
		int64_t from, until;
	} spans[SPANS] = {
		[OPEN] = {NOW - DAY, 0},
		[RUNNING] = {NOW - DAY, NOW + 1},
		[EXPIRED] = {NOW - DAY, NOW - 1},
		[ENDS_NOW] = {NOW - DAY, NOW},
		[NOT_YET] = {NOW + 1, NOW + DAY},
		[BEGINS_NOW] = {NOW, 0},
	};

	g->from = spans[span].from;
	g->until = spans[span].until;
}

static void try(const struct combination *c)
{
	struct decide_grant g = grant(5, c->other_purpose ? "other" : c->purpose);
	struct decide_request rq = request(c->purpose);
	struct decide_facts f = facts(&g, c->subject == NOBODY ? 0 : 1);
	const char *want = expected(c);
	enum rights most = strcmp(c->purpose, "open") == 0 ? c->rights : RIGHTS_READ;
	struct decision d;

	set_span(&g, c->span);
	g.subject = c->subject == OTHER_USER    ? "eve"
		    : c->subject == GROUP       ? "staff"
		    : c->subject == OTHER_GROUP ? "boss"
						: "bob";
	g.is_group = c->subject == GROUP || c->subject == OTHER_GROUP || c->subject == USER_AS_GROUP;
	g.uid = c->subject == OTHER_UID ? 1001 : 1000;
	g.party = c->party;
	g.reference = c->reference ? "ORDER 7" : NULL;
	g.rights = c->rights;
	rq.rights = c->wanted;
	rq.ticket = c->ticket;
	f.state = c->state;
	if (!c->known)
		f.client = NULL;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	if (strcmp(d.error, want) != 0)
		fail_msg("\"%s\" instead of \"%s\": state %d purpose %s subject %d span %d party %d ref %d "
			 "rights %d "
			 "wanted %d ticket %s",
			d.error, want, c->state, c->purpose, c->subject, c->span, c->party, c->reference,
			c->rights, c->wanted, c->ticket ? c->ticket : "-");
	assert_true(d.steps_count > 0);
	for (size_t i = 0; i + 1 < d.steps_count; i++)
		assert_true(d.steps[i].passed);
	if (want[0]) {
		assert_int_equal(d.verdict, VERDICT_DENY);
		assert_true(d.rights == RIGHTS_NONE && d.grant == 0 && d.until == 0);
		assert_false(d.steps[d.steps_count - 1].passed);
		assert_true(d.message[0] && d.remedy[0]);
		return;
	}
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	assert_true(d.steps[d.steps_count - 1].passed);
	assert_int_equal(d.rights, c->wanted != RIGHTS_NONE ? c->wanted : most);
	assert_int_equal(d.grant, 5);
	assert_int_equal(d.party, c->party);
	assert_int_equal(d.until, c->span == RUNNING                  ? NOW + 1
				  : strcmp(c->purpose, "strict") == 0 ? NOW + DAY
								      : 0);
}

static void try_rest(struct combination c)
{
	static const char *const tickets[] = {NULL, "T-1", "X-1"};
	static const enum rights wanted[] = {RIGHTS_NONE, RIGHTS_READ, RIGHTS_RW};

	for (int reference = 0; reference < 2; reference++)
		for (int rights = RIGHTS_READ; rights <= RIGHTS_RW; rights += RIGHTS_RW - RIGHTS_READ)
			for (size_t w = 0; w < ARRAY_SIZE(wanted); w++)
				for (size_t t = 0; t < ARRAY_SIZE(tickets); t++) {
					c.reference = reference;
					c.rights = (enum rights)rights;
					c.wanted = wanted[w];
					c.ticket = tickets[t];
					try(&c);
				}
}

static void every_combination(void **state)
{
	static const char *const purposes[] = {"open", "strict", "late", "nonsense"};

	for (int known = 0; known < 2; known++)
		for (int client = CLIENT_ACTIVE; client <= CLIENT_DESTROYED; client++)
			for (size_t p = 0; p < ARRAY_SIZE(purposes); p++)
				for (int subject = NOBODY; subject < SUBJECTS; subject++)
					for (int span = OPEN; span < SPANS; span++)
						for (int party = PARTY_EMPLOYEE; party <= PARTY_AFFILIATE;
							party++)
							for (int other = 0; other < 2; other++)
								try_rest((struct combination){.known = known,
									.state = (enum client_state)client,
									.purpose = purposes[p],
									.subject = (enum subject)subject,
									.span = (enum span)span,
									.party = (enum party)party,
									.other_purpose = other});
}

/* ---- several grants ---- */

static int64_t chosen(const struct decide_grant *g, size_t n)
{
	struct decide_request rq = request(g[0].purpose);
	struct decide_facts f = facts(g, n);
	struct decision d;

	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	return d.grant;
}

static void the_best_grant_carries_it_in_any_order(void **state)
{
	struct decide_grant g[4] = {grant(1, "open"), grant(2, "open"), grant(3, "open"), grant(4, "open")},
			    swap;

	g[0].rights = RIGHTS_READ; /* longest, but fewer rights */
	g[1].until = NOW + DAY;
	g[2].until = NOW + 2 * DAY;
	g[3].until = NOW - 1; /* expired */
	for (int turn = 0; turn < 4; turn++) {
		assert_int_equal(chosen(g, 4), 3);
		swap = g[0];
		memmove(g, g + 1, 3 * sizeof(g[0]));
		g[3] = swap;
	}
	g[2].until = g[1].until; /* equal: the first given */
	assert_int_equal(chosen(g, 4), 2);
	g[1].until = g[2].until = 0;
	assert_int_equal(chosen(g, 4), 2);
}

static void a_grant_out_of_its_limits_does_not_hide_another(void **state)
{
	struct decide_grant g[2] = {grant(1, "open"), grant(2, "open")};

	g[0].party = PARTY_PROVIDER; /* more rights, but no reference */
	g[1].rights = RIGHTS_READ;
	assert_int_equal(chosen(g, 2), 2);
}

static void a_group_grant_carries_when_the_users_own_has_expired(void **state)
{
	struct decide_grant g[2] = {grant(1, "open"), grant(2, "open")};

	g[0].until = NOW;
	g[1].is_group = true;
	g[1].subject = "team";
	g[1].uid = 0;
	assert_int_equal(chosen(g, 2), 2);
}

/* ---- words for the person ---- */

static void refusals_say_what_to_do(void **state)
{
	struct decide_request rq = request("open");
	struct decide_facts f = facts(NULL, 0);
	struct decision d;

	rq.rights = RIGHTS_RW;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_string_equal(d.remedy, "ask an admin for: coffer grant acme bob --purpose open --rights rw");
	assert_non_null(strstr(d.message, "bob"));
	rq.purpose = "opne";
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_non_null(strstr(d.remedy, "open, strict, late"));
	f.state = CLIENT_SUSPENDED;
	f.state_reason = "stolen laptop";
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_non_null(strstr(d.message, "stolen laptop"));
	assert_string_equal(d.steps[1].rule, "state");
	assert_int_equal(d.steps_count, 2);
	f.state = CLIENT_ENDED;
	f.waiting_until = 0;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_null(strstr(d.message, "notice"));
	f.waiting_until = NOW + 10 * DAY;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_string_equal(d.error, "Ended");
	assert_non_null(strstr(d.message, "notice is given, it will be destroyed on 20"));
}

static void the_walk_names_each_step_and_its_source(void **state)
{
	static const char *const rules[] = {
		"client", "state", "purpose", "basis", "grant", "party", "rights", "classes", "ticket",
		"length"};
	struct decide_grant g = grant(1, "strict");
	struct decide_request rq = request("strict");
	struct decide_facts f = facts(&g, 1);
	struct decision d;

	rq.ticket = "T-77";
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	assert_int_equal(d.steps_count, ARRAY_SIZE(rules));
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
		assert_string_equal(d.steps[i].rule, rules[i]);
	assert_string_equal(d.steps[2].source, "USE");
	assert_string_equal(d.steps[3].source, "BASES");
	assert_string_equal(d.steps[5].source, "PEOPLE");
}

static void long_names_are_cut_not_overrun(void **state)
{
	char longest[4096];
	struct decide_request rq = request("open");
	struct decide_facts f = facts(NULL, 0);
	struct decision d;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	f.client = rq.user = longest;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_int_equal(d.verdict, VERDICT_DENY);
	rq.purpose = longest;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_string_equal(d.error, "UnknownPurpose");
}

static void tickets_have_a_limit(void **state)
{
	char ticket[300] = "T-";
	struct decide_grant g = grant(1, "strict");
	struct decide_request rq = request("strict");
	struct decide_facts f = facts(&g, 1);
	struct decision d;

	memset(ticket + 2, '1', sizeof(ticket) - 3);
	rq.ticket = ticket;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_string_equal(d.error, "TicketInvalid");
	rq.ticket = "";
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_string_equal(d.error, "TicketMissing");
	rq.ticket = "T-1\nX";
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_string_equal(d.error, "TicketInvalid");
}

static void incomplete_questions_are_refused(void **state)
{
	struct decide_grant g = grant(1, "open");
	struct decide_request rq = request("open");
	struct decide_facts f = facts(&g, 1);
	struct decision d;

	memset(&d, 0xff, sizeof(d));
	rq.user = NULL;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), -EINVAL);
	assert_int_equal(d.verdict, VERDICT_DENY);
	rq = request(NULL);
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), -EINVAL);
	rq = request("open");
	g.subject = NULL;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), -EINVAL);
	f.grants = NULL;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), -EINVAL);
	assert_int_equal(decide(NULL, &f, &rq, NOW, &d), -EINVAL);
	assert_int_equal(d.verdict, VERDICT_DENY);
}

/* What was cut can still be told: a client's name and a ticket of many letters of two bytes. */
static void test_cut_texts_are_utf8(void **state)
{
	struct decide_grant g = grant(1, "strict");
	struct decide_facts f = facts(&g, 1);
	struct decide_request rq = request("strict");
	struct decision d;
	char ticket[130], user[700] = "";

	for (unsigned shift = 0; shift < 2; shift++) {
		snprintf(ticket, sizeof(ticket), "%s", shift ? "x" : "");
		snprintf(user, sizeof(user), "%s", shift ? "x" : "");
		while (strlen(ticket) < 120)
			strcat(ticket, "\xc3\xa4");
		while (strlen(user) < 600)
			strcat(user, "\xc3\xa4");
		rq.ticket = ticket;
		assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
		assert_string_equal(d.error, "TicketInvalid");
		for (size_t n = 0; n < d.steps_count; n++)
			assert_is_utf8(d.steps[n].text);
		rq.user = user;
		assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
		assert_string_equal(d.error, "NotGranted");
		assert_is_utf8(d.message);
		assert_is_utf8(d.remedy);
		rq.user = "bob";
	}
}

/* An end that lies ahead ends the sessions that are open by then, except for what is allowed after it. */
static void test_end_of_the_relationship_ahead(void **state)
{
	struct decide_grant g[] = {grant(1, "open"), grant(2, "late")};
	struct decide_facts f = facts(g, 2);
	struct decide_request rq = request("open");
	struct decision d;

	f.ended_on = NOW + DAY;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	assert_int_equal(d.until, NOW + DAY);
	g[0].until = NOW + 10;
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_int_equal(d.until, NOW + 10);
	rq = request("late");
	assert_int_equal(decide(policy, &f, &rq, NOW, &d), 0);
	assert_int_equal(d.verdict, VERDICT_ALLOW);
	assert_int_equal(d.until, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_combination),
		cmocka_unit_test(the_best_grant_carries_it_in_any_order),
		cmocka_unit_test(a_grant_out_of_its_limits_does_not_hide_another),
		cmocka_unit_test(a_group_grant_carries_when_the_users_own_has_expired),
		cmocka_unit_test(refusals_say_what_to_do),
		cmocka_unit_test(the_walk_names_each_step_and_its_source),
		cmocka_unit_test(long_names_are_cut_not_overrun),
		cmocka_unit_test(tickets_have_a_limit),
		cmocka_unit_test(incomplete_questions_are_refused),
		cmocka_unit_test(test_cut_texts_are_utf8),
		cmocka_unit_test(test_end_of_the_relationship_ahead),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
