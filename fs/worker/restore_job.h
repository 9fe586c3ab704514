/* A restore (fs/store/restore.h), a slice at a time on the main thread: no session is there that would have to wait. */
#ifndef COFFER_RESTORE_JOB_H
#define COFFER_RESTORE_JOB_H

#include <jansson.h>

#include "fs/store/store.h"

struct restore_job;

/* `params` as of org.coffer.worker.Restore in doc/PROTOCOL.md.  -EINVAL; what restore_new says comes with the first
 * answer. */
int restore_job_start(struct store *copy, struct store *store, json_t *params, struct restore_job **ret);
/* Works for a moment; {state, errno, lost, counts, target}. */
json_t *restore_job_next(struct restore_job *j);
void restore_job_free(struct restore_job *j); /* what was half done goes; NULL is fine */

#endif
