/* Ending a FUSE connection from outside (fusectl).  Whoever mounts may keep a duplicate of his /dev/fuse, take a request
 * from it and never answer: its page stays locked, and an invalidation waits for it in the kernel, where no signal reaches.
 * Only ending the connection helps.  keyd opens the file for that (root, before it gives up its privileges) and hands the
 * open file down: to the worker, which breaks a connection whose session does not end in time, and to coffer-fsd, which
 * breaks that of a dead worker. */
#ifndef COFFER_KEYD_FUSECTL_H
#define COFFER_KEYD_FUSECTL_H

/* The file system of connections, as a descriptor; -1: not root and nobody mounted it. */
int fusectl_open(void);
/* A descriptor; writing to it ends the connection.  -ENOENT, -EACCES; -EBADF: dir is -1. */
int fusectl_breaker(int dir, unsigned connection);

#endif
