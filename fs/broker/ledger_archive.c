/* Months of the ledger in archives: which there are, reading them, and the step from one into the other.
 *
 * An archive counts from the moment at which its row stands in table `archive`: that transaction also moves `base`, and what
 * lies before it in the ledger is not looked at any more, and removed bit by bit. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fs/broker/ledger_impl.h"
#include "fs/broker/posting.h"

#define CLEAN_BLOCKS "64"   /* at a time: some hundred KiB to some MiB */
#define CLEAN_ROWS "4096"
#define SHRINK_PAGES "1024" /* at a time: 4 MiB */
#define NS 1000000000
#define SHRINK_SLACK 256    /* pages that may stay unused: what comes next takes them */

/* ---- which there are ---- */

static void close_open_part(struct ledger *l)
{
	blocks_free(l->part_blocks);
	sqlite3_close(l->part_db);
	l->part_blocks = NULL;
	l->part_db = NULL;
	l->part_open = 0;
}

static void close_open_acts(struct ledger *l)
{
	sqlite3_close(l->act_db);
	l->act_db = NULL;
	l->act_open = 0;
}

int ledger_parts_load(struct ledger *l)
{
	struct parts parts;
	int r = parts_read(l->db, &parts);

	if (r == 0)
		r = chain_base(l->db, &l->base);
	if (r < 0) {
		parts_done(&parts);
		return r;
	}
	close_open_part(l);
	close_open_acts(l);
	parts_done(&l->parts);
	l->parts = parts;
	blocks_set_floor(l->blocks, l->base.to[CHAIN_RECORD]);
	return 0;
}

/* What a process that was killed left to do. */
void ledger_parts_tidy(struct ledger *l)
{
	archive_tidy(l->path);
	for (size_t i = 0; i < l->parts.n; i++)
		if (l->parts.list[i].destroyed)
			(void)ledger_archive_unlink(l, l->parts.list[i].a.name);
	l->cleaning = l->parts.n > 0;
}

void ledger_parts_free(struct ledger *l)
{
	close_open_part(l);
	close_open_acts(l);
	parts_done(&l->parts);
}

/* ---- reading ---- */

static int open_part(struct ledger *l, size_t number)
{
	const struct archive *a = &l->parts.list[number].a;
	scoped(freep) char *path = archive_path(l->path, a->name);
	int r;

	if (l->part_open == number + 1)
		return 0;
	close_open_part(l);
	r = path ? archive_db_open(path, &l->part_db) : -ENOMEM;
	if (r == 0)
		r = blocks_new(l->part_db, &l->part_blocks);
	if (r < 0) {
		close_open_part(l);
		return r == -ENOENT ? -EUCLEAN : r; /* it should be there */
	}
	blocks_set_floor(l->part_blocks, a->before.to[CHAIN_RECORD]);
	l->part_open = number + 1;
	return 0;
}

int ledger_source_of(struct ledger *l, int64_t record, int64_t since, int64_t until, struct ledger_records *ret)
{
	for (size_t i = 0; i < l->parts.n; i++) {
		const struct archive *a = &l->parts.list[i].a;
		bool gone = l->parts.list[i].destroyed || a->to_time < since || a->from_time >= until;
		int r;

		if (record > a->last.to[CHAIN_RECORD])
			continue;
		*ret = (struct ledger_records){.last = a->last.to[CHAIN_RECORD], .whole = true, .number = i + 1};
		r = gone ? 0 : open_part(l, i);
		if (r == 0 && !gone) {
			ret->db = l->part_db;
			ret->blocks = l->part_blocks;
		}
		return r;
	}
	*ret = (struct ledger_records){.db = l->db, .blocks = l->blocks, .last = l->last.to[CHAIN_RECORD]};
	return 0;
}

int64_t ledger_acts_moved(const struct ledger *l)
{
	const struct archive *newest = l->parts.n ? &l->parts.list[l->parts.n - 1].a : NULL;

	return newest && newest->acts_moved ? newest->last.to[CHAIN_ACT] : 0;
}

static int open_acts(struct ledger *l, size_t number)
{
	scoped(freep) char *path = archive_path(l->path, l->parts.list[number].a.name);
	int r;

	if (l->act_open == number + 1)
		return 0;
	close_open_acts(l);
	r = path ? archive_db_open(path, &l->act_db) : -ENOMEM;
	if (r < 0)
		close_open_acts(l);
	else
		l->act_open = number + 1;
	return r == -ENOENT ? -EUCLEAN : r; /* it should be there */
}

