/* What this process may still do once it holds a client's keys.  Everything that needs more (libraries, NSS, the
 * store's root) comes before. */
#ifndef COFFER_SANDBOX_H
#define COFFER_SANDBOX_H

#include <stdbool.h>

struct sandbox_report {
	int landlock;	/* ABI used; 0: this kernel has none */
	bool seccomp;
};

/* Landlock: below store_fd everything (moves between directories included); below copy_fd (-1: none) reading; below
 * proc_fd reading, for the names of processes in records (landlocked processes cannot look into others' memory or
 * environment).  Capabilities: only those that let it serve files of any mode and owner in the store.  seccomp: no sockets, no exec, no ptrace.
 * -errno when something that this kernel has was refused: do not go on. */
int sandbox_enter(int store_fd, int proc_fd, int copy_fd, struct sandbox_report *ret);

#endif
