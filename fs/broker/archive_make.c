/* The file of an archived month, made of a ledger that goes on meanwhile: rows up to its end do not change any more. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/sql.h"
#include "fs/broker/archive.h"
#include "fs/broker/ledger_impl.h"
#include "fs/broker/ledger_verify.h"
#include "fs/broker/posting.h"

#define PARTIAL ".partial"
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

/* Which rows of a table are referred to: bit n for row n. */
struct marks {
	uint8_t *bits;
	int64_t to; /* rows up to this one */
};

static int marks_init(struct marks *m, int64_t to)
{
	m->to = to;
	m->bits = calloc((size_t)to / 8 + 1, 1);
	return m->bits ? 0 : -ENOMEM;
}

static void mark(struct marks *m, int64_t id)
{
	if (id > 0 && id <= m->to)
		m->bits[id / 8] |= (uint8_t)(1 << id % 8);
}

static int64_t marks_next(const struct marks *m, int64_t after)
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

struct maker {
	const struct archive_wanted *w;
	struct archive *a;
	sqlite3 *from, *to; /* the ledger (of the daemon's own, read only); the database in the making */
	struct blocks *from_blocks, *to_blocks;
	struct marks paths, processes;
	char *database;
};

static void maker_done(struct maker *m)
{
	blocks_free(m->from_blocks);
	blocks_free(m->to_blocks);
	sqlite3_close(m->from);
	sqlite3_close(m->to);
	free(m->paths.bits);
	free(m->processes.bits);
	if (m->database)
		unlink(m->database);
	free(m->database);
}

static bool stopped(const struct maker *m)
{
	return m->w->stop && atomic_load(m->w->stop);
}

static void make_marks_anew(struct marks *m)
{
	free(m->bits);
	m->bits = NULL;
}

/* ---- which batches ---- */

static int one_batch(sqlite3 *db, const char *sql, int64_t a, int64_t b, struct chain_batch *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, sql, &st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, a);
	sqlite3_bind_int64(st, 2, b);
	r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	return chain_from_row(st, ret);
}

int archive_month(int64_t time, char name[ARCHIVE_NAME_MAX], int64_t *ret_end)
{
	time_t t = (time_t)time;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || tm.tm_year < 70 || tm.tm_year > 8099)
		return -ERANGE;
	snprintf(name, ARCHIVE_NAME_MAX, "%04u-%02u", (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100);
	tm = (struct tm){.tm_year = tm.tm_mon == 11 ? tm.tm_year + 1 : tm.tm_year, .tm_mon = (tm.tm_mon + 1) % 12, .tm_mday = 1};
	*ret_end = timegm(&tm);
	return 0;
}

/* A clock that was wrong for a while may have made batches of a month that has an archive: they get one of their own. */
static int choose_name(sqlite3 *db, char name[ARCHIVE_NAME_MAX])
{
	char month[8];
	int r;

	snprintf(month, sizeof(month), "%.7s", name);
	for (unsigned n = 2; n < 1000; n++) {
		scoped(sql_finalizep) sqlite3_stmt *st = NULL;

		r = sql_prepare(db, "SELECT 1 FROM archive WHERE name=?", &st);
		if (r < 0)
			return r;
		sql_bind_text(st, 1, name);
		r = sql_step(st);
		if (r <= 0)
			return r;
		snprintf(name, ARCHIVE_NAME_MAX, "%s.%u", month, n);
	}
	return -ERANGE;
}

/* All batches up to the last of that month, also those that a clock which ran ahead dated later.  -ENOENT: none is over. */
static int choose_batches(struct maker *m)
{
	struct archive *a = m->a;
	struct chain_batch oldest;
	int64_t end;
	int r;

	r = chain_base(m->from, &a->before);
	if (r == 0)
		r = one_batch(m->from, "SELECT " CHAIN_COLUMNS " FROM chain WHERE id>?1 ORDER BY time LIMIT 1", a->before.batch, 0, &oldest);
	if (r == 0)
		r = archive_month(oldest.time, a->name, &end);
	if (r == 0 && end > m->w->until)
		r = -ENOENT;
	if (r == 0)
		r = one_batch(m->from, "SELECT " CHAIN_COLUMNS " FROM chain WHERE id>?1 AND time<?2 ORDER BY id DESC LIMIT 1",
			a->before.batch, end, &a->last);
	return r == 0 ? choose_name(m->from, a->name) : r;
}

static int read_ledger_id(struct maker *m)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(m->from, "SELECT id FROM ledger", &st);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0 || sqlite3_column_bytes(st, 0) != 16)
		return r < 0 ? r : -EUCLEAN;
	sodium_bin2hex(m->a->ledger, sizeof(m->a->ledger), sqlite3_column_blob(st, 0), 16);
	return 0;
}

/* ---- its rows ---- */

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

