/* From the journals of workers into the ledger: each record once, whoever ends when. */
#include "tests/unit/ledger_fixture.h"

/* A journal of one client with `n` opens in it, below the fixture's folder. */
struct worker {
	struct drain_journal *journal;
	struct journal_writer *writer;
	int fd;
};

struct drained {
	sd_event *event;
	struct drain *drain;
	unsigned damages;
};

static void append(struct worker *w, struct record r)
{
	uint8_t buf[RECORD_BYTES_MAX];
	int n = record_encode(&r, buf, sizeof(buf));

	assert_true(n > 0);
	assert_int_equal(journal_append(w->writer, buf, (size_t)n, 0), 0);
}

static void on_damage(void *userdata)
{
	unsigned *n = userdata;

	(*n)++;
}

static void start_drain(struct fixture *f, struct drained *d)
{
	assert_true(sd_event_new(&d->event) >= 0);
	assert_int_equal(drain_new(d->event, f->l, f->dirfd, &d->drain), 0);
	d->damages = 0;
}

static void stop_drain(struct drained *d)
{
	drain_free(d->drain);
	sd_event_unref(d->event);
}

static void start_worker(struct drained *d, struct worker *w)
{
	assert_int_equal(
		drain_add_journal(d->drain, ACME, 1, on_damage, &d->damages, &w->journal, &w->fd), 0);
	assert_int_equal(journal_writer_open(w->fd, drain_kick_fd(d->drain), &w->writer), 0);
}

/* Alice's session 7 at acme, and the worker that serves it. */
static void start(struct fixture *f, struct drained *d, struct worker *w)
{
	add_session(f->l, 7, ACME, "acme", "alice", 1000);
	start_drain(f, d);
	start_worker(d, w);
}

static void end_worker(struct worker *w)
{
	journal_writer_close(w->writer);
	close(w->fd);
}

static unsigned files_left(struct fixture *f, const char *name)
{
	return faccessat(f->dirfd, name, F_OK, 0) == 0;
}

static void test_drain(void **state)
{
	struct fixture *f = *state;
	struct drained d;
	struct worker w;

	start(f, &d, &w);
	append(&w, make_path(1));
	for (uint64_t i = 0; i < 25000; i++) { /* more than a batch */
		append(&w, make_open(7, i, 1, 0));
		if (i % 9000 == 8999)
			assert_int_equal(drain_run(d.drain), 0);
	}
	assert_int_equal(drain_run(d.drain), 0);
	assert_int_equal(count_records(f->l), 25000);
	assert_int_equal(drain_run(d.drain), 0);
	assert_int_equal(count_records(f->l), 25000);
	append(&w, make_open(7, 1, 1, 0));
	end_worker(&w);
	assert_true(files_left(f, "0000000000000001.journal"));
	drain_retire_journal(d.drain, w.journal);
	assert_int_equal(count_records(f->l), 25001);
	assert_false(files_left(f, "0000000000000001.journal"));
	assert_int_equal(drain_journals(d.drain), 0);
	stop_drain(&d);
}

/* A worker that hangs writes on after its socket was closed: what it writes is not lost with its journal. */
static void test_retired_but_alive(void **state)
{
	struct fixture *f = *state;
	struct drained d;
	struct worker w;

	start(f, &d, &w);
	append(&w, make_path(1));
	append(&w, make_open(7, 0, 1, 0));
	drain_retire_journal(d.drain, w.journal);
	assert_int_equal(count_records(f->l), 1);
	assert_true(files_left(f, "0000000000000001.journal"));
	append(&w, make_open(7, 1, 1, 0));
	assert_int_equal(drain_run(d.drain), 0);
	assert_int_equal(count_records(f->l), 2);

	/* The same when the coffer-fsd that started it dies, too. */
	stop_drain(&d);
	start_drain(f, &d);
	assert_int_equal(drain_replay(d.drain), 0);
	append(&w, make_open(7, 2, 1, 0));
	assert_true(files_left(f, "0000000000000001.journal"));
	end_worker(&w);
	assert_int_equal(drain_run(d.drain), 0);
	assert_int_equal(count_records(f->l), 3);
	assert_false(files_left(f, "0000000000000001.journal"));
	assert_int_equal(drain_journals(d.drain), 0);
	stop_drain(&d);
}

/* coffer-fsd dies between commit and release: the journal still offers what the ledger has. */
static void test_crash_between_commit_and_release(void **state)
{
	struct fixture *f = *state;
	struct drained d;
	struct worker w;
	uint8_t reader_page[24];

	start(f, &d, &w);
	assert_int_equal(pread(w.fd, reader_page, sizeof(reader_page), 8192), sizeof(reader_page));
	append(&w, make_path(1));
	for (uint64_t i = 0; i < 100; i++)
		append(&w, make_open(7, i, 1, 0));
	assert_int_equal(drain_run(d.drain), 0);
	stop_drain(&d);
	ledger_close(take_ptr(&f->l));
	assert_int_equal(pwrite(w.fd, reader_page, sizeof(reader_page), 8192), sizeof(reader_page));

	for (uint64_t i = 0; i < 5; i++)
		append(&w, make_open(7, i, 1, 0));
	end_worker(&w);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	start_drain(f, &d);
	assert_int_equal(drain_replay(d.drain), 0);
	assert_int_equal(count_records(f->l), 105);
	assert_int_equal(count_rows(f->l, "path"), 1);
	assert_false(files_left(f, "0000000000000001.journal"));
	stop_drain(&d);
}

