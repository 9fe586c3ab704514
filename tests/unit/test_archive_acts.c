/* Acts in archives: who was let in, and who was not, goes along with its month; what somebody decided stays. */
#include "tests/unit/archive_fixture.h"

static void add_acts(struct fixture *f, time_t when, const char *kind, int n)
{
	json_t *outcome = strcmp(kind, "refused") == 0 ? json_string("NoGrant") : NULL;

	now_is = when;
	assert_int_equal(ledger_begin(f->l), 0);
	for (int i = 0; i < n; i++) {
		const struct ledger_act a = {.time_ns = (int64_t)when * 1000000000 + i, .kind = kind, .uid = 1000 + i % 3, .user = i % 3 ? "alice" : "bob",
			.client = i % 2 ? "acme" : "globex", .purpose = "support", .outcome = outcome, .detail = "{\"steps\":[]}"};

		assert_int_equal(ledger_add_act(f->l, &a), 0);
	}
	assert_int_equal(ledger_commit(f->l), 0);
	json_decref(outcome);
}

static size_t count(struct ledger *l, struct ledger_filter f)
{
	json_t *rows = search(l, f);
	size_t n = json_array_size(rows);

	json_decref(rows);
	return n;
}

static json_t *counted(struct ledger *l)
{
	struct ledger_accesses_wanted page = {.client = "acme", .since = OCTOBER, .until = DECEMBER};
	json_t *ret = NULL;
	char *next = NULL;

	do {
		page.after = next;
		next = NULL;
		assert_int_equal(ledger_accesses(l, &page, &ret, &next, &(struct ledger_accesses_place){0}), 0);
		free((char *)page.after);
	} while (next);
	return ret;
}

#define ACT_QUESTIONS 5

static void ask_acts(struct ledger *l, json_t *answers[ACT_QUESTIONS])
{
	answers[0] = search(l, (struct ledger_filter){.op = "mount"});
	answers[1] = search(l, (struct ledger_filter){.client = "acme", .user = "alice", .outcome = LEDGER_FAILED});
	answers[2] = search(l, (struct ledger_filter){.op = "grant"});
	answers[3] = search(l, (struct ledger_filter){.since = OCTOBER + DAY, .until = NOVEMBER + 2 * DAY});
	answers[4] = counted(l);
}

static void fill_acts(struct fixture *f)
{
	add_records(f->l, OCTOBER, 2, 100);
	add_acts(f, OCTOBER + DAY, "mount", 5000);
	add_acts(f, OCTOBER + 2 * DAY, "refused", 60);
	add_acts(f, OCTOBER + 3 * DAY, "disclosure", 4);
	add_acts(f, NOVEMBER + DAY, "mount", 70);
	add_acts(f, NOVEMBER + DAY, "refused", 7);
	add_records(f->l, NOVEMBER + DAY, 2, 100);
	add_acts(f, DECEMBER + DAY, "mount", 3);
}

/* Who was let in, and who was not, goes into the archive of its month and is found there; what somebody decided stays. */
static void test_acts_go_with_their_month(void **state)
{
	json_t *before[ACT_QUESTIONS], *after[ACT_QUESTIONS];
	struct fixture *f = *state;
	int64_t all;
	struct ledger_act again = {.seq = 77, .time_ns = (int64_t)(OCTOBER + 4 * DAY) * 1000000000, .kind = "mount", .uid = 1};

	now_is = OCTOBER;
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &again), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	fill_acts(f);
	sign_head(f->l);
	for (int i = 0; i < 3; i++) { /* rows in both; one month; two */
		ask_acts(f->l, before);
		all = count_rows(f->l, "act");
		if (i != 1)
			archive(f, DECEMBER, i ? "2026-11" : "2026-10");
		if (i)
			clean(f->l);
		ask_acts(f->l, after);
		for (int n = 0; n < ACT_QUESTIONS; n++) {
			assert_true(json_equal(before[n], after[n]));
			json_decref(before[n]);
			json_decref(after[n]);
		}
		expect_sound(f, i == 2 ? 2 : 1);
		if (i == 1)
			assert_int_equal(count_rows(f->l, "act"), all - 5000 - 60 - 1);
		assert_int_equal(ledger_begin(f->l), 0); /* not once more */
		assert_int_equal(ledger_add_act(f->l, &again), 0);
		assert_int_equal(ledger_commit(f->l), 0);
	}
	assert_int_equal(count(f->l, (struct ledger_filter){.op = "mount"}), 5000 + 70 + 3 + 1);
	again.seq = 78; /* another one of that moment */
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &again), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	assert_int_equal(count(f->l, (struct ledger_filter){.op = "mount"}), 5000 + 70 + 3 + 2);
	ledger_source_free(source);
	source = NULL;
	ledger_close(f->l);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	clean(f->l);
	assert_int_equal(count(f->l, (struct ledger_filter){.op = "mount", .client = "globex"}), 2500 + 35 + 2);
	expect_sound(f, 2);
}

