#include "keyd/facts_leaves.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "keyd/facts_life.h"
#include "keyd/facts_sql.h"

/* In the caller's transaction, or in one of its own. */
static int each(
	struct facts *f, const char *sql, int64_t client, const uint64_t *leaves, size_t n, int64_t now)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = 0;

	if (!f->in_transaction) {
		r = facts_begin(f);
		open = r == 0 ? f : NULL;
	}
	if (r == 0)
		r = facts_prepare(f, &st, sql, "iii", client, 0, now);
	for (size_t i = 0; r == 0 && i < n; i++) {
		sqlite3_reset(st);
		sqlite3_bind_int64(st, 2, (int64_t)leaves[i]);
		r = sql_step(st);
	}
	return r < 0 || !open ? r : facts_commit(f);
}

int facts_dying_add(struct facts *f, int64_t client, const uint64_t *leaves, size_t n, int64_t now)
{
	return each(f, "INSERT OR IGNORE INTO dying_leaf (client,leaf,since) VALUES (?,?,?)", client, leaves,
		n, now);
}

int facts_dying_drop(struct facts *f, int64_t client, const uint64_t *leaves, size_t n)
{
	return each(f, "DELETE FROM dying_leaf WHERE client = ? AND leaf = ? AND ?3 IS NOT NULL", client,
		leaves, n, 0);
}

int facts_dying_drop_all(struct facts *f, int64_t client)
{
	return facts_execute(f, NULL, "DELETE FROM dying_leaf WHERE client = ?", "i", client);
}

int facts_dying(struct facts *f, int64_t client, uint64_t **ret, size_t *ret_n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(freep) uint64_t *all = NULL;
	size_t n = 0, cap = 0;
	int r;

	r = facts_prepare(f, &st, "SELECT leaf FROM dying_leaf WHERE client = ?", "i", client);
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		if (n == cap) {
			uint64_t *more = reallocarray(all, cap * 2 + 64, sizeof(*all));

			if (!more)
				return -ENOMEM;
			all = more;
			cap = cap * 2 + 64;
		}
		all[n++] = (uint64_t)sqlite3_column_int64(st, 0);
	}
	if (r < 0)
		return r;
	*ret = take_ptr(&all);
	*ret_n = n;
	return 0;
}

/* One row of integers: 0, or -ENOENT. */
static int two(struct facts *f, const char *sql, int64_t arg, int64_t *a, int64_t *b)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, sql, "i", arg);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	*a = sqlite3_column_int64(st, 0);
	*b = sqlite3_column_int64(st, 1);
	return 0;
}

int facts_dying_oldest(struct facts *f, int64_t *ret_client, int64_t *ret_since)
{
	int r;

	*ret_since = 0;
	r = two(f, "SELECT client, since FROM dying_leaf WHERE ?1 = 0 AND client NOT IN"
		" (SELECT client FROM hold WHERE lifted_at IS NULL AND class IS NULL AND file IS NULL AND directory IS NULL) ORDER BY since LIMIT 1", 0, ret_client,
		ret_since);
	return r == -ENOENT ? 0 : r;
}

/* That the client has something of this class stays, and before what is set by it: it decides when he is due. */
int facts_class_set_begin(
	struct facts *f, int64_t client, const char *store, int64_t class, struct actor by, int64_t now)
{
	int r;

	r = facts_execute(f, NULL, "INSERT OR IGNORE INTO class_used (client,class,since) VALUES (?,?,?)", "iii",
		client, class, now);
	if (r < 0)
		return r;
	return facts_execute(f, NULL,
		"INSERT OR REPLACE INTO class_set (client,store,class,begun_at,begun_by,begun_uid) VALUES "
		"(?,?,?,?,?,?)",
		"itiiti", client, store, class, now, by.user, (int64_t)by.uid);
}

int facts_class_set_end(struct facts *f, int64_t client)
{
	int r = facts_looks_forget(f, client); /* what is of that class now may be old */

	return r < 0 ? r : facts_execute(f, NULL, "DELETE FROM class_set WHERE client = ?", "i", client);
}

int facts_class_set_any(struct facts *f, struct fact_class_set *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(
		f, &st, "SELECT client, class, store FROM class_set ORDER BY begun_at LIMIT 1", "");

	r = facts_one(st, r);
	if (r < 0)
		return r;
	ret->client = sqlite3_column_int64(st, 0);
	ret->class = sqlite3_column_int64(st, 1);
	facts_text(st, 2, ret->store, sizeof(ret->store));
	return 0;
}

void fact_erasure_done(struct fact_erasure *e)
{
	free(e->store);
	free(e->counts);
	free(e->leaves);
	*e = (struct fact_erasure){0};
}

int facts_erasure_intend(
	struct facts *f, const struct fact_erasure *e, struct actor by, int64_t now, int64_t *ret_row)
{
	int64_t a, b;
	int r = two(f, "SELECT id, 0 FROM hold WHERE client = ? AND lifted_at IS NULL AND class IS NULL"
		       " AND file IS NULL AND directory IS NULL", e->client, &a, &b);
	struct fact_class c;

