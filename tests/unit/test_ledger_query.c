/* Questions: what the filters let through, page by page, also by postings. */
#include "tests/unit/ledger_fixture.h"

#include "common/pathseal.h"

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
	assert_int_equal(ledger_paths(f->l, NULL, "0:0x", &rows, &next), -EINVAL);
	assert_int_equal(ledger_paths(f->l, NULL, "9223372036854775807:0", &rows, &next), -EINVAL);
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

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_rare_acts_hold_nobody_up),
		T(test_filters),
		T(test_paging),
		T(test_paths_without_their_records),
		T(test_searches_through_postings),
		T(test_cursor_refused),
		T(test_row_says_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
