/* What takes two persons: what the facts keep of who asked and who confirmed; and whether somebody gains by what he records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/erase_two.h"
#include "keyd/facts_leaves.h"
#include "keyd/facts_sql.h"
#include "keyd/facts_terms.h"
#include "keyd/gain.h"
#include "keyd/keyd.h"
#include "policy/builtin.h"

#define T0 1700000000
#define DAY 86400

static const struct actor ada = {"ada", 100}, bob = {"bob", 200};
static struct fact_client acme;
static struct policy *policy;
static struct keyd k;

static int setup_all(void **state)
{
	struct policy_error err;

	return policy_load_text(NULL, 0, &policy, &err);
}

static int teardown_all(void **state)
{
	policy_free(policy);
	return 0;
}

static int setup(void **state)
{
	if (facts_open(":memory:", &k.facts) < 0 || facts_client_add(k.facts, "acme", "aa", "Acme", "a@b", ada, T0) < 0 ||
		facts_engagement_begin(k.facts, 1, "*", T0, 0, ada, T0) < 0)
		return -1;
	k.policy = policy;
	return facts_client(k.facts, "acme", FACTS_LATEST, &acme);
}

static int teardown(void **state)
{
	facts_close(k.facts);
	return 0;
}

static void refused(const char *sql)
{
	char *message = NULL;

	assert_int_not_equal(sqlite3_exec(k.facts->db, sql, NULL, NULL, &message), SQLITE_OK);
	sqlite3_free(message);
}

static int64_t add_session(void)
{
	const struct fact_session s = {.client = acme.row, .user = "bob", .uid = 200, .purpose = "support", .rights = "r"};
	int64_t id;

	assert_int_equal(facts_session_begin(k.facts, &s, T0 + 5, &id), 0);
	return id;
}

static void a_transfer_is_ended_by_two(void **state)
{
	struct fact_transfer_ask a;
	json_t *row = NULL;
	bool old = false;

	assert_int_equal(facts_transfer_asked(k.facts, acme.row, &a), -ENOENT);
	assert_int_not_equal(facts_transfer_ask(k.facts, acme.row, ada, T0), 0); /* nothing was handed over */
	(void)add_session();
	assert_int_equal(facts_transfer_add(k.facts, acme.row, "key", "hash", ada, T0 + 5), 0);
	assert_int_equal(facts_transfer_is_old(k.facts, acme.row, &old), 0);
	assert_false(old); /* in the same second, but before */
	assert_int_equal(facts_transfer_ask(k.facts, acme.row, ada, T0 + 6), 0);
	assert_int_equal(facts_transfer_asked(k.facts, acme.row, &a), 0);
	assert_string_equal(a.asked_by, "ada");
	assert_int_equal(a.asked_uid, 100);
	assert_int_equal(a.asked_at, T0 + 6);
	refused("UPDATE transfer_ask SET asked_by = 'bob'");
	refused("DELETE FROM transfer_ask");
	refused("UPDATE transfer SET last_session = 99");
	assert_int_equal(facts_transfer_finish(k.facts, acme.row, bob, T0 + 7), 0);
	assert_int_equal(facts_transfer_row(k.facts, acme.row, &row), 0);
	assert_string_equal(json_string_value(json_object_get(row, "asked_by")), "ada");
	assert_string_equal(json_string_value(json_object_get(row, "confirmed_by")), "bob");
	json_decref(row);
	(void)add_session();
	assert_int_equal(facts_transfer_is_old(k.facts, acme.row, &old), 0);
	assert_true(old);
	assert_int_equal(facts_transfer_add(k.facts, acme.row, "key", "other", ada, T0 + 8), 0);
	assert_int_equal(facts_transfer_asked(k.facts, acme.row, &a), -ENOENT);
	assert_int_equal(facts_transfer_is_old(k.facts, acme.row, &old), 0);
	assert_false(old);
}

static void an_erasure_is_asked_for_once_and_for_a_while(void **state)
{
	struct fact_erase_ask a;

	assert_int_equal(facts_erase_asked(k.facts, acme.row, "d/f", 0, &a), -ENOENT);
	assert_int_equal(facts_erase_ask(k.facts, acme.row, "d/f", "why", ada, T0), 0);
	assert_int_equal(facts_erase_asked(k.facts, acme.row, "d", 0, &a), -ENOENT);
	assert_int_equal(facts_erase_asked(k.facts, acme.row + 1, "d/f", 0, &a), -ENOENT);
	assert_int_equal(facts_erase_asked(k.facts, acme.row, "d/f", T0, &a), -ENOENT); /* too long ago */
	assert_int_equal(facts_erase_asked(k.facts, acme.row, "d/f", T0 - 1, &a), 0);
	assert_string_equal(a.asked_by, "ada");
	refused("UPDATE erase_ask SET target = 'd'");
	assert_int_equal(facts_erase_confirm(k.facts, a.row, bob, T0 + 1), 0);
	assert_int_equal(facts_erase_asked(k.facts, acme.row, "d/f", 0, &a), -ENOENT);
	refused("UPDATE erase_ask SET confirmed_by = 'ada'");
}

