#include "fs/broker/archive_job.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "common/log.h"
#include "common/scope.h"
#include "common/thread.h"
#include "fs/broker/archive.h"

#define CLEAN_EVERY_USEC 50000 /* records come in between */
#define CLEAN_RETRY_USEC 60000000

enum state { IDLE, MAKING, READY, FAILED };

struct archive_job {
	enum state state;
	pthread_t thread;
	int done_fd; /* eventfd: the thread has finished */
	sd_event_source *source, *clean;
	bool clean_failed; /* and that was said */
	atomic_bool stop;
	char *ledger_path;
	int64_t until;
	int64_t *journals;
	size_t journals_n;
	int result;
	struct archive_made made;
};

/* ---- the thread ---- */

static void *job_main(void *arg)
{
	struct archive_job *j = arg;
	const uint64_t one = 1;
	const struct archive_wanted w = {.ledger_path = j->ledger_path,
		.until = j->until,
		.journals = j->journals,
		.journals_n = j->journals_n,
		.stop = &j->stop};

	j->result = archive_make(&w, &j->made);
	while (write(j->done_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	return NULL;
}

static void join(struct archive_job *j)
{
	pthread_join(j->thread, NULL);
	free(take_ptr(&j->journals));
	j->state = j->result < 0 ? FAILED : j->made.statement ? READY : IDLE;
	if (j->result < 0 && j->result != -ECANCELED)
		log_error("a month of the ledger could not be archived: %s; it stays where it is", strerror(-j->result));
}

static int on_done(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) == sizeof(n))
		join(userdata);
	return 0;
}

static int start(struct broker *b, int64_t until)
{
	struct archive_job *j = b->archive;
	int r;

	j->until = until;
	r = drain_journal_ids(b->drain, &j->journals, &j->journals_n);
	if (r < 0)
		return r;
	r = thread_start(&j->thread, job_main, j);
	if (r == 0)
		j->state = MAKING;
	else
		free(take_ptr(&j->journals));
	return r;
}

/* ---- room ---- */

static int on_clean(sd_event_source *s, uint64_t usec, void *userdata)
{
	struct broker *b = userdata;
	bool more = false;
	int r = ledger_archive_clean(b->ledger, &more);

	if (r < 0 && !b->archive->clean_failed)
		log_warning("rows that are in archives are not removed from the ledger yet, it is tried again: %s", strerror(-r));
	b->archive->clean_failed = r < 0;
	if (r == 0 && !more)
		return sd_event_source_set_enabled(s, SD_EVENT_OFF);
	sd_event_source_set_time_relative(s, r < 0 ? CLEAN_RETRY_USEC : CLEAN_EVERY_USEC);
	return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static void clean_soon(struct archive_job *j)
{
	sd_event_source_set_time_relative(j->clean, CLEAN_EVERY_USEC);
	sd_event_source_set_enabled(j->clean, SD_EVENT_ONESHOT);
}

int archive_job_new(struct broker *b)
{
	struct archive_job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	b->archive = j;
	j->made.fd = -1;
	j->ledger_path = strdup(b->ledger_path);
	j->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = j->done_fd < 0 ? -errno : j->ledger_path ? 0 : -ENOMEM;
	if (r == 0)
		r = sd_event_add_io(b->event, &j->source, j->done_fd, EPOLLIN, on_done, j);
	if (r >= 0) /* a former process may not have come to its end */
		r = sd_event_add_time_relative(b->event, &j->clean, CLOCK_MONOTONIC, CLEAN_EVERY_USEC, 0, on_clean, b);
	return r < 0 ? r : 0;
}

void archive_job_free(struct broker *b)
{
	struct archive_job *j = b->archive;

	if (!j)
		return;
	b->archive = NULL;
	atomic_store(&j->stop, true);
	if (j->state == MAKING)
		join(j);
	archive_made_done(&j->made);
	sd_event_source_disable_unref(j->source);
	sd_event_source_disable_unref(j->clean);
	close_fdp(&j->done_fd);
	free(j->ledger_path);
	free(j);
}

/* ---- what keyd asks ---- */

static int bad_parameters(struct varlink_call *call, const json_error_t *e)
{
	return varlink_errorf(call, "InvalidParameter", NULL, "the request is not as it should be: %s", e->text);
}

static int reply_state(struct varlink_call *call, struct archive_job *j)
{
	static const char *const names[] = {[IDLE] = "none", [MAKING] = "making", [READY] = "ready", [FAILED] = "failed"};
	enum state state = j->state;

	if (state == FAILED)
		j->state = IDLE; /* said once; the next call tries again */
	return varlink_reply(call,
		json_pack("{s:s, s:s?, s:s?, s:s?}", "state", names[state], "name", state == READY ? j->made.archive.name : NULL,
			"statement", state == READY ? j->made.statement : NULL, "error",
			state != FAILED			 ? NULL
			: j->result == -ENOSPC		 ? "the disk is full"
			: j->result == -EUCLEAN		 ? "the ledger is damaged: run `coffer log verify`"
							 : strerror(-j->result)));
}

/* Idempotent: asked again until it is ready, or there is none. */
int keyd_archive(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	json_int_t until;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:I}", "until", &until) < 0)
		return bad_parameters(call, &e);
	if (b->archive->state == IDLE && !b->stopping) {
		char name[ARCHIVE_NAME_MAX];
		int64_t due, month_end;

		/* What we record now must not belong to a month that is over. */
		r = archive_month(time(NULL), name, &month_end);
		if (r == 0 && until >= month_end)
			until = month_end - 1;
		if (r == 0)
			r = ledger_archive_due(b->ledger, until, &due);
		if (r == 0)
			r = drain_run(b->drain);
		if (r == 0)
			r = start(b, until);
		if (r < 0 && r != -ENOENT)
			return broker_reply_errno(call, r, "the archive of the month cannot be begun");
	}
	return reply_state(call, b->archive);
}

