#include "fs/worker/stable.h"

#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/log.h"
#include "common/thread.h"
#include "fs/worker/handle.h"
#include "fs/worker/inode.h"
#include "fs/worker/ops.h"
#include "fs/worker/session.h"
#include "fs/worker/worker.h"

#define WAITING_BYTES_MAX (64u << 20) /* above it a thread waits with its own answer */

struct request {
	uint32_t opcode;
	uint64_t node, due;
};

static _Thread_local struct request current;

struct answer {
	struct answer *next;
	struct session *session;
	struct request request;
	size_t n;
	_Alignas(struct fuse_out_header) uint8_t bytes[];
};

struct stable {
	struct journal_writer *journal;
	pthread_t thread;
	pthread_mutex_t lock; /* a leaf, all below */
	pthread_cond_t come, gone;
	struct answer *waiting, **waiting_end; /* for the next sync */
	struct answer *flight;                 /* for the one that runs, and then being written */
	const struct session *writing;
	size_t bytes;
	bool soon;                             /* something may be in the journal that no answer waits for */
	bool stop, failing;
};

/* ---- what a request's thread knows ---- */

void stable_request(uint32_t opcode, uint64_t node)
{
	current = (struct request){.opcode = opcode, .node = node};
}

void stable_due(uint64_t position)
{
	if (position > current.due)
		current.due = position;
}

uint64_t stable_due_now(void)
{
	return current.due;
}

/* ---- one answer ---- */

static void handle_back(struct session *s, enum handle_kind kind, uint64_t node, const struct fuse_open_out *o)
{
	struct handle *h = handle_release(s->handles, o->fh, kind, node);

	if (h)
		ops_handle_put(s, h);
}

/* The kernel never hears of it: what only the kernel could give back is taken back. */
static void take_back(struct session *s, const struct request *q, const uint8_t *body, size_t n)
{
	struct fuse_entry_out entry = {.nodeid = 0};
	struct fuse_open_out open;
	bool makes = q->opcode == FUSE_CREATE || q->opcode == FUSE_MKNOD || q->opcode == FUSE_MKDIR ||
		     q->opcode == FUSE_SYMLINK || q->opcode == FUSE_LINK || q->opcode == FUSE_LOOKUP;
	bool opens = q->opcode == FUSE_CREATE || q->opcode == FUSE_OPEN || q->opcode == FUSE_OPENDIR;
	size_t at = makes ? sizeof(entry) : 0;

	if (n < at + (opens ? sizeof(open) : 0))
		return;
	if (makes)
		memcpy(&entry, body, sizeof(entry));
	if (opens) {
		memcpy(&open, body + at, sizeof(open));
		handle_back(s, q->opcode == FUSE_OPENDIR ? HANDLE_DIR : HANDLE_FILE, makes ? entry.nodeid : q->node, &open);
	}
	if (entry.nodeid)
		inode_forget(s->worker->inodes, &s->view, entry.nodeid, 1);
}

/* r: of the sync. */
static void answer_write(const struct answer *a, int r)
{
	const struct fuse_out_header *h = (const void *)a->bytes;
	bool lost = false;

	if (r == 0)
		lost = write(a->session->fd, a->bytes, a->n) < 0; /* nobody waits any more */
	if (r < 0 || lost)
		take_back(a->session, &a->request, a->bytes + sizeof(*h), a->n - sizeof(*h));
	if (r < 0)
		session_answer_error(a->session, h->unique, -r);
}

/* ---- the thread that syncs ---- */

static void note_failing(struct stable *t, int r)
{
	if (r < 0 && !t->failing)
		log_error("records cannot be brought to the disk: %s; what waits for that is refused", strerror(-r));
	if (r == 0 && t->failing)
		log_info("records reach the disk again");
	t->failing = r < 0;
}

/* Under the lock, which it gives up while it writes. */
static void write_flight(struct stable *t, int r)
{
	while (t->flight) {
		struct answer *a = t->flight;
		int one = r < 0 && journal_is_durable(t->journal, a->request.due) ? 0 : r;

		t->flight = a->next;
		t->bytes -= a->n;
		t->writing = a->session;
		pthread_mutex_unlock(&t->lock);
		answer_write(a, one);
		free(a);
		pthread_mutex_lock(&t->lock);
		t->writing = NULL;
		pthread_cond_broadcast(&t->gone);
	}
}

