#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/peer.h"
#include "common/scope.h"

#define ALL_ROLES (ROLE_USER | ROLE_ADMIN | ROLE_CUSTODIAN | ROLE_AUDITOR | ROLE_OWNER)
#define UNKNOWN_UID 3123456789u /* no user of this host */

static void a_socket_tells_who_is_there(void **state)
{
	struct peer p;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(peer_from_socket(sv[0], (uid_t)-1, &p), 0);
	assert_int_equal(p.uid, getuid());
	assert_int_equal(p.gid, getgid());
	assert_int_equal(p.pid, getpid());
	assert_true(p.roles & ROLE_USER);
	assert_false(p.roles & (ROLE_OWNER | ROLE_KEYD | ROLE_FSD));
	close(sv[0]);
	close(sv[1]);
	assert_true(peer_from_socket(sv[0], (uid_t)-1, &p) < 0);
}

static void an_unconnected_socket_has_nobody(void **state)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct peer p = {.uid = 7};

	assert_int_equal(peer_from_socket(fd, 0, &p), -ENOTCONN);
	assert_int_equal(p.uid, 7);
	close(fd);
}

static void the_owner_has_all_roles_of_people(void **state)
{
	struct peer p;

	assert_int_equal(peer_from_uid(getuid(), getuid(), &p), 0);
	assert_int_equal(p.roles, ALL_ROLES);
	assert_int_equal(peer_from_uid(UNKNOWN_UID, UNKNOWN_UID + 1, &p), 0);
	assert_int_equal(p.roles, ROLE_USER);
	assert_int_equal(peer_from_uid((uid_t)-1, (uid_t)-1, &p), 0); /* "no owner" is nobody's uid */
	assert_int_equal(p.roles, ROLE_USER);
}

static void an_unknown_uid_is_its_digits(void **state)
{
	struct peer p;

	assert_int_equal(peer_from_uid(UNKNOWN_UID, 0, &p), 0);
	assert_string_equal(p.user, "3123456789");
}

static void root_has_no_role_by_being_root(void **state)
{
	struct peer p;

	assert_int_equal(peer_from_uid(0, 12345, &p), 0);
	assert_string_equal(p.user, "root");
	assert_false(p.roles & ROLE_OWNER);
}

static void groups_hold_the_primary_one(void **state)
{
	gid_t *groups = NULL;
	bool found = false;
	int n = 0;

	assert_int_equal(peer_groups("nobody-of-that-name", 4242, &groups, &n), 0);
	for (int i = 0; i < n; i++)
		found |= groups[i] == 4242;
	assert_true(found);
	free(groups);
}

/* With a group file of its own, in a mount namespace of its own.  0: as it should be; 2: cannot be tried. */
static int look_with_groups(const char *group_file)
{
	struct peer p;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount(group_file, "/etc/group", NULL, MS_BIND, NULL) < 0)
		return 2;
	if (peer_from_uid(1, (uid_t)-1, &p) < 0 || p.roles != (ROLE_USER | ROLE_ADMIN | ROLE_AUDITOR))
		return 1;
	if (peer_from_uid(2, (uid_t)-1, &p) < 0 || p.roles != ROLE_USER)
		return 1;
	return peer_from_uid(0, (uid_t)-1, &p) < 0 || p.roles != ROLE_USER;
}

static void roles_follow_the_groups(void **state)
{
	static const char groups[] = "root:x:0:\ndaemon:x:1:\nbin:x:2:\ncoffer-admin:x:61001:daemon\n"
				     "coffer-custodian:x:61002:\ncoffer-auditor:x:61003:sys,daemon\n"
				     "coffer-administrator:x:61004:bin,root\n";
	char path[] = "/tmp/coffer-group-XXXXXX";
	int fd, status;
	pid_t child;

	if (getuid() != 0)
		skip();
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, groups, sizeof(groups) - 1), sizeof(groups) - 1);
	close(fd);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(look_with_groups(path));
	assert_int_equal(waitpid(child, &status, 0), child);
	unlink(path);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 2)
		skip(); /* no mount namespaces here */
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_socket_tells_who_is_there),
		cmocka_unit_test(an_unconnected_socket_has_nobody),
		cmocka_unit_test(the_owner_has_all_roles_of_people),
		cmocka_unit_test(an_unknown_uid_is_its_digits),
		cmocka_unit_test(root_has_no_role_by_being_root),
		cmocka_unit_test(groups_hold_the_primary_one),
		cmocka_unit_test(roles_follow_the_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
