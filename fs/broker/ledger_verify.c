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
#include "common/utf8.h"
#include "fs/broker/ledger_file.h"
#include "fs/broker/parts.h"
#include "fs/broker/posting.h"

/* One side of a verification: the rows, or what searches rely on. */
struct check {
	sqlite3 *db; /* the ledger */
	struct blocks *blocks;
	const char *path;
	const struct ledger_verify_options *o;
	struct parts parts;
	bool parts_damaged;
	struct chain_batch base;  /* behind which its rows begin */
	int64_t batches, records; /* that there are, by the last row of the chain */
	int result;
	struct ledger_verdict v;
};

/* A database that has the rows of some batches: the ledger, or an archive. */
struct segment {
	sqlite3 *db;
	struct blocks *blocks;
	const char *archive; /* its name, or NULL */
	struct chain_batch before;
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
	utf8_mend(v->reason); /* SQLite says names that stand in the file */
}

/* Walks the chain and computes every batch again, as far as it is as it was. */
static int check_chain(struct check *c, const struct segment *s, struct chain_batch *ret_last)
{
	scoped(chain_reader_freep) struct chain_reader *reader = NULL;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	struct ledger_verdict *v = &c->v;
	struct chain_batch last, b;
	int r;

	*ret_last = last = s->before;
	r = chain_reader_new(s->db, s->blocks, &reader);
	if (r == 0)
		r = sql_prepare(s->db, "SELECT " CHAIN_COLUMNS " FROM chain WHERE id>? ORDER BY id", &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, last.batch);
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

/* Rows outside of every batch.  Records: the blocks have as many as the batches cover, so that none hides behind another.
 * What an archive has of former months, or the ledger of archived ones, is not counted here. */
static int check_strays(const struct segment *s, const struct chain_batch *last, struct ledger_verdict *v)
{
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		const char *name = chain_table_names[t];
		char sql[200];
		int64_t n;
		int r;

		if (t == CHAIN_RECORD)
			snprintf(sql, sizeof(sql), "SELECT abs(total(records)-%lld)+(SELECT count(*) FROM block WHERE id<1)"
						   " FROM block NOT INDEXED WHERE id>%lld",
				(long long)(last->to[t] - s->before.to[t]), (long long)s->before.to[t]);
		else
			snprintf(sql, sizeof(sql), "SELECT count(*) FROM %s WHERE id<1 OR id>%lld", name,
				(long long)last->to[t]);
		r = ledger_file_number(s->db, sql, &n);
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

/* The same, wherever the batch is.  *ret_known false: in an archive that cannot be read, of which more is said elsewhere. */
static int hash_anywhere(struct check *c, int64_t batch, struct chain_hash *ret, bool *ret_known)
{
	const struct part *p = parts_of_batch(&c->parts, batch);
	scoped(sql_closep) sqlite3 *db = NULL;
	scoped(freep) char *path = NULL;

	*ret_known = true;
	if (!p || batch > c->base.batch)
		return hash_at(c->db, batch, ret);
	*ret = p->a.last.hash;
	if (batch == p->a.last.batch)
		return 0;
	path = archive_path(c->path, p->a.name);
	if (!path)
		return -ENOMEM;
	*ret_known = !p->destroyed && archive_db_open(path, &db) == 0;
	return *ret_known ? hash_at(db, batch, ret) : 0;
}

/* The ledger must lead to this head: one that is further on was cut off, one that differs was rewritten. */
static int check_head(struct check *c, const struct ledger_head *head, const char *whose)
{
	struct ledger_verdict *v = &c->v;
	bool known;

	struct chain_hash hash;
	int r;

	r = hash_anywhere(c, head->batch, &hash, &known);
	if (r < 0)
		return r;
	if (head->batch > c->batches)
		found_bad(v, c->batches + 1,
			"the ledger ends before batch %lld, whose head was %s: its end was cut off",
			(long long)head->batch, whose);
	else if (known && sodium_memcmp(hash.b, head->hash.b, sizeof(hash.b)) != 0)
		found_bad(v, head->batch, "it is not the batch whose head was %s: the ledger was rewritten",
			whose);
	return 0;
}

/* The version that was signed; 0: none, by these keys. */
static unsigned signed_version(
	const struct ledger_head *head, const uint8_t *signature, int64_t at, const struct ledger_keys *keys)
{
	for (unsigned version = CHAIN_HEAD_VERSION; version > 0; version--) {
		char text[CHAIN_MESSAGE_MAX];
		int n = chain_head_message(version, head->batch, &head->hash, at, text);

		for (size_t i = 0; i < keys->n; i++)
			if (at <= keys->keys[i].until && crypto_sign_verify_detached(signature, (const unsigned char *)text,
								 (unsigned)n, keys->keys[i].b) == 0)
				return version;
	}
	return 0;
}

/* As check_head, within one database, which is asked once for each of many heads. */
static int check_segment_head(struct check *c, const struct segment *s, const struct ledger_head *head)
{
	struct chain_hash hash;
	int r;

	if (!s->archive && head->batch > c->batches)
		return check_head(c, head, "signed");
	r = hash_at(s->db, head->batch, &hash);
	if (r == 0 && sodium_memcmp(hash.b, head->hash.b, sizeof(hash.b)) != 0)
		found_bad(&c->v, head->batch, "it is not the batch whose head was signed: the ledger was rewritten");
	return r;
}

static int check_signed_heads(struct check *c, const struct segment *s)
{
	const struct ledger_keys *keys = c->o->keys;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	struct ledger_verdict *v = &c->v;
	int r = sql_prepare(s->db, "SELECT batch,hash,signature,time FROM head WHERE batch>? ORDER BY batch", &st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, s->before.batch);
	while ((r = sql_step(st)) > 0) {
		struct ledger_head head = {.batch = sqlite3_column_int64(st, 0)};
		unsigned version = 0;

		if (sqlite3_column_bytes(st, 1) != CHAIN_HASH_BYTES ||
			sqlite3_column_bytes(st, 2) != CHAIN_SIGNATURE_BYTES) {
			found_bad(v, head.batch, "its signed head is damaged");
			continue;
		}
		memcpy(head.hash.b, sqlite3_column_blob(st, 1), CHAIN_HASH_BYTES);
		if (keys)
			version = signed_version(&head, sqlite3_column_blob(st, 2), sqlite3_column_int64(st, 3), keys);
		if (keys && version == 0) {
			found_bad(v, head.batch, "the signature of its head, or of its time, is not coffer-keyd's");
			continue;
		}
		r = check_segment_head(c, s, &head);
		if (r < 0)
			return r;
		if (!v->first_bad) {
			v->signed_until = head.batch;
			v->signed_at = sqlite3_column_int64(st, 3);
			v->time_unsigned = version == 1;
		}
	}
	return r;
}

static int check_anchors(struct check *c)
{
	for (size_t i = 0; i < c->o->anchors_n; i++) {
		const struct ledger_anchor *a = &c->o->anchors[i];
		int r;

		if (!c->o->keys || signed_version(&a->head, a->signature, a->time, c->o->keys) == 0) {
			c->v.anchors_ignored++;
			continue;
		}
		r = check_head(c, &a->head, "anchored outside");
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
	return ledger_file_number(db, sql, ret);
}

static int check_postings(struct check *c, const struct segment *s, int64_t to)
{
	struct posting_range range = {s->before.to[CHAIN_RECORD] + 1, to};
	int64_t first = (range.from - 1) / SEGMENT_RECORDS, n, batch;
	/* A ledger that goes on has none of its last segment. */
	int64_t end = s->archive ? (to + SEGMENT_RECORDS - 1) / SEGMENT_RECORDS : to / SEGMENT_RECORDS;
	char sql[160];
	int r = 0;

	if (to < range.from)
		end = first;
	for (int64_t i = first; r == 0 && i < end && !c->v.first_bad; i++) {
		r = posting_check(s->db, s->blocks, i, range);
		if (r != -EUCLEAN)
			continue;
		r = batch_of_record(s->db, i == first ? range.from : i * SEGMENT_RECORDS + 1, &batch);
		found_bad(&c->v, batch, "where searches look for the records from %lld on does not fit them",
			(long long)(i * SEGMENT_RECORDS + 1));
	}
	/* Of archived months some may be left for a while; nobody looks there. */
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM posting WHERE (segment NOT BETWEEN 0 AND %lld) OR kind NOT IN (0,1)",
		(long long)(end > first ? end : first) - 1);
	if (r == 0)
		r = ledger_file_number(s->db, sql, &n);
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

/* Views, triggers, virtual tables and computed columns could show each reader something else, or change what is written later. */
static int check_schema(struct check *c)
{
	static const char foreign[] = "SELECT 1 FROM sqlite_schema WHERE coalesce(rootpage,0)=0 UNION ALL "
				      "SELECT 1 FROM sqlite_schema AS s, pragma_table_xinfo(s.name) AS x WHERE s.type='table' AND x.hidden<>0";
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(c->db, foreign, &st);

	if (r == 0)
		r = sql_step(st);
	if (r == 1)
		found_bad(&c->v, c->batches + 1, "the database has views, triggers or computed columns");
	return r < 0 ? r : 0;
}

/* ---- archives ---- */

#define STEPS_BETWEEN_LOOKS 10000 /* of SQLite's machine: well below a millisecond */

static int wants_stop(void *arg)
{
	return atomic_load((const atomic_bool *)arg);
}

static int ledger_id(sqlite3 *db, char ret[33])
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "SELECT id FROM ledger", &st);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0 || sqlite3_column_bytes(st, 0) != 16)
		return r < 0 ? r : -EUCLEAN;
	sodium_bin2hex(ret, 33, sqlite3_column_blob(st, 0), 16);
	return 0;
}

