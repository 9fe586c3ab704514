/* `mount -t fuse.coffer` and /etc/fstab: called by mount(8) as mount.fuse.coffer (a link to coffer). */
#ifndef COFFER_MOUNT_HELPER_H
#define COFFER_MOUNT_HELPER_H

#include <stdbool.h>

bool mount_helper_is_me(const char *argv0);
/* Turns mount(8)'s arguments into those of `coffer mount`: *ret_argv (malloc'd, NULL-terminated).  Exit code:
 * EXIT_OK; else the message is out.  *ret_fake: nothing is to be mounted. */
int mount_helper_arguments(int argc, char **argv, int *ret_argc, char ***ret_argv, bool *ret_fake);
/* What mount(8) expects of a helper's exit. */
int mount_helper_exit(int code);

#endif
