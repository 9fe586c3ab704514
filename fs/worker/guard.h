/* Looks at a raw request before libfuse decodes it: lengths and names, which libfuse takes for granted, and who
 * asks.  The kernel sends well-formed ones; this holds when the other end is no kernel. */
#ifndef COFFER_GUARD_H
#define COFFER_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_in_header;

struct guard_verdict {
	int error;		/* 0: decode it; else the positive errno to answer; -1: no answer, since it names no request */
	const char *word;	/* for the record, when it was a forged one; else NULL */
};

/* `n` bytes at buf were read as one request. */
struct guard_terms {
	uid_t uid;		/* the session's */
	bool write_back;	/* the kernel keeps written data and times, and brings them when it likes */
	int refuse;		/* positive errno when the session has ended and only what closes things is let through; 0 else */
};
struct guard_verdict guard_check(const void *buf, size_t n, const struct guard_terms *t);
/* It may take long: another thread should read the next one.  What is shorter than its kind is refused, and so is not. */
bool guard_is_long(const void *buf, size_t n);
/* Of those: its caller asks for nothing else meanwhile, as the kernel reads ahead or writes back. */
bool guard_is_serial(const void *buf);
/* Its caller sleeps until it is answered. */
bool guard_is_waited_for(const void *buf);
/* Some user's doing, for which he must be allowed in; not the kernel's own, nor a question about the file system's size. */
bool guard_is_users(const void *buf, bool write_back);
bool guard_wants_no_reply(uint32_t opcode);

#endif
