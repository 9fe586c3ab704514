#include "fs/worker/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define THREADS 3
#define SPIN_NS 30000 /* the cost of a wake-up: polling longer than it saves nothing */

struct loop {
	struct loop_client client;
	int fd, stop_fd;
	atomic_bool stop, gone;
	pthread_mutex_t baton; /* who holds it reads */
	pthread_t threads[THREADS];
	unsigned started;
};

static _Thread_local void *answer_buffer;

void *loop_answer_buffer(void)
{
	return answer_buffer;
}

static void *buffer_new(void);

int loop_answer_buffer_begin(void)
{
	answer_buffer = buffer_new();
	return answer_buffer ? 0 : -ENOMEM;
}

void loop_answer_buffer_end(void)
{
	if (answer_buffer)
		munmap(answer_buffer, LOOP_REQUEST_MAX);
	answer_buffer = NULL;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void is_gone(struct loop *l, int error)
{
	if (!atomic_exchange(&l->gone, true))
		l->client.gone(l->client.arg, error);
}

/* One request; 0: the loop ends.  Under the baton. */
static size_t receive(struct loop *l, void *buf)
{
	uint64_t idle_since = 0;

	for (;;) {
		ssize_t n = read(l->fd, buf, LOOP_REQUEST_MAX);

		if (n > 0)
			return (size_t)n;
		if (n < 0 && (errno == EINTR || errno == ENOENT)) /* ENOENT: interrupted before we read it */
			continue;
		if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
			is_gone(l, n == 0 || errno == ECONNABORTED ? ENODEV : errno);
			return 0;
		}
		if (atomic_load(&l->stop))
			return 0; /* nothing is queued any more */
		if (idle_since == 0)
			idle_since = now_ns();
		if (now_ns() - idle_since > SPIN_NS) {
			struct pollfd p[] = {
				{.fd = l->fd, .events = POLLIN}, {.fd = l->stop_fd, .events = POLLIN}};

			poll(p, 2, -1);
			idle_since = 0;
		}
	}
}

static void serve(struct loop *l, void *buf)
{
	for (;;) {
		size_t n;

		pthread_mutex_lock(&l->baton);
		do {
			n = atomic_load(&l->gone) ? 0 : receive(l, buf);
			if (n == 0 || l->client.is_long(buf, n))
				break;
			l->client.handle(l->client.arg, buf, n);
		} while (true);
		pthread_mutex_unlock(&l->baton);
		if (n == 0)
			return;
		l->client.handle(l->client.arg, buf, n);
	}
}

static void *buffer_new(void)
{
	void *p = mmap(NULL, LOOP_REQUEST_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, LOOP_REQUEST_MAX, MADV_DONTDUMP); /* plaintext */
	return p;
}

static void *loop_thread(void *arg)
{
	struct loop *l = arg;
	void *buf = buffer_new();

	answer_buffer = buffer_new();
	if (buf && answer_buffer)
		serve(l, buf);
	else
		is_gone(l, ENOMEM);
	if (buf)
		munmap(buf, LOOP_REQUEST_MAX);
	if (answer_buffer)
		munmap(answer_buffer, LOOP_REQUEST_MAX);
	answer_buffer = NULL;
	return NULL;
}

static void leader_stop(struct loop *l)
{
	uint64_t one = 1;

	atomic_store(&l->stop, true);
	while (write(l->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	for (unsigned n = 0; n < l->started; n++)
		pthread_join(l->threads[n], NULL);
	close(l->stop_fd);
	pthread_mutex_destroy(&l->baton);
	free(l);
}

static int leader_start(int fd, const struct loop_client *client, struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
	sigset_t all, old;
	int r = 0;

	if (!l)
		return -ENOMEM;
	l->client = *client;
	l->fd = fd;
	l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->stop_fd < 0) {
		r = -errno;
		free(l);
		return r;
	}
	pthread_mutex_init(&l->baton, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	for (; l->started < THREADS && r == 0; l->started += r == 0)
		r = -pthread_create(&l->threads[l->started], NULL, loop_thread, l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (l->started == 0) {
		leader_stop(l);
		return r;
	}
	*ret = l; /* fewer threads than wanted serve as well, slower */
	return 0;
}

const struct loop_ops loop_leader_follower = {
	.name = "leader-follower",
	.start = leader_start,
	.stop = leader_stop,
};
