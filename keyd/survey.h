/* Surveys of clients' stores, run by their workers (org.coffer.worker.Survey): one a client at a time, several clients at
 * once, beside everything else; keyd asks for their results from its loop.  On keyd's loop alone.
 *
 * Before a prefix (class, before day) of a client is destroyed:
 *	survey_start(mode "move", {class, before, modified_since?, keep?, keep_ids?, keep_class?}, alone)
 * re-wraps what survives, and its result's `leaves` are those to be punctured singly with the prefix.  It is complete when
 * error is 0, counts.failed is 0 and `moved` is false (always, when alone: no session, no rename); else try again.
 * Days of origin are kept in the files' records.
 *
 * What a file or symlink moves away from stands in the facts (facts_dying_add) before it does: whatever becomes of the
 * survey, its old leaf is destroyed with the client's next destruction, or by itself (keyd/leaves.h). */
#ifndef COFFER_KEYD_SURVEY_H
#define COFFER_KEYD_SURVEY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/facts.h"

struct keyd;
struct worker;

struct survey_result {
	int error;		/* 0; -ENOENT: no such path; -EPIPE: its worker died; -EREMOTEIO: `text` says why; ... */
	const char *text;
	const json_t *counts;	/* as in doc/PROTOCOL.md; NULL on most errors */
	const char *store;	/* where `only` stands in the store; NULL unless error is 0 */
	const uint64_t *leaves;	/* all that was handed out; with the error 0 */
	size_t leaves_n;
	bool moved;		/* something was renamed meanwhile, and may have been missed */
};

/* Something could not be looked at, and may be under any key. */
bool survey_is_incomplete(const struct survey_result *r);

/* What ends one that runs, when it wants the client's store itself. */
enum survey_way {
	SURVEY_STAYS = 0,	/* nothing: what comes is refused as busy */
	SURVEY_YIELDS,		/* what a person asks for: survey_make_way */
	SURVEY_IS_LAST,		/* and what the rules begin by themselves: survey_blocks, survey_reserve */
};

struct survey_spec {
	const char *mode;	/* doc/PROTOCOL.md; "sweep-dead": of a destroyed client */
	json_t *params;		/* the other members of the call's parameters, or NULL; stolen, also on failure */
	const uint64_t *leaves;	/* "check": what is asked about */
	size_t leaves_n;
	int list_fd;		/* "subject": gets a line for each that is found; stays the caller's; 0: none */
	void (*running)(const json_t *counts, void *arg);	/* now and then; or NULL */
	enum survey_way way;	/* who does not: done's error is -ECANCELED */
	bool alone;		/* ends the client's sessions (`why`), and lets none begin until it is done */
	const char *why;
	struct actor by;	/* who ends them; no user: the clock */
	/* Once, never from within survey_start.  May start the next one of that client; still alone until it returns. */
	void (*done)(struct keyd *k, const struct survey_result *r, void *arg);
	void *arg;
};

/* -EBUSY: that client has one already; -ENOTCONN: no coffer-fsd; errors of worker_get; nothing was started then. */
int survey_start(struct keyd *k, const struct fact_client *c, const struct survey_spec *spec);

/* Nobody but who reserved it may begin one of that client, and it has no sessions; counted, so that each releases its own. */
int survey_reserve(struct keyd *k, const char *client);	/* -EBUSY: one runs; -ENOMEM */
void survey_release(struct keyd *k, const char *client);

bool survey_uses(const struct keyd *k, const struct worker *w);
/* Ends one that gives way. */
void survey_make_way(struct keyd *k, const char *client);
bool survey_runs(const struct keyd *k, const char *client);	/* or is reserved */
/* For who is about to begin one by the rules: as survey_runs, and ends one that is last. */
bool survey_blocks(struct keyd *k, const char *client);
bool survey_excludes_sessions(const struct keyd *k, const char *client);
void survey_worker_gone(struct keyd *k, const struct worker *w);

#endif