static void segment_done(struct segment *s)
{
	blocks_free(s->blocks);
	sqlite3_close(s->db);
}

/* -EUCLEAN: not the file that the statement is about. */
static int segment_open(struct check *c, const char *path, const struct archive *a, struct segment *ret)
{
	int r = archive_db_open(path, &ret->db);

	ret->archive = a->name;
	ret->before = a->before;
	if (r == 0 && c->o->stop)
		sqlite3_progress_handler(ret->db, STEPS_BETWEEN_LOOKS, wants_stop, (void *)c->o->stop);
	if (r == 0)
		r = ledger_file_version_check(ret->db);
	if (r == 0)
		r = blocks_new(ret->db, &ret->blocks);
	if (r == 0)
		blocks_set_floor(ret->blocks, a->before.to[CHAIN_RECORD]);
	return r;
}

static bool same_batch(const struct chain_batch *a, const struct chain_batch *b)
{
	return a->batch == b->batch && memcmp(a->to, b->to, sizeof(a->to)) == 0 &&
	       sodium_memcmp(a->hash.b, b->hash.b, sizeof(a->hash.b)) == 0;
}

/* The rows of an archive lead from the batch before it to its last. */
static int check_segment(struct check *c, const struct segment *s, const struct archive *a)
{
	struct chain_batch base, last;
	int r = chain_base(s->db, &base);

	if (r == 0 && !same_batch(&base, &a->before))
		found_bad(&c->v, a->before.batch + 1, "archive %s does not begin as its statement says", a->name);
	if (r == 0)
		r = check_chain(c, s, &last);
	if (r == 0 && !c->v.first_bad && !same_batch(&last, &a->last))
		found_bad(&c->v, last.batch + 1, "archive %s does not end as its statement says", a->name);
	if (r == 0 && !c->v.first_bad)
		r = check_strays(s, &last, &c->v);
	return r == 0 ? check_signed_heads(c, s) : r;
}

