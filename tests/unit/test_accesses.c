/* What was done with one client's data, counted: ledger_accesses.c against records and acts that are known. */
#include "tests/unit/ledger_fixture.h"

#include <jansson.h>

#define MONDAY 1767571200ll /* 2026-01-05 00:00 */
#define DAY 86400ll
#define WEEK (7 * DAY)
#define EVER .since = 0, .until = INT64_MAX / 1000000000

struct writer {
	struct fixture *f;
	struct ledger_source *source;
	uint64_t seq;
};

static void writer_begin(struct writer *w, struct fixture *f, const char *client_id)
{
	uint64_t journal;

	*w = (struct writer){.f = f};
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, client_id, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, client_id, &w->source), 0);
}

static void writer_end(struct writer *w)
{
	assert_int_equal(ledger_commit(w->f->l), 0);
	ledger_source_free(w->source);
}

static void put(struct writer *w, struct record rec)
{
	assert_int_equal(ledger_add_record(w->f->l, w->source, ++w->seq, &rec), 1);
}

static struct record use(uint64_t session, int64_t time, unsigned op, uint8_t file, uint32_t path)
{
	struct record rec = make_open(session, (uint64_t)time, path, 0);

	rec.access.op = (uint8_t)op;
	rec.access.file.b[0] = file;
	if (!file)
		memset(&rec.access.file, 0, sizeof(rec.access.file));
	return rec;
}

static void put_act(struct fixture *f, int64_t seq, const char *kind, const char *client, const char *user, const char *outcome,
	int64_t time)
{
	json_t *text = outcome ? json_string(outcome) : json_integer(0);
	const struct ledger_act a = {.seq = seq,
		.time_ns = time * (int64_t)SECOND,
		.kind = kind,
		.outcome = text,
		.user = user,
		.uid = 5,
		.client = client,
		.purpose = "support",
		.detail = "{\"scope\": \"x\"}"};

	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_act(f->l, &a), 0);
	assert_int_equal(ledger_commit(f->l), 0);
	json_decref(text);
}

/* All pages; how many there were. */
static unsigned count_all(struct fixture *f, struct ledger_accesses_wanted w, json_t **ret)
{
	scoped(freep) char *after = NULL;
	unsigned pages = 0;

	*ret = NULL;
	do {
		char *next = NULL;

		w.after = after;
		assert_int_equal(ledger_accesses(f->l, &w, ret, &next, &(struct ledger_accesses_place){0}), 0);
		free(after);
		after = next;
		assert_true(++pages < 100000);
		assert_true((after == NULL) == (*ret != NULL));
	} while (after);
	return pages;
}

static json_int_t number(const json_t *o, const char *key)
{
	assert_true(json_is_integer(json_object_get(o, key)));
	return json_integer_value(json_object_get(o, key));
}

static const json_t *group(const json_t *counted, const char *user, const char *purpose)
{
	const json_t *g;
	size_t i;

	json_array_foreach(json_object_get(counted, "groups"), i, g)
	{
		if (strcmp(json_string_value(json_object_get(g, "user")), user) == 0 &&
			strcmp(json_string_value(json_object_get(g, "purpose")), purpose) == 0)
			return g;
	}
	return NULL;
}

