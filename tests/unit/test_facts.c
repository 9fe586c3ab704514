/* Facts: history, questions about a date, and that nothing can be changed afterwards. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keyd/facts.h"
#include "keyd/facts_sql.h"

#define T0 1700000000
#define DAY 86400

static const struct actor ada = {"ada", 100}, bob = {"bob", 200};

static int setup(void **state)
{
	struct facts *f = NULL;

	if (facts_open(":memory:", &f) < 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	facts_close(*state);
	return 0;
}

static struct fact_client add_client(struct facts *f, const char *name)
{
	char hex[CLIENT_ID_HEX];
	struct fact_client c;

	snprintf(hex, sizeof(hex), "%032x", (unsigned)(*name * 7919));
	assert_int_equal(facts_client_add(f, name, hex, "A Name", "a@b", ada, T0), 0);
	assert_int_equal(facts_client(f, name, FACTS_LATEST, &c), 0);
	return c;
}

/* A notice whose waiting is over at once. */
static void give_notice(struct facts *f, const struct fact_client *c, int64_t now)
{
	struct fact_notice n = {.client = c->row, .wait_until = now, .rule = "r", .source = "s"};
	int64_t row;

	assert_int_equal(facts_notice_begin(f, &n, now, &row), 0);
}

static int64_t grant_to(struct facts *f, const struct fact_client *c, const char *user, int64_t from,
	int64_t until, int64_t now)
{
	struct fact_grant g = {
		.subject = user,
		.uid = 1000,
		.purpose = "support",
		.rights = RIGHTS_READ,
		.party = PARTY_PROVIDER,
		.from = from,
		.until = until,
	};
	int64_t id = 0;

	assert_int_equal(facts_grant_add(f, c->row, &g, ada, now, &id), 0);
	return id;
}

static size_t access_count(struct facts *f, const char *client, int64_t at, int64_t now)
{
	json_t *rows = NULL;
	size_t n;

	assert_int_equal(facts_access(f, client, at, now, &rows), 0);
	n = json_array_size(rows);
	json_decref(rows);
	return n;
}

static void test_client(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");

	assert_string_equal(c.name, "A Name");
	assert_int_equal(facts_client_state(&c, T0), CLIENT_ACTIVE);
	assert_int_equal(facts_client(f, "other", FACTS_LATEST, &c), -ENOENT);
	assert_int_equal(facts_client(f, "acme", T0 - 1, &c), -ENOENT); /* not known then */
	assert_int_equal(facts_client_add(f, "acme", "ff", "B", "", ada, T0), -EEXIST);
}

static void test_transfer(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme"), other = add_client(f, "other");

	assert_int_equal(facts_transfer_finish(f, c.row, ada, T0), -ENOENT);
	assert_int_equal(facts_transfer_add(f, c.row, "aa", "hash", ada, T0 + 1), 0);
	assert_int_equal(facts_client(f, "acme", FACTS_LATEST, &c), 0);
	assert_int_equal(c.handed_over_at, T0 + 1);
	assert_int_equal(c.transferred_at, 0);
	assert_string_equal(c.successor, "aa");
	assert_int_equal(facts_transfer_finish(f, c.row, ada, T0 + 2), 0);
	assert_int_equal(facts_transfer_finish(f, c.row, bob, T0 + 9), 0); /* the first stays */
	assert_int_equal(facts_client(f, "acme", FACTS_LATEST, &c), 0);
	assert_int_equal(c.transferred_at, T0 + 2);
	assert_int_equal(facts_client(f, "acme", T0 + 1, &c), 0); /* what was known then */
	assert_int_equal(c.transferred_at, 0);
	/* handed over anew, to another: nobody has said that he has it */
	assert_int_equal(facts_transfer_add(f, c.row, "bb", "hash", ada, T0 + 3), 0);
	assert_int_equal(facts_client(f, "acme", FACTS_LATEST, &c), 0);
	assert_int_equal(c.transferred_at, 0);
	assert_string_equal(c.successor, "bb");
	assert_int_equal(facts_client(f, "other", FACTS_LATEST, &other), 0);
	assert_int_equal(other.handed_over_at, 0);
	assert_true(facts_execute(f, NULL, "UPDATE transfer SET successor = 'cc'", "") < 0);
	assert_true(facts_execute(f, NULL, "DELETE FROM transfer", "") < 0);
}

