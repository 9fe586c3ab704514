/* What was done with one client's data: who, for which purpose, how often, which files.  For a report (doc/PROTOCOL.md,
 * Accesses).  The records go by once, some at a time; what grows with them (which group used which file) is in a temporary
 * table that SQLite keeps on disk when it does not fit its cache, so memory grows with people and purposes only. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/record.h"
#include "fs/broker/ledger_impl.h"
#include "fs/broker/ledger_rows.h"

#define PAGE_NS 30000000 /* a page: other questions come in between */
#define WEEK_SECONDS (7 * 86400)
#define MONDAY (4 * 86400) /* 1970-01-05 */
#define NS 1000000000
#define LEFT_OUT -1
#define ACTS_AT_ONCE 65536

/* One user (name and uid) for one purpose. */
struct group {
	char *user, *purpose; /* NULL: not known */
	int64_t uid;
	int64_t sessions, files, opens, writes, changes, refused, got, put;
	int64_t first, last; /* opens, seconds; 0: none */
};

struct week {
	int64_t from; /* seconds */
	size_t group;
	int64_t opens;
};

/* Of the files those that were opened most. */
struct top {
	struct file_id file;
	int64_t opens, last; /* last: nanoseconds */
};

struct accesses {
	int64_t number; /* of this count: `after` names it */
	char *client, *without;
	int64_t since, until, last_record;
	struct group *groups;
	size_t groups_n;
	struct week *weeks;
	size_t weeks_n, week; /* the last that counted */
	int64_t *sessions;    /* by row id: number of the group + 1; 0: not seen yet; LEFT_OUT */
	size_t sessions_n;
	int64_t records, files;
	struct top top[LEDGER_ACCESSES_FILES];
	size_t top_n, least; /* least: index of the one that goes first */
	struct file_id at;   /* the file to go on with, once the records are counted */
	bool files_done;     /* then refusals are counted, behind `act` */
	int64_t act, last_act;
	sqlite3_stmt *session, *more, *first, *known; /* while a page is made */
	struct ledger *l;
};

static void statements_done(struct accesses *a)
{
	sqlite3_finalize(a->session);
	sqlite3_finalize(a->more);
	sqlite3_finalize(a->first);
	sqlite3_finalize(a->known);
	a->session = a->more = a->first = a->known = NULL;
}

void accesses_free(struct accesses *a)
{
	if (!a)
		return;
	statements_done(a);
	for (size_t i = 0; i < a->groups_n; i++) {
		free(a->groups[i].user);
		free(a->groups[i].purpose);
	}
	free(a->groups);
	free(a->weeks);
	free(a->sessions);
	free(a->client);
	free(a->without);
	free(a);
}

/* ---- groups ---- */

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static int group_of(struct accesses *a, const char *user, int64_t uid, const char *purpose, size_t *ret)
{
	struct group *g;

	for (size_t i = 0; i < a->groups_n; i++)
		if (a->groups[i].uid == uid && same(a->groups[i].user, user) && same(a->groups[i].purpose, purpose)) {
			*ret = i;
			return 0;
		}
	g = realloc(a->groups, (a->groups_n + 1) * sizeof(*g));
	if (!g)
		return -ENOMEM;
	a->groups = g;
	g += a->groups_n;
	*g = (struct group){.uid = uid, .user = user ? strdup(user) : NULL, .purpose = purpose ? strdup(purpose) : NULL};
	*ret = a->groups_n++;
	return (user && !g->user) || (purpose && !g->purpose) ? -ENOMEM : 0;
}

static int sessions_room(struct accesses *a, size_t id)
{
	size_t n = a->sessions_n ? a->sessions_n : 1024;
	int64_t *p;

	if (id < a->sessions_n)
		return 0;
	while (n <= id)
		n *= 2;
	p = realloc(a->sessions, n * sizeof(*p));
	if (!p)
		return -ENOMEM;
	memset(p + a->sessions_n, 0, (n - a->sessions_n) * sizeof(*p));
	a->sessions = p;
	a->sessions_n = n;
	return 0;
}

/* 1: *ret is its group; 0: nothing is told of it. */
static int group_of_session(struct accesses *a, int64_t session, size_t *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = a->session;
	int r = sessions_room(a, (size_t)session);

	if (r < 0)
		return r;
	if (a->sessions[session] == LEFT_OUT)
		return 0;
	if (a->sessions[session]) {
		*ret = (size_t)a->sessions[session] - 1;
		return 1;
	}
	sqlite3_bind_int64(st, 1, session);
	r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EUCLEAN;
	if (a->without && same(a->without, (const char *)sqlite3_column_text(st, 2))) {
		a->sessions[session] = LEFT_OUT;
		return 0;
	}
	r = group_of(a, (const char *)sqlite3_column_text(st, 0), sqlite3_column_int64(st, 1),
		(const char *)sqlite3_column_text(st, 2), ret);
	if (r < 0)
		return r;
	a->sessions[session] = (int64_t)*ret + 1;
	a->groups[*ret].sessions++;
	return 1;
}

