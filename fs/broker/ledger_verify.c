#include "fs/broker/ledger_verify.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "common/sql.h"
#include "fs/broker/posting.h"

/* One side of a verification: the rows, or what searches rely on. */
struct check {
	sqlite3 *db;
	struct blocks *blocks;
	const struct ledger_verify_options *o;
	int64_t batches, records; /* that there are, by the last row of the chain */
	int result;
	struct ledger_verdict v;
};

static void found_bad(struct ledger_verdict *v, int64_t batch, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void found_bad(struct ledger_verdict *v, int64_t batch, const char *fmt, ...)
{
	va_list ap;

	if (v->first_bad && v->first_bad <= batch)
		return;
	v->first_bad = batch;
	va_start(ap, fmt);
	vsnprintf(v->reason, sizeof(v->reason), fmt, ap);
	va_end(ap);
}

/* A copy may lie where nothing can be written: then SQLite needs to be told that nobody else writes either.
 * Not with a write-ahead log beside it, whose rows would be left out. */
static int open_read_only(const char *path, sqlite3 **ret)
{
	scoped(sql_closep) sqlite3 *db = NULL;
	char uri[4200], wal[4200];
	int r;

	if (access(path, R_OK) < 0)
		return -errno;
	r = sql_errno(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL));
	if (r == 0)
		r = sql_exec(db, "SELECT 1 FROM ledger");
	if (r == -ENOENT || r == -EROFS || r == -EIO) {
		snprintf(wal, sizeof(wal), "%s-wal", path);
		if (access(wal, F_OK) == 0 || strpbrk(path, "?#%"))
			return r;
		sqlite3_close(take_ptr(&db));
		snprintf(uri, sizeof(uri), "file:%s?immutable=1", path);
		r = sql_errno(sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL));
		if (r == 0)
			r = sql_exec(db, "SELECT 1 FROM ledger");
	}
	if (r < 0)
		return r;
	sqlite3_busy_timeout(db, 2000);
	*ret = take_ptr(&db);
	return 0;
}

static int one_number(sqlite3 *db, const char *sql, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, sql, &st);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EUCLEAN;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

/* An older ledger gets its new form when coffer-fsd starts. */
static int version_known(sqlite3 *db)
{
	int64_t version;
	int r = one_number(db, "PRAGMA user_version", &version);

	return r < 0 ? r : version == LEDGER_VERSION ? 0 : version ? -EPROTONOSUPPORT : -EUCLEAN;
}

/* Walks the chain and computes every batch again. */
static int check_chain(struct check *c, struct chain_batch *ret_last)
{
	scoped(chain_reader_freep) struct chain_reader *reader = NULL;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	struct ledger_verdict *v = &c->v;
	struct chain_batch last, b;
	int r;

	r = chain_genesis(c->db, &last);
	if (r == 0)
		r = chain_reader_new(c->db, c->blocks, &reader);
	if (r == 0)
		r = sql_prepare(c->db, "SELECT " CHAIN_COLUMNS " FROM chain ORDER BY id", &st);
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct chain_hash hash;

		if (chain_from_row(st, &b) < 0) {
			found_bad(v, last.batch + 1, "its row in the chain is damaged");
			break;
		}
		if (b.batch != last.batch + 1) {
			found_bad(v, last.batch + 1, "its row in the chain is missing");
			break;
		}
		r = chain_batch_hash(reader, &last, &b, &hash);
		if (r < 0 && r != -EUCLEAN)
			return r;
		if (r < 0)
			found_bad(v, b.batch, "rows that it covers were removed, added or damaged");
		else if (sodium_memcmp(hash.b, b.hash.b, sizeof(hash.b)) != 0)
			found_bad(v, b.batch, "rows that it covers, or its own row, were changed");
		if (v->first_bad)
			break;
		last = b;
		v->batches = b.batch;
		v->head = (struct ledger_head){.batch = b.batch, .hash = b.hash};
		if (c->o->progress)
			c->o->progress(c->o->userdata, b.to[CHAIN_RECORD], c->records);
	}
	*ret_last = last;
	return r < 0 ? r : 0;
}

/* Rows outside of every batch.  Records: the blocks have as many as the last batch covers, from 1 on, so that none hides
 * behind another. */
static int check_strays(sqlite3 *db, const struct chain_batch *last, struct ledger_verdict *v)
{
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		const char *name = chain_table_names[t];
		char sql[200];
		int64_t n;
		int r;

		if (t == CHAIN_RECORD)
			snprintf(sql, sizeof(sql), "SELECT abs(total(records)-%lld)+(SELECT count(*) FROM block WHERE id<1)"
						   " FROM block NOT INDEXED", (long long)last->to[t]);
		else
			snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s WHERE id<1 OR id>%lld", name,
				(long long)last->to[t]);
		r = one_number(db, sql, &n);
		if (r < 0)
			return r;
		if (n > 0)
			found_bad(v, last->batch + 1, "%lld rows of table %s stand in no batch", (long long)n,
				name);
	}
	return 0;
}

