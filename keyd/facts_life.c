#include "keyd/facts_life.h"

#include <errno.h>
#include <stdlib.h>

#include "keyd/facts_sql.h"

/* ?1 client, ?2 class */
#define CLASS_QUERY                                                                                          \
	"SELECT n.id, n.due, n.notified_at, min(n.wait_until, ifnull((SELECT min(until) FROM notice_schedule s"   \
	"  WHERE s.notice = n.id AND s.confirmed_at IS NOT NULL), n.wait_until)), n.before,"                      \
	" (SELECT again_at FROM notice p WHERE p.client = ?1 AND p.class = ?2 AND p.ended_at IS NOT NULL"         \
	"  ORDER BY p.id DESC LIMIT 1),"                                                                          \
	" EXISTS (SELECT 1 FROM hold h WHERE h.client = ?1 AND h.class = ?2 AND h.lifted_at IS NULL),"            \
	" l.looked_at, l.oldest_day, l.oldest_change, l.found, l.tried_at, ?2"                                     \
	" FROM (SELECT 1) LEFT JOIN notice n ON n.client = ?1 AND n.class = ?2 AND n.ended_at IS NULL"             \
	" LEFT JOIN class_look l ON l.client = ?1 AND l.class = ?2"

int facts_class(struct facts *f, int64_t client, uint16_t class, struct fact_class *ret)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r = facts_cached(f, &st, CLASS_QUERY, "ii", client, (int64_t) class);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EIO;
	*ret = (struct fact_class){.client = client,
		.class = class,
		.waiting = sqlite3_column_int64(st, 0),
		.due = sqlite3_column_int64(st, 1),
		.notified_at = sqlite3_column_int64(st, 2),
		.wait_until = sqlite3_column_int64(st, 3),
		.before = (uint16_t)sqlite3_column_int(st, 4),
		.postponed_until = sqlite3_column_int64(st, 5),
		.held = sqlite3_column_int(st, 6),
		.looked_at = sqlite3_column_int64(st, 7),
		.oldest_day = (uint16_t)sqlite3_column_int(st, 8),
		.oldest_change = sqlite3_column_int64(st, 9),
		.found = sqlite3_column_int64(st, 10),
		.tried_at = sqlite3_column_int64(st, 11)};
	return 0;
}

int facts_notice_end_class(struct facts *f, int64_t client, uint16_t class, enum notice_end how,
	const char *reason, int64_t again_at, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"UPDATE notice SET ended_at = ?, ended_by = ?, outcome = ?, reason = ?, again_at = ?"
		" WHERE client = ? AND class = ? AND ended_at IS NULL",
		"ititiii", now, by.user, (int64_t)how, reason, again_at, client, (int64_t) class);
}

bool facts_notice_waited(struct facts *f, int64_t notice, int64_t now)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT 1 FROM notice n WHERE id = ?1 AND ended_at IS NULL AND (wait_until <= ?2 OR EXISTS"
		" (SELECT 1 FROM notice_schedule s WHERE s.notice = n.id AND confirmed_at IS NOT NULL"
		"  AND until <= ?2))",
		"ii", notice, now);
	return r == 0 && sql_step(st) > 0;
}

int facts_classes_waiting(struct facts *f, int64_t client, struct fact_class **ret, size_t *ret_n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(freep) struct fact_class *all = NULL;
	size_t n = 0;
	int r;

	r = facts_prepare(f, &st,
		"SELECT class FROM notice WHERE client = ? AND class != 0 AND ended_at IS NULL", "i", client);
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct fact_class *more = reallocarray(all, n + 1, sizeof(*all));

		if (!more)
			return -ENOMEM;
		all = more;
		r = facts_class(f, client, (uint16_t)sqlite3_column_int(st, 0), &all[n++]);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	*ret = take_ptr(&all);
	*ret_n = n;
	return 0;
}

int facts_classes_wait(struct facts *f, struct fact_class_waits **ret, size_t *ret_n)
{
	scoped(freep) struct fact_class_waits *all = NULL;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	size_t n = 0;
	int r;

	r = facts_prepare(f, &st,
		"SELECT client, class FROM notice WHERE class != 0 AND ended_at IS NULL ORDER BY client", "");
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct fact_class_waits *more = reallocarray(all, n + 1, sizeof(*all));

		if (!more)
			return -ENOMEM;
		all = more;
		all[n++] = (struct fact_class_waits){
			sqlite3_column_int64(st, 0), (uint16_t)sqlite3_column_int(st, 1)};
	}
	if (r < 0)
		return r;
	*ret = take_ptr(&all);
	*ret_n = n;
	return 0;
}

