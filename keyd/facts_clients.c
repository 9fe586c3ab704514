/* Clients, and what befalls them: end, suspension, holds, destruction. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "keyd/facts.h"
#include "keyd/facts_loads.h"
#include "keyd/facts_life.h"
#include "keyd/facts_sql.h"

int facts_client_add(struct facts *f, const char *client, const char *hex, const char *name,
	const char *email, struct actor by, int64_t now)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO client (client,client_id,name,email,recorded_at,recorded_by,recorded_uid)"
		" VALUES (?,?,?,?,?,?,?)",
		"ttttiti", client, hex, name, email, now, by.user, (int64_t)by.uid);

	/* Of a new one it is known what was given out: nothing. */
	return r < 0 ? r : facts_book_begin(f, sqlite3_last_insert_rowid(f->db), 0);
}

int facts_client_row(struct facts *f, const char *hex, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, "SELECT id FROM client WHERE client_id = ?", "t", hex);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

#define ON_ALL "h.class IS NULL AND h.file IS NULL AND h.directory IS NULL"

/* ?1: known_at */
#define CLIENT_QUERY                                                                                         \
	"SELECT c.id, c.client, c.client_id, c.name, c.email, c.recorded_at, e.ended_on, e.recorded_at,"     \
	" e.recorded_by,"                                                                                    \
	" (SELECT reason FROM suspension s WHERE s.client = c.id AND s.recorded_at <= ?1"                    \
	"  AND (s.lifted_at IS NULL OR s.lifted_at > ?1) ORDER BY s.id DESC LIMIT 1),"                       \
	" EXISTS (SELECT 1 FROM destruction d WHERE d.client = c.id AND d.intent_at <= ?1"                   \
	"  AND (d.finished_at IS NULL OR d.finished_at > ?1)),"                                              \
	" (SELECT finished_at FROM destruction d WHERE d.client = c.id AND d.destroyed = 1"                  \
	"  AND d.finished_at <= ?1),"                                                                        \
	" EXISTS (SELECT 1 FROM hold h WHERE h.client = c.id AND h.placed_at <= ?1"                          \
	"  AND (h.lifted_at IS NULL OR h.lifted_at > ?1) AND " ON_ALL "),"                                   \
	" n.id, n.notified_at, min(n.wait_until, ifnull((SELECT min(until) FROM notice_schedule s"           \
	"  WHERE s.notice = n.id AND s.confirmed_at <= ?1), n.wait_until)),"                                 \
	" (SELECT again_at FROM notice p WHERE p.client = c.id AND p.class = 0 AND p.ended_at <= ?1"          \
	"  ORDER BY p.id DESC LIMIT 1),"                                                                     \
	" EXISTS (SELECT 1 FROM hold h WHERE h.client = c.id AND h.placed_at <= ?1"                          \
	"  AND (h.lifted_at IS NULL OR h.lifted_at > ?1) AND NOT (" ON_ALL "))"                              \
	" FROM client c LEFT JOIN client_end e ON e.id ="                                                    \
	"  (SELECT max(id) FROM client_end WHERE client = c.id AND recorded_at <= ?1)"                       \
	" LEFT JOIN notice n ON n.client = c.id AND n.class = 0 AND n.notified_at <= ?1"                                     \
	"  AND (n.ended_at IS NULL OR n.ended_at > ?1)"                                                      \
	" WHERE c.recorded_at <= ?1 "

static void client_from_row(sqlite3_stmt *st, struct fact_client *c)
{
	*c = (struct fact_client){.row = sqlite3_column_int64(st, 0)};
	facts_text(st, 1, c->client, sizeof(c->client));
	facts_text(st, 2, c->hex, sizeof(c->hex));
	facts_text(st, 3, c->name, sizeof(c->name));
	facts_text(st, 4, c->email, sizeof(c->email));
	c->added_at = sqlite3_column_int64(st, 5);
	c->ended_on = sqlite3_column_int64(st, 6);
	c->end_recorded_at = sqlite3_column_int64(st, 7);
	facts_text(st, 8, c->end_recorded_by, sizeof(c->end_recorded_by));
	facts_text(st, 9, c->suspended, sizeof(c->suspended));
	c->destroying = sqlite3_column_int(st, 10);
	c->destroyed_on = sqlite3_column_int64(st, 11);
	c->held = sqlite3_column_int(st, 12);
	c->waiting = sqlite3_column_int64(st, 13);
	c->notified_at = sqlite3_column_int64(st, 14);
	c->wait_until = sqlite3_column_int64(st, 15);
	c->postponed_until = sqlite3_column_int64(st, 16);
	c->held_partly = sqlite3_column_int(st, 17);
}

