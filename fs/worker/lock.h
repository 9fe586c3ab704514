/* Byte-range (POSIX) and whole-file (flock) locks between all sessions of the worker.  The order of this worker's
 * other locks is in worker.h.  Thread-safe. */
#ifndef COFFER_LOCK_H
#define COFFER_LOCK_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

/* -ENOLCK above: of all users of the worker, and of one in all his sessions, so that none stops the others. */
#define LOCKS_MAX (1u << 20)
#define LOCKS_USER_MAX 16384u
#define LOCKS_USER_WAITING_MAX 1024u

struct lock_table;
struct fuse_req;

enum lock_kind { LOCK_POSIX, LOCK_FLOCK };

struct lock_claim {
	uint64_t session, owner;	/* who: owner is a number of that session's kernel */
	uint64_t node, fh;
	uint32_t uid;			/* whose share of the table it takes */
	enum lock_kind kind;
	short type;			/* F_RDLCK, F_WRLCK, F_UNLCK */
	uint64_t start, end;		/* inclusive; end UINT64_MAX: to the end of all */
	uint32_t pid;
};

int lock_table_new(struct lock_table **ret);
void lock_table_free(struct lock_table *t);

/* The first lock in the way of `c`, or F_UNLCK in ret->type. */
void lock_test(struct lock_table *t, const struct lock_claim *c, struct lock_claim *ret);

/* Sets or releases without waiting.  -EAGAIN: one is in the way. */
int lock_set(struct lock_table *t, const struct lock_claim *c);
/* As lock_set, but the request waits if it must: it is answered here, now or later.  Never fails without an answer.
 * EDEADLK where processes would wait for each other. */
void lock_set_wait(struct lock_table *t, const struct lock_claim *c, struct fuse_req *req);
/* After an INTERRUPT was processed: answers the waiting requests that it hit. */
void lock_answer_interrupted(struct lock_table *t, uint64_t session);

/* Releases what this owner holds of `node`. */
void lock_release_owner(struct lock_table *t, enum lock_kind kind, uint64_t session, uint64_t owner, uint64_t node);
void lock_release_handle(struct lock_table *t, uint64_t session, uint64_t fh, uint64_t node);
/* A session's end: its locks, and its waiting requests, which get `error` (positive). */
void lock_release_session(struct lock_table *t, uint64_t session, int error);

#endif
