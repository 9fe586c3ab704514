/* Landlock: what a process, and all that it starts, may do with files from now on; for good.  The worker uses it for
 * itself, `coffer shell` for the program that it runs. */
#ifndef COFFER_LANDLOCK_H
#define COFFER_LANDLOCK_H

#include <linux/landlock.h>
#include <stdint.h>

#define LANDLOCK_FS_REFER LANDLOCK_ACCESS_FS_REFER	/* version 2: renames and links between directories */
#define LANDLOCK_FS_TRUNCATE (UINT64_C(1) << 14)	/* version 3 */
#define LANDLOCK_FS_IOCTL_DEV (UINT64_C(1) << 15)	/* version 5 */
#define LANDLOCK_FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)

/* With the first version no file moves from one directory to another. */
#define LANDLOCK_ABI_MIN 2

/* Which version this kernel has; 0: none, or one below LANDLOCK_ABI_MIN. */
int landlock_abi(void);
/* Every access to files that version `abi` knows. */
uint64_t landlock_fs_all(int abi);

/* A ruleset under which of the `handled` accesses only those stay that are allowed below. */
int landlock_new(uint64_t handled, int *ret_ruleset);
/* At `fd` (O_PATH is enough) and, if it is a directory, below it. */
int landlock_allow(int ruleset, int fd, uint64_t access);
/* For this thread and what it starts.  Sets no_new_privs, without which the kernel refuses. */
int landlock_enter(int ruleset);

#endif
