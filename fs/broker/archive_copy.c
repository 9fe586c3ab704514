#include "fs/broker/archive_copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/sql.h"
#include "fs/broker/posting.h"

#define PAGE_BYTES "16384" /* blocks are some hundred KiB */

/* The tables of a ledger, without what only serves to write one. */
static const char schema[] =
	"CREATE TABLE ledger (id BLOB NOT NULL) STRICT;"
	"CREATE TABLE journal (id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, pid INTEGER NOT NULL, begun INTEGER NOT NULL) STRICT;"
	"CREATE TABLE session (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, client_id TEXT NOT NULL, client TEXT, user TEXT,"
	" uid INTEGER NOT NULL, purpose TEXT, ticket TEXT, rights TEXT, begun INTEGER NOT NULL) STRICT;"
	"CREATE TABLE path (id INTEGER PRIMARY KEY, journal INTEGER NOT NULL, ref INTEGER NOT NULL, month INTEGER NOT NULL,"
	" sealed BLOB NOT NULL) STRICT;"
	"CREATE TABLE process (id INTEGER PRIMARY KEY, journal INTEGER NOT NULL, ref INTEGER NOT NULL, pid INTEGER NOT NULL,"
	" loginuid INTEGER, comm BLOB NOT NULL) STRICT;"
	"CREATE TABLE act (id INTEGER PRIMARY KEY, seq INTEGER, time INTEGER NOT NULL, kind TEXT NOT NULL, outcome ANY, user TEXT,"
	" uid INTEGER, client TEXT, purpose TEXT, ticket TEXT, session INTEGER, detail TEXT) STRICT;"
	"CREATE TABLE base (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, journal_to INTEGER NOT NULL, session_to INTEGER NOT NULL,"
	" path_to INTEGER NOT NULL, process_to INTEGER NOT NULL, record_to INTEGER NOT NULL, act_to INTEGER NOT NULL,"
	" hash BLOB NOT NULL) STRICT;"
	"CREATE TABLE chain (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, journal_to INTEGER NOT NULL, session_to INTEGER NOT NULL,"
	" path_to INTEGER NOT NULL, process_to INTEGER NOT NULL, record_to INTEGER NOT NULL, act_to INTEGER NOT NULL,"
	" hash BLOB NOT NULL) STRICT;"
	"CREATE TABLE head (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, hash BLOB NOT NULL, signature BLOB NOT NULL,"
	" time INTEGER NOT NULL) STRICT;"
	"CREATE TABLE block (id INTEGER PRIMARY KEY, records INTEGER NOT NULL, from_time INTEGER NOT NULL, to_time INTEGER NOT NULL,"
	" data BLOB NOT NULL) STRICT;"
	"CREATE INDEX block_span ON block (id, records, from_time, to_time);"
	"CREATE TABLE posting (kind INTEGER NOT NULL, segment INTEGER NOT NULL, first INTEGER NOT NULL, data BLOB NOT NULL,"
	" PRIMARY KEY (kind, segment, first)) STRICT, WITHOUT ROWID;";

int marks_init(struct marks *m, int64_t to)
{
	m->to = to;
	m->bits = calloc((size_t)to / 8 + 1, 1);
	return m->bits ? 0 : -ENOMEM;
}

void marks_add(struct marks *m, int64_t id)
{
	if (id > 0 && id <= m->to)
		m->bits[id / 8] |= (uint8_t)(1 << id % 8);
}

int64_t marks_next(const struct marks *m, int64_t after)
{
	for (int64_t id = after + 1; id <= m->to; id++) {
		if (!m->bits[id / 8] && id % 8 == 0) {
			id += 7;
			continue;
		}
		if (m->bits[id / 8] & 1 << id % 8)
			return id;
	}
	return 0;
}

bool maker_is_stopped(const struct maker *m)
{
	return m->w->stop && atomic_load(m->w->stop);
}

static int copy_rows(struct maker *m, const char *table, const char *column, int64_t from, int64_t to)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[160];
	int r;

	snprintf(sql, sizeof(sql), "INSERT INTO main.%s SELECT * FROM l.%s WHERE %s>?1 AND %s<=?2 ORDER BY id", table, table, column,
		column);
	r = sql_prepare(m->to, sql, &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, from);
	sqlite3_bind_int64(st, 2, to);
	r = sql_step(st);
	return r < 0 ? r : 0;
}

static int copy_base(struct maker *m)
{
	const struct chain_batch *b = &m->a->before;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(m->to, "INSERT INTO base VALUES (?,?,?,?,?,?,?,?,?)", &st);

	if (r < 0)
		return r;
	ledger_bind_batch(st, b);
	return sql_run(st);
}

static int copy_tables(struct maker *m)
{
	const struct archive *a = m->a;
	int r = sql_exec(m->to, "INSERT INTO main.ledger SELECT id FROM l.ledger");

	if (r == 0)
		r = copy_base(m);
	for (unsigned t = 0; r == 0 && t < CHAIN_TABLES; t++)
		if (t != CHAIN_RECORD)
			r = copy_rows(m, chain_table_names[t], "id", a->before.to[t], a->last.to[t]);
	if (r == 0)
		r = copy_rows(m, "chain", "id", a->before.batch, a->last.batch);
	return r == 0 ? copy_rows(m, "head", "batch", a->before.batch, a->last.batch) : r;
}