static int count_week(struct accesses *a, size_t group, int64_t time)
{
	int64_t past = (time - MONDAY) % WEEK_SECONDS, from = time - (past < 0 ? past + WEEK_SECONDS : past);
	struct week *w;

	if (a->week < a->weeks_n && a->weeks[a->week].from == from && a->weeks[a->week].group == group) {
		a->weeks[a->week].opens++;
		return 0;
	}
	for (a->week = a->weeks_n; a->week-- > 0;) /* records come nearly in order: the end is near */
		if (a->weeks[a->week].from == from && a->weeks[a->week].group == group) {
			a->weeks[a->week].opens++;
			return 0;
		}
	w = realloc(a->weeks, (a->weeks_n + 1) * sizeof(*w));
	if (!w)
		return -ENOMEM;
	a->weeks = w;
	a->week = a->weeks_n++;
	w[a->week] = (struct week){from, group, 1};
	return 0;
}

/* ---- one record ---- */

static bool is_change(unsigned op)
{
	switch (op) {
	case RECORD_CREATE:
	case RECORD_MKDIR:
	case RECORD_MKNOD:
	case RECORD_SYMLINK:
	case RECORD_LINK:
	case RECORD_UNLINK:
	case RECORD_RMDIR:
	case RECORD_RENAME:
	case RECORD_TRUNCATE:
	case RECORD_CHMOD:
	case RECORD_CHOWN:
	case RECORD_SETXATTR:
	case RECORD_REMOVEXATTR:
	case RECORD_FALLOCATE:
		return true;
	default:
		return false;
	}
}

/* What a rule, and not the file's own state, refused. */
static bool is_refusal(const struct pack_record *r)
{
	return r->op == RECORD_REFUSED || r->outcome == EACCES || r->outcome == EPERM || r->outcome == EROFS ||
	       r->outcome == EKEYEXPIRED || r->outcome == EKEYREVOKED;
}

static bool is_open(const struct pack_record *r)
{
	return r->outcome == 0 && (r->op == RECORD_OPEN || r->op == RECORD_CREATE);
}

/* The group's use of the file, one more.  A file that was just created has no id yet: its close is the first to name it, and
 * stands for the opening then. */
static int count_file(struct accesses *a, size_t group, const struct pack_record *r)
{
	scoped(sql_resetp) sqlite3_stmt *known = a->known;
	sqlite3_stmt *st = a->more;
	int e;

	sqlite3_bind_blob(st, 1, r->file.b, sizeof(r->file.b), SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, (int64_t)group);
	sqlite3_bind_int64(st, 3, r->path);
	sqlite3_bind_int64(st, 4, r->time);
	sqlite3_bind_int(st, 5, is_open(r));
	e = sql_run(st);
	if (e < 0 || sqlite3_changes(a->l->db) > 0)
		return e;
	sqlite3_bind_blob(known, 1, r->file.b, sizeof(r->file.b), SQLITE_STATIC);
	e = sql_step(known);
	if (e == 0)
		a->files++;
	a->groups[group].files++;
	st = a->first;
	sqlite3_bind_blob(st, 1, r->file.b, sizeof(r->file.b), SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, (int64_t)group);
	sqlite3_bind_int64(st, 3, r->path);
	sqlite3_bind_int64(st, 4, r->time);
	return e < 0 ? e : sql_run(st);
}

static int count_record(void *userdata, const struct pack_record *r)
{
	struct accesses *a = userdata;
	int64_t time = r->time / NS;
	struct group *g;
	size_t group;
	int e = group_of_session(a, r->session, &group);

	if (e <= 0)
		return e;
	g = &a->groups[group];
	a->records++;
	g->got += r->bytes_read;
	g->put += r->bytes_written;
	g->refused += is_refusal(r);
	g->changes += r->outcome == 0 && is_change(r->op);
	if (r->op == RECORD_CLOSE && r->outcome == 0 && r->has_file)
		return count_file(a, group, r);
	if (!is_open(r))
		return 0;
	g->opens++;
	g->writes += r->op == RECORD_CREATE || (r->flags & (RECORD_WRITE | RECORD_TRUNC | RECORD_APPEND));
	if (!g->first || time < g->first)
		g->first = time;
	if (time > g->last)
		g->last = time;
	e = count_week(a, group, time);
	return e == 0 && r->has_file ? count_file(a, group, r) : e;
}

/* ---- pages ---- */

