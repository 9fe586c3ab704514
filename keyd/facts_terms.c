#include "keyd/facts_terms.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "keyd/facts_sql.h"

/* ---- engagements ---- */

int facts_engagement_begin(struct facts *f, int64_t client, const char *service, int64_t from, int64_t until,
	struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO engagement (client,service,valid_from,valid_until,recorded_at,recorded_by,recorded_uid)"
		" VALUES (?,?,?,?,?,?,?)",
		"itiiiti", client, service, from, until, now, by.user, (int64_t)by.uid);
}

int facts_engagement_end(struct facts *f, int64_t client, const char *service, int64_t on, struct actor by, int64_t now,
	int *ret_count)
{
	return facts_execute(f, ret_count,
		"UPDATE engagement SET ended_on = ?1, ended_at = ?2, ended_by = ?3 WHERE client = ?4 AND service = ?5"
		" AND ended_at IS NULL AND (valid_until = 0 OR valid_until > ?1)",
		"iitit", on, now, by.user, client, service);
}

int facts_engagements(struct facts *f, const char *client, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT c.client, service, valid_from AS \"from\","
		" nullif(ifnull(ended_on, valid_until), 0) AS until, e.recorded_by, e.recorded_at, ended_by, ended_at"
		" FROM engagement e JOIN client c ON c.id = e.client WHERE c.client = ifnull(?1, c.client) ORDER BY e.id",
		"t", client);
}

/* ---- consents ---- */

int facts_consent_give(struct facts *f, const struct fact_consent *c, struct actor by, int64_t now, int64_t *ret_consent)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO consent (client,scope,recipient,giver,reason,evidence,document,valid_from,valid_until,"
		"recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
		"ittttttiiiti", c->client, c->scope, c->recipient, c->giver, c->reason, c->evidence, c->document, c->from,
		c->until, now, by.user, (int64_t)by.uid);

	if (r == 0)
		*ret_consent = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_consent_withdraw(struct facts *f, int64_t client, int64_t consent, const char *reason, struct actor by,
	int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE consent SET withdrawn_at = ?, withdrawn_by = ?, withdraw_reason = ?"
		" WHERE id = ? AND client = ? AND withdrawn_at IS NULL",
		"ittii", now, by.user, reason, consent, client);
	return r < 0 ? r : changes == 0 ? -ENOENT : 0;
}

int facts_consents(struct facts *f, const char *client, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT s.id AS consent, c.client, scope, recipient, giver, reason, document, evidence,"
		" valid_from AS \"from\", nullif(valid_until, 0) AS until, s.recorded_by, s.recorded_at, withdrawn_at,"
		" withdrawn_by, withdraw_reason"
		" FROM consent s JOIN client c ON c.id = s.client WHERE c.client = ifnull(?1, c.client) ORDER BY s.id",
		"t", client);
}

/* ---- texts ---- */

static int text_from_row(sqlite3_stmt *st, struct fact_text *ret)
{
	struct fact_text t = {.row = sqlite3_column_int64(st, 0),
		.effective = sqlite3_column_int64(st, 4),
		.until = sqlite3_column_int64(st, 5),
		.recorded_at = sqlite3_column_int64(st, 7)};

	facts_text(st, 1, t.name, sizeof(t.name));
	facts_text(st, 2, t.version, sizeof(t.version));
	facts_text(st, 3, t.hash, sizeof(t.hash));
	facts_text(st, 8, t.origin, sizeof(t.origin));
	t.text = strdup((const char *)sqlite3_column_text(st, 6));
	if (!t.text)
		return -ENOMEM;
	*ret = t;
	return 0;
}

static int text_get(struct facts *f, const char *sql, int64_t row, struct fact_text *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, sql, "i", row);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	return text_from_row(st, ret);
}

