/* Grants and sessions: who may, and who did. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "keyd/facts.h"
#include "keyd/facts_sql.h"
#include "keyd/facts_terms.h"

int facts_grant_add(struct facts *f, int64_t client, const struct fact_grant *g, struct actor by, int64_t now,
	int64_t *ret_grant)
{
	int r;

	r = facts_execute(f, NULL,
		"INSERT INTO access "
		"(client,subject,is_group,uid,purpose,rights,party,reference,valid_from,valid_until,"
		"recorded_at,recorded_by,recorded_uid,organisation) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		"itiitiitiiitit", client, g->subject, (int64_t)g->is_group, (int64_t)g->uid, g->purpose,
		(int64_t)g->rights, (int64_t)g->party, g->reference, g->from, g->until, now, by.user,
		(int64_t)by.uid, g->organisation);
	if (r == 0)
		*ret_grant = sqlite3_last_insert_rowid(f->db);
	return r;
}

int facts_grant_exists(struct facts *f, int64_t client, const struct fact_grant *g, int64_t now, bool *ret)
{
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r;

	r = facts_prepare(f, &st,
		"SELECT 1 FROM access WHERE client = ?1 AND subject = ?2 AND is_group = ?3 AND uid = ?4 AND purpose = ?5"
		" AND rights = ?6 AND party = ?7 AND reference IS ?8 AND organisation IS ?9 AND valid_until = ?10"
		" AND revoked_at IS NULL AND (valid_until = 0 OR valid_until > ?11)",
		"itiitiittii", client, g->subject, (int64_t)g->is_group, (int64_t)g->uid, g->purpose, (int64_t)g->rights,
		(int64_t)g->party, g->reference, g->organisation, g->until, now);
	if (r == 0)
		r = sql_step(st);
	if (r < 0)
		return r;
	*ret = r > 0;
	return 0;
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

#define ACCESS_COLUMNS                                                                                       \
	"SELECT a.id AS \"grant\", c.client, subject, is_group AS \"group?\", uid, purpose,"                   \
	" CASE rights WHEN 1 THEN 'r' WHEN 2 THEN 'w' ELSE 'rw' END AS rights,"                              \
	" party AS party_number, reference, organisation, valid_from AS \"from\","                           \
	" nullif(valid_until, 0) AS until, a.recorded_by AS granted_by, a.recorded_at AS granted_at,"        \
	" revoked_by, revoked_at FROM access a JOIN client c ON c.id = a.client "

int facts_access(struct facts *f, const char *client, int64_t at, int64_t now, json_t **ret)
{
	bool latest = at == FACTS_LATEST;

	if (!client)
		return facts_rows(f, ret,
			ACCESS_COLUMNS
			"WHERE a.recorded_at <= ?1 AND (revoked_at IS NULL OR revoked_at > ?1)"
			" AND (valid_until = 0 OR valid_until > ?2) AND (?3 OR valid_from <= ?2) ORDER BY c.client, subject, a.id",
			"iii", at, latest ? now : at, (int64_t)latest);
	return facts_rows(f, ret,
		ACCESS_COLUMNS
		"WHERE c.client = ?1 AND a.recorded_at <= ?2 AND (revoked_at IS NULL OR revoked_at > ?2)"
		" AND (valid_until = 0 OR valid_until > ?3) AND (?4 OR valid_from <= ?3) ORDER BY subject, a.id",
		"tiii", client, at, latest ? now : at, (int64_t)latest);
}

/* Name after name, so that the index by subject serves: grants of all clients are many. */
int facts_access_of(struct facts *f, const char *user, uid_t uid, const char *const *groups, size_t groups_count,
	int64_t now, json_t **ret)
{
	json_t *all = json_array();
	int r = 0;

	for (size_t i = 0; r == 0 && i <= groups_count; i++) {
		json_t *rows = NULL;

		r = facts_rows(f, &rows,
			ACCESS_COLUMNS
			"WHERE subject = ?1 AND is_group = ?2 AND revoked_at IS NULL AND (?2 OR uid = ?3)"
			" AND (valid_until = 0 OR valid_until > ?4) ORDER BY c.client, a.id",
			"tiii", i ? groups[i - 1] : user, (int64_t)(i > 0), (int64_t)uid, now);
		if (r == 0)
			json_array_extend(all, rows);
		json_decref(rows);
	}
	if (r < 0) {
		json_decref(all);
		return r;
	}
	*ret = all;
	return 0;
}

static char *text_or_null(sqlite3_stmt *st, int i)
{
	const char *text = (const char *)sqlite3_column_text(st, i);

	return text ? strdup(text) : NULL;
}

static int grant_from_row(sqlite3_stmt *st, struct decide_grant *g)
{
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
		.reference = text_or_null(st, 9),
		.organisation = text_or_null(st, 10),
	};
	return g->subject && g->purpose ? 0 : -ENOMEM;
}

void facts_view_done(struct facts_view *v)
{
	for (size_t i = 0; i < v->grants_count; i++) {
		free((void *)v->grants[i].subject);
		free((void *)v->grants[i].purpose);
		free((void *)v->grants[i].reference);
		free((void *)v->grants[i].organisation);
	}
	for (size_t i = 0; i < v->engagements_count; i++)
		free((void *)v->engagements[i].service);
	for (size_t i = 0; i < v->consents_count; i++) {
		free((void *)v->consents[i].scope);
		free((void *)v->consents[i].recipient);
	}
	for (size_t i = 0; i < v->approvals_count; i++) {
		free((void *)v->approvals[i].user);
		free((void *)v->approvals[i].purpose);
		free((void *)v->approvals[i].by);
		free((void *)v->approvals[i].ticket);
	}
	free(v->grants);
	free(v->engagements);
	free(v->consents);
	free(v->approvals);
	v->grants = NULL;
	v->engagements = NULL;
	v->consents = NULL;
	v->approvals = NULL;
	v->grants_count = v->engagements_count = v->consents_count = v->approvals_count = 0;
}

