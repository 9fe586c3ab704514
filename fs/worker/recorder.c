#include "fs/worker/recorder.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/date.h"
#include "common/log.h"
#include "fs/store/crew.h"
#include "fs/store/store.h"
#include "fs/worker/process.h"

#define WAIT_MS 500                  /* for fsd to make room: long for a program, short for an unmount */
#define OWED_MAX 1024                /* one for each request that can run at once, and more */
#define PROCESSES 256                /* direct-mapped by pid */
#define PROCESS_FRESH_NS 1000000000u /* a pid runs another program after exec: look again after a second */
#define PATH_TEXT_MAX 4095

struct known_process {
	uint32_t pid, ref;
	uint64_t looked_ns;
	struct process_info info;
};

struct recorder {
	struct journal_writer *journal;
	struct store *store;
	struct crew *crew;
	int proc_fd;
	pthread_mutex_t lock; /* numbers, owed records; spans appends, so that a number is written before it
				 is used */
	uint32_t last_path, last_process, epoch;
	struct known_process processes[PROCESSES];
	struct record_access owed[OWED_MAX];
	atomic_uint owed_count;
	bool owed_lost;
};

/* A build without records exists only to measure what they cost, and must be asked for at run time, too. */
#ifdef COFFER_UNRECORDED
static const bool unrecorded = true;
#else
static const bool unrecorded = false;
#endif

static bool may_serve(void)
{
	const char *asked = getenv("COFFER_UNRECORDED");

	return !unrecorded || (asked && strcmp(asked, "benchmark") == 0);
}

int recorder_new(struct journal_writer *journal, struct store *store, int proc_fd, struct recorder **ret)
{
	struct recorder *r;

	if (!may_serve())
		return -EPERM;
	r = calloc(1, sizeof(*r));
	if (!r || crew_new(&r->crew) < 0) {
		free(r);
		return -ENOMEM;
	}
	pthread_mutex_init(&r->lock, NULL);
	r->journal = journal;
	r->store = store;
	r->proc_fd = proc_fd;
	*ret = r;
	return 0;
}

