#include "common/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/scope.h"

#define NSS_BUFFER_MAX (1u << 20) /* a group of thousands of members */
#define GROUPS_MAX 65536          /* NGROUPS_MAX of the kernel */

static const struct {
	const char *group;
	enum role role;
} role_groups[] = {
	{"coffer-admin", ROLE_ADMIN},
	{"coffer-custodian", ROLE_CUSTODIAN},
	{"coffer-auditor", ROLE_AUDITOR},
};

/* -ENOENT: no such group. */
static int group_id(const char *name, gid_t *ret)
{
	for (size_t n = 4096; n <= NSS_BUFFER_MAX; n *= 4) {
		scoped(freep) char *buf = malloc(n);
		struct group g, *found = NULL;
		int r;

		if (!buf)
			return -ENOMEM;
		r = getgrnam_r(name, &g, buf, n, &found);
		if (r == ERANGE)
			continue;
		if (!found)
			return r > 0 ? -r : -ENOENT;
		*ret = g.gr_gid;
		return 0;
	}
	return -ERANGE;
}

/* Name and primary group of `uid`.  -ENOENT: NSS does not know him. */
static int user_of(uid_t uid, char *name, size_t name_size, gid_t *ret_gid)
{
	for (size_t n = 4096; n <= NSS_BUFFER_MAX; n *= 4) {
		scoped(freep) char *buf = malloc(n);
		struct passwd pw, *found = NULL;
		int r;

		if (!buf)
			return -ENOMEM;
		r = getpwuid_r(uid, &pw, buf, n, &found);
		if (r == ERANGE)
			continue;
		if (!found)
			return r > 0 ? -r : -ENOENT;
		if (strlen(pw.pw_name) >= name_size)
			return -ENAMETOOLONG; /* a cut name could be another's */
		snprintf(name, name_size, "%s", pw.pw_name);
		*ret_gid = pw.pw_gid;
		return 0;
	}
	return -ERANGE;
}

int peer_groups(const char *user, gid_t primary, gid_t **ret, int *ret_n)
{
	for (int room = 32; room <= GROUPS_MAX; room *= 4) {
		scoped(freep) gid_t *groups = calloc((size_t)room, sizeof(*groups));
		int n = room;

		if (!groups)
			return -ENOMEM;
		if (getgrouplist(user, primary, groups, &n) < 0)
			continue;
		*ret = take_ptr(&groups);
		*ret_n = n;
		return 0;
	}
	return -E2BIG;
}

/* A role group that does not exist gives nobody the role. */
static int roles_by_group(const char *user, gid_t primary, unsigned *roles)
{
	scoped(freep) gid_t *groups = NULL;
	int n, r;

	r = peer_groups(user, primary, &groups, &n);
	if (r < 0)
		return r;
	for (size_t k = 0; k < ARRAY_SIZE(role_groups); k++) {
		gid_t wanted;

		if (group_id(role_groups[k].group, &wanted) < 0)
			continue;
		for (int i = 0; i < n; i++)
			if (groups[i] == wanted)
				*roles |= role_groups[k].role;
	}
	return 0;
}

int peer_from_uid(uid_t uid, uid_t state_dir_owner, struct peer *ret)
{
	struct peer p = {.uid = uid, .gid = (gid_t)-1, .roles = ROLE_USER, .person = uid};
	int r;

	r = user_of(uid, p.user, sizeof(p.user), &p.gid);
	if (r == 0)
		r = roles_by_group(p.user, p.gid, &p.roles);
	else if (r == -ENOENT)
		r = 0;
	if (r < 0)
		return r;
	if (p.user[0] == '\0')
		snprintf(p.user, sizeof(p.user), "%u", (unsigned)uid);
	if (uid == state_dir_owner && uid != (uid_t)-1)
		p.roles |= ROLE_OWNER | ROLE_ADMIN | ROLE_CUSTODIAN | ROLE_AUDITOR;
	*ret = p;
	return 0;
}

/* The kernel's login uid stays when somebody becomes root.  Unset, and for a process that is gone: who it is now. */
static uid_t person_of(uid_t uid, pid_t pid)
{
	scoped(close_fdp) int fd = -1;
	char path[32], text[16] = "";
	unsigned long login;
	char *end;

	if (uid != 0)
		return uid;
	snprintf(path, sizeof(path), "/proc/%d/loginuid", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return uid;
	login = strtoul(text, &end, 10);
	return end == text || login >= UINT32_MAX ? uid : (uid_t)login;
}

int peer_from_socket(int fd, uid_t state_dir_owner, struct peer *ret)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	struct peer p;
	int r;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
		return -errno;
	if (cred.uid == (uid_t)-1)
		return -ENOTCONN;
	r = peer_from_uid(cred.uid, state_dir_owner, &p);
	if (r < 0)
		return r;
	p.pid = cred.pid;
	p.gid = cred.gid;
	p.person = person_of(cred.uid, cred.pid);
	*ret = p;
	return 0;
}
