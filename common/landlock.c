#include "common/landlock.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FS_ABI1 UINT64_C(0x1fff) /* execute .. make_sym */

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < LANDLOCK_ABI_MIN ? 0 : (int)abi;
}

uint64_t landlock_fs_all(int abi)
{
	return FS_ABI1 | LANDLOCK_FS_REFER | (abi >= 3 ? LANDLOCK_FS_TRUNCATE : 0) | (abi >= 5 ? LANDLOCK_FS_IOCTL_DEV : 0);
}

int landlock_new(uint64_t handled, int *ret_ruleset)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = handled};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr.handled_access_fs), 0);

	if (fd < 0)
		return -errno;
	*ret_ruleset = fd;
	return 0;
}

int landlock_allow(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

int landlock_enter(int ruleset)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}