static void mark_records(struct maker *m, const struct pack_record *rec, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		mark(&m->paths, rec[i].path);
		mark(&m->paths, rec[i].path2);
		mark(&m->processes, rec[i].process);
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
			mark_records(m, group, (size_t)(end - first + 1));
			r = write_block(st, first, group, (size_t)(end - first + 1), m->a);
		}
		if (r == 0 && stopped(m))
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
		r = stopped(m) ? -ECANCELED : posting_write(m->to, m->to_blocks, s, range);
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

static int make_database(struct maker *m)
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

/* ---- what stays in the ledger ---- */

/* What a journal that is still written has named may be meant by a record that comes yet. */
static int mark_journal(struct maker *m, const char *table, int64_t journal, struct marks *marks)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[96];
	int r;

	snprintf(sql, sizeof(sql), "SELECT id FROM %s WHERE journal=?1 AND id<=?2", table);
	r = sql_prepare(m->from, sql, &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, journal);
	sqlite3_bind_int64(st, 2, marks->to);
	while ((r = sql_step(st)) > 0)
		mark(marks, sqlite3_column_int64(st, 0));
	return r;
}

static int mark_later_records(struct maker *m)
{
	struct chain_batch newest;
	int64_t id = m->a->last.to[CHAIN_RECORD] + 1;
	int r = chain_last(m->from, &newest);

	while (r == 0 && id <= newest.to[CHAIN_RECORD]) {
		const struct pack_record *rec;
		size_t n;

		r = blocks_get(m->from_blocks, id, &rec, &n);
		if (r == 0) {
			mark_records(m, rec, n);
			id += (int64_t)n;
		}
		if (r == 0 && stopped(m))
			r = -ECANCELED;
	}
	return r == -ENOENT ? -EUCLEAN : r;
}

static int list_marks(const struct marks *m, int64_t **ret, size_t *ret_n)
{
	size_t n = 0;
	int64_t *list;

	for (int64_t id = 0; (id = marks_next(m, id)) > 0;)
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	n = 0;
	for (int64_t id = 0; (id = marks_next(m, id)) > 0;)
		list[n++] = id;
	*ret = list;
	*ret_n = n;
	return 0;
}

/* chain_kept_hash over them, as the ledger will have them: temporary tables come before its own of that name. */
static int put_kept(sqlite3 *db, const char *table, const int64_t *ids, size_t n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[128];
	int r;

	snprintf(sql, sizeof(sql), "CREATE TEMP TABLE %s (id INTEGER PRIMARY KEY)", table);
	r = sql_exec(db, sql);
	snprintf(sql, sizeof(sql), "INSERT INTO temp.%s VALUES (?)", table);
	if (r == 0)
		r = sql_prepare(db, sql, &st);
	for (size_t i = 0; r == 0 && i < n; i++) {
		sqlite3_bind_int64(st, 1, ids[i]);
		r = sql_run(st);
	}
	return r;
}

static int find_kept(struct maker *m, struct archive_made *ret)
{
	const struct archive *a = m->a;
	int r;

	make_marks_anew(&m->paths);
	make_marks_anew(&m->processes);
	r = marks_init(&m->paths, a->last.to[CHAIN_PATH]);
	if (r == 0)
		r = marks_init(&m->processes, a->last.to[CHAIN_PROCESS]);
	if (r == 0)
		r = mark_later_records(m);
	for (size_t i = 0; r == 0 && i < m->w->journals_n; i++) {
		r = mark_journal(m, "path", m->w->journals[i], &m->paths);
		if (r == 0)
			r = mark_journal(m, "process", m->w->journals[i], &m->processes);
	}
	if (r == 0)
		r = list_marks(&m->paths, &ret->paths, &ret->paths_n);
	if (r == 0)
		r = list_marks(&m->processes, &ret->processes, &ret->processes_n);
	if (r == 0)
		r = sql_exec(m->from, "BEGIN");
	if (r == 0)
		r = put_kept(m->from, "kept_path", ret->paths, ret->paths_n);
	if (r == 0)
		r = put_kept(m->from, "kept_process", ret->processes, ret->processes_n);
	if (r == 0)
		r = chain_kept_hash(m->from, &a->last, a->acts_moved, &m->a->kept);
	(void)sql_exec(m->from, "COMMIT");
	return r;
}

/* ---- all of it ---- */

static int open_ledger(struct maker *m)
{
	int r = sql_errno(sqlite3_open_v2(m->w->ledger_path, &m->from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW, NULL));

	sqlite3_busy_timeout(m->from, 5000);
	if (r == 0)
		r = blocks_new(m->from, &m->from_blocks);
	return r;
}

