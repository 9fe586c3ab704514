/* Questions to the ledger: records and acts as one list in the order of time. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "fs/broker/ledger.h"
#include "common/sql.h"

enum source { SOURCE_RECORD, SOURCE_ACT, SOURCES }; /* at the same nanosecond in this order */

/* Both answer the same columns.  ?1, ?2: the row after which to go on; ?3, ?4: since, until (nanoseconds). */
#define FILTER(user, client, purpose, session, uid)                                                          \
	" AND (?5 IS NULL OR " user "=?5) AND (?6 IS NULL OR " client "=?6) AND (?7 IS NULL OR " purpose     \
	"=?7) AND (?8 IS NULL OR " session "=?8) AND (?9 IS NULL OR " uid "=?9)"

static const char *const queries[SOURCES] = {
	[SOURCE_RECORD] =
		"SELECT "
		"r.time,r.id,r.op,r.outcome,s.user,s.uid,s.client,s.client_id,s.purpose,s.ticket,s.number,r."
		"detail,"
		"p.month,p.sealed,p2.month,p2.sealed,r.file,r.size,r.bytes_read,r.bytes_written,r.flags,"
		"x.pid,x.comm,x.loginuid"
		" FROM record r CROSS JOIN session s ON s.id=r.session LEFT JOIN path p ON p.id=r.path"
		" LEFT JOIN path p2 ON p2.id=r.path2 LEFT JOIN process x ON x.id=r.process"
		" WHERE (r.time,r.id)>(?1,?2) AND r.time>=?3 AND r.time<?4" FILTER(
			"s.user", "s.client", "s.purpose", "s.number", "s.uid") " ORDER BY r.time,r.id",
	[SOURCE_ACT] = "SELECT a.time,a.id,a.kind,a.outcome,a.user,a.uid,a.client,"
		       "(SELECT client_id FROM session WHERE number=a.session AND client=a.client),"
		       "a.purpose,a.ticket,a.session,a.detail"
		       " FROM act a WHERE (a.time,a.id)>(?1,?2) AND a.time>=?3 AND a.time<?4" FILTER("a.user",
			       "a.client", "a.purpose", "a.session", "a.uid") " ORDER BY a.time,a.id",
};

enum column {
	C_TIME,
	C_ID,
	C_OP,
	C_OUTCOME,
	C_USER,
	C_UID,
	C_CLIENT,
	C_CLIENT_ID,
	C_PURPOSE,
	C_TICKET,
	C_SESSION,
	C_DETAIL, /* the columns of an act end here */
	C_PATH_MONTH,
	C_PATH,
	C_PATH2_MONTH,
	C_PATH2,
	C_FILE,
	C_SIZE,
	C_BYTES_READ,
	C_BYTES_WRITTEN,
	C_FLAGS,
	C_PID,
	C_COMM,
	C_LOGINUID,
};

struct position {
	int64_t time, id;
	int source;
};

/* A position as text: "<nanoseconds>.<source>.<id>".  Also the id of a row. */
static int position_parse(const char *text, struct position *ret)
{
	struct position p;
	int used = 0;

	if (sscanf(text, "%" SCNd64 ".%d.%" SCNd64 "%n", &p.time, &p.source, &p.id, &used) != 3 ||
		text[used] || p.source < 0 || p.source >= SOURCES)
		return -EINVAL;
	*ret = p;
	return 0;
}

#define POSITION_TEXT_MAX 64
static const char *position_text(const struct position *p, char buf[POSITION_TEXT_MAX])
{
	snprintf(buf, POSITION_TEXT_MAX, "%" PRId64 ".%d.%" PRId64, p->time, p->source, p->id);
	return buf;
}

static int64_t ns(int64_t seconds)
{
	int64_t r;

	if (__builtin_mul_overflow(seconds, 1000000000, &r))
		return seconds < 0 ? INT64_MIN : INT64_MAX;
	return r;
}