static int fail_second(void *userdata)
{
	return ++*(int *)userdata > 1;
}

/* coffer-fsd dies between the two batches of a run, before it released anything: the first is in, and is not taken again. */
static void test_crash_between_batches(void **state)
{
	const uint64_t records = 70000; /* more than a batch has */
	struct fixture *f = *state;
	struct drained d;
	struct worker w;
	uint8_t reader_page[24];
	int commits = 0;

	start(f, &d, &w);
	assert_int_equal(pread(w.fd, reader_page, sizeof(reader_page), 8192), sizeof(reader_page));
	append(&w, make_path(1));
	for (uint64_t i = 0; i < records; i++)
		append(&w, make_open(7, i, 1, 0));
	sqlite3_commit_hook(ledger_db(f->l), fail_second, &commits);
	assert_true(drain_run(d.drain) < 0);
	assert_int_equal(commits, 2);
	assert_true(count_records(f->l) > 0 && count_records(f->l) < (int64_t)records);
	stop_drain(&d);
	ledger_close(take_ptr(&f->l));
	assert_int_equal(pwrite(w.fd, reader_page, sizeof(reader_page), 8192), sizeof(reader_page));

	end_worker(&w);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	start_drain(f, &d);
	assert_int_equal(drain_replay(d.drain), 0);
	assert_int_equal(count_records(f->l), records);
	stop_drain(&d);
}

/* The ledger cannot be written for a while: nothing is released, nothing lost, nothing twice. */
static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	const struct ledger_act note = {.time_ns = 1, .kind = "session-end", .uid = 1000};
	struct drained d;
	struct worker w;
	char sql[64];

	start(f, &d, &w);
	append(&w, make_path(1));
	append(&w, make_open(7, 0, 1, 0));
	assert_int_equal(drain_run(d.drain), 0);
	snprintf(sql, sizeof(sql), "PRAGMA max_page_count=1");
	assert_int_equal(
		sqlite3_exec(ledger_db(f->l), sql, NULL, NULL, NULL), SQLITE_OK); /* = as it is now */
	for (uint64_t i = 1; i < 5000; i++) {
		struct record rec = make_open(7, i, 1, 0);

		rec.access.size = i * i * 0x9e3779b97f4a7c15u; /* so that it needs room */
		append(&w, rec);
	}
	assert_int_equal(drain_note(d.drain, &note), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(drain_run(d.drain), -ENOSPC);
	assert_true(drain_failing(d.drain));
	assert_int_equal(count_records(f->l), 1);
	assert_int_equal(
		sqlite3_exec(ledger_db(f->l), "PRAGMA max_page_count=1000000", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(drain_run(d.drain), 0);
	assert_false(drain_failing(d.drain));
	assert_int_equal(count_records(f->l), 5000);
	assert_int_equal(count_rows(f->l, "act"), 1);
	end_worker(&w);
	drain_retire_journal(d.drain, w.journal);
	stop_drain(&d);
}

static void test_damaged_journal(void **state)
{
	struct fixture *f = *state;
	struct drained d;
	struct worker w;

	start(f, &d, &w);
	append(&w, make_path(1));
	append(&w, make_open(7, 0, 1, 0));
	append(&w, make_open(7, 0, 2, 0)); /* a lie */
	append(&w, make_open(7, 0, 1, 0));
	assert_int_equal(drain_run(d.drain), 0);
	assert_int_equal(count_records(f->l), 1);
	assert_int_equal(count_rows(f->l, "act"), 1);
	assert_int_equal(d.damages, 1);
	assert_int_equal(drain_run(d.drain), 0);
	assert_int_equal(d.damages, 1); /* told once */
	end_worker(&w);
	drain_retire_journal(d.drain, w.journal);
	assert_true(files_left(f, "0000000000000001.journal.damaged"));
	assert_int_equal(unlinkat(f->dirfd, "0000000000000001.journal.damaged", 0), 0);
	stop_drain(&d);
}

static void test_replay_of_strange_files(void **state)
{
	struct fixture *f = *state;
	struct drained d;
	int fd;

	fd = openat(f->dirfd, "00000000000000aa.journal", O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "rubbish", 7), 7);
	close(fd);
	/* Well made, but of another ledger. */
	assert_int_equal(journal_create(f->dirfd, "00000000000000ab.journal", 0xab, ACME, 1 << 20, &fd), 0);
	close(fd);
	start_drain(f, &d);
	assert_int_equal(drain_replay(d.drain), 0);
	assert_int_equal(count_rows(f->l, "act"), 2);
	assert_int_equal(unlinkat(f->dirfd, "00000000000000aa.journal.damaged", 0), 0);
	assert_int_equal(unlinkat(f->dirfd, "00000000000000ab.journal.damaged", 0), 0);
	stop_drain(&d);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_drain),
		T(test_retired_but_alive),
		T(test_crash_between_commit_and_release),
		T(test_crash_between_batches),
		T(test_full_disk),
		T(test_damaged_journal),
		T(test_replay_of_strange_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
