#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/scope.h"
#include "fs/broker/ledger_impl.h"
#include "fs/broker/posting.h"

#define SHRINKABLE_BYTES (64 << 20) /* written anew in about a second, at a start */

static const char *const statements[STATEMENTS] = {
	[ADD_JOURNAL] = "INSERT INTO journal VALUES (?,?,?,?)",
	[ADD_PROGRESS] = "INSERT INTO progress VALUES (?,0)",
	[SET_PROGRESS] = "UPDATE progress SET done=?2 WHERE journal=?1",
	[GET_PROGRESS] = ("SELECT p.done FROM progress p JOIN journal j ON j.id=p.journal"
			  " WHERE j.id=? AND j.client_id=?"),
	[ADD_SESSION] = "INSERT INTO session VALUES (?,?,?,?,?,?,?,?,?,?)",
	[FIND_SESSION] = "SELECT id FROM session WHERE number=? AND client_id=?",
	[ADD_PATH] = "INSERT INTO path VALUES (?,?,?,?,?)",
	[FIND_PATH] = "SELECT id FROM path WHERE journal=? AND ref=?",
	[ADD_PROCESS] = "INSERT INTO process VALUES (?,?,?,?,?,?)",
	[FIND_PROCESS] = "SELECT id FROM process WHERE journal=? AND ref=?",
	[ADD_ACT] = "INSERT INTO act VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
	[FIND_ACT] = ("SELECT id FROM act WHERE seq=? AND time=? AND kind=? AND"
		       " (id>? OR kind NOT IN " CHAIN_MOVED_ACTS ")"),
	[ADD_CHAIN] = "INSERT INTO chain VALUES (?,?,?,?,?,?,?,?,?)",
	[GET_CHAIN_HASH] = "SELECT hash FROM chain WHERE id=?",
	[ADD_HEAD] = "INSERT INTO head (batch,hash,signature,time) VALUES (?,?,?,?)",
};

/* ---- opening ---- */

static int last_id(sqlite3 *db, enum chain_table t, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[64];
	int r;

	if (t == CHAIN_RECORD)
		snprintf(sql, sizeof(sql), "SELECT id+records-1 FROM block ORDER BY id DESC LIMIT 1");
	else
		snprintf(sql, sizeof(sql), "SELECT max(id) FROM %s", chain_table_names[t]);
	r = sql_prepare(db, sql, &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = r > 0 ? sqlite3_column_int64(st, 0) : 0;
	return 0;
}

/* A row behind the last batch was put there by somebody else: never let it slip into the next batch.  What is archived
 * leaves none. */
static int check_end(struct ledger *l)
{
	int r = ledger_parts_load(l);

	if (r == 0)
		r = chain_last(l->db, &l->last);

	for (enum chain_table t = 0; r == 0 && t < CHAIN_TABLES; t++) {
		int64_t id;

		r = last_id(l->db, t, &id);
		if (r == 0 && id < l->base.to[t])
			id = l->base.to[t];
		if (r == 0 && id != l->last.to[t])
			r = -EUCLEAN;
	}
	return r;
}

static int64_t pragma_number(sqlite3 *db, const char *pragma)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;

	return sql_prepare(db, pragma, &st) == 0 && sql_step(st) > 0 ? sqlite3_column_int64(st, 0) : -1;
}

/* A ledger of an older version, once it is small (it may be mostly free pages): SQLite has to write it anew.  A larger one stays
 * as it is until its months are archived; so does one for which there is no room, or that somebody reads. */
static int make_shrinkable(sqlite3 *db)
{
	int64_t used = pragma_number(db, "PRAGMA page_count") - pragma_number(db, "PRAGMA freelist_count");
	int r;

	if (pragma_number(db, "PRAGMA auto_vacuum") != 0 || used * pragma_number(db, "PRAGMA page_size") > SHRINKABLE_BYTES)
		return 0;
	r = sql_exec(db, "PRAGMA auto_vacuum=INCREMENTAL; VACUUM");
	return r == -ENOSPC || r == -EBUSY ? 0 : r;
}