int facts_waiting(struct facts *f, int64_t *ret_count, int64_t *ret_first)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT count(*), min(min(n.wait_until, ifnull((SELECT min(until) FROM notice_schedule s"
		"  WHERE s.notice = n.id AND s.confirmed_at IS NOT NULL), n.wait_until)))"
		" FROM notice n WHERE n.ended_at IS NULL", "");
	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EIO;
	*ret_count = sqlite3_column_int64(st, 0);
	*ret_first = sqlite3_column_int64(st, 1);
	return 0;
}

int facts_look_set(struct facts *f, const struct fact_class *c)
{
	return facts_execute(f, NULL,
		"INSERT OR REPLACE INTO class_look (client,class,looked_at,oldest_day,oldest_change,found,tried_at)"
		" VALUES (?,?,?,?,?,?,0)",
		"iiiiii", c->client, (int64_t)c->class, c->looked_at, (int64_t)c->oldest_day, c->oldest_change,
		c->found);
}

int facts_look_tried(struct facts *f, int64_t client, uint16_t class, int64_t now)
{
	return facts_execute(f, NULL, "UPDATE class_look SET tried_at = ? WHERE client = ? AND class = ?", "iii",
		now, client, (int64_t) class);
}

int facts_looks_forget(struct facts *f, int64_t client)
{
	return facts_execute(f, NULL, "UPDATE class_look SET looked_at = 0 WHERE client = ?", "i", client);
}

int facts_hold_place_on(
	struct facts *f, const struct fact_hold *h, struct actor by, int64_t now, int64_t *ret_hold)
{
	int r;

	r = facts_execute(f, NULL,
		"INSERT INTO hold (client,matter,reason,placed_at,placed_by,placed_uid,class,file,directory,store)"
		" VALUES (?,?,?,?,?,?,nullif(?,0),?,?,?)",
		"ittitiittt", h->client, h->matter, h->reason, now, by.user, (int64_t)by.uid, (int64_t)h->class,
		h->file, h->directory, h->store);
	if (r < 0)
		return r;
	*ret_hold = sqlite3_last_insert_rowid(f->db);
	if (h->class || h->file || h->directory) {
		r = facts_notice_end_class(f, h->client, 0, NOTICE_HELD, h->reason, 0, by, now);
		if (r == 0 && h->class)
			r = facts_notice_end_class(f, h->client, h->class, NOTICE_HELD, h->reason, 0, by, now);
		return r;
	}
	return facts_execute(f, NULL,
		"UPDATE notice SET ended_at = ?, ended_by = ?, outcome = ?, reason = ?, again_at = 0"
		" WHERE client = ? AND ended_at IS NULL",
		"ititi", now, by.user, (int64_t)NOTICE_HELD, h->reason, h->client);
}

int facts_held(struct facts *f, int64_t client, json_t **ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	json_t *classes, *files, *directories;
	int r;

	r = facts_prepare(
		f, &st, "SELECT class, file, directory FROM hold WHERE client = ? AND lifted_at IS NULL", "i", client);
	if (r < 0)
		return r;
	classes = json_array();
	files = json_array();
	directories = json_array();
	while ((r = sql_step(st)) > 0) {
		if (sqlite3_column_type(st, 0) != SQLITE_NULL)
			json_array_append_new(classes, json_integer(sqlite3_column_int(st, 0)));
		if (sqlite3_column_type(st, 1) != SQLITE_NULL)
			json_array_append_new(files, json_string((const char *)sqlite3_column_text(st, 1)));
		if (sqlite3_column_type(st, 2) != SQLITE_NULL)
			json_array_append_new(directories, json_string((const char *)sqlite3_column_text(st, 2)));
	}
	*ret = json_pack("{s:o, s:o, s:o}", "classes", classes, "files", files, "directories", directories);
	if (r < 0 || !*ret) {
		json_decref(*ret);
		*ret = NULL;
		return r < 0 ? r : -ENOMEM;
	}
	return 0;
}

int facts_hold_newest(struct facts *f, int64_t client, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, "SELECT ifnull(max(id), 0) FROM hold WHERE client = ?", "i", client);

	if (r == 0)
		r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EIO;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}
