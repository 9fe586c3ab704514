/* The newest version of each file that a record tells: what `coffer fsck` compares the store with. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/scope.h"
#include "common/sql.h"
#include "fs/broker/ledger.h"

#define FILE_HEX (2 * FILE_ID_BYTES + 1)

static int add_row(json_t *rows, const char *hex, const char *version, int64_t size, int64_t time)
{
	return json_array_append_new(rows,
		       json_pack("[s,s,I,I]", hex, version, (json_int_t)size, (json_int_t)time)) < 0
		       ? -ENOMEM
		       : 0;
}

/* Of an open that cut the file the size is the one before. */
static int add_record(json_t *rows, sqlite3 *db, int64_t id, const char *hex, const char *client_id)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int64_t size;
	int r = sql_prepare(db,
		"SELECT r.detail,r.size,r.time,r.op FROM record r JOIN session s ON s.id=r.session"
		" WHERE r.id=?1 AND s.client_id=?2",
		&st);

	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, id);
	sql_bind_text(st, 2, client_id);
	r = sql_step(st);
	if (r <= 0)
		return r;
	size = sqlite3_column_int(st, 3) == RECORD_OPEN ? -1 : sqlite3_column_int64(st, 1);
	return add_row(rows, hex, (const char *)sqlite3_column_text(st, 0), size, sqlite3_column_int64(st, 2));
}

static int add_accepted(json_t *rows, sqlite3 *db, const char *client)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(
		db, "SELECT detail FROM act WHERE kind='fsck-accept' AND client=?1 ORDER BY id", &st);

	if (r < 0)
		return r;
	sql_bind_text(st, 1, client);
	while ((r = sql_step(st)) > 0) {
		const char *text = (const char *)sqlite3_column_text(st, 0), *file, *version;
		json_auto_t *detail = text ? json_loads(text, 0, NULL) : NULL;
		json_int_t size, at;

		if (json_unpack(detail, "{s:s,s:s,s:I,s:I}", "file", &file, "version", &version, "size", &size, "at",
			    &at) < 0)
			continue;
		r = add_row(rows, file, version, size, at);
		if (r < 0)
			return r;
	}
	return r;
}

static int add_page(json_t *rows, sqlite3 *db, const char *client_id, const uint8_t *after, size_t after_n,
	char last[FILE_HEX])
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	unsigned n = 0;
	int r = sql_prepare(db,
		"SELECT file,max(id) FROM record WHERE substr(detail,1,1)='v' AND file>?1"
		" GROUP BY file ORDER BY file LIMIT ?2",
		&st);

	last[0] = 0;
	if (r < 0)
		return r;
	sqlite3_bind_blob(st, 1, after, (int)after_n, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, LEDGER_VERSIONS_MAX);
	while ((r = sql_step(st)) > 0) {
		if (sqlite3_column_bytes(st, 0) != FILE_ID_BYTES)
			continue;
		sodium_bin2hex(last, FILE_HEX, sqlite3_column_blob(st, 0), FILE_ID_BYTES);
		r = add_record(rows, db, sqlite3_column_int64(st, 1), last, client_id);
		if (r < 0)
			return r;
		n++;
	}
	if (n < LEDGER_VERSIONS_MAX)
		last[0] = 0;
	return r;
}

int ledger_versions(struct ledger *l, const char *client_id, const char *client, const char *after,
	json_t **ret_rows, char **ret_next)
{
	scoped(json_decrefp) json_t *rows = json_array();
	uint8_t from[FILE_ID_BYTES] = {0};
	char last[FILE_HEX];
	size_t n = 0;
	int r = 0;

	if (sodium_hex2bin(from, sizeof(from), after, strlen(after), NULL, &n, NULL) < 0 ||
		(n != 0 && n != sizeof(from)))
		return -EINVAL;
	if (n == 0)
		r = add_accepted(rows, ledger_db(l), client);
	if (r == 0)
		r = add_page(rows, ledger_db(l), client_id, from, n, last);
	if (r < 0)
		return r;
	*ret_next = NULL;
	if (last[0]) {
		*ret_next = strdup(last);
		if (!*ret_next)
			return -ENOMEM;
	}
	*ret_rows = take_ptr(&rows);
	return 0;
}
