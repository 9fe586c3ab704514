/* Rows: what goes in, once, and what does not. */
#include "tests/unit/ledger_fixture.h"

#include "fs/broker/whose.h"

static void test_exactly_once(void **state)
{
	struct fixture *f = *state;
	struct ledger_source *s;
	struct record rec;
	uint64_t journal;

	add_session(f->l, 7, ACME, "acme", "alice", 1000);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_commit(f->l), 0);

	/* The second time is a fresh coffer-fsd that reads the same journal from its start. */
	for (int times = 0; times < 2; times++) {
		assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
		assert_int_equal(ledger_begin(f->l), 0);
		rec = make_path(1);
		assert_int_equal(ledger_add_record(f->l, s, 1, &rec), times == 0);
		rec = make_process(1);
		assert_int_equal(ledger_add_record(f->l, s, 2, &rec), times == 0);
		for (uint64_t i = 3; i < 20; i++) {
			rec = make_open(7, 1000 + i, 1, 1);
			assert_int_equal(ledger_add_record(f->l, s, i, &rec), times == 0);
		}
		assert_int_equal(ledger_source_store(f->l, s), 0);
		assert_int_equal(ledger_commit(f->l), 0);
		ledger_source_free(s);
		ledger_close(take_ptr(&f->l));
		assert_int_equal(ledger_open(f->path, &f->l), 0);
	}
	assert_int_equal(count_records(f->l), 17);
	assert_int_equal(count_rows(f->l, "path"), 1);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	assert_int_equal(ledger_source_done(s), 19);
	ledger_source_free(s);
}

/* Row `i` of a page of versions: [file, version, size, time]. */
static void expect_version(const json_t *rows, size_t i, const char *file2, const char *version, int64_t size)
{
	const char *file, *text;
	json_int_t got, time;

	assert_int_equal(json_unpack(json_array_get(rows, i), "[s,s,I,I]", &file, &text, &got, &time), 0);
	assert_memory_equal(file, file2, 2);
	assert_string_equal(text, version);
	assert_int_equal(got, size);
	assert_true(time > 0);
}

/* A close that tells the version of file {id}. */
static struct record make_close(uint64_t session, uint8_t id, uint64_t size, const char *version)
{
	struct record rec = make_open(session, 1000, 0, 0);

	rec.access.op = RECORD_CLOSE;
	rec.access.file.b[0] = id;
	rec.access.size = size;
	snprintf(rec.access.detail, sizeof(rec.access.detail), "%s", version);
	return rec;
}

