/* Threads that share the ciphering of one long read or write with the thread that serves it: the program waits for
 * it, so a processor is free.  Work is claimed piece by piece; a helper that does not come in time is not waited for. */
#ifndef COFFER_CREW_H
#define COFFER_CREW_H

#include <stddef.h>

struct crew;

/* On one processor, or where no thread can be started, the caller does all. */
int crew_new(struct crew **ret);
void crew_free(struct crew *c);	/* NULL is fine */
/* Calls work(arg, i) once for each i below count, from several threads, and returns when all have returned.  While the
 * helpers serve somebody else, and without a crew (NULL), the caller does it alone. */
void crew_run(struct crew *c, void (*work)(void *arg, size_t i), void *arg, size_t count);

#endif