static int make_folder(const char *path)
{
	scoped(freep) char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;

	if (!slash)
		return -ENOMEM;
	*slash = '\0';
	return mkdir(folder, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* Packed, with a signature that is none yet, so that it can be read and checked as it lies there. */
static int pack(struct maker *m, struct archive_made *ret)
{
	static const uint8_t none[ARCHIVE_SIGNATURE_BYTES];
	scoped(close_fdp) int from = open(m->database, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (from < 0)
		return -errno;
	if (unlink(ret->partial) < 0 && errno != ENOENT)
		return -errno;
	ret->fd = open(ret->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (ret->fd < 0)
		return -errno;
	r = archive_file_write(from, ret->fd, m->w->stop, &m->a->index);
	if (r == 0)
		r = archive_statement(m->a, &ret->statement);
	return r == 0 ? archive_file_sign(ret->fd, &m->a->index, ret->statement, none) : r;
}

static int find_act_times(struct maker *m)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	struct archive *a = m->a;
	int r = m->w->acts_stay ? -ENOENT : sql_prepare(m->from, "SELECT ifnull(min(time),?3), ifnull(max(time),?4) FROM act WHERE id>?1 AND id<=?2", &st);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	sqlite3_bind_int64(st, 1, a->before.to[CHAIN_ACT]);
	sqlite3_bind_int64(st, 2, a->last.to[CHAIN_ACT]);
	sqlite3_bind_int64(st, 3, INT64_MAX);
	sqlite3_bind_int64(st, 4, INT64_MIN);
	r = sql_step(st);
	if (r < 0)
		return r;
	a->acts_moved = true;
	a->act_from = sqlite3_column_int64(st, 0);
	a->act_to = sqlite3_column_int64(st, 1);
	return 0;
}

static int make(struct maker *m, struct archive_made *ret)
{
	scoped(freep) char *path = NULL;
	int r;

	m->a->from_time = INT64_MAX;
	m->a->to_time = INT64_MIN;
	m->a->made = time(NULL);
	path = archive_path(m->w->ledger_path, m->a->name);
	if (!path || asprintf(&ret->partial, "%s" PARTIAL, path) < 0 || asprintf(&m->database, "%s.db" PARTIAL, path) < 0)
		return -ENOMEM;
	r = make_folder(path);
	if (r == 0)
		r = read_ledger_id(m);
	if (r == 0) {
		blocks_set_floor(m->from_blocks, m->a->before.to[CHAIN_RECORD]);
		r = make_database(m);
	}
	if (r == 0)
		r = find_act_times(m);
	if (r == 0)
		r = find_kept(m, ret);
	if (r == 0)
		r = pack(m, ret);
	return r == 0 ? ledger_verify_archive(ret->partial, m->a, m->w->stop) : r;
}

int archive_make(const struct archive_wanted *w, struct archive_made *ret)
{
	struct archive_made made = {.fd = -1};
	scoped(maker_done) struct maker m = {.w = w, .a = &made.archive};
	bool none;
	int r;

	r = open_ledger(&m);
	if (r < 0)
		return r;
	r = choose_batches(&m);
	none = r == -ENOENT; /* from here on it is a file that is missing */
	if (r == 0)
		r = make(&m, &made);
	if (r < 0)
		archive_made_done(&made);
	if (r < 0 && !none)
		return stopped(&m) ? -ECANCELED : r;
	*ret = made;
	return 0;
}

static int sync_folder(const char *path)
{
	scoped(freep) char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	scoped(close_fdp) int fd = -1;

	if (!slash)
		return -ENOMEM;
	*slash = '\0';
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Reads it again as it lies there. */
static int check_end(const char *path, const char *statement, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES])
{
	scoped(archive_file_closep) struct archive_file *f = NULL;
	int r = archive_file_open(path, &f);

	if (r < 0)
		return r;
	return strcmp(archive_file_statement(f), statement) == 0 &&
			       memcmp(archive_file_signature(f), signature, ARCHIVE_SIGNATURE_BYTES) == 0
		       ? 0
		       : -EUCLEAN;
}

int archive_finish(struct archive_made *m, const char *ledger_path, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES])
{
	scoped(freep) char *path = archive_path(ledger_path, m->archive.name);
	scoped(freep) char *folder = NULL;
	int r;

	if (!path)
		return -ENOMEM;
	r = archive_file_sign(m->fd, &m->archive.index, m->statement, signature);
	if (r == 0)
		r = check_end(m->partial, m->statement, signature);
	if (r == 0 && rename(m->partial, path) < 0)
		r = -errno;
	if (r == 0)
		r = sync_folder(path);
	folder = r == 0 ? strdup(path) : NULL;
	if (folder) { /* the folder itself may be new */
		*strrchr(folder, '/') = '\0';
		r = sync_folder(folder);
	}
	return r;
}

void archive_made_done(struct archive_made *m)
{
	close_fdp(&m->fd);
	m->fd = -1;
	if (m->partial)
		unlink(m->partial);
	free(m->partial);
	free(m->statement);
	free(m->paths);
	free(m->processes);
	*m = (struct archive_made){.fd = -1};
}

void archive_tidy(const char *ledger_path)
{
	scoped(freep) char *path = archive_path(ledger_path, "");
	char *slash = path ? strrchr(path, '/') : NULL;
	struct dirent *e;
	DIR *d;

	if (!slash)
		return;
	*slash = '\0';
	d = opendir(path);
	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name), m = strlen(PARTIAL);

		if (n > m && strcmp(e->d_name + n - m, PARTIAL) == 0)
			(void)unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}