/* *ret false: it is missing, or another; and that was said. */
static int archive_is_there(struct check *c, const struct part *p, const char *path, bool *ret)
{
	scoped(archive_file_closep) struct archive_file *f = NULL;
	int64_t batch = p->a.before.batch + 1;
	int r = archive_file_open(path, &f);

	*ret = false;
	if (r == -ENOENT)
		found_bad(&c->v, batch, "archive %s, records %lld to %lld, is missing", p->a.name,
			(long long)p->a.before.to[CHAIN_RECORD] + 1, (long long)p->a.last.to[CHAIN_RECORD]);
	else if (r == -EUCLEAN || r == -ELOOP)
		found_bad(&c->v, batch, "archive %s was changed or cut", p->a.name);
	else if (r < 0)
		return r;
	else if (strcmp(archive_file_statement(f), p->statement) != 0 ||
		 memcmp(archive_file_signature(f), p->signature, sizeof(p->signature)) != 0)
		found_bad(&c->v, batch, "archive %s is not the one that was signed: another file lies in its place", p->a.name);
	else
		*ret = true;
	return 0;
}

static int read_archive(struct check *c, const struct part *p)
{
	scoped(segment_done) struct segment s = {0};
	scoped(freep) char *path = archive_path(c->path, p->a.name);
	bool there;
	int r = path ? archive_is_there(c, p, path, &there) : -ENOMEM;

	if (r < 0 || !there)
		return r;
	r = segment_open(c, path, &p->a, &s);
	if (r == 0)
		r = check_segment(c, &s, &p->a);
	if (r == -EUCLEAN) {
		found_bad(&c->v, c->v.batches + 1, "archive %s was changed: what is read of it is not what was signed", p->a.name);
		r = 0;
	}
	c->v.archives++;
	return r;
}

