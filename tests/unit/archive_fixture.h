/* Months in archives: a ledger with a clock that the test sets, and a key that signs.  For the tests of
 * archives. */
#ifndef COFFER_TESTS_ARCHIVE_FIXTURE_H
#define COFFER_TESTS_ARCHIVE_FIXTURE_H

#include "tests/unit/ledger_fixture.h"

#include <sodium.h>
#include <time.h>

#include "fs/broker/archive.h"
#include "fs/broker/posting.h"

#define OCTOBER 1790812800	   /* 2026-10-01 */
#define DAY 86400
#define NOVEMBER (OCTOBER + 31 * DAY)
#define DECEMBER (NOVEMBER + 30 * DAY)
#define SEGMENT ((int)SEGMENT_RECORDS)

static time_t now_is = OCTOBER;

/* The clock of everything linked into this program. */
time_t time(time_t *t)
{
	if (t)
		*t = now_is;
	return now_is;
}

static uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES];
static struct ledger_keys keys;
static uint64_t journal, seq;
static struct ledger_source *source;

static inline void sign(const char *context, const char *text, uint8_t signature[ARCHIVE_SIGNATURE_BYTES])
{
	uint8_t message[ARCHIVE_STATEMENT_MAX + 64];
	size_t n = strlen(context) + 1;

	memcpy(message, context, n);
	memcpy(message + n, text, strlen(text));
	crypto_sign_detached(signature, NULL, message, n + strlen(text), secret_key);
}

/* Records of two sessions and some files; each batch names a path of its own. */
static inline void add_records(struct ledger *l, time_t when, int batches, int each)
{
	now_is = when;
	for (int b = 0; b < batches; b++) {
		struct record rec = make_path(++seq > UINT32_MAX ? 1 : (uint32_t)seq);
		const struct ledger_act act = {.seq = (int64_t)seq, .time_ns = (int64_t)when * 1000000000, .kind = "grant", .uid = 0, .client = "acme"};

		const uint32_t path = (uint32_t)seq;

		assert_int_equal(ledger_begin(l), 0);
		rec.path.ref = path;
		assert_int_equal(ledger_add_record(l, source, seq, &rec), 1);
		for (int i = 0; i < each; i++) {
			rec = make_open(7 + (unsigned)i % 2, (uint64_t)when + (unsigned)b, i % 500 ? path : 1, 2);
			rec.access.outcome = i % 901 == 7 || i % 901 == 8 ? EACCES : 0;
			rec.access.file.b[0] = (uint8_t)(i % 50);
			rec.access.size = (uint64_t)i;
			assert_int_equal(ledger_add_record(l, source, ++seq, &rec), 1);
		}
		assert_int_equal(ledger_add_act(l, &act), 0);
		assert_int_equal(ledger_source_store(l, source), 0);
		assert_int_equal(ledger_commit(l), 0);
	}
}

static inline void sign_head(struct ledger *l)
{
	uint8_t signature[CHAIN_SIGNATURE_BYTES];
	char message[CHAIN_MESSAGE_MAX];
	struct chain_batch head;

	assert_int_equal(ledger_head(l, &head), 0);
	crypto_sign_detached(signature, NULL, (uint8_t *)message, (size_t)chain_head_message(CHAIN_HEAD_VERSION, head.batch, &head.hash, now_is, message), secret_key);
	assert_int_equal(ledger_add_signature(l, head.batch, now_is, signature), 0);
}

static inline void begin(struct fixture *f)
{
	struct record rec;

	now_is = OCTOBER;
	seq = 0;
	add_session(f->l, 7, ACME, "acme", "alice", 1000);
	add_session(f->l, 8, ACME, "acme", "bob", 1001);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &source), 0);
	rec = make_path(1);
	assert_int_equal(ledger_add_record(f->l, source, ++seq, &rec), 1);
	rec = make_process(2);
	assert_int_equal(ledger_add_record(f->l, source, ++seq, &rec), 1);
	assert_int_equal(ledger_source_store(f->l, source), 0);
	assert_int_equal(ledger_commit(f->l), 0);
}

static inline int setup(void **state)
{
	fixture_setup(state);
	assert_int_equal(crypto_sign_keypair(public_key, secret_key), 0);
	keys = (struct ledger_keys){.n = 1, .keys = {{.until = INT64_MAX}}};
	memcpy(keys.keys[0].b, public_key, sizeof(public_key));
	begin(*state);
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	char command[160];

	ledger_source_free(source);
	source = NULL;
	snprintf(command, sizeof(command), "rm -rf '%s/archive' '%s'/copy*", f->dir, f->dir);
	assert_int_equal(system(command), 0);
	return fixture_teardown(state);
}

