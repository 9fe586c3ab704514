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
#include "fs/broker/archive_copy.h"
#include "fs/broker/ledger_verify.h"

#define PARTIAL ".partial"

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
		marks_add(marks, sqlite3_column_int64(st, 0));
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
			maker_mark(m, rec, n);
			id += (int64_t)n;
		}
		if (r == 0 && maker_is_stopped(m))
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
		r = maker_copy(m);
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
		return maker_is_stopped(&m) ? -ECANCELED : r;
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