static bool statement_ok(const char *statement, const uint8_t *signature, int64_t at, const struct ledger_keys *keys)
{
	for (size_t i = 0; keys && i < keys->n; i++)
		if (at <= keys->keys[i].until && archive_signature_ok(statement, signature, keys->keys[i].b))
			return true;
	return !keys;
}

static void check_destroyed(struct check *c, const struct part *p)
{
	const struct archive *a = &p->a;

	if (strcmp(p->end.name, a->name) != 0 || strcmp(p->end.ledger, a->ledger) != 0 ||
		p->end.from_record != a->before.to[CHAIN_RECORD] + 1 || p->end.to_record != a->last.to[CHAIN_RECORD] ||
		sodium_memcmp(p->end.last.b, a->last.hash.b, sizeof(p->end.last.b)) != 0 ||
		!statement_ok(p->destroyed, p->destroyed_signature, p->end.time, c->o->keys))
		found_bad(&c->v, a->before.batch + 1, "nobody signed that archive %s was destroyed", a->name);
	else if (c->v.destroyed_to == a->before.to[CHAIN_RECORD]) {
		c->v.destroyed_to = a->last.to[CHAIN_RECORD];
		c->v.destroyed_at = p->end.time;
		c->v.batches = a->last.batch;
	}
}

/* Each begins where the one before it ended, and the ledger behind the last. */
static int check_archives(struct check *c)
{
	struct chain_batch at;
	char id[sizeof(((struct archive *)0)->ledger)] = "";
	int r = chain_genesis(c->db, &at);

	if (r == 0)
		r = ledger_id(c->db, id);
	for (size_t i = 0; r == 0 && i < c->parts.n; i++) {
		const struct part *p = &c->parts.list[i];

		if (!same_batch(&p->a.before, &at) || strcmp(p->a.ledger, id) != 0)
			found_bad(&c->v, at.batch + 1, "archive %s does not go on where the one before it ends", p->a.name);
		else if (!statement_ok(p->statement, p->signature, p->a.made, c->o->keys))
			found_bad(&c->v, at.batch + 1, "the signature of archive %s is not coffer-keyd's", p->a.name);
		else if (p->destroyed)
			check_destroyed(c, p);
		else
			r = read_archive(c, p);
		at = p->a.last;
	}
	if (r == 0 && !same_batch(&c->base, &at))
		found_bad(&c->v, at.batch + 1, "the ledger does not go on where its archives end: one was removed from its list, or it was cut");
	return r;
}

/* Rows of archived months that the ledger still has and refers to. */
static int check_kept(struct check *c)
{
	const struct part *newest = c->parts.n ? &c->parts.list[c->parts.n - 1] : NULL;
	struct chain_hash hash;
	int r;

	if (!newest || c->v.first_bad)
		return 0;
	r = chain_kept_hash(c->db, &newest->a.last, newest->a.acts_moved, &hash);
	if (r == -EUCLEAN || (r == 0 && sodium_memcmp(hash.b, newest->a.kept.b, sizeof(hash.b)) != 0)) {
		found_bad(&c->v, newest->a.last.batch, "what the ledger kept of archived months (sessions, acts, names) was changed");
		r = 0;
	}
	return r;
}