static int open_db(struct ledger *l, const char *path)
{
	int r;

	r = sql_errno(sqlite3_open_v2(
		path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL));
	if (r < 0)
		return r;
	sqlite3_extended_result_codes(l->db, 1);
	sqlite3_busy_timeout(l->db, 2000);
	r = sql_distrust(l->db);
	/* auto_vacuum: of a file that is made now; the room of archived months is given back (ledger_archive.c). */
	if (r == 0)
		r = sql_exec(l->db, "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA journal_size_limit=16777216");
	if (r == 0)
		r = ledger_migrate(l->db);
	if (r == 0)
		r = make_shrinkable(l->db);
	for (unsigned i = 0; r == 0 && i < STATEMENTS; i++)
		r = sql_errno(sqlite3_prepare_v3(
			l->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &l->st[i], NULL));
	if (r == 0)
		r = blocks_new(l->db, &l->blocks);
	if (r == 0)
		r = chain_reader_new(l->db, l->blocks, &l->chain);
	return r == 0 ? check_end(l) : r;
}

int ledger_open(const char *path, struct ledger **ret)
{
	struct ledger *l;
	int r;

	if (sodium_init() < 0)
		return -EIO;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->path = strdup(path);
	r = l->path ? open_db(l, path) : -ENOMEM;
	if (r < 0) {
		ledger_close(l);
		return r;
	}
	ledger_parts_tidy(l);
	*ret = l;
	return 0;
}

void ledger_close(struct ledger *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(l->st[i]);
	chain_reader_free(l->chain);
	blocks_free(l->blocks);
	free(l->pending);
	accesses_free(l->accesses);
	ledger_parts_free(l);
	free(l->path);
	sqlite3_close(l->db);
	free(l);
}

sqlite3 *ledger_db(struct ledger *l)
{
	return l->db;
}

/* ---- batches ---- */

int ledger_begin(struct ledger *l)
{
	int r;

	if (l->in_batch)
		return -EBUSY;
	r = sql_exec(l->db, "BEGIN IMMEDIATE");
	if (r < 0)
		return r;
	memcpy(l->to, l->last.to, sizeof(l->to));
	l->in_batch = true;
	return 0;
}

bool ledger_in_batch(const struct ledger *l)
{
	return l->in_batch;
}

void ledger_rollback(struct ledger *l)
{
	if (!l->in_batch)
		return;
	l->in_batch = false;
	l->pending_n = 0;
	blocks_forget(l->blocks);
	if (!sqlite3_get_autocommit(l->db)) /* some failures have rolled back already */
		sql_exec(l->db, "ROLLBACK");
}

void ledger_bind_batch(sqlite3_stmt *st, const struct chain_batch *b)
{
	sqlite3_bind_int64(st, 1, b->batch);
	sqlite3_bind_int64(st, 2, b->time);
	for (int t = 0; t < CHAIN_TABLES; t++)
		sqlite3_bind_int64(st, 3 + t, b->to[t]);
	sqlite3_bind_blob(st, 3 + CHAIN_TABLES, b->hash.b, sizeof(b->hash.b), SQLITE_STATIC);
}

static int add_chain(struct ledger *l, struct chain_batch *b)
{
	sqlite3_stmt *st = l->st[ADD_CHAIN];
	int r;

	r = chain_batch_hash(l->chain, &l->last, b, &b->hash);
	if (r < 0)
		return r;
	ledger_bind_batch(st, b);
	return sql_run(st);
}

int ledger_add_pending(struct ledger *l, const struct pack_record *rec)
{
	if (!l->in_batch)
		return -EINVAL;
	if (l->pending_n == l->pending_cap) {
		size_t cap = l->pending_cap ? l->pending_cap * 2 : 256;
		struct pack_record *p = realloc(l->pending, cap * sizeof(*p));

		if (!p)
			return -ENOMEM;
		l->pending = p;
		l->pending_cap = cap;
	}
	l->pending[l->pending_n++] = *rec;
	l->to[CHAIN_RECORD]++;
	return 0;
}

