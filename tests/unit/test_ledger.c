#include "tests/unit/ledger_fixture.h"

#include <sys/stat.h>

#include "common/pathseal.h"

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

/* ---- rows ---- */

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

/* ---- questions ---- */

static void fill(struct fixture *f)
{
	struct ledger_source *s;
	struct record rec;
	uint64_t journal;

	add_session(f->l, 1, ACME, "acme", "alice", 1000);
	add_session(f->l, 2, ACME, "acme", "bob", 2000);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	rec = make_path(1);
	assert_int_equal(ledger_add_record(f->l, s, 1, &rec), 1);
	rec = make_process(1);
	assert_int_equal(ledger_add_record(f->l, s, 2, &rec), 1);
	for (uint64_t i = 0; i < 30; i++) {
		const struct ledger_act a = {.seq = (int64_t)i + 1,
			.time_ns = (int64_t)((100 + i) * SECOND),
			.kind = "why",
			.uid = 2000,
			.user = "bob",
			.client = "umbrella",
			.purpose = "support"};

		rec = make_open(1 + i % 2, 100 + i, 1, 1); /* at the same moment as the act */
		assert_int_equal(ledger_add_record(f->l, s, 3 + i, &rec), 1);
		assert_int_equal(ledger_add_act(f->l, &a), 0);
	}
	assert_int_equal(ledger_commit(f->l), 0);
	ledger_source_free(s);
}

static size_t count_query(struct fixture *f, struct ledger_filter filter)
{
	scoped(freep) char *next = NULL;
	json_t *rows;
	size_t n;

	assert_int_equal(ledger_query(f->l, &filter, &rows, &next), 0);
	n = json_array_size(rows);
	json_decref(rows);
	return n;
}

#define ANY .uid = -1, .since = INT64_MIN, .until = INT64_MAX

static void test_filters(void **state)
{
	struct fixture *f = *state;

	fill(f);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY}), 60);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .user = "alice"}), 15);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .user = "bob"}), 45);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .user = "bo"}), 0);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .client = "acme"}), 30);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .client = "umbrella"}), 30);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .purpose = "data-migration"}), 15);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .session = 2}), 15);
	assert_int_equal(count_query(f, (struct ledger_filter){ANY, .session = 3}), 0);
	assert_int_equal(count_query(f, (struct ledger_filter){.uid = -1, .since = 110, .until = 112}),
		4); /* until: exclusive */
	assert_int_equal(
		count_query(f, (struct ledger_filter){.uid = 1000, .since = INT64_MIN, .until = INT64_MAX}),
		15);
	assert_int_equal(
		count_query(f, (struct ledger_filter){.uid = 3000, .since = INT64_MIN, .until = INT64_MAX}),
		0);
	/* What others did stays hidden, whatever is asked for. */
	assert_int_equal(count_query(f,
				 (struct ledger_filter){
					 .uid = 1000, .since = INT64_MIN, .until = INT64_MAX, .user = "bob"}),
		0);
}

static void test_paging(void **state)
{
	struct fixture *f = *state;

	fill(f);
	for (unsigned limit = 1; limit < 70; limit += 6) {
		scoped(freep) char *after = NULL;
		json_int_t last = 0;
		size_t seen = 0;

		do {
			struct ledger_filter filter = {ANY, .limit = limit, .after = after};
			json_t *rows, *row;
			char *next;
			size_t i;

			assert_int_equal(ledger_query(f->l, &filter, &rows, &next), 0);
			json_array_foreach(rows, i, row)
			{
				json_int_t t = json_integer_value(json_object_get(row, "time_ns"));

				assert_true(t >= last);
				last = t;
				seen++;
			}
			json_decref(rows);
			free(after);
			after = next;
		} while (after);
		assert_int_equal(seen, 60);
	}
}

/* A clock for which every look is a second later: so each page ends as early as it can. */
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
static bool no_time;

int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	static time_t ahead;
	int r = __real_clock_gettime(clock, ts);

	if (clock == CLOCK_MONOTONIC && no_time)
		ts->tv_sec += ++ahead;
	return r;
}

/* More than a segment: searches go by postings there, and read what is behind it. */
static size_t count_all(struct fixture *f, struct ledger_filter filter)
{
	scoped(freep) char *after = NULL;
	size_t n = 0;

	do {
		json_t *rows;
		char *next;

		filter.after = after;
		assert_int_equal(ledger_query(f->l, &filter, &rows, &next), 0);
		n += json_array_size(rows);
		json_decref(rows);
		free(after);
		after = next;
	} while (after);
	return n;
}

