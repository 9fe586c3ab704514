#include "fs/broker/ledger.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/scope.h"
#include "common/sql.h"

#define SCHEMA_VERSION 2
#define REFS_CACHED (1u << 20) /* 4 MiB a journal at most; larger numbers are looked up */

/* Migration n brings version n to n + 1.  `progress` and `head` are outside the chain: the first changes, the
 * second comes after it. */
static const char *const migrations[SCHEMA_VERSION] = {
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
};

enum statement {
	ADD_JOURNAL,
	ADD_PROGRESS,
	SET_PROGRESS,
	GET_PROGRESS,
	ADD_SESSION,
	FIND_SESSION,
	ADD_PATH,
	FIND_PATH,
	ADD_PROCESS,
	FIND_PROCESS,
	ADD_RECORD,
	ADD_ACT,
	FIND_ACT,
	ADD_CHAIN,
	GET_CHAIN_HASH,
	ADD_HEAD,
	STATEMENTS,
};

static const char *const statements[STATEMENTS] = {
	[ADD_JOURNAL] = "INSERT INTO journal VALUES (?,?,?,?)",
	[ADD_PROGRESS] = "INSERT INTO progress VALUES (?,0)",
	[SET_PROGRESS] = "UPDATE progress SET done=?2 WHERE journal=?1",
	[GET_PROGRESS] = ("SELECT p.done FROM progress p JOIN journal j ON j.id=p.journal"
			  " WHERE j.id=? AND j.client_id=?"),
	[ADD_SESSION] = "INSERT INTO session VALUES (?,?,?,?,?,?,?,?,?,?)",
	[FIND_SESSION] = "SELECT id FROM session WHERE number=? AND client_id=?",
	[ADD_PATH] = "INSERT INTO path VALUES (?,?,?,?,?)",
	[FIND_PATH] = "SELECT id FROM path WHERE journal=? AND ref=?",
	[ADD_PROCESS] = "INSERT INTO process VALUES (?,?,?,?,?,?)",
	[FIND_PROCESS] = "SELECT id FROM process WHERE journal=? AND ref=?",
	[ADD_RECORD] = "INSERT INTO record VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
	[ADD_ACT] = "INSERT INTO act VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
	[FIND_ACT] = "SELECT id FROM act WHERE seq=? AND time=? AND kind=?",
	[ADD_CHAIN] = "INSERT INTO chain VALUES (?,?,?,?,?,?,?,?,?)",
	[GET_CHAIN_HASH] = "SELECT hash FROM chain WHERE id=?",
	[ADD_HEAD] = "INSERT INTO head (batch,hash,signature,time) VALUES (?,?,?,?)",
};

struct ledger {
	sqlite3 *db;
	sqlite3_stmt *st[STATEMENTS];
	struct chain_batch last;  /* the newest batch */
	int64_t to[CHAIN_TABLES]; /* last ids given out, within the batch in the making */
	bool in_batch;
};

struct refs {
	uint32_t *ids; /* row id of reference i + 1; 0: not looked up */
	size_t n;
};

struct ledger_source {
	int64_t journal;
	uint64_t done, stored;
	uint64_t session; /* the last one looked up */
	int64_t session_row;
	struct refs paths, processes;
	char client_id[CLIENT_ID_HEX];
};

/* ---- opening ---- */

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

static int migrate(sqlite3 *db)
{
	int version, r;

	r = user_version(db, &version);
	if (r < 0)
		return r;
	if (version < 0 || version > SCHEMA_VERSION)
		return -EPROTONOSUPPORT;
	if (version == SCHEMA_VERSION)
		return 0;
	r = sql_exec(db, "BEGIN IMMEDIATE");
	for (int v = version; r == 0 && v < SCHEMA_VERSION; v++)
		r = sql_exec(db, migrations[v]);
	if (r == 0 && version == 0)
		r = first_id(db);
	if (r == 0)
		r = sql_exec(db, "PRAGMA user_version=2");
	_Static_assert(SCHEMA_VERSION == 2, "the line above");
	if (r == 0)
		r = sql_exec(db, "COMMIT");
	if (r < 0)
		sql_exec(db, "ROLLBACK");
	return r;
}