int ledger_acts_of(struct ledger *l, int64_t act, int64_t since, int64_t until, sqlite3 **ret, int64_t *ret_last, bool *ret_kept)
{
	int64_t moved = ledger_acts_moved(l);
	int r = 0;

	*ret = l->db;
	*ret_last = l->last.to[CHAIN_ACT];
	*ret_kept = false;
	for (size_t i = 0; act < moved && i < l->parts.n; i++) {
		const struct archive *a = &l->parts.list[i].a;

		if (act >= a->last.to[CHAIN_ACT])
			continue;
		*ret_last = a->last.to[CHAIN_ACT];
		*ret_kept = l->parts.list[i].destroyed;
		if (a->acts_moved && (a->act_to < since || a->act_from >= until)) {
			*ret = NULL;
		} else if (!*ret_kept) {
			r = open_acts(l, i);
			*ret = l->act_db;
		}
		return r;
	}
	return 0;
}

int ledger_act_archived(struct ledger *l, const struct ledger_act *a)
{
	int64_t moved = ledger_acts_moved(l), id;
	int r = -ENOENT;

	for (size_t i = 0; moved && r == -ENOENT && i < l->parts.n; i++) {
		const struct part *p = &l->parts.list[i];
		scoped(sql_finalizep) sqlite3_stmt *st = NULL;

		if (p->destroyed || (p->a.acts_moved ? a->time_ns < p->a.act_from || a->time_ns > p->a.act_to
						     : a->time_ns / 1000000000 > p->a.last.time + 86400))
			continue;
		r = open_acts(l, i);
		if (r == 0)
			r = sql_prepare(l->act_db, "SELECT id FROM act WHERE seq=? AND time=? AND kind=?", &st);
		if (r < 0)
			return r;
		sqlite3_bind_int64(st, 1, a->seq);
		sqlite3_bind_int64(st, 2, a->time_ns);
		sql_bind_text(st, 3, a->kind);
		r = ledger_lookup(st, &id);
	}
	return r;
}

/* In the ledger; else in the archive of its time, or of a later one that refers to it. */
int ledger_find_path(struct ledger *l, int64_t id, sqlite3_stmt **ret)
{
	static const char query[] = "SELECT month,sealed FROM path WHERE id=?";
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(l->db, query, &st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, id);
	r = sql_step(st);
	for (size_t i = 0; r == 0 && id <= l->base.to[CHAIN_PATH] && i < l->parts.n; i++) {
		if (id > l->parts.list[i].a.last.to[CHAIN_PATH] || l->parts.list[i].destroyed)
			continue;
		sqlite3_finalize(take_ptr(&st));
		r = open_part(l, i);
		if (r == 0)
			r = sql_prepare(l->part_db, query, &st);
		if (r < 0)
			return r;
		sqlite3_bind_int64(st, 1, id);
		r = sql_step(st);
	}
	if (r > 0)
		*ret = take_ptr(&st);
	return r > 0 ? 0 : r == 0 ? -ENOENT : r;
}

int ledger_archived_hash(struct ledger *l, int64_t batch, struct chain_hash *ret)
{
	const struct part *p = parts_of_batch(&l->parts, batch);
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	if (!p)
		return -ENOENT;
	if (batch == p->a.last.batch) {
		*ret = p->a.last.hash;
		return 0;
	}
	if (p->destroyed)
		return -ENOENT;
	r = open_part(l, (size_t)(p - l->parts.list));
	if (r == 0)
		r = sql_prepare(l->part_db, "SELECT hash FROM chain WHERE id=?", &st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, batch);
	r = sql_step(st);
	if (r <= 0 || sqlite3_column_bytes(st, 0) != CHAIN_HASH_BYTES)
		return r < 0 ? r : -ENOENT;
	memcpy(ret->b, sqlite3_column_blob(st, 0), CHAIN_HASH_BYTES);
	return 0;
}

int ledger_archive_due(struct ledger *l, int64_t until, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char name[ARCHIVE_NAME_MAX];
	int64_t end;
	int r = sql_prepare(l->db, "SELECT min(time) FROM chain WHERE id>?", &st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, l->base.batch);
	r = sql_step(st);
	if (r <= 0 || sqlite3_column_type(st, 0) == SQLITE_NULL)
		return r < 0 ? r : -ENOENT;
	*ret = sqlite3_column_int64(st, 0);
	r = archive_month(*ret, name, &end);
	return r < 0 ? r : end <= until ? 0 : -ENOENT;
}