static void bind_filter(
	sqlite3_stmt *st, enum source source, const struct ledger_filter *f, const struct position *after)
{
	int64_t id = after->id;

	if (after->source < (int)source)
		id = -1; /* all of ours at that nanosecond come after it */
	else if (after->source > (int)source)
		id = INT64_MAX;
	sqlite3_bind_int64(st, 1, after->time);
	sqlite3_bind_int64(st, 2, id);
	sqlite3_bind_int64(st, 3, ns(f->since));
	sqlite3_bind_int64(st, 4, ns(f->until));
	sql_bind_text(st, 5, f->user);
	sql_bind_text(st, 6, f->client);
	sql_bind_text(st, 7, f->purpose);
	if (f->session)
		sqlite3_bind_int64(st, 8, (int64_t)f->session);
	if (f->uid >= 0)
		sqlite3_bind_int64(st, 9, f->uid);
}

/* ---- one row as JSON ---- */

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

static json_t *json_path(sqlite3_stmt *st, int month, int sealed)
{
	size_t n = (size_t)sqlite3_column_bytes(st, sealed);
	char text[sodium_base64_ENCODED_LEN(RECORD_PATH_MAX, sodium_base64_VARIANT_ORIGINAL)];

	if (sqlite3_column_type(st, sealed) != SQLITE_BLOB || n > RECORD_PATH_MAX)
		return json_null();
	sodium_bin2base64(
		text, sizeof(text), sqlite3_column_blob(st, sealed), n, sodium_base64_VARIANT_ORIGINAL);
	return json_pack("{s:i,s:s}", "month", sqlite3_column_int(st, month), "sealed", text);
}

static json_t *json_file(sqlite3_stmt *st)
{
	char hex[2 * FILE_ID_BYTES + 1];

	if (sqlite3_column_bytes(st, C_FILE) != FILE_ID_BYTES)
		return json_null();
	sodium_bin2hex(hex, sizeof(hex), sqlite3_column_blob(st, C_FILE), FILE_ID_BYTES);
	return json_string(hex);
}