/* Room for one more, zeroed; NULL: no memory. */
static void *one_more(void **list, size_t *n, size_t size)
{
	void *more = reallocarray(*list, *n + 1, size);

	if (!more)
		return NULL;
	*list = more;
	return memset((char *)more + (*n)++ * size, 0, size);
}

static int load_grants(struct facts *f, int64_t known_at, struct facts_view *v)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT id,subject,is_group,uid,purpose,rights,party,valid_from,valid_until,reference,organisation FROM access"
		" WHERE client = ?1 AND recorded_at <= ?2 AND (revoked_at IS NULL OR revoked_at > ?2) ORDER BY id",
		"ii", v->client.row, known_at);
	while (r == 0 && (r = sql_step(st)) > 0) {
		struct decide_grant *g = one_more((void **)&v->grants, &v->grants_count, sizeof(*g));

		r = g ? grant_from_row(st, g) : -ENOMEM;
	}
	return r;
}

static int load_engagements(struct facts *f, int64_t known_at, struct facts_view *v)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT service, valid_from, CASE WHEN ended_at <= ?2 THEN ended_on ELSE valid_until END FROM engagement"
		" WHERE client = ?1 AND recorded_at <= ?2 ORDER BY id",
		"ii", v->client.row, known_at);
	while (r == 0 && (r = sql_step(st)) > 0) {
		struct decide_engagement *e = one_more((void **)&v->engagements, &v->engagements_count, sizeof(*e));

		if (!e)
			return -ENOMEM;
		*e = (struct decide_engagement){
			text_or_null(st, 0), sqlite3_column_int64(st, 1), sqlite3_column_int64(st, 2)};
		r = e->service ? 0 : -ENOMEM;
	}
	return r;
}

static int load_consents(struct facts *f, int64_t known_at, struct facts_view *v)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT id,scope,recipient,valid_from,valid_until FROM consent WHERE client = ?1 AND recorded_at <= ?2"
		" AND (withdrawn_at IS NULL OR withdrawn_at > ?2) ORDER BY id",
		"ii", v->client.row, known_at);
	while (r == 0 && (r = sql_step(st)) > 0) {
		struct decide_consent *c = one_more((void **)&v->consents, &v->consents_count, sizeof(*c));

		if (!c)
			return -ENOMEM;
		*c = (struct decide_consent){sqlite3_column_int64(st, 0), text_or_null(st, 1), text_or_null(st, 2),
			sqlite3_column_int64(st, 3), sqlite3_column_int64(st, 4)};
		r = c->scope ? 0 : -ENOMEM;
	}
	return r;
}

static int load_approvals(struct facts *f, const char *user, int64_t known_at, struct facts_view *v)
{
	scoped(sql_resetp) sqlite3_stmt *st = NULL;
	int r;

	r = facts_cached(f, &st,
		"SELECT q.id,user,purpose,decided_by,uid,class,decided_at,valid_until,nullif(ticket,'') FROM request q"
		" LEFT JOIN request_revoked v ON v.request = q.id"
		" WHERE client = ?1 AND user = ?2 AND approved = 1 AND decided_at <= ?3"
		" AND (v.recorded_at IS NULL OR v.recorded_at > ?3) ORDER BY q.id",
		"iti", v->client.row, user, known_at);
	while (r == 0 && (r = sql_step(st)) > 0) {
		struct decide_approval *a = one_more((void **)&v->approvals, &v->approvals_count, sizeof(*a));

		if (!a)
			return -ENOMEM;
		*a = (struct decide_approval){.id = sqlite3_column_int64(st, 0),
			.user = text_or_null(st, 1),
			.purpose = text_or_null(st, 2),
			.by = text_or_null(st, 3),
			.uid = (uid_t)sqlite3_column_int64(st, 4),
			.class = (uint16_t)sqlite3_column_int(st, 5),
			.from = sqlite3_column_int64(st, 6),
			.until = sqlite3_column_int64(st, 7),
			.ticket = text_or_null(st, 8)};
		r = a->user && a->purpose && a->by && (a->ticket || sqlite3_column_type(st, 8) == SQLITE_NULL) ? 0 : -ENOMEM;
	}
	return r;
}

static int load_terms(struct facts *f, const char *user, int64_t known_at, struct facts_view *v)
{
	int r = facts_user_suspended(f, NULL, known_at, v->all_suspended, sizeof(v->all_suspended));

	if (r == 0)
		r = facts_user_suspended(f, user, known_at, v->user_suspended, sizeof(v->user_suspended));
	if (r == 0)
		r = load_grants(f, known_at, v);
	if (r == 0)
		r = load_engagements(f, known_at, v);
	if (r == 0)
		r = load_consents(f, known_at, v);
	if (r == 0)
		r = load_approvals(f, user, known_at, v);
	return r;
}

int facts_view(struct facts *f, const char *client, const char *user, int64_t known_at, struct facts_view *ret)
{
	struct facts_view v = {0};
	int r;

	r = facts_client_brief(f, client, known_at, &v.client);
	if (r == 0)
		r = load_terms(f, user, known_at, &v);
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
	ret->all_suspended = *v->all_suspended ? v->all_suspended : NULL;
	ret->user_suspended = *v->user_suspended ? v->user_suspended : NULL;
	ret->grants = v->grants;
	ret->grants_count = v->grants_count;
	ret->engagements = v->engagements;
	ret->engagements_count = v->engagements_count;
	ret->consents = v->consents;
	ret->consents_count = v->consents_count;
	ret->approvals = v->approvals;
	ret->approvals_count = v->approvals_count;
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
