#include "fs/broker/accesses_impl.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/broker/ledger_rows.h"

#define ACTS_AT_ONCE 65536

static json_t *groups_json(const struct accesses *a)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < a->groups_n; i++) {
		const struct group *g = &a->groups[i];

		json_array_append_new(rows,
			json_pack("{s:s?, s:I, s:s?, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "user", g->user, "uid",
				(json_int_t)g->uid, "purpose", g->purpose, "sessions", (json_int_t)g->sessions, "files",
				(json_int_t)g->files, "opens", (json_int_t)g->opens, "writes", (json_int_t)g->writes,
				"changes", (json_int_t)g->changes, "refused", (json_int_t)g->refused, "bytes_read",
				(json_int_t)g->got, "bytes_written", (json_int_t)g->put, "first", (json_int_t)g->first,
				"last", (json_int_t)g->last));
	}
	return rows;
}

static json_t *weeks_json(const struct accesses *a)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < a->weeks_n; i++)
		json_array_append_new(rows, json_pack("[I,I,I]", (json_int_t)a->weeks[i].from,
						    (json_int_t)a->weeks[i].group, (json_int_t)a->weeks[i].opens));
	return rows;
}

/* ---- the files that were opened most: looked for among all, some at a time ---- */

static int most_opened_first(const void *a, const void *b)
{
	const struct top *x = a, *y = b;

	if (x->opens != y->opens)
		return x->opens < y->opens ? 1 : -1;
	if (x->last != y->last)
		return x->last < y->last ? 1 : -1;
	return memcmp(&x->file, &y->file, sizeof(x->file));
}

static void consider(struct accesses *a, const struct top *t)
{
	if (a->top_n < LEDGER_ACCESSES_FILES)
		a->top[a->top_n++] = *t;
	else if (most_opened_first(t, &a->top[a->least]) < 0)
		a->top[a->least] = *t;
	else
		return;
	a->least = 0;
	for (size_t i = 1; i < a->top_n; i++)
		if (most_opened_first(&a->top[i], &a->top[a->least]) > 0)
			a->least = i;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS + ts.tv_nsec;
}

/* 1: there is more. */
static int look_at_files(struct accesses *a)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int64_t deadline = now_ns() + ACCESSES_PAGE_NS;
	struct top t = {0};
	int r = sql_prepare(a->l->db, "SELECT file, opens, last FROM temp.used WHERE file>=? ORDER BY file", &st);

	if (r < 0)
		return r;
	sqlite3_bind_blob(st, 1, a->at.b, sizeof(a->at.b), SQLITE_STATIC);
	while ((r = sql_step(st)) > 0) {
		const void *file = sqlite3_column_blob(st, 0);

		if (sqlite3_column_bytes(st, 0) != FILE_ID_BYTES)
			return -EUCLEAN;
		if (t.opens && memcmp(&t.file, file, FILE_ID_BYTES) != 0) {
			consider(a, &t);
			t.opens = t.last = 0;
			if (now_ns() > deadline) {
				memcpy(&a->at, file, FILE_ID_BYTES);
				return 1;
			}
		}
		memcpy(&t.file, file, FILE_ID_BYTES);
		t.opens += sqlite3_column_int64(st, 1);
		if (sqlite3_column_int64(st, 2) > t.last)
			t.last = sqlite3_column_int64(st, 2);
	}
	if (t.opens)
		consider(a, &t);
	return r;
}

/* Sealed, from wherever it is. */
static int add_path(struct ledger *l, int64_t id, json_t *row)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(freep) char *text = NULL;
	size_t n, room;
	int r = ledger_find_path(l, id, &st);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	n = (size_t)sqlite3_column_bytes(st, 1);
	room = sodium_base64_ENCODED_LEN(n, sodium_base64_VARIANT_ORIGINAL);
	text = calloc(1, room);
	if (!text)
		return -ENOMEM;
	json_object_set_new(row, "path",
		json_pack("{s:I, s:s}", "month", (json_int_t)sqlite3_column_int64(st, 0), "sealed",
			sodium_bin2base64(text, room, sqlite3_column_blob(st, 1), n, sodium_base64_VARIANT_ORIGINAL)));
	return 0;
}

