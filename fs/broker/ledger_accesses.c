/* What was done with one client's data: who, for which purpose, how often, which files.  For a report (doc/PROTOCOL.md,
 * Accesses).  The records go by once, some at a time; what grows with them (which group used which file) is in a temporary
 * table that SQLite keeps on disk when it does not fit its cache, so memory grows with people and purposes only. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/record.h"
#include "fs/broker/accesses_impl.h"

#define WEEK_SECONDS (7 * 86400)
#define MONDAY (4 * 86400) /* 1970-01-05 */
#define LEFT_OUT -1

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

/* What was left open would keep every batch of records out. */
static int end_transaction(sqlite3 *db)
{
	int r = sql_exec(db, "COMMIT");

	if (!sqlite3_get_autocommit(db))
		(void)sql_exec(db, "ROLLBACK");
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
		int ended;

		r = ledger_each(a->l, &f, ACCESSES_PAGE_NS, count_record, a, ret_next);
		ended = alone ? end_transaction(a->l->db) : 0;
		r = r == 0 ? ended : r;
	}
	statements_done(a);
	return r;
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
		r = accesses_look(l->accesses);
		if (r == 0) {
			r = accesses_answer(l->accesses, ret);
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
