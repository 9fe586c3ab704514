/* Puts facts, groups and a request together for decide(). */
#ifndef COFFER_KEYD_DECISION_H
#define COFFER_KEYD_DECISION_H

#include <sys/types.h>

#include "keyd/keyd.h"
#include "policy/decide.h"

struct asked {
	const char *user;
	uid_t uid;
	const char *client, *purpose, *ticket;
	enum rights rights;
	const char *emergency;	/* its reason; NULL: none */
	bool presumed;		/* as with a ticket that fits, and approved */
	bool shell;		/* `coffer shell` asks; false: an ordinary mount */
	uint16_t class;		/* of the file that is asked about; 0: none */
};

/* The groups that NSS gives a user now, asked once for many decisions. */
struct decision_groups {
	char **name;
	size_t n;
};
/* A name that NSS does not know as this uid (any more) is in no group. */
int decision_groups(const char *user, uid_t uid, struct decision_groups *ret);
void decision_groups_done(struct decision_groups *g);
int decision_make_with(struct keyd *k, const struct asked *a, const struct decision_groups *g, int64_t known_at, int64_t now,
	struct decision *ret);

/* With the groups that NSS gives the user now.  `known_at` as in facts.h.  Any error: *ret is a refusal. */
int decision_make(struct keyd *k, const struct asked *a, int64_t known_at, int64_t now, struct decision *ret);
/* Now, under those rules instead of the ones in force. */
int decision_make_under(struct keyd *k, const struct asked *a, const struct decision_groups *g, const struct policy *rules,
	int64_t now, struct decision *ret);
/* From facts that were read before: for many decisions about one client. */
int decision_make_view(const struct facts_view *view, const struct asked *a, const struct decision_groups *g,
	const struct policy *rules, int64_t now, struct decision *ret);
/* Of a shared mount: as if somebody asked who has every grant and approval; what is left is what holds for all. */
int decision_make_shared(struct keyd *k, const struct asked *a, int64_t now, struct decision *ret);
/* What a record says of it: grant, rights, end, rules, message, steps. */
json_t *decision_detail(const struct decision *d);
json_t *decision_steps(const struct decision *d);	/* [{rule, passed, text, source}] */

/* By NSS.  -ENOENT: no such user / group. */
int nss_user(const char *name, uid_t *ret_uid, gid_t *ret_gid);
int nss_group(const char *name, gid_t *ret_gid);
bool nss_is_member(const char *user, const char *group);

#endif