static int check_archive_postings(struct check *c, const struct part *p)
{
	scoped(segment_done) struct segment s = {0};
	scoped(freep) char *path = archive_path(c->path, p->a.name);
	int r = path ? segment_open(c, path, &p->a, &s) : -ENOMEM;

	if (r == 0)
		r = check_postings(c, &s, p->a.last.to[CHAIN_RECORD]);
	if (r == -EUCLEAN)
		found_bad(&c->v, p->a.before.batch + 1, "archive %s was changed: what is read of it is not what was signed", p->a.name);
	return r == -ENOMEM || r == -EINTR ? r : 0; /* the other thread says what there is to say */
}

static void *beside_main(void *arg)
{
	struct check *c = arg;
	const struct segment s = {.db = c->db, .blocks = c->blocks, .before = c->base};

	for (size_t i = 0; c->result == 0 && i < c->parts.n; i++)
		if (!c->parts.list[i].destroyed)
			c->result = check_archive_postings(c, &c->parts.list[i]);
	if (c->result == 0)
		c->result = check_postings(c, &s, c->records);
	if (c->result == 0)
		c->result = check_database(c);
	if (c->result == 0)
		c->result = check_schema(c);
	return NULL;
}

/* ---- all of it ---- */

static void check_done(struct check *c)
{
	parts_done(&c->parts);
	blocks_free(c->blocks);
	sqlite3_close(c->db);
}

/* Each side has a connection, and within it one moment of a ledger that goes on. */
static int check_open(struct check *c, const char *path, const struct ledger_verify_options *o)
{
	struct chain_batch last;
	int r;

	c->o = o;
	c->path = path;
	r = ledger_file_open(path, &c->db);
	if (r == 0 && o->stop)
		sqlite3_progress_handler(c->db, STEPS_BETWEEN_LOOKS, wants_stop, (void *)o->stop);
	if (r == 0)
		r = sql_exec(c->db, "BEGIN");
	if (r == 0)
		r = ledger_file_version_check(c->db);
	if (r == 0)
		r = blocks_new(c->db, &c->blocks);
	if (r == 0)
		r = chain_base(c->db, &c->base);
	if (r == 0)
		r = chain_last(c->db, &last);
	if (r == 0) {
		r = parts_read(c->db, &c->parts);
		c->parts_damaged = r == -EUCLEAN;
		r = c->parts_damaged ? 0 : r;
	}
	if (r < 0)
		return r;
	blocks_set_floor(c->blocks, c->base.to[CHAIN_RECORD]);
	c->batches = last.batch;
	c->records = last.to[CHAIN_RECORD];
	return 0;
}

static int check_rows(struct check *c)
{
	const struct segment s = {.db = c->db, .blocks = c->blocks, .before = c->base};
	struct chain_batch last = c->base;
	int r;

	if (c->parts_damaged)
		found_bad(&c->v, c->parts.n ? c->parts.list[c->parts.n - 1].a.last.batch + 1 : 1,
			"a row of the list of archives is damaged");
	r = check_archives(c);
	if (r == 0 && !c->v.first_bad)
		r = check_chain(c, &s, &last);
	if (r == 0 && !c->v.first_bad)
		r = check_strays(&s, &last, &c->v);
	if (r == 0)
		r = check_kept(c);
	if (r == 0)
		r = check_signed_heads(c, &s);
	if (r == 0 && c->o->expect && c->o->expect->batch > 0)
		r = check_head(c, c->o->expect, "remembered by coffer-keyd");
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

int ledger_verify_archive(const char *path, const struct archive *a, const atomic_bool *stop)
{
	const struct ledger_verify_options o = {.stop = stop};
	struct check c = {.path = path, .o = &o, .batches = a->last.batch, .records = a->last.to[CHAIN_RECORD]};
	scoped(archive_file_closep) struct archive_file *f = NULL;
	scoped(segment_done) struct segment s = {0};
	int r = archive_file_open(path, &f);

	if (r == 0)
		r = archive_file_check(f, stop);
	if (r == 0)
		r = segment_open(&c, path, a, &s);
	if (r == 0)
		r = check_segment(&c, &s, a);
	if (r == 0)
		r = check_postings(&c, &s, a->last.to[CHAIN_RECORD]);
	if (stop && atomic_load(stop))
		return -EINTR;
	return r == 0 && c.v.first_bad ? -EUCLEAN : r;
}
