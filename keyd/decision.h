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
};

/* With the groups that NSS gives the user now.  `known_at` as in facts.h.  Any error: *ret is a refusal. */
int decision_make(struct keyd *k, const struct asked *a, int64_t known_at, int64_t now, struct decision *ret);
json_t *decision_steps(const struct decision *d);	/* [{rule, passed, text, source}] */

/* By NSS.  -ENOENT: no such user / group. */
int nss_user(const char *name, uid_t *ret_uid, gid_t *ret_gid);
int nss_group(const char *name, gid_t *ret_gid);
bool nss_is_member(const char *user, const char *group);

#endif
