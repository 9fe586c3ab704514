/* What keyd knows and when it came to know it: clients, grants, suspensions, holds, destructions, sessions, and
 * the outbox of the record, in D/keyd/facts.db (SQLite, WAL, synchronous=FULL).
 *
 * Nothing is changed afterwards: a fact is a row that says when it was recorded and by whom; what ends it (a
 * revocation, the lifting of a hold) fills columns that can be set once.  Triggers of the database refuse the
 * rest, so that "who had access on that day" has one answer.  All SQL of coffer-keyd is in facts*.c.
 *
 * `known_at`: only what had been recorded by then counts; FACTS_LATEST for all there is.  Decisions of now use
 * FACTS_LATEST and not the time: a clock that is set back must not bring a revoked grant back.
 *
 * Not thread-safe.  Errors: -ENOENT (no such), -EEXIST (there already), -ENOSPC, -EIO, ... */
#ifndef COFFER_KEYD_FACTS_H
#define COFFER_KEYD_FACTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/ids.h"
#include "common/scope.h"
#include "policy/decide.h"
#include "policy/retention.h"

struct facts;

#define FACTS_LATEST INT64_MAX

struct actor {	/* who did it: a person, or the clock (FACTS_CLOCK) */
	const char *user;
	uid_t uid;
};
#define FACTS_CLOCK ((struct actor){ "the clock", (uid_t)-1 })

int facts_open(const char *path, struct facts **ret);
void facts_close(struct facts *f);
DEFINE_SCOPED(struct facts *, facts_close)

/* A fact and its record are one transaction.  facts_rollback() without one open does nothing. */
int facts_begin(struct facts *f);
int facts_commit(struct facts *f);
void facts_rollback(struct facts *f);
DEFINE_SCOPED(struct facts *, facts_rollback)

/* ---- clients ---- */
#define CLIENT_NAME_MAX 64
#define FACT_TEXT_MAX 512	/* names, reasons, references: longer ones are refused at the door */

#define FACT_CLASSES_MAX 64

struct fact_client {
	int64_t row;
	char client[CLIENT_NAME_MAX];
	char hex[CLIENT_ID_HEX];
	char name[FACT_TEXT_MAX], email[FACT_TEXT_MAX];
	int64_t added_at;
	int64_t ended_on;		/* 0: not (yet) */
	int64_t end_recorded_at;
	char end_recorded_by[FACT_TEXT_MAX];
	char suspended[FACT_TEXT_MAX];	/* the reason; "" when not */
	bool destroying;		/* intended, not finished */
	int64_t destroyed_on;
	bool held;			/* as a whole */
	bool held_partly;		/* a class or a path of it: not destroyed as a whole */
	int64_t waiting;		/* row of the notice that runs; 0: none */
	int64_t notified_at, wait_until;	/* destroyed not before this; shortened if two custodians did */
	struct retention_date dates[POLICY_EVENTS_MAX];	/* named events; the last that was recorded of each */
	size_t dates_count;
	uint16_t classes[FACT_CLASSES_MAX];	/* that were ever given to something of it, but the default */
	size_t classes_count;		/* more than there is room for: FACT_CLASSES_MAX + 1 */
	int64_t postponed_until;	/* by a cancellation: no new notice before; 0: none */
	int64_t transferred_at;		/* a successor has it, a custodian says; 0: not (by the last handing over) */
	int64_t handed_over_at;		/* by the last one; 0: never */
	char successor[65];		/* his transfer key, in hex */
};

int facts_client_add(struct facts *f, const char *client, const char *hex, const char *name, const char *email,
	struct actor by, int64_t now);
int facts_client(struct facts *f, const char *client, int64_t known_at, struct fact_client *ret);	/* -ENOENT */
int facts_client_row(struct facts *f, const char *hex, int64_t *ret);	/* -ENOENT */
/* What a decision needs of it: without dates, classes and what else retention asks for. */
int facts_client_brief(struct facts *f, const char *client, int64_t known_at, struct fact_client *ret);
int facts_client_by_row(struct facts *f, int64_t row, struct fact_client *ret);	/* as it is now; -ENOENT */
int facts_clients_count(struct facts *f, int64_t *ret);	/* destroyed ones, too */
/* All of them, by name; *ret is malloc'd. */
int facts_clients(struct facts *f, int64_t known_at, struct fact_client **ret, size_t *ret_n);
int facts_client_end(struct facts *f, int64_t client, int64_t on, struct actor by, int64_t now);
int facts_suspend(struct facts *f, int64_t client, const char *reason, struct actor by, int64_t now);	/* -EEXIST */
int facts_resume(struct facts *f, int64_t client, const char *reason, struct actor by, int64_t now);	/* -ENOENT */

