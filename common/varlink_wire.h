/* Framing for both sides of varlink.c: JSON objects ended by NUL on a stream socket, in and out, each
 * with the descriptors that ride beside it.  Never blocks (MSG_DONTWAIT, so the socket's own flags do
 * not matter); knows nothing of methods.  Internal to common/varlink*.c. */
#ifndef COFFER_VARLINK_WIRE_H
#define COFFER_VARLINK_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/varlink.h"

/* Descriptors belong to the last message begun in the bytes they came with: the kernel ends a read after
 * a buffer that carried some, and our sender starts a buffer with each message that has some. */
struct wire_fds {
	size_t at;		/* index in `in` of that message's first byte */
	unsigned n;
	int fd[VARLINK_FDS_MAX];
};

#define WIRE_FDS_BATCHES 2	/* the message being read, and the next: more do not come between two parses */

struct wire_out {
	struct wire_out *next;
	size_t len, off;
	unsigned n;
	int fd[VARLINK_FDS_MAX];	/* our duplicates */
	char *data;			/* from jansson: len bytes, the last a NUL */
};

struct wire {
	int fd;				/* owned */
	bool no_fds;			/* what comes beside a message is not taken: the kernel drops it */
	size_t in_max;			/* largest message to read; wire_init: VARLINK_MESSAGE_MAX */
	char *in;
	size_t in_size, in_start, in_end, in_scanned;
	struct wire_fds batch[WIRE_FDS_BATCHES];
	struct wire_out *out, **out_tail;
	size_t out_bytes;
};

void wire_init(struct wire *w, int fd);	/* takes fd */
void wire_done(struct wire *w);

/* One read.  1: something came; 0: end of file; -EAGAIN; -EMSGSIZE: a message beyond in_max. */
int wire_read(struct wire *w);
bool wire_has_message(struct wire *w);
bool wire_has_part(struct wire *w);	/* of a message, and not the whole */
/* 1: *ret is a new reference, fds[VARLINK_FDS_MAX] are the caller's (-1: none).  0: no whole message yet.
 * -EBADMSG: it is not a JSON object; it is consumed and its descriptors are closed. */
int wire_next(struct wire *w, json_t **ret, int *fds);

/* Queues one message; descriptors are duplicated.  -EMSGSIZE: beyond VARLINK_MESSAGE_MAX. */
int wire_queue(struct wire *w, const json_t *message, const int *fds, unsigned n);
/* Sends what the peer takes.  1: all is sent; 0: the rest must wait for POLLOUT. */
int wire_flush(struct wire *w);

#endif
