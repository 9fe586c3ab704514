/* Who reads a session's requests, and when.  A module of its own because who wakes whom decides the speed of
 * everything short: another strategy is another struct loop_ops. */
#ifndef COFFER_LOOP_H
#define COFFER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOP_IO_MAX (1u << 20)			/* largest READ or WRITE */
#define LOOP_REQUEST_MAX (LOOP_IO_MAX + 4096)	/* with its headers */

struct loop;

struct loop_client {
	void *arg;
	void (*handle)(void *arg, void *buf, size_t n);	/* answers one request; starts no thread (loop_near.c) */
	bool (*is_long)(const void *buf, size_t n);	/* let another thread read on meanwhile */
	/* Of long ones: its program will ask for nothing else before it has the answer.  NULL: of none. */
	bool (*is_serial)(const void *buf);
	/* The thread that asks, 0 when it is not known; and whether it waits for the answer.  Both NULL: never known. */
	uint32_t (*caller)(const void *buf);
	bool (*waits)(const void *buf);
	int proc_fd;					/* /proc, or -1; the caller's, to be kept open */
	/* Nothing is read any more; at most once, from one of the threads.  error: positive; ENODEV: the kernel ended the
	 * connection; another: it may live on, with all that it has cached. */
	void (*gone)(void *arg, int error);
};

struct loop_ops {
	const char *name;
	int (*start)(int fd, const struct loop_client *client, struct loop **ret);
	void (*stop)(struct loop *l);	/* what is queued is answered, handlers end, threads end; frees l */
};

/* One thread reads and answers what is short itself; before something long it hands the reading on.  It polls for
 * some microseconds before it sleeps, since waking a sleeper costs more than most answers.  fd is non-blocking.
 * For one program that asks for one short thing after the other a thread on that program's processor reads instead
 * (loop_near.c), where the caller is known, /proc shows its processor and RLIMIT_NICE is 20 at least. */
extern const struct loop_ops loop_leader_follower;

/* The calling loop thread's buffer for an answer: LOOP_IO_MAX bytes.  NULL in other threads. */
void *loop_answer_buffer(void);
/* For another thread that answers requests. */
int loop_answer_buffer_begin(void);
void loop_answer_buffer_end(void);

#endif