enum client_state facts_client_state(const struct fact_client *c, int64_t now);
const char *facts_client_state_name(const struct fact_client *c, int64_t now);

/* Handed over to a successor; the last one counts. */
int facts_transfer_add(struct facts *f, int64_t client, const char *successor, const char *sealed_hash, struct actor by,
	int64_t now);
/* He has it.  0 also when that is known; -ENOENT: never handed over. */
int facts_transfer_finish(struct facts *f, int64_t client, struct actor by, int64_t now);
/* A custodian says that the successor has what was handed over last, and asks another to confirm it. */
int facts_transfer_ask(struct facts *f, int64_t client, struct actor by, int64_t now);
struct fact_transfer_ask {
	int64_t asked_at;
	uid_t asked_uid;
	char asked_by[FACT_TEXT_MAX];
};
int facts_transfer_asked(struct facts *f, int64_t client, struct fact_transfer_ask *ret);	/* the last; -ENOENT */
int facts_transfer_is_old(struct facts *f, int64_t client, bool *ret);	/* there were sessions since */
/* {key, handed_over_at, handed_over_by, asked_by, asked_at, confirmed_by, confirmed_at} of the last handing over. */
int facts_transfer_row(struct facts *f, int64_t client, json_t **ret);	/* -ENOENT */

/* ---- dates of named events: the last one recorded counts, 0 takes it back ---- */
int facts_event_set(struct facts *f, int64_t client, const char *event, int64_t on, struct actor by, int64_t now);
int facts_events(struct facts *f, const char *client, json_t **ret);	/* rows of EventList, oldest first; NULL: of all */
/* Of one client, into dates and classes of *ret (facts_client and facts_clients do it). */
int facts_client_dates(struct facts *f, int64_t known_at, struct fact_client *ret);

/* ---- holds ---- */
int facts_hold_place(struct facts *f, int64_t client, const char *matter, const char *reason, struct actor by,
	int64_t now, int64_t *ret_hold);
int facts_hold_lift(struct facts *f, int64_t hold, const char *reason, struct actor by, int64_t now);	/* -ENOENT */
/* Name of the client that the hold is on. */
int facts_hold_client(struct facts *f, int64_t hold, char client[CLIENT_NAME_MAX]);
int facts_holds(struct facts *f, const char *client, json_t **ret);	/* rows of HoldList; NULL: of all */

/* ---- grants ---- */
struct fact_grant {
	const char *subject;
	bool is_group;
	uid_t uid;
	const char *purpose;
	enum rights rights;
	enum party party;
	const char *reference;	/* or NULL */
	const char *organisation;	/* whose people they are; or NULL */
	int64_t from, until;
};

int facts_grant_add(struct facts *f, int64_t client, const struct fact_grant *g, struct actor by, int64_t now,
	int64_t *ret_grant);
/* Whether there is a live one that gives just that, from when on is left out. */
int facts_grant_exists(struct facts *f, int64_t client, const struct fact_grant *g, int64_t now, bool *ret);
/* All live grants of that subject (purpose NULL: for any); *ret_count of them. */
int facts_grant_revoke(struct facts *f, int64_t client, const char *subject, bool is_group, const char *purpose,
	struct actor by, int64_t now, int *ret_count);
/* Rows of Access.  `client` may be NULL.  With at = FACTS_LATEST:
 * what is not revoked and not over at `now`; else what was in force at that moment. */
int facts_access(struct facts *f, const char *client, int64_t at, int64_t now, json_t **ret);

/* Rows of Access for one user, by his name and uid, and his groups by their names: what is not revoked and not over. */
int facts_access_of(struct facts *f, const char *user, uid_t uid, const char *const *groups, size_t groups_count, int64_t now,
	json_t **ret);

/* What decide() needs of one client and user, and the strings it borrows. */
struct facts_view {
	bool known;
	struct fact_client client;
	char all_suspended[FACT_TEXT_MAX], user_suspended[FACT_TEXT_MAX];
	struct decide_grant *grants;
	size_t grants_count;
	struct decide_engagement *engagements;
	size_t engagements_count;
	struct decide_consent *consents;
	size_t consents_count;
	struct decide_approval *approvals;	/* of the user */
	size_t approvals_count;
};
/* 0 also for an unknown client (known = false). */
int facts_view(struct facts *f, const char *client, const char *user, int64_t known_at, struct facts_view *ret);
void facts_view_done(struct facts_view *v);
void facts_view_facts(const struct facts_view *v, int64_t now, struct decide_facts *ret);

