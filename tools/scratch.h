/* Where the programs of a `coffer shell` keep what they make by the way: MOUNT/.coffer-shell/SESSION, in the share and so
 * encrypted as it is.  `.coffer-shell/lock` has a lock on the byte of each session's number while its shell lives (an OFD
 * lock, which the worker keeps for all sessions of a client): a folder without one was left by a shell that is over. */
#ifndef COFFER_SCRATCH_H
#define COFFER_SCRATCH_H

#include <stdint.h>

#define SCRATCH_FOLDER ".coffer-shell"

/* Makes the session's folder.  *ret_path: it (malloc'd); *ret_lock: keep it open as long as the shell lives. */
int scratch_make(const char *mount, uint64_t session, char **ret_path, int *ret_lock);
/* Makes the folders below `path` and points TMPDIR, the XDG directories and the histories of common programs there.
 * For a process that will run a program: it changes the environment. */
int scratch_enter(const char *path);
/* Removes the session's folder, those of shells that are over, and SCRATCH_FOLDER when nothing else is in it.  A process of
 * its own does it, which changes nothing outside `mount` where the kernel can see to that.  `session` 0: only the others. */
void scratch_remove(const char *mount, uint64_t session);

#endif
