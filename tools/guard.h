/* The end of a `coffer shell`, whatever ends it: a process that waits until the tool is gone, and then takes away what the
 * tool has made. */
#ifndef COFFER_GUARD_H
#define COFFER_GUARD_H

#include <sys/types.h>

#include "tools/tool.h"

struct guarded {
	char *base;	/* a private directory: the mount point, and TMPDIR of a session that cannot write */
	char *mount;	/* the mount point, below base */
	uint64_t session;
};

/* Starts it.  *ret_fd: while somebody has this open (it is closed on exec), it waits.  -errno. */
int guard_start(const struct tool *t, const struct guarded *g, int *ret_fd, pid_t *ret_pid);
/* Closes the descriptor and waits until all is taken away; does it here if the guard was killed. */
void guard_finish(const struct tool *t, const struct guarded *g, int fd, pid_t pid);

#endif
