/* Notices of destruction: begun by the clock, ended by a person, a hold or the destruction. */
#include <errno.h>
#include <stdio.h>

#include "keyd/facts.h"
#include "keyd/facts_sql.h"

int facts_notice_begin(struct facts *f, const struct fact_notice *n, int64_t now, int64_t *ret_row)
{
	int r;

	r = facts_execute(f, NULL,
		"INSERT INTO notice (client,due,rule,source,notified_at,wait_until) VALUES (?,?,?,?,?,?)",
		"iittii", n->client, n->due, n->rule, n->source, now, n->wait_until);
	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_notice_end(struct facts *f, int64_t client, enum notice_end how, const char *reason,
	int64_t again_at, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"UPDATE notice SET ended_at = ?, ended_by = ?, outcome = ?, reason = ?, again_at = ?"
		" WHERE client = ? AND ended_at IS NULL",
		"ititii", now, by.user, (int64_t)how, reason, again_at, client);
}

int facts_notice_schedule(
	struct facts *f, int64_t notice, int64_t until, const char *reason, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO notice_schedule (notice,until,reason,asked_at,asked_by,asked_uid)"
		" VALUES (?,?,?,?,?,?)",
		"iititi", notice, until, reason, now, by.user, (int64_t)by.uid);
}

/* The newest, and only if it is not confirmed: an older one was replaced by it. */
int facts_notice_scheduled(struct facts *f, int64_t notice, struct fact_schedule *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT id,until,asked_at,asked_uid,asked_by,reason FROM notice_schedule WHERE id ="
		" (SELECT max(id) FROM notice_schedule WHERE notice = ?) AND confirmed_at IS NULL",
		"i", notice);
	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -ENOENT;
	*ret = (struct fact_schedule){
		.row = sqlite3_column_int64(st, 0),
		.until = sqlite3_column_int64(st, 1),
		.asked_at = sqlite3_column_int64(st, 2),
		.asked_uid = (uid_t)sqlite3_column_int64(st, 3),
	};
	facts_text(st, 4, ret->asked_by, sizeof(ret->asked_by));
	facts_text(st, 5, ret->reason, sizeof(ret->reason));
	return 0;
}

int facts_notice_confirm(struct facts *f, int64_t schedule, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"UPDATE notice_schedule SET confirmed_at = ?, confirmed_by = ?, confirmed_uid = ? WHERE id = ?",
		"itii", now, by.user, (int64_t)by.uid, schedule);
}

int facts_notices(struct facts *f, const char *client, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT n.id AS notice, c.client, due, rule, source, notified_at, wait_until, ended_at, ended_by,"
		" CASE outcome WHEN 0 THEN 'cancelled' WHEN 1 THEN 'held' WHEN 2 THEN 'not due'"
		" WHEN 3 THEN 'destroyed' END AS outcome, reason, again_at"
		" FROM notice n JOIN client c ON c.id = n.client WHERE c.client = ifnull(?1, c.client)"
		" ORDER BY n.id",
		"t", client);
}

int facts_schedules(struct facts *f, int64_t notice, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT until, reason, asked_by, asked_at, confirmed_by, confirmed_at FROM notice_schedule"
		" WHERE notice = ? ORDER BY id",
		"i", notice);
}
