/* What a destruction depends on: named events, classes in use; and its notices, begun by the clock, ended by a
 * person, a hold or the destruction. */
#include <errno.h>
#include <stdio.h>

#include "keyd/facts.h"
#include "keyd/facts_life.h"
#include "keyd/facts_sql.h"

int facts_notice_begin(struct facts *f, const struct fact_notice *n, int64_t now, int64_t *ret_row)
{
	int r;

	r = facts_execute(f, NULL,
		"INSERT INTO notice (client,due,rule,source,notified_at,wait_until,class,before) VALUES (?,?,?,?,?,?,?,?)",
		"iittiiii", n->client, n->due, n->rule, n->source, now, n->wait_until, (int64_t)n->class,
		(int64_t)n->before);
	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_notice_end(struct facts *f, int64_t client, enum notice_end how, const char *reason,
	int64_t again_at, struct actor by, int64_t now)
{
	return facts_notice_end_class(f, client, 0, how, reason, again_at, by, now);
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
	r = facts_one(st, r);
	if (r < 0)
		return r;
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
		"SELECT n.id AS notice, c.client, class AS class_number, before, due, rule, source, notified_at, wait_until, ended_at, ended_by,"
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

int facts_event_set(struct facts *f, int64_t client, const char *event, int64_t on, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO event (client,event,happens_on,recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?,?,?)",
		"itiiti", client, event, on, now, by.user, (int64_t)by.uid);
}

int facts_events(struct facts *f, const char *client, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT c.client, event, nullif(happens_on, 0) AS happens_on, e.recorded_by, e.recorded_at"
		" FROM event e JOIN client c ON c.id = e.client WHERE c.client = ifnull(?1, c.client) ORDER BY e.id",
		"t", client);
}

static int load_classes(struct facts *f, int64_t known_at, struct fact_client *c)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st, "SELECT class FROM class_used WHERE client = ? AND since <= ? LIMIT ?", "iii",
		c->row, known_at, (int64_t)FACT_CLASSES_MAX + 1);
	if (r < 0)
		return r;
	for (c->classes_count = 0; (r = sql_step(st)) > 0; c->classes_count++)
		if (c->classes_count < FACT_CLASSES_MAX)
			c->classes[c->classes_count] = (uint16_t)sqlite3_column_int(st, 0);
	return r;
}

int facts_transfer_add(struct facts *f, int64_t client, const char *successor, const char *sealed_hash, struct actor by,
	int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO transfer (client,successor,sealed_hash,recorded_at,recorded_by,recorded_uid,last_session)"
		" VALUES (?,?,?,?,?,?,(SELECT ifnull(max(id),0) FROM session))",
		"ittiti", client, successor, sealed_hash, now, by.user, (int64_t)by.uid);
}

#define LAST_TRANSFER "(SELECT max(id) FROM transfer WHERE client = ?1 AND recorded_at <= ?2)"

int facts_transfer_finish(struct facts *f, int64_t client, struct actor by, int64_t now)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st, "SELECT finished_at IS NOT NULL FROM transfer WHERE id = " LAST_TRANSFER, "ii", client,
		FACTS_LATEST);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	if (sqlite3_column_int(st, 0))
		return 0;
	return facts_execute(f, NULL, "UPDATE transfer SET finished_at = ?3, finished_by = ?4 WHERE id = " LAST_TRANSFER, "iiit",
		client, FACTS_LATEST, now, by.user);
}

int facts_transfer_ask(struct facts *f, int64_t client, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO transfer_ask (transfer,asked_at,asked_by,asked_uid) VALUES (" LAST_TRANSFER ",?3,?4,?5)", "iiiti", client,
		FACTS_LATEST, now, by.user, (int64_t)by.uid);
}

int facts_transfer_asked(struct facts *f, int64_t client, struct fact_transfer_ask *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT asked_at, asked_uid, asked_by FROM transfer_ask WHERE transfer = " LAST_TRANSFER " ORDER BY id DESC LIMIT 1",
		"ii", client, FACTS_LATEST);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = (struct fact_transfer_ask){
		.asked_at = sqlite3_column_int64(st, 0), .asked_uid = (uid_t)sqlite3_column_int64(st, 1)};
	facts_text(st, 2, ret->asked_by, sizeof(ret->asked_by));
	return 0;
}

int facts_transfer_is_old(struct facts *f, int64_t client, bool *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	*ret = true;
	r = facts_prepare(f, &st,
		"SELECT 1 FROM transfer t JOIN session s ON s.client = t.client WHERE t.id = " LAST_TRANSFER
		" AND iif(t.last_session IS NULL, s.begun_at > t.recorded_at, s.id > t.last_session) LIMIT 1",
		"ii", client, FACTS_LATEST);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = r > 0;
	return 0;
}

int facts_transfer_row(struct facts *f, int64_t client, json_t **ret)
{
	json_t *rows = NULL;
	int r = facts_rows(f, &rows,
		"SELECT successor AS key, recorded_at AS handed_over_at, recorded_by AS handed_over_by, a.asked_by, a.asked_at,"
		" finished_by AS confirmed_by, finished_at AS confirmed_at"
		" FROM transfer t LEFT JOIN transfer_ask a ON a.id = (SELECT max(id) FROM transfer_ask WHERE transfer = t.id)"
		" WHERE t.id = " LAST_TRANSFER,
		"ii", client, FACTS_LATEST);

	if (r == 0 && json_array_size(rows) == 1)
		*ret = json_incref(json_array_get(rows, 0));
	else if (r == 0)
		r = -ENOENT;
	json_decref(rows);
	return r;
}

static int load_transfer(struct facts *f, int64_t known_at, struct fact_client *c)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT recorded_at, successor, iif(finished_at <= ?2, finished_at, NULL) FROM transfer WHERE id = " LAST_TRANSFER,
		"ii", c->row, known_at);
	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r;
	c->handed_over_at = sqlite3_column_int64(st, 0);
	facts_text(st, 1, c->successor, sizeof(c->successor));
	c->transferred_at = sqlite3_column_int64(st, 2);
	return 0;
}

int facts_client_dates(struct facts *f, int64_t known_at, struct fact_client *c)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT event, happens_on FROM event WHERE id IN (SELECT max(id) FROM event WHERE client = ?"
		" AND recorded_at <= ? GROUP BY event) AND happens_on != 0 ORDER BY id DESC LIMIT ?",
		"iii", c->row, known_at, (int64_t)POLICY_EVENTS_MAX);
	if (r < 0)
		return r;
	for (c->dates_count = 0; (r = sql_step(st)) > 0; c->dates_count++) {
		struct retention_date *d = &c->dates[c->dates_count];

		facts_text(st, 0, d->event, sizeof(d->event));
		d->on = sqlite3_column_int64(st, 1);
	}
	if (r == 0)
		r = load_classes(f, known_at, c);
	return r < 0 ? r : load_transfer(f, known_at, c);
}
