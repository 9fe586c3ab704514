#include "keyd/facts_sql.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"

static int failed(struct facts *f, int rc)
{
	int r = sql_errno(rc);

	if (r < 0 && r != -EEXIST)
		log_error("keyd/facts.db: %s", sqlite3_errmsg(f->db));
	return r;
}

static int bind_va(sqlite3_stmt *st, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 0; rc == SQLITE_OK && types[i]; i++) {
		if (types[i] == 't')
			rc = sqlite3_bind_text(st, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
		else
			rc = sqlite3_bind_int64(st, i + 1, va_arg(ap, int64_t));
	}
	return rc;
}

static int prepare_va(struct facts *f, sqlite3_stmt **ret, const char *sql, const char *types, va_list ap)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int rc;

	rc = sqlite3_prepare_v2(f->db, sql, -1, &st, NULL);
	if (rc == SQLITE_OK)
		rc = bind_va(st, types, ap);
	if (rc != SQLITE_OK)
		return failed(f, rc);
	*ret = take_ptr(&st);
	return 0;
}

int facts_cached(struct facts *f, sqlite3_stmt **ret, const char *sql, const char *types, ...)
{
	sqlite3_stmt *st = NULL;
	unsigned i = 0;
	va_list ap;
	int rc;

	while (i < FACTS_CACHED_MAX && f->cached[i].sql && f->cached[i].sql != sql)
		i++;
	if (i == FACTS_CACHED_MAX)
		return -E2BIG; /* a mistake of ours: raise FACTS_CACHED_MAX */
	if (!f->cached[i].st) {
		rc = sqlite3_prepare_v3(f->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &f->cached[i].st, NULL);
		if (rc != SQLITE_OK)
			return failed(f, rc);
		f->cached[i].sql = sql;
	}
	st = f->cached[i].st;
	va_start(ap, types);
	rc = bind_va(st, types, ap);
	va_end(ap);
	if (rc != SQLITE_OK)
		return failed(f, rc);
	*ret = st;
	return 0;
}

int facts_prepare(struct facts *f, sqlite3_stmt **ret, const char *sql, const char *types, ...)
{
	va_list ap;
	int r;

	va_start(ap, types);
	r = prepare_va(f, ret, sql, types, ap);
	va_end(ap);
	return r;
}

int facts_execute(struct facts *f, int *ret_changes, const char *sql, const char *types, ...)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	va_list ap;
	int r, rc;

	va_start(ap, types);
	r = prepare_va(f, &st, sql, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	do
		rc = sqlite3_step(st);
	while (rc == SQLITE_ROW);
	if (rc != SQLITE_DONE)
		return failed(f, rc);
	if (ret_changes)
		*ret_changes = sqlite3_changes(f->db);
	return 0;
}

static json_t *column_json(sqlite3_stmt *st, int i, bool boolean)
{
	switch (sqlite3_column_type(st, i)) {
	case SQLITE_INTEGER:
		return boolean ? json_boolean(sqlite3_column_int64(st, i) != 0)
			       : json_integer(sqlite3_column_int64(st, i));
	case SQLITE_TEXT:
		return json_string((const char *)sqlite3_column_text(st, i));
	default:
		return json_null();
	}
}

static json_t *row_json(sqlite3_stmt *st)
{
	json_t *row = json_object();
	char name[64];

	for (int i = 0; row && i < sqlite3_column_count(st); i++) {
		size_t n = (size_t)snprintf(name, sizeof(name), "%s", sqlite3_column_name(st, i));
		bool boolean = n > 0 && n < sizeof(name) && name[n - 1] == '?';

		if (boolean)
			name[n - 1] = '\0';
		json_object_set_new(row, name, column_json(st, i, boolean));
	}
	return row;
}

int facts_rows(struct facts *f, json_t **ret, const char *sql, const char *types, ...)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	json_t *rows;
	va_list ap;
	int r;

	va_start(ap, types);
	r = prepare_va(f, &st, sql, types, ap);
	va_end(ap);
	if (r < 0)
		return r;
	rows = json_array();
	while ((r = sql_step(st)) > 0)
		json_array_append_new(rows, row_json(st));
	if (r < 0) {
		log_error("keyd/facts.db: %s", sqlite3_errmsg(f->db));
		json_decref(rows);
		return r;
	}
	*ret = rows;
	return 0;
}

int facts_one(sqlite3_stmt *st, int r)
{
	if (r == 0)
		r = sql_step(st);
	return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

void facts_text(sqlite3_stmt *st, int i, char *buf, size_t n)
{
	const char *text = (const char *)sqlite3_column_text(st, i);

	snprintf(buf, n, "%s", text ? text : "");
}
