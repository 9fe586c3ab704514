/* Months in archives: read as before, and found out when changed. */
#include "tests/unit/archive_fixture.h"

#include <sys/stat.h>

/* ---- reading ---- */

static void test_nothing_old(void **state)
{
	struct fixture *f = *state;
	struct archive_made m;

	add_records(f->l, OCTOBER, 3, 10);
	m = make(f, NOVEMBER - 1); /* the month is not over */
	assert_null(m.statement);
	archive_made_done(&m);
}

#define QUESTIONS 8
static void ask(struct ledger *l, json_t *answers[QUESTIONS])
{
	static const struct file_id file = {.b = {5, 2, 3}};
	static uint8_t sealed[32];
	static const struct ledger_name name = {sealed, sizeof(sealed)};

	memset(sealed, 1, sizeof(sealed));
	answers[0] = search(l, (struct ledger_filter){.outcome = LEDGER_FAILED});
	answers[1] = search(l, (struct ledger_filter){.user = "alice", .outcome = LEDGER_FAILED});
	answers[2] = search(l, (struct ledger_filter){.file = &file});
	answers[3] = search(l, (struct ledger_filter){.names = &name, .names_n = 1});
	answers[4] = search(l, (struct ledger_filter){.since = OCTOBER + DAY, .until = OCTOBER + 3 * DAY, .outcome = LEDGER_FAILED});
	answers[5] = search(l, (struct ledger_filter){.since = NOVEMBER, .until = NOVEMBER + 2 * DAY, .outcome = LEDGER_FAILED});
	answers[6] = search(l, (struct ledger_filter){.op = "grant"});
	answers[7] = search(l, (struct ledger_filter){.client = "acme", .session = 8, .outcome = LEDGER_FAILED});
}

/* Over a seam within a block, with a whole segment before it and one over it. */
static void test_questions_answer_the_same(void **state)
{
	json_t *before[QUESTIONS], *between[QUESTIONS], *after[QUESTIONS];
	struct fixture *f = *state;
	struct ledger_stats s;

	add_records(f->l, OCTOBER, 1, 10);
	add_records(f->l, OCTOBER + 2 * DAY, 3, SEGMENT / 2 + 100);
	add_records(f->l, NOVEMBER + DAY, 2, SEGMENT / 2 + 17);
	add_records(f->l, DECEMBER + DAY, 2, 5);
	sign_head(f->l);
	ask(f->l, before);
	archive(f, DECEMBER, "2026-10");
	ask(f->l, between); /* rows are still in both */
	expect_sound(f, 1);
	clean(f->l);
	archive(f, DECEMBER, "2026-11");
	clean(f->l);
	ask(f->l, after);
	for (int i = 0; i < QUESTIONS; i++) {
		char what[40];

		/* the acts of archiving are new */
		if (i == 0)
			for (size_t r = json_array_size(after[0]); r-- > 0;)
				if (!strcmp(json_string_value(json_object_get(json_array_get(after[0], r), "op")), "ledger-archive"))
					json_array_remove(after[0], r);
		if (i == 0)
			for (size_t r = json_array_size(between[0]); r-- > 0;)
				if (!strcmp(json_string_value(json_object_get(json_array_get(between[0], r), "op")), "ledger-archive"))
					json_array_remove(between[0], r);
		snprintf(what, sizeof(what), "question %d", i);
		json_incref(before[i]);
		expect_same(what, before[i], between[i]);
		expect_same(what, before[i], after[i]);
	}
	expect_sound(f, 2);
	assert_int_equal(count_rows(f->l, "block"), 1);
	assert_int_equal(count_rows(f->l, "posting"), 0);
	assert_int_equal(ledger_stats(f->l, &s), 0);
	assert_int_equal(s.archives, 2);
	assert_int_equal(s.here_records, 10);
	assert_int_equal(s.archives_missing, 0);
	assert_true(s.archives_bytes > 0 && s.free > 0);
}

