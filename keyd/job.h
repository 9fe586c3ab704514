/* What takes longer than a call: the caller gets a number, and asks `Job` until it is done.  On keyd's loop. */
#ifndef COFFER_KEYD_JOB_H
#define COFFER_KEYD_JOB_H

#include <jansson.h>

#include "common/varlink.h"

struct job;
struct keyd;

/* Answers the call with {job}.  NULL: it was answered with an error.  The list's: freed some time after it ended. */
struct job *job_new(struct keyd *k, struct varlink_call *call);
/* Each ends it; once.  NULL is fine: nobody asks. */
void job_done(struct job *j, json_t *answer);	/* steals */
void job_fail(struct job *j, const char *error, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* What the asker is told meanwhile: how far it is.  NULL is fine. */
void job_progress(struct job *j, const json_t *counts);
void jobs_tick(struct keyd *k);
void jobs_free(struct keyd *k);

int keyd_job(struct varlink_call *call, json_t *params, void *userdata);

#endif
