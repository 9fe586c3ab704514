/* Grants and sessions: who may, and who did. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "keyd/facts.h"
#include "keyd/facts_sql.h"

int facts_grant_add(struct facts *f, int64_t client, const struct fact_grant *g, struct actor by, int64_t now,
	int64_t *ret_grant)
{
	int r;

	r = facts_execute(f, NULL,
		"INSERT INTO access "
		"(client,subject,is_group,uid,purpose,rights,party,reference,valid_from,valid_until,"
		"recorded_at,recorded_by,recorded_uid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
		"itiitiitiiiti", client, g->subject, (int64_t)g->is_group, (int64_t)g->uid, g->purpose,
		(int64_t)g->rights, (int64_t)g->party, g->reference, g->from, g->until, now, by.user,
		(int64_t)by.uid);
	if (r == 0)
		*ret_grant = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_grant_revoke(struct facts *f, int64_t client, const char *subject, bool is_group,
	const char *purpose, struct actor by, int64_t now, int *ret_count)
{
	return facts_execute(f, ret_count,
		"UPDATE access SET revoked_at = ?, revoked_by = ? WHERE client = ? AND subject = ? AND "
		"is_group = ?"
		" AND purpose = ifnull(?6, purpose) AND revoked_at IS NULL",
		"ititit", now, by.user, client, subject, (int64_t)is_group, purpose);
}

int facts_access(struct facts *f, const char *client, int64_t at, int64_t now, json_t **ret)
{
	bool latest = at == FACTS_LATEST;

	return facts_rows(f, ret,
		"SELECT a.id AS \"grant\", c.client, subject, is_group AS \"group?\", uid, purpose,"
		" CASE rights WHEN 1 THEN 'r' WHEN 2 THEN 'w' ELSE 'rw' END AS rights,"
		" party AS party_number, reference, valid_from AS \"from\", nullif(valid_until, 0) AS until,"
		" a.recorded_by AS granted_by, a.recorded_at AS granted_at, revoked_by, revoked_at"
		" FROM access a JOIN client c ON c.id = a.client WHERE c.client = ifnull(?1, c.client)"
		" AND a.recorded_at <= ?2 AND (revoked_at IS NULL OR revoked_at > ?2)"
		" AND (valid_until = 0 OR valid_until > ?3) AND (?4 OR valid_from <= ?3)"
		" ORDER BY c.client, subject, a.id",
		"tiii", client, at, latest ? now : at, (int64_t)latest);
}

static int grant_from_row(sqlite3_stmt *st, struct decide_grant *g)
{
	const char *reference = (const char *)sqlite3_column_text(st, 9);

	*g = (struct decide_grant){
		.id = sqlite3_column_int64(st, 0),
		.subject = strdup((const char *)sqlite3_column_text(st, 1)),
		.is_group = sqlite3_column_int(st, 2),
		.uid = (uid_t)sqlite3_column_int64(st, 3),
		.purpose = strdup((const char *)sqlite3_column_text(st, 4)),
		.rights = (enum rights)sqlite3_column_int(st, 5),
		.party = (enum party)sqlite3_column_int(st, 6),
		.from = sqlite3_column_int64(st, 7),
		.until = sqlite3_column_int64(st, 8),
		.reference = reference ? strdup(reference) : NULL,
	};
	return g->subject && g->purpose && (!reference || g->reference) ? 0 : -ENOMEM;
}

void facts_view_done(struct facts_view *v)
{
	for (size_t i = 0; i < v->grants_count; i++) {
		free((void *)v->grants[i].subject);
		free((void *)v->grants[i].purpose);
		free((void *)v->grants[i].reference);
	}
	free(v->grants);
	v->grants = NULL;
	v->grants_count = 0;
}

static int load_grants(struct facts *f, int64_t known_at, struct facts_view *v)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT id,subject,is_group,uid,purpose,rights,party,valid_from,valid_until,reference FROM "
		"access"
		" WHERE client = ?1 AND recorded_at <= ?2 AND (revoked_at IS NULL OR revoked_at > ?2) ORDER "
		"BY id",
		"ii", v->client.row, known_at);
	if (r < 0)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct decide_grant *more = reallocarray(v->grants, v->grants_count + 1, sizeof(*more));

		if (!more)
			return -ENOMEM;
		v->grants = more;
		r = grant_from_row(st, &v->grants[v->grants_count++]);
		if (r < 0)
			return r;
	}
	return r;
}

int facts_view(struct facts *f, const char *client, int64_t known_at, struct facts_view *ret)
{
	struct facts_view v = {0};
	int r;

	r = facts_client(f, client, known_at, &v.client);
	if (r == 0)
		r = load_grants(f, known_at, &v);
	else if (r == -ENOENT) {
		*ret = v;
		return 0;
	}
	if (r < 0) {
		facts_view_done(&v);
		return r;
	}
	v.known = true;
	*ret = v;
	return 0;
}

void facts_view_facts(const struct facts_view *v, int64_t now, struct decide_facts *ret)
{
	*ret = (struct decide_facts){0};
	if (!v->known)
		return;
	ret->client = v->client.client;
	ret->client_name = v->client.name;
	ret->state = facts_client_state(&v->client, now);
	ret->state_reason = *v->client.suspended ? v->client.suspended : NULL;
	ret->ended_on = v->client.ended_on;
	ret->destroyed_on = v->client.destroyed_on;
	ret->waiting_until = v->client.wait_until;
	ret->grants = v->grants;
	ret->grants_count = v->grants_count;
}

int facts_session_begin(struct facts *f, const struct fact_session *s, int64_t now, int64_t *ret_session)
{
	int r;

	r = facts_execute(f, NULL,
		"INSERT INTO session (client,user,uid,purpose,ticket,rights,access,valid_until,begun_at)"
		" VALUES (?,?,?,?,?,?,?,?,?)",
		"itittt"
		"iii",
		s->client, s->user, (int64_t)s->uid, s->purpose, s->ticket, s->rights, s->grant, s->until,
		now);
	if (r == 0)
		*ret_session = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_session_end(struct facts *f, int64_t session, const char *reason, int64_t now)
{
	return facts_execute(f, NULL,
		"UPDATE session SET ended_at = ?, end_reason = ? WHERE id = ? AND ended_at IS NULL", "iti",
		now, reason, session);
}

int facts_sessions_end_all(struct facts *f, const char *reason, int64_t now)
{
	return facts_execute(f, NULL,
		"UPDATE session SET ended_at = ?, end_reason = ? WHERE ended_at IS NULL", "it", now, reason);
}

int facts_had_session(struct facts *f, const char *hex, uid_t uid, bool *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	*ret = false;
	r = facts_prepare(f, &st,
		"SELECT 1 FROM session s JOIN client c ON c.id = s.client WHERE c.client_id = ? AND s.uid = "
		"? LIMIT 1",
		"ti", hex, (int64_t)uid);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = r > 0;
	return 0;
}
