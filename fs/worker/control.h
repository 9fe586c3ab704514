/* The worker's two masters, keyd and fsd, and the sessions they speak of: org.coffer.worker in doc/PROTOCOL.md.
 * Runs on the main thread. */
#ifndef COFFER_CONTROL_H
#define COFFER_CONTROL_H

#include <stdbool.h>

struct control_fds {
	int keyd, fsd;	/* connected sockets */
	int store;	/* the client's folder */
	int proc;	/* /proc, or -1 */
};

/* Serves until Exit, or until one of the masters is gone and all sessions have ended.  0 or -errno. */
int control_run(const struct control_fds *fds, bool memory_locked);

#endif