static int max_id(sqlite3 *db, const char *table, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[64];
	int r;

	snprintf(sql, sizeof(sql), "SELECT coalesce(max(id),0) FROM %s", table);
	r = sql_prepare(db, sql, &st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

/* A row behind the last batch was put there by somebody else: never let it slip into the next batch. */
static int check_end(struct ledger *l)
{
	int r = chain_last(l->db, &l->last);

	for (unsigned t = 0; r == 0 && t < CHAIN_TABLES; t++) {
		int64_t id;

		r = max_id(l->db, chain_table_names[t], &id);
		if (r == 0 && id != l->last.to[t])
			r = -EUCLEAN;
	}
	return r;
}

static int open_db(struct ledger *l, const char *path)
{
	int r;

	r = sql_errno(sqlite3_open_v2(
		path, &l->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL));
	if (r < 0)
		return r;
	sqlite3_extended_result_codes(l->db, 1);
	sqlite3_busy_timeout(l->db, 2000);
	sqlite3_db_config(l->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	r = sql_exec(l->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;"
			    "PRAGMA journal_size_limit=16777216");
	if (r == 0)
		r = migrate(l->db);
	for (unsigned i = 0; r == 0 && i < STATEMENTS; i++)
		r = sql_errno(sqlite3_prepare_v3(
			l->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT, &l->st[i], NULL));
	return r == 0 ? check_end(l) : r;
}

int ledger_open(const char *path, struct ledger **ret)
{
	struct ledger *l;
	int r;

	if (sodium_init() < 0)
		return -EIO;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	r = open_db(l, path);
	if (r < 0) {
		ledger_close(l);
		return r;
	}
	*ret = l;
	return 0;
}

void ledger_close(struct ledger *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(l->st[i]);
	sqlite3_close(l->db);
	free(l);
}

sqlite3 *ledger_db(struct ledger *l)
{
	return l->db;
}

/* ---- batches ---- */

int ledger_begin(struct ledger *l)
{
	int r;

	if (l->in_batch)
		return -EBUSY;
	r = sql_exec(l->db, "BEGIN IMMEDIATE");
	if (r < 0)
		return r;
	memcpy(l->to, l->last.to, sizeof(l->to));
	l->in_batch = true;
	return 0;
}

bool ledger_in_batch(const struct ledger *l)
{
	return l->in_batch;
}

void ledger_rollback(struct ledger *l)
{
	if (!l->in_batch)
		return;
	l->in_batch = false;
	if (!sqlite3_get_autocommit(l->db)) /* some failures have rolled back already */
		sql_exec(l->db, "ROLLBACK");
}

/* Runs a statement that answers no row. */
static int run(sqlite3_stmt *st)
{
	int r = sql_step(st);

	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return r;
}

static int add_chain(struct ledger *l, struct chain_batch *b)
{
	sqlite3_stmt *st = l->st[ADD_CHAIN];
	int r;

	r = chain_batch_hash(l->db, &l->last, b, &b->hash);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 1, b->batch);
	sqlite3_bind_int64(st, 2, b->time);
	for (int t = 0; t < CHAIN_TABLES; t++)
		sqlite3_bind_int64(st, 3 + t, b->to[t]);
	sqlite3_bind_blob(st, 3 + CHAIN_TABLES, b->hash.b, sizeof(b->hash.b), SQLITE_STATIC);
	return run(st);
}

int ledger_commit(struct ledger *l)
{
	struct chain_batch b = {.batch = l->last.batch + 1, .time = time(NULL)};
	bool grew = memcmp(l->to, l->last.to, sizeof(l->to)) != 0;
	int r = 0;

	if (!l->in_batch)
		return -EINVAL;
	memcpy(b.to, l->to, sizeof(b.to));
	if (grew)
		r = add_chain(l, &b);
	if (r == 0)
		r = sql_exec(l->db, "COMMIT");
	if (r < 0) {
		ledger_rollback(l);
		return r;
	}
	l->in_batch = false;
	if (grew)
		l->last = b;
	return 0;
}

/* Runs an insert whose first parameter is the next id of `t`. */
static int add_row(struct ledger *l, enum chain_table t, sqlite3_stmt *st)
{
	int r;

	sqlite3_bind_int64(st, 1, l->to[t] + 1);
	r = l->in_batch ? run(st) : -EINVAL;
	if (r == 0)
		l->to[t]++;
	return r;
}

/* The single number that a query answers.  -ENOENT: none. */
static int lookup(sqlite3_stmt *st, int64_t *ret)
{
	int r = sql_step(st);

	if (r > 0)
		*ret = sqlite3_column_int64(st, 0);
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return r > 0 ? 0 : r == 0 ? -ENOENT : r;
}

/* ---- sessions and acts ---- */

int ledger_add_session(struct ledger *l, const struct ledger_session *s)
{
	sqlite3_stmt *st = l->st[ADD_SESSION];

	sqlite3_bind_int64(st, 2, (int64_t)s->number);
	sql_bind_text(st, 3, s->client_id);
	sql_bind_text(st, 4, s->client);
	sql_bind_text(st, 5, s->user);
	sqlite3_bind_int64(st, 6, s->uid);
	sql_bind_text(st, 7, s->purpose);
	sql_bind_text(st, 8, s->ticket);
	sql_bind_text(st, 9, s->rights);
	sqlite3_bind_int64(st, 10, s->begun_ns);
	return add_row(l, CHAIN_SESSION, st);
}

static int act_known(struct ledger *l, const struct ledger_act *a)
{
	sqlite3_stmt *st = l->st[FIND_ACT];
	int64_t id;

	sqlite3_bind_int64(st, 1, a->seq);
	sqlite3_bind_int64(st, 2, a->time_ns);
	sql_bind_text(st, 3, a->kind);
	return lookup(st, &id);
}

int ledger_add_act(struct ledger *l, const struct ledger_act *a)
{
	sqlite3_stmt *st = l->st[ADD_ACT];
	int r;

	if (a->seq) {
		r = act_known(l, a);
		if (r != -ENOENT)
			return r;
		sqlite3_bind_int64(st, 2, a->seq);
	}
	sqlite3_bind_int64(st, 3, a->time_ns);
	sql_bind_text(st, 4, a->kind);
	if (json_is_integer(a->outcome))
		sqlite3_bind_int64(st, 5, json_integer_value(a->outcome));
	else
		sql_bind_text(st, 5, json_string_value(a->outcome));
	sql_bind_text(st, 6, a->user);
	if (a->uid >= 0)
		sqlite3_bind_int64(st, 7, a->uid);
	sql_bind_text(st, 8, a->client);
	sql_bind_text(st, 9, a->purpose);
	sql_bind_text(st, 10, a->ticket);
	if (a->session)
		sqlite3_bind_int64(st, 11, (int64_t)a->session);
	sql_bind_text(st, 12, a->detail);
	return add_row(l, CHAIN_ACT, st);
}

/* ---- journals ---- */

int ledger_add_journal(struct ledger *l, const char *client_id, int64_t pid, uint64_t *ret_id)
{
	sqlite3_stmt *st = l->st[ADD_JOURNAL];
	int r;

	sql_bind_text(st, 2, client_id);
	sqlite3_bind_int64(st, 3, pid);
	sqlite3_bind_int64(st, 4, time(NULL));
	r = add_row(l, CHAIN_JOURNAL, st);
	if (r < 0)
		return r;
	sqlite3_bind_int64(l->st[ADD_PROGRESS], 1, l->to[CHAIN_JOURNAL]);
	r = run(l->st[ADD_PROGRESS]);
	if (r < 0)
		return r;
	*ret_id = (uint64_t)l->to[CHAIN_JOURNAL];
	return 0;
}

int ledger_source_new(struct ledger *l, uint64_t journal, const char *client_id, struct ledger_source **ret)
{
	sqlite3_stmt *st = l->st[GET_PROGRESS];
	struct ledger_source *s;
	int64_t done;
	int r;

	sqlite3_bind_int64(st, 1, (int64_t)journal);
	sql_bind_text(st, 2, client_id);
	r = lookup(st, &done);
	if (r < 0)
		return r;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->journal = (int64_t)journal;
	s->done = s->stored = (uint64_t)done;
	strncpy(s->client_id, client_id, sizeof(s->client_id) - 1);
	*ret = s;
	return 0;
}

void ledger_source_free(struct ledger_source *s)
{
	if (!s)
		return;
	free(s->paths.ids);
	free(s->processes.ids);
	free(s);
}

uint64_t ledger_source_done(const struct ledger_source *s)
{
	return s->done;
}

/* Only a cache: what does not fit is looked up again. */
static void refs_remember(struct refs *c, uint32_t ref, int64_t id)
{
	if (ref == 0 || ref > REFS_CACHED || id > UINT32_MAX)
		return;
	if (ref > c->n) {
		size_t n = c->n ? c->n : 64;
		uint32_t *ids;

		while (n < ref)
			n *= 2;
		ids = realloc(c->ids, n * sizeof(*ids));
		if (!ids)
			return;
		memset(ids + c->n, 0, (n - c->n) * sizeof(*ids));
		c->ids = ids;
		c->n = n;
	}
	c->ids[ref - 1] = (uint32_t)id;
}

/* 0 stays "none".  A reference that was never named: -EBADMSG. */
static int refs_find(struct refs *c, sqlite3_stmt *st, int64_t journal, uint32_t ref, int64_t *ret)
{
	int r;

	*ret = 0;
	if (ref == 0)
		return 0;
	if (ref <= c->n && c->ids[ref - 1]) {
		*ret = c->ids[ref - 1];
		return 0;
	}
	sqlite3_bind_int64(st, 1, journal);
	sqlite3_bind_int64(st, 2, ref);
	r = lookup(st, ret);
	if (r == 0)
		refs_remember(c, ref, *ret);
	return r == -ENOENT ? -EBADMSG : r;
}

/* A session that keyd never announced for this client: the record is kept, and says that nobody knows whose
 * it is. (A worker can lie about its own client only: the client is the journal's.) */
static int add_unknown_session(struct ledger *l, const struct ledger_source *s, uint64_t number)
{
	const struct ledger_session unknown = {.number = number, .client_id = s->client_id, .uid = -1};

	return ledger_add_session(l, &unknown);
}

static int find_session(struct ledger *l, struct ledger_source *s, uint64_t number, int64_t *ret)
{
	sqlite3_stmt *st = l->st[FIND_SESSION];
	int r;

	if (s->session_row && s->session == number) {
		*ret = s->session_row;
		return 0;
	}
	sqlite3_bind_int64(st, 1, (int64_t)number);
	sql_bind_text(st, 2, s->client_id);
	r = lookup(st, ret);
	if (r == -ENOENT) {
		r = add_unknown_session(l, s, number);
		*ret = l->to[CHAIN_SESSION];
	}
	if (r == 0) {
		s->session = number;
		s->session_row = *ret;
	}
	return r;
}

static int add_path(struct ledger *l, struct ledger_source *s, const struct record_path *p)
{
	sqlite3_stmt *st = l->st[ADD_PATH];
	int r;

	sqlite3_bind_int64(st, 2, s->journal);
	sqlite3_bind_int64(st, 3, p->ref);
	sqlite3_bind_int64(st, 4, p->month);
	sqlite3_bind_blob(st, 5, p->sealed, p->sealed_len, SQLITE_STATIC);
	r = add_row(l, CHAIN_PATH, st);
	if (r == 0)
		refs_remember(&s->paths, p->ref, l->to[CHAIN_PATH]);
	return r == -EEXIST ? -EBADMSG : r;
}

static int add_process(struct ledger *l, struct ledger_source *s, const struct record_process *p)
{
	sqlite3_stmt *st = l->st[ADD_PROCESS];
	int r;

	sqlite3_bind_int64(st, 2, s->journal);
	sqlite3_bind_int64(st, 3, p->ref);
	sqlite3_bind_int64(st, 4, p->pid);
	if (p->loginuid != UINT32_MAX)
		sqlite3_bind_int64(st, 5, p->loginuid);
	sqlite3_bind_blob(st, 6, p->comm, (int)strnlen(p->comm, sizeof(p->comm)), SQLITE_STATIC);
	r = add_row(l, CHAIN_PROCESS, st);
	if (r == 0)
		refs_remember(&s->processes, p->ref, l->to[CHAIN_PROCESS]);
	return r == -EEXIST ? -EBADMSG : r;
}

static void bind_row(sqlite3_stmt *st, int i, int64_t row)
{
	if (row)
		sqlite3_bind_int64(st, i, row);
}

static int add_access(struct ledger *l, struct ledger_source *s, const struct record_access *a)
{
	static const struct file_id no_file;
	sqlite3_stmt *st = l->st[ADD_RECORD];
	int64_t session, path, path2, process;
	int r;

	r = find_session(l, s, a->session, &session);
	if (r == 0)
		r = refs_find(&s->paths, l->st[FIND_PATH], s->journal, a->path, &path);
	if (r == 0)
		r = refs_find(&s->paths, l->st[FIND_PATH], s->journal, a->path2, &path2);
	if (r == 0)
		r = refs_find(&s->processes, l->st[FIND_PROCESS], s->journal, a->process, &process);
	if (r < 0)
		return r;
	sqlite3_bind_int64(st, 2, (int64_t)a->time_ns);
	sqlite3_bind_int64(st, 3, session);
	sqlite3_bind_int64(st, 4, a->op);
	sqlite3_bind_int64(st, 5, a->flags);
	sqlite3_bind_int64(st, 6, a->outcome);
	bind_row(st, 7, path);
	bind_row(st, 8, path2);
	bind_row(st, 9, process);
	if (memcmp(&a->file, &no_file, sizeof(no_file)) != 0)
		sqlite3_bind_blob(st, 10, a->file.b, sizeof(a->file.b), SQLITE_STATIC);
	sqlite3_bind_int64(st, 11, (int64_t)a->size);
	sqlite3_bind_int64(st, 12, (int64_t)a->bytes_read);
	sqlite3_bind_int64(st, 13, (int64_t)a->bytes_written);
	if (a->detail[0])
		sqlite3_bind_text(
			st, 14, a->detail, (int)strnlen(a->detail, sizeof(a->detail)), SQLITE_STATIC);
	return add_row(l, CHAIN_RECORD, st);
}

int ledger_add_record(struct ledger *l, struct ledger_source *s, uint64_t seq, const struct record *rec)
{
	int r = -EBADMSG;

	if (seq <= s->done)
		return 0;
	switch (rec->kind) {
	case RECORD_KIND_PATH:
		r = add_path(l, s, &rec->path);
		break;
	case RECORD_KIND_PROCESS:
		r = add_process(l, s, &rec->process);
		break;
	case RECORD_KIND_ACCESS:
		r = add_access(l, s, &rec->access);
		break;
	}
	if (r < 0)
		return r;
	s->done = seq;
	return 1;
}

int ledger_source_store(struct ledger *l, struct ledger_source *s)
{
	sqlite3_stmt *st = l->st[SET_PROGRESS];
	int r;

	if (s->done == s->stored)
		return 0;
	sqlite3_bind_int64(st, 1, s->journal);
	sqlite3_bind_int64(st, 2, (int64_t)s->done);
	r = run(st);
	if (r == 0)
		s->stored = s->done; /* a rollback makes the whole source invalid */
	return r;
}

/* ---- heads ---- */

int ledger_head(struct ledger *l, struct chain_batch *ret)
{
	*ret = l->last;
	return 0;
}

int ledger_hash_at(struct ledger *l, int64_t batch, struct chain_hash *ret)
{
	sqlite3_stmt *get = l->st[GET_CHAIN_HASH];
	int r;

	sqlite3_bind_int64(get, 1, batch);
	r = sql_step(get);
	if (r > 0 && sqlite3_column_bytes(get, 0) == CHAIN_HASH_BYTES)
		memcpy(ret->b, sqlite3_column_blob(get, 0), CHAIN_HASH_BYTES);
	else
		r = r < 0 ? r : -ENOENT;
	sqlite3_reset(get);
	return r < 0 ? r : 0;
}

int ledger_add_signature(struct ledger *l, int64_t batch, const uint8_t signature[CHAIN_SIGNATURE_BYTES])
{
	sqlite3_stmt *add = l->st[ADD_HEAD];
	struct chain_hash hash;
	int r;

	r = ledger_hash_at(l, batch, &hash);
	if (r < 0)
		return r;
	sqlite3_bind_int64(add, 1, batch);
	sqlite3_bind_blob(add, 2, hash.b, sizeof(hash.b), SQLITE_STATIC);
	sqlite3_bind_blob(add, 3, signature, CHAIN_SIGNATURE_BYTES, SQLITE_STATIC);
	sqlite3_bind_int64(add, 4, time(NULL));
	return run(add);
}

int ledger_stats(struct ledger *l, struct ledger_stats *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = sql_prepare(l->db,
		"SELECT (SELECT page_count FROM pragma_page_count) *"
		" (SELECT page_size FROM pragma_page_size)",
		&st);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = (struct ledger_stats){
		.records = l->last.to[CHAIN_RECORD],
		.acts = l->last.to[CHAIN_ACT],
		.bytes = sqlite3_column_int64(st, 0),
	};
	return 0;
}