int facts_policy_add(struct facts *f, const struct fact_text *t, struct actor by, int64_t now, int64_t *ret_row)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO policy_version (name,version,hash,effective,origin,text,recorded_at,recorded_by,recorded_uid)"
		" VALUES (?,?,?,?,?,?,?,?,?)",
		"tttittiti", t->name, t->version, t->hash, t->effective, t->origin, t->text, now, by.user, (int64_t)by.uid);

	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_policy_at(struct facts *f, int64_t known_at, int64_t at, int64_t *ret_row)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT id FROM policy_version WHERE recorded_at <= ?1 AND effective <= ?2"
		" ORDER BY max(effective, recorded_at) DESC, id DESC LIMIT 1",
		"ii", known_at, at);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret_row = sqlite3_column_int64(st, 0);
	return 0;
}

#define POLICY_COLUMNS "SELECT id,name,version,hash,effective,0,text,recorded_at,origin FROM policy_version "

int facts_policy_last(struct facts *f, struct fact_text *ret)
{
	return text_get(f, POLICY_COLUMNS "WHERE id = (SELECT max(id) FROM policy_version) AND ?1 = 0", 0, ret);
}

int facts_policy_get(struct facts *f, int64_t row, struct fact_text *ret)
{
	return text_get(f, POLICY_COLUMNS "WHERE id = ?", row, ret);
}

int facts_policies(struct facts *f, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT id, name, version, effective, hash, origin, recorded_at, recorded_by FROM policy_version ORDER BY id",
		"");
}

int facts_agreement_add(struct facts *f, int64_t client, const struct fact_text *t, struct actor by, int64_t now,
	int64_t *ret_row)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO agreement (client,name,version,hash,effective,until,text,recorded_at,recorded_by,recorded_uid)"
		" VALUES (?,?,?,?,?,?,?,?,?,?)",
		"itttiititi", client, t->name, t->version, t->hash, t->effective, t->until, t->text, now, by.user,
		(int64_t)by.uid);

	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_agreement_end(struct facts *f, int64_t client, struct actor by, int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE agreement SET ended_at = ?1, ended_by = ?2 WHERE client = ?3 AND ended_at IS NULL"
		" AND (until = 0 OR until > ?1)",
		"iti", now, by.user, client);
	return r < 0 ? r : changes == 0 ? -ENOENT : 0;
}

/* An agreement that is over does not bring back the one that it replaced. */
int facts_agreement_at(struct facts *f, int64_t client, int64_t known_at, int64_t at, int64_t *ret_row)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT CASE WHEN (until = 0 OR until > ?3) AND (ended_at IS NULL OR ended_at > ?2) THEN id ELSE 0 END"
		" FROM agreement WHERE client = ?1 AND recorded_at <= ?2 AND effective <= ?3"
		" ORDER BY max(effective, recorded_at) DESC, id DESC LIMIT 1",
		"iii", client, known_at, at);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret_row = r > 0 ? sqlite3_column_int64(st, 0) : 0;
	return 0;
}

int facts_agreement_get(struct facts *f, int64_t row, struct fact_text *ret)
{
	return text_get(f,
		"SELECT id,name,version,hash,effective,until,text,recorded_at,'' FROM agreement WHERE id = ?", row, ret);
}

int facts_agreements(struct facts *f, const char *client, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT a.id AS agreement, c.client, a.name, version, effective, nullif(until, 0) AS until, hash, text,"
		" a.recorded_at, a.recorded_by, ended_at, ended_by"
		" FROM agreement a JOIN client c ON c.id = a.client WHERE c.client = ifnull(?1, c.client) ORDER BY a.id",
		"t", client);
}

/* ---- suspensions ---- */

int facts_suspend_user(struct facts *f, const char *user, const char *reason, struct actor by, int64_t now)
{
	return facts_execute(f, NULL,
		"INSERT INTO user_suspension (user,reason,recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?,?)", "ttiti",
		user ? user : "", reason, now, by.user, (int64_t)by.uid);
}

int facts_resume_user(struct facts *f, const char *user, const char *reason, struct actor by, int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE user_suspension SET lifted_at = ?, lifted_by = ?, lift_reason = ? WHERE user = ? AND lifted_at IS NULL",
		"ittt", now, by.user, reason, user ? user : "");
	return r < 0 ? r : changes == 0 ? -ENOENT : 0;
}

