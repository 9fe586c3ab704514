/* What a process is called: command and login uid, from /proc, remembered for a moment.  A request names a thread
 * that may be gone, so the answer is what /proc said when we looked. */
#ifndef COFFER_PROCESS_H
#define COFFER_PROCESS_H

#include <stdint.h>

struct process_info {
	uint32_t loginuid;	/* UINT32_MAX: none, or unknown */
	char comm[16];		/* NUL-padded; "?" when it is gone */
};

/* proc_fd: a descriptor of /proc. */
void process_look(int proc_fd, uint32_t pid, struct process_info *ret);

/* The processor that a thread ran on last, and what it does (R: it runs or wants to; proc_pid_stat(5)).
 * Negative: /proc does not show it. */
int process_cpu(int proc_fd, uint32_t tid, char *ret_state);

#endif
