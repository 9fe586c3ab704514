#include "fs/store/crew.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define HELPERS_MAX 3u
#define SPINS 2000u /* at the end, for a helper's last piece: some 20 us, less than sleeping costs */

struct job {
	void (*work)(void *arg, size_t i);
	void *arg;
	size_t count;
	atomic_size_t next;
	atomic_uint helpers; /* raised under the lock */
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t wake, idle;
	pthread_t threads[HELPERS_MAX];
	unsigned wanted, started;
	bool stop;
	struct job *job;
};

int crew_new(struct crew **ret)
{
	struct crew *c = calloc(1, sizeof(*c));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (!c)
		return -ENOMEM;
	if (cpus > 1)
		c->wanted = cpus - 1 > HELPERS_MAX ? HELPERS_MAX : (unsigned)(cpus - 1);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	pthread_cond_init(&c->idle, NULL);
	*ret = c;
	return 0;
}

static void do_work(struct job *j)
{
	size_t i;

	while ((i = atomic_fetch_add(&j->next, 1)) < j->count)
		j->work(j->arg, i);
}

static void *helper_main(void *arg)
{
	struct crew *c = arg;

	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->stop && (!c->job || atomic_load(&c->job->next) >= c->job->count))
			pthread_cond_wait(&c->wake, &c->lock);
		if (c->stop)
			break;
		struct job *j = c->job;

		atomic_fetch_add(&j->helpers, 1);
		pthread_mutex_unlock(&c->lock);
		do_work(j);
		pthread_mutex_lock(&c->lock);
		if (atomic_fetch_sub(&j->helpers, 1) == 1)
			pthread_cond_broadcast(&c->idle);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* Under the lock. */
static void start(struct crew *c)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	while (c->started < c->wanted &&
		pthread_create(&c->threads[c->started], NULL, helper_main, c) == 0)
		c->started++;
	c->wanted = c->started; /* what could not be started is not tried again */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static bool offer(struct crew *c, struct job *j)
{
	bool taken = false;

	pthread_mutex_lock(&c->lock);
	if (c->started < c->wanted)
		start(c);
	if (!c->job && c->started > 0) {
		c->job = j;
		taken = true;
		pthread_cond_broadcast(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return taken;
}

static void withdraw(struct crew *c, struct job *j)
{
	pthread_mutex_lock(&c->lock);
	c->job = NULL;
	pthread_mutex_unlock(&c->lock);
	for (unsigned n = 0; n < SPINS && atomic_load(&j->helpers) > 0; n++)
		;
	pthread_mutex_lock(&c->lock); /* the last helper lets go of it before j goes */
	while (atomic_load(&j->helpers) > 0)
		pthread_cond_wait(&c->idle, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void crew_run(struct crew *c, void (*work)(void *arg, size_t i), void *arg, size_t count)
{
	struct job j = {.work = work, .arg = arg, .count = count};
	bool shared = count > 1 && offer(c, &j);

	do_work(&j);
	if (shared)
		withdraw(c, &j);
}

void crew_free(struct crew *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->wake);
	pthread_mutex_unlock(&c->lock);
	for (unsigned n = 0; n < c->started; n++)
		pthread_join(c->threads[n], NULL);
	pthread_cond_destroy(&c->idle);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
