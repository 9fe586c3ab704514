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

#endif
