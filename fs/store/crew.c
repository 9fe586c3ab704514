#include "fs/store/crew.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/thread.h"

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
	unsigned started; /* before others know of it */
	bool stop;
	struct job *job;
};

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

/* Here, and not when there is work: a thread inherits the policy and the processors of the one that starts it, and
 * that would be the near reader (fs/worker/loop_near.c). */
int crew_new(struct crew **ret)
{
	struct crew *c = calloc(1, sizeof(*c));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned wanted = cpus > (long)HELPERS_MAX ? HELPERS_MAX : cpus > 1 ? (unsigned)cpus - 1 : 0;

	if (!c)
		return -ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	pthread_cond_init(&c->idle, NULL);
	while (c->started < wanted && thread_start(&c->threads[c->started], helper_main, c) == 0)
		c->started++; /* what cannot be started is done without */
	*ret = c;
	return 0;
}

static bool offer(struct crew *c, struct job *j)
{
	bool taken = false;

	pthread_mutex_lock(&c->lock);
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
	bool shared = c && count > 1 && offer(c, &j);

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
