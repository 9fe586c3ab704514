#include "fs/broker/verify_job.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "common/scope.h"

struct verify_job {
	struct verify_job *next;
	struct broker *b;
	struct varlink_call *call;
	struct verify_wanted what;
	pthread_t thread;
	int done_fd; /* eventfd: the thread has finished */
	sd_event_source *source;
	atomic_bool stop;
	int result;
	struct ledger_verdict verdict;
};

static json_t *verdict_json(const struct ledger_verdict *v, bool anchors)
{
	char hex[CHAIN_HASH_HEX];
	json_t *answer;

	sodium_bin2hex(hex, sizeof(hex), v->head.hash.b, sizeof(v->head.hash.b));
	answer = json_pack("{s:I,s:I,s:I,s:I,s:I,s:{s:I,s:s}}", "batches", (json_int_t)v->batches, "records",
		(json_int_t)v->records, "acts", (json_int_t)v->acts, "signed_until",
		(json_int_t)v->signed_until, "signed_at", (json_int_t)v->signed_at, "head", "batch",
		(json_int_t)v->head.batch, "hash", hex);
	json_object_set_new(answer, "archives", json_integer(v->archives));
	if (v->destroyed_to)
		json_object_set_new(answer, "destroyed",
			json_pack("{s:I,s:I}", "to", (json_int_t)v->destroyed_to, "time", (json_int_t)v->destroyed_at));
	if (anchors) {
		json_object_set_new(answer, "anchored_until", json_integer(v->anchored_until));
		json_object_set_new(answer, "anchored_at", json_integer(v->anchored_at));
		json_object_set_new(answer, "anchors_ignored", json_integer(v->anchors_ignored));
	}
	if (v->first_bad)
		json_object_set_new(answer, "first_bad",
			json_pack("{s:I,s:s}", "batch", (json_int_t)v->first_bad, "reason", v->reason));
	return answer;
}

static void *job_main(void *arg)
{
	struct verify_job *j = arg;
	const uint64_t one = 1;
	const struct ledger_verify_options o = {.keys = j->what.keys.n > 0 ? &j->what.keys : NULL,
		.expect = j->what.has_expect ? &j->what.expect : NULL,
		.anchors = j->what.anchors,
		.anchors_n = j->what.anchors_n,
		.stop = &j->stop};

	j->result = ledger_verify(j->b->ledger_path, &o, &j->verdict);
	while (write(j->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	return NULL;
}

static void job_free(struct verify_job *j)
{
	sd_event_source_disable_unref(j->source);
	close_fdp(&j->done_fd);
	free(j->what.anchors);
	free(j);
}

static void job_end(struct verify_job *j)
{
	struct verify_job **at = &j->b->verify_jobs;

	pthread_join(j->thread, NULL);
	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
	if (j->result < 0)
		broker_reply_errno(j->call, j->result, "the ledger cannot be read");
	else
		varlink_reply(j->call, verdict_json(&j->verdict, j->what.anchors != NULL));
	job_free(j);
}

static int on_done(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	job_end(userdata);
	return 0;
}

static unsigned running(const struct broker *b)
{
	unsigned n = 0;

	for (const struct verify_job *j = b->verify_jobs; j; j = j->next)
		n++;
	return n;
}

static int start_thread(struct verify_job *j)
{
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
	r = -pthread_create(&j->thread, NULL, job_main, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int verify_job_start(struct broker *b, struct varlink_call *call, const struct verify_wanted *what)
{
	struct verify_job *j;
	int r;

	j = running(b) >= VERIFY_JOBS_MAX ? NULL : calloc(1, sizeof(*j));
	if (!j) {
		free(what->anchors);
		return running(b) >= VERIFY_JOBS_MAX ? -EBUSY : -ENOMEM;
	}
	j->b = b;
	j->call = call;
	j->what = *what;
	j->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = j->done_fd < 0 ? -errno : sd_event_add_io(b->event, &j->source, j->done_fd, EPOLLIN, on_done, j);
	if (r >= 0)
		r = start_thread(j);
	if (r < 0) {
		job_free(j);
		return r;
	}
	j->next = b->verify_jobs;
	b->verify_jobs = j;
	return 0;
}

void verify_jobs_stop(struct broker *b)
{
	for (struct verify_job *j = b->verify_jobs; j; j = j->next)
		atomic_store(&j->stop, true);
	while (b->verify_jobs)
		job_end(b->verify_jobs);
}
