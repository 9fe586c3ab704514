/* The kernel's side of one mount: its number, how far it reads ahead, how much it holds back. */
#ifndef COFFER_BROKER_CONNECTION_H
#define COFFER_BROKER_CONNECTION_H

/* The minor number of the mount's device, which is the name of its connection; 0: this kernel does not tell. */
unsigned connection_number(int fuse_fd);

/* After a mount's INIT.  Widens the kernel's read-ahead: it begins with 128 KiB, which is several requests and wake-ups for
 * what the worker answers in one.  And lets it hold back 64 MiB of written pages at most (1 % of its memory for all such
 * pages, if that is less).  Where that cannot be done (not root, no /sys, Linux before 6.2) it stays as it is: what depends
 * on it is speed, and that a revocation on a machine with much memory does not cut off what was written and not synced. */
void connection_tune(unsigned number);

#endif
