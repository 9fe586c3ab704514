#include "keyd/facts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "keyd/facts_sql.h"

/* Rows are facts: an UPDATE may only fill the columns that end a fact, once; a DELETE is refused. */
#define FOR_EVER(table, fixed, once)                                                                         \
	"CREATE TRIGGER " table "_kept BEFORE DELETE ON " table                                              \
	" BEGIN SELECT RAISE(ABORT, 'facts are not deleted'); END;"                                          \
	"CREATE TRIGGER " table "_fixed BEFORE UPDATE OF " fixed " ON " table                                \
	" BEGIN SELECT RAISE(ABORT, 'facts are not changed'); END;"                                          \
	"CREATE TRIGGER " table "_once BEFORE UPDATE ON " table " WHEN OLD." once " IS NOT NULL"             \
	" BEGIN SELECT RAISE(ABORT, 'what ended is not changed'); END;"

#define ALSO_FIXED(table, columns)                                                                           \
	"CREATE TRIGGER " table "_also_fixed BEFORE UPDATE OF " columns " ON " table                          \
	" BEGIN SELECT RAISE(ABORT, 'facts are not changed'); END;"

#define NEVER_CHANGED(table)                                                                                 \
	"CREATE TRIGGER " table "_kept BEFORE DELETE ON " table                                              \
	" BEGIN SELECT RAISE(ABORT, 'facts are not deleted'); END;"                                          \
	"CREATE TRIGGER " table "_fixed BEFORE UPDATE ON " table                                             \
	" BEGIN SELECT RAISE(ABORT, 'facts are not changed'); END;"