static off_t file_size(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	return st.st_size;
}

static int64_t number(struct ledger *l, const char *pragma)
{
	sqlite3_stmt *st;
	int64_t n;

	assert_int_equal(sqlite3_prepare_v2(ledger_db(l), pragma, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return n;
}

/* The room of a month in an archive is given back to the disk, by steps between which records come in, and what lay behind it stays. */
static void test_room_is_given_back(void **state)
{
	struct fixture *f = *state;
	off_t before;
	bool more = true;
	unsigned steps = 0;

	add_records(f->l, OCTOBER, 3, 6 * SEGMENT);
	add_records(f->l, NOVEMBER + DAY, 2, SEGMENT);
	archive(f, NOVEMBER, "2026-10");
	assert_int_equal(sqlite3_exec(ledger_db(f->l), "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL), SQLITE_OK);
	before = file_size(f);
	for (; more && steps < 1000; steps++) {
		assert_int_equal(ledger_archive_clean(f->l, &more), 0);
		if (steps % 4 == 0)
			add_records(f->l, NOVEMBER + 2 * DAY + steps, 2, 3);
	}
	assert_false(more);
	assert_true(file_size(f) < before / 2);
	assert_true(number(f->l, "PRAGMA freelist_count") <= 256);
	expect_sound(f, 1);
}

/* A ledger of a former version, which SQLite cannot shorten bit by bit, becomes one that it can. */
static void test_older_files_learn_it(void **state)
{
	struct fixture *f = *state;
	int64_t rows;

	add_records(f->l, OCTOBER, 3, 1000);
	rows = count_rows(f->l, "path");
	assert_int_equal(number(f->l, "PRAGMA auto_vacuum"), 2);
	assert_int_equal(sqlite3_exec(ledger_db(f->l), "PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=NONE; VACUUM", NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(number(f->l, "PRAGMA auto_vacuum"), 0);
	ledger_source_free(source);
	source = NULL;
	ledger_close(f->l);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	assert_int_equal(number(f->l, "PRAGMA auto_vacuum"), 2);
	assert_int_equal(count_rows(f->l, "path"), rows);
	expect_sound(f, 0);
}

/* Afterwards records come in as ever, also of what a journal named in an archived month; and it opens again. */
static void test_goes_on(void **state)
{
	struct fixture *f = *state;
	struct chain_hash hash;
	struct record rec;
	json_t *rows;

	add_records(f->l, OCTOBER, 3, 1500);
	now_is = NOVEMBER + 1;
	archive(f, NOVEMBER, "2026-10");
	clean(f->l);
	ledger_source_free(source);
	ledger_close(f->l);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &source), 0);
	now_is = NOVEMBER + 5;
	assert_int_equal(ledger_begin(f->l), 0);
	rec = make_open(7, NOVEMBER + 5, 1, 2);
	assert_int_equal(ledger_add_record(f->l, source, ++seq, &rec), 1);
	assert_int_equal(ledger_commit(f->l), 0);
	add_records(f->l, NOVEMBER + 6, 2, SEGMENT);
	expect_sound(f, 1);
	rows = search(f->l, (struct ledger_filter){.since = NOVEMBER + 5, .until = NOVEMBER + 6});
	assert_int_equal(json_array_size(rows), 1);
	assert_true(json_is_object(json_object_get(json_array_get(rows, 0), "path")));
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "comm")), "cp");
	json_decref(rows);
	/* a second month refers to names of the first */
	archive(f, DECEMBER, "2026-11");
	clean(f->l);
	expect_sound(f, 2);
	rows = search(f->l, (struct ledger_filter){.since = NOVEMBER + 5, .until = NOVEMBER + 6});
	assert_true(json_is_object(json_object_get(json_array_get(rows, 0), "path")));
	json_decref(rows);
	assert_int_equal(ledger_hash_at(f->l, 2, &hash), 0);
	assert_int_equal(ledger_hash_at(f->l, 1000, &hash), -ENOENT);
}

/* An act that keyd sends again is known although its month is archived. */
static void test_act_again(void **state)
{
	struct fixture *f = *state;
	const struct ledger_act act = {.seq = 999999, .time_ns = (int64_t)OCTOBER * 1000000000, .kind = "grant", .uid = 0};
	int64_t n;

	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &act), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	archive(f, NOVEMBER, "2026-10");
	clean(f->l);
	n = count_rows(f->l, "act");
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &act), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	assert_int_equal(count_rows(f->l, "act"), n);
}

