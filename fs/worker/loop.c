#include "fs/worker/loop_impl.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/thread.h"

#define SPIN_NS 30000 /* the cost of a wake-up: polling longer than it saves nothing */

static _Thread_local void *answer_buffer;

void *loop_answer_buffer(void)
{
	return answer_buffer;
}

int loop_answer_buffer_begin(void)
{
	answer_buffer = loop_buffer_new();
	return answer_buffer ? 0 : -ENOMEM;
}

void loop_answer_buffer_end(void)
{
	loop_buffer_free(answer_buffer);
	answer_buffer = NULL;
}

uint64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void loop_is_gone(struct loop *l, int error)
{
	if (!atomic_exchange(&l->gone, true))
		l->client.gone(l->client.arg, error);
}

ssize_t loop_read(struct loop *l, void *buf)
{
	ssize_t n;

	do
		n = read(l->fd, buf, LOOP_REQUEST_MAX);
	while (n < 0 && (errno == EINTR || errno == ENOENT)); /* ENOENT: interrupted before we read it; others may wait */
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	loop_is_gone(l, n == 0 || errno == ECONNABORTED ? ENODEV : errno);
	return -1;
}

/* One request; 0: the loop ends.  Under the baton. */
static size_t receive(struct loop *l, void **buf)
{
	uint64_t began = 0, idle = 0;

	for (;;) {
		bool unread = near_leads(l) && near_watch(l);
		size_t handed;
		ssize_t n;

		handed = near_handed(l, buf);
		if (handed > 0)
			return handed;
		n = loop_read(l, *buf);
		if (n > 0)
			near_saw(l, *buf, (size_t)n, idle, unread);
		if (n != 0)
			return n < 0 ? 0 : (size_t)n;
		if (atomic_load(&l->stop))
			return 0; /* nothing is queued any more */
		if (began == 0)
			began = loop_now_ns();
		if (loop_now_ns() - began > SPIN_NS) {
			struct pollfd p[] = {{.fd = l->fd, .events = POLLIN},
				{.fd = l->stop_fd, .events = POLLIN},
				{.fd = near_back_fd(l), .events = POLLIN}};

			poll(p, 3, -1);
			if (p[2].revents)
				near_back(l);
			idle = loop_now_ns() - began;
			began = 0;
		}
	}
}

static void serve(struct loop *l, void **buf)
{
	for (;;) {
		size_t n;

		pthread_mutex_lock(&l->baton);
		do {
			n = atomic_load(&l->gone) ? 0 : receive(l, buf);
			if (n == 0 || l->client.is_long(*buf, n))
				break;
			l->client.handle(l->client.arg, *buf, n);
		} while (true);
		pthread_mutex_unlock(&l->baton);
		if (n == 0)
			return;
		l->client.handle(l->client.arg, *buf, n);
		near_try(l);
	}
}

void *loop_buffer_new(void)
{
	void *p = mmap(NULL, LOOP_REQUEST_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, LOOP_REQUEST_MAX, MADV_DONTDUMP); /* plaintext */
	return p;
}

void loop_buffer_free(void *buf)
{
	if (buf)
		munmap(buf, LOOP_REQUEST_MAX);
}

static void *loop_thread(void *arg)
{
	struct loop *l = arg;
	void *buf = loop_buffer_new();

	if (buf && loop_answer_buffer_begin() == 0)
		serve(l, &buf);
	else
		loop_is_gone(l, ENOMEM);
	loop_answer_buffer_end();
	loop_buffer_free(buf);
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
	near_stop(l);
	close(l->stop_fd);
	pthread_mutex_destroy(&l->baton);
	free(l);
}

static int leader_start(int fd, const struct loop_client *client, struct loop **ret)
{
	struct loop *l = calloc(1, sizeof(*l));
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
	near_start(l);
	for (; l->started < LOOP_THREADS && r == 0; l->started += r == 0)
		r = thread_start(&l->threads[l->started], loop_thread, l);
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
