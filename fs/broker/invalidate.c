#include "fs/broker/invalidate.h"

#include <errno.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"

#define ROOT_NODE 1u
/* A read below this is refused when the file system allows writes of 1 MiB. */
#define DISCARD_BYTES (4u << 20)

struct invalidation {
	int fuse_fd, keeper_fd, done_fd, stop_fd;
	pthread_t thread, refuser;
	bool refuser_runs;
	sd_event_source *source;
	void (*done)(void *userdata);
	void *userdata;
	size_t n;
	uint64_t nodes[];
};

static int notify_inode(int fd, uint64_t node)
{
	struct fuse_notify_inval_inode_out body = {.ino = node, .off = 0, .len = 0};
	struct fuse_out_header head = {
		.len = sizeof(head) + sizeof(body), .error = FUSE_NOTIFY_INVAL_INODE, .unique = 0};
	struct iovec iov[2] = {{&head, sizeof(head)}, {&body, sizeof(body)}};

	return writev(fd, iov, 2) < 0 ? -errno : 0;
}

/* Ends what waits to be read.  The buffer cannot be written, so the kernel ends each request with EIO when it
 * tries to copy it: plaintext of a WRITE never comes here.  EFAULT is therefore what success looks like. */
static void *refuse_requests(void *arg)
{
	struct invalidation *v = arg;
	void *nowhere =
		mmap(NULL, DISCARD_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct pollfd p[2] = {{.fd = v->fuse_fd, .events = POLLIN}, {.fd = v->stop_fd, .events = POLLIN}};

	if (nowhere == MAP_FAILED)
		return NULL;
	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents || p[0].revents & (POLLERR | POLLHUP | POLLNVAL))
			break;
		if (p[0].revents & POLLIN && read(v->fuse_fd, nowhere, DISCARD_BYTES) < 0 && errno == ENODEV)
			break;
	}
	munmap(nowhere, DISCARD_BYTES);
	return NULL;
}

static void signal_fd(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		log_error("an event counter cannot be written: %s", strerror(errno));
}

static void *invalidate_nodes(void *arg)
{
	struct invalidation *v = arg;

	for (size_t i = 0; i < v->n; i++)
		if (notify_inode(v->fuse_fd, v->nodes[i]) == -ENOTCONN)
			break; /* the mount is gone: so are its caches */
	notify_inode(v->fuse_fd, ROOT_NODE);
	signal_fd(v->stop_fd);
	signal_fd(v->done_fd);
	return NULL;
}

static void invalidation_free(struct invalidation *v)
{
	sd_event_source_disable_unref(v->source);
	close_fdp(&v->fuse_fd);
	close_fdp(&v->keeper_fd);
	close_fdp(&v->done_fd);
	close_fdp(&v->stop_fd);
	free(v);
}

static int on_done(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
	struct invalidation *v = userdata;
	void (*done)(void *) = v->done;
	void *arg = v->userdata;

	pthread_join(v->thread, NULL);
	if (v->refuser_runs)
		pthread_join(v->refuser, NULL);
	invalidation_free(v);
	done(arg);
	return 0;
}

int invalidate_start(sd_event *event, int fuse_fd, int keeper_fd, const uint64_t *nodes, size_t n,
	void (*done)(void *userdata), void *userdata)
{
	struct invalidation *v = calloc(1, sizeof(*v) + n * sizeof(v->nodes[0]));
	int r;

	if (!v) {
		close_fdp(&fuse_fd);
		close_fdp(&keeper_fd);
		return -ENOMEM;
	}
	v->fuse_fd = fuse_fd;
	v->keeper_fd = keeper_fd;
	v->done = done;
	v->userdata = userdata;
	for (size_t i = 0; i < n; i++)
		if (nodes[i])
			v->nodes[v->n++] = nodes[i];
	v->done_fd = eventfd(0, EFD_CLOEXEC);
	v->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = v->done_fd < 0 || v->stop_fd < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_io(event, &v->source, v->done_fd, EPOLLIN, on_done, v);
	if (r >= 0) {
		v->refuser_runs = pthread_create(&v->refuser, NULL, refuse_requests, v) == 0;
		r = -pthread_create(&v->thread, NULL, invalidate_nodes, v);
	}
	if (r < 0) {
		if (v->refuser_runs) {
			signal_fd(v->stop_fd);
			pthread_join(v->refuser, NULL);
		}
		invalidation_free(v);
	}
	return r < 0 ? r : 0;
}