static const char *const migrations[] = {
	/* 1 */
	"CREATE TABLE client (id INTEGER PRIMARY KEY, client TEXT NOT NULL UNIQUE, client_id TEXT NOT NULL "
	"UNIQUE,"
	" name TEXT NOT NULL, email TEXT NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL,"
	" recorded_uid INTEGER NOT NULL) STRICT;" NEVER_CHANGED("client")

	/* The last row counts: a wrong date is corrected by another. */
	"CREATE TABLE client_end (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client,"
	" ended_on INTEGER NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL,"
	" recorded_uid INTEGER NOT NULL) STRICT;"
	"CREATE INDEX client_end_client ON client_end (client);" NEVER_CHANGED("client_end")

		"CREATE TABLE suspension (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client,"
		" reason TEXT NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, "
		"recorded_uid INTEGER NOT NULL,"
		" lifted_at INTEGER, lifted_by TEXT, lift_reason TEXT) STRICT;"
		"CREATE UNIQUE INDEX suspension_live ON suspension (client) WHERE lifted_at IS "
		"NULL;" FOR_EVER(
			"suspension", "id,client,reason,recorded_at,recorded_by,recorded_uid", "lifted_at")

			"CREATE TABLE hold (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES "
			"client, matter TEXT NOT NULL,"
			" reason TEXT NOT NULL, placed_at INTEGER NOT NULL, placed_by TEXT NOT NULL, "
			"placed_uid INTEGER NOT NULL,"
			" lifted_at INTEGER, lifted_by TEXT, lift_reason TEXT) STRICT;"
			"CREATE INDEX hold_client ON hold (client);" FOR_EVER(
				"hold", "id,client,matter,reason,placed_at,placed_by,placed_uid", "lifted_at")

				"CREATE TABLE access (id INTEGER PRIMARY KEY, client INTEGER NOT NULL "
				"REFERENCES client, subject TEXT NOT NULL,"
				" is_group INTEGER NOT NULL, uid INTEGER NOT NULL, purpose TEXT NOT NULL, "
				"rights INTEGER NOT NULL,"
				" party INTEGER NOT NULL, reference TEXT, valid_from INTEGER NOT NULL, "
				"valid_until INTEGER NOT NULL,"
				" recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid "
				"INTEGER NOT NULL,"
				" revoked_at INTEGER, revoked_by TEXT) STRICT;"
				"CREATE INDEX access_client ON access (client);" FOR_EVER("access",
					"id,client,subject,is_group,uid,purpose,rights,party,reference,valid_"
					"from,valid_until,"
					"recorded_at,recorded_by,recorded_uid",
					"revoked_at")

					"CREATE TABLE session (id INTEGER PRIMARY KEY AUTOINCREMENT, client "
					"INTEGER NOT NULL REFERENCES client,"
					" user TEXT NOT NULL, uid INTEGER NOT NULL, purpose TEXT NOT NULL, "
					"ticket TEXT, rights TEXT NOT NULL,"
					" access INTEGER NOT NULL, valid_until INTEGER NOT NULL, begun_at "
					"INTEGER NOT NULL,"
					" ended_at INTEGER, end_reason TEXT) STRICT;"
					"CREATE INDEX session_uid ON session (uid, client);"
					"CREATE INDEX session_live ON session (id) WHERE ended_at IS "
					"NULL;" FOR_EVER("session",
						"id,client,user,uid,purpose,ticket,rights,access,valid_until,"
						"begun_at",
						"ended_at")

						"CREATE TABLE destruction (id INTEGER PRIMARY KEY, client "
						"INTEGER NOT NULL REFERENCES client,"
						" intent_at INTEGER NOT NULL, due INTEGER NOT NULL, "
						"generation INTEGER NOT NULL, rule TEXT NOT NULL,"
						" source TEXT NOT NULL, finished_at INTEGER, destroyed "
						"INTEGER, certificate TEXT, signature TEXT) STRICT;"
						"CREATE UNIQUE INDEX destruction_live ON destruction "
						"(client) WHERE finished_at IS NULL OR destroyed = "
						"1;" FOR_EVER("destruction",
							"id,client,intent_at,due,generation,rule,source",
							"finished_at")

							"CREATE TABLE act (id INTEGER PRIMARY KEY, kind TEXT "
							"NOT NULL, detail TEXT, recorded_at INTEGER NOT NULL,"
							" recorded_by TEXT NOT NULL, recorded_uid INTEGER "
							"NOT NULL) STRICT;" NEVER_CHANGED("act")

								"CREATE TABLE head (batch INTEGER PRIMARY "
								"KEY, hash TEXT NOT NULL, signature TEXT NOT "
								"NULL,"
								" signed_at INTEGER NOT NULL) "
								"STRICT;" NEVER_CHANGED("head")

	/* What coffer-fsd has not acknowledged; AUTOINCREMENT: a number never comes twice. */
	"CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, entry TEXT NOT "
	"NULL) STRICT;"
	"CREATE TRIGGER outbox_fixed BEFORE UPDATE ON outbox"
	" BEGIN SELECT RAISE(ABORT, 'records are not changed'); END;"

	"CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;",

	/* Single leaves: facts_leaves.h.  What is still to be done goes when it is done; an erasure stays for ever. */
	"CREATE TABLE dying_leaf (client INTEGER NOT NULL REFERENCES client, leaf INTEGER NOT NULL,"
	" since INTEGER NOT NULL, PRIMARY KEY (client, leaf)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE class_set (client INTEGER PRIMARY KEY REFERENCES client, store TEXT NOT NULL,"
	" class INTEGER NOT NULL, begun_at INTEGER NOT NULL, begun_by TEXT NOT NULL, begun_uid INTEGER NOT NULL) STRICT;"
	"CREATE TABLE sweep (client INTEGER PRIMARY KEY REFERENCES client, since INTEGER NOT NULL) STRICT;"
	"CREATE TABLE erasure (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, store TEXT NOT NULL,"
	" reason TEXT NOT NULL, counts TEXT NOT NULL, leaves TEXT NOT NULL, generation INTEGER NOT NULL,"
	" intent_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL, finished_at INTEGER,"
	" destroyed INTEGER, certificate TEXT, signature TEXT) STRICT;" FOR_EVER("erasure",
		"id,client,store,reason,counts,leaves,generation,intent_at,recorded_by,recorded_uid", "finished_at"),
	/* The life cycle of a destruction */
	"CREATE TABLE notice (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client,"
	" due INTEGER NOT NULL, rule TEXT NOT NULL, source TEXT NOT NULL, notified_at INTEGER NOT NULL,"
	" wait_until INTEGER NOT NULL, ended_at INTEGER, ended_by TEXT, outcome INTEGER, reason TEXT,"
	" again_at INTEGER) STRICT;"
	"CREATE UNIQUE INDEX notice_live ON notice (client) WHERE ended_at IS NULL;"
	"CREATE INDEX notice_client ON notice (client);" FOR_EVER(
		"notice", "id,client,due,rule,source,notified_at,wait_until", "ended_at")

		"CREATE TABLE notice_schedule (id INTEGER PRIMARY KEY, notice INTEGER NOT NULL REFERENCES notice,"
		" until INTEGER NOT NULL, reason TEXT NOT NULL, asked_at INTEGER NOT NULL, asked_by TEXT NOT NULL,"
		" asked_uid INTEGER NOT NULL, confirmed_at INTEGER, confirmed_by TEXT, confirmed_uid INTEGER) STRICT;"
		"CREATE INDEX notice_schedule_notice ON notice_schedule (notice);" FOR_EVER("notice_schedule",
			"id,notice,until,reason,asked_at,asked_by,asked_uid", "confirmed_at"),

	/* What the rules of retention count from. */
	"CREATE TABLE event (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, event TEXT NOT NULL,"
	" happens_on INTEGER NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL,"
	" recorded_uid INTEGER NOT NULL) STRICT;"
	"CREATE INDEX event_client ON event (client, event);" NEVER_CHANGED("event")

		"CREATE TABLE class_used (client INTEGER NOT NULL REFERENCES client, class INTEGER NOT NULL,"
		" since INTEGER NOT NULL, PRIMARY KEY (client, class)) STRICT, WITHOUT ROWID;" NEVER_CHANGED("class_used")
			"INSERT INTO class_used SELECT client, class, begun_at FROM class_set;",

	/* To whom a client was handed over, and that he has it. */
	"CREATE TABLE transfer (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, successor TEXT NOT NULL,"
	" sealed_hash TEXT NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL,"
	" finished_at INTEGER, finished_by TEXT) STRICT;"
	"CREATE INDEX transfer_client ON transfer (client);" FOR_EVER(
		"transfer", "id,client,successor,sealed_hash,recorded_at,recorded_by,recorded_uid", "finished_at"),

	/* The terms of a decision: facts_terms.h.  Who was a client before had everything. */
	"CREATE TABLE engagement (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, service TEXT NOT NULL,"
	" valid_from INTEGER NOT NULL, valid_until INTEGER NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL,"
	" recorded_uid INTEGER NOT NULL, ended_on INTEGER, ended_at INTEGER, ended_by TEXT) STRICT;"
	"CREATE INDEX engagement_client ON engagement (client);" FOR_EVER("engagement",
		"id,client,service,valid_from,valid_until,recorded_at,recorded_by,recorded_uid", "ended_at")
		"INSERT INTO engagement (client,service,valid_from,valid_until,recorded_at,recorded_by,recorded_uid)"
		" SELECT id,'*',recorded_at,0,recorded_at,recorded_by,recorded_uid FROM client;"

		"CREATE TABLE consent (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, scope TEXT NOT NULL,"
		" recipient TEXT, giver TEXT NOT NULL, reason TEXT, evidence TEXT NOT NULL, document TEXT NOT NULL,"
		" valid_from INTEGER NOT NULL, valid_until INTEGER NOT NULL, recorded_at INTEGER NOT NULL,"
		" recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL, withdrawn_at INTEGER, withdrawn_by TEXT,"
		" withdraw_reason TEXT) STRICT;"
		"CREATE INDEX consent_client ON consent (client);" FOR_EVER("consent",
			"id,client,scope,recipient,giver,reason,evidence,document,valid_from,valid_until,recorded_at,"
			"recorded_by,recorded_uid",
			"withdrawn_at")

			"CREATE TABLE policy_version (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL,"
			" hash TEXT NOT NULL, effective INTEGER NOT NULL, origin TEXT NOT NULL, text TEXT NOT NULL,"
			" recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL)"
			" STRICT;" NEVER_CHANGED("policy_version")

				"CREATE TABLE agreement (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client,"
				" name TEXT NOT NULL, version TEXT NOT NULL, hash TEXT NOT NULL, effective INTEGER NOT NULL,"
				" until INTEGER NOT NULL, text TEXT NOT NULL, recorded_at INTEGER NOT NULL,"
				" recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL, ended_at INTEGER, ended_by TEXT)"
				" STRICT;"
				"CREATE INDEX agreement_client ON agreement (client);" FOR_EVER("agreement",
					"id,client,name,version,hash,effective,until,text,recorded_at,recorded_by,recorded_uid",
					"ended_at")

	"CREATE TABLE user_suspension (id INTEGER PRIMARY KEY, user TEXT NOT NULL, reason TEXT NOT NULL,"
	" recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL, lifted_at INTEGER,"
	" lifted_by TEXT, lift_reason TEXT) STRICT;"
	"CREATE UNIQUE INDEX user_suspension_live ON user_suspension (user) WHERE lifted_at IS NULL;"
	"CREATE INDEX user_suspension_user ON user_suspension (user);" FOR_EVER(
		"user_suspension", "id,user,reason,recorded_at,recorded_by,recorded_uid", "lifted_at")

		"CREATE TABLE request (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, user TEXT NOT NULL,"
		" uid INTEGER NOT NULL, purpose TEXT NOT NULL, class INTEGER NOT NULL, ticket TEXT NOT NULL,"
		" reason TEXT NOT NULL, asked_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, seconds INTEGER NOT NULL,"
		" decided_at INTEGER, decided_by TEXT, decided_uid INTEGER, approved INTEGER, valid_until INTEGER, note TEXT)"
		" STRICT;"
		"CREATE INDEX request_client ON request (client, user);" FOR_EVER("request",
			"id,client,user,uid,purpose,class,ticket,reason,asked_at,expires_at,seconds", "decided_at")
			"CREATE TABLE request_revoked (request INTEGER PRIMARY KEY REFERENCES request,"
			" recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL)"
			" STRICT;" NEVER_CHANGED("request_revoked")

				"CREATE TABLE review (id INTEGER PRIMARY KEY, session INTEGER NOT NULL,"
				" client INTEGER NOT NULL REFERENCES client, user TEXT NOT NULL, uid INTEGER NOT NULL,"
				" purpose TEXT NOT NULL, reason TEXT NOT NULL, opened_at INTEGER NOT NULL, closed_at INTEGER,"
				" closed_by TEXT, closed_uid INTEGER, note TEXT) STRICT;" FOR_EVER("review",
					"id,session,client,user,uid,purpose,reason,opened_at", "closed_at")

	/* A grant's people are somebody's. */
	"ALTER TABLE access ADD COLUMN organisation TEXT;"
	"CREATE TRIGGER access_organisation BEFORE UPDATE OF organisation ON access"
	" BEGIN SELECT RAISE(ABORT, 'facts are not changed'); END;"
	"CREATE INDEX access_subject ON access (subject, is_group) WHERE revoked_at IS NULL;",

	/* Which numbers of the key trees were given out (facts_loads.h).  65535: of no day, so far. */
	"CREATE TABLE load (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client,"
	" first_number INTEGER NOT NULL, end_number INTEGER NOT NULL, from_day INTEGER NOT NULL,"
	" to_day INTEGER NOT NULL) STRICT;"
	"CREATE INDEX load_client ON load (client, first_number);"
	"CREATE TABLE load_book (client INTEGER PRIMARY KEY REFERENCES client, since INTEGER NOT NULL,"
	" pruned INTEGER NOT NULL) STRICT;"
	"INSERT INTO load_book SELECT id, 65535, 0 FROM client;",
	/* One class of a client: notices and erasures of it, holds on it or on a path, what was seen of it. */
	"ALTER TABLE notice ADD COLUMN class INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE notice ADD COLUMN before INTEGER NOT NULL DEFAULT 0;"
	"DROP INDEX notice_live;"
	"CREATE UNIQUE INDEX notice_live ON notice (client, class) WHERE ended_at IS NULL;"
	"ALTER TABLE hold ADD COLUMN class INTEGER;"
	"ALTER TABLE hold ADD COLUMN file TEXT;"
	"ALTER TABLE hold ADD COLUMN directory TEXT;"
	"ALTER TABLE hold ADD COLUMN store TEXT;"
	"ALTER TABLE erasure ADD COLUMN class INTEGER;"
	"ALTER TABLE erasure ADD COLUMN notice INTEGER;" ALSO_FIXED("notice", "class,before")
		ALSO_FIXED("hold", "class,file,directory,store") ALSO_FIXED("erasure", "class,notice")
	"CREATE TABLE class_look (client INTEGER NOT NULL REFERENCES client, class INTEGER NOT NULL,"
	" looked_at INTEGER NOT NULL, oldest_day INTEGER NOT NULL, oldest_change INTEGER NOT NULL,"
	" found INTEGER NOT NULL, tried_at INTEGER NOT NULL, PRIMARY KEY (client, class)) STRICT, WITHOUT ROWID;",

	/* Disclosures that nobody is told of before a date. */
	"CREATE TABLE sealed (id INTEGER PRIMARY KEY, content TEXT NOT NULL, nonce TEXT NOT NULL, commitment TEXT NOT NULL,"
	" until INTEGER NOT NULL, recorded_at INTEGER NOT NULL, recorded_by TEXT NOT NULL, recorded_uid INTEGER NOT NULL,"
	" opened_at INTEGER) STRICT;"
	"CREATE INDEX sealed_until ON sealed (until) WHERE opened_at IS NULL;" FOR_EVER("sealed",
		"id,content,nonce,commitment,until,recorded_at,recorded_by,recorded_uid", "opened_at"),

	/* A review may also be of an act that gave its doer more: of a policy, or of a client's agreement. */
	"CREATE TABLE review_new (id INTEGER PRIMARY KEY, session INTEGER, client INTEGER REFERENCES client, user TEXT NOT NULL,"
	" uid INTEGER NOT NULL, purpose TEXT, reason TEXT NOT NULL, opened_at INTEGER NOT NULL, closed_at INTEGER,"
	" closed_by TEXT, closed_uid INTEGER, note TEXT, what TEXT NOT NULL DEFAULT 'emergency') STRICT;"
	"INSERT INTO review_new (id,session,client,user,uid,purpose,reason,opened_at,closed_at,closed_by,closed_uid,note)"
	" SELECT id,session,client,user,uid,purpose,reason,opened_at,closed_at,closed_by,closed_uid,note FROM review;"
	"DROP TABLE review; ALTER TABLE review_new RENAME TO review;" FOR_EVER("review",
		"id,session,client,user,uid,purpose,reason,opened_at,what", "closed_at"),

	/* That he has it, says one custodian; another confirms it.  last_session: the newest there was; null: not known. */
	"ALTER TABLE transfer ADD COLUMN last_session INTEGER;" ALSO_FIXED("transfer", "last_session")
	"CREATE TABLE transfer_ask (id INTEGER PRIMARY KEY, transfer INTEGER NOT NULL REFERENCES transfer,"
	" asked_at INTEGER NOT NULL, asked_by TEXT NOT NULL, asked_uid INTEGER NOT NULL) STRICT;"
	"CREATE INDEX transfer_ask_transfer ON transfer_ask (transfer);" NEVER_CHANGED("transfer_ask"),

	/* One custodian asks for an erasure, another confirms it: of what stands there in the store, or of a sealed label. */
	"CREATE TABLE erase_ask (id INTEGER PRIMARY KEY, client INTEGER NOT NULL REFERENCES client, target TEXT NOT NULL,"
	" reason TEXT NOT NULL, asked_at INTEGER NOT NULL, asked_by TEXT NOT NULL, asked_uid INTEGER NOT NULL,"
	" confirmed_at INTEGER, confirmed_by TEXT, confirmed_uid INTEGER) STRICT;"
	"CREATE INDEX erase_ask_client ON erase_ask (client, target);" FOR_EVER("erase_ask",
		"id,client,target,reason,asked_at,asked_by,asked_uid", "confirmed_at"),

	/* Who asks as root is who logged in: that one does not decide about it either.  null: the uid. */
	"ALTER TABLE request ADD COLUMN person INTEGER;" ALSO_FIXED("request", "person"),
};

