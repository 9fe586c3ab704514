#include "tests/unit/ledger_fixture.h"

#include <sodium.h>

#include "fs/broker/blocks.h"

#define BATCHES 8

/* Batches 1 and 2: session and journal with path and process; then five records and an act in each. */
static int chain_setup(void **state)
{
	struct ledger_source *s;
	struct record rec;
	struct fixture *f;
	uint64_t journal, seq = 0;

	fixture_setup(state);
	f = *state;
	add_session(f->l, 7, ACME, "acme", "alice", 1000);
	assert_int_equal(ledger_begin(f->l), 0);
	assert_int_equal(ledger_add_journal(f->l, ACME, 99, &journal), 0);
	assert_int_equal(ledger_source_new(f->l, journal, ACME, &s), 0);
	rec = make_path(1);
	assert_int_equal(ledger_add_record(f->l, s, ++seq, &rec), 1);
	rec = make_process(1);
	assert_int_equal(ledger_add_record(f->l, s, ++seq, &rec), 1);
	assert_int_equal(ledger_commit(f->l), 0);
	for (int b = 3; b <= BATCHES; b++) {
		const struct ledger_act a = {.seq = b, .time_ns = b, .kind = "grant", .uid = 0};

		assert_int_equal(ledger_begin(f->l), 0);
		for (int i = 0; i < 5; i++) {
			rec = make_open(7, seq, 1, 1);
			assert_int_equal(ledger_add_record(f->l, s, ++seq, &rec), 1);
		}
		assert_int_equal(ledger_add_act(f->l, &a), 0);
		assert_int_equal(ledger_commit(f->l), 0);
	}
	ledger_source_free(s);
	return 0;
}

static void edit(struct fixture *f, const char *sql)
{
	char *message = NULL;

	if (sqlite3_exec(ledger_db(f->l), sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
}

static struct ledger_verdict verify(struct fixture *f)
{
	struct ledger_verdict v;

	assert_int_equal(verify_file(f->path, NULL, NULL, &v), 0);
	return v;
}

static void test_good(void **state)
{
	struct fixture *f = *state;
	struct ledger_verdict v = verify(f);
	struct chain_batch head;

	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.batches, BATCHES);
	assert_int_equal(v.records, 30);
	assert_int_equal(v.acts, 6);
	assert_int_equal(v.signed_until, 0);
	ledger_head(f->l, &head);
	assert_int_equal(v.head.batch, head.batch);
	assert_memory_equal(v.head.hash.b, head.hash.b, CHAIN_HASH_BYTES);
}

static void test_empty(void **state)
{
	struct fixture *f = *state;
	struct ledger_verdict v = verify(f);

	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.batches, 0);
}

static void sqlite3_closep(sqlite3 **db)
{
	sqlite3_close(*db);
}

/* copy.db, of which each change gets a new one. */
static sqlite3 *copy_open(struct fixture *f)
{
	char copy[128], into[160];
	sqlite3 *db;

	snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
	snprintf(into, sizeof(into), "VACUUM INTO '%s'", copy);
	unlink(copy);
	edit(f, into);
	assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
	return db;
}

static void expect_bad(struct fixture *f, const char *what, int64_t batch)
{
	struct ledger_verdict v;
	char copy[128];

	snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
	assert_int_equal(verify_file(copy, NULL, NULL, &v), 0);
	if (v.first_bad != batch)
		fail_msg("%s: batch %d instead of %d (%s)", what, (int)v.first_bad, (int)batch, v.reason);
	assert_true(v.reason[0]);
}

