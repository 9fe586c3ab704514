#include "fs/broker/chain.h"

#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "common/sql.h"

const char *const chain_table_names[CHAIN_TABLES] = {
	[CHAIN_JOURNAL] = "journal",
	[CHAIN_SESSION] = "session",
	[CHAIN_PATH] = "path",
	[CHAIN_PROCESS] = "process",
	[CHAIN_RECORD] = "record",
	[CHAIN_ACT] = "act",
};

/* Columns by name, so that a column added later does not change old hashes. */
static const char *const row_queries[CHAIN_TABLES] = {
	[CHAIN_JOURNAL] = "SELECT id,client_id,pid,begun FROM journal WHERE id>?1 AND id<=?2 ORDER BY id",
	[CHAIN_SESSION] =
		"SELECT id,number,client_id,client,user,uid,purpose,ticket,rights,begun FROM session"
		" WHERE id>?1 AND id<=?2 ORDER BY id",
	[CHAIN_PATH] = "SELECT id,journal,ref,month,sealed FROM path WHERE id>?1 AND id<=?2 ORDER BY id",
	[CHAIN_PROCESS] =
		"SELECT id,journal,ref,pid,loginuid,comm FROM process WHERE id>?1 AND id<=?2 ORDER BY id",
	[CHAIN_ACT] = "SELECT id,seq,time,kind,outcome,user,uid,client,purpose,ticket,session,detail FROM act"
		      " WHERE id>?1 AND id<=?2 ORDER BY id",
};

/* BLAKE2b wants more than a number at a time. */
struct hasher {
	crypto_generichash_state state;
	size_t n;
	uint8_t buf[16384];
};

struct chain_reader {
	struct blocks *blocks;
	sqlite3_stmt *st[CHAIN_TABLES]; /* none of CHAIN_RECORD */
	struct hasher h;
};

int chain_reader_new(sqlite3 *db, struct blocks *blocks, struct chain_reader **ret)
{
	scoped(chain_reader_freep) struct chain_reader *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->blocks = blocks;
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		int r = row_queries[t] ? sql_prepare(db, row_queries[t], &c->st[t]) : 0;

		if (r < 0)
			return r;
	}
	*ret = take_ptr(&c);
	return 0;
}

void chain_reader_free(struct chain_reader *c)
{
	if (!c)
		return;
	for (unsigned t = 0; t < CHAIN_TABLES; t++)
		sqlite3_finalize(c->st[t]);
	free(c);
}

static void hash_flush(struct hasher *h)
{
	crypto_generichash_update(&h->state, h->buf, h->n);
	h->n = 0;
}

static void hash_bytes(struct hasher *h, const void *p, size_t n)
{
	if (n > sizeof(h->buf) - h->n) {
		hash_flush(h);
		if (n > sizeof(h->buf)) {
			crypto_generichash_update(&h->state, p, n);
			return;
		}
	}
	memcpy(h->buf + h->n, p, n);
	h->n += n;
}

static void hash_u64(struct hasher *h, uint64_t v)
{
	v = htole64(v);
	hash_bytes(h, &v, sizeof(v));
}

/* ---- a value: one letter for its type, then eight bytes of number, or eight of length and the bytes ---- */

static int hash_value(struct hasher *h, sqlite3_stmt *st, int column)
{
	int type = sqlite3_column_type(st, column);
	char letter = type == SQLITE_INTEGER ? 'i' : type == SQLITE_TEXT ? 't' : type == SQLITE_BLOB ? 'b' : 'n';

	if (type == SQLITE_FLOAT)
		return -EUCLEAN; /* no table has one */
	hash_bytes(h, &letter, 1);
	if (type == SQLITE_INTEGER)
		hash_u64(h, (uint64_t)sqlite3_column_int64(st, column));
	if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
		const void *p = sqlite3_column_blob(st, column);
		size_t n = (size_t)sqlite3_column_bytes(st, column);

		hash_u64(h, n);
		if (n)
			hash_bytes(h, p, n);
	}
	return 0;
}

static int hash_table(struct hasher *h, sqlite3_stmt *st, int64_t from, int64_t to)
{
	int64_t expected = from;
	int r;

	sqlite3_bind_int64(st, 1, from);
	sqlite3_bind_int64(st, 2, to);
	while ((r = sql_step(st)) > 0) {
		if (sqlite3_column_int64(st, 0) != ++expected)
			return -EUCLEAN;
		for (int i = 0; i < sqlite3_column_count(st); i++) {
			r = hash_value(h, st, i);
			if (r < 0)
				return r;
		}
	}
	if (r < 0)
		return r;
	return expected == to ? 0 : -EUCLEAN;
}