/* The hash that the ledger has at `batch`; all zero when it has none. */
static int hash_at(sqlite3 *db, int64_t batch, struct chain_hash *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "SELECT hash FROM chain WHERE id=?", &st);

	*ret = (struct chain_hash){0};
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, batch);
	r = sql_step(st);
	if (r > 0 && sqlite3_column_bytes(st, 0) == CHAIN_HASH_BYTES)
		memcpy(ret->b, sqlite3_column_blob(st, 0), CHAIN_HASH_BYTES);
	return r < 0 ? r : 0;
}

/* The ledger must lead to this head: one that is further on was cut off, one that differs was rewritten. */
static int check_head(
	sqlite3 *db, const struct ledger_head *head, const char *whose, struct ledger_verdict *v)
{
	struct chain_hash hash;
	int64_t end;
	int r;

	r = one_number(db, "SELECT coalesce(max(id),0) FROM chain", &end);
	if (r == 0)
		r = hash_at(db, head->batch, &hash);
	if (r < 0)
		return r;
	if (head->batch > end)
		found_bad(v, end + 1,
			"the ledger ends before batch %lld, whose head was %s: its end was cut off",
			(long long)head->batch, whose);
	else if (sodium_memcmp(hash.b, head->hash.b, sizeof(hash.b)) != 0)
		found_bad(v, head->batch, "it is not the batch whose head was %s: the ledger was rewritten",
			whose);
	return 0;
}

static bool signature_ok(
	const struct ledger_head *head, const uint8_t *signature, int64_t at, const struct ledger_keys *keys)
{
	char text[CHAIN_MESSAGE_MAX];
	int n = chain_head_message(head->batch, &head->hash, text);

	for (size_t i = 0; i < keys->n; i++)
		if (at <= keys->keys[i].until && crypto_sign_verify_detached(signature, (const unsigned char *)text,
							 (unsigned)n, keys->keys[i].b) == 0)
			return true;
	return false;
}

static int check_signed_heads(sqlite3 *db, const struct ledger_keys *keys, struct ledger_verdict *v)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "SELECT batch,hash,signature,time FROM head ORDER BY batch", &st);

	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct ledger_head head = {.batch = sqlite3_column_int64(st, 0)};

		if (sqlite3_column_bytes(st, 1) != CHAIN_HASH_BYTES ||
			sqlite3_column_bytes(st, 2) != CHAIN_SIGNATURE_BYTES) {
			found_bad(v, head.batch, "its signed head is damaged");
			continue;
		}
		memcpy(head.hash.b, sqlite3_column_blob(st, 1), CHAIN_HASH_BYTES);
		if (keys && !signature_ok(&head, sqlite3_column_blob(st, 2), sqlite3_column_int64(st, 3), keys)) {
			found_bad(v, head.batch, "the signature of its head is not coffer-keyd's");
			continue;
		}
		r = check_head(db, &head, "signed", v);
		if (r < 0)
			return r;
		if (!v->first_bad) {
			v->signed_until = head.batch;
			v->signed_at = sqlite3_column_int64(st, 3);
		}
	}
	return r;
}

static int check_anchors(struct check *c)
{
	for (size_t i = 0; i < c->o->anchors_n; i++) {
		const struct ledger_anchor *a = &c->o->anchors[i];
		int r;

		if (!c->o->keys || !signature_ok(&a->head, a->signature, a->time, c->o->keys)) {
			c->v.anchors_ignored++;
			continue;
		}
		r = check_head(c->db, &a->head, "anchored outside", &c->v);
		if (r < 0)
			return r;
		if (!c->v.first_bad && a->head.batch > c->v.anchored_until) {
			c->v.anchored_until = a->head.batch;
			c->v.anchored_at = a->time;
		}
	}
	return 0;
}

/* ---- beside it: what searches rely on ---- */

/* The batch that covers a record. */
static int batch_of_record(sqlite3 *db, int64_t record, int64_t *ret)
{
	char sql[96];

	snprintf(sql, sizeof(sql), "SELECT coalesce(min(id),1) FROM chain WHERE record_to>=%lld", (long long)record);
	return one_number(db, sql, ret);
}