/* They end with it, whether their rows are out of the ledger by then or not; what stays is what counts for good. */
static void test_acts_end_with_their_month(void **state)
{
	struct fixture *f = *state;

	fill_acts(f);
	archive(f, DECEMBER, "2026-10");
	assert_int_equal(destroy(f, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(count(f->l, (struct ledger_filter){.op = "mount"}), 70 + 3);
		assert_int_equal(count(f->l, (struct ledger_filter){.op = "refused"}), 7);
		assert_int_equal(count(f->l, (struct ledger_filter){.op = "disclosure"}), 4);
		assert_true(count(f->l, (struct ledger_filter){.op = "grant", .until = NOVEMBER}) > 0);
		expect_sound(f, 0);
		clean(f->l);
	}
}

/* An archive that an older version made, and then one of ours: acts of both months leave, and are found. */
static void test_acts_of_an_older_archive(void **state)
{
	json_t *before[ACT_QUESTIONS], *after[ACT_QUESTIONS];
	struct fixture *f = *state;
	const int64_t journals[] = {(int64_t)journal};
	const struct archive_wanted w = {
		.ledger_path = f->path, .until = DECEMBER, .journals = journals, .journals_n = 1, .acts_stay = true};
	struct archive_made m;
	int64_t all;

	fill_acts(f);
	sign_head(f->l);
	ask_acts(f->l, before);
	assert_int_equal(archive_make(&w, &m), 0);
	assert_string_equal(m.archive.name, "2026-10");
	assert_int_equal(take(f, &m), 0);
	archive_made_done(&m);
	all = count_rows(f->l, "act");
	clean(f->l);
	assert_int_equal(count_rows(f->l, "act"), all); /* as it was then */
	expect_sound(f, 1);
	archive(f, DECEMBER, "2026-11");
	clean(f->l);
	assert_int_equal(count_rows(f->l, "act"), all + 1 - 5000 - 60 - 70 - 7);
	expect_sound(f, 2);
	ask_acts(f->l, after);
	for (int n = 0; n < ACT_QUESTIONS; n++) {
		assert_true(json_equal(before[n], after[n]));
		json_decref(before[n]);
		json_decref(after[n]);
	}
}

static void test_statements_of_both_forms(void **state)
{
	struct archive a = {.name = "2026-10", .last = {.batch = 3}, .from_time = 1, .to_time = 2}, b;
	scoped(freep) char *old = NULL, *new = NULL, *mixed = NULL;

	assert_int_equal(archive_statement(&a, &old), 0);
	assert_null(strstr(old, "act_times"));
	assert_int_equal(archive_parse(old, &b), 0);
	assert_false(b.acts_moved);
	a.acts_moved = true;
	a.act_from = 5;
	a.act_to = 7;
	assert_int_equal(archive_statement(&a, &new), 0);
	assert_int_equal(archive_parse(new, &b), 0);
	assert_true(b.acts_moved && b.act_from == 5 && b.act_to == 7);
	mixed = strdup(new);
	memcpy(strstr(mixed, "\"format\":2"), "\"format\":1", 10);
	assert_int_equal(archive_parse(mixed, &b), -EUCLEAN);
	memcpy(strstr(old, "\"format\":1"), "\"format\":2", 10);
	assert_int_equal(archive_parse(old, &b), -EUCLEAN);
}

static void test_acts_that_stay_are_not_to_be_changed(void **state)
{
	struct fixture *f = *state;
	const char *copy;

	fill_acts(f);
	archive(f, DECEMBER, "2026-10");
	clean(f->l);
	copy = copy_of(f, "");
	edit_copy(copy, "UPDATE act SET user='mallory' WHERE kind='disclosure'");
	expect_reason(copy, "kept of archived months");
	copy_of(f, "");
	edit_copy(copy, "DELETE FROM act WHERE id=(SELECT min(id) FROM act WHERE kind='disclosure')");
	expect_reason(copy, "kept of archived months");
	copy_of(f, "");
	edit_copy(copy, "INSERT INTO act (id,time,kind) VALUES (1000,1,'grant')");
	expect_reason(copy, "kept of archived months");
	copy_of(f, "");
	edit_copy(copy, "DELETE FROM act WHERE kind='mount' AND id=(SELECT max(id)-1 FROM act)");
	expect_reason(copy, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_acts_go_with_their_month, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acts_end_with_their_month, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acts_that_stay_are_not_to_be_changed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_acts_of_an_older_archive, setup, teardown),
		cmocka_unit_test(test_statements_of_both_forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
