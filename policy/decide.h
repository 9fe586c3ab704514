/* May this user open this client for this purpose, now?  A pure function of facts, request and time: no I/O,
 * no clock, no global state.  The steps are DESIGN's order; the first refusal decides and all steps up to it
 * are in the answer, each with the sentence of the document it rests on (`coffer why` prints them). */
#ifndef COFFER_DECIDE_H
#define COFFER_DECIDE_H

#include <sys/types.h>

#include "policy/policy.h"

enum client_state { CLIENT_ACTIVE = 0, CLIENT_SUSPENDED, CLIENT_ENDED, CLIENT_DESTROYED };

struct decide_grant {		/* strings are borrowed from the caller */
	int64_t id;
	const char *subject;	/* user or group name */
	bool is_group;
	uid_t uid;		/* a user's uid when granted: name AND uid must match */
	const char *purpose;
	enum rights rights;
	enum party party;
	int64_t from, until;	/* [from, until); until 0: open */
	const char *reference;	/* or NULL */
};

struct decide_facts {
	const char *client, *client_name;	/* NULL client: unknown */
	enum client_state state;
	const char *state_reason;
	int64_t ended_on, destroyed_on;
	int64_t waiting_until;	/* it was given notice of: destroyed on that day; 0: not */
	const struct decide_grant *grants;	/* of this client, not revoked */
	size_t grants_count;
};

struct decide_request {
	const char *client;	/* as it was asked for, to say what is unknown; or NULL */
	const char *user;
	uid_t uid;
	const char *const *groups;	/* names */
	size_t groups_count;
	const char *purpose;
	enum rights rights;	/* wanted; RIGHTS_NONE: as many as there are */
	const char *ticket;	/* or NULL */
};

enum verdict { VERDICT_DENY = 0, VERDICT_ALLOW };	/* forgotten means refused */

#define DECIDE_STEPS_MAX 16
struct decide_step {
	const char *rule;	/* "client", "state", "purpose", "basis", "grant", "party", "rights", "ticket" */
	bool passed;
	char text[384];		/* what was looked at and found */
	char source[192];	/* the heading of the policy it rests on */
};

struct decision {
	enum verdict verdict;
	enum rights rights;	/* granted; NONE when denied */
	enum party party;
	int64_t grant;		/* id of the grant that carries it */
	int64_t until;		/* when it ends by itself: grant's end, session length, client's end; 0: never */
	char error[32];		/* "NotGranted", "UnknownClient", "UnknownPurpose", "Suspended", "Destroyed", "TicketMissing", ... */
	char message[512], remedy[512];		/* for the person refused */
	struct decide_step steps[DECIDE_STEPS_MAX];
	size_t steps_count;
};

/* *ret is a DENY on any error.  -EINVAL: facts or request are incomplete. */
int decide(const struct policy *p, const struct decide_facts *f, const struct decide_request *rq, int64_t now,
	struct decision *ret);

#endif