static void test_edits(void **state)
{
	static const struct {
		const char *sql;
		int64_t batch;
	} edits[] = {
		/* changed: every column of every table that the chain covers */
		{"UPDATE session SET user='mallory'", 1},
		{"UPDATE session SET uid=2000", 1},
		{"UPDATE session SET purpose='support'", 1},
		{"UPDATE session SET ticket=NULL", 1},
		{"UPDATE session SET client='umbrella'", 1},
		{"UPDATE session SET client_id='x'", 1},
		{"UPDATE session SET number=8", 1},
		{"UPDATE session SET rights='r'", 1},
		{"UPDATE session SET begun=6", 1},
		{"UPDATE journal SET client_id='x'", 2},
		{"UPDATE journal SET pid=1", 2},
		{"UPDATE path SET sealed=x'00'", 2},
		{"UPDATE path SET month=1", 2},
		{"UPDATE path SET ref=2", 2},
		{"UPDATE process SET comm=x'00'", 2},
		{"UPDATE process SET loginuid=0", 2},
		{"UPDATE process SET pid=0", 2},
		{"UPDATE act SET kind='why' WHERE id=3", 5},
		{"UPDATE act SET uid=1 WHERE id=3", 5},
		{"UPDATE act SET detail='{}' WHERE id=3", 5},
		{"UPDATE act SET outcome=0 WHERE id=3", 5},
		{"UPDATE act SET seq=NULL WHERE id=3", 5},
		/* removed */
		{"DELETE FROM act WHERE id=1", 3},
		{"DELETE FROM path", 2},
		/* inserted */
		{"INSERT INTO act (time,kind) VALUES (1,'forged')", 9},
		/* the blocks: those of the 30 records begin with 1 and 21 */
		{"DELETE FROM block WHERE id=1", 3},
		{"DELETE FROM block WHERE id=21", 7},
		{"UPDATE block SET id=2 WHERE id=1", 3},
		{"UPDATE block SET records=19 WHERE id=1", 3},
		{"UPDATE block SET from_time=from_time+1 WHERE id=21", 7},
		{"UPDATE block SET to_time=to_time-1 WHERE id=21", 7},
		{"UPDATE block SET data=(SELECT data FROM block WHERE id=1) WHERE id=21", 7},
		{"UPDATE block SET data=x'00' WHERE id=21", 7},
		{"UPDATE block SET data=substr(data,1,length(data)-1) WHERE id=21", 7},
		{"INSERT INTO block SELECT 31,records,from_time,to_time,data FROM block WHERE id=21", 9},
		{"INSERT INTO block SELECT 0,records,from_time,to_time,data FROM block WHERE id=21", 9},
		{"INSERT INTO block SELECT 22,records,from_time,to_time,data FROM block WHERE id=21", 9},
		{"INSERT INTO posting VALUES (0,0,0,x'')", 9},
		/* the chain itself */
		{"UPDATE chain SET hash=zeroblob(32) WHERE id=4", 4},
		{"UPDATE chain SET hash=x'00' WHERE id=4", 4},
		{"UPDATE chain SET time=time+1 WHERE id=6", 6},
		{"UPDATE chain SET record_to=record_to-1 WHERE id=6", 6},
		{"DELETE FROM chain WHERE id=4", 4},
		{"DELETE FROM chain WHERE id=1", 1},
		{"DELETE FROM chain WHERE id=8", 8}, /* its rows stand in no batch then */
		{"DELETE FROM chain WHERE id=4; UPDATE chain SET id=id-1 WHERE id>4", 4},
		{"UPDATE ledger SET id=zeroblob(16)", 1},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(edits); i++) {
		scoped(sqlite3_closep) sqlite3 *db = copy_open(f);

		if (sqlite3_exec(db, edits[i].sql, NULL, NULL, NULL) != SQLITE_OK)
			fail_msg("%s: %s", edits[i].sql, sqlite3_errmsg(db));
		expect_bad(f, edits[i].sql, edits[i].batch);
	}
	assert_int_equal(verify(f).first_bad, 0);
}

/* ---- records: as somebody would do it who packs them again, and well ---- */

#define RECORDS 30u
#define CHANGE(name, what)                                                                                            \
	static void name(struct pack_record *r, size_t *n)                                                            \
	{                                                                                                             \
		what;                                                                                                 \
	}