int facts_user_suspended(struct facts *f, const char *user, int64_t known_at, char *buf, size_t n)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT reason FROM user_suspension WHERE user = ?1 AND recorded_at <= ?2"
		" AND (lifted_at IS NULL OR lifted_at > ?2) LIMIT 1",
		"ti", user ? user : "", known_at);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	snprintf(buf, n, "%s", r > 0 ? (const char *)sqlite3_column_text(st, 0) : "");
	return 0;
}

int facts_suspended_by(struct facts *f, int64_t client, struct fact_person *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT recorded_uid, recorded_by FROM suspension WHERE client = ?1 AND lifted_at IS NULL UNION ALL"
		" SELECT recorded_uid, recorded_by FROM user_suspension WHERE ?1 = 0 AND user = '' AND lifted_at IS NULL LIMIT 1",
		"i", client);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	ret->uid = (uid_t)sqlite3_column_int64(st, 0);
	facts_text(st, 1, ret->user, sizeof(ret->user));
	return 0;
}

/* ---- requests ---- */

int facts_request_add(struct facts *f, const struct fact_request *q, int64_t now, int64_t *ret_row)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO request (client,user,uid,purpose,class,ticket,reason,asked_at,expires_at,seconds,person)"
		" VALUES (?,?,?,?,?,?,?,?,?,?,?)",
		"ititittiiii", q->client, q->user, (int64_t)q->uid, q->purpose, (int64_t)q->class, q->ticket, q->reason, now,
		q->expires_at, q->seconds, (int64_t)q->person);

	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_request_get(struct facts *f, int64_t row, struct fact_request *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT id,client,user,uid,purpose,class,ticket,reason,asked_at,expires_at,seconds,decided_at,"
		"ifnull(person,uid) FROM request WHERE id = ?",
		"i", row);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = (struct fact_request){.row = sqlite3_column_int64(st, 0),
		.client = sqlite3_column_int64(st, 1),
		.uid = (uid_t)sqlite3_column_int64(st, 3),
		.class = (uint16_t)sqlite3_column_int(st, 5),
		.asked_at = sqlite3_column_int64(st, 8),
		.expires_at = sqlite3_column_int64(st, 9),
		.seconds = sqlite3_column_int64(st, 10),
		.decided = sqlite3_column_type(st, 11) != SQLITE_NULL,
		.person = (uid_t)sqlite3_column_int64(st, 12)};
	facts_text(st, 2, ret->user, sizeof(ret->user));
	facts_text(st, 4, ret->purpose, sizeof(ret->purpose));
	facts_text(st, 6, ret->ticket, sizeof(ret->ticket));
	facts_text(st, 7, ret->reason, sizeof(ret->reason));
	return 0;
}

int facts_request_decide(struct facts *f, int64_t row, bool approve, int64_t until, const char *note, struct actor by,
	int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE request SET decided_at = ?, decided_by = ?, decided_uid = ?, approved = ?, valid_until = ?, note = ?"
		" WHERE id = ? AND decided_at IS NULL",
		"itiiiti", now, by.user, (int64_t)by.uid, (int64_t)approve, until, note, row);
	return r < 0 ? r : changes == 0 ? -EEXIST : 0;
}

int facts_request_revoke(struct facts *f, int64_t row, struct actor by, int64_t now)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT 1 FROM request q WHERE id = ?1 AND approved = 1 AND valid_until > ?2"
		" AND NOT EXISTS (SELECT 1 FROM request_revoked v WHERE v.request = q.id)",
		"ii", row, now);
	r = facts_one(st, r);
	if (r < 0)
		return r;
	return facts_execute(f, NULL,
		"INSERT INTO request_revoked (request,recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?)", "iiti", row,
		now, by.user, (int64_t)by.uid);
}