static int write_block(sqlite3_stmt *st, int64_t id, const struct pack_record *records, size_t n, struct archive *a)
{
	int64_t from = records[0].time, to = records[0].time;
	scoped(freep) uint8_t *data = NULL;
	size_t data_n;
	int r = pack_encode_plain(records, n, &data, &data_n);

	if (r < 0)
		return r;
	for (size_t i = 1; i < n; i++) {
		from = records[i].time < from ? records[i].time : from;
		to = records[i].time > to ? records[i].time : to;
	}
	a->from_time = from < a->from_time ? from : a->from_time;
	a->to_time = to > a->to_time ? to : a->to_time;
	sqlite3_bind_int64(st, 1, id);
	sqlite3_bind_int64(st, 2, (int64_t)n);
	sqlite3_bind_int64(st, 3, from);
	sqlite3_bind_int64(st, 4, to);
	sqlite3_bind_blob64(st, 5, data, data_n, SQLITE_STATIC);
	return sql_run(st);
}

void maker_mark(struct maker *m, const struct pack_record *rec, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		marks_add(&m->paths, rec[i].path);
		marks_add(&m->paths, rec[i].path2);
		marks_add(&m->processes, rec[i].process);
	}
}

/* A block for each group; the ledger may have several for the one over which the month ends. */
static int copy_records(struct maker *m)
{
	scoped(freep) struct pack_record *group = calloc(PACK_RECORDS_MAX, sizeof(*group));
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int64_t id = m->a->before.to[CHAIN_RECORD] + 1, last = m->a->last.to[CHAIN_RECORD];
	int r = group ? sql_prepare(m->to, "INSERT INTO block VALUES (?,?,?,?,?)", &st) : -ENOMEM;

	while (r == 0 && id <= last) {
		int64_t first = id, end = (block_group(id) + 1) * PACK_RECORDS_MAX;

		if (end > last)
			end = last;
		for (; r == 0 && id <= end;) {
			const struct pack_record *rec;
			size_t n = 0;

			r = blocks_get(m->from_blocks, id, &rec, &n);
			if ((int64_t)n > end - id + 1)
				n = (size_t)(end - id + 1);
			if (r == 0)
				memcpy(group + (id - first), rec, n * sizeof(*rec));
			id += (int64_t)n;
		}
		if (r == 0) {
			maker_mark(m, group, (size_t)(end - first + 1));
			r = write_block(st, first, group, (size_t)(end - first + 1), m->a);
		}
		if (r == 0 && maker_is_stopped(m))
			r = -ECANCELED;
	}
	return r == -ENOENT ? -EUCLEAN : r;
}

/* Rows of former months that the records of this one refer to. */
static int copy_marked(struct maker *m, const char *table, const struct marks *marks)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[96];
	int r;

	snprintf(sql, sizeof(sql), "INSERT INTO main.%s SELECT * FROM l.%s WHERE id=?", table, table);
	r = sql_prepare(m->to, sql, &st);
	for (int64_t id = 0; r == 0 && (id = marks_next(marks, id)) > 0;) {
		sqlite3_bind_int64(st, 1, id);
		r = sql_run(st);
		if (r == 0 && sqlite3_changes(m->to) != 1)
			r = -EUCLEAN;
	}
	return r;
}

static int make_postings(struct maker *m)
{
	struct posting_range range = {m->a->before.to[CHAIN_RECORD] + 1, m->a->last.to[CHAIN_RECORD]};
	int r = 0;

	for (int64_t s = (range.from - 1) / SEGMENT_RECORDS; r == 0 && s * SEGMENT_RECORDS < range.to; s++)
		r = maker_is_stopped(m) ? -ECANCELED : posting_write(m->to, m->to_blocks, s, range);
	return r;
}

static int attach(sqlite3 *db, const char *path)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "ATTACH ? AS l", &st);

	if (r < 0)
		return r;
	sql_bind_text(st, 1, path);
	return sql_run(st);
}

int maker_copy(struct maker *m)
{
	struct archive *a = m->a;
	int r;

	if (unlink(m->database) < 0 && errno != ENOENT)
		return -errno;
	r = sql_errno(sqlite3_open_v2(m->database, &m->to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL));
	if (r == 0)
		r = sql_exec(m->to, "PRAGMA page_size=" PAGE_BYTES "; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
				    "PRAGMA trusted_schema=OFF");
	sqlite3_busy_timeout(m->to, 5000);
	if (r == 0)
		r = attach(m->to, m->w->ledger_path);
	if (r == 0)
		r = sql_exec(m->to, "BEGIN");
	if (r == 0)
		r = sql_exec(m->to, schema);
	if (r == 0)
		r = copy_tables(m);
	if (r == 0)
		r = marks_init(&m->paths, a->before.to[CHAIN_PATH]);
	if (r == 0)
		r = marks_init(&m->processes, a->before.to[CHAIN_PROCESS]);
	if (r == 0)
		r = copy_records(m);
	if (r == 0)
		r = copy_marked(m, "path", &m->paths);
	if (r == 0)
		r = copy_marked(m, "process", &m->processes);
	if (r == 0)
		r = blocks_new(m->to, &m->to_blocks);
	if (r == 0)
		r = make_postings(m);
	if (r == 0)
		r = sql_exec(m->to, "PRAGMA main.user_version=4");
	_Static_assert(LEDGER_VERSION == 4, "the line above");
	if (r == 0)
		r = sql_exec(m->to, "COMMIT");
	if (r == 0) {
		blocks_free(take_ptr(&m->to_blocks));
		r = sql_errno(sqlite3_close(take_ptr(&m->to)));
	}
	return r;
}