static inline struct archive_made make(struct fixture *f, time_t until)
{
	const int64_t journals[] = {(int64_t)journal};
	const struct archive_wanted w = {
		.ledger_path = f->path, .until = until, .journals = journals, .journals_n = source ? 1 : 0};
	struct archive_made m;

	assert_int_equal(archive_make(&w, &m), 0);
	return m;
}

static inline int take(struct fixture *f, struct archive_made *m)
{
	const struct ledger_act act = {.time_ns = (int64_t)now_is * 1000000000, .kind = "ledger-archive", .uid = -1};
	uint8_t signature[ARCHIVE_SIGNATURE_BYTES];

	sign(ARCHIVE_CONTEXT, m->statement, signature);
	return ledger_archive_take(f->l, m, signature, &act);
}

static inline void clean(struct ledger *l)
{
	bool more = true;

	for (int i = 0; more && i < 1000; i++)
		assert_int_equal(ledger_archive_clean(l, &more), 0);
	assert_false(more);
}

static inline void archive(struct fixture *f, time_t until, const char *name)
{
	struct archive_made m = make(f, until);

	assert_non_null(m.statement);
	assert_string_equal(m.archive.name, name);
	assert_int_equal(take(f, &m), 0);
	archive_made_done(&m);
}

/* All that a search answers, pages joined. */
static inline json_t *search(struct ledger *l, struct ledger_filter f)
{
	json_t *all = json_array();
	char *next = NULL;

	if (!f.until) {
		f.since = INT64_MIN;
		f.until = INT64_MAX;
	}
	f.uid = -1;
	f.limit = 1000;
	do {
		json_t *rows;

		f.after = next;
		next = NULL;
		assert_int_equal(ledger_query(l, &f, &rows, &next), 0);
		free((char *)f.after);
		json_array_extend(all, rows);
		json_decref(rows);
	} while (next);
	return all;
}

static inline struct ledger_verdict verify(const char *path)
{
	struct ledger_verdict v;

	assert_int_equal(verify_file(path, &keys, NULL, &v), 0);
	return v;
}

static inline void expect_sound(struct fixture *f, int64_t archives)
{
	struct ledger_verdict v = verify(f->path);

	if (v.first_bad)
		fail_msg("batch %d: %s", (int)v.first_bad, v.reason);
	assert_int_equal(v.archives, archives);
}

static inline void expect_reason(const char *path, const char *word)
{
	struct ledger_verdict v = verify(path);

	assert_true(v.first_bad > 0);
	if (!strstr(v.reason, word))
		fail_msg("\"%s\" is not in: %s", word, v.reason);
}

static inline void expect_same(const char *what, json_t *before, json_t *after)
{
	assert_true(json_array_size(before) > 0);
	if (!json_equal(before, after))
		fail_msg("%s: %d rows before, %d after, or other ones", what, (int)json_array_size(before), (int)json_array_size(after));
	json_decref(before);
	json_decref(after);
}

static inline int destroy(struct fixture *f, const char *name)
{
	const struct ledger_act act = {.time_ns = (int64_t)now_is * 1000000000, .kind = "ledger-destroy", .uid = -1};
	uint8_t signature[ARCHIVE_SIGNATURE_BYTES];
	scoped(freep) char *statement = NULL;
	struct archive_end end;
	int64_t time;
	int r = ledger_archive_oldest(f->l, &end, &time);

	if (r < 0)
		return r;
	if (name)
		snprintf(end.name, sizeof(end.name), "%s", name);
	end.time = now_is;
	snprintf(end.why, sizeof(end.why), "the policy keeps the record for P1M");
	assert_int_equal(archive_end_statement(&end, &statement), 0);
	sign(ARCHIVE_CONTEXT, statement, signature);
	return ledger_archive_destroy(f->l, statement, signature, &act);
}

static inline char *copy_of(struct fixture *f, const char *name)
{
	static char path[160];
	char command[400];

	snprintf(path, sizeof(path), "%s/copy%s/ledger.db", f->dir, name);
	snprintf(command, sizeof(command), "rm -rf '%s/copy%s'; mkdir '%s/copy%s' && cp -r '%s/archive' '%s/copy%s/'", f->dir, name, f->dir,
		name, f->dir, f->dir, name);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof(command), "VACUUM INTO '%s'", path);
	assert_int_equal(sqlite3_exec(ledger_db(f->l), command, NULL, NULL, NULL), SQLITE_OK);
	return path;
}

static inline void in_copy(struct fixture *f, const char *shell)
{
	char command[400];

	snprintf(command, sizeof(command), "cd '%s/copy/archive' && %s", f->dir, shell);
	assert_int_equal(system(command), 0);
}

static inline void edit_copy(const char *path, const char *sql)
{
	sqlite3 *db;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	sqlite3_close(db);
}

#endif
