/* Answers that wait for the disk: in sessions whose purpose asks for `durability: sync`, an answer leaves when the records that
 * it is about are on the disk (journal_is_durable), be it in the journal or in the ledger.  The thread that made the answer goes on
 * with other requests; one thread of the worker syncs the journal for all answers that wait by then (group commit), and
 * writes them.  When the disk fails, what the answer would have given is taken back, and the answer is that error.
 *
 * A request's thread collects what its answer waits for (stable_due); sessions without the flag never come here. */
#ifndef COFFER_STABLE_H
#define COFFER_STABLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "common/journal.h"

struct session;
struct stable;

/* `journal`: stays the caller's, and outlives it. */
int stable_new(struct journal_writer *journal, struct stable **ret);
void stable_free(struct stable *t);	/* no session is left that waits */

/* A request begins in this thread: nothing is due yet.  `node`: it is about. */
void stable_request(uint32_t opcode, uint64_t node);
/* For what no answer waits: what is in the journal now is on disk within STABLE_SOON_MS and a sync, with the answers that wait by
 * then, or by itself. */
#define STABLE_SOON_MS 100
void stable_soon(struct stable *t);
/* The answer to it waits until the journal is on disk up to here. */
void stable_due(uint64_t position);
uint64_t stable_due_now(void);	/* 0: it waits for nothing */

/* The answer of this thread's request of `s`: written now if nothing is due or it is on the disk already, else later.
 * The number of bytes, or -1 and errno as writev. */
ssize_t stable_answer(struct stable *t, struct session *s, const struct iovec *iov, int count);
/* All answers of `s` that wait get `error` (positive), at once.  What they would have given is the caller's to take back:
 * the session ends. */
void stable_cancel(struct stable *t, struct session *s, int error);

#endif