static int begin(struct ledger *l, const struct ledger_accesses_wanted *w)
{
	struct accesses *a = calloc(1, sizeof(*a));
	struct timespec ts;
	int r;

	accesses_free(l->accesses);
	l->accesses = a;
	if (!a)
		return -ENOMEM;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	*a = (struct accesses){.l = l,
		.number = ts.tv_sec * 1000000 + ts.tv_nsec / 1000,
		.client = strdup(w->client),
		.without = w->without ? strdup(w->without) : NULL,
		.since = w->since,
		.until = w->until,
		.last_record = l->last.to[CHAIN_RECORD],
		.last_act = l->last.to[CHAIN_ACT]};
	r = sql_exec(l->db, "DROP TABLE IF EXISTS temp.used;"
			    "CREATE TEMP TABLE used (file BLOB, grp INTEGER, path INTEGER, opens INTEGER, last INTEGER,"
			    " PRIMARY KEY (file, grp)) WITHOUT ROWID;"
			    "DROP TABLE IF EXISTS temp.refusal;"
			    "CREATE TEMP TABLE refusal (user, purpose, outcome, times INTEGER, last INTEGER)");
	return r == 0 && (!a->client || (w->without && !a->without)) ? -ENOMEM : r;
}

static int prepare(struct accesses *a)
{
	sqlite3 *db = a->l->db;
	int r = sql_prepare(db, "SELECT user, uid, purpose FROM session WHERE id=?", &a->session);

	if (r == 0)
		r = sql_prepare(db, "UPDATE temp.used SET opens=opens+?5, path=CASE WHEN ?3<>0 THEN ?3 ELSE path END,"
				    " last=max(last,?4) WHERE file=?1 AND grp=?2", &a->more);
	if (r == 0)
		r = sql_prepare(db, "INSERT INTO temp.used VALUES (?1,?2,?3,1,?4)", &a->first);
	if (r == 0)
		r = sql_prepare(db, "SELECT 1 FROM temp.used WHERE file=? LIMIT 1", &a->known);
	return r;
}

/* In one transaction: else each row of the temporary table is one. */
static int count_some(struct accesses *a, const char *after, char **ret_next)
{
	const struct ledger_filter f = {.client = a->client,
		.since = a->since,
		.until = a->until,
		.uid = -1,
		.after = after,
		.last_record = a->last_record};
	bool alone = !a->l->in_batch;
	int r = prepare(a);

	if (r == 0 && a->last_record == 0) {
		*ret_next = NULL;
		statements_done(a);
		return 0;
	}
	if (r == 0 && alone)
		r = sql_exec(a->l->db, "BEGIN");
	if (r == 0) {
		r = ledger_each(a->l, &f, PAGE_NS, count_record, a, ret_next);
		if (alone)
			(void)sql_exec(a->l->db, "COMMIT");
	}
	statements_done(a);
	return r;
}

/* ---- the answer ---- */

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
	int64_t deadline = now_ns() + PAGE_NS;
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
	int64_t deadline = now_ns() + PAGE_NS, end;

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

static int answer(struct accesses *a, json_t **ret)
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

static void end(struct ledger *l)
{
	accesses_free(l->accesses);
	l->accesses = NULL;
	(void)sql_exec(l->db, "DROP TABLE IF EXISTS temp.used; DROP TABLE IF EXISTS temp.refusal");
}

/* `after`: "<number>:<where in the records>", then "<number>:files". */
static int parse_position(const struct ledger *l, const struct ledger_accesses_wanted *w, const char **ret)
{
	int64_t number;
	int used = 0;

	if (sscanf(w->after, "%" SCNd64 ":%n", &number, &used) != 1 || !used || !l->accesses || l->accesses->number != number ||
		strcmp(l->accesses->client, w->client) != 0)
		return -EINVAL;
	*ret = w->after + used;
	return 0;
}

int ledger_accesses(struct ledger *l, const struct ledger_accesses_wanted *w, json_t **ret, char **ret_next,
	struct ledger_accesses_place *ret_place)
{
	scoped(freep) char *next = NULL;
	const char *after = NULL;
	int r = w->after ? parse_position(l, w, &after) : begin(l, w);

	if (w->after && r < 0)
		return r;
	if (r == 0 && after && strcmp(after, "files") == 0) {
		r = l->accesses->files_done ? 0 : look_at_files(l->accesses);
		l->accesses->files_done = r == 0;
		if (r == 0)
			r = look_at_refusals(l->accesses);
		if (r == 0) {
			r = answer(l->accesses, ret);
			end(l);
			if (r == 0)
				*ret_next = NULL;
			return r;
		}
	} else if (r == 0) {
		r = count_some(l->accesses, after, &next);
	}
	if (r < 0) {
		end(l);
		return r;
	}
	*ret_place = (struct ledger_accesses_place){l->accesses->last_record, l->accesses->last_record};
	if (next)
		(void)sscanf(next, "r%" SCNd64, &ret_place->records);
	return asprintf(ret_next, "%" PRId64 ":%s", l->accesses->number, next ? next : "files") < 0 ? -ENOMEM : 0;
}