/* ---- the step ---- */

static int put_ids(sqlite3 *db, const char *clear, const char *insert, const int64_t *ids, size_t n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_exec(db, clear);

	if (r == 0)
		r = sql_prepare(db, insert, &st);
	for (size_t i = 0; r == 0 && i < n; i++) {
		sqlite3_bind_int64(st, 1, ids[i]);
		r = sql_run(st);
	}
	return r;
}

static int put_base(sqlite3 *db, const struct chain_batch *b)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_exec(db, "DELETE FROM base");

	if (r == 0)
		r = sql_prepare(db, "INSERT INTO base VALUES (?,?,?,?,?,?,?,?,?)", &st);
	if (r < 0)
		return r;
	ledger_bind_batch(st, b);
	return sql_run(st);
}

static int put_archive(sqlite3 *db, const struct archive_made *m, const uint8_t *signature)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "INSERT INTO archive (name,statement,signature) VALUES (?,?,?)", &st);

	if (r < 0)
		return r;
	sql_bind_text(st, 1, m->archive.name);
	sql_bind_text(st, 2, m->statement);
	sqlite3_bind_blob(st, 3, signature, ARCHIVE_SIGNATURE_BYTES, SQLITE_STATIC);
	return sql_run(st);
}

/* The segment over the seam tells of its later part only. */
static int split_posting(struct ledger *l, int64_t floor)
{
	struct posting_range range = {floor + 1, l->last.to[CHAIN_RECORD]};
	int64_t segment = floor / SEGMENT_RECORDS;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(l->db, "DELETE FROM posting WHERE segment=?", &st);

	if (r < 0 || (segment + 1) * SEGMENT_RECORDS > range.to)
		return r; /* none yet */
	sqlite3_bind_int64(st, 1, segment);
	r = sql_run(st);
	return r == 0 ? posting_write(l->db, l->blocks, segment, range) : r;
}

static int split_rows(struct ledger *l, const struct archive_made *m)
{
	int64_t floor = m->archive.last.to[CHAIN_RECORD];
	int r;

	blocks_set_floor(l->blocks, floor);
	r = blocks_split(l->blocks);
	if (r == 0)
		r = split_posting(l, floor);
	if (r == 0)
		r = put_base(l->db, &m->archive.last);
	if (r == 0)
		r = put_ids(l->db, "DELETE FROM kept_path", "INSERT INTO kept_path VALUES (?)", m->paths, m->paths_n);
	if (r == 0)
		r = put_ids(l->db, "DELETE FROM kept_process", "INSERT INTO kept_process VALUES (?)", m->processes, m->processes_n);
	return r;
}

int ledger_archive_take(struct ledger *l, struct archive_made *m, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES],
	const struct ledger_act *act)
{
	int r;

	if (m->archive.before.batch != l->base.batch)
		return -ESTALE; /* another one came meanwhile */
	r = archive_finish(m, l->path, signature);
	if (r == 0)
		r = ledger_begin(l);
	if (r < 0)
		return r;
	r = put_archive(l->db, m, signature);
	if (r == 0)
		r = split_rows(l, m);
	if (r == 0)
		r = ledger_add_act(l, act);
	if (r == 0)
		r = ledger_commit(l);
	ledger_rollback(l);
	blocks_set_floor(l->blocks, l->base.to[CHAIN_RECORD]);
	if (r == 0)
		r = ledger_parts_load(l);
	l->cleaning = l->cleaning || r == 0;
	return r;
}

/* ---- afterwards: room ---- */

static int clean_some(struct ledger *l, const char *sql, int64_t to, bool *more)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(l->db, sql, &st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, to);
	r = sql_run(st);
	*more = *more || sqlite3_changes(l->db) > 0;
	return r;
}

static int free_pages(sqlite3 *db, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "PRAGMA freelist_count", &st);

	if (r == 0)
		r = sql_step(st);
	if (r > 0)
		*ret = sqlite3_column_int64(st, 0);
	return r < 0 ? r : 0;
}

/* What is at the file's end moves into what is free, some at a time.  A file that was not made for that (ledger.c) stays
 * as long as it is; its free pages are used again. */