#define MANY_ACTS 150000

/* Few acts among many: a page looks at some, however late it is, and the next goes on behind them. */
static void test_rare_acts_hold_nobody_up(void **state)
{
	static const int64_t rare[] = {65536, 65537, MANY_ACTS};
	struct ledger_filter filter = {.uid = -1, .since = INT64_MIN, .until = INT64_MAX, .client = "rare"};
	scoped(freep) char *after = NULL;
	struct fixture *f = *state;
	size_t found = 0, pages = 0;

	assert_int_equal(ledger_begin(f->l), 0);
	for (int64_t i = 1; i <= MANY_ACTS; i++) {
		bool is_rare = i == rare[0] || i == rare[1] || i == rare[2];
		const struct ledger_act a = {.time_ns = i, .kind = "mount", .uid = 0, .client = is_rare ? "rare" : "acme"};

		assert_int_equal(ledger_add_act(f->l, &a), 0);
	}
	assert_int_equal(ledger_commit(f->l), 0);
	no_time = true;
	do {
		json_t *rows, *row;
		char *next;
		size_t i;

		filter.after = after;
		assert_int_equal(ledger_query(f->l, &filter, &rows, &next), 0);
		json_array_foreach(rows, i, row)
			assert_int_equal(json_integer_value(json_object_get(row, "time_ns")), rare[found++]);
		json_decref(rows);
		free(after);
		after = next;
		pages++;
	} while (after && pages < 100);
	no_time = false;
	assert_null(after);
	assert_int_equal(found, 3);
	assert_true(pages >= 3);
}

#define MANY 70000u
#define MANY_PATHS 3000u

static void fill_many(struct fixture *f)
{
	struct ledger_source *s;
	uint64_t journal, seq = 0;
	struct record rec;

	add_session(f->l, 1, ACME, "acme", "alice", 1000);
	add_session(f->l, 2, ACME, "acme", "bob", 2000);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	for (uint32_t i = 1; i <= MANY_PATHS; i++) {
		rec = make_path(i);
		memcpy((uint8_t *)rec.path.sealed, &i, sizeof(i)); /* 32 bytes of the fixture, one name each */
		assert_int_equal(ledger_add_record(f->l, s, ++seq, &rec), 1);
	}
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t path = 1 + i % MANY_PATHS;

		rec = make_open(i % 1000 == 7 ? 2 : 1, 1000 + i, path, 0);
		memcpy(rec.access.file.b, &path, sizeof(path));
		if (i == 60000)
			rec.access.path2 = 5; /* renamed to what path 5 is called */
		assert_int_equal(ledger_add_record(f->l, s, ++seq, &rec), 1);
	}
	assert_int_equal(ledger_commit(f->l), 0);
	ledger_source_free(s);
}

static size_t count_paths(struct fixture *f, const char *client, size_t *ret_pages)
{
	char *after = NULL, *next;
	size_t count = 0;
	json_t *rows;

	*ret_pages = 0;
	do {
		assert_int_equal(ledger_paths(f->l, client, after, &rows, &next), 0);
		count += json_array_size(rows);
		json_decref(rows);
		free(after);
		after = next;
		(*ret_pages)++;
	} while (after);
	return count;
}

/* Page by page, each once; of another client none. */
static void test_paths_without_their_records(void **state)
{
	struct fixture *f = *state;
	size_t pages;
	json_t *rows;
	char *next;

	assert_int_equal(count_paths(f, NULL, &pages), 0); /* of an empty ledger */
	fill_many(f);
	assert_int_equal(count_paths(f, NULL, &pages), count_rows(f->l, "path"));
	assert_true((int64_t)pages > count_rows(f->l, "path") / 2000 && pages > 1);
	assert_int_equal(count_paths(f, "nobody", &pages), 0);
	assert_int_equal(ledger_paths(f->l, NULL, "x", &rows, &next), -EINVAL);
	assert_int_equal(ledger_paths(f->l, NULL, "-1:0", &rows, &next), -EINVAL);
}

