#include "tests/unit/ledger_fixture.h"

#include <sodium.h>

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

	assert_int_equal(ledger_verify_file(f->path, NULL, NULL, &v), 0);
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

/* Each in a transaction of its own that is undone: the file is good again after it. */
static void test_edits(void **state)
{
	static const struct {
		const char *sql;
		int64_t batch;
	} edits[] = {
		/* changed: every column of every table that the chain covers */
		{"UPDATE record SET time=time+1 WHERE id=1", 3},
		{"UPDATE record SET session=session+1 WHERE id=6", 4},
		{"UPDATE record SET op=2 WHERE id=10", 4},
		{"UPDATE record SET flags=3 WHERE id=11", 5},
		{"UPDATE record SET outcome=13 WHERE id=30", 8},
		{"UPDATE record SET path=NULL WHERE id=30", 8},
		{"UPDATE record SET path2=1 WHERE id=30", 8},
		{"UPDATE record SET process=NULL WHERE id=30", 8},
		{"UPDATE record SET file=NULL WHERE id=30", 8},
		{"UPDATE record SET size=0 WHERE id=30", 8},
		{"UPDATE record SET bytes_read=1 WHERE id=30", 8},
		{"UPDATE record SET bytes_written=1 WHERE id=30", 8},
		{"UPDATE record SET detail='' WHERE id=30", 8},
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
		{"DELETE FROM record WHERE id=1", 3},
		{"DELETE FROM record WHERE id=13", 5},
		{"DELETE FROM record WHERE id=30", 8},
		{"DELETE FROM act WHERE id=1", 3},
		{"DELETE FROM record WHERE id=13; UPDATE record SET id=id-1 WHERE id>13", 5},
		{"DELETE FROM path", 2},
		/* inserted */
		{"INSERT INTO record SELECT "
		 "31,time,session,op,flags,outcome,path,path2,process,file,size,bytes_read,"
		 "bytes_written,detail FROM record WHERE id=1",
			9},
		{"INSERT INTO record SELECT "
		 "0,time,session,op,flags,outcome,path,path2,process,file,size,bytes_read,"
		 "bytes_written,detail FROM record WHERE id=1",
			9},
		{"INSERT INTO act (time,kind) VALUES (1,'forged')", 9},
		{"UPDATE record SET id=-id WHERE id>10; UPDATE record SET id=1-id WHERE id<-10;"
		 "INSERT INTO record SELECT "
		 "11,time,session,op,flags,outcome,path,path2,process,file,size,bytes_read,"
		 "bytes_written,detail FROM record WHERE id=1",
			5},
		/* put in another order */
		{"UPDATE record SET id=-1 WHERE id=12; UPDATE record SET id=12 WHERE id=13; UPDATE record "
		 "SET id=13 WHERE id=-1",
			5},
		{"UPDATE record SET id=-1 WHERE id=5; UPDATE record SET id=5 WHERE id=6; UPDATE record SET "
		 "id=6 WHERE id=-1",
			3},
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
		char copy[128], into[160];
		struct ledger_verdict v;
		sqlite3 *db;

		snprintf(copy, sizeof(copy), "%s/copy.db", f->dir);
		snprintf(into, sizeof(into), "VACUUM INTO '%s'", copy);
		unlink(copy);
		edit(f, into);
		assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
		if (sqlite3_exec(db, edits[i].sql, NULL, NULL, NULL) != SQLITE_OK)
			fail_msg("%s: %s", edits[i].sql, sqlite3_errmsg(db));
		sqlite3_close(db);
		assert_int_equal(ledger_verify_file(copy, NULL, NULL, &v), 0);
		if (v.first_bad != edits[i].batch)
			fail_msg("%s: batch %d instead of %d (%s)", edits[i].sql, (int)v.first_bad,
				(int)edits[i].batch, v.reason);
		assert_true(v.reason[0]);
	}
	assert_int_equal(verify(f).first_bad, 0);
}

static void cut_after(struct fixture *f, int batch)
{
	char sql[400];

	snprintf(sql, sizeof(sql),
		"DELETE FROM record WHERE id>(SELECT record_to FROM chain WHERE id=%d);"
		"DELETE FROM act WHERE id>(SELECT act_to FROM chain WHERE id=%d); DELETE FROM chain WHERE "
		"id>%d",
		batch, batch, batch);
	edit(f, sql);
}