/* Batches that a wrong clock dated ahead go with the month before which they came; one that it set back has a name of its own. */
static void test_wrong_clock(void **state)
{
	struct fixture *f = *state;

	add_records(f->l, DECEMBER + 400 * DAY, 1, 5);
	add_records(f->l, OCTOBER + 5, 1, 5);
	archive(f, NOVEMBER, "2026-10");
	add_records(f->l, OCTOBER + 6, 1, 5);
	archive(f, NOVEMBER, "2026-10.2");
	clean(f->l);
	expect_sound(f, 2);
}

/* A clock that was behind for a moment makes an archive of that month with all that was before it: it is as old as the newest of that. */
static void test_age_of_what_a_clock_behind_closed(void **state)
{
	struct fixture *f = *state;
	struct archive_end end;
	int64_t newest;

	add_records(f->l, OCTOBER + DAY, 1, 5);
	add_records(f->l, NOVEMBER + DAY, 1, 5);
	add_records(f->l, OCTOBER - 2500 * DAY, 1, 5);
	now_is = NOVEMBER + 2 * DAY;
	archive(f, NOVEMBER, "2019-11");
	assert_int_equal(ledger_archive_oldest(f->l, &end, &newest), 0);
	assert_int_equal(newest, NOVEMBER + DAY);
	add_records(f->l, NOVEMBER + 3 * DAY, 1, 5);
	now_is = DECEMBER;
	archive(f, DECEMBER, "2026-11");
	assert_int_equal(destroy(f, NULL), 0);
	assert_int_equal(ledger_archive_oldest(f->l, &end, &newest), 0);
	assert_int_equal(newest, NOVEMBER + 3 * DAY);
}

/* Also when it is a file that is missing: what cannot be archived is not nothing to do. */
static void test_what_fails_is_not_nothing(void **state)
{
	struct archive_wanted wanted = {.until = NOVEMBER};
	struct fixture *f = *state;
	struct archive_made m = {.fd = -1};
	char folder[160];

	add_records(f->l, OCTOBER + DAY, 1, 5);
	wanted.ledger_path = f->path;
	snprintf(folder, sizeof(folder), "%s/archive", f->dir);
	assert_int_equal(symlink("nowhere", folder), 0);
	assert_true(archive_make(&wanted, &m) < 0);
	assert_int_equal(unlink(folder), 0);
	archive(f, NOVEMBER, "2026-10");
}

static void test_counts_of_a_client(void **state)
{
	const struct ledger_accesses_wanted w = {.client = "acme", .since = 0, .until = DECEMBER + 400LL * DAY};
	json_t *before = NULL, *after = NULL;
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		struct ledger_accesses_wanted page = w;
		json_t **ret = i ? &after : &before;
		char *next = NULL;

		if (i == 0)
			add_records(f->l, OCTOBER + 3, 3, 2000);
		else
			archive(f, NOVEMBER, "2026-10");
		if (i)
			clean(f->l);
		do {
			page.after = next;
			next = NULL;
			assert_int_equal(ledger_accesses(f->l, &page, ret, &next, &(struct ledger_accesses_place){0}), 0);
			free((char *)page.after);
		} while (next);
	}
	assert_true(json_is_object(json_object_get(json_array_get(json_object_get(before, "files"), 0), "path")));
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