static int shrink_some(struct ledger *l, bool *more)
{
	int64_t before, after = 0;
	int r = free_pages(l->db, &before);

	if (r < 0 || before <= SHRINK_SLACK)
		return r;
	r = sql_exec(l->db, "PRAGMA incremental_vacuum(" SHRINK_PAGES ")");
	if (r == 0)
		r = free_pages(l->db, &after);
	*more = r == 0 && after < before;
	return r;
}

/* In the order in which it matters to nobody what is there and what not. */
int ledger_archive_clean(struct ledger *l, bool *ret_more)
{
	const int64_t *to = l->base.to;
	bool more = false;
	int r;

	*ret_more = false;
	if (!l->cleaning || l->in_batch)
		return 0;
	r = sql_exec(l->db, "PRAGMA secure_delete=ON; BEGIN IMMEDIATE");
	if (r < 0)
		return r;
	r = clean_some(l, "DELETE FROM block WHERE id IN (SELECT id FROM block WHERE id<=?1 ORDER BY id LIMIT " CLEAN_BLOCKS ")",
		to[CHAIN_RECORD], &more);
	if (r == 0 && !more)
		r = clean_some(l, "DELETE FROM posting WHERE (kind,segment,first) IN (SELECT kind,segment,first FROM posting"
				  " WHERE segment<?1 LIMIT " CLEAN_ROWS ")", to[CHAIN_RECORD] / SEGMENT_RECORDS, &more);
	if (r == 0 && !more)
		r = clean_some(l, "DELETE FROM path WHERE id IN (SELECT id FROM path WHERE id<=?1 AND id NOT IN"
				  " (SELECT id FROM kept_path) LIMIT " CLEAN_ROWS ")", to[CHAIN_PATH], &more);
	if (r == 0 && !more)
		r = clean_some(l, "DELETE FROM process WHERE id IN (SELECT id FROM process WHERE id<=?1 AND id NOT IN"
				  " (SELECT id FROM kept_process) LIMIT " CLEAN_ROWS ")", to[CHAIN_PROCESS], &more);
	if (r == 0 && !more)
		r = clean_some(l, "DELETE FROM act WHERE id IN (SELECT id FROM act WHERE id<=?1 AND kind IN " CHAIN_MOVED_ACTS
				  " LIMIT " CLEAN_ROWS ")", ledger_acts_moved(l), &more);
	if (r == 0 && !more)
		r = clean_some(l, "DELETE FROM head WHERE id IN (SELECT id FROM head WHERE batch<=?1 LIMIT " CLEAN_ROWS ")",
			l->base.batch, &more);
	if (r == 0 && !more)
		r = clean_some(l, "DELETE FROM chain WHERE id IN (SELECT id FROM chain WHERE id<=?1 LIMIT " CLEAN_ROWS ")",
			l->base.batch, &more);
	if (r == 0)
		r = sql_exec(l->db, "COMMIT");
	if (r < 0 && !sqlite3_get_autocommit(l->db))
		(void)sql_exec(l->db, "ROLLBACK");
	(void)sql_exec(l->db, "PRAGMA secure_delete=OFF");
	blocks_forget(l->blocks);
	if (r == 0 && !more)
		r = shrink_some(l, &more);
	if (r == 0 && !more) { /* what was removed does not stay in the log either */
		(void)sql_exec(l->db, "PRAGMA wal_checkpoint(TRUNCATE)");
		l->cleaning = false;
	}
	*ret_more = r == 0 && more;
	return r;
}

/* ---- its end ---- */

/* In seconds.  The last batch alone does not tell: a clock that was behind for a moment dates one long ago, and the archive of
 * that month has all before it.  What a clock that ran ahead dated counts as of when the archive was made. */
static int64_t newest_in(const struct archive *a)
{
	const int64_t times[] = {a->to_time / NS, a->acts_moved ? a->act_to / NS : 0};
	int64_t newest = a->last.time;

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		int64_t t = times[i] < a->made ? times[i] : a->made;

		newest = t > newest ? t : newest;
	}
	return newest;
}

int ledger_archive_oldest(struct ledger *l, struct archive_end *ret, int64_t *ret_time)
{
	for (size_t i = 0; i < l->parts.n; i++) {
		const struct archive *a = &l->parts.list[i].a;

		if (l->parts.list[i].destroyed)
			continue;
		*ret = (struct archive_end){.from_record = a->before.to[CHAIN_RECORD] + 1,
			.to_record = a->last.to[CHAIN_RECORD],
			.last = a->last.hash};
		memcpy(ret->name, a->name, sizeof(ret->name));
		memcpy(ret->ledger, a->ledger, sizeof(ret->ledger));
		*ret_time = newest_in(a);
		return 0;
	}
	return -ENOENT;
}

