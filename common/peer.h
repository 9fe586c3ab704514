/* Who is at the other end of a socket, and which roles he has.  Groups come from NSS at the
 * time of the question (SO_PEERCRED has no supplementary groups). */
#ifndef COFFER_PEER_H
#define COFFER_PEER_H

#include <stdbool.h>
#include <sys/types.h>

enum role {
	ROLE_NONE = 0,
	ROLE_USER = 1 << 0,		/* everybody who can connect */
	ROLE_ADMIN = 1 << 1,		/* group coffer-admin */
	ROLE_CUSTODIAN = 1 << 2,	/* group coffer-custodian */
	ROLE_AUDITOR = 1 << 3,		/* group coffer-auditor */
	ROLE_OWNER = 1 << 4,		/* owner of the state directory; in the embedded default he has all roles */
	ROLE_KEYD = 1 << 5,		/* the inherited socket from coffer-keyd */
	ROLE_FSD = 1 << 6,		/* the inherited socket from coffer-fsd */
};

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	unsigned roles;
	char user[256];		/* from NSS, or the uid in digits */
	uid_t person;		/* of root: who logged in and became root (sudo, su), as far as the kernel knows; else the uid.  Says only
				 * who is another person, never what somebody may */
};

/* From SO_PEERCRED of a connected Unix socket.  `state_dir_owner`: the uid that owns D. */
int peer_from_socket(int fd, uid_t state_dir_owner, struct peer *ret);
int peer_from_uid(uid_t uid, uid_t state_dir_owner, struct peer *ret);

/* All groups of `user` by NSS, primary included.  *ret is malloc'd. */
int peer_groups(const char *user, gid_t primary, gid_t **ret, int *ret_n);

#endif
