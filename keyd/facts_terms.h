/* What decides beside grants: engagements, consents, agreements, policy versions, suspensions of users and of all, requests
 * for approval, and emergencies that somebody must look at afterwards.  As in facts.h nothing is changed afterwards. */
#ifndef COFFER_KEYD_FACTS_TERMS_H
#define COFFER_KEYD_FACTS_TERMS_H

#include "keyd/facts.h"

/* ---- engagements: which service lines a client has engaged the firm for ("*": all) ---- */
int facts_engagement_begin(struct facts *f, int64_t client, const char *service, int64_t from, int64_t until, struct actor by,
	int64_t now);
/* All that run for that line; *ret_count of them. */
int facts_engagement_end(struct facts *f, int64_t client, const char *service, int64_t on, struct actor by, int64_t now,
	int *ret_count);
int facts_engagements(struct facts *f, const char *client, json_t **ret);	/* NULL: of all */

/* ---- consents ---- */
struct fact_consent {
	int64_t client;
	const char *scope;	/* purpose or node */
	const char *recipient;	/* NULL: the firm itself */
	const char *giver;	/* who consented for the client */
	const char *reason;	/* why it is shared, as the client was told; or NULL */
	const char *evidence;	/* BLAKE2b-256 of the document, hex */
	const char *document;	/* its name */
	int64_t from, until;	/* until 0: open */
};
int facts_consent_give(struct facts *f, const struct fact_consent *c, struct actor by, int64_t now, int64_t *ret_consent);
/* -ENOENT: there is none with that number that is not withdrawn. */
int facts_consent_withdraw(struct facts *f, int64_t client, int64_t consent, const char *reason, struct actor by, int64_t now);
int facts_consents(struct facts *f, const char *client, json_t **ret);

/* ---- texts that hold from a date on: the policy's versions, agreements ---- */
struct fact_text {
	int64_t row;
	char name[65], version[65], hash[65], origin[16];
	int64_t effective, until;
	int64_t recorded_at;
	char *text;	/* malloc'd */
};
static inline void fact_text_done(struct fact_text *t)
{
	free(t->text);
}

int facts_policy_add(struct facts *f, const struct fact_text *t, struct actor by, int64_t now, int64_t *ret_row);
/* The one in force at `at`: what begins last by then; a version begins on its effective date, but never before it was
 * recorded.  -ENOENT: none was recorded by then. */
int facts_policy_at(struct facts *f, int64_t known_at, int64_t at, int64_t *ret_row);
int facts_policy_last(struct facts *f, struct fact_text *ret);	/* recorded last; -ENOENT */
int facts_policy_get(struct facts *f, int64_t row, struct fact_text *ret);
int facts_policies(struct facts *f, json_t **ret);

int facts_agreement_add(struct facts *f, int64_t client, const struct fact_text *t, struct actor by, int64_t now,
	int64_t *ret_row);
int facts_agreement_end(struct facts *f, int64_t client, struct actor by, int64_t now);	/* -ENOENT: none is in force or to come */
/* *ret_row 0: none. */
int facts_agreement_at(struct facts *f, int64_t client, int64_t known_at, int64_t at, int64_t *ret_row);
int facts_agreement_get(struct facts *f, int64_t row, struct fact_text *ret);
int facts_agreements(struct facts *f, const char *client, json_t **ret);

/* ---- suspensions of a user, or (user NULL) of all ---- */
int facts_suspend_user(struct facts *f, const char *user, const char *reason, struct actor by, int64_t now);	/* -EEXIST */
int facts_resume_user(struct facts *f, const char *user, const char *reason, struct actor by, int64_t now);	/* -ENOENT */
/* "" when not. */
int facts_user_suspended(struct facts *f, const char *user, int64_t known_at, char *buf, size_t n);

/* Who suspended a client, or (client 0) all, and it was not lifted.  -ENOENT. */
struct fact_person {
	char user[256];
	uid_t uid;
};
int facts_suspended_by(struct facts *f, int64_t client, struct fact_person *ret);

/* ---- requests: a second person approves ---- */
struct fact_request {
	int64_t row, client;
	char user[256], purpose[65], ticket[FACT_TEXT_MAX], reason[FACT_TEXT_MAX];
	uid_t uid, person;	/* person: who he was before he became root (peer.h) */
	uint16_t class;		/* 0: for the purpose */
	int64_t asked_at, expires_at, seconds;	/* it holds for so long once approved */
	bool decided;
};
int facts_request_add(struct facts *f, const struct fact_request *q, int64_t now, int64_t *ret_row);
int facts_request_get(struct facts *f, int64_t row, struct fact_request *ret);	/* -ENOENT */
int facts_request_decide(struct facts *f, int64_t row, bool approve, int64_t until, const char *note, struct actor by,
	int64_t now);	/* -EEXIST: decided already */
/* Takes an approval back: -ENOENT when it does not hold any more. */
int facts_request_revoke(struct facts *f, int64_t row, struct actor by, int64_t now);
int facts_requests(struct facts *f, const char *user, int64_t now, bool all, json_t **ret);

/* ---- reviews ---- */
struct fact_review {
	int64_t row, client;	/* client 0: of none */
	char user[256];
	uid_t uid;
	bool closed;
};
int facts_review_open(struct facts *f, const struct fact_session *s, int64_t session, const char *reason, int64_t now,
	int64_t *ret_row);
/* Of an act that gave its doer more; client 0: of none. */
int facts_review_open_act(struct facts *f, int64_t client, struct actor by, const char *what, const char *reason, int64_t now,
	int64_t *ret_row);
int facts_review_get(struct facts *f, int64_t row, struct fact_review *ret);	/* -ENOENT */
int facts_review_close(struct facts *f, int64_t row, const char *note, struct actor by, int64_t now);	/* -EEXIST: closed */
int facts_reviews(struct facts *f, bool all, json_t **ret);
int facts_reviews_open(struct facts *f, int64_t *ret_count);

/* Sessions that ended, newest first; uid (uid_t)-1: of everybody. */
int facts_sessions_ended(struct facts *f, const char *client, uid_t uid, json_t **ret);

#endif
