/* The tables, and how those of an older version become those of this one. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/scope.h"
#include "fs/broker/ledger_impl.h"
#include "fs/broker/posting.h"


/* Migration n brings version n to n + 1.  `progress` and `head` are outside the chain: the first changes, the
 * second comes after it. */
static const char *const migrations[LEDGER_VERSION] = {
	"CREATE TABLE ledger (id BLOB NOT NULL) STRICT;"
	"CREATE TABLE journal (id INTEGER PRIMARY KEY, client_id TEXT NOT NULL, pid INTEGER NOT NULL,"
	" begun INTEGER NOT NULL) STRICT;"
	"CREATE TABLE progress (journal INTEGER PRIMARY KEY REFERENCES journal, done INTEGER NOT NULL) "
	"STRICT;"
	"CREATE TABLE session (id INTEGER PRIMARY KEY, number INTEGER NOT NULL, client_id TEXT NOT NULL,"
	" client TEXT, user TEXT, uid INTEGER NOT NULL, purpose TEXT, ticket TEXT, rights TEXT,"
	" begun INTEGER NOT NULL, UNIQUE (number, client_id)) STRICT;"
	"CREATE TABLE path (id INTEGER PRIMARY KEY, journal INTEGER NOT NULL REFERENCES journal,"
	" ref INTEGER NOT NULL, month INTEGER NOT NULL, sealed BLOB NOT NULL, UNIQUE (journal, ref)) STRICT;"
	"CREATE TABLE process (id INTEGER PRIMARY KEY, journal INTEGER NOT NULL REFERENCES journal,"
	" ref INTEGER NOT NULL, pid INTEGER NOT NULL, loginuid INTEGER, comm BLOB NOT NULL,"
	" UNIQUE (journal, ref)) STRICT;"
	"CREATE TABLE record (id INTEGER PRIMARY KEY, time INTEGER NOT NULL,"
	" session INTEGER NOT NULL REFERENCES session, op INTEGER NOT NULL, flags INTEGER NOT NULL,"
	" outcome INTEGER NOT NULL, path INTEGER REFERENCES path, path2 INTEGER REFERENCES path,"
	" process INTEGER REFERENCES process, file BLOB, size INTEGER NOT NULL, bytes_read INTEGER NOT NULL,"
	" bytes_written INTEGER NOT NULL, detail TEXT) STRICT;"
	"CREATE INDEX record_time ON record (time);"
	"CREATE TABLE act (id INTEGER PRIMARY KEY, seq INTEGER, time INTEGER NOT NULL, kind TEXT NOT NULL,"
	" outcome ANY, user TEXT, uid INTEGER, client TEXT, purpose TEXT, ticket TEXT, session INTEGER,"
	" detail TEXT, UNIQUE (seq, time, kind)) STRICT;"
	"CREATE INDEX act_time ON act (time);"
	"CREATE TABLE chain (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, journal_to INTEGER NOT NULL,"
	" session_to INTEGER NOT NULL, path_to INTEGER NOT NULL, process_to INTEGER NOT NULL,"
	" record_to INTEGER NOT NULL, act_to INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;"
	"CREATE TABLE head (id INTEGER PRIMARY KEY, batch INTEGER NOT NULL, hash BLOB NOT NULL,"
	" signature BLOB NOT NULL, time INTEGER NOT NULL) STRICT;",
	/* For the newest version of each file (ledger_versions.c). */
	"CREATE INDEX record_version ON record (file) WHERE substr(detail,1,1)='v';"
	"CREATE INDEX act_accept ON act (client) WHERE kind='fsck-accept';",
	/* Records packed (pack_records does the rest).  block_span: what a search looks at first, without the data. */
	"CREATE TABLE block (id INTEGER PRIMARY KEY, records INTEGER NOT NULL, from_time INTEGER NOT NULL,"
	" to_time INTEGER NOT NULL, data BLOB NOT NULL) STRICT;"
	"CREATE INDEX block_span ON block (id, records, from_time, to_time);"
	"CREATE TABLE posting (kind INTEGER NOT NULL, segment INTEGER NOT NULL, first INTEGER NOT NULL,"
	" data BLOB NOT NULL, PRIMARY KEY (kind, segment, first)) STRICT, WITHOUT ROWID;",
	/* Archived months: what lies before the first row of `chain`; which rows of former months are still referred to. */
	"CREATE TABLE base (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, journal_to INTEGER NOT NULL,"
	" session_to INTEGER NOT NULL, path_to INTEGER NOT NULL, process_to INTEGER NOT NULL,"
	" record_to INTEGER NOT NULL, act_to INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;"
	"CREATE TABLE archive (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, statement TEXT NOT NULL,"
	" signature BLOB NOT NULL, destroyed TEXT, destroyed_signature BLOB) STRICT;"
	"CREATE TABLE kept_path (id INTEGER PRIMARY KEY) STRICT;"
	"CREATE TABLE kept_process (id INTEGER PRIMARY KEY) STRICT;",
};

