/* What took names away, or moved them: what an erasure follows back to the keys of versions that only backups have. */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/record.h"
#include "common/scope.h"
#include "fs/broker/ledger_impl.h"
#include "fs/broker/whose.h"

#define LOOKED_AT_MAX 200000 /* records: some milliseconds */
#define ROWS_MAX 2000

struct looking {
	struct ledger *l;
	struct whose whose;
	json_t *rows;
};

static void looking_done(struct looking *g)
{
	whose_done(&g->whose);
}

/* null: none, or its archive is gone. */
static int add_path(struct looking *g, json_t *row, int64_t id)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char text[sodium_base64_ENCODED_LEN(RECORD_PATH_MAX, sodium_base64_VARIANT_ORIGINAL)];
	int r = id ? ledger_find_path(g->l, id, &st) : -ENOENT;
	size_t n;

	if (r < 0 && r != -ENOENT)
		return r;
	n = r == 0 ? (size_t)sqlite3_column_bytes(st, 1) : 0;
	if (r < 0 || n > RECORD_PATH_MAX)
		return json_array_append_new(row, json_null()) < 0 || json_array_append_new(row, json_null()) < 0 ? -ENOMEM : 0;
	sodium_bin2base64(text, sizeof(text), sqlite3_column_blob(st, 1), n, sodium_base64_VARIANT_ORIGINAL);
	return json_array_append_new(row, json_integer(sqlite3_column_int64(st, 0))) < 0 ||
			       json_array_append_new(row, json_string(text)) < 0
		       ? -ENOMEM
		       : 0;
}

static bool takes_away(const struct pack_record *rec)
{
	return rec->op == RECORD_UNLINK || rec->op == RECORD_RMDIR || rec->op == RECORD_RENAME;
}

static int look_at(struct looking *g, const struct pack_record *rec)
{
	json_t *row;
	int r;

	if (!takes_away(rec) || rec->outcome != 0)
		return 0;
	r = whose_is(&g->whose, rec->session);
	if (r <= 0)
		return r;
	row = json_pack("[s#, b]", rec->detail, (int)rec->detail_len, rec->op == RECORD_RENAME);
	if (!row)
		return -ENOMEM;
	r = add_path(g, row, rec->path);
	if (r == 0)
		r = add_path(g, row, rec->path2);
	return json_array_append_new(g->rows, row) < 0 && r == 0 ? -ENOMEM : r;
}

int ledger_removals(
	struct ledger *l, const char *client_id, int64_t after, json_t **ret_rows, int64_t *ret_next, bool *ret_end)
{
	scoped(json_decrefp) json_t *rows = json_array();
	scoped(looking_done) struct looking g = {.l = l, .rows = rows};
	int64_t id = after + 1, last = l->last.to[CHAIN_RECORD];
	int64_t end = last - after > LOOKED_AT_MAX ? after + LOOKED_AT_MAX : last;
	int r = after < 0 ? -EINVAL : whose_init(&g.whose, l->db, client_id);

	while (r == 0 && id <= end && json_array_size(rows) < ROWS_MAX) {
		const struct pack_record *rec;
		struct pack_record one;
		struct ledger_records in;
		size_t n;

		/* Paths may lie in another archive, upon which what `rec` points to is gone: a copy of each. */
		r = ledger_source_of(l, id, INT64_MIN, INT64_MAX, &in);
		if (r == 0 && !in.db) {
			id = in.last + 1;
			continue;
		}
		if (r == 0)
			r = blocks_get(in.blocks, id, &rec, &n);
		for (size_t i = 0; r == 0 && i < n && id <= end; i++, id++) {
			one = rec[i];
			r = look_at(&g, &one);
			if (takes_away(&one)) {
				id++;
				break;
			}
		}
	}
	if (r < 0)
		return r;
	*ret_next = id - 1;
	*ret_end = id > last;
	*ret_rows = take_ptr(&rows);
	return 0;
}