static bool hex_signature(const char *hex, uint8_t ret[ARCHIVE_SIGNATURE_BYTES])
{
	size_t n = 0;

	return sodium_hex2bin(ret, ARCHIVE_SIGNATURE_BYTES, hex, strlen(hex), NULL, &n, NULL) == 0 && n == ARCHIVE_SIGNATURE_BYTES;
}

static struct ledger_act act_of(const char *kind, const char *user, json_int_t uid, const char *detail)
{
	struct ledger_act a = {.kind = kind, .user = user, .uid = uid, .detail = detail};
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	a.time_ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	return a;
}

int keyd_archive_signed(struct varlink_call *call, json_t *params, void *userdata)
{
	uint8_t signature[ARCHIVE_SIGNATURE_BYTES];
	const char *name, *hex, *user = NULL;
	scoped(freep) char *detail = NULL;
	struct broker *b = userdata;
	struct archive_job *j = b->archive;
	const struct archive *a = &j->made.archive;
	struct ledger_act act;
	json_auto_t *answer = NULL;
	json_int_t uid = -1;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s:s, s:s, s?s, s?I}", "name", &name, "signature", &hex, "user", &user, "uid", &uid) < 0)
		return bad_parameters(call, &e);
	if (j->state != READY || strcmp(name, a->name) != 0 || !hex_signature(hex, signature))
		return varlink_error(call, "InvalidParameter", "no archive of that name waits for a signature", NULL);
	answer = json_pack("{s:s, s:[I,I], s:I}", "name", a->name, "records", (json_int_t)a->before.to[CHAIN_RECORD] + 1,
		(json_int_t)a->last.to[CHAIN_RECORD], "batch", (json_int_t)a->last.batch);
	detail = json_dumps(answer, JSON_COMPACT | JSON_SORT_KEYS);
	act = act_of("ledger-archive", user, uid, detail);
	r = ledger_archive_take(b->ledger, &j->made, signature, &act);
	archive_made_done(&j->made);
	j->state = IDLE;
	if (r < 0)
		return broker_reply_errno(call, r, "the month stays in the ledger");
	clean_soon(j);
	log_info("the records of %s are in an archive", name);
	return varlink_reply(call, take_ptr(&answer));
}

/* What would be signed to destroy the oldest. */
int keyd_archive_end(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(freep) char *statement = NULL;
	struct broker *b = userdata;
	struct archive_end end;
	json_int_t now;
	const char *why;
	json_error_t e;
	int64_t time;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:s, s:I}", "why", &why, "time", &now) < 0)
		return bad_parameters(call, &e);
	r = ledger_archive_oldest(b->ledger, &end, &time);
	if (r == -ENOENT)
		return varlink_error(call, "NoArchive", "there is no archive", NULL);
	end.time = now;
	snprintf(end.why, sizeof(end.why), "%s", why);
	if (r == 0)
		r = archive_end_statement(&end, &statement);
	if (r < 0)
		return broker_reply_errno(call, r, "the archives are not known");
	return varlink_reply(call,
		json_pack("{s:s, s:I, s:s}", "name", end.name, "last_time", (json_int_t)time, "statement", statement));
}

int keyd_archive_destroy(struct varlink_call *call, json_t *params, void *userdata)
{
	uint8_t signature[ARCHIVE_SIGNATURE_BYTES];
	struct broker *b = userdata;
	const char *statement, *hex;
	struct ledger_act act;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:s, s:s}", "statement", &statement, "signature", &hex) < 0)
		return bad_parameters(call, &e);
	if (!hex_signature(hex, signature))
		return varlink_error(call, "InvalidParameter", "a signature is 64 bytes in hex", NULL);
	act = act_of("ledger-destroy", NULL, -1, statement);
	r = ledger_archive_destroy(b->ledger, statement, signature, &act);
	if (r == -ESTALE || r == -ENOENT)
		return varlink_error(call, "InvalidParameter", "the statement is not about the oldest archive", NULL);
	return r < 0 ? broker_reply_errno(call, r, "the archive is not destroyed") : varlink_reply(call, NULL);
}