/* Its newest path, sealed; and the groups that opened it. */
static int add_file(struct ledger *l, const struct top *t, sqlite3_stmt *path, sqlite3_stmt *groups, json_t *rows)
{
	scoped(sql_resetp) sqlite3_stmt *p = path, *g = groups;
	char hex[2 * FILE_ID_BYTES + 1];
	json_t *row, *list;
	int r;

	sodium_bin2hex(hex, sizeof(hex), t->file.b, sizeof(t->file.b));
	row = json_pack("{s:s, s:I, s:I, s:[]}", "file", hex, "opens", (json_int_t)t->opens, "last", (json_int_t)(t->last / NS),
		"groups");
	list = json_object_get(row, "groups");
	if (json_array_append_new(rows, row) < 0)
		return -ENOMEM;
	sqlite3_bind_blob(p, 1, t->file.b, sizeof(t->file.b), SQLITE_STATIC);
	r = sql_step(p);
	if (r > 0)
		r = add_path(l, sqlite3_column_int64(p, 0), row);
	sqlite3_bind_blob(g, 1, t->file.b, sizeof(t->file.b), SQLITE_STATIC);
	while (r >= 0 && (r = sql_step(g)) > 0)
		json_array_append_new(list, json_integer(sqlite3_column_int64(g, 0)));
	return r < 0 ? r : 0;
}

static int files_json(struct accesses *a, json_t *rows)
{
	scoped(sql_finalizep) sqlite3_stmt *path = NULL, *groups = NULL;
	int r = sql_prepare(a->l->db,
		"SELECT path FROM temp.used WHERE file=? AND path<>0 ORDER BY last DESC LIMIT 1", &path);

	if (r == 0)
		r = sql_prepare(a->l->db, "SELECT grp FROM temp.used WHERE file=?", &groups);
	qsort(a->top, a->top_n, sizeof(a->top[0]), most_opened_first);
	for (size_t i = 0; r == 0 && i < a->top_n; i++)
		r = add_file(a->l, &a->top[i], path, groups, rows);
	return r;
}

/* Acts of the client that a report tells of one by one, oldest first; of too many the newest. */
static int acts_json(struct accesses *a, json_t *rows, int64_t *ret_all)
{
	static const char query[] =
		"SELECT * FROM (SELECT " ROW_ACT_COLUMNS " FROM act a WHERE a.client=?1 AND a.time>=?2 AND a.time<?3 AND a.kind IN"
		" ('disclosure','incident-notice','transfer','transfer-finish','destroy','erase')"
		" ORDER BY a.id DESC LIMIT ?4) ORDER BY 1";
	static const char count[] =
		"SELECT count(*) FROM act a WHERE a.client=?1 AND a.time>=?2 AND a.time<?3 AND a.kind IN"
		" ('disclosure','incident-notice','transfer','transfer-finish','destroy','erase')";
	int r = 0;

	for (unsigned i = 0; i < 2 && r == 0; i++) {
		scoped(sql_finalizep) sqlite3_stmt *st = NULL;

		r = sql_prepare(a->l->db, i ? query : count, &st);
		if (r < 0)
			return r;
		sql_bind_text(st, 1, a->client);
		sqlite3_bind_int64(st, 2, a->since * NS);
		sqlite3_bind_int64(st, 3, a->until * NS);
		if (i)
			sqlite3_bind_int64(st, 4, LEDGER_ACCESSES_ACTS);
		while ((r = sql_step(st)) > 0) {
			if (i)
				json_array_append_new(rows, row_of_act(st));
			else
				*ret_all = sqlite3_column_int64(st, 0);
		}
	}
	return r;
}