/* What is sealed for the book is sealed by the month: it is called otherwise in the next one. */
static void what_was_asked_last_month_is_confirmed(void **state)
{
	struct erase e = {.k = &k, .client = acme, .user = (char *)"ada", .uid = 100, .reason = (char *)"why",
		.peer = {.uid = 100, .person = 100, .user = "ada"}};

	assert_false(erase_takes_two(&e, "T-nov", NULL));
	e.user = (char *)"bob";
	e.uid = e.peer.uid = e.peer.person = 200;
	snprintf(e.peer.user, sizeof(e.peer.user), "bob");
	e.confirm = true;
	assert_false(erase_takes_two(&e, "T-dec", NULL));
	assert_false(erase_takes_two(&e, "T-dec", "T-oct"));
	assert_true(erase_takes_two(&e, "T-dec", "T-nov"));
	assert_string_equal(e.asked_by, "ada");
	assert_false(erase_takes_two(&e, "T-dec", "T-nov")); /* once */
	free(e.asked_by);
}

static void a_review_may_be_of_no_client(void **state)
{
	struct fact_review v;
	json_t *rows = NULL;
	int64_t id, n = 0;

	assert_int_equal(facts_review_open_act(k.facts, 0, ada, "policy", "more", T0, &id), 0);
	assert_int_equal(facts_review_get(k.facts, id, &v), 0);
	assert_int_equal(v.client, 0);
	assert_string_equal(v.user, "ada");
	assert_int_equal(facts_reviews(k.facts, false, &rows), 0);
	assert_int_equal(json_array_size(rows), 1);
	assert_true(json_is_null(json_object_get(json_array_get(rows, 0), "client")));
	json_decref(rows);
	assert_int_equal(facts_review_close(k.facts, id, "seen", bob, T0 + 1), 0);
	assert_int_equal(facts_reviews_open(k.facts, &n), 0);
	assert_int_equal(n, 0);
	refused("UPDATE review SET what = 'emergency'");
}

static void who_suspended_is_known(void **state)
{
	struct fact_person p;

	assert_int_equal(facts_suspended_by(k.facts, acme.row, &p), -ENOENT);
	assert_int_equal(facts_suspend(k.facts, acme.row, "why", ada, T0), 0);
	assert_int_equal(facts_suspended_by(k.facts, acme.row, &p), 0);
	assert_string_equal(p.user, "ada");
	assert_int_equal(facts_suspended_by(k.facts, 0, &p), -ENOENT);
	assert_int_equal(facts_suspend_user(k.facts, NULL, "why", bob, T0), 0);
	assert_int_equal(facts_suspended_by(k.facts, 0, &p), 0);
	assert_int_equal(p.uid, 200);
	assert_int_equal(facts_resume(k.facts, acme.row, "over", ada, T0 + 1), 0);
	assert_int_equal(facts_suspended_by(k.facts, acme.row, &p), -ENOENT);
}

/* ---- gains: of users that every host has ---- */

static const struct peer root = {.uid = 0, .person = 0, .user = "root"}, became = {.uid = 0, .person = 1, .user = "root"};

static void grant(const char *user, uid_t uid, const char *purpose)
{
	const struct fact_grant g = {.subject = user, .uid = uid, .purpose = purpose, .rights = RIGHTS_READ, .from = T0};
	int64_t id;

	assert_int_equal(facts_grant_add(k.facts, acme.row, &g, ada, T0, &id), 0);
}

static struct gain_look *look(const struct peer *p, const struct policy *rules)
{
	struct gain_look *l = NULL;

	assert_int_equal(gain_look(&k, p, "acme", rules, T0 + DAY, &l), 0);
	return l;
}

static void give_consent(void)
{
	const struct fact_consent c = {.client = acme.row, .scope = "offers-and-events", .giver = "Acme", .evidence = "00",
		.document = "d", .from = T0};
	int64_t id;

	assert_int_equal(facts_consent_give(k.facts, &c, ada, T0, &id), 0);
}

static void a_consent_is_a_gain_for_who_has_the_grant(void **state)
{
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL, *b2 = NULL, *a2 = NULL;

	grant("daemon", 1, "offers-and-events");
	before = look(&became, policy);
	b2 = look(&root, policy);
	give_consent();
	after = look(&became, policy);
	a2 = look(&root, policy);
	assert_string_equal(gain_between(before, after), "offers-and-events"); /* as who he was before he became root */
	assert_null(gain_between(after, before));
	assert_null(gain_between(after, after));
	assert_null(gain_between(b2, a2)); /* has no grant: comes further, and not in */
}

