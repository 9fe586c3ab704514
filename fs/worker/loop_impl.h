/* What the parts of the loop share.  Not for others. */
#ifndef COFFER_LOOP_IMPL_H
#define COFFER_LOOP_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "fs/worker/loop.h"

#define LOOP_THREADS 3

struct near;

struct loop {
	struct loop_client client;
	int fd, stop_fd;
	atomic_bool stop, gone;
	pthread_mutex_t baton; /* who holds it reads, or watches the near reader */
	pthread_t threads[LOOP_THREADS];
	unsigned started;
	struct near *near; /* NULL: never */
};

void *loop_buffer_new(void);		/* LOOP_REQUEST_MAX bytes of plaintext; NULL: no memory */
void loop_buffer_free(void *buf);	/* NULL is fine */
uint64_t loop_now_ns(void);
void loop_is_gone(struct loop *l, int error);

/* One read.  n > 0: a request; 0: nothing is there; -1: nothing will come any more, and the client was told. */
ssize_t loop_read(struct loop *l, void *buf);

/* ---- the near reader (loop_near.c): see there ---- */

/* Does nothing where it cannot work: then near stays NULL, and the others read. */
void near_start(struct loop *l);
void near_stop(struct loop *l); /* after l->stop and stop_fd */

bool near_leads(const struct loop *l);

/* The baton's holder: returns when it is to read itself, or at the end.  True: only what lies there, because the near
 * reader does not come to read it. */
bool near_watch(struct loop *l);

/* The baton's holder: a long request that the near reader left to it, in exchange for *buf.  0: none. */
size_t near_handed(struct loop *l, void **buf);

/* Readable when the baton's holder is to read (-1: never); near_back() makes it unreadable again. */
int near_back_fd(const struct loop *l);
void near_back(struct loop *l);

/* Lets the near reader read from now on, if that promises well.  After a long request, by whoever handled it. */
void near_try(struct loop *l);

/* The baton's holder has read this after an idle time of so many ns: who asks, and does it pay to let the near reader read again? */
void near_saw(struct loop *l, const void *buf, size_t n, uint64_t idle_ns, bool unread);

#endif
