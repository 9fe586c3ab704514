#include "fs/store/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/thread.h"

#define WAITING_MAX 512u /* descriptors held; a power of two */
#define GATHER_NS 5000000 /* one wake-up for many: it costs more than a close of a small file */

struct reaper {
	pthread_mutex_t lock;
	pthread_cond_t wake, done;
	pthread_t thread;
	bool started, stop, hurry;
	unsigned first, end;	/* of fds, counting on; end - first wait, the first is being closed */
	int fds[WAITING_MAX];
};

/* Under the lock: until more has come, or somebody waits. */
static void gather(struct reaper *r)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += GATHER_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (!r->hurry && !r->stop && r->end - r->first < WAITING_MAX / 2 &&
		pthread_cond_timedwait(&r->wake, &r->lock, &until) != ETIMEDOUT)
		;
}

static void close_one(struct reaper *r)
{
	int fd = r->fds[r->first % WAITING_MAX];

	pthread_mutex_unlock(&r->lock);
	close(fd);
	pthread_mutex_lock(&r->lock);
	r->first++;
	if (r->hurry) /* whoever waits does so for what was there when he came: more may come all the time */
		pthread_cond_broadcast(&r->done);
}

static void *reaper_main(void *arg)
{
	struct reaper *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->stop || r->first != r->end) {
		while (r->first == r->end && !r->stop)
			pthread_cond_wait(&r->wake, &r->lock);
		gather(r);
		while (r->first != r->end)
			close_one(r);
		r->hurry = false;
		pthread_cond_broadcast(&r->done);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* The thread begins here for the reason that crew_new() gives. */
int reaper_new(struct reaper **ret)
{
	struct reaper *r = calloc(1, sizeof(*r));
	pthread_condattr_t attr;

	if (!r)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->wake, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&r->done, NULL);
	r->started = thread_start(&r->thread, reaper_main, r) == 0;
	*ret = r;
	return 0;
}

void reaper_close(struct reaper *r, int fd)
{
	bool taken = false;

	if (fd < 0)
		return;
	pthread_mutex_lock(&r->lock);
	if (r->end - r->first < WAITING_MAX && r->started) {
		r->fds[r->end++ % WAITING_MAX] = fd;
		taken = true;
		if (r->end - r->first == 1 || r->end - r->first == WAITING_MAX / 2)
			pthread_cond_signal(&r->wake);
	}
	pthread_mutex_unlock(&r->lock);
	if (!taken)
		close(fd);
}

bool reaper_drain(struct reaper *r)
{
	unsigned until;
	bool any;

	pthread_mutex_lock(&r->lock);
	until = r->end;
	any = r->first != until;
	r->hurry |= any;
	pthread_cond_signal(&r->wake);
	while ((int)(until - r->first) > 0)
		pthread_cond_wait(&r->done, &r->lock);
	pthread_mutex_unlock(&r->lock);
	return any;
}

void reaper_free(struct reaper *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	if (r->started)
		pthread_join(r->thread, NULL);
	pthread_cond_destroy(&r->done);
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
}
