/* Keeps what a process writes in one place (Landlock).  It reads as before. */
#ifndef COFFER_CONFINE_H
#define COFFER_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

/* From now on this process, and all that it starts, makes, changes, renames and removes files only below the directories
 * `fds` (those that are -1 do not count); with `terminal` it also writes to the devices that a program on a terminal needs.
 * Sets no_new_privs.  Descriptors that are open already are not concerned.  -ENOSYS: this kernel has no Landlock that does it. */
int confine_writes(const int *fds, size_t n, bool terminal);

#endif