static int by_time(const void *a, const void *b, void *records)
{
	uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const struct pack_record *r = records;

	if (r[i].time != r[j].time)
		return r[i].time < r[j].time ? -1 : 1;
	return i < j ? -1 : i > j;
}

/* Several journals make one batch: its records stand in the order of time. */
static int sort_pending(const struct ledger *l, struct pack_record **ret)
{
	scoped(freep) struct pack_record *sorted = malloc(l->pending_n * sizeof(*sorted));
	scoped(freep) uint32_t *order = malloc(l->pending_n * sizeof(*order));

	if (!sorted || !order)
		return -ENOMEM;
	for (size_t i = 0; i < l->pending_n; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, l->pending_n, sizeof(*order), by_time, l->pending);
	for (size_t i = 0; i < l->pending_n; i++)
		sorted[i] = l->pending[order[i]];
	*ret = take_ptr(&sorted);
	return 0;
}

static int write_pending(struct ledger *l)
{
	scoped(freep) struct pack_record *sorted = NULL;
	int64_t before = l->last.to[CHAIN_RECORD], after = l->to[CHAIN_RECORD];
	int r;

	if (!l->pending_n)
		return 0;
	r = sort_pending(l, &sorted);
	if (r == 0)
		r = blocks_append(l->blocks, before + 1, sorted, l->pending_n);
	for (int64_t s = before / SEGMENT_RECORDS; r == 0 && s < after / SEGMENT_RECORDS; s++)
		r = posting_write(l->db, l->blocks, s, (struct posting_range){l->base.to[CHAIN_RECORD] + 1, after});
	return r;
}

int ledger_commit(struct ledger *l)
{
	struct chain_batch b = {.batch = l->last.batch + 1, .time = time(NULL)};
	bool grew = memcmp(l->to, l->last.to, sizeof(l->to)) != 0;
	int r;

	if (!l->in_batch)
		return -EINVAL;
	memcpy(b.to, l->to, sizeof(b.to));
	r = write_pending(l);
	if (r == 0 && grew)
		r = add_chain(l, &b);
	if (r == 0)
		r = sql_exec(l->db, "COMMIT");
	if (r < 0) {
		ledger_rollback(l);
		return r;
	}
	l->in_batch = false;
	l->pending_n = 0;
	if (grew)
		l->last = b;
	return 0;
}

int ledger_add_row(struct ledger *l, enum chain_table t, sqlite3_stmt *st)
{
	int r;

	sqlite3_bind_int64(st, 1, l->to[t] + 1);
	r = l->in_batch ? sql_run(st) : -EINVAL;
	if (r == 0)
		l->to[t]++;
	return r;
}

int ledger_lookup(sqlite3_stmt *st, int64_t *ret)
{
	int r = sql_step(st);

	if (r > 0)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return r > 0 ? 0 : r == 0 ? -ENOENT : r;
}

/* ---- sessions and acts ---- */

int ledger_add_session(struct ledger *l, const struct ledger_session *s)
{
	sqlite3_stmt *st = l->st[ADD_SESSION];

	sqlite3_bind_int64(st, 2, (int64_t)s->number);
	sql_bind_text(st, 3, s->client_id);
	sql_bind_text(st, 4, s->client);
	sql_bind_text(st, 5, s->user);
	sqlite3_bind_int64(st, 6, s->uid);
	sql_bind_text(st, 7, s->purpose);
	sql_bind_text(st, 8, s->ticket);
	sql_bind_text(st, 9, s->rights);
	sqlite3_bind_int64(st, 10, s->begun_ns);
	return ledger_add_row(l, CHAIN_SESSION, st);
}

static int act_known(struct ledger *l, const struct ledger_act *a)
{
	sqlite3_stmt *st = l->st[FIND_ACT];
	int64_t id;
	int r;

	sqlite3_bind_int64(st, 1, a->seq);
	sqlite3_bind_int64(st, 2, a->time_ns);
	sql_bind_text(st, 3, a->kind);
	sqlite3_bind_int64(st, 4, ledger_acts_moved(l)); /* up to there such rows count no more */
	r = ledger_lookup(st, &id);
	return r == -ENOENT ? ledger_act_archived(l, a) : r;
}