/* ---- what is found out ---- */

static void test_changes_are_named(void **state)
{
	struct fixture *f = *state;
	const char *copy;

	add_records(f->l, OCTOBER, 3, 3000);
	add_records(f->l, NOVEMBER, 3, 3000);
	add_records(f->l, DECEMBER, 1, 3);
	archive(f, DECEMBER, "2026-10");
	archive(f, DECEMBER, "2026-11");
	sign_head(f->l);
	clean(f->l);
	copy = copy_of(f, "");
	assert_int_equal(verify(copy).first_bad, 0);
	in_copy(f, "rm 2026-10*");
	expect_reason(copy, "archive 2026-10, records 1 to 9000, is missing");
	copy_of(f, "");
	in_copy(f, "mv 2026-10.coffer-log.zst x && cp 2026-11.coffer-log.zst 2026-10.coffer-log.zst");
	expect_reason(copy, "archive 2026-10 is not the one that was signed");
	copy_of(f, "");
	in_copy(f, "truncate -s -7 2026-11*");
	expect_reason(copy, "archive 2026-11 was changed or cut");
	copy_of(f, "");
	in_copy(f, "printf X | dd of=2026-10.coffer-log.zst bs=1 seek=200 conv=notrunc status=none");
	expect_reason(copy, "archive 2026-10 was changed");
	copy_of(f, "");
	edit_copy(copy, "DELETE FROM archive WHERE id=1");
	expect_reason(copy, "archive 2026-11 does not go on");
	copy_of(f, "");
	edit_copy(copy, "DELETE FROM archive WHERE id=2");
	expect_reason(copy, "does not go on where its archives end");
	copy_of(f, "");
	edit_copy(copy, "UPDATE archive SET signature=zeroblob(64) WHERE id=2");
	expect_reason(copy, "signature of archive 2026-11");
	copy_of(f, "");
	edit_copy(copy, "UPDATE archive SET destroyed='{}' WHERE id=1");
	expect_reason(copy, "list of archives is damaged");
	copy_of(f, "");
	edit_copy(copy, "UPDATE session SET user='mallory' WHERE id=1");
	expect_reason(copy, "kept of archived months");
	copy_of(f, "");
	edit_copy(copy, "DELETE FROM act WHERE id=1");
	expect_reason(copy, "kept of archived months");
	copy_of(f, "");
	edit_copy(copy, "DELETE FROM kept_path");
	expect_reason(copy, "kept of archived months");
	copy_of(f, "");
	edit_copy(copy, "UPDATE chain SET time=time+1");
	assert_true(verify(copy).first_bad > 0);
	copy_of(f, "");
	edit_copy(copy, "UPDATE base SET record_to=record_to+1");
	expect_reason(copy, "does not go on where its archives end");
	assert_int_equal(verify(f->path).first_bad, 0);
}

/* A head that somebody kept may lie in an archive. */
static void test_anchor_in_an_archive(void **state)
{
	struct fixture *f = *state;
	struct ledger_head head;
	struct chain_batch b;
	struct ledger_verdict v;

	add_records(f->l, OCTOBER, 2, 10);
	assert_int_equal(ledger_head(f->l, &b), 0);
	head = (struct ledger_head){b.batch, b.hash};
	add_records(f->l, OCTOBER, 2, 10);
	archive(f, NOVEMBER, "2026-10");
	clean(f->l);
	assert_int_equal(verify_file(f->path, &keys, &head, &v), 0);
	assert_int_equal(v.first_bad, 0);
	head.hash.b[0] ^= 1;
	assert_int_equal(verify_file(f->path, &keys, &head, &v), 0);
	assert_int_equal(v.first_bad, b.batch);
}