int facts_requests(struct facts *f, const char *user, int64_t now, bool all, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT q.id AS request, c.client, user, purpose, class AS class_number, ticket, q.reason, asked_at, expires_at,"
		" decided_by, decided_at, valid_until, note,"
		" CASE WHEN decided_at IS NULL AND expires_at <= ?2 THEN 'expired' WHEN decided_at IS NULL THEN 'open'"
		"  WHEN approved = 0 THEN 'denied' WHEN v.request IS NOT NULL THEN 'revoked' WHEN valid_until <= ?2 THEN 'over'"
		"  ELSE 'approved' END AS state"
		" FROM request q JOIN client c ON c.id = q.client LEFT JOIN request_revoked v ON v.request = q.id"
		" WHERE user = ifnull(?1, user) AND (?3 OR (decided_at IS NULL AND expires_at > ?2) OR"
		"  (approved = 1 AND valid_until > ?2 AND v.request IS NULL)) ORDER BY q.id",
		"tii", user, now, (int64_t)all);
}

/* ---- reviews ---- */

int facts_review_open(struct facts *f, const struct fact_session *s, int64_t session, const char *reason, int64_t now,
	int64_t *ret_row)
{
	int r = facts_execute(f, NULL,
		"INSERT INTO review (session,client,user,uid,purpose,reason,opened_at) VALUES (?,?,?,?,?,?,?)", "iititti",
		session, s->client, s->user, (int64_t)s->uid, s->purpose, reason, now);

	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_review_open_act(struct facts *f, int64_t client, struct actor by, const char *what, const char *reason, int64_t now,
	int64_t *ret_row)
{
	int r = facts_execute(f, NULL, "INSERT INTO review (client,user,uid,what,reason,opened_at) VALUES (nullif(?,0),?,?,?,?,?)",
		"ititti", client, by.user, (int64_t)by.uid, what, reason, now);

	if (r == 0)
		*ret_row = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_review_get(struct facts *f, int64_t row, struct fact_review *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, "SELECT id,client,user,uid,closed_at FROM review WHERE id = ?", "i", row);

	r = facts_one(st, r);
	if (r < 0)
		return r;
	*ret = (struct fact_review){.row = sqlite3_column_int64(st, 0),
		.client = sqlite3_column_int64(st, 1),
		.uid = (uid_t)sqlite3_column_int64(st, 3),
		.closed = sqlite3_column_type(st, 4) != SQLITE_NULL};
	facts_text(st, 2, ret->user, sizeof(ret->user));
	return 0;
}

int facts_review_close(struct facts *f, int64_t row, const char *note, struct actor by, int64_t now)
{
	int changes, r;

	r = facts_execute(f, &changes,
		"UPDATE review SET closed_at = ?, closed_by = ?, closed_uid = ?, note = ? WHERE id = ? AND closed_at IS NULL",
		"ititi", now, by.user, (int64_t)by.uid, note, row);
	return r < 0 ? r : changes == 0 ? -EEXIST : 0;
}

int facts_reviews(struct facts *f, bool all, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT v.id AS review, v.what, c.client, v.user, v.purpose, v.session, v.reason, opened_at, s.ended_at, closed_by,"
		" closed_at, note FROM review v LEFT JOIN client c ON c.id = v.client LEFT JOIN session s ON s.id = v.session"
		" WHERE ?1 OR closed_at IS NULL ORDER BY v.id",
		"i", (int64_t)all);
}

int facts_reviews_open(struct facts *f, int64_t *ret_count)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = facts_prepare(f, &st, "SELECT count(*) FROM review WHERE closed_at IS NULL", "");

	if (r == 0)
		r = sql_step(st);
	if (r > 0)
		*ret_count = sqlite3_column_int64(st, 0);
	return r < 0 ? r : 0;
}

int facts_sessions_ended(struct facts *f, const char *client, uid_t uid, json_t **ret)
{
	return facts_rows(f, ret,
		"SELECT s.id AS session, c.client, user, uid, purpose, ticket, rights, begun_at AS since, ended_at, end_reason"
		" FROM session s JOIN client c ON c.id = s.client WHERE ended_at IS NOT NULL"
		" AND c.client = ifnull(?1, c.client) AND (?2 < 0 OR uid = ?2) ORDER BY s.id DESC LIMIT 1000",
		"ti", client, uid == (uid_t)-1 ? (int64_t)-1 : (int64_t)uid);
}