static int migrate(struct facts *f)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	char sql[64];
	int version, r;

	r = facts_prepare(f, &st, "PRAGMA user_version", "");
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	version = sqlite3_column_int(st, 0);
	if (version < 0 || version > (int)ARRAY_SIZE(migrations))
		return -EPROTONOSUPPORT; /* of a later version of coffer */
	for (; version < (int)ARRAY_SIZE(migrations); version++) {
		scoped(facts_rollbackp) struct facts *open = NULL;

		sql_finalizep(&st);
		st = NULL;
		r = facts_begin(f);
		if (r < 0)
			return r;
		open = f;
		snprintf(sql, sizeof(sql), "PRAGMA user_version=%d", version + 1);
		r = sql_errno(sqlite3_exec(f->db, migrations[version], NULL, NULL, NULL));
		if (r == 0)
			r = sql_errno(sqlite3_exec(f->db, sql, NULL, NULL, NULL));
		if (r == 0)
			r = facts_commit(f);
		if (r < 0) {
			log_error("keyd/facts.db: %s", sqlite3_errmsg(f->db));
			return r;
		}
	}
	return 0;
}

int facts_open(const char *path, struct facts **ret)
{
	scoped(facts_closep) struct facts *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	r = sql_errno(sqlite3_open_v2(path, &f->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL));
	if (r < 0)
		return r;
	sqlite3_busy_timeout(f->db, 2000);
	r = sql_errno(sqlite3_exec(f->db,
		"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA "
		"trusted_schema=OFF;",
		NULL, NULL, NULL));
	if (r < 0)
		log_error("keyd/facts.db: %s", sqlite3_errmsg(f->db));
	if (r == 0)
		r = migrate(f);
	if (r < 0)
		return r;
	*ret = take_ptr(&f);
	return 0;
}