static int add_refusals(struct accesses *a, sqlite3 *db, int64_t to)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL, *add = NULL;
	int r = sql_prepare(db, "SELECT user, purpose, outcome, count(*), max(time) FROM act WHERE id>?6 AND id<=?7 AND client=?1 AND time>=?2"
				" AND time<?3 AND kind='refused' AND (?5 IS NULL OR purpose IS NOT ?5) GROUP BY 1, 2, 3", &st);

	if (r == 0)
		r = sql_prepare(a->l->db, "INSERT INTO temp.refusal VALUES (?,?,?,?,?)", &add);
	if (r < 0)
		return r;
	sql_bind_text(st, 1, a->client);
	sqlite3_bind_int64(st, 2, a->since * NS);
	sqlite3_bind_int64(st, 3, a->until * NS);
	sql_bind_text(st, 5, a->without);
	sqlite3_bind_int64(st, 6, a->act);
	sqlite3_bind_int64(st, 7, to);
	while (r == 0 && (r = sql_step(st)) > 0) {
		for (int i = 0; i < 5; i++)
			sqlite3_bind_value(add, i + 1, sqlite3_column_value(st, i));
		r = sql_run(add);
	}
	return r;
}

/* Through acts, in archives and here, some at a time.  1: there is more. */
static int look_at_refusals(struct accesses *a)
{
	int64_t deadline = now_ns() + ACCESSES_PAGE_NS, end;

	while (a->act < a->last_act) {
		sqlite3 *db;
		bool kept;
		int r = ledger_acts_of(a->l, a->act, a->since * NS, a->until * NS, &db, &end, &kept);

		if (db && end - a->act > ACTS_AT_ONCE)
			end = a->act + ACTS_AT_ONCE;
		if (end > a->last_act)
			end = a->last_act;
		if (r == 0 && db && !kept) /* destroyed is destroyed, whether the rows are removed yet or not */
			r = add_refusals(a, db, end);
		if (r < 0)
			return r;
		a->act = end;
		if (now_ns() > deadline)
			return a->act < a->last_act;
	}
	return 0;
}

int accesses_look(struct accesses *a)
{
	int r = a->files_done ? 0 : look_at_files(a);

	a->files_done = r == 0;
	return r == 0 ? look_at_refusals(a) : r;
}

/* Mounts that were refused: by whom, for which purpose, why, how often. */
static int refusals_json(struct accesses *a, json_t *rows)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(a->l->db,
		"SELECT user, purpose, outcome, sum(times), max(last) FROM temp.refusal GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3 LIMIT ?1", &st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, LEDGER_ACCESSES_ACTS);
	while ((r = sql_step(st)) > 0)
		json_array_append_new(rows,
			json_pack("{s:s?, s:s?, s:s?, s:I, s:I}", "user", sqlite3_column_text(st, 0), "purpose",
				sqlite3_column_text(st, 1), "error", sqlite3_column_text(st, 2), "times",
				(json_int_t)sqlite3_column_int64(st, 3), "last",
				(json_int_t)(sqlite3_column_int64(st, 4) / NS)));
	return r;
}

int accesses_answer(struct accesses *a, json_t **ret)
{
	scoped(json_decrefp) json_t *o = json_pack("{s:I, s:I, s:o, s:o, s:[], s:[], s:[]}", "records", (json_int_t)a->records,
		"files_count", (json_int_t)a->files, "groups", groups_json(a), "weeks", weeks_json(a), "files", "acts",
		"refusals");
	struct ledger_stats stats;
	int64_t acts = 0;
	int r;

	if (!o)
		return -ENOMEM;
	r = files_json(a, json_object_get(o, "files"));
	if (r == 0)
		r = acts_json(a, json_object_get(o, "acts"), &acts);
	if (r == 0)
		r = refusals_json(a, json_object_get(o, "refusals"));
	if (r < 0)
		return r;
	json_object_set_new(o, "acts_count", json_integer(acts));
	r = ledger_stats(a->l, &stats);
	if (r < 0)
		return r;
	json_object_set_new(o, "kept_since", json_integer(stats.destroyed_records ? stats.since : 0));
	*ret = take_ptr(&o);
	return 0;
}