static void a_policy_without_approval_is_a_gain(void **state)
{
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL;
	scoped(freep) char *text = NULL;
	struct policy *other = NULL;
	struct policy_error err;
	size_t n;
	const char *builtin = policy_builtin_text(&n);
	char *line;

	text = strndup(builtin, n);
	line = strstr(text, "    approval: 1d\n");
	assert_non_null(line);
	memset(line, ' ', strlen("    approval: 1d"));
	assert_int_equal(policy_load_text(text, n, &other, &err), 0);
	grant("root", 0, "legal-process");
	before = look(&root, policy);
	after = look(&root, other);
	assert_string_equal(gain_between(before, after), "legal-process");
	assert_null(gain_between(after, before));
	policy_free(other);
}

/* The built-in policy with some words in the place of others: pairs, up to NULL. */
static struct policy *changed(const char *const *pairs)
{
	size_t n;
	const char *builtin = policy_builtin_text(&n);
	scoped(freep) char *text = strndup(builtin, n);
	struct policy *ret = NULL;
	struct policy_error err;

	for (; *pairs; pairs += 2) {
		char *at = strstr(text, pairs[0]), *made;

		assert_non_null(at);
		assert_true(asprintf(&made, "%.*s%s%s", (int)(at - text), text, pairs[1], at + strlen(pairs[0])) > 0);
		free(text);
		text = made;
	}
	assert_int_equal(policy_load_text(text, strlen(text), &ret, &err), 0);
	return ret;
}

/* Where a ticket is needed nothing is known of the one that he will bring: what counts is what it opens then. */
static void what_a_ticket_opens_counts(void **state)
{
	struct policy *other = changed((const char *const[]){"required: true\n    max_session: 1d", "required: true\n    max_session: 9d", NULL});
	struct policy *without = changed((const char *const[]){"required: true", "required: false", NULL});
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL, *open = NULL;

	grant("root", 0, "fraud-prevention");
	before = look(&root, policy);
	after = look(&root, other);
	open = look(&root, without);
	assert_string_equal(gain_between(before, after), "fraud-prevention");
	assert_null(gain_between(after, before));
	assert_string_equal(gain_between(before, open), "fraud-prevention");
	assert_null(gain_between(open, before));
	policy_free(other);
	policy_free(without);
}

static void what_an_approval_opens_counts(void **state)
{
	struct policy *other = changed((const char *const[]){"approval: 1d\n    max_session: 8h", "approval: 1d\n    max_session: 9h", NULL});
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL;

	grant("root", 0, "legal-process");
	before = look(&root, policy);
	after = look(&root, other);
	assert_string_equal(gain_between(before, after), "legal-process");
	assert_null(gain_between(after, before));
	policy_free(other);
}

/* As many as before, but others. */
static void a_class_for_another_is_a_gain(void **state)
{
	struct policy *other = changed((const char *const[]){"purposes: [orders, compliance, legal-claims]", "purposes: [orders, consulting]",
		"    source: INFORMATION WE COLLECT\n    retention:\n      - event: relationship-end\n        period: 1y",
		"    source: INFORMATION WE COLLECT\n    purposes: [orders]\n    retention:\n      - event: relationship-end\n        period: 1y", NULL});
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL;

	grant("root", 0, "consulting");
	before = look(&root, policy);
	after = look(&root, other);
	assert_string_equal(gain_between(before, after), "consulting");
	assert_string_equal(gain_between(after, before), "consulting");
	policy_free(other);
}

static void more_rights_are_a_gain(void **state)
{
	const struct fact_grant g = {.subject = "root", .uid = 0, .purpose = "consulting", .rights = RIGHTS_RW, .from = T0};
	scoped(gain_look_freep) struct gain_look *before = NULL, *after = NULL;
	int64_t id;

	grant("root", 0, "consulting");
	before = look(&root, policy);
	assert_int_equal(facts_grant_add(k.facts, acme.row, &g, ada, T0, &id), 0);
	after = look(&root, policy);
	assert_string_equal(gain_between(before, after), "consulting");
	assert_null(gain_between(after, before));
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH(a_transfer_is_ended_by_two),
		WITH(an_erasure_is_asked_for_once_and_for_a_while),
		WITH(what_was_asked_last_month_is_confirmed),
		WITH(a_review_may_be_of_no_client),
		WITH(who_suspended_is_known),
		WITH(a_consent_is_a_gain_for_who_has_the_grant),
		WITH(a_policy_without_approval_is_a_gain),
		WITH(what_a_ticket_opens_counts),
		WITH(what_an_approval_opens_counts),
		WITH(a_class_for_another_is_a_gain),
		WITH(more_rights_are_a_gain),
	};

	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