static void test_versions(void **state)
{
	const struct ledger_act accepted = {.seq = 1,
		.time_ns = 5 * (int64_t)SECOND,
		.kind = "fsck-accept",
		.client = "acme",
		.uid = 0,
		.detail = "{\"file\": \"07\", \"version\": \"v01.2\", \"size\": 3, \"at\": 5, \"store\": \"x\"}"};
	struct fixture *f = *state;
	struct ledger_source *s, *other;
	json_t *rows;
	uint64_t journal, journal2, seq = 1;
	struct record rec;
	char *next;

	add_session(f->l, 7, ACME, "acme", "alice", 1000);
	add_session(f->l, 8, UMBRELLA, "umbrella", "bob", 1001);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_add_journal(f->l, UMBRELLA, 98, &journal2), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	assert_int_equal(ledger_source_new(f->l, journal2, UMBRELLA, &other), 0);
	rec = make_close(7, 9, 100, "v0000000000000001.1");
	assert_int_equal(ledger_add_record(f->l, s, seq++, &rec), 1);
	rec = make_close(7, 9, 200, "v0000000000000002.1");
	assert_int_equal(ledger_add_record(f->l, s, seq++, &rec), 1);
	rec = make_close(7, 9, 300, ""); /* a reader: tells none */
	assert_int_equal(ledger_add_record(f->l, s, seq++, &rec), 1);
	rec = make_close(7, 5, 0, "v-");
	rec.access.op = RECORD_OPEN; /* cut by it: the size is the one before */
	assert_int_equal(ledger_add_record(f->l, s, seq++, &rec), 1);
	rec = make_close(7, 6, 1, "sector"); /* another word */
	assert_int_equal(ledger_add_record(f->l, s, seq++, &rec), 1);
	rec = make_close(8, 4, 44, "v0000000000000009.1");
	assert_int_equal(ledger_add_record(f->l, other, 1, &rec), 1);
	assert_int_equal(ledger_add_act(f->l, &accepted), 0);
	assert_int_equal(ledger_commit(f->l), 0);

	assert_int_equal(ledger_versions(f->l, ACME, "acme", "", &rows, &next), 0);
	assert_null(next);
	assert_int_equal(json_array_size(rows), 3);
	expect_version(rows, 0, "07", "v01.2", 3);
	expect_version(rows, 1, "05", "v-", -1);
	expect_version(rows, 2, "09", "v0000000000000002.1", 200);
	json_decref(rows);
	assert_int_equal(
		ledger_versions(f->l, ACME, "acme", "05020300000000000000000000000000", &rows, &next), 0);
	assert_int_equal(json_array_size(rows), 1); /* what was accepted came before */
	json_decref(rows);
	assert_int_equal(ledger_versions(f->l, ACME, "acme", "05", &rows, &next), -EINVAL);
	assert_int_equal(ledger_versions(f->l, UMBRELLA, "umbrella", "", &rows, &next), 0);
	assert_int_equal(json_array_size(rows), 1);
	json_decref(rows);
	ledger_source_free(s);
	ledger_source_free(other);
}

static void test_unknown_journal(void **state)
{
	struct fixture *f = *state;
	struct ledger_source *s;
	uint64_t journal;

	assert_int_equal(ledger_source_new(f->l, 1, ACME, &s), -ENOENT);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	assert_int_equal(ledger_source_new(f->l, journal, UMBRELLA, &s), -ENOENT);
}

static void test_lies_are_refused(void **state)
{
	struct fixture *f = *state;
	struct ledger_source *s;
	struct record rec;
	uint64_t journal;

	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	rec = make_path(3);
	assert_int_equal(ledger_add_record(f->l, s, 1, &rec), 1);
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), -EBADMSG); /* named twice */
	rec = make_open(7, 1, 4, 0);
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), -EBADMSG); /* a path nobody named */
	rec = make_open(7, 1, 3, 9);
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), -EBADMSG); /* a process nobody named */
	rec = make_open(7, 1, UINT32_MAX, 0);
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), -EBADMSG);
	rec = make_open(7, 1, 3, 0);
	assert_int_equal(ledger_add_record(f->l, s, 3, &rec), -EBADMSG); /* the second is missing */
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), 1);
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), 0); /* it is in already */
	assert_int_equal(ledger_commit(f->l), 0);
	ledger_source_free(s);
}

/* A worker of one client cannot put rows into a session of another. */
static void test_foreign_session(void **state)
{
	struct fixture *f = *state;
	const struct ledger_filter mine = {.uid = 2000, .since = INT64_MIN, .until = INT64_MAX};
	struct ledger_source *s;
	struct record rec;
	uint64_t journal;
	char *next;
	json_t *rows;

	add_session(f->l, 8, UMBRELLA, "umbrella", "bob", 2000);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	rec = make_open(8, 1, 0, 0);
	assert_int_equal(ledger_add_record(f->l, s, 1, &rec), 1);
	assert_int_equal(ledger_commit(f->l), 0);
	ledger_source_free(s);
	assert_int_equal(ledger_query(f->l, &mine, &rows, &next), 0);
	assert_int_equal(json_array_size(rows), 0);
	json_decref(rows);
	assert_int_equal(count_records(f->l), 1); /* kept, with nobody's name */
}

