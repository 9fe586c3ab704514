/* Starts one program with nothing of ours but the descriptors it is given as 3, 4, 5, ... */
#ifndef COFFER_KEYD_LAUNCH_H
#define COFFER_KEYD_LAUNCH_H

#include <sys/types.h>

#define LAUNCH_FDS_MAX 3
#define LAUNCH_FD_FIRST 3

/* `log_fd` becomes its stderr and stdout.  fds stay the caller's.  Environment: PATH, LANG, COFFER_LOG and the
 * options of the sanitizers, nothing else (LD_PRELOAD least of all). */
int launch_program(const char *path, char *const argv[], const int *fds, unsigned n, int log_fd, pid_t *ret_pid);
/* For what is not ours: without our capabilities (no_new_privs keeps root from getting them back), environment PATH and LANG. */
int launch_foreign(const char *path, char *const argv[], const int *fds, unsigned n, int log_fd, pid_t *ret_pid);

#endif