/* alice (sessions 1, 3: data-migration), bob (2: support); umbrella's session 8 beside them. */
static void fill(struct fixture *f)
{
	struct writer w;
	struct record rec;

	add_session(f->l, 1, ACME, "acme", "alice", 1000);
	add_session(f->l, 2, ACME, "acme", "bob", 2000);
	add_session(f->l, 3, ACME, "acme", "alice", 1000);
	add_session(f->l, 8, UMBRELLA, "umbrella", "mallory", 3000);
	writer_begin(&w, f, ACME);
	put(&w, make_path(1));
	put(&w, make_path(2));
	put(&w, use(1, MONDAY, RECORD_OPEN, 1, 1));
	put(&w, use(1, MONDAY + WEEK - 1, RECORD_OPEN, 1, 2)); /* renamed meanwhile */
	put(&w, use(3, MONDAY + WEEK, RECORD_CREATE, 0, 1)); /* without an id: its close tells it */
	put(&w, use(3, MONDAY + WEEK, RECORD_CLOSE, 2, 1));
	put(&w, use(2, MONDAY + WEEK, RECORD_OPEN, 1, 0));
	rec = use(2, MONDAY + WEEK + 1, RECORD_CLOSE, 1, 0);
	rec.access.bytes_read = 70;
	rec.access.bytes_written = 7;
	put(&w, rec);
	put(&w, use(2, MONDAY + WEEK + 2, RECORD_UNLINK, 1, 1));
	rec = use(2, MONDAY + WEEK + 3, RECORD_OPEN, 9, 1);
	rec.access.outcome = EACCES;
	put(&w, rec);
	rec.access.outcome = ENOENT; /* nobody refused it */
	put(&w, rec);
	writer_end(&w);
	writer_begin(&w, f, UMBRELLA);
	put(&w, use(8, MONDAY, RECORD_OPEN, 66, 0));
	writer_end(&w);
	put_act(f, 1, "disclosure", "acme", "carol", NULL, MONDAY);
	put_act(f, 2, "refused", "acme", "dave", "NotGranted", MONDAY);
	put_act(f, 3, "refused", "acme", "dave", "NotGranted", MONDAY + 1);
	put_act(f, 4, "refused", "umbrella", "mallory", "NotGranted", MONDAY);
	put_act(f, 5, "disclosure", "umbrella", "carol", NULL, MONDAY);
	put_act(f, 6, "grant", "acme", "carol", NULL, MONDAY);
}

static void test_who_did_what(void **state)
{
	struct fixture *f = *state;
	const json_t *g, *file;
	json_t *c;

	fill(f);
	count_all(f, (struct ledger_accesses_wanted){.client = "acme", EVER}, &c);
	assert_int_equal(json_array_size(json_object_get(c, "groups")), 2);
	g = group(c, "alice", "data-migration");
	assert_non_null(g);
	assert_int_equal(number(g, "sessions"), 2);
	assert_int_equal(number(g, "opens"), 3);
	assert_int_equal(number(g, "files"), 2);
	assert_int_equal(number(g, "writes"), 1);
	assert_int_equal(number(g, "first"), MONDAY);
	assert_int_equal(number(g, "last"), MONDAY + WEEK);
	g = group(c, "bob", "support");
	assert_int_equal(number(g, "opens"), 1);
	assert_int_equal(number(g, "changes"), 1);
	assert_int_equal(number(g, "refused"), 1);
	assert_int_equal(number(g, "bytes_read"), 70);
	assert_int_equal(number(g, "bytes_written"), 7);
	assert_int_equal(number(c, "records"), 9);
	assert_int_equal(number(c, "files_count"), 2);
	assert_int_equal(json_array_size(json_object_get(c, "weeks")), 3); /* two weeks, the second with two groups */
	file = json_array_get(json_object_get(c, "files"), 0);
	assert_string_equal(json_string_value(json_object_get(file, "file")), "01020300000000000000000000000000");
	assert_int_equal(number(file, "opens"), 3);
	assert_int_equal(json_array_size(json_object_get(file, "groups")), 2);
	assert_true(json_is_object(json_object_get(file, "path")));
	json_decref(c);
}

static int no_commit(void *arg, int action, const char *what, const char *b, const char *c, const char *d)
{
	return action == SQLITE_TRANSACTION && strcmp(what, "COMMIT") == 0 ? SQLITE_DENY : SQLITE_OK;
}

/* A page that fails leaves no transaction, which would keep the next records out. */
static void test_failed_commit(void **state)
{
	const struct ledger_accesses_wanted w = {.client = "acme", EVER};
	struct fixture *f = *state;
	char *next = NULL;
	json_t *c = NULL;

	fill(f);
	sqlite3_set_authorizer(ledger_db(f->l), no_commit, NULL);
	assert_true(ledger_accesses(f->l, &w, &c, &next, &(struct ledger_accesses_place){0}) < 0);
	sqlite3_set_authorizer(ledger_db(f->l), NULL, NULL);
	assert_null(next);
	put_act(f, 7, "grant", "acme", "carol", NULL, MONDAY);
	count_all(f, w, &c);
	assert_int_equal(number(c, "records"), 9);
	json_decref(c);
}

