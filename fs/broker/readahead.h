/* How far the kernel reads ahead on a mount.  It begins with 128 KiB, which is several requests and wake-ups for what
 * the worker answers in one. */
#ifndef COFFER_BROKER_READAHEAD_H
#define COFFER_BROKER_READAHEAD_H

/* Widens it for the connection of this /dev/fuse descriptor, after its INIT.  Where that cannot be done (not root, no
 * /sys, an older kernel) it stays as it is: nothing but speed depends on it. */
void readahead_widen(int fuse_fd);

#endif