/* A process chooses its own name: any bytes. */
static json_t *json_comm(sqlite3_stmt *st)
{
	char text[17] = "";
	size_t n = (size_t)sqlite3_column_bytes(st, C_COMM);
	const unsigned char *p = sqlite3_column_blob(st, C_COMM);

	if (!p)
		return json_null();
	for (size_t i = 0; i < n && i < sizeof(text) - 1; i++)
		text[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
	return json_string(text);
}

static json_t *json_flags(sqlite3_stmt *st)
{
	static const struct {
		int flag;
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
		if (sqlite3_column_int(st, C_FLAGS) & names[i].flag)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static void add_record_columns(json_t *row, sqlite3_stmt *st)
{
	json_object_set_new(row, "op", json_string(record_op_name((unsigned)sqlite3_column_int(st, C_OP))));
	json_object_set_new(row, "detail", json_value(st, C_DETAIL));
	json_object_set_new(row, "path", json_path(st, C_PATH_MONTH, C_PATH));
	json_object_set_new(row, "path2", json_path(st, C_PATH2_MONTH, C_PATH2));
	json_object_set_new(row, "file", json_file(st));
	json_object_set_new(row, "size", json_value(st, C_SIZE));
	json_object_set_new(row, "bytes_read", json_value(st, C_BYTES_READ));
	json_object_set_new(row, "bytes_written", json_value(st, C_BYTES_WRITTEN));
	json_object_set_new(row, "flags", json_flags(st));
	json_object_set_new(row, "pid", json_value(st, C_PID));
	json_object_set_new(row, "comm", json_comm(st));
	json_object_set_new(row, "loginuid", json_value(st, C_LOGINUID));
}

static void add_act_columns(json_t *row, sqlite3_stmt *st)
{
	const char *text = (const char *)sqlite3_column_text(st, C_DETAIL);
	json_t *detail = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

	json_object_set_new(row, "op", json_value(st, C_OP));
	json_object_set_new(row, "detail", detail ? detail : json_value(st, C_DETAIL));
}

static json_t *row_json(sqlite3_stmt *st, const struct position *at)
{
	char id[POSITION_TEXT_MAX];
	json_t *row = json_object();

	json_object_set_new(row, "id", json_string(position_text(at, id)));
	json_object_set_new(row, "time", json_integer(at->time / 1000000000));
	json_object_set_new(row, "time_ns", json_integer(at->time));
	json_object_set_new(row, "outcome", json_value(st, C_OUTCOME));
	json_object_set_new(row, "user", json_value(st, C_USER));
	json_object_set_new(row, "uid", json_value(st, C_UID));
	json_object_set_new(row, "client", json_value(st, C_CLIENT));
	json_object_set_new(row, "client_id", json_value(st, C_CLIENT_ID));
	json_object_set_new(row, "purpose", json_value(st, C_PURPOSE));
	json_object_set_new(row, "ticket", json_value(st, C_TICKET));
	json_object_set_new(row, "session", json_value(st, C_SESSION));
	if (at->source == SOURCE_RECORD)
		add_record_columns(row, st);
	else
		add_act_columns(row, st);
	return row;
}

/* ---- both lists, merged ---- */

struct reading {
	sqlite3_stmt *st[SOURCES];
	struct position at[SOURCES];
	bool more[SOURCES];
};

static void reading_done(struct reading *q)
{
	for (int i = 0; i < SOURCES; i++)
		sqlite3_finalize(q->st[i]);
}

static int reading_advance(struct reading *q, int i)
{
	int r = sql_step(q->st[i]);

	if (r < 0)
		return r;
	q->more[i] = r > 0;
	q->at[i] = (struct position){.time = sqlite3_column_int64(q->st[i], C_TIME),
		.id = sqlite3_column_int64(q->st[i], C_ID),
		.source = i};
	return 0;
}

static int reading_first(struct reading *q)
{
	if (!q->more[SOURCE_ACT])
		return SOURCE_RECORD;
	if (!q->more[SOURCE_RECORD])
		return SOURCE_ACT;
	return q->at[SOURCE_ACT].time < q->at[SOURCE_RECORD].time ? SOURCE_ACT : SOURCE_RECORD;
}

static int reading_start(
	struct reading *q, sqlite3 *db, const struct ledger_filter *f, const struct position *after)
{
	for (int i = 0; i < SOURCES; i++) {
		int r = sql_prepare(db, queries[i], &q->st[i]);

		if (r < 0)
			return r;
		bind_filter(q->st[i], (enum source)i, f, after);
		r = reading_advance(q, i);
		if (r < 0)
			return r;
	}
	return 0;
}

int ledger_query(struct ledger *l, const struct ledger_filter *f, json_t **ret_rows, char **ret_next)
{
	struct position after = {.time = INT64_MIN, .id = 0, .source = SOURCE_RECORD}, last = after;
	unsigned limit = f->limit && f->limit <= LEDGER_QUERY_MAX ? f->limit : LEDGER_QUERY_MAX;
	scoped(json_decrefp) json_t *rows = json_array();
	scoped(reading_done) struct reading q = {0};
	char *next = NULL;
	int r;

	r = f->after ? position_parse(f->after, &after) : 0;
	if (r == 0)
		r = reading_start(&q, ledger_db(l), f, &after);
	while (r == 0 && (q.more[SOURCE_RECORD] || q.more[SOURCE_ACT]) && json_array_size(rows) < limit) {
		int i = reading_first(&q);

		last = q.at[i];
		json_array_append_new(rows, row_json(q.st[i], &last));
		r = reading_advance(&q, i);
	}
	if (r < 0)
		return r;
	if (q.more[SOURCE_RECORD] || q.more[SOURCE_ACT]) {
		char text[POSITION_TEXT_MAX];

		next = strdup(position_text(&last, text));
		if (!next)
			return -ENOMEM;
	}
	*ret_rows = take_ptr(&rows);
	*ret_next = next;
	return 0;
}

int ledger_newest(struct ledger *l, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = sql_prepare(ledger_db(l),
		"SELECT max(ifnull((SELECT max(time) FROM record),0), ifnull((SELECT max(time) FROM act),0))", &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int64(st, 0) / 1000000000;
	return 0;
}