/* ---- records: the same, from what is packed ---- */

#define RECORD_HASH_MAX (12 * 9 + 9 + FILE_ID_BYTES + 9 + PACK_DETAIL_MAX)

static uint8_t *put_number(uint8_t *p, char letter, int64_t v)
{
	uint64_t le = htole64((uint64_t)v);

	*p = (uint8_t)letter;
	memcpy(p + 1, &le, sizeof(le));
	return p + 9;
}

static uint8_t *put_id(uint8_t *p, int64_t id)
{
	if (id)
		return put_number(p, 'i', id);
	*p = 'n';
	return p + 1;
}

static uint8_t *put_bytes(uint8_t *p, char letter, const void *from, size_t n)
{
	if (!n) {
		*p = 'n';
		return p + 1;
	}
	p = put_number(p, letter, (int64_t)n);
	memcpy(p, from, n);
	return p + n;
}

static void hash_record(struct hasher *h, int64_t id, const struct pack_record *r)
{
	uint8_t *p;

	if (sizeof(h->buf) - h->n < RECORD_HASH_MAX)
		hash_flush(h);
	p = h->buf + h->n;
	p = put_number(p, 'i', id);
	p = put_number(p, 'i', r->time);
	p = put_number(p, 'i', r->session);
	p = put_number(p, 'i', r->op);
	p = put_number(p, 'i', r->flags);
	p = put_number(p, 'i', r->outcome);
	p = put_id(p, r->path);
	p = put_id(p, r->path2);
	p = put_id(p, r->process);
	p = put_bytes(p, 'b', r->file.b, r->has_file ? sizeof(r->file.b) : 0);
	p = put_number(p, 'i', r->size);
	p = put_number(p, 'i', r->bytes_read);
	p = put_number(p, 'i', r->bytes_written);
	p = put_bytes(p, 't', r->detail, r->detail_len);
	h->n = (size_t)(p - h->buf);
}

static int hash_records(struct hasher *h, struct blocks *blocks, int64_t from, int64_t to)
{
	int64_t id = from + 1;

	while (id <= to) {
		const struct pack_record *rec;
		size_t n;
		int r = blocks_get(blocks, id, &rec, &n);

		if (r < 0)
			return r == -ENOENT ? -EUCLEAN : r;
		for (size_t i = 0; i < n && id <= to; i++)
			hash_record(h, id++, &rec[i]);
	}
	return 0;
}

static int hash_rows(struct chain_reader *c, unsigned table, int64_t from, int64_t to)
{
	int r;

	if (from == to)
		return 0;
	if (table == CHAIN_RECORD)
		return hash_records(&c->h, c->blocks, from, to);
	r = hash_table(&c->h, c->st[table], from, to);
	sqlite3_reset(c->st[table]);
	return r;
}

int chain_batch_hash(struct chain_reader *c, const struct chain_batch *prev, const struct chain_batch *b,
	struct chain_hash *ret)
{
	struct hasher *h = &c->h;

	crypto_generichash_init(&h->state, NULL, 0, CHAIN_HASH_BYTES);
	h->n = 0;
	hash_bytes(h, prev->hash.b, sizeof(prev->hash.b));
	hash_u64(h, (uint64_t)b->batch);
	hash_u64(h, (uint64_t)b->time);
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		int r;

		if (b->to[t] < prev->to[t])
			return -EUCLEAN;
		hash_u64(h, t);
		hash_u64(h, (uint64_t)b->to[t]);
		r = hash_rows(c, t, prev->to[t], b->to[t]);
		if (r < 0)
			return r;
	}
	hash_flush(h);
	crypto_generichash_final(&h->state, ret->b, sizeof(ret->b));
	return 0;
}