int facts_client_brief(struct facts *f, const char *client, int64_t known_at, struct fact_client *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st, CLIENT_QUERY "AND c.client = ?2", "it", known_at, client);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	client_from_row(st, ret);
	return 0;
}

int facts_client(struct facts *f, const char *client, int64_t known_at, struct fact_client *ret)
{
	int r = facts_client_brief(f, client, known_at, ret);

	return r < 0 ? r : facts_client_dates(f, known_at, ret);
}

int facts_client_by_row(struct facts *f, int64_t row, struct fact_client *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st, CLIENT_QUERY "AND c.id = ?2", "ii", FACTS_LATEST, row);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	client_from_row(st, ret);
	return facts_client_dates(f, FACTS_LATEST, ret);
}

int facts_clients_count(struct facts *f, int64_t *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r = facts_cached(f, &st, "SELECT count(*) FROM client", "");

	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EIO;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

int facts_clients(struct facts *f, int64_t known_at, struct fact_client **ret, size_t *ret_n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(freep) struct fact_client *all = NULL;
	size_t n = 0, room = 0;
	int r;

	r = facts_prepare(f, &st, CLIENT_QUERY "ORDER BY c.client", "i", known_at);
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		if (n == room) {
			struct fact_client *more =
				reallocarray(all, room = room ? 2 * room : 16, sizeof(*all));

			if (!more)
				return -ENOMEM;
			all = more;
		}
		client_from_row(st, &all[n++]);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = facts_client_dates(f, known_at, &all[i]);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(&all);
	*ret_n = n;
	return 0;
}

int facts_client_end(struct facts *f, int64_t client, int64_t on, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO client_end (client,ended_on,recorded_at,recorded_by,recorded_uid) VALUES "
		"(?,?,?,?,?)",
		"iiiti", client, on, now, by.user, (int64_t)by.uid);
}

int facts_suspend(struct facts *f, int64_t client, const char *reason, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO suspension (client,reason,recorded_at,recorded_by,recorded_uid) VALUES "
		"(?,?,?,?,?)",
		"ititi", client, reason, now, by.user, (int64_t)by.uid);
}

int facts_resume(struct facts *f, int64_t client, const char *reason, struct actor by, int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE suspension SET lifted_at = ?, lifted_by = ?, lift_reason = ?"
		" WHERE client = ? AND lifted_at IS NULL",
		"itti", now, by.user, reason, client);
	return r < 0 ? r : changes == 0 ? -ENOENT : 0;
}

enum client_state facts_client_state(const struct fact_client *c, int64_t now)
{
	if (c->destroyed_on || c->destroying)
		return CLIENT_DESTROYED;
	if (*c->suspended)
		return CLIENT_SUSPENDED;
	if (c->ended_on && c->ended_on <= now)
		return CLIENT_ENDED;
	return CLIENT_ACTIVE;
}

const char *facts_client_state_name(const struct fact_client *c, int64_t now)
{
	switch (facts_client_state(c, now)) {
	case CLIENT_DESTROYED:
		return c->destroyed_on ? "destroyed" : "destroying";
	case CLIENT_SUSPENDED:
		return "suspended";
	case CLIENT_ENDED:
		return c->waiting ? "waiting" : "ended";
	default:
		return "active";
	}
}

int facts_hold_place(struct facts *f, int64_t client, const char *matter, const char *reason, struct actor by,
	int64_t now, int64_t *ret_hold)
{
	const struct fact_hold h = {.client = client, .matter = matter, .reason = reason};

	return facts_hold_place_on(f, &h, by, now, ret_hold);
}

int facts_hold_lift(struct facts *f, int64_t hold, const char *reason, struct actor by, int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE hold SET lifted_at = ?, lifted_by = ?, lift_reason = ? WHERE id = ? AND lifted_at IS "
		"NULL",
		"itti", now, by.user, reason, hold);
	return r < 0 ? r : changes == 0 ? -ENOENT : 0;
}

