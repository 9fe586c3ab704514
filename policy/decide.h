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
	const char *organisation;	/* whose people they are, for parties; or NULL */
};

struct decide_engagement {
	const char *service;	/* id of a service line, or "*": all */
	int64_t from, until;	/* until 0: open */
};

struct decide_consent {		/* not withdrawn */
	int64_t id;
	const char *scope;	/* purpose, or node of the tree */
	const char *recipient;	/* NULL: the firm itself */
	int64_t from, until;
};

struct decide_approval {	/* given by another person */
	int64_t id;
	const char *user, *purpose, *by;
	const char *ticket;	/* that the request named: it is approved for no other; NULL: for any */
	uid_t uid;
	uint16_t class;		/* 0: of the purpose; else of that class in sessions for it */
	int64_t from, until;
};

struct decide_facts {
	const char *client, *client_name;	/* NULL client: unknown */
	enum client_state state;
	const char *state_reason;
	int64_t ended_on, destroyed_on;
	int64_t waiting_until;	/* it was given notice of: destroyed on that day; 0: not */
	const char *all_suspended, *user_suspended;	/* reasons; NULL: not */
	const struct decide_grant *grants;	/* of this client, not revoked */
	size_t grants_count;
	const struct decide_engagement *engagements;
	size_t engagements_count;
	const struct decide_consent *consents;
	size_t consents_count;
	const struct decide_approval *approvals;
	size_t approvals_count;
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
	bool emergency;		/* break-glass: without grant, ticket and approval, for who may */
	const char *reason;	/* of an emergency */
	bool presumed;		/* as with a ticket that fits, and with the purpose approved: what would be opened then */
	bool shell;		/* asked by `coffer shell`, which keeps its program inside the share; false: an ordinary mount */
	uint16_t class;		/* of the file that is asked about; 0: none */
};

enum verdict { VERDICT_DENY = 0, VERDICT_ALLOW };	/* forgotten means refused */

#define DECIDE_STEPS_MAX 20
struct decide_step {
	const char *rule;	/* "client", "state", "purpose", "agreement", "service", "basis", "grant", "emergency", "party",
				 * "rights", "classes", "ticket", "approval", "export", "durability", "length" */
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
	const struct policy *rules;	/* that it was made under; the caller's */
	int64_t consent;	/* id of the consent it rests on; 0: none */
	enum policy_export export;	/* what the policy says of copies; FREE when refused */
	enum policy_durability durability;	/* of the records of its accesses */
	int64_t idle;		/* it ends when it is not used for so many seconds; 0: no limit */
	bool all_classes;	/* else only those in `classes` */
	uint16_t classes[POLICY_CLASSES_MAX];
	size_t classes_count;
	char error[32];		/* "NotGranted", "UnknownClient", "UnknownPurpose", "Suspended", "Destroyed", "TicketMissing", ... */
	char message[512], remedy[512];		/* for the person refused */
	struct decide_step steps[DECIDE_STEPS_MAX];
	size_t steps_count;
};

/* *ret is a DENY on any error.  -EINVAL: facts or request are incomplete. */
int decide(const struct policy *p, const struct decide_facts *f, const struct decide_request *rq, int64_t now,
	struct decision *ret);

#endif