/* Under the lock.  For company; then it is time. */
static void wait_soon(struct stable *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += STABLE_SOON_MS * 1000000l;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	while (!t->waiting && !t->stop)
		if (pthread_cond_clockwait(&t->come, &t->lock, CLOCK_MONOTONIC, &ts) != 0)
			break;
}

/* Under the lock.  False: it is over. */
static bool wait_for_work(struct stable *t)
{
	while (!t->waiting && !t->soon && !t->stop)
		pthread_cond_wait(&t->come, &t->lock);
	if (t->waiting || !t->soon)
		return t->waiting;
	wait_soon(t);
	return true;
}

static void *stable_thread(void *arg)
{
	struct stable *t = arg;
	int r;

	note_failing(t, journal_writer_keep_synced(t->journal));
	pthread_mutex_lock(&t->lock);
	while (wait_for_work(t)) {
		t->soon = false;
		t->flight = t->waiting;
		t->waiting = NULL;
		t->waiting_end = &t->waiting;
		pthread_mutex_unlock(&t->lock);
		r = journal_sync(t->journal);
		note_failing(t, r);
		pthread_mutex_lock(&t->lock);
		write_flight(t, r);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

int stable_new(struct journal_writer *journal, struct stable **ret)
{
	struct stable *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->journal = journal;
	t->waiting_end = &t->waiting;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->come, NULL);
	pthread_cond_init(&t->gone, NULL);
	r = thread_start(&t->thread, stable_thread, t);
	if (r < 0) {
		free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void stable_free(struct stable *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->stop = true;
	pthread_cond_signal(&t->come);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->come);
	pthread_cond_destroy(&t->gone);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* ---- answers come, and are cancelled ---- */

void stable_soon(struct stable *t)
{
	pthread_mutex_lock(&t->lock);
	if (!t->soon) {
		t->soon = true;
		pthread_cond_signal(&t->come);
	}
	pthread_mutex_unlock(&t->lock);
}

static bool enqueue(struct stable *t, struct answer *a)
{
	bool room;

	pthread_mutex_lock(&t->lock);
	room = t->bytes + a->n <= WAITING_BYTES_MAX;
	if (room) {
		*t->waiting_end = a;
		t->waiting_end = &a->next;
		t->bytes += a->n;
		pthread_cond_signal(&t->come);
	}
	pthread_mutex_unlock(&t->lock);
	return room;
}

ssize_t stable_answer(struct stable *t, struct session *s, const struct iovec *iov, int count)
{
	const struct fuse_out_header *h = iov[0].iov_base;
	struct answer *a;
	size_t n = 0, at = 0;

	/* An error gives nothing; a notification answers nobody. */
	if (h->unique == 0 || h->error != 0 || current.due == 0 || journal_is_durable(t->journal, current.due))
		return writev(s->fd, iov, count);
	for (int i = 0; i < count; i++)
		n += iov[i].iov_len;
	a = malloc(sizeof(*a) + n);
	if (!a) {
		errno = ENOMEM;
		return -1;
	}
	*a = (struct answer){.session = s, .request = current, .n = n};
	for (int i = 0; i < count; at += iov[i++].iov_len)
		memcpy(a->bytes + at, iov[i].iov_base, iov[i].iov_len);
	if (!enqueue(t, a)) {
		answer_write(a, journal_sync(t->journal));
		free(a);
	}
	return (ssize_t)n;
}

/* Under the lock.  Takes those of s out of the list into *ret. */
static void pick(struct stable *t, struct answer **list, const struct session *s, struct answer **ret)
{
	while (*list) {
		struct answer *a = *list;

		if (a->session != s) {
			list = &a->next;
			continue;
		}
		*list = a->next;
		t->bytes -= a->n;
		a->next = *ret;
		*ret = a;
	}
}

void stable_cancel(struct stable *t, struct session *s, int error)
{
	struct answer *picked = NULL;

	pthread_mutex_lock(&t->lock);
	pick(t, &t->flight, s, &picked);
	pick(t, &t->waiting, s, &picked);
	for (t->waiting_end = &t->waiting; *t->waiting_end;)
		t->waiting_end = &(*t->waiting_end)->next;
	while (t->writing == s)
		pthread_cond_wait(&t->gone, &t->lock);
	pthread_mutex_unlock(&t->lock);
	while (picked) {
		struct answer *a = picked;

		picked = a->next;
		session_answer_error(s, ((const struct fuse_out_header *)(const void *)a->bytes)->unique, error);
		free(a);
	}
}
