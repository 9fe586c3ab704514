/* The user's side of a mount: fusermount3 and the keeper. */
#ifndef COFFER_FUSEMOUNT_H
#define COFFER_FUSEMOUNT_H

#include <stdbool.h>
#include <stddef.h>

/* Mounts at `path` through fusermount3, as the calling user; shared: for all users, the kernel
 * checking owners and modes.  *ret_fd: the /dev/fuse descriptor.  On failure
 * -errno and `why` says what is wrong and the remedy. */
int fusemount_mount(const char *path, const char *client, bool shared, int *ret_fd, char *why, size_t why_size);

/* fusermount3 -u [-z], silently.  0, or its exit status, or -errno. */
int fusemount_unmount(const char *path, bool lazy);

/* A socket pair: one end for coffer-fsd, the other for the keeper. */
int fusemount_keeper_pair(int *ret_daemon, int *ret_keeper);

/* Leaves a small process behind (own session, no descriptor but its socket), which unmounts `path` when the
 * daemon closes its end.  `auto_unmount` of fusermount3 cannot do it: it may not look into a private mount.
 */
int fusemount_keep(const char *path, int keeper_fd);

/* A mount whose daemon is gone answers ENOTCONN. */
bool fusemount_is_stale(const char *path);
bool fusemount_is_coffer(const char *path);  /* a mount of ours, by /proc/self/mountinfo */
/* The mount of ours that `path` lies in (its last part may not be a symlink): malloc'd; NULL: none. */
char *fusemount_around(const char *path);
bool fusemount_is_mounted(const char *path); /* by /proc/self/mountinfo; path as fusemount_resolve gives it */
bool fusemount_is_empty(const char *path);
/* Absolute path without following into the mount itself (a dead one cannot be walked); malloc'd, NULL with
 * errno. */
char *fusemount_resolve(const char *path);

#endif
