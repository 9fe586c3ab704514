#include "fs/worker/retry.h"

#include <sys/stat.h>
#include <time.h>

#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/session.h"
#include "fs/worker/worker.h"

#define KEPT_SECONDS 2	/* a thread that does not come back */

static int64_t seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec;
}

void retries_init(struct retries *t)
{
	*t = (struct retries){.count = 0};
	pthread_mutex_init(&t->lock, NULL);
}

static void let_go(struct session *s, struct inode *i)
{
	if (!i)
		return;
	resolve_file_put(s->worker->resolver, i);
	inode_unref(s->worker->inodes, i);
}

/* The lock is held. */
static void clear(struct session *s, struct retry *r)
{
	if (!r->pid)
		return;
	let_go(s, r->kept);
	*r = (struct retry){.pid = 0};
	atomic_fetch_sub(&s->retries.count, 1);
}

void retries_done(struct retries *t)
{
	pthread_mutex_destroy(&t->lock);
}

void retries_clear(struct session *s)
{
	pthread_mutex_lock(&s->retries.lock);
	for (unsigned k = 0; k < RETRIES_MAX; k++)
		clear(s, &s->retries.slots[k]);
	pthread_mutex_unlock(&s->retries.lock);
}

/* The lock is held.  Clears by the way who did not come back. */
static struct retry *find(struct session *s, pid_t pid)
{
	struct retry *found = NULL;
	int64_t now = seconds();

	for (unsigned k = 0; k < RETRIES_MAX; k++) {
		struct retry *r = &s->retries.slots[k];

		if (r->pid == pid)
			found = r;
		else if (now - r->since > KEPT_SECONDS)
			clear(s, r);
	}
	return found;
}

void retry_expect(struct session *s, pid_t pid, int what)
{
	struct retries *t = &s->retries;
	struct retry *r;

	if (!pid)
		return; /* a thread of another pid namespace */
	pthread_mutex_lock(&t->lock);
	r = find(s, pid);
	if (!r)
		r = &t->slots[t->next++ % RETRIES_MAX];
	clear(s, r);
	*r = (struct retry){.pid = pid, .what = what, .since = seconds()};
	atomic_fetch_add(&t->count, 1);
	pthread_mutex_unlock(&t->lock);
}

void retry_found(struct session *s, pid_t pid, struct inode *i)
{
	struct retries *t = &s->retries;
	struct file *f;
	struct retry *r;

	if (!pid || atomic_load(&t->count) == 0 || !S_ISREG(atomic_load(&i->mode)))
		return;
	pthread_mutex_lock(&t->lock);
	r = find(s, pid);
	if (r) {
		let_go(s, r->kept);
		r->kept = resolve_file_get(s->worker->resolver, i, &f) == 0 ? inode_ref(s->worker->inodes, i) : NULL;
		r->path = r->kept ? recorder_path(s->worker->recorder, s->worker->inodes, i, NULL) : 0;
	}
	pthread_mutex_unlock(&t->lock);
}

uint32_t retry_path(struct session *s, pid_t pid, const struct inode *i)
{
	struct retries *t = &s->retries;
	uint32_t path = 0;
	struct retry *r;

	if (!pid || atomic_load(&t->count) == 0)
		return 0;
	pthread_mutex_lock(&t->lock);
	r = find(s, pid);
	if (r && r->kept == i)
		path = r->path;
	pthread_mutex_unlock(&t->lock);
	return path;
}

void retry_over(struct session *s, pid_t pid, int what)
{
	struct retries *t = &s->retries;
	struct retry *r;

	if (!pid || atomic_load(&t->count) == 0)
		return;
	pthread_mutex_lock(&t->lock);
	r = find(s, pid);
	if (r && r->what == what)
		clear(s, r);
	pthread_mutex_unlock(&t->lock);
}