static void test_acts_once(void **state)
{
	struct fixture *f = *state;
	struct ledger_act a = {.seq = 5, .time_ns = 10, .kind = "grant", .uid = 0, .user = "root"};

	for (int i = 0; i < 3; i++) {
		assert_int_equal(ledger_begin(f->l), 0);
		assert_int_equal(ledger_add_act(f->l, &a), 0);
		assert_int_equal(ledger_commit(f->l), 0);
	}
	assert_int_equal(count_rows(f->l, "act"), 1);
	assert_int_equal(count_rows(f->l, "chain"), 1); /* nothing added: no batch */
	/* An older database of keyd was put back: its numbers come again, for other acts. */
	a.time_ns = 11;
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &a), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	assert_int_equal(count_rows(f->l, "act"), 2);
}

static void test_rollback_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	const struct ledger_act a = {.time_ns = 10, .kind = "seal", .uid = -1};
	struct chain_batch before, after;

	ledger_head(f->l, &before);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &a), 0);
	ledger_rollback(f->l);
	ledger_head(f->l, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(count_rows(f->l, "act"), 0);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &a), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	assert_int_equal(count_rows(f->l, "act"), 1);
}

static void test_newest_row(void **state)
{
	struct ledger_act a = {.time_ns = 5000000000, .kind = "seal", .uid = -1};
	struct fixture *f = *state;
	int64_t newest = -1;

	assert_int_equal(ledger_newest(f->l, &newest), 0);
	assert_int_equal(newest, 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ledger_begin(f->l), 0);
		assert_int_equal(ledger_add_act(f->l, &a), 0);
		assert_int_equal(ledger_commit(f->l), 0);
		a.time_ns = 2000000000; /* a clock that was set back: the newest stays */
	}
	assert_int_equal(ledger_newest(f->l, &newest), 0);
	assert_int_equal(newest, 5);
}

static void test_rows_behind_the_last_batch(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(sqlite3_exec(ledger_db(f->l), "INSERT INTO act (time,kind) VALUES (1,'forged')",
				 NULL, NULL, NULL),
		SQLITE_OK);
	ledger_close(take_ptr(&f->l));
	assert_int_equal(ledger_open(f->path, &f->l), -EUCLEAN);
}

/* That it could not be looked up is neither yes nor no, and not what is remembered. */
static void test_whose_a_record_is(void **state)
{
	struct fixture *f = *state;
	sqlite3 *db = ledger_db(f->l);
	struct whose w;

	add_session(f->l, 7, ACME, "acme", "alice", 1000);
	add_session(f->l, 8, UMBRELLA, "umbrella", "bob", 1001);
	assert_int_equal(whose_init(&w, db, ACME), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sqlite3_exec(db, "ALTER TABLE session RENAME TO away", NULL, NULL, NULL), SQLITE_OK);
		assert_true(whose_is(&w, 1 + i) < 0);
		assert_int_equal(sqlite3_exec(db, "ALTER TABLE away RENAME TO session", NULL, NULL, NULL), SQLITE_OK);
		assert_int_equal(whose_is(&w, 1 + i), i == 0);
	}
	whose_done(&w);
}

static void test_not_a_ledger(void **state)
{
	struct fixture *f = *state;
	struct ledger *l;
	int fd = openat(f->dirfd, "copy.db", O_CREAT | O_WRONLY, 0600);

	assert_int_equal(write(fd, "this is not a database, and long enough to say so", 49), 49);
	close(fd);
	snprintf(f->path, sizeof(f->path), "%s/copy.db", f->dir);
	assert_int_equal(ledger_open(f->path, &l), -EUCLEAN);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_exactly_once),
		T(test_versions),
		T(test_unknown_journal),
		T(test_lies_are_refused),
		T(test_foreign_session),
		T(test_acts_once),
		T(test_rollback_leaves_nothing),
		T(test_newest_row),
		T(test_rows_behind_the_last_batch),
		T(test_whose_a_record_is),
		T(test_not_a_ledger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
