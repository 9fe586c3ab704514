/* The sessions that are open now: who, which client, what for, until when.  The database has their history. */
#ifndef COFFER_KEYD_SESSION_H
#define COFFER_KEYD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "keyd/children.h"
#include "policy/decide.h"

struct keyd;

#define SESSION_TOKEN_BYTES 32
#define SESSION_TOKEN_SECONDS 60	/* to be used once within */

struct session {
	struct session *next;
	uint64_t id;
	int64_t client_row;
	char client[CLIENT_NAME_MAX], hex[CLIENT_ID_HEX];
	char user[256];
	uid_t uid;
	gid_t gid;
	char *purpose, *ticket, *mountpoint;	/* the last two may be NULL */
	enum rights rights;
	int64_t since, until;	/* until 0: no end of its own */
	bool attached;
	unsigned connection;	/* of its mount, as fsd says; 0: unknown */
	bool breaker_due;	/* to be handed down */
	bool shared;		/* a mount for many users */
	bool exclusive;		/* no other mount of the client beside it */
	bool shell;		/* `coffer shell` asked for it */
	enum policy_durability durability;	/* of the records of its accesses */
	enum policy_export export;	/* what the policy says of copies outside the share */
	uint64_t member_of;	/* 0, or the shared mount that he uses: this session has none of its own */
	int64_t alarmed_class;	/* retain.h: the last alarm was of it ... */
	uint64_t alarmed_at;	/* ... at this tick */
	uint64_t expected_at;	/* tick: for the token's minute */
	struct worker *worker;
	const struct policy *rules;	/* that it was last decided under: rules.h keeps it */
	char *emergency;		/* its reason; NULL: an ordinary session */
	int64_t idle;			/* it ends when it is not used for so many seconds; 0: no limit */
	bool all_classes;		/* else it opens only these */
	uint16_t *classes;
	size_t classes_count;
};

/* What the decision gives it: end, rules, classes.  -ENOMEM. */
int session_take_decision(struct session *s, const struct decision *d);
/* It begins in the facts, within the caller's transaction, by the grant of the decision: s->id. */
int session_put(struct keyd *k, struct session *s, const struct decision *d);
/* "shell": true, "export": "recorded" or "no", "durability": "sync", where there is something to say. */
void session_put_export(const struct session *s, json_t *o);
/* The members "classes" (null: all) and "uncached" of a message to its worker. */
void session_put_classes(const struct session *s, json_t *o);

struct session *session_find(const struct keyd *k, uint64_t id);
/* Why no other mount of that client (if it is to be `exclusive`) can be made now: one that is there; or NULL. */
const struct session *session_in_the_way(const struct keyd *k, const char *client, bool exclusive);
/* Takes s into the table; it belongs to the table then. */
void session_enter(struct keyd *k, struct session *s, struct worker *w);
void session_free(struct session *s);

/* All ends below: of many sessions at once, however many workers have them.
 * Ends it at the worker, in the facts and in the record.  When this returns nothing of it is readable: the worker
 * said so, or is dead.  `error`: what programs get, EKEYREVOKED or EKEYEXPIRED. */
void session_end(struct keyd *k, uint64_t id, const char *reason, int error, struct actor by);
/* It ended by itself (unmount, worker): facts only. */
void session_gone(struct keyd *k, uint64_t id, const char *reason);
void sessions_of_worker_break(struct keyd *k, const struct worker *w);	/* ends their connections, come what may */
void sessions_of_worker_gone(struct keyd *k, struct worker *w, const char *reason);

/* All sessions of `client` (NULL: of all); returns how many. */
int sessions_end(struct keyd *k, const char *client, const char *reason, int error, struct actor by);
/* Decides anew for each session of `client` (NULL: all) and ends those that do not stand any more. */
int sessions_recheck(struct keyd *k, const char *client, const char *reason, int error, struct actor by);
/* Sessions of `user` (of any client) alone; else as sessions_recheck. */
int sessions_recheck_user(struct keyd *k, const char *user, const char *reason, int error, struct actor by);
/* Whether it would stand under those rules; *ret: the decision.  A question: nothing changes. */
bool session_would_stand(struct keyd *k, const struct session *s, const struct policy *rules, struct decision *ret);
/* The rules for its client changed: it ends, or is under the new ones. */
void sessions_rules_changed(struct keyd *k, uint64_t id);
/* A label of a file or directory changed: those end that may not open the new class, since they may have it open. */
int sessions_class_changed(struct keyd *k, const char *client, uint16_t class, struct actor by);
/* Ends what is past its time, and what was never mounted. */
void sessions_tick(struct keyd *k);

/* Of this user, mounted or asked for; without those in which he is a member of a shared mount. */
size_t sessions_of(const struct keyd *k, uid_t uid);
/* Of this user: asked for, and nothing mounted yet. */
size_t sessions_unattached(const struct keyd *k, uid_t uid);
void sessions_attached(struct keyd *k, uint64_t id, const char *mountpoint, unsigned connection);
size_t sessions_count(const struct keyd *k);
/* Rows of the Sessions method; uid (uid_t)-1: of everybody. */
json_t *sessions_json(const struct keyd *k, uid_t uid);

#endif