static void test_searches_through_postings(void **state)
{
	const uint32_t number = 5, nobody = MANY_PATHS + 1;
	uint8_t sealed[32], other[32];
	struct ledger_name name = {sealed, sizeof(sealed)}, none = {other, sizeof(other)};
	static uint8_t bitmap[PATHSEAL_BITMAP_BYTES], empty[PATHSEAL_BITMAP_BYTES];
	struct file_id file = {.b = {1, 2, 3}};
	struct fixture *f = *state;
	size_t times = MANY / MANY_PATHS + (MANY % MANY_PATHS >= number);
	struct ledger_verdict v;

	fill_many(f);
	memset(sealed, number, sizeof(sealed));
	memcpy(sealed, &number, sizeof(number));
	memset(other, 0, sizeof(other));
	memcpy(file.b, &number, sizeof(number));
	assert_true(count_rows(f->l, "posting") > 0);
	pathseal_bitmap_add(bitmap, pathseal_key(sealed, sizeof(sealed)));
	for (unsigned i = 0; i < 2; i++) { /* then with pages that end as early as they can */
		no_time = i > 0;
		memcpy(file.b, &number, sizeof(number));
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .names = &name, .names_n = 1}), times + 1);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .file = &file}), times);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .names = &none, .names_n = 1}), 0);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .names_bitmap = bitmap}), times + 1);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .names_bitmap = empty}), 0);
		memcpy(file.b, &nobody, sizeof(nobody));
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .file = &file}), 0);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .user = "bob"}), MANY / 1000);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .user = "bob", .names = &name, .names_n = 1}), 0);
		assert_int_equal(count_all(f, (struct ledger_filter){.uid = -1, .since = 2000, .until = 2010}), 10);
		assert_int_equal(count_all(f, (struct ledger_filter){.uid = -1, .since = 1000 + MANY - 5, .until = INT64_MAX}), 5);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .outcome = LEDGER_FAILED}), 0);
		assert_int_equal(count_all(f, (struct ledger_filter){ANY, .op = "open", .limit = 7777}), MANY);
	}
	no_time = false;

	/* A verification makes them anew. */
	assert_int_equal(verify_file(f->path, NULL, NULL, &v), 0);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(sqlite3_exec(ledger_db(f->l), "UPDATE posting SET data=substr(data,1,length(data)-2) WHERE kind=0 AND"
						       " first=(SELECT max(first) FROM posting WHERE kind=0)",
				 NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(verify_file(f->path, NULL, NULL, &v), 0);
	assert_true(v.first_bad > 0);
}

static void test_cursor_refused(void **state)
{
	struct fixture *f = *state;
	const char *const bad[] = {
		"", "1", "1.2", "1.2.3", "1.-1.3", "1.0.3x", "x", "1.0.3 ", "1;DROP TABLE act"};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct ledger_filter filter = {ANY, .after = bad[i]};
		json_t *rows;
		char *next;

		assert_int_equal(ledger_query(f->l, &filter, &rows, &next), -EINVAL);
	}
}

static void test_row_says_all(void **state)
{
	struct fixture *f = *state;
	struct ledger_filter filter = {ANY, .limit = 1};
	scoped(freep) char *next = NULL;
	json_t *rows, *row;

	fill(f);
	assert_int_equal(ledger_query(f->l, &filter, &rows, &next), 0);
	row = json_array_get(rows, 0);
	assert_string_equal(json_string_value(json_object_get(row, "op")), "open");
	assert_string_equal(json_string_value(json_object_get(row, "user")), "alice");
	assert_string_equal(json_string_value(json_object_get(row, "client_id")), ACME);
	assert_string_equal(json_string_value(json_object_get(row, "ticket")), "CHG-1");
	assert_string_equal(json_string_value(json_object_get(row, "comm")), "cp");
	assert_int_equal(json_integer_value(json_object_get(row, "time")), 100);
	assert_int_equal(json_integer_value(json_object_get(row, "size")), 4096);
	assert_int_equal(json_integer_value(json_object_get(row, "loginuid")), 1000);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(row, "path"), "month")), 2496);
	assert_string_equal(json_string_value(json_object_get(json_object_get(row, "path"), "sealed")),
		"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
	assert_true(json_is_null(json_object_get(row, "path2")));
	json_decref(rows);
}

/* ---- the drain ---- */

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
		T(test_exactly_once),
		T(test_versions),
		T(test_unknown_journal),
		T(test_lies_are_refused),
		T(test_foreign_session),
		T(test_rare_acts_hold_nobody_up),
		T(test_acts_once),
		T(test_rollback_leaves_nothing),
		T(test_newest_row),
		T(test_rows_behind_the_last_batch),
		T(test_not_a_ledger),
		T(test_filters),
		T(test_paging),
		T(test_paths_without_their_records),
		T(test_searches_through_postings),
		T(test_cursor_refused),
		T(test_row_says_all),
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