int ledger_add_act(struct ledger *l, const struct ledger_act *a)
{
	sqlite3_stmt *st = l->st[ADD_ACT];
	int r;

	if (a->seq) {
		r = act_known(l, a);
		if (r != -ENOENT)
			return r;
		sqlite3_bind_int64(st, 2, a->seq);
	}
	sqlite3_bind_int64(st, 3, a->time_ns);
	sql_bind_text(st, 4, a->kind);
	if (json_is_integer(a->outcome))
		sqlite3_bind_int64(st, 5, json_integer_value(a->outcome));
	else
		sql_bind_text(st, 5, json_string_value(a->outcome));
	sql_bind_text(st, 6, a->user);
	if (a->uid >= 0)
		sqlite3_bind_int64(st, 7, a->uid);
	sql_bind_text(st, 8, a->client);
	sql_bind_text(st, 9, a->purpose);
	sql_bind_text(st, 10, a->ticket);
	if (a->session)
		sqlite3_bind_int64(st, 11, (int64_t)a->session);
	sql_bind_text(st, 12, a->detail);
	return ledger_add_row(l, CHAIN_ACT, st);
}

/* ---- heads ---- */

int ledger_head(struct ledger *l, struct chain_batch *ret)
{
	*ret = l->last;
	return 0;
}

int ledger_hash_at(struct ledger *l, int64_t batch, struct chain_hash *ret)
{
	sqlite3_stmt *get = l->st[GET_CHAIN_HASH];
	int r;

	sqlite3_bind_int64(get, 1, batch);
	r = sql_step(get);
	if (r > 0 && sqlite3_column_bytes(get, 0) == CHAIN_HASH_BYTES)
		memcpy(ret->b, sqlite3_column_blob(get, 0), CHAIN_HASH_BYTES);
	else
		r = r < 0 ? r : -ENOENT;
	sqlite3_reset(get);
	if (r == -ENOENT)
		r = ledger_archived_hash(l, batch, ret);
	return r < 0 ? r : 0;
}

int ledger_add_signature(struct ledger *l, int64_t batch, int64_t time, const uint8_t signature[CHAIN_SIGNATURE_BYTES])
{
	sqlite3_stmt *add = l->st[ADD_HEAD];
	struct chain_hash hash;
	int r;

	r = ledger_hash_at(l, batch, &hash);
	if (r < 0)
		return r;
	sqlite3_bind_int64(add, 1, batch);
	sqlite3_bind_blob(add, 2, hash.b, sizeof(hash.b), SQLITE_STATIC);
	sqlite3_bind_blob(add, 3, signature, CHAIN_SIGNATURE_BYTES, SQLITE_STATIC);
	sqlite3_bind_int64(add, 4, time);
	return sql_run(add);
}

int ledger_stats(struct ledger *l, struct ledger_stats *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = sql_prepare(l->db,
		"SELECT (SELECT page_count FROM pragma_page_count), (SELECT page_size FROM pragma_page_size),"
		" (SELECT freelist_count FROM pragma_freelist_count), ifnull((SELECT time FROM chain WHERE id=?1),0)",
		&st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, l->base.batch + 1);
	r = sql_step(st);
	if (r < 0)
		return r;
	*ret = (struct ledger_stats){
		.records = l->last.to[CHAIN_RECORD],
		.acts = l->last.to[CHAIN_ACT],
		.bytes = sqlite3_column_int64(st, 0) * sqlite3_column_int64(st, 1),
		.free = sqlite3_column_int64(st, 2) * sqlite3_column_int64(st, 1),
		.here_since = sqlite3_column_int64(st, 3),
		.here_records = l->last.to[CHAIN_RECORD] - l->base.to[CHAIN_RECORD],
	};
	ledger_archive_stats(l, ret);
	ret->since = ret->here_since;
	for (size_t i = l->parts.n; i-- > 0;)
		if (!l->parts.list[i].destroyed && l->parts.list[i].a.from_time <= l->parts.list[i].a.to_time)
			ret->since = l->parts.list[i].a.from_time / 1000000000;
	return 0;
}