static void test_end_is_corrected_by_another_row(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");

	assert_int_equal(facts_client_end(f, c.row, T0 + 10 * DAY, ada, T0 + DAY), 0);
	assert_int_equal(facts_client_end(f, c.row, T0 + 20 * DAY, bob, T0 + 2 * DAY), 0);
	facts_client(f, "acme", FACTS_LATEST, &c);
	assert_int_equal(c.ended_on, T0 + 20 * DAY);
	assert_string_equal(c.end_recorded_by, "bob");
	assert_int_equal(facts_client_state(&c, T0 + 19 * DAY), CLIENT_ACTIVE);
	assert_int_equal(facts_client_state(&c, T0 + 20 * DAY), CLIENT_ENDED);
	facts_client(f, "acme", T0 + DAY, &c); /* what was known then */
	assert_int_equal(c.ended_on, T0 + 10 * DAY);
}

static void test_who_had_access_on_a_date(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	int count = 0;

	grant_to(f, &c, "carla", T0 + DAY, T0 + 30 * DAY, T0);
	assert_int_equal(access_count(f, "acme", T0, T0), 0);           /* not valid yet */
	assert_int_equal(access_count(f, "acme", FACTS_LATEST, T0), 1); /* but there */
	assert_int_equal(access_count(f, "acme", T0 + DAY, T0), 1);
	assert_int_equal(access_count(f, "acme", T0 + 30 * DAY, T0), 0); /* over: the end is not in it */
	assert_int_equal(access_count(f, "other", T0 + DAY, T0), 0);

	assert_int_equal(facts_grant_revoke(f, c.row, "carla", false, NULL, bob, T0 + 10 * DAY, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(access_count(f, "acme", FACTS_LATEST, T0 + 10 * DAY), 0);
	assert_int_equal(access_count(f, "acme", T0 + 10 * DAY - 1, T0 + 10 * DAY), 1);
	assert_int_equal(access_count(f, "acme", T0 + 10 * DAY, T0 + 10 * DAY), 0);
	/* A second revocation finds nothing, and changes nothing. */
	assert_int_equal(facts_grant_revoke(f, c.row, "carla", false, NULL, bob, T0 + 11 * DAY, &count), 0);
	assert_int_equal(count, 0);
}

static void test_revoke_only_what_is_named(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	int count = -1;

	grant_to(f, &c, "carla", T0, 0, T0);
	assert_int_equal(
		facts_grant_revoke(f, c.row, "carla", true, NULL, bob, T0, &count), 0); /* the group */
	assert_int_equal(count, 0);
	assert_int_equal(facts_grant_revoke(f, c.row, "carla", false, "training", bob, T0, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(facts_grant_revoke(f, c.row, "carla", false, "support", bob, T0, &count), 0);
	assert_int_equal(count, 1);
}

/* Decisions of now take all that is known: a clock that goes back brings nothing back. */
static void test_clock_back_brings_nothing_back(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	struct facts_view v;
	int count;

	grant_to(f, &c, "carla", T0, 0, T0);
	facts_grant_revoke(f, c.row, "carla", false, NULL, bob, T0 + 10 * DAY, &count);
	facts_suspend(f, c.row, "a reason", ada, T0 + 10 * DAY);
	assert_int_equal(facts_view(f, "acme", "bob", FACTS_LATEST, &v), 0);
	assert_int_equal(v.grants_count, 0);
	assert_int_equal(facts_client_state(&v.client, T0), CLIENT_SUSPENDED);
	facts_view_done(&v);
	assert_int_equal(facts_view(f, "acme", "bob", T0 + DAY, &v), 0);
	assert_int_equal(v.grants_count, 1);
	assert_int_equal(v.grants[0].party, PARTY_PROVIDER);
	assert_int_equal(facts_client_state(&v.client, T0), CLIENT_ACTIVE);
	facts_view_done(&v);
	assert_int_equal(facts_view(f, "nobody", "bob", FACTS_LATEST, &v), 0);
	assert_false(v.known);
}

static void test_suspend_resume(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");

	assert_int_equal(facts_resume(f, c.row, "x", ada, T0), -ENOENT);
	assert_int_equal(facts_suspend(f, c.row, "dispute", ada, T0), 0);
	assert_int_equal(facts_suspend(f, c.row, "again", ada, T0), -EEXIST);
	assert_int_equal(facts_resume(f, c.row, "settled", bob, T0 + DAY), 0);
	assert_int_equal(facts_suspend(f, c.row, "again", ada, T0 + 2 * DAY), 0);
	facts_client(f, "acme", T0 + DAY, &c);
	assert_string_equal(c.suspended, "");
	facts_client(f, "acme", T0, &c);
	assert_string_equal(c.suspended, "dispute");
}

static void test_hold_stops_intent(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	struct fact_destruction d = {.client = c.row, .due = T0, .generation = 1, .rule = "r", .source = "s"},
				*pending;
	int64_t hold, row;
	json_t *cert = NULL;
	size_t n;

	assert_int_equal(facts_hold_place(f, c.row, "matter", "reason", bob, T0, &hold), 0);
	assert_int_equal(facts_destruction_intend(f, &d, T0, &row), -EBUSY);
	assert_int_equal(facts_hold_lift(f, hold, "done", bob, T0 + 1), 0);
	assert_int_equal(facts_hold_lift(f, hold, "done", bob, T0 + 2), -ENOENT);
	assert_int_equal(facts_destruction_intend(f, &d, T0 + 3, &row), -EPERM);
	give_notice(f, &c, T0 + 3);
	assert_int_equal(facts_destruction_intend(f, &d, T0 + 3, &row), 0);
	assert_int_equal(facts_destruction_intend(f, &d, T0 + 3, &row), -EEXIST);
	facts_client(f, "acme", FACTS_LATEST, &c);
	assert_true(c.destroying);
	assert_int_equal(facts_client_state(&c, T0 + 3), CLIENT_DESTROYED);
	assert_int_equal(facts_destructions_pending(f, &pending, &n), 0);
	assert_int_equal(n, 1);
	assert_string_equal(pending[0].rule, "r");
	assert_int_equal(facts_destruction_finish(f, pending[0].row, true, "{}", "ab", T0 + 4), 0);
	/* Once. */
	assert_int_equal(facts_destruction_finish(f, pending[0].row, false, NULL, NULL, T0 + 5), -EEXIST);
	free(pending);
	facts_client(f, "acme", FACTS_LATEST, &c);
	assert_int_equal(c.destroyed_on, T0 + 4);
	assert_int_equal(facts_certificate(f, c.row, &cert), 0);
	json_decref(cert);
}

static void test_abandoned_intent_can_come_again(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	struct fact_destruction d = {.client = c.row, .generation = 1};
	json_t *cert = NULL;
	int64_t row;

	give_notice(f, &c, T0);
	assert_int_equal(facts_destruction_intend(f, &d, T0, &row), 0);
	assert_int_equal(facts_destruction_finish(f, row, false, NULL, NULL, T0), 0);
	assert_int_equal(facts_certificate(f, c.row, &cert), -ENOENT);
	facts_client(f, "acme", FACTS_LATEST, &c);
	assert_int_equal(facts_client_state(&c, T0), CLIENT_ACTIVE);
	assert_int_equal(facts_destruction_intend(f, &d, T0, &row), 0);
}

/* What the triggers must refuse, also to somebody who has the database open. */
static void test_nothing_is_changed(void **state)
{
	static const char *const attempts[] = {
		"DELETE FROM client",
		"UPDATE client SET name = 'x'",
		"DELETE FROM client_end",
		"UPDATE client_end SET ended_on = 1",
		"DELETE FROM access",
		"UPDATE access SET subject = 'mallory'",
		"UPDATE access SET rights = 3",
		"UPDATE access SET recorded_at = 0",
		"UPDATE access SET revoked_at = NULL", /* a revocation is not taken back */
		"UPDATE access SET revoked_by = 'x'",
		"DELETE FROM suspension",
		"UPDATE suspension SET reason = 'x'",
		"DELETE FROM hold",
		"UPDATE hold SET reason = 'x'",
		"UPDATE hold SET lifted_at = 5",
		"DELETE FROM session",
		"UPDATE session SET uid = 0",
		"UPDATE session SET ended_at = 5",
		"DELETE FROM destruction",
		"UPDATE destruction SET due = 5",
		"DELETE FROM notice",
		"UPDATE notice SET wait_until = 5",
		"UPDATE notice SET ended_at = NULL",
		"UPDATE notice SET again_at = 0",
		"DELETE FROM notice_schedule",
		"UPDATE notice_schedule SET until = 5",
		"UPDATE notice_schedule SET confirmed_uid = 5",
		"DELETE FROM act",
		"UPDATE act SET kind = 'x'",
		"DELETE FROM head",
		"UPDATE head SET hash = 'x'",
		"UPDATE outbox SET entry = 'x'",
	};
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	struct fact_session s = {.client = c.row, .user = "u", .uid = 5, .purpose = "p", .rights = "r"};
	struct fact_head h = {.batch = 1, .hash = "aa", .signature = "bb"};
	struct fact_destruction d = {.client = c.row};
	struct fact_schedule schedule;
	json_t *entry = json_pack("{s:s}", "kind", "x");
	int64_t id;
	int count;

	assert_int_equal(facts_client_end(f, c.row, T0, ada, T0), 0);
	grant_to(f, &c, "carla", T0, 0, T0);
	assert_int_equal(facts_grant_revoke(f, c.row, "carla", false, NULL, bob, T0, &count), 0);
	assert_int_equal(facts_suspend(f, c.row, "r", ada, T0), 0);
	assert_int_equal(facts_hold_place(f, c.row, "m", "r", ada, T0, &id), 0);
	assert_int_equal(facts_hold_lift(f, id, "r", ada, T0), 0);
	assert_int_equal(facts_session_begin(f, &s, T0, &id), 0);
	assert_int_equal(facts_session_end(f, id, "over", T0), 0);
	give_notice(f, &c, T0);
	assert_int_equal(facts_destruction_intend(f, &d, T0, &id), 0);
	assert_int_equal(facts_client(f, "acme", FACTS_LATEST, &c), 0);
	assert_int_equal(facts_notice_schedule(f, c.waiting, T0, "r", ada, T0), 0);
	assert_int_equal(facts_notice_scheduled(f, c.waiting, &schedule), 0);
	assert_int_equal(facts_notice_confirm(f, schedule.row, bob, T0), 0);
	assert_int_equal(facts_notice_end(f, c.row, NOTICE_CANCELLED, "r", T0, ada, T0), 0);
	assert_int_equal(facts_act(f, "k", NULL, ada, T0), 0);
	assert_int_equal(facts_head_add(f, &h), 0);
	assert_int_equal(facts_outbox_put(f, T0, entry), 0);
	json_decref(entry);
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
		if (facts_execute(f, NULL, attempts[i], "") != -EEXIST)
			fail_msg("not refused: %s", attempts[i]);
}

static void test_sessions(void **state)
{
	struct facts *f = *state;
	struct fact_client c = add_client(f, "acme");
	struct fact_session s = {.client = c.row, .user = "u", .uid = 5, .purpose = "p", .rights = "r"};
	int64_t first, second;
	bool had;

	assert_int_equal(facts_session_begin(f, &s, T0, &first), 0);
	assert_int_equal(facts_session_begin(f, &s, T0, &second), 0);
	assert_true(second > first);
	assert_int_equal(facts_session_end(f, first, "unmounted", T0), 0);
	assert_int_equal(facts_session_end(f, first, "again", T0), 0);
	assert_int_equal(facts_sessions_end_all(f, "crash", T0), 0);
	assert_int_equal(facts_had_session(f, c.hex, 5, &had), 0);
	assert_true(had);
	assert_int_equal(facts_had_session(f, c.hex, 6, &had), 0);
	assert_false(had);
}

static void test_outbox(void **state)
{
	struct facts *f = *state;
	json_t *entry = json_pack("{s:s}", "kind", "grant"), *entries = NULL;
	int64_t n, last;

	for (int i = 0; i < 3; i++)
		assert_int_equal(facts_outbox_put(f, T0 + i, entry), 0);
	assert_int_equal(facts_outbox_peek(f, 2, &entries), 0);
	assert_int_equal(json_array_size(entries), 2);
	last = json_integer_value(json_object_get(json_array_get(entries, 1), "seq"));
	assert_int_equal(json_integer_value(json_object_get(json_array_get(entries, 1), "time")), T0 + 1);
	json_decref(entries);
	assert_int_equal(facts_outbox_delivered(f, last + 1), 0);
	assert_int_equal(facts_outbox_count(f, &n), 0);
	assert_int_equal(n, 0);
	/* Numbers go on although the table is empty. */
	assert_int_equal(facts_outbox_put(f, T0, entry), 0);
	assert_int_equal(facts_outbox_peek(f, 2, &entries), 0);
	assert_true(json_integer_value(json_object_get(json_array_get(entries, 0), "seq")) > last + 1);
	json_decref(entries);
	json_decref(entry);
}

static void test_rollback(void **state)
{
	struct facts *f = *state;
	struct fact_client c;

	assert_int_equal(facts_begin(f), 0);
	add_client(f, "acme");
	facts_rollback(f);
	facts_rollback(f); /* again: nothing */
	assert_int_equal(facts_client(f, "acme", FACTS_LATEST, &c), -ENOENT);
}

static void test_reopen(void **state)
{
	char path[] = "/tmp/coffer-facts-XXXXXX", value[32];
	int fd = mkstemp(path);
	struct facts *f = NULL;

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(facts_open(path, &f), 0);
	add_client(f, "acme");
	assert_int_equal(facts_state_set(f, "clock", "1"), 0);
	assert_int_equal(facts_state_set(f, "clock", "2"), 0);
	facts_close(f);
	assert_int_equal(facts_open(path, &f), 0);
	assert_int_equal(facts_state_get(f, "clock", value, sizeof(value)), 0);
	assert_string_equal(value, "2");
	assert_int_equal(facts_state_get(f, "none", value, sizeof(value)), -ENOENT);
	/* Of a later version: refused, not guessed at. */
	assert_int_equal(facts_execute(f, NULL, "PRAGMA user_version=99", ""), 0);
	facts_close(f);
	assert_int_equal(facts_open(path, &f), -EPROTONOSUPPORT);
	unlink(path);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_client),
		T(test_transfer),
		T(test_end_is_corrected_by_another_row),
		T(test_who_had_access_on_a_date),
		T(test_revoke_only_what_is_named),
		T(test_clock_back_brings_nothing_back),
		T(test_suspend_resume),
		T(test_hold_stops_intent),
		T(test_abandoned_intent_can_come_again),
		T(test_nothing_is_changed),
		T(test_sessions),
		T(test_outbox),
		T(test_rollback),
		cmocka_unit_test(test_reopen),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
