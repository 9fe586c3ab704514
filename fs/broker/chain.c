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
	[CHAIN_RECORD] = "SELECT id,time,session,op,flags,outcome,path,path2,process,file,size,bytes_read,"
			 "bytes_written,detail FROM record WHERE id>?1 AND id<=?2 ORDER BY id",
	[CHAIN_ACT] = "SELECT id,seq,time,kind,outcome,user,uid,client,purpose,ticket,session,detail FROM act"
		      " WHERE id>?1 AND id<=?2 ORDER BY id",
};

static void hash_u64(crypto_generichash_state *h, uint64_t v)
{
	v = htole64(v);
	crypto_generichash_update(h, (const unsigned char *)&v, sizeof(v));
}

/* A value: one letter for its type, then eight bytes of number, or eight of length and the bytes. */
static int hash_value(crypto_generichash_state *h, sqlite3_stmt *st, int column)
{
	unsigned char letter;
	int type = sqlite3_column_type(st, column);

	letter = type == SQLITE_INTEGER ? 'i' : type == SQLITE_TEXT ? 't' : type == SQLITE_BLOB ? 'b' : 'n';
	if (type == SQLITE_FLOAT)
		return -EUCLEAN; /* no table has one */
	crypto_generichash_update(h, &letter, 1);
	if (type == SQLITE_INTEGER)
		hash_u64(h, (uint64_t)sqlite3_column_int64(st, column));
	if (type == SQLITE_TEXT || type == SQLITE_BLOB) {
		const void *p = sqlite3_column_blob(st, column);
		size_t n = (size_t)sqlite3_column_bytes(st, column);

		hash_u64(h, n);
		if (n)
			crypto_generichash_update(h, p, n);
	}
	return 0;
}

static int hash_table(crypto_generichash_state *h, sqlite3 *db, unsigned table, int64_t from, int64_t to)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int64_t expected = from;
	int r;

	hash_u64(h, table);
	hash_u64(h, (uint64_t)to);
	if (from == to)
		return 0;
	r = sql_prepare(db, row_queries[table], &st);
	if (r < 0)
		return r;
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

int chain_batch_hash(
	sqlite3 *db, const struct chain_batch *prev, const struct chain_batch *b, struct chain_hash *ret)
{
	crypto_generichash_state h;

	crypto_generichash_init(&h, NULL, 0, CHAIN_HASH_BYTES);
	crypto_generichash_update(&h, prev->hash.b, sizeof(prev->hash.b));
	hash_u64(&h, (uint64_t)b->batch);
	hash_u64(&h, (uint64_t)b->time);
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		int r;

		if (b->to[t] < prev->to[t])
			return -EUCLEAN;
		r = hash_table(&h, db, t, prev->to[t], b->to[t]);
		if (r < 0)
			return r;
	}
	crypto_generichash_final(&h, ret->b, sizeof(ret->b));
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

int chain_last(sqlite3 *db, struct chain_batch *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = sql_prepare(db, "SELECT " CHAIN_COLUMNS " FROM chain ORDER BY id DESC LIMIT 1", &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	return r == 0 ? chain_genesis(db, ret) : chain_from_row(st, ret);
}

int chain_head_message(int64_t batch, const struct chain_hash *hash, char buf[CHAIN_MESSAGE_MAX])
{
	char hex[CHAIN_HASH_HEX];

	sodium_bin2hex(hex, sizeof(hex), hash->b, sizeof(hash->b));
	return snprintf(buf, CHAIN_MESSAGE_MAX, "coffer-head%ccoffer-ledger-head-1\n%lld\n%s\n", 0, (long long)batch, hex);
}