void recorder_free(struct recorder *r)
{
	if (!r)
		return;
	crew_free(r->crew);
	journal_writer_close(r->journal);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

struct journal_writer *recorder_journal(struct recorder *r)
{
	return r->journal;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int append(struct recorder *r, const struct record *record)
{
	uint8_t buf[RECORD_BYTES_MAX];
	int n = record_encode(record, buf, sizeof(buf));

	if (n < 0)
		return n;
	return journal_append(r->journal, buf, (size_t)n, WAIT_MS);
}

static int append_access(struct recorder *r, const struct record_access *a)
{
	struct record record = {.kind = RECORD_KIND_ACCESS, .access = *a};

	return append(r, &record);
}

/* Under the lock. */
static int pay_owed(struct recorder *r)
{
	unsigned n = atomic_load(&r->owed_count), done;
	int e = 0;

	for (done = 0; done < n && e == 0; done++)
		e = append_access(r, &r->owed[done]);
	if (e < 0)
		done--;
	memmove(r->owed, r->owed + done, (n - done) * sizeof(r->owed[0]));
	atomic_store(&r->owed_count, n - done);
	return e;
}

static int pay(struct recorder *r)
{
	int e;

	if (atomic_load(&r->owed_count) == 0)
		return 0;
	pthread_mutex_lock(&r->lock);
	e = pay_owed(r);
	pthread_mutex_unlock(&r->lock);
	return e;
}

int recorder_ready(struct recorder *r)
{
	int e;

	if (unrecorded)
		return 0;
	e = pay(r);
	return e == 0 ? journal_ready(r->journal, WAIT_MS) : e;
}

int recorder_append(struct recorder *r, struct record_access *a)
{
	int e;

	if (unrecorded)
		return 0;
	a->time_ns = clock_ns(CLOCK_REALTIME);
	e = pay(r);
	if (e == 0)
		e = append_access(r, a);
	if (e == 0)
		return 0;
	pthread_mutex_lock(&r->lock);
	if (atomic_load(&r->owed_count) < OWED_MAX) {
		r->owed[atomic_load(&r->owed_count)] = *a;
		atomic_fetch_add(&r->owed_count, 1);
	} else if (!r->owed_lost) {
		r->owed_lost = true;
		log_error("no room for records and none in memory: records are lost");
	}
	pthread_mutex_unlock(&r->lock);
	log_error("no room in the journal for a record: access is refused until there is (%s)", strerror(-e));
	return -ENOSPC;
}

struct sync_both {
	struct recorder *r;
	int (*more)(void *arg);
	void *arg;
	int results[2];
};

static void sync_one(void *arg, size_t i)
{
	struct sync_both *b = arg;

	b->results[i] = i == 0 ? b->more(b->arg) : journal_sync(b->r->journal);
}

int recorder_sync_with(struct recorder *r, int (*more)(void *arg), void *arg)
{
	struct sync_both b = {.r = r, .more = more, .arg = arg};

	if (journal_is_synced(r->journal))
		return more(arg);
	crew_run(r->crew, sync_one, &b, 2);
	return b.results[0] < 0 ? b.results[0] : b.results[1];
}

/* ---- paths ---- */

/* Writes the path before `end`, from the last name upwards.  NULL: no name left, or too long. */
static char *path_build(
	struct inode_table *t, const struct inode *i, const char *name, char *start, char *end)
{
	while (name || i->index != INODE_ROOT) {
		size_t n;

		if (!name) {
			const struct dentry *d = inode_name(t, i);

			if (!d)
				return NULL;
			name = d->name;
			i = d->parent;
		}
		n = strlen(name);
		if ((size_t)(end - start) < n + 1)
			return NULL;
		end -= n;
		memcpy(end, name, n);
		if (i->index != INODE_ROOT)
			*--end = '/';
		name = NULL;
	}
	return end;
}

static uint32_t text_write(struct recorder *r, const char *text, size_t len, uint16_t month)
{
	uint8_t sealed[RECORD_PATH_MAX];
	struct record record = {.kind = RECORD_KIND_PATH};
	int n = store_seal_path(r->store, month, text, len, sealed, sizeof(sealed));

	if (n < 0) {
		log_error("a path could not be sealed for the ledger: %s", strerror(-n));
		return 0;
	}
	record.path = (struct record_path){
		.ref = r->last_path + 1, .month = month, .sealed_len = (uint16_t)n, .sealed = sealed};
	if (append(r, &record) < 0)
		return 0;
	return ++r->last_path;
}

static uint32_t path_write(
	struct recorder *r, struct inode_table *t, struct inode *i, const char *name, uint16_t month)
{
	char text[PATH_TEXT_MAX + 1];
	char *end = text + sizeof(text), *path = path_build(t, i, name, text, end);

	return path ? text_write(r, path, (size_t)(end - path), month) : 0;
}

static uint16_t this_month(void)
{
	static _Thread_local int64_t month_checked;
	static _Thread_local uint16_t month_day;
	int64_t now = (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000000u);

	if (now != month_checked) {
		month_checked = now;
		month_day = date_month_day(now);
	}
	return month_day;
}

uint32_t recorder_text(struct recorder *r, const char *text, size_t n)
{
	uint32_t ref;

	if (unrecorded)
		return 0;
	pthread_mutex_lock(&r->lock);
	ref = text_write(r, text, n, this_month());
	pthread_mutex_unlock(&r->lock);
	return ref;
}

uint32_t recorder_path(struct recorder *r, struct inode_table *t, struct inode *i, const char *name)
{
	uint16_t month_day;
	uint32_t ref;

	if (unrecorded)
		return 0;
	month_day = this_month();
	pthread_mutex_lock(&r->lock);
	if (!name && i->path_ref && i->path_epoch == r->epoch && i->path_month == month_day) {
		ref = i->path_ref;
	} else {
		ref = path_write(r, t, i, name, month_day);
		if (!name) {
			i->path_ref = ref;
			i->path_epoch = r->epoch;
			i->path_month = month_day;
		}
	}
	pthread_mutex_unlock(&r->lock);
	return ref;
}

void recorder_paths_changed(struct recorder *r)
{
	pthread_mutex_lock(&r->lock);
	r->epoch++;
	pthread_mutex_unlock(&r->lock);
}

void recorder_path_forget(struct recorder *r, struct inode *i)
{
	pthread_mutex_lock(&r->lock);
	i->path_ref = 0;
	pthread_mutex_unlock(&r->lock);
}

/* ---- processes ---- */

uint32_t recorder_process(struct recorder *r, uint32_t pid)
{
	struct known_process *k = &r->processes[pid % PROCESSES];
	uint64_t now = clock_ns(CLOCK_MONOTONIC);
	struct record record = {.kind = RECORD_KIND_PROCESS};
	struct process_info info;
	uint32_t ref;

	if (pid == 0 || unrecorded)
		return 0;
	pthread_mutex_lock(&r->lock);
	ref = k->pid == pid && now - k->looked_ns < PROCESS_FRESH_NS ? k->ref : 0;
	pthread_mutex_unlock(&r->lock);
	if (ref)
		return ref;
	process_look(r->proc_fd, pid, &info);
	pthread_mutex_lock(&r->lock);
	if (k->pid != pid || k->ref == 0 || memcmp(&k->info, &info, sizeof(info)) != 0) {
		record.process = (struct record_process){
			.ref = r->last_process + 1, .pid = pid, .loginuid = info.loginuid};
		memcpy(record.process.comm, info.comm, sizeof(info.comm));
		*k = (struct known_process){.pid = pid, .info = info};
		if (append(r, &record) == 0)
			k->ref = ++r->last_process;
	}
	k->looked_ns = now;
	ref = k->ref;
	pthread_mutex_unlock(&r->lock);
	return ref;
}