/* Neither people nor acts of another client come in, and nothing from outside of the time. */
static void test_nothing_of_others(void **state)
{
	struct fixture *f = *state;
	scoped(freep) char *text = NULL;
	json_t *c;

	fill(f);
	count_all(f, (struct ledger_accesses_wanted){.client = "acme", EVER}, &c);
	text = json_dumps(c, 0);
	assert_null(strstr(text, "mallory"));
	assert_null(strstr(text, "umbrella"));
	assert_int_equal(json_array_size(json_object_get(c, "acts")), 1);
	assert_int_equal(number(c, "acts_count"), 1);
	assert_int_equal(json_array_size(json_object_get(c, "refusals")), 1);
	assert_int_equal(number(json_array_get(json_object_get(c, "refusals"), 0), "times"), 2);
	json_decref(c);
	count_all(f, (struct ledger_accesses_wanted){.client = "acme", .since = MONDAY + WEEK, .until = MONDAY + WEEK + 1}, &c);
	assert_int_equal(number(group(c, "alice", "data-migration"), "opens"), 1);
	assert_int_equal(number(c, "records"), 3);
	assert_int_equal(json_array_size(json_object_get(c, "acts")), 0);
	json_decref(c);
	count_all(f, (struct ledger_accesses_wanted){.client = "acme", .without = "support", EVER}, &c);
	assert_null(group(c, "bob", "support"));
	assert_int_equal(number(group(c, "alice", "data-migration"), "opens"), 3);
	assert_int_equal(number(c, "files_count"), 2);
	assert_int_equal(json_array_size(json_object_get(c, "refusals")), 0);
	json_decref(c);
	count_all(f, (struct ledger_accesses_wanted){.client = "nobody", EVER}, &c);
	assert_int_equal(number(c, "records"), 0);
	assert_int_equal(json_array_size(json_object_get(c, "groups")), 0);
	json_decref(c);
}

#define MANY 60000u

/* In pages, each record once; what comes in meanwhile is not counted. */
static void test_pages(void **state)
{
	struct ledger_accesses_wanted wanted = {.client = "acme", EVER};
	struct fixture *f = *state;
	char *next = NULL, *other = NULL;
	struct ledger_accesses_place place = {0};
	int64_t before = 0;
	struct writer w;
	json_t *c = NULL;

	fill(f);
	writer_begin(&w, f, ACME);
	for (unsigned i = 0; i < MANY; i++) {
		struct record rec = use(1, MONDAY + i, RECORD_OPEN, 0, 0);
		unsigned id = i / 2 + 1000;

		memcpy(rec.access.file.b, &id, sizeof(id));
		put(&w, rec);
	}
	writer_end(&w);
	assert_int_equal(ledger_accesses(f->l, &wanted, &c, &next, &place), 0);
	writer_begin(&w, f, ACME);
	put(&w, use(2, MONDAY, RECORD_OPEN, 3, 0));
	writer_end(&w);
	while (next) {
		scoped(freep) char *after = next;

		assert_true(place.records >= before && place.records <= place.of && place.of == 10 + MANY);
		before = place.records;
		wanted.after = after;
		next = NULL;
		assert_int_equal(ledger_accesses(f->l, &wanted, &c, &next, &place), 0);
	}
	assert_int_equal(number(c, "records"), 9 + MANY);
	assert_int_equal(number(c, "files_count"), 2 + MANY / 2);
	assert_int_equal(number(group(c, "alice", "data-migration"), "files"), 2 + MANY / 2);
	assert_int_equal(json_array_size(json_object_get(c, "files")), LEDGER_ACCESSES_FILES);
	assert_int_equal(number(json_array_get(json_object_get(c, "files"), 0), "opens"), 3);
	json_decref(c);

	wanted.after = "1:r0a0"; /* of no count that runs */
	assert_int_equal(ledger_accesses(f->l, &wanted, &c, &other, &place), -EINVAL);
	wanted.after = "r0a0";
	assert_int_equal(ledger_accesses(f->l, &wanted, &c, &other, &place), -EINVAL);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_who_did_what),
		T(test_failed_commit),
		T(test_nothing_of_others),
		T(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