static int user_version(sqlite3 *db, int *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_prepare(db, "PRAGMA user_version", &st);

	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int(st, 0);
	return 0;
}

static int first_id(sqlite3 *db)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	uint8_t id[16];
	int r = sql_prepare(db, "INSERT INTO ledger VALUES (?)", &st);

	if (r < 0)
		return r;
	randombytes_buf(id, sizeof(id));
	sqlite3_bind_blob(st, 1, id, sizeof(id), SQLITE_STATIC);
	return sql_step(st);
}

/* ---- version 2 had a row for each record ---- */

static int record_from_row(sqlite3_stmt *st, struct pack_record *ret)
{
	size_t file_n = (size_t)sqlite3_column_bytes(st, 9), detail_n = (size_t)sqlite3_column_bytes(st, 13);
	struct pack_record r = {
		.time = sqlite3_column_int64(st, 1),
		.session = sqlite3_column_int64(st, 2),
		.op = (uint8_t)sqlite3_column_int(st, 3),
		.flags = (uint8_t)sqlite3_column_int(st, 4),
		.outcome = (uint16_t)sqlite3_column_int(st, 5),
		.path = sqlite3_column_int64(st, 6),
		.path2 = sqlite3_column_int64(st, 7),
		.process = sqlite3_column_int64(st, 8),
		.has_file = file_n > 0,
		.size = sqlite3_column_int64(st, 10),
		.bytes_read = sqlite3_column_int64(st, 11),
		.bytes_written = sqlite3_column_int64(st, 12),
		.detail_len = (uint8_t)detail_n,
	};

	if ((file_n && file_n != sizeof(r.file.b)) || detail_n >= PACK_DETAIL_MAX)
		return -EUCLEAN;
	if (file_n)
		memcpy(r.file.b, sqlite3_column_blob(st, 9), file_n);
	if (detail_n)
		memcpy(r.detail, sqlite3_column_blob(st, 13), detail_n);
	*ret = r;
	return 0;
}

static int pack_rows(struct blocks *b, sqlite3_stmt *st, struct pack_record *records, int64_t *count)
{
	size_t n = 0;
	int r;

	while ((r = sql_step(st)) > 0) {
		if (sqlite3_column_int64(st, 0) != *count + (int64_t)n + 1)
			return -EUCLEAN;
		r = record_from_row(st, &records[n]);
		if (r == 0 && ++n == PACK_RECORDS_MAX) {
			r = blocks_append(b, *count + 1, records, n);
			*count += (int64_t)n;
			n = 0;
		}
		if (r < 0)
			return r;
	}
	if (r == 0 && n > 0)
		r = blocks_append(b, *count + 1, records, n);
	*count += (int64_t)n;
	return r;
}

/* What the records say stays as it was, and so do the hashes of the batches. */
static int pack_records(sqlite3 *db)
{
	scoped(freep) struct pack_record *records = calloc(PACK_RECORDS_MAX, sizeof(*records));
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	scoped(blocks_freep) struct blocks *b = NULL;
	int64_t count = 0;
	int r;

	if (!records)
		return -ENOMEM;
	r = sql_prepare(db, "SELECT id,time,session,op,flags,outcome,path,path2,process,file,size,bytes_read,"
			    "bytes_written,detail FROM record ORDER BY id", &st);
	if (r == 0)
		r = blocks_new(db, &b);
	if (r == 0)
		r = pack_rows(b, st, records, &count);
	for (int64_t s = 0; r == 0 && s < count / SEGMENT_RECORDS; s++)
		r = posting_write(db, b, s, (struct posting_range){1, count});
	sqlite3_finalize(take_ptr(&st));
	return r == 0 ? sql_exec(db, "DROP TABLE record") : r;
}

static int migrate_step(sqlite3 *db, int version)
{
	int r = sql_exec(db, migrations[version]);

	return r == 0 && version == 2 ? pack_records(db) : r;
}

int ledger_migrate(sqlite3 *db)
{
	int version, r;

	r = user_version(db, &version);
	if (r < 0)
		return r;
	if (version < 0 || version > LEDGER_VERSION)
		return -EPROTONOSUPPORT;
	if (version == LEDGER_VERSION)
		return 0;
	r = sql_exec(db, "BEGIN IMMEDIATE");
	for (int v = version; r == 0 && v < LEDGER_VERSION; v++)
		r = migrate_step(db, v);
	if (r == 0 && version == 0)
		r = first_id(db);
	if (r == 0)
		r = sql_exec(db, "PRAGMA user_version=4");
	_Static_assert(LEDGER_VERSION == 4, "the line above");
	if (r == 0)
		r = sql_exec(db, "COMMIT");
	if (r < 0)
		sql_exec(db, "ROLLBACK");
	return r;
}
