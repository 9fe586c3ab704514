/* The kernel's side of one mount: its number, how far it reads ahead. */
#ifndef COFFER_BROKER_CONNECTION_H
#define COFFER_BROKER_CONNECTION_H

/* The minor number of the mount's device, which is the name of its connection; 0: this kernel does not tell. */
unsigned connection_number(int fuse_fd);

/* Widens the kernel's read-ahead on a mount after its INIT: it begins with 128 KiB, which is several requests and wake-ups
 * for what the worker answers in one.  Where that cannot be done (not root, no /sys, an older kernel) it stays as it is:
 * nothing but speed depends on it. */
void connection_read_ahead(unsigned number);

#endif
