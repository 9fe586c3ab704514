/* Engagements, consents, agreements, versions, suspensions, requests: what was known when, and that nothing changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "keyd/facts_sql.h"
#include "keyd/facts_terms.h"

#define T0 1700000000
#define DAY 86400

static const struct actor ada = {"ada", 100};
static struct fact_client acme;

static int setup(void **state)
{
	struct facts *f = NULL;

	if (facts_open(":memory:", &f) < 0 || facts_client_add(f, "acme", "aa", "Acme", "a@b", ada, T0) < 0 ||
		facts_client(f, "acme", FACTS_LATEST, &acme) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	facts_close(*state);
	return 0;
}

static struct facts_view view(struct facts *f, int64_t known_at)
{
	struct facts_view v;

	assert_int_equal(facts_view(f, "acme", "bob", known_at, &v), 0);
	assert_true(v.known);
	return v;
}

static void a_consent_has_a_past(void **state)
{
	struct fact_consent c = {.client = acme.row, .scope = "sharing", .recipient = "Org", .giver = "Acme", .reason = "why",
		.evidence = "00", .document = "d", .from = T0};
	struct facts *f = *state;
	struct facts_view v;
	int64_t id;

	assert_int_equal(facts_consent_give(f, &c, ada, T0 + 10, &id), 0);
	assert_int_equal(facts_consent_withdraw(f, acme.row + 1, id, NULL, ada, T0 + 20), -ENOENT); /* of another client */
	assert_int_equal(facts_consent_withdraw(f, acme.row, id, "mail", ada, T0 + 20), 0);
	assert_int_equal(facts_consent_withdraw(f, acme.row, id, "mail", ada, T0 + 30), -ENOENT);
	for (int t = 9; t <= 21; t++) {
		v = view(f, T0 + t);
		assert_int_equal(v.consents_count, t >= 10 && t < 20);
		if (v.consents_count)
			assert_string_equal(v.consents[0].recipient, "Org");
		facts_view_done(&v);
	}
	v = view(f, FACTS_LATEST);
	assert_int_equal(v.consents_count, 0);
	facts_view_done(&v);
}