	if (r != -ENOENT)
		return r < 0 ? r : -EBUSY;
	r = facts_class(f, e->client, e->class, &c);
	if (r < 0)
		return r;
	if (e->class && c.held)
		return -EBUSY;
	if (e->notice && !facts_notice_waited(f, e->notice, now))
		return -EPERM;
	r = facts_execute(f, NULL,
		"INSERT INTO erasure "
		"(client,store,reason,counts,leaves,generation,intent_at,recorded_by,recorded_uid,class,notice)"
		" VALUES (?,?,?,?,?,?,?,?,?,nullif(?,0),nullif(?,0))",
		"ittttiitiii", e->client, e->store, e->reason, e->counts, e->leaves, e->generation, now,
		by.user, (int64_t)by.uid, (int64_t)e->class, e->notice);
	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_erasure_finish(struct facts *f, int64_t row, bool destroyed, const char *certificate,
	const char *signature, int64_t now)
{
	int r;

	r = facts_execute(f, NULL,
		"UPDATE erasure SET finished_at = ?, destroyed = ?, certificate = ?, signature = ? WHERE id "
		"= ?",
		"iitti", now, (int64_t)destroyed, certificate, signature, row);
	if (r < 0 || !destroyed)
		return r;
	return facts_execute(f, NULL,
		"UPDATE notice SET ended_at = ?, ended_by = ?, outcome = ? WHERE ended_at IS NULL"
		" AND id = (SELECT notice FROM erasure WHERE id = ?)",
		"itii", now, FACTS_CLOCK.user, (int64_t)NOTICE_DESTROYED, row);
}

static char *text_of(sqlite3_stmt *st, int i)
{
	const char *text = (const char *)sqlite3_column_text(st, i);

	return strdup(text ? text : "");
}

int facts_erasure_pending(struct facts *f, int64_t after, struct fact_erasure *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st,
		"SELECT id,client,intent_at,generation,reason,recorded_by,store,counts,leaves,class,notice FROM erasure"
		" WHERE finished_at IS NULL AND id > ? ORDER BY id LIMIT 1",
		"i", after);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = (struct fact_erasure){.row = sqlite3_column_int64(st, 0),
		.client = sqlite3_column_int64(st, 1),
		.intent_at = sqlite3_column_int64(st, 2),
		.generation = sqlite3_column_int64(st, 3)};
	facts_text(st, 4, ret->reason, sizeof(ret->reason));
	facts_text(st, 5, ret->by, sizeof(ret->by));
	ret->store = text_of(st, 6);
	ret->counts = text_of(st, 7);
	ret->leaves = text_of(st, 8);
	ret->class = (uint16_t)sqlite3_column_int(st, 9);
	ret->notice = sqlite3_column_int64(st, 10);
	return ret->store && ret->counts && ret->leaves ? 0 : -ENOMEM;
}

int facts_sweep_due(struct facts *f, int64_t client, int64_t now)
{
	return facts_execute(
		f, NULL, "INSERT OR REPLACE INTO sweep (client,since) VALUES (?,?)", "ii", client, now);
}

int facts_sweep_done(struct facts *f, int64_t client)
{
	return facts_execute(f, NULL, "DELETE FROM sweep WHERE client = ?", "i", client);
}

bool facts_sweep_is_due(struct facts *f, int64_t client)
{
	int64_t since, unused;

	return two(f, "SELECT since, 0 FROM sweep WHERE client = ?", client, &since, &unused) == 0;
}

int facts_sweep_any(struct facts *f, int64_t after, int64_t *ret_client)
{
	int64_t since;

	return two(f, "SELECT client, since FROM sweep WHERE client > ? ORDER BY client LIMIT 1", after,
		ret_client, &since);
}

int facts_erase_ask(struct facts *f, int64_t client, const char *target, const char *reason, struct actor by, int64_t now)
{
	return facts_execute(f, NULL, "INSERT INTO erase_ask (client,target,reason,asked_at,asked_by,asked_uid) VALUES (?,?,?,?,?,?)",
		"ittiti", client, target, reason, now, by.user, (int64_t)by.uid);
}

int facts_erase_asked(struct facts *f, int64_t client, const char *target, int64_t since, struct fact_erase_ask *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT id, asked_at, asked_uid, asked_by FROM erase_ask WHERE client = ? AND target = ? AND asked_at > ?"
		" AND confirmed_at IS NULL ORDER BY id DESC LIMIT 1",
		"iti", client, target, since);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = (struct fact_erase_ask){.row = sqlite3_column_int64(st, 0),
		.asked_at = sqlite3_column_int64(st, 1),
		.asked_uid = (uid_t)sqlite3_column_int64(st, 2)};
	facts_text(st, 3, ret->asked_by, sizeof(ret->asked_by));
	return 0;
}

int facts_erase_waiting(struct facts *f, const char *client, int64_t since, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT c.client, e.reason, e.asked_by, e.asked_at FROM erase_ask e JOIN client c ON c.id = e.client"
		" WHERE e.confirmed_at IS NULL AND e.asked_at > ?2 AND c.client = ifnull(?1, c.client) ORDER BY e.id",
		"ti", client, since);
}

int facts_erase_confirm(struct facts *f, int64_t ask, struct actor by, int64_t now)
{
	return facts_execute(f, NULL, "UPDATE erase_ask SET confirmed_at = ?, confirmed_by = ?, confirmed_uid = ? WHERE id = ?", "itii",
		now, by.user, (int64_t)by.uid, ask);
}
