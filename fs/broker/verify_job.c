#include "fs/broker/verify_job.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "common/scope.h"
#include "common/thread.h"

#define FETCH_SECONDS 60

struct verify_job {
	struct verify_job *next;
	struct broker *b;
	struct varlink_call *call; /* NULL: somebody asks */
	int64_t number;
	_Atomic int64_t records, of; /* how far it is */
	bool over;
	int64_t over_at; /* seconds since the machine started */
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
	if (v->signed_until)
		json_object_set_new(answer, "time_signed", json_boolean(!v->time_unsigned));
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

static void note_progress(void *userdata, int64_t records, int64_t of)
{
	struct verify_job *j = userdata;

	atomic_store(&j->records, records);
	atomic_store(&j->of, of);
}

static void *job_main(void *arg)
{
	struct verify_job *j = arg;
	const uint64_t one = 1;
	const struct ledger_verify_options o = {.keys = j->what.keys.n > 0 ? &j->what.keys : NULL,
		.expect = j->what.has_expect ? &j->what.expect : NULL,
		.anchors = j->what.anchors,
		.anchors_n = j->what.anchors_n,
		.stop = &j->stop,
		.progress = note_progress,
		.userdata = j};

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

static void unlink_job(struct verify_job *j)
{
	struct verify_job **at = &j->b->verify_jobs;

	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
}

static int reply_result(const struct verify_job *j, struct varlink_call *call)
{
	json_t *answer;

	if (j->result < 0)
		return broker_reply_errno(call, j->result, "the ledger cannot be read");
	answer = verdict_json(&j->verdict, j->what.anchors != NULL);
	if (j->number)
		json_object_set_new(answer, "state", json_string("done"));
	return varlink_reply(call, answer);
}

static void job_end(struct verify_job *j)
{
	if (!j->over)
		pthread_join(j->thread, NULL);
	j->over = true;
	unlink_job(j);
	if (j->call)
		reply_result(j, j->call);
	job_free(j);
}

static int64_t now_seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

/* One that is asked for stays until it is fetched, FETCH_SECONDS at least. */
static void job_over(struct verify_job *j)
{
	pthread_join(j->thread, NULL);
	j->over = true;
	j->over_at = now_seconds();
	sd_event_source_set_enabled(j->source, SD_EVENT_OFF);
}

static int on_done(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	struct verify_job *j = userdata;

	if (j->number)
		job_over(j);
	else
		job_end(j);
	return 0;
}

/* What nobody fetched for a while is forgotten. */
static void forget_old(struct broker *b)
{
	for (struct verify_job *j = b->verify_jobs, *next; j; j = next) {
		next = j->next;
		if (j->over && now_seconds() - j->over_at > FETCH_SECONDS)
			job_end(j);
	}
}

static unsigned running(const struct broker *b)
{
	unsigned n = 0;

	for (const struct verify_job *j = b->verify_jobs; j; j = j->next)
		n += !j->over;
	return n;
}

static int start_thread(struct verify_job *j)
{
	int r;

	r = thread_start(&j->thread, job_main, j);
	return r;
}

int verify_job_start(struct broker *b, struct varlink_call *call, const struct verify_wanted *what)
{
	struct verify_job *j;
	int r;

	forget_old(b);
	j = running(b) >= VERIFY_JOBS_MAX ? NULL : calloc(1, sizeof(*j));
	if (!j) {
		free(what->anchors);
		return running(b) >= VERIFY_JOBS_MAX ? -EBUSY : -ENOMEM;
	}
	j->b = b;
	j->call = what->asked_for ? NULL : call;
	j->number = what->asked_for ? ++b->verify_number : 0;
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
	return j->number ? varlink_reply(call, json_pack("{s:I}", "job", (json_int_t)j->number)) : 0;
}

int verify_job_reply(struct broker *b, struct varlink_call *call, int64_t number)
{
	struct verify_job *j = b->verify_jobs;
	int r;

	while (j && (!j->number || j->number != number))
		j = j->next;
	if (!j)
		return varlink_error(call, "UnknownJob", "there is no such verification, or its result was fetched", NULL);
	if (!j->over)
		return varlink_reply(call, json_pack("{s:s, s:I, s:I}", "state", "running", "records",
						   (json_int_t)atomic_load(&j->records), "of", (json_int_t)atomic_load(&j->of)));
	r = reply_result(j, call);
	job_end(j);
	return r;
}

void verify_jobs_stop(struct broker *b)
{
	for (struct verify_job *j = b->verify_jobs; j; j = j->next)
		atomic_store(&j->stop, true);
	while (b->verify_jobs)
		job_end(b->verify_jobs);
}
