/* The sealed paths that the ledger has, without the records that name them: see ledger_paths(). */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/record.h"
#include "common/scope.h"
#include "fs/broker/ledger_impl.h"

#define PATHS_PAGE 2000

struct page {
	struct ledger *l;
	sqlite3_stmt *journal;	/* of l->db, which keeps them all */
	const char *client;	/* NULL: any */
	json_t *rows;
	int64_t record, path;	/* behind these it goes on */
};

static int add_row(struct page *p, sqlite3_stmt *st)
{
	scoped(sql_resetp) sqlite3_stmt *journal = p->journal;
	char text[sodium_base64_ENCODED_LEN(RECORD_PATH_MAX, sodium_base64_VARIANT_ORIGINAL)];
	size_t n = (size_t)sqlite3_column_bytes(st, 2);
	int r;

	sqlite3_bind_int64(journal, 1, sqlite3_column_int64(st, 3));
	r = sqlite3_bind_text(journal, 2, p->client, -1, SQLITE_STATIC);
	if (r == SQLITE_OK)
		r = sql_step(journal);
	if (r <= 0 || n > RECORD_PATH_MAX)
		return r < 0 ? r : 0; /* another client's */
	sodium_bin2base64(text, sizeof(text), sqlite3_column_blob(st, 2), n, sodium_base64_VARIANT_ORIGINAL);
	return json_array_append_new(p->rows, json_pack("{s:s,s:i,s:s}", "client_id", sqlite3_column_text(journal, 0), "month",
						sqlite3_column_int(st, 1), "sealed", text));
}

/* From one file.  *ret_more: the page is full. */
static int add_rows(struct page *p, sqlite3 *db, bool *ret_more)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	unsigned seen = 0;
	int r = sql_prepare(db, "SELECT id,month,sealed,journal FROM path WHERE id>? ORDER BY id", &st);

	if (r == 0)
		sqlite3_bind_int64(st, 1, p->path);
	while (r == 0 && seen++ < PATHS_PAGE && (r = sql_step(st)) > 0) {
		p->path = sqlite3_column_int64(st, 0);
		r = add_row(p, st);
	}
	*ret_more = r == 0 && seen > PATHS_PAGE;
	return r < 0 ? r : 0;
}

static int fill(struct page *p, bool *ret_end)
{
	struct ledger_records in;
	bool more = false;
	int r = 0;

	*ret_end = false;
	while (r == 0 && !more && json_array_size(p->rows) < PATHS_PAGE) {
		r = ledger_source_of(p->l, p->record + 1, INT64_MIN, INT64_MAX, &in);
		if (r == 0 && in.db)
			r = add_rows(p, in.db, &more);
		if (r < 0 || more)
			continue;
		p->record = in.last;
		p->path = 0;
		*ret_end = in.number == 0 || in.last >= p->l->last.to[CHAIN_RECORD];
		if (*ret_end)
			break;
	}
	return r;
}

int ledger_paths(struct ledger *l, const char *client, const char *after, json_t **ret_rows, char **ret_next)
{
	scoped(sql_finalizep) sqlite3_stmt *journal = NULL;
	struct page p = {.l = l, .client = client};
	char *next = NULL;
	bool end;
	int r;

	if (after && sscanf(after, "%" SCNd64 ":%" SCNd64, &p.record, &p.path) != 2)
		return -EINVAL;
	if (p.record < 0 || p.path < 0)
		return -EINVAL;
	p.rows = json_array();
	r = sql_prepare(l->db, "SELECT client_id FROM journal WHERE id=?1 AND (?2 IS NULL OR client_id IN (SELECT client_id FROM session "
			       "WHERE client=?2))", &journal);
	p.journal = journal;
	if (r == 0)
		r = fill(&p, &end);
	if (r == 0 && !end && asprintf(&next, "%" PRId64 ":%" PRId64, p.record, p.path) < 0)
		r = -ENOMEM;
	if (r < 0) {
		json_decref(p.rows);
		return r;
	}
	*ret_rows = p.rows;
	*ret_next = next;
	return 0;
}