int facts_hold_client(struct facts *f, int64_t hold, char client[CLIENT_NAME_MAX])
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT c.client FROM hold h JOIN client c ON c.id = h.client WHERE h.id = ?", "i", hold);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	facts_text(st, 0, client, CLIENT_NAME_MAX);
	return 0;
}

int facts_holds(struct facts *f, const char *client, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT h.id AS hold, c.client, class AS class_number, CASE WHEN file IS NOT NULL THEN 'file'"
		" WHEN directory IS NOT NULL THEN 'directory' WHEN class IS NOT NULL THEN 'class' ELSE 'client' END AS"
		" on_what, store, matter, reason, placed_by, placed_at, lifted_by, lifted_at, "
		"lift_reason"
		" FROM hold h JOIN client c ON c.id = h.client WHERE c.client = ifnull(?1, c.client) ORDER "
		"BY h.id",
		"t", client);
}

static int waited(struct facts *f, int64_t client, int64_t now)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT 1 FROM notice n WHERE client = ?1 AND class = 0 AND ended_at IS NULL AND (wait_until <= ?2 OR EXISTS"
		" (SELECT 1 FROM notice_schedule s WHERE s.notice = n.id AND confirmed_at IS NOT NULL"
		"  AND until <= ?2))",
		"ii", client, now);
	return r < 0 ? r : sql_step(st);
}

static int held_now(struct facts *f, int64_t client)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st, "SELECT 1 FROM hold WHERE client = ? AND lifted_at IS NULL", "i", client);
	return r < 0 ? r : sql_step(st);
}

int facts_destruction_intend(struct facts *f, const struct fact_destruction *d, int64_t now, int64_t *ret_row)
{
	int r;

	r = held_now(f, d->client);
	if (r != 0)
		return r < 0 ? r : -EBUSY;
	r = waited(f, d->client, now);
	if (r <= 0)
		return r < 0 ? r : -EPERM;
	r = facts_execute(f, NULL,
		"INSERT INTO destruction (client,intent_at,due,generation,rule,source) VALUES (?,?,?,?,?,?)",
		"iiiitt", d->client, now, d->due, d->generation, d->rule, d->source);
	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_destruction_finish(struct facts *f, int64_t row, bool destroyed, const char *certificate,
	const char *signature, int64_t now)
{
	int r;

	r = facts_execute(f, NULL,
		"UPDATE destruction SET finished_at = ?, destroyed = ?, certificate = ?, signature = ? WHERE "
		"id = ?",
		"iitti", now, (int64_t)destroyed, certificate, signature, row);
	if (r < 0 || !destroyed)
		return r;
	return facts_execute(f, NULL,
		"UPDATE notice SET ended_at = ?, ended_by = ?, outcome = ? WHERE ended_at IS NULL"
		" AND client = (SELECT client FROM destruction WHERE id = ?)",
		"itii", now, FACTS_CLOCK.user, (int64_t)NOTICE_DESTROYED, row);
}

int facts_destructions_pending(struct facts *f, struct fact_destruction **ret, size_t *ret_n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(freep) struct fact_destruction *all = NULL;
	size_t n = 0;
	int r;

	r = facts_prepare(f, &st,
		"SELECT id,client,intent_at,due,generation,rule,source FROM destruction WHERE finished_at IS "
		"NULL"
		" ORDER BY id",
		"");
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct fact_destruction *more = reallocarray(all, n + 1, sizeof(*all)), *d;

		if (!more)
			return -ENOMEM;
		all = more;
		d = &all[n++];
		d->row = sqlite3_column_int64(st, 0);
		d->client = sqlite3_column_int64(st, 1);
		d->intent_at = sqlite3_column_int64(st, 2);
		d->due = sqlite3_column_int64(st, 3);
		d->generation = sqlite3_column_int64(st, 4);
		facts_text(st, 5, d->rule, sizeof(d->rule));
		facts_text(st, 6, d->source, sizeof(d->source));
	}
	if (r < 0)
		return r;
	*ret = take_ptr(&all);
	*ret_n = n;
	return 0;
}

int facts_certificate(struct facts *f, int64_t client, json_t **ret)
{
	json_t *rows = NULL;
	int r;

	r = facts_rows(f, &rows,
		"SELECT certificate, signature FROM destruction WHERE client = ? AND destroyed = 1", "i",
		client);
	if (r < 0)
		return r;
	*ret = json_incref(json_array_get(rows, 0));
	json_decref(rows);
	return *ret ? 0 : -ENOENT;
}