int chain_genesis(sqlite3 *db, struct chain_batch *ret)
{
	static const char prefix[] = "coffer-ledger-1";
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	crypto_generichash_state h;
	int r;

	r = sql_prepare(db, "SELECT id FROM ledger", &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	if (r == 0 || sqlite3_column_type(st, 0) != SQLITE_BLOB || sqlite3_column_bytes(st, 0) != 16)
		return -EUCLEAN;
	*ret = (struct chain_batch){0};
	crypto_generichash_init(&h, NULL, 0, CHAIN_HASH_BYTES);
	crypto_generichash_update(&h, (const unsigned char *)prefix, sizeof(prefix) - 1);
	crypto_generichash_update(&h, sqlite3_column_blob(st, 0), 16);
	crypto_generichash_final(&h, ret->hash.b, sizeof(ret->hash.b));
	return 0;
}

int chain_from_row(sqlite3_stmt *st, struct chain_batch *ret)
{
	struct chain_batch b = {.batch = sqlite3_column_int64(st, 0), .time = sqlite3_column_int64(st, 1)};

	for (int t = 0; t < CHAIN_TABLES; t++)
		b.to[t] = sqlite3_column_int64(st, 2 + t);
	if (sqlite3_column_bytes(st, 2 + CHAIN_TABLES) != CHAIN_HASH_BYTES)
		return -EUCLEAN;
	memcpy(b.hash.b, sqlite3_column_blob(st, 2 + CHAIN_TABLES), CHAIN_HASH_BYTES);
	*ret = b;
	return 0;
}

int chain_base(sqlite3 *db, struct chain_batch *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = sql_prepare(db, "SELECT " CHAIN_COLUMNS " FROM base ORDER BY id DESC LIMIT 1", &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	return r == 0 ? chain_genesis(db, ret) : chain_from_row(st, ret);
}

/* ---- what stays when months are archived ---- */

static int hash_kept(struct hasher *h, sqlite3 *db, unsigned table, int64_t to, bool acts_moved)
{
	const char *const queries[CHAIN_TABLES] = {
		[CHAIN_PATH] = "SELECT id,journal,ref,month,sealed FROM path WHERE id>?1 AND id<=?2 AND id IN"
			       " (SELECT id FROM kept_path) ORDER BY id",
		[CHAIN_PROCESS] = "SELECT id,journal,ref,pid,loginuid,comm FROM process WHERE id>?1 AND id<=?2 AND id IN"
				  " (SELECT id FROM kept_process) ORDER BY id",
		[CHAIN_ACT] = acts_moved ? "SELECT id,seq,time,kind,outcome,user,uid,client,purpose,ticket,session,detail FROM act"
					   " WHERE id>?1 AND id<=?2 AND kind NOT IN " CHAIN_MOVED_ACTS " ORDER BY id"
					 : NULL,
	};
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, queries[table] ? queries[table] : row_queries[table], &st);

	if (r < 0)
		return r;
	if (!queries[table])
		return hash_table(h, st, 0, to);
	sqlite3_bind_int64(st, 1, 0);
	sqlite3_bind_int64(st, 2, to);
	while (r >= 0 && (r = sql_step(st)) > 0)
		for (int i = 0; r >= 0 && i < sqlite3_column_count(st); i++)
			r = hash_value(h, st, i);
	return r;
}

int chain_kept_hash(sqlite3 *db, const struct chain_batch *base, bool acts_moved, struct chain_hash *ret)
{
	const char *prefix = acts_moved ? "coffer-ledger-kept-2" : "coffer-ledger-kept-1";
	scoped(freep) struct hasher *h = malloc(sizeof(*h));

	if (!h)
		return -ENOMEM;
	crypto_generichash_init(&h->state, NULL, 0, CHAIN_HASH_BYTES);
	h->n = 0;
	hash_bytes(h, prefix, strlen(prefix));
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		int r;

		if (t == CHAIN_RECORD)
			continue;
		hash_u64(h, t);
		hash_u64(h, (uint64_t)base->to[t]);
		r = hash_kept(h, db, t, base->to[t], acts_moved);
		if (r < 0)
			return r;
	}
	hash_flush(h);
	crypto_generichash_final(&h->state, ret->b, sizeof(ret->b));
	return 0;
}

int chain_last(sqlite3 *db, struct chain_batch *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = sql_prepare(db, "SELECT " CHAIN_COLUMNS " FROM chain ORDER BY id DESC LIMIT 1", &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	return r == 0 ? chain_base(db, ret) : chain_from_row(st, ret);
}

int chain_head_message(unsigned version, int64_t batch, const struct chain_hash *hash, int64_t time, char buf[CHAIN_MESSAGE_MAX])
{
	char hex[CHAIN_HASH_HEX];

	sodium_bin2hex(hex, sizeof(hex), hash->b, sizeof(hash->b));
	if (version == 1)
		return snprintf(buf, CHAIN_MESSAGE_MAX, "coffer-head%ccoffer-ledger-head-1\n%lld\n%s\n", 0, (long long)batch, hex);
	return snprintf(buf, CHAIN_MESSAGE_MAX, "coffer-head%ccoffer-ledger-head-2\n%lld\n%s\n%lld\n", 0, (long long)batch, hex,
		(long long)time);
}