void facts_close(struct facts *f)
{
	if (!f)
		return;
	for (unsigned i = 0; i < FACTS_CACHED_MAX; i++)
		sqlite3_finalize(f->cached[i].st);
	sqlite3_close(f->db);
	free(f);
}

int facts_begin(struct facts *f)
{
	int r = facts_execute(f, NULL, "BEGIN IMMEDIATE", "");

	if (r == 0)
		f->in_transaction = true;
	return r;
}

int facts_commit(struct facts *f)
{
	int r = facts_execute(f, NULL, "COMMIT", "");

	if (r == 0)
		f->in_transaction = false;
	return r;
}

void facts_rollback(struct facts *f)
{
	if (f->in_transaction)
		(void)facts_execute(f, NULL, "ROLLBACK", "");
	f->in_transaction = false;
}

int facts_act(struct facts *f, const char *kind, const char *detail, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO act (kind,detail,recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?,?)",
		"ttiti", kind, detail, now, by.user, (int64_t)by.uid);
}

int facts_head_add(struct facts *f, const struct fact_head *h)
{
	return facts_execute(f, NULL, "INSERT INTO head (batch,hash,signature,signed_at) VALUES (?,?,?,?)",
		"itti", h->batch, h->hash, h->signature, h->signed_at);
}