CHANGE(time_changed, r[0].time++)
CHANGE(session_changed, r[5].session++)
CHANGE(op_changed, r[9].op = RECORD_CLOSE)
CHANGE(flags_changed, r[10].flags = RECORD_READ | RECORD_WRITE)
CHANGE(outcome_changed, r[29].outcome = EACCES)
CHANGE(path_gone, r[29].path = 0)
CHANGE(path2_came, r[29].path2 = 1)
CHANGE(process_gone, r[29].process = 0)
CHANGE(file_gone, r[29].has_file = false)
CHANGE(size_changed, r[29].size = 0)
CHANGE(read_changed, r[29].bytes_read = 1)
CHANGE(written_changed, r[29].bytes_written = 1)
CHANGE(detail_came, r[29].detail_len = 1; r[29].detail[0] = 'x')
CHANGE(first_removed, memmove(r, r + 1, --*n * sizeof(*r)))
CHANGE(one_removed, memmove(r + 12, r + 13, (--*n - 12) * sizeof(*r)))
CHANGE(last_removed, --*n)
CHANGE(one_added, r[*n] = r[0]; ++*n)
CHANGE(one_inserted, memmove(r + 11, r + 10, ((*n)++ - 10) * sizeof(*r)))
CHANGE(two_swapped, struct pack_record t = r[11]; r[11] = r[12]; r[12] = t)
CHANGE(two_swapped_across, struct pack_record t = r[4]; r[4] = r[5]; r[5] = t)

static void change_records(struct fixture *f, void (*change)(struct pack_record *r, size_t *n))
{
	scoped(sqlite3_closep) sqlite3 *db = copy_open(f);
	struct pack_record records[RECORDS + 1];
	size_t n = 0, some;
	struct blocks *b;

	assert_int_equal(blocks_new(db, &b), 0);
	while (n < RECORDS) {
		const struct pack_record *r;

		assert_int_equal(blocks_get(b, (int64_t)n + 1, &r, &some), 0);
		memcpy(records + n, r, some * sizeof(*r));
		n += some;
	}
	change(records, &n);
	assert_int_equal(sqlite3_exec(db, "DELETE FROM block", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(blocks_append(b, 1, records, n), 0);
	blocks_free(b);
}

static void test_changed_records(void **state)
{
	static const struct {
		const char *name;
		void (*change)(struct pack_record *r, size_t *n);
		int64_t batch;
	} changes[] = {
#define C(name, batch) {#name, name, batch}
		C(time_changed, 3), C(session_changed, 4), C(op_changed, 4), C(flags_changed, 5), C(outcome_changed, 8),
		C(path_gone, 8), C(path2_came, 8), C(process_gone, 8), C(file_gone, 8), C(size_changed, 8),
		C(read_changed, 8), C(written_changed, 8), C(detail_came, 8), C(first_removed, 3), C(one_removed, 5),
		C(last_removed, 8), C(one_added, 9), C(one_inserted, 5), C(two_swapped, 5), C(two_swapped_across, 3),
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		change_records(f, changes[i].change);
		expect_bad(f, changes[i].name, changes[i].batch);
	}
}

static void cut_records(struct fixture *f, int64_t keep)
{
	struct pack_record records[RECORDS];
	struct blocks *b;
	int64_t n = 0;

	assert_int_equal(blocks_new(ledger_db(f->l), &b), 0);
	while (n < keep) {
		const struct pack_record *r;
		size_t some;

		assert_int_equal(blocks_get(b, n + 1, &r, &some), 0);
		for (size_t i = 0; i < some && n < keep; i++)
			records[n++] = r[i];
	}
	edit(f, "DELETE FROM block");
	assert_int_equal(blocks_append(b, 1, records, (size_t)keep), 0);
	blocks_free(b);
}

static void cut_after(struct fixture *f, int batch)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
		"DELETE FROM act WHERE id>(SELECT act_to FROM chain WHERE id=%d); DELETE FROM chain WHERE id>%d", batch,
		batch);
	cut_records(f, (batch - 2) * 5);
	edit(f, sql);
}

/* A clean cut cannot be seen from inside; a head that somebody remembers shows it. */
static void test_cut_tail(void **state)
{
	struct fixture *f = *state;
	struct ledger_head remembered = verify(f).head;
	struct ledger_verdict v;

	assert_int_equal(verify_file(f->path, NULL, &remembered, &v), 0);
	assert_int_equal(v.first_bad, 0);
	cut_after(f, 5);
	assert_int_equal(verify(f).first_bad, 0);
	assert_int_equal(verify_file(f->path, NULL, &remembered, &v), 0);
	assert_int_equal(v.first_bad, 6);
	assert_int_equal(v.batches, 5);
}

