#include "fs/broker/ledger_rows.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

enum lookup { SESSION, PATH, PROCESS, LOOKUPS };

static const char *const lookups[LOOKUPS] = {
	[SESSION] = "SELECT user,uid,client,client_id,purpose,ticket,number FROM session WHERE id=?",
	[PATH] = "SELECT month,sealed FROM path WHERE id=?",
	[PROCESS] = "SELECT pid,comm,loginuid FROM process WHERE id=?",
};

struct row_maker {
	sqlite3_stmt *st[LOOKUPS];
};

int row_maker_new(sqlite3 *sessions, sqlite3 *db, struct row_maker **ret)
{
	scoped(row_maker_freep) struct row_maker *m = calloc(1, sizeof(*m));
	int r = m ? 0 : -ENOMEM;

	for (unsigned i = 0; r == 0 && i < LOOKUPS; i++)
		r = sql_prepare(i == SESSION ? sessions : db, lookups[i], &m->st[i]);
	if (r == 0)
		*ret = take_ptr(&m);
	return r;
}

void row_maker_free(struct row_maker *m)
{
	if (!m)
		return;
	for (unsigned i = 0; i < LOOKUPS; i++)
		sqlite3_finalize(m->st[i]);
	free(m);
}

/* 1: the row is there; the caller resets. */
static int look_up(struct row_maker *m, enum lookup what, int64_t id)
{
	sqlite3_bind_int64(m->st[what], 1, id);
	return sql_step(m->st[what]);
}

/* ---- values ---- */

static json_t *json_value(sqlite3_stmt *st, int c)
{
	json_t *text;

	switch (sqlite3_column_type(st, c)) {
	case SQLITE_INTEGER:
		return json_integer(sqlite3_column_int64(st, c));
	case SQLITE_TEXT:
		text = json_stringn(
			(const char *)sqlite3_column_text(st, c), (size_t)sqlite3_column_bytes(st, c));
		return text ? text : json_string("(not UTF-8)");
	default:
		return json_null();
	}
}

/* A process chooses its own name: any bytes. */
static json_t *json_printable(const void *bytes, size_t n)
{
	const unsigned char *p = bytes;
	char text[64];
	size_t i;

	if (!p)
		return json_null();
	for (i = 0; i < n && i < sizeof(text); i++)
		text[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
	return json_stringn(text, i);
}

static json_t *json_file(const struct pack_record *rec)
{
	char hex[2 * FILE_ID_BYTES + 1];

	if (!rec->has_file)
		return json_null();
	sodium_bin2hex(hex, sizeof(hex), rec->file.b, sizeof(rec->file.b));
	return json_string(hex);
}

static json_t *json_flags(unsigned flags)
{
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = {
		{RECORD_READ, "read"},
		{RECORD_WRITE, "write"},
		{RECORD_EXEC, "exec"},
		{RECORD_TRUNC, "trunc"},
		{RECORD_APPEND, "append"},
	};
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (flags & names[i].flag)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *json_path(struct row_maker *m, int64_t id)
{
	scoped(sql_resetp) sqlite3_stmt *st = m->st[PATH];
	char text[sodium_base64_ENCODED_LEN(RECORD_PATH_MAX, sodium_base64_VARIANT_ORIGINAL)];
	size_t n;

	if (!id || look_up(m, PATH, id) <= 0)
		return json_null();
	n = (size_t)sqlite3_column_bytes(st, 1);
	if (sqlite3_column_type(st, 1) != SQLITE_BLOB || n > RECORD_PATH_MAX)
		return json_null();
	sodium_bin2base64(text, sizeof(text), sqlite3_column_blob(st, 1), n, sodium_base64_VARIANT_ORIGINAL);
	return json_pack("{s:i,s:s}", "month", sqlite3_column_int(st, 0), "sealed", text);
}

static void set_process(struct row_maker *m, json_t *row, int64_t id)
{
	scoped(sql_resetp) sqlite3_stmt *st = m->st[PROCESS];
	bool known = id && look_up(m, PROCESS, id) > 0;

	json_object_set_new(row, "pid", known ? json_value(st, 0) : json_null());
	json_object_set_new(row, "comm",
		known ? json_printable(sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1)) : json_null());
	json_object_set_new(row, "loginuid", known ? json_value(st, 2) : json_null());
}

/* Columns `first` and on: user, uid, client, client_id, purpose, ticket, session. */
static void set_session(json_t *row, sqlite3_stmt *st, int first)
{
	static const char *const keys[] = {"user", "uid", "client", "client_id", "purpose", "ticket", "session"};

	for (int i = 0; i < (int)ARRAY_SIZE(keys); i++)
		json_object_set_new(row, keys[i], st ? json_value(st, first + i) : json_null());
}

static json_t *new_row(char letter, int64_t id, int64_t time)
{
	char text[32];

	snprintf(text, sizeof(text), "%c%" PRId64, letter, id);
	return json_pack("{s:s,s:I,s:I}", "id", text, "time", (json_int_t)(time / 1000000000), "time_ns", (json_int_t)time);
}

int row_of_record(struct row_maker *m, int64_t id, const struct pack_record *rec, json_t **ret)
{
	scoped(sql_resetp) sqlite3_stmt *session = m->st[SESSION];
	int r = look_up(m, SESSION, rec->session);
	json_t *row = new_row('r', id, rec->time);

	if (r < 0 || !row) {
		json_decref(row);
		return r < 0 ? r : -ENOMEM;
	}
	set_session(row, r > 0 ? session : NULL, 0);
	json_object_set_new(row, "op", json_string(record_op_name(rec->op)));
	json_object_set_new(row, "outcome", json_integer(rec->outcome));
	json_object_set_new(
		row, "detail", rec->detail_len ? json_printable(rec->detail, rec->detail_len) : json_null());
	json_object_set_new(row, "path", json_path(m, rec->path));
	json_object_set_new(row, "path2", json_path(m, rec->path2));
	json_object_set_new(row, "file", json_file(rec));
	json_object_set_new(row, "size", json_integer(rec->size));
	json_object_set_new(row, "bytes_read", json_integer(rec->bytes_read));
	json_object_set_new(row, "bytes_written", json_integer(rec->bytes_written));
	json_object_set_new(row, "flags", json_flags(rec->flags));
	set_process(m, row, rec->process);
	*ret = row;
	return 0;
}

json_t *row_of_act(sqlite3_stmt *st)
{
	const char *text = (const char *)sqlite3_column_text(st, 11);
	json_t *detail = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	json_t *row = new_row('a', sqlite3_column_int64(st, 0), sqlite3_column_int64(st, 1));

	json_object_set_new(row, "op", json_value(st, 2));
	json_object_set_new(row, "outcome", json_value(st, 3));
	set_session(row, st, 4);
	json_object_set_new(row, "detail", detail ? detail : json_value(st, 11));
	return row;
}
