#include "keyd/job.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "keyd/keyd.h"
#include "keyd/methods.h"

#define KEEP_SECONDS 60 /* after its end */

struct job {
	struct job *next;
	struct keyd *k;
	json_int_t id;
	uid_t uid;
	bool over;
	uint64_t over_at; /* tick */
	json_t *answer, *progress;
	char error[64], text[512], remedy[256];
};

struct job *job_new(struct keyd *k, struct varlink_call *call)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j) {
		varlink_error(call, "Failed", "no memory left", NULL);
		return NULL;
	}
	j->k = k;
	j->id = (json_int_t)randombytes_random() + 1;
	j->uid = varlink_call_peer(call)->uid;
	j->next = k->jobs;
	k->jobs = j;
	(void)varlink_reply(call, json_pack("{s:I}", "job", j->id));
	return j;
}

static void end(struct job *j)
{
	j->over = true;
	j->over_at = j->k->tick;
}

void job_done(struct job *j, json_t *answer)
{
	if (!j) {
		json_decref(answer);
		return;
	}
	end(j);
	j->answer = answer;
	json_object_set_new(answer, "state", json_string("done"));
}

void job_fail(struct job *j, const char *error, const char *remedy, const char *fmt, ...)
{
	va_list ap;

	if (!j)
		return;
	end(j);
	snprintf(j->error, sizeof(j->error), "%s", error);
	snprintf(j->remedy, sizeof(j->remedy), "%s", remedy ? remedy : "");
	va_start(ap, fmt);
	vsnprintf(j->text, sizeof(j->text), fmt, ap);
	va_end(ap);
}

void job_progress(struct job *j, const json_t *counts)
{
	if (!j)
		return;
	json_decref(j->progress);
	j->progress = json_incref((json_t *)counts);
}

static void job_free(struct job *j)
{
	json_decref(j->answer);
	json_decref(j->progress);
	free(j);
}

static void take_out(struct keyd *k, struct job *j)
{
	struct job **p = &k->jobs;

	while (*p != j)
		p = &(*p)->next;
	*p = j->next;
	job_free(j);
}

void jobs_tick(struct keyd *k)
{
	for (struct job *j = k->jobs, *next; j; j = next) {
		next = j->next;
		if (j->over && k->tick - j->over_at > KEEP_SECONDS)
			take_out(k, j);
	}
}

void jobs_free(struct keyd *k)
{
	while (k->jobs)
		take_out(k, k->jobs);
}

int keyd_job(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_int_t id = 0;
	struct job *j = k->jobs;
	int r;

	if (!params_unpack(call, params, "{s:I}", "job", &id))
		return 0;
	while (j && (j->id != id || j->uid != varlink_call_peer(call)->uid))
		j = j->next;
	if (!j)
		return varlink_error(
			call, "UnknownJob", "you have no such job", "`coffer log` shows what became of it");
	if (!j->over)
		return varlink_reply(call, json_pack("{s:s, s:O*}", "state", "running", "counts", j->progress));
	if (j->answer)
		r = varlink_reply(call, json_incref(j->answer));
	else
		r = varlink_error(call, j->error, j->text, *j->remedy ? j->remedy : NULL);
	take_out(k, j);
	return r;
}
