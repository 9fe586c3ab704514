/* Facts about single leaves: those that are to be destroyed, erasures of paths, classes being set, sweeps to be done. */
#ifndef COFFER_KEYD_FACTS_LEAVES_H
#define COFFER_KEYD_FACTS_LEAVES_H

#include "keyd/facts.h"

/* ---- old leaves of what was re-wrapped: destroyed with the next destruction, after a look whether nobody is under them */
int facts_dying_add(struct facts *f, int64_t client, const uint64_t *leaves, size_t n, int64_t now);
int facts_dying(struct facts *f, int64_t client, uint64_t **ret, size_t *ret_n);	/* malloc'd */
int facts_dying_drop(struct facts *f, int64_t client, const uint64_t *leaves, size_t n);
int facts_dying_drop_all(struct facts *f, int64_t client);
/* The client without a hold that has the oldest one; *ret_since 0: none has any. */
int facts_dying_oldest(struct facts *f, int64_t *ret_client, int64_t *ret_since);

/* ---- a class that is being set: one a client; goes on after a crash */
struct fact_class_set {
	int64_t client, class;
	char store[4096];	/* a path in the store */
};
int facts_class_set_begin(struct facts *f, int64_t client, const char *store, int64_t class, struct actor by, int64_t now);
int facts_class_set_end(struct facts *f, int64_t client);
int facts_class_set_any(struct facts *f, struct fact_class_set *ret);	/* -ENOENT */

/* ---- erasures */
struct fact_erasure {
	int64_t row, client, intent_at, generation;
	uint16_t class;		/* one class before a date; 0: a path */
	int64_t notice;		/* of the class, when the clock does it; 0: somebody asked */
	char reason[FACT_TEXT_MAX], by[FACT_TEXT_MAX];
	char *store;	/* malloc'd, as the next two */
	char *counts;	/* JSON */
	char *leaves;	/* 16 hex digits each */
};
void fact_erasure_done(struct fact_erasure *e);
/* -EBUSY: there is a live hold on the client as a whole or on that class; -EPERM: the notice's waiting is not over, or it
 * does not run any more (looked up in the caller's transaction). */
int facts_erasure_intend(struct facts *f, const struct fact_erasure *e, struct actor by, int64_t now, int64_t *ret_row);
/* Ends the notice with it. */
int facts_erasure_finish(struct facts *f, int64_t row, bool destroyed, const char *certificate, const char *signature,
	int64_t now);
/* The oldest one whose row is behind `after`; -ENOENT. */
int facts_erasure_pending(struct facts *f, int64_t after, struct fact_erasure *ret);

/* ---- sweeps that are due */
int facts_sweep_due(struct facts *f, int64_t client, int64_t now);
int facts_sweep_done(struct facts *f, int64_t client);
bool facts_sweep_is_due(struct facts *f, int64_t client);
int facts_sweep_any(struct facts *f, int64_t after, int64_t *ret_client);	/* the next row behind `after`; -ENOENT */

/* ---- erasures that two custodians decide: of a place in the store, or of a sealed label ---- */
struct fact_erase_ask {
	int64_t row, asked_at;
	uid_t asked_uid;
	char asked_by[FACT_TEXT_MAX];
};
int facts_erase_ask(struct facts *f, int64_t client, const char *target, const char *reason, struct actor by, int64_t now);
/* The last, not confirmed, asked after `since`.  -ENOENT. */
int facts_erase_asked(struct facts *f, int64_t client, const char *target, int64_t since, struct fact_erase_ask *ret);
/* Rows {client, reason, asked_by, asked_at} of all that are not confirmed, asked after `since`; client: NULL: of all. */
int facts_erase_waiting(struct facts *f, const char *client, int64_t since, json_t **ret);
int facts_erase_confirm(struct facts *f, int64_t ask, struct actor by, int64_t now);

#endif
