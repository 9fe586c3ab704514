/* The newest version of each file that a record tells: what `coffer fsck` compares the store with. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "fs/broker/ledger_impl.h"
#include "fs/broker/whose.h"

#define FILE_HEX (2 * FILE_ID_BYTES + 1)
#define GATHERED_AT_ONCE 1000000 /* records: a fraction of a second */

static int add_row(json_t *rows, const char *hex, const char *version, int64_t size, int64_t time)
{
	return json_array_append_new(rows,
		       json_pack("[s,s,I,I]", hex, version, (json_int_t)size, (json_int_t)time)) < 0
		       ? -ENOMEM
		       : 0;
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

/* ---- gathering ---- */

/* Table `version` of this connection, which nobody else sees: made when somebody asks, for one client at a time. */
struct gathering {
	sqlite3_stmt *put;
	struct whose whose;
};

static void gathering_done(struct gathering *g)
{
	sqlite3_finalize(g->put);
	whose_done(&g->whose);
}

/* Of an open that cut the file the size is the one before. */
static int gather_record(struct gathering *g, const struct pack_record *rec)
{
	int r;

	if (!rec->detail_len || rec->detail[0] != 'v' || !rec->has_file)
		return 0;
	r = whose_is(&g->whose, rec->session);
	if (r <= 0)
		return r;
	sqlite3_bind_blob(g->put, 1, rec->file.b, sizeof(rec->file.b), SQLITE_STATIC);
	sqlite3_bind_text(g->put, 2, rec->detail, rec->detail_len, SQLITE_STATIC);
	sqlite3_bind_int64(g->put, 3, rec->op == RECORD_OPEN ? -1 : rec->size);
	sqlite3_bind_int64(g->put, 4, rec->time);
	return sql_run(g->put);
}

/* From record `from` + 1 on.  *ret: how far it came. */
static int gather(struct ledger *l, const char *client_id, int64_t from, int64_t *ret)
{
	scoped(gathering_done) struct gathering g = {0};
	int64_t last = l->last.to[CHAIN_RECORD], id = from + 1;
	int64_t end = last - from > GATHERED_AT_ONCE ? from + GATHERED_AT_ONCE : last;
	int r = sql_prepare(l->db, "INSERT OR REPLACE INTO temp.version VALUES (?,?,?,?)", &g.put);

	if (r == 0)
		r = whose_init(&g.whose, l->db, client_id);
	while (r == 0 && id <= end) {
		const struct pack_record *rec;
		struct ledger_records in;
		size_t n;

		r = ledger_source_of(l, id, INT64_MIN, INT64_MAX, &in);
		if (r == 0 && !in.db) {
			id = in.last + 1;
			continue;
		}
		if (r == 0)
			r = blocks_get(in.blocks, id, &rec, &n);
		for (size_t i = 0; r == 0 && i < n && id <= end; i++, id++)
			r = gather_record(&g, &rec[i]);
	}
	*ret = end;
	return r;
}

static int gather_begin(struct ledger *l, const char *client_id)
{
	int r = sql_exec(l->db, "DROP TABLE IF EXISTS temp.version;"
				"CREATE TEMP TABLE version (file BLOB PRIMARY KEY, version TEXT, size INTEGER, time INTEGER)"
				" WITHOUT ROWID");

	snprintf(l->versions_of, sizeof(l->versions_of), "%s", client_id);
	return r;
}

/* ---- answering ---- */

static int add_page(json_t *rows, sqlite3 *db, const uint8_t *after, size_t after_n, char last[FILE_HEX])
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	unsigned n = 0;
	int r = sql_prepare(
		db, "SELECT file,version,size,time FROM temp.version WHERE file>?1 ORDER BY file LIMIT ?2", &st);

	last[0] = 0;
	if (r < 0)
		return r;
	sqlite3_bind_blob(st, 1, after, (int)after_n, SQLITE_STATIC);
	sqlite3_bind_int64(st, 2, LEDGER_VERSIONS_MAX);
	while ((r = sql_step(st)) > 0) {
		sodium_bin2hex(last, FILE_HEX, sqlite3_column_blob(st, 0), FILE_ID_BYTES);
		r = add_row(rows, last, (const char *)sqlite3_column_text(st, 1), sqlite3_column_int64(st, 2),
			sqlite3_column_int64(st, 3));
		if (r < 0)
			return r;
		n++;
	}
	if (n < LEDGER_VERSIONS_MAX)
		last[0] = 0;
	return r;
}

/* What `after` says: still gathering ("+<record>"), or the file behind which to go on. */
static int position_parse(const char *after, int64_t *ret_record, uint8_t from[FILE_ID_BYTES], size_t *ret_n)
{
	int used = 0;

	*ret_record = -1;
	if (sscanf(after, "+%" SCNd64 "%n", ret_record, &used) == 1)
		return after[used] || *ret_record < 0 ? -EINVAL : 0;
	if (sodium_hex2bin(from, FILE_ID_BYTES, after, strlen(after), NULL, ret_n, NULL) < 0 ||
		(*ret_n != 0 && *ret_n != FILE_ID_BYTES))
		return -EINVAL;
	return 0;
}

/* Brings the table to where it answers, if there is time.  *ret_at >= 0: not yet. */
static int prepare(struct ledger *l, const char *client_id, bool first, int64_t record, int64_t *ret_at)
{
	bool known = strcmp(l->versions_of, client_id) == 0;
	int r = first || !known ? gather_begin(l, client_id) : 0;

	*ret_at = -1;
	if (r < 0 || (!first && known && record < 0))
		return r;
	if (record < 0 || !known)
		record = 0;
	r = gather(l, client_id, record, &record);
	if (r == 0 && record < l->last.to[CHAIN_RECORD])
		*ret_at = record;
	return r;
}

int ledger_versions(struct ledger *l, const char *client_id, const char *client, const char *after,
	json_t **ret_rows, char **ret_next)
{
	scoped(json_decrefp) json_t *rows = json_array();
	uint8_t from[FILE_ID_BYTES] = {0};
	char last[FILE_HEX] = "";
	int64_t record, at;
	size_t n = 0;
	int r;

	r = position_parse(after, &record, from, &n);
	if (r == 0 && !after[0])
		r = add_accepted(rows, l->db, client);
	if (r == 0)
		r = prepare(l, client_id, !after[0], record, &at);
	if (r == 0 && at >= 0)
		snprintf(last, sizeof(last), "+%" PRId64, at);
	else if (r == 0)
		r = add_page(rows, l->db, from, n, last);
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