/* Whatever byte of the end is another, or however much is missing: refused, and nothing else happens. */
static void test_hostile_file(void **state)
{
	struct fixture *f = *state;
	char path[160], bad[160];
	struct stat st;
	uint8_t *good;
	int fd;

	add_records(f->l, OCTOBER, 2, 20);
	archive(f, NOVEMBER, "2026-10");
	snprintf(path, sizeof(path), "%s/archive/2026-10.coffer-log.zst", f->dir);
	snprintf(bad, sizeof(bad), "%s/archive/bad", f->dir);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	good = malloc((size_t)st.st_size);
	assert_int_equal(read(fd, good, (size_t)st.st_size), st.st_size);
	close(fd);
	for (off_t at = 0; at < st.st_size; at += at < st.st_size - 1600 ? 37 : 1)
		for (int cut = 0; cut < 2; cut++) {
			struct archive_file *file = NULL;
			sqlite3 *db = NULL;
			int r;

			fd = open(bad, O_WRONLY | O_CREAT | O_TRUNC, 0600);
			good[at] ^= 0x10;
			assert_int_equal(write(fd, good, (size_t)(cut ? at : st.st_size)), cut ? at : st.st_size);
			good[at] ^= 0x10;
			close(fd);
			r = archive_file_open(bad, &file);
			if (r == 0) /* the statement may say it otherwise, or a frame: only the signature tells the one, reading the other */
				r = archive_file_check(file, NULL);
			archive_file_close(file);
			if (cut)
				assert_int_equal(r, -EUCLEAN);
			else
				assert_true(r == -EUCLEAN || r == 0);
			if (archive_db_open(bad, &db) == 0)
				sqlite3_close(db);
		}
	free(good);
}

/* ---- retention ---- */

static void test_retention(void **state)
{
	struct fixture *f = *state;
	struct ledger_verdict v;
	struct ledger_stats s;
	const char *copy;
	json_t *rows;

	assert_int_equal(destroy(f, NULL), -ENOENT);
	add_records(f->l, OCTOBER, 3, 1000);
	add_records(f->l, NOVEMBER, 3, 1000);
	add_records(f->l, DECEMBER, 1, 4);
	archive(f, DECEMBER, "2026-10");
	archive(f, DECEMBER, "2026-11");
	clean(f->l);
	assert_int_equal(destroy(f, "2026-11"), -ESTALE); /* the oldest first */
	assert_int_equal(destroy(f, NULL), 0);
	v = verify(f->path);
	assert_string_equal(v.reason, "");
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.destroyed_to, 3000);
	assert_int_equal(v.destroyed_at, now_is);
	assert_int_equal(v.archives, 1);
	assert_int_equal(v.records, 6004);
	rows = search(f->l, (struct ledger_filter){.user = "alice", .op = "open"});
	assert_int_equal(json_array_size(rows), 1500 + 2);
	assert_true(json_is_object(json_object_get(json_array_get(rows, 0), "path")));
	json_decref(rows);
	assert_int_equal(ledger_stats(f->l, &s), 0);
	assert_int_equal(s.destroyed_records, 3000);
	assert_int_equal(s.archives, 1);
	assert_int_equal(s.since, NOVEMBER);
	copy = copy_of(f, "");
	edit_copy(copy, "UPDATE archive SET destroyed_signature=zeroblob(64) WHERE id=1");
	expect_reason(copy, "nobody signed that archive 2026-10 was destroyed");
	copy_of(f, "");
	edit_copy(copy, "UPDATE archive SET destroyed=NULL WHERE id=1");
	expect_reason(copy, "archive 2026-10, records 1 to 3000, is missing");
	assert_int_equal(destroy(f, NULL), 0);
	v = verify(f->path);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.destroyed_to, 6000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_old, setup, teardown),
		cmocka_unit_test_setup_teardown(test_questions_answer_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_room_is_given_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_older_files_learn_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_act_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong_clock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_age_of_what_a_clock_behind_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_fails_is_not_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_counts_of_a_client, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_are_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_anchor_in_an_archive, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_retention, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