int facts_head_last(struct facts *f, struct fact_head *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(
		f, &st, "SELECT batch,hash,signature,signed_at FROM head ORDER BY batch DESC LIMIT 1", "");
	r = facts_one(st, r);
	if (r < 0)
		return r;
	ret->batch = sqlite3_column_int64(st, 0);
	facts_text(st, 1, ret->hash, sizeof(ret->hash));
	facts_text(st, 2, ret->signature, sizeof(ret->signature));
	ret->signed_at = sqlite3_column_int64(st, 3);
	return 0;
}

int facts_outbox_put(struct facts *f, int64_t now, const json_t *entry)
{
	scoped(freep) char *text = json_dumps(entry, JSON_COMPACT | JSON_SORT_KEYS);

	if (!text)
		return -ENOMEM;
	return facts_execute(f, NULL, "INSERT INTO outbox (time,entry) VALUES (?,?)", "it", now, text);
}

int facts_outbox_peek(struct facts *f, unsigned limit, json_t **ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	json_t *entries;
	int r;

	r = facts_prepare(
		f, &st, "SELECT seq,time,entry FROM outbox ORDER BY seq LIMIT ?", "i", (int64_t)limit);
	if (r < 0)
		return r;
	entries = json_array();
	while ((r = sql_step(st)) > 0) {
		json_t *e = json_loads((const char *)sqlite3_column_text(st, 2), 0, NULL);

		if (!e)
			e = json_pack("{s:s}", "kind", "unreadable"); /* never hold up the rest */
		json_object_set_new(e, "seq", json_integer(sqlite3_column_int64(st, 0)));
		json_object_set_new(e, "time", json_integer(sqlite3_column_int64(st, 1)));
		json_array_append_new(entries, e);
	}
	if (r < 0) {
		json_decref(entries);
		return r;
	}
	*ret = entries;
	return 0;
}

int facts_outbox_delivered(struct facts *f, int64_t seq)
{
	return facts_execute(f, NULL, "DELETE FROM outbox WHERE seq <= ?", "i", seq);
}

int facts_outbox_count(struct facts *f, int64_t *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st, "SELECT count(*) FROM outbox", "");
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = sqlite3_column_int64(st, 0);
	return 0;
}

int facts_state_get(struct facts *f, const char *key, char *buf, size_t n)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st, "SELECT value FROM state WHERE key = ?", "t", key);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	facts_text(st, 0, buf, n);
	return 0;
}

int facts_state_set(struct facts *f, const char *key, const char *value)
{
	return facts_execute(f, NULL,
		"INSERT INTO state (key,value) VALUES (?,?) ON CONFLICT (key) DO UPDATE SET value = "
		"excluded.value",
		"tt", key, value);
}