/* Cut and written on: as long as before, but not the same. */
static void test_rewritten_tail(void **state)
{
	struct fixture *f = *state;
	struct ledger_head remembered = verify(f).head;
	struct ledger_verdict v;

	cut_after(f, 5);
	ledger_close(take_ptr(&f->l));
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	for (int i = 0; i < 4; i++) {
		const struct ledger_act a = {.time_ns = i, .kind = "forged", .uid = -1};

		assert_int_equal(ledger_begin(f->l), 0);
		assert_int_equal(ledger_add_act(f->l, &a), 0);
		assert_int_equal(ledger_commit(f->l), 0);
	}
	assert_int_equal(verify(f).first_bad, 0);
	assert_int_equal(verify_file(f->path, NULL, &remembered, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
}

#define SIGNED_AT 1700000000

static void sign_batch(struct fixture *f, const uint8_t *secret, int64_t batch, unsigned version)
{
	struct chain_batch head;
	uint8_t signature[CHAIN_SIGNATURE_BYTES];
	char text[CHAIN_MESSAGE_MAX];
	int n;

	ledger_head(f->l, &head);
	assert_int_equal(head.batch, batch);
	n = chain_head_message(version, head.batch, &head.hash, SIGNED_AT, text);
	crypto_sign_detached(signature, NULL, (const unsigned char *)text, (unsigned)n, secret);
	assert_int_equal(ledger_add_signature(f->l, batch, SIGNED_AT, signature), 0);
}

static void test_signed_heads(void **state)
{
	struct ledger_keys keys = {.n = 1, .keys = {{.until = INT64_MAX}}}, others = keys, both = {.n = 2};
	uint8_t secret[64], other_secret[64];
	struct fixture *f = *state;
	struct ledger_verdict v;

	crypto_sign_keypair(keys.keys[0].b, secret);
	crypto_sign_keypair(others.keys[0].b, other_secret);
	sign_batch(f, secret, BATCHES, CHAIN_HEAD_VERSION);
	assert_int_equal(verify_file(f->path, &keys, NULL, &v), 0);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.signed_until, BATCHES);
	assert_int_equal(verify_file(f->path, &others, NULL, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
	assert_int_equal(v.signed_until, 0);
	/* a key that was exchanged: for what it signed in its time */
	both.keys[0] = others.keys[0];
	both.keys[1] = keys.keys[0];
	assert_int_equal(verify_file(f->path, &both, NULL, &v), 0);
	assert_int_equal(v.first_bad, 0);
	both.keys[1].until = 1000;
	assert_int_equal(verify_file(f->path, &both, NULL, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
	cut_after(f, 6); /* the head table still tells */
	assert_int_equal(verify_file(f->path, &keys, NULL, &v), 0);
	assert_int_equal(v.first_bad, 7);
}

/* Cut, written on and signed anew with the right key: nothing inside tells, a head that was kept outside does. */
static void test_resigned_fork(void **state)
{
	struct ledger_keys keys = {.n = 1, .keys = {{.until = INT64_MAX}}};
	struct ledger_verify_options o = {.keys = &keys};
	struct ledger_anchor anchor = {.time = 7};
	struct fixture *f = *state;
	struct ledger_verdict v;
	char text[CHAIN_MESSAGE_MAX];
	uint8_t secret[64];
	int n;

	crypto_sign_keypair(keys.keys[0].b, secret);
	anchor.head = verify(f).head;
	n = chain_head_message(CHAIN_HEAD_VERSION, anchor.head.batch, &anchor.head.hash, anchor.time, text);
	crypto_sign_detached(anchor.signature, NULL, (const unsigned char *)text, (unsigned)n, secret);
	o.anchors = &anchor;
	o.anchors_n = 1;
	assert_int_equal(ledger_verify(f->path, &o, &v), 0);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.anchored_until, BATCHES);
	assert_int_equal(v.anchored_at, 7);
	cut_after(f, 5);
	ledger_close(take_ptr(&f->l));
	assert_int_equal(ledger_open(f->path, &f->l), 0);
	for (int i = 0; i < BATCHES - 5; i++) {
		const struct ledger_act a = {.time_ns = i, .kind = "forged", .uid = -1};

		assert_int_equal(ledger_begin(f->l), 0);
		assert_int_equal(ledger_add_act(f->l, &a), 0);
		assert_int_equal(ledger_commit(f->l), 0);
	}
	sign_batch(f, secret, BATCHES, CHAIN_HEAD_VERSION);
	assert_int_equal(verify_file(f->path, &keys, NULL, &v), 0);
	assert_int_equal(v.first_bad, 0); /* all signatures are good */
	assert_int_equal(ledger_verify(f->path, &o, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
	anchor.signature[0] ^= 1; /* one that anybody may have written counts for nothing */
	assert_int_equal(ledger_verify(f->path, &o, &v), 0);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.anchors_ignored, 1);
}

/* A ledger of version 2 had a row for each record: packed at the next start, and the chain holds. */
static void test_rows_of_version_2_are_packed(void **state)
{
	struct fixture *f = *state;
	struct ledger_head before = verify(f).head;
	struct ledger_verdict v;
	sqlite3_stmt *add;
	struct blocks *b;

	edit(f, "CREATE TABLE record (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, session INTEGER NOT NULL, op INTEGER NOT NULL,"
		" flags INTEGER NOT NULL, outcome INTEGER NOT NULL, path INTEGER, path2 INTEGER, process INTEGER, file BLOB, size"
		" INTEGER NOT NULL, bytes_read INTEGER NOT NULL, bytes_written INTEGER NOT NULL, detail TEXT) STRICT");
	assert_int_equal(blocks_new(ledger_db(f->l), &b), 0);
	assert_int_equal(sqlite3_prepare_v2(ledger_db(f->l),
				 "INSERT INTO record VALUES (?,?,?,?,?,?,?,NULL,?,?,?,?,?,NULL)", -1, &add, NULL),
		SQLITE_OK);
	for (int64_t id = 1; id <= RECORDS; id++) {
		const struct pack_record *r;
		size_t n;

		assert_int_equal(blocks_get(b, id, &r, &n), 0);
		const int64_t numbers[] = {id, r->time, r->session, r->op, r->flags, r->outcome, r->path, r->process};

		for (int i = 0; i < (int)ARRAY_SIZE(numbers); i++)
			sqlite3_bind_int64(add, i + 1, numbers[i]);
		sqlite3_bind_blob(add, 9, r->file.b, sizeof(r->file.b), SQLITE_TRANSIENT);
		sqlite3_bind_int64(add, 10, r->size);
		sqlite3_bind_int64(add, 11, r->bytes_read);
		sqlite3_bind_int64(add, 12, r->bytes_written);
		assert_int_equal(sqlite3_step(add), SQLITE_DONE);
		sqlite3_reset(add);
	}
	sqlite3_finalize(add);
	blocks_free(b);
	edit(f, "DROP TABLE block; DROP TABLE posting; DROP TABLE base; DROP TABLE archive; DROP TABLE kept_path;"
		" DROP TABLE kept_process; PRAGMA user_version=2");
	ledger_close(take_ptr(&f->l));
	assert_int_equal(verify_file(f->path, NULL, NULL, &v), -EPROTONOSUPPORT);

	assert_int_equal(ledger_open(f->path, &f->l), 0);
	assert_int_equal(verify_file(f->path, NULL, &before, &v), 0);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.records, RECORDS);
	assert_memory_equal(&v.head, &before, sizeof(before));
	assert_int_equal(count_rows(f->l, "block"), 1);
}

static void test_signature_of_no_batch(void **state)
{
	const uint8_t signature[CHAIN_SIGNATURE_BYTES] = {0};
	struct fixture *f = *state;

	assert_int_equal(ledger_add_signature(f->l, BATCHES + 1, 1, signature), -ENOENT);
	assert_int_equal(ledger_add_signature(f->l, 0, 1, signature), -ENOENT);
}

static void test_message(void **state)
{
	struct chain_hash hash = {.b = {0xab}};
	char text[CHAIN_MESSAGE_MAX];
	static const char first[] = "coffer-head\0coffer-ledger-head-1\n12\n"
				    "ab00000000000000000000000000000000000000000000000000000000000000\n";
	static const char second[] = "coffer-head\0coffer-ledger-head-2\n12\n"
				     "ab00000000000000000000000000000000000000000000000000000000000000\n1700000000\n";

	assert_int_equal(chain_head_message(1, 12, &hash, SIGNED_AT, text), sizeof(first) - 1);
	assert_memory_equal(text, first, sizeof(first));
	assert_int_equal(chain_head_message(2, 12, &hash, SIGNED_AT, text), sizeof(second) - 1);
	assert_memory_equal(text, second, sizeof(second));
}

static int64_t verify_at(struct fixture *f, const struct ledger_keys *keys, int64_t time, struct ledger_verdict *ret)
{
	char sql[80];

	snprintf(sql, sizeof(sql), "UPDATE head SET time=%lld", (long long)time);
	edit(f, sql);
	assert_int_equal(verify_file(f->path, keys, NULL, ret), 0);
	return ret->first_bad;
}

/* Of a head of now the time is signed; one of before is good still, whatever time stands beside it, and it is said. */
static void test_time_of_a_head(void **state)
{
	struct ledger_keys keys = {.n = 1, .keys = {{.until = INT64_MAX}}};
	struct fixture *f = *state;
	struct ledger_verdict v;
	uint8_t secret[64];

	crypto_sign_keypair(keys.keys[0].b, secret);
	sign_batch(f, secret, BATCHES, CHAIN_HEAD_VERSION);
	assert_int_equal(verify_at(f, &keys, SIGNED_AT, &v), 0);
	assert_int_equal(v.signed_at, SIGNED_AT);
	assert_false(v.time_unsigned);
	assert_int_equal(verify_at(f, &keys, SIGNED_AT - 1, &v), BATCHES);
	assert_int_equal(v.signed_until, 0);
	edit(f, "DELETE FROM head");
	sign_batch(f, secret, BATCHES, 1);
	assert_int_equal(verify_at(f, &keys, SIGNED_AT - 1, &v), 0);
	assert_true(v.time_unsigned);
}

static void test_no_file(void **state)
{
	struct ledger_verdict v;

	assert_int_equal(verify_file("/nowhere/ledger.db", NULL, NULL, &v), -ENOENT);
	assert_int_equal(verify_file("/etc/hostname", NULL, NULL, &v), -EUCLEAN);
}

static void test_broken_off(void **state)
{
	struct fixture *f = *state;
	struct ledger_verdict v = {.batches = -1};
	atomic_bool stop = false;

	assert_int_equal(ledger_verify(f->path, &(struct ledger_verify_options){.stop = &stop}, &v), 0);
	assert_int_equal(v.first_bad, 0);
	v.batches = -1;
	stop = true;
	assert_int_equal(ledger_verify(f->path, &(struct ledger_verify_options){.stop = &stop}, &v), -EINTR);
	assert_int_equal(v.batches, -1);
}

/* An index that hides a row from every question, while the table is whole. */
static void test_index_without_the_row(void **state)
{
	struct fixture *f = *state;

	edit(f, "PRAGMA writable_schema=ON");
	sqlite3_db_config(ledger_db(f->l), SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
	edit(f, "PRAGMA writable_schema=ON;"
		"UPDATE sqlite_schema SET sql='CREATE INDEX block_span ON block (records, id, from_time, to_time)' WHERE "
		"name='block_span'");
	ledger_close(take_ptr(&f->l));
	assert_true(verify(f).first_bad > 0);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, chain_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_good),
		cmocka_unit_test_setup_teardown(test_empty, fixture_setup, fixture_teardown),
		T(test_edits),
		T(test_changed_records),
		T(test_cut_tail),
		T(test_broken_off),
		T(test_rewritten_tail),
		T(test_signed_heads),
		T(test_time_of_a_head),
		T(test_resigned_fork),
		T(test_rows_of_version_2_are_packed),
		T(test_signature_of_no_batch),
		T(test_message),
		T(test_no_file),
		T(test_index_without_the_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
