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
#define LOOKED_AT_MAX 20000 /* a page, with those of other clients */

struct journal {
	int64_t id;
	char client_id[CLIENT_ID_HEX];
};

struct page {
	struct ledger *l;
	struct journal *journals; /* those that are wanted, by id */
	size_t journals_n;
	unsigned looked_at;
	json_t *rows;
	int64_t record, path;	/* behind these it goes on */
};

/* The ledger keeps all journals, also those whose paths are in archives. */
static int read_journals(struct page *p, const char *client)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	size_t room = 0;
	int r = sql_prepare(p->l->db, "SELECT id,client_id FROM journal WHERE ?1 IS NULL OR client_id IN "
				      "(SELECT client_id FROM session WHERE client=?1) ORDER BY id", &st);

	if (r == 0 && sqlite3_bind_text(st, 1, client, -1, SQLITE_STATIC) != SQLITE_OK)
		r = -ENOMEM;
	while (r == 0 && (r = sql_step(st)) > 0) {
		if (p->journals_n == room) {
			struct journal *more = realloc(p->journals, (room = room * 2 + 64) * sizeof(*more));

			if (!more)
				return -ENOMEM;
			p->journals = more;
		}
		p->journals[p->journals_n].id = sqlite3_column_int64(st, 0);
		snprintf(p->journals[p->journals_n++].client_id, CLIENT_ID_HEX, "%s", (const char *)sqlite3_column_text(st, 1));
		r = 0;
	}
	return r;
}

static int by_id(const void *a, const void *b)
{
	const struct journal *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static int add_row(struct page *p, sqlite3_stmt *st)
{
	const struct journal key = {.id = sqlite3_column_int64(st, 3)};
	const struct journal *j = p->journals_n ? bsearch(&key, p->journals, p->journals_n, sizeof(key), by_id) : NULL;
	char text[sodium_base64_ENCODED_LEN(RECORD_PATH_MAX, sodium_base64_VARIANT_ORIGINAL)];
	size_t n = (size_t)sqlite3_column_bytes(st, 2);

	if (!j || n > RECORD_PATH_MAX)
		return 0; /* another client's */
	sodium_bin2base64(text, sizeof(text), sqlite3_column_blob(st, 2), n, sodium_base64_VARIANT_ORIGINAL);
	return json_array_append_new(p->rows, json_pack("{s:s,s:i,s:s}", "client_id", j->client_id, "month",
						sqlite3_column_int(st, 1), "sealed", text)) < 0
		       ? -ENOMEM
		       : 0;
}

static bool is_full(const struct page *p)
{
	return p->looked_at >= LOOKED_AT_MAX || json_array_size(p->rows) >= PATHS_PAGE;
}

/* From one file.  *ret_more: the page is full. */
static int add_rows(struct page *p, sqlite3 *db, bool *ret_more)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "SELECT id,month,sealed,journal FROM path WHERE id>? ORDER BY id", &st);

	if (r == 0)
		sqlite3_bind_int64(st, 1, p->path);
	*ret_more = false;
	while (r == 0 && !(*ret_more = is_full(p)) && (r = sql_step(st)) > 0) {
		p->path = sqlite3_column_int64(st, 0);
		p->looked_at++;
		r = add_row(p, st);
	}
	return r < 0 ? r : 0;
}

static int fill(struct page *p, bool *ret_end)
{
	struct ledger_records in;
	bool more = false;
	int r = 0;

	*ret_end = false;
	while (r == 0 && !is_full(p)) {
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
	struct page p = {.l = l};
	char *next = NULL;
	int r, used = 0;
	bool end;

	if (after && (sscanf(after, "%" SCNd64 ":%" SCNd64 "%n", &p.record, &p.path, &used) != 2 || after[used]))
		return -EINVAL;
	if (p.record < 0 || p.record > l->last.to[CHAIN_RECORD] || p.path < 0)
		return -EINVAL;
	p.rows = json_array();
	r = read_journals(&p, client);
	if (r == 0)
		r = fill(&p, &end);
	if (r == 0 && !end && asprintf(&next, "%" PRId64 ":%" PRId64, p.record, p.path) < 0)
		r = -ENOMEM;
	free(p.journals);
	if (r < 0) {
		json_decref(p.rows);
		return r;
	}
	*ret_rows = p.rows;
	*ret_next = next;
	return 0;
}