static int check_postings(struct check *c)
{
	int64_t segments = c->records / SEGMENT_RECORDS, n, batch;
	char sql[112];
	int r = 0;

	for (int64_t s = 0; r == 0 && s < segments && !c->v.first_bad; s++) {
		r = posting_check(c->db, c->blocks, s);
		if (r != -EUCLEAN)
			continue;
		r = batch_of_record(c->db, s * SEGMENT_RECORDS + 1, &batch);
		found_bad(&c->v, batch, "where searches look for the records from %lld on does not fit them",
			(long long)(s * SEGMENT_RECORDS + 1));
	}
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM posting WHERE segment NOT BETWEEN 0 AND %lld OR kind NOT IN (0,1)",
		(long long)segments - 1);
	if (r == 0)
		r = one_number(c->db, sql, &n);
	if (r == 0 && n > 0)
		found_bad(&c->v, c->batches + 1, "where searches look has more than the records");
	return r;
}

/* An index that disagrees with its table hides rows from every question, though the table is whole. */
static int check_database(struct check *c)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(c->db, "PRAGMA integrity_check(1)", &st);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r;
	if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0)
		found_bad(&c->v, c->batches + 1, "the database is damaged: %.120s",
			(const char *)sqlite3_column_text(st, 0));
	return 0;
}

static void *beside_main(void *arg)
{
	struct check *c = arg;

	c->result = check_postings(c);
	if (c->result == 0)
		c->result = check_database(c);
	return NULL;
}

/* ---- all of it ---- */

#define STEPS_BETWEEN_LOOKS 10000 /* of SQLite's machine: well below a millisecond */

static int wants_stop(void *arg)
{
	return atomic_load((const atomic_bool *)arg);
}

static void check_done(struct check *c)
{
	blocks_free(c->blocks);
	sqlite3_close(c->db);
}

/* Each side has a connection, and within it one moment of a ledger that goes on. */
static int check_open(struct check *c, const char *path, const struct ledger_verify_options *o)
{
	struct chain_batch last;
	int r;

	c->o = o;
	r = open_read_only(path, &c->db);
	if (r == 0 && o->stop)
		sqlite3_progress_handler(c->db, STEPS_BETWEEN_LOOKS, wants_stop, (void *)o->stop);
	if (r == 0)
		r = sql_exec(c->db, "BEGIN");
	if (r == 0)
		r = version_known(c->db);
	if (r == 0)
		r = blocks_new(c->db, &c->blocks);
	if (r == 0)
		r = chain_last(c->db, &last);
	if (r < 0)
		return r;
	c->batches = last.batch;
	c->records = last.to[CHAIN_RECORD];
	return 0;
}

static int check_rows(struct check *c)
{
	struct chain_batch last = {0};
	int r;

	r = check_chain(c, &last);
	if (r == 0 && !c->v.first_bad)
		r = check_strays(c->db, &last, &c->v);
	if (r == 0)
		r = check_signed_heads(c->db, c->o->keys, &c->v);
	if (r == 0 && c->o->expect && c->o->expect->batch > 0)
		r = check_head(c->db, c->o->expect, "remembered by coffer-keyd", &c->v);
	if (r == 0)
		r = check_anchors(c);
	c->v.records = last.to[CHAIN_RECORD];
	c->v.acts = last.to[CHAIN_ACT];
	return r;
}

static int check_both(struct check *rows, struct check *beside)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, beside_main, beside);

	if (r != 0)
		return -r;
	r = check_rows(rows);
	pthread_join(thread, NULL);
	if (r == -EUCLEAN && rows->v.batches) {
		found_bad(&rows->v, rows->v.batches + 1, "the database is damaged");
		r = 0;
	}
	if (rows->o->stop && atomic_load(rows->o->stop))
		return -EINTR;
	if (r < 0 || rows->v.first_bad)
		return r; /* what is wrong with the rows themselves says more */
	if (beside->result == -EUCLEAN)
		found_bad(&rows->v, rows->v.batches + 1, "the database is damaged");
	else if (beside->result < 0)
		return beside->result;
	else if (beside->v.first_bad)
		found_bad(&rows->v, beside->v.first_bad, "%s", beside->v.reason);
	return 0;
}

int ledger_verify(const char *path, const struct ledger_verify_options *o, struct ledger_verdict *ret)
{
	scoped(check_done) struct check rows = {0}, beside = {0};
	int r;

	if (sodium_init() < 0)
		return -EIO;
	if (o->stop && atomic_load(o->stop))
		return -EINTR;
	r = check_open(&rows, path, o);
	if (r == 0)
		r = check_open(&beside, path, o);
	if (r == 0)
		r = check_both(&rows, &beside);
	if (r < 0)
		return r;
	*ret = rows.v;
	return 0;
}