/* A clean cut cannot be seen from inside; a head that somebody remembers shows it. */
static void test_cut_tail(void **state)
{
	struct fixture *f = *state;
	struct ledger_head remembered = verify(f).head;
	struct ledger_verdict v;

	assert_int_equal(ledger_verify_file(f->path, NULL, &remembered, &v), 0);
	assert_int_equal(v.first_bad, 0);
	cut_after(f, 5);
	assert_int_equal(verify(f).first_bad, 0);
	assert_int_equal(ledger_verify_file(f->path, NULL, &remembered, &v), 0);
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
	assert_int_equal(ledger_verify_file(f->path, NULL, &remembered, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
}

static void sign_batch(struct fixture *f, const uint8_t *secret, int64_t batch)
{
	struct chain_batch head;
	uint8_t signature[CHAIN_SIGNATURE_BYTES];
	char text[CHAIN_MESSAGE_MAX];
	int n;

	ledger_head(f->l, &head);
	assert_int_equal(head.batch, batch);
	n = chain_head_message(head.batch, &head.hash, text);
	crypto_sign_detached(signature, NULL, (const unsigned char *)text, (unsigned)n, secret);
	assert_int_equal(ledger_add_signature(f->l, batch, signature), 0);
}

static void test_signed_heads(void **state)
{
	struct ledger_keys keys = {.n = 1, .keys = {{.until = INT64_MAX}}}, others = keys, both = {.n = 2};
	uint8_t secret[64], other_secret[64];
	struct fixture *f = *state;
	struct ledger_verdict v;

	crypto_sign_keypair(keys.keys[0].b, secret);
	crypto_sign_keypair(others.keys[0].b, other_secret);
	sign_batch(f, secret, BATCHES);
	assert_int_equal(ledger_verify_file(f->path, &keys, NULL, &v), 0);
	assert_int_equal(v.first_bad, 0);
	assert_int_equal(v.signed_until, BATCHES);
	assert_int_equal(ledger_verify_file(f->path, &others, NULL, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
	assert_int_equal(v.signed_until, 0);
	/* a key that was exchanged: for what it signed in its time */
	both.keys[0] = others.keys[0];
	both.keys[1] = keys.keys[0];
	assert_int_equal(ledger_verify_file(f->path, &both, NULL, &v), 0);
	assert_int_equal(v.first_bad, 0);
	both.keys[1].until = 1000;
	assert_int_equal(ledger_verify_file(f->path, &both, NULL, &v), 0);
	assert_int_equal(v.first_bad, BATCHES);
	cut_after(f, 6); /* the head table still tells */
	assert_int_equal(ledger_verify_file(f->path, &keys, NULL, &v), 0);
	assert_int_equal(v.first_bad, 7);
}

static void test_signature_of_no_batch(void **state)
{
	const uint8_t signature[CHAIN_SIGNATURE_BYTES] = {0};
	struct fixture *f = *state;

	assert_int_equal(ledger_add_signature(f->l, BATCHES + 1, signature), -ENOENT);
	assert_int_equal(ledger_add_signature(f->l, 0, signature), -ENOENT);
}

static void test_message(void **state)
{
	struct chain_hash hash = {.b = {0xab}};
	char text[CHAIN_MESSAGE_MAX];
	static const char expected[] = "coffer-head\0coffer-ledger-head-1\n12\n"
				       "ab00000000000000000000000000000000000000000000000000000000000000\n";
	int n = chain_head_message(12, &hash, text);

	assert_int_equal(n, sizeof(expected) - 1);
	assert_memory_equal(text, expected, sizeof(expected));
}

static void test_no_file(void **state)
{
	struct ledger_verdict v;

	assert_int_equal(ledger_verify_file("/nowhere/ledger.db", NULL, NULL, &v), -ENOENT);
	assert_int_equal(ledger_verify_file("/etc/hostname", NULL, NULL, &v), -EUCLEAN);
}

static void test_broken_off(void **state)
{
	struct fixture *f = *state;
	struct ledger_verdict v = {.batches = -1};
	atomic_bool stop = false;

	assert_int_equal(ledger_verify_file_until(f->path, NULL, NULL, &stop, &v), 0);
	assert_int_equal(v.first_bad, 0);
	v.batches = -1;
	stop = true;
	assert_int_equal(ledger_verify_file_until(f->path, NULL, NULL, &stop, &v), -EINTR);
	assert_int_equal(v.batches, -1);
}

/* An index that hides a row from every question, while the table is whole. */
static void test_index_without_the_row(void **state)
{
	struct fixture *f = *state;

	edit(f, "PRAGMA writable_schema=ON");
	sqlite3_db_config(ledger_db(f->l), SQLITE_DBCONFIG_DEFENSIVE, 0, NULL);
	edit(f, "PRAGMA writable_schema=ON;"
		"UPDATE sqlite_schema SET sql='CREATE INDEX record_time ON record (size)' WHERE "
		"name='record_time'");
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
		T(test_cut_tail),
		T(test_broken_off),
		T(test_rewritten_tail),
		T(test_signed_heads),
		T(test_signature_of_no_batch),
		T(test_message),
		T(test_no_file),
		T(test_index_without_the_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