/* ---- sessions ---- */
struct fact_session {
	int64_t client;
	const char *user;
	uid_t uid;
	const char *purpose, *ticket, *rights;
	int64_t grant, until;
};
int facts_session_begin(struct facts *f, const struct fact_session *s, int64_t now, int64_t *ret_session);
int facts_session_end(struct facts *f, int64_t session, const char *reason, int64_t now); /* again: 0, the first stays */
int facts_sessions_end_all(struct facts *f, const char *reason, int64_t now);	/* what a crash left */
int facts_had_session(struct facts *f, const char *hex, uid_t uid, bool *ret);

/* ---- destruction ---- */
struct fact_destruction {
	int64_t row, client;
	int64_t intent_at, due, generation;
	char rule[FACT_TEXT_MAX], source[FACT_TEXT_MAX];
};
/* Looked up in the caller's transaction: -EBUSY: there is a live hold; -EPERM: no notice was given, or its
 * waiting is not over. */
int facts_destruction_intend(struct facts *f, const struct fact_destruction *d, int64_t now, int64_t *ret_row);
int facts_destruction_finish(struct facts *f, int64_t row, bool destroyed, const char *certificate,
	const char *signature, int64_t now);
/* Not finished; *ret is malloc'd. */
int facts_destructions_pending(struct facts *f, struct fact_destruction **ret, size_t *ret_n);
/* {certificate (text), signature}.  -ENOENT. */
int facts_certificate(struct facts *f, int64_t client, json_t **ret);

/* ---- notices (facts_expiry.c): due, notice, waiting, end.  One at a time runs for a client as a whole, and for each of
 * its classes ---- */
struct fact_notice {
	int64_t client, due, wait_until;
	uint16_t class, before;	/* one class (facts_life.h), what was made before that day; 0: the whole client */
	char rule[FACT_TEXT_MAX], source[FACT_TEXT_MAX];
};
enum notice_end { NOTICE_CANCELLED = 0, NOTICE_HELD, NOTICE_NOT_DUE, NOTICE_DESTROYED };

/* -EEXIST: one runs already. */
int facts_notice_begin(struct facts *f, const struct fact_notice *n, int64_t now, int64_t *ret_row);
/* Of the client as a whole.  0 also when none runs.  `again_at`: no other notice before; 0: at once. */
int facts_notice_end(struct facts *f, int64_t client, enum notice_end how, const char *reason, int64_t again_at,
	struct actor by, int64_t now);
/* Asks for an earlier end of the waiting; replaces what was asked and not confirmed. */
int facts_notice_schedule(struct facts *f, int64_t notice, int64_t until, const char *reason, struct actor by,
	int64_t now);
struct fact_schedule {
	int64_t row, until, asked_at;
	uid_t asked_uid;
	char asked_by[FACT_TEXT_MAX], reason[FACT_TEXT_MAX];
};
/* The last that was asked for and is not confirmed: -ENOENT. */
int facts_notice_scheduled(struct facts *f, int64_t notice, struct fact_schedule *ret);
int facts_notice_confirm(struct facts *f, int64_t schedule, struct actor by, int64_t now);
/* Rows {notice, client, due, rule, source, notified_at, wait_until, ended_at, ended_by, outcome, reason, again_at};
 * client NULL: of all. */
int facts_notices(struct facts *f, const char *client, json_t **ret);
/* Rows {until, reason, asked_by, asked_at, confirmed_by, confirmed_at} of one notice. */
int facts_schedules(struct facts *f, int64_t notice, json_t **ret);

/* ---- acts of custodians, and heads of the ledger: for ever ---- */
int facts_act(struct facts *f, const char *kind, const char *detail, struct actor by, int64_t now);
struct fact_head {
	int64_t batch, signed_at;
	char hash[65], signature[129];	/* hex */
};
int facts_head_add(struct facts *f, const struct fact_head *h);
int facts_head_last(struct facts *f, struct fact_head *ret);	/* -ENOENT */

/* ---- the outbox ---- */
int facts_outbox_put(struct facts *f, int64_t now, const json_t *entry);
/* The oldest `limit` entries, each with seq and time. */
int facts_outbox_peek(struct facts *f, unsigned limit, json_t **ret);
int facts_outbox_delivered(struct facts *f, int64_t seq);	/* all up to it */
int facts_outbox_count(struct facts *f, int64_t *ret);

/* ---- small state that does change (the clock's memory); 0 when never set ---- */
#define FACTS_STATE_LEDGER "clock-ledger"	/* newest row of the record when the clock was confirmed */
#define FACTS_STATE_SEALED "sealed"	/* "1": a custodian sealed the keys, so a restart does not open them */
int facts_state_get(struct facts *f, const char *key, char *buf, size_t n);	/* -ENOENT */
int facts_state_set(struct facts *f, const char *key, const char *value);

#endif
