/* A survey of the store (fs/store/survey.h) in a thread of its own; coffer-keyd asks for what it hands out.  Asking again
 * says that what the answer before held is noted: so nothing moves away from a leaf that keyd does not know of.
 * Lives on the main thread, but for the survey itself. */
#ifndef COFFER_SURVEY_JOB_H
#define COFFER_SURVEY_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct survey_job;
struct worker;

/* `params` as of org.coffer.worker.Survey in doc/PROTOCOL.md; leaves_fd (may be -1) stays the caller's.  -EINVAL. */
int survey_job_start(struct worker *w, json_t *params, int leaves_fd, struct survey_job **ret);
/* Removes all that is in a destroyed client's folder: there are no keys and no sessions.  root_fd stays the caller's. */
int survey_job_sweep_dead(int root_fd, struct survey_job **ret);
json_t *survey_job_next(struct survey_job *j);
bool survey_job_line(const json_t *v, uint64_t *ret);	/* 16 hex digits */
void survey_job_stop(struct survey_job *j);	/* waits for its end; NULL is fine */

#endif