int ledger_archive_unlink(struct ledger *l, const char *name)
{
	scoped(freep) char *path = archive_path(l->path, name);
	scoped(close_fdp) int folder = -1;
	char *slash;

	if (!path)
		return -ENOMEM;
	if (unlink(path) < 0)
		return errno == ENOENT ? 0 : -errno;
	slash = strrchr(path, '/');
	*slash = '\0';
	folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder < 0 || fsync(folder) < 0 ? -errno : 0;
}

static int mark_destroyed(sqlite3 *db, const char *name, const char *statement, const uint8_t *signature)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "UPDATE archive SET destroyed=?2, destroyed_signature=?3 WHERE name=?1", &st);

	if (r < 0)
		return r;
	sql_bind_text(st, 1, name);
	sql_bind_text(st, 2, statement);
	sqlite3_bind_blob(st, 3, signature, ARCHIVE_SIGNATURE_BYTES, SQLITE_STATIC);
	return sql_run(st);
}

int ledger_archive_destroy(struct ledger *l, const char *statement, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES],
	const struct ledger_act *act)
{
	struct archive_end wanted, oldest;
	int64_t time;
	int r = archive_end_parse(statement, &wanted);

	if (r == 0)
		r = ledger_archive_oldest(l, &oldest, &time);
	if (r < 0)
		return r;
	if (strcmp(wanted.name, oldest.name) != 0 || strcmp(wanted.ledger, oldest.ledger) != 0 ||
		wanted.from_record != oldest.from_record || wanted.to_record != oldest.to_record ||
		memcmp(&wanted.last, &oldest.last, sizeof(wanted.last)) != 0)
		return -ESTALE;
	r = ledger_begin(l);
	if (r < 0)
		return r;
	r = mark_destroyed(l->db, wanted.name, statement, signature);
	if (r == 0)
		r = ledger_add_act(l, act);
	if (r == 0)
		r = ledger_commit(l);
	ledger_rollback(l);
	if (r == 0)
		r = ledger_parts_load(l);
	/* The book says it is gone: at the next start it goes, if not now. */
	return r == 0 ? ledger_archive_unlink(l, wanted.name) : r;
}

/* ---- numbers ---- */

int ledger_archives(struct ledger *l, json_t **ret)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < l->parts.n; i++) {
		const struct part *p = &l->parts.list[i];
		scoped(freep) char *path = archive_path(l->path, p->a.name);
		json_t *row = json_pack("{s:s, s:I, s:I, s:[I,I], s:[I,I], s:o, s:o}", "name", p->a.name, "from",
			(json_int_t)(p->a.from_time / 1000000000), "to", (json_int_t)(p->a.to_time / 1000000000), "records",
			(json_int_t)p->a.before.to[CHAIN_RECORD] + 1, (json_int_t)p->a.last.to[CHAIN_RECORD], "batches",
			(json_int_t)p->a.before.batch + 1, (json_int_t)p->a.last.batch, "bytes", json_null(), "destroyed", json_null());
		struct stat st;

		if (path && stat(path, &st) == 0)
			json_object_set_new(row, "bytes", json_integer(st.st_size));
		if (p->destroyed)
			json_object_set_new(row, "destroyed",
				json_pack("{s:I, s:s}", "time", (json_int_t)p->end.time, "why", p->end.why));
		if (p->a.from_time > p->a.to_time) {
			json_object_set_new(row, "from", json_null());
			json_object_set_new(row, "to", json_null());
		}
		if (json_array_append_new(rows, row) < 0) {
			json_decref(rows);
			return -ENOMEM;
		}
	}
	*ret = rows;
	return 0;
}

void ledger_archive_stats(struct ledger *l, struct ledger_stats *s)
{
	for (size_t i = 0; i < l->parts.n; i++) {
		const struct part *p = &l->parts.list[i];
		scoped(freep) char *path = archive_path(l->path, p->a.name);
		struct stat st;

		if (p->destroyed) {
			s->destroyed_records = p->a.last.to[CHAIN_RECORD];
			continue;
		}
		s->archives++;
		if (path && stat(path, &st) == 0)
			s->archives_bytes += st.st_size;
		else
			s->archives_missing++;
	}
}