static void an_engagement_ends_when_that_was_known(void **state)
{
	struct facts *f = *state;
	struct facts_view v;
	int count = 0;

	assert_int_equal(facts_engagement_begin(f, acme.row, "consulting", T0, 0, ada, T0), 0);
	assert_int_equal(facts_engagement_end(f, acme.row, "marketing", T0 + DAY, ada, T0 + 50, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(facts_engagement_end(f, acme.row, "consulting", T0 + DAY, ada, T0 + 50, &count), 0);
	assert_int_equal(count, 1);
	v = view(f, T0 + 49);
	assert_int_equal(v.engagements[0].until, 0);
	facts_view_done(&v);
	v = view(f, T0 + 50);
	assert_int_equal(v.engagements[0].until, T0 + DAY);
	facts_view_done(&v);
}

static int64_t version(struct facts *f, const char *name, int64_t effective, int64_t now)
{
	struct fact_text t = {.effective = effective, .text = (char *)name};
	int64_t row = 0;

	snprintf(t.name, sizeof(t.name), "%s", name);
	snprintf(t.hash, sizeof(t.hash), "%s", name);
	assert_int_equal(facts_policy_add(f, &t, ada, now, &row), 0);
	return row;
}

static int64_t in_force(struct facts *f, int64_t known_at, int64_t at)
{
	int64_t row = 0;
	int r = facts_policy_at(f, known_at, at, &row);

	return r < 0 ? r : row;
}

static void versions_follow_each_other(void **state)
{
	struct facts *f = *state;
	int64_t one = version(f, "one", T0 - 100 * DAY, T0), two = version(f, "two", T0 + 10 * DAY, T0 + DAY);
	int64_t three = version(f, "three", T0 - 200 * DAY, T0 + 2 * DAY); /* dated back: in force once it is recorded */

	assert_int_equal(in_force(f, T0 - 1, T0 - 1), -ENOENT);
	assert_int_equal(in_force(f, T0, T0), one);
	assert_int_equal(in_force(f, T0 + DAY, T0 + DAY), one); /* two is known, and lies ahead */
	assert_int_equal(in_force(f, T0 + 2 * DAY, T0 + 2 * DAY), three);
	assert_int_equal(in_force(f, FACTS_LATEST, T0 + 10 * DAY - 1), three);
	assert_int_equal(in_force(f, FACTS_LATEST, T0 + 10 * DAY), two);
	assert_int_equal(in_force(f, T0 + DAY, T0 + 11 * DAY), two); /* as it was foreseen then */
}

static void an_agreement_that_is_over_brings_none_back(void **state)
{
	struct fact_text a = {.name = "a", .effective = T0 - DAY, .text = (char *)"a"};
	struct fact_text b = {.name = "b", .effective = T0 + DAY, .until = T0 + 2 * DAY, .text = (char *)"b"};
	struct facts *f = *state;
	int64_t first, second, row;

	assert_int_equal(facts_agreement_add(f, acme.row, &a, ada, T0, &first), 0);
	assert_int_equal(facts_agreement_add(f, acme.row, &b, ada, T0 + 5, &second), 0);
	assert_int_equal(facts_agreement_at(f, acme.row, FACTS_LATEST, T0 + 1, &row), 0);
	assert_int_equal(row, first);
	assert_int_equal(facts_agreement_at(f, acme.row, FACTS_LATEST, T0 + DAY, &row), 0);
	assert_int_equal(row, second);
	assert_int_equal(facts_agreement_at(f, acme.row, FACTS_LATEST, T0 + 2 * DAY, &row), 0);
	assert_int_equal(row, 0);
	assert_int_equal(facts_agreement_at(f, acme.row, T0 + 4, T0 + DAY, &row), 0); /* the second was not known then */
	assert_int_equal(row, first);
	assert_int_equal(facts_agreement_end(f, acme.row, ada, T0 + 9), 0);
	assert_int_equal(facts_agreement_at(f, acme.row, FACTS_LATEST, T0 + DAY, &row), 0);
	assert_int_equal(row, 0);
	assert_int_equal(facts_agreement_end(f, acme.row, ada, T0 + 10), -ENOENT);
}

static void suspensions_are_of_one_or_of_all(void **state)
{
	struct facts *f = *state;
	struct facts_view v;

	assert_int_equal(facts_suspend_user(f, "bob", "lost", ada, T0 + 1), 0);
	assert_int_equal(facts_suspend_user(f, "bob", "lost", ada, T0 + 1), -EEXIST);
	assert_int_equal(facts_suspend_user(f, "eve", "other", ada, T0 + 1), 0);
	v = view(f, FACTS_LATEST);
	assert_string_equal(v.user_suspended, "lost");
	assert_string_equal(v.all_suspended, "");
	facts_view_done(&v);
	assert_int_equal(facts_suspend_user(f, NULL, "breach", ada, T0 + 2), 0);
	assert_int_equal(facts_resume_user(f, "bob", "ok", ada, T0 + 3), 0);
	assert_int_equal(facts_resume_user(f, "bob", "ok", ada, T0 + 4), -ENOENT);
	v = view(f, FACTS_LATEST);
	assert_string_equal(v.user_suspended, "");
	assert_string_equal(v.all_suspended, "breach");
	facts_view_done(&v);
	v = view(f, T0 + 1);
	assert_string_equal(v.user_suspended, "lost");
	assert_string_equal(v.all_suspended, "");
	facts_view_done(&v);
}

static void an_approval_is_given_once_and_taken_back_once(void **state)
{
	struct fact_request q = {.client = acme.row, .user = "bob", .uid = 7, .purpose = "court", .reason = "r", .expires_at = T0 + DAY,
		.seconds = 100};
	struct facts *f = *state;
	struct facts_view v;
	int64_t id;

	assert_int_equal(facts_request_add(f, &q, T0, &id), 0);
	assert_int_equal(facts_request_revoke(f, id, ada, T0 + 1), -ENOENT);
	assert_int_equal(facts_request_decide(f, id, true, T0 + 110, NULL, ada, T0 + 10), 0);
	assert_int_equal(facts_request_decide(f, id, false, 0, NULL, ada, T0 + 11), -EEXIST);
	assert_int_equal(facts_request_revoke(f, id, ada, T0 + 20), 0);
	assert_int_equal(facts_request_revoke(f, id, ada, T0 + 21), -ENOENT);
	for (int t = 9; t <= 21; t++) {
		v = view(f, T0 + t);
		assert_int_equal(v.approvals_count, t >= 10 && t < 20);
		facts_view_done(&v);
	}
	assert_int_equal(facts_view(f, "acme", "eve", T0 + 15, &v), 0); /* another's */
	assert_int_equal(v.approvals_count, 0);
	facts_view_done(&v);
}

/* What stands there stays: each column of each table is tried, and each row's removal. */
static void nothing_is_changed_afterwards(void **state)
{
	static const char *const tables[] = {"engagement", "consent", "policy_version", "agreement", "user_suspension", "request",
		"request_revoked", "review"};
	struct fact_session s = {.client = acme.row, .user = "bob", .uid = 7, .purpose = "p", .rights = "r"};
	struct facts *f = *state;
	int64_t row;

	a_consent_has_a_past(state);
	an_engagement_ends_when_that_was_known(state);
	versions_follow_each_other(state);
	an_agreement_that_is_over_brings_none_back(state);
	suspensions_are_of_one_or_of_all(state);
	an_approval_is_given_once_and_taken_back_once(state);
	assert_int_equal(facts_review_open(f, &s, 1, "why", T0, &row), 0);
	assert_int_equal(facts_review_close(f, row, "seen", ada, T0 + 1), 0);
	assert_int_equal(facts_review_close(f, row, "again", ada, T0 + 2), -EEXIST);
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++) {
		json_t *columns = NULL, *c;
		char sql[200];
		size_t n;

		snprintf(sql, sizeof(sql), "DELETE FROM %s", tables[i]);
		assert_int_not_equal(sqlite3_exec(f->db, sql, NULL, NULL, NULL), SQLITE_OK);
		snprintf(sql, sizeof(sql), "SELECT name FROM pragma_table_info('%s')", tables[i]);
		assert_int_equal(facts_rows(f, &columns, sql, ""), 0);
		assert_true(json_array_size(columns) > 3);
		json_array_foreach(columns, n, c)
		{
			const char *name = json_string_value(json_object_get(c, "name"));

			/* Of the first row: what ends it has been set, but for the suspension of all and the like. */
			snprintf(sql, sizeof(sql), "UPDATE %s SET %s = %s WHERE rowid = 1", tables[i], name, name);
			if (sqlite3_exec(f->db, sql, NULL, NULL, NULL) == SQLITE_OK)
				fail_msg("%s.%s can be changed", tables[i], name);
		}
		json_decref(columns);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_consent_has_a_past, setup, teardown),
		cmocka_unit_test_setup_teardown(an_engagement_ends_when_that_was_known, setup, teardown),
		cmocka_unit_test_setup_teardown(versions_follow_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(an_agreement_that_is_over_brings_none_back, setup, teardown),
		cmocka_unit_test_setup_teardown(suspensions_are_of_one_or_of_all, setup, teardown),
		cmocka_unit_test_setup_teardown(an_approval_is_given_once_and_taken_back_once, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_changed_afterwards, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
