#include "common/varlink_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/scope.h"

#define WIRE_IN_FIRST 4096 /* most calls fit */

static void close_fds(int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close_fdp(&fds[i]);
}

static void out_free(struct wire_out *o)
{
	close_fds(o->fd, o->n);
	free(o->data);
	free(o);
}
DEFINE_SCOPED(struct wire_out *, out_free)

void wire_init(struct wire *w, int fd)
{
	*w = (struct wire){.fd = fd, .in_max = VARLINK_MESSAGE_MAX};
	w->out_tail = &w->out;
}

void wire_done(struct wire *w)
{
	for (unsigned i = 0; i < WIRE_FDS_BATCHES; i++)
		close_fds(w->batch[i].fd, w->batch[i].n);
	for (struct wire_out *o = w->out, *next; o; o = next) {
		next = o->next;
		out_free(o);
	}
	free(w->in);
	close_fdp(&w->fd);
	wire_init(w, -1);
}

/* Room for at least one more byte; the limit is on one message and its NUL. */
static int make_room(struct wire *w)
{
	size_t size = w->in_size;
	char *bigger;

	if (w->in_start > 0) {
		memmove(w->in, w->in + w->in_start, w->in_end - w->in_start);
		for (unsigned i = 0; i < WIRE_FDS_BATCHES; i++)
			if (w->batch[i].n > 0)
				w->batch[i].at -= w->in_start;
		w->in_end -= w->in_start;
		w->in_scanned -= w->in_start;
		w->in_start = 0;
	}
	if (w->in_end < size)
		return 0;
	if (size > w->in_max)
		return -EMSGSIZE;
	size = size == 0 ? WIRE_IN_FIRST : 2 * size;
	if (size > w->in_max)
		size = w->in_max + 1;
	bigger = realloc(w->in, size);
	if (!bigger)
		return -ENOMEM;
	w->in = bigger;
	w->in_size = size;
	return 0;
}

static void keep_fds(struct wire *w, size_t at, const int *fds, unsigned n)
{
	for (unsigned i = 0; i < WIRE_FDS_BATCHES; i++) {
		struct wire_fds *b = &w->batch[i];

		if (b->n > 0)
			continue;
		b->at = at;
		b->n = n;
		memcpy(b->fd, fds, n * sizeof(*fds));
		return;
	}
	for (unsigned i = 0; i < n; i++)
		close(fds[i]); /* surplus */
}

/* Where the last message begun in in[from..end) starts; `from` when it began before. */
static size_t last_begun(const struct wire *w, size_t from)
{
	const char *nul = NULL;

	if (w->in_end - from >= 2)
		nul = memrchr(w->in + from, '\0', w->in_end - from - 1);
	return nul ? (size_t)(nul + 1 - w->in) : from;
}

static void take_control(struct wire *w, struct msghdr *m, size_t from)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int fds[VARLINK_FDS_MAX];
		unsigned n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		if (n > VARLINK_FDS_MAX)
			n = VARLINK_FDS_MAX; /* cannot be: the buffer has no room for more */
		memcpy(fds, CMSG_DATA(c), n * sizeof(int));
		keep_fds(w, last_begun(w, from), fds, n);
	}
}

int wire_read(struct wire *w)
{
	/* Room for exactly VARLINK_FDS_MAX: the kernel never installs the surplus. */
	union {
		char buf[CMSG_SPACE(sizeof(int) * VARLINK_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	size_t from;
	ssize_t n;
	int r;

	r = make_room(w);
	if (r < 0)
		return r;
	if (w->no_fds)
		m.msg_controllen = 0;
	iov = (struct iovec){w->in + w->in_end, w->in_size - w->in_end};
	do {
		n = recvmsg(w->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	from = w->in_end;
	w->in_end += (size_t)n;
	take_control(w, &m, from);
	return n > 0;
}

bool wire_has_message(struct wire *w)
{
	const char *nul;

	if (w->in_scanned >= w->in_end)
		return false;
	nul = memchr(w->in + w->in_scanned, '\0', w->in_end - w->in_scanned);
	w->in_scanned = nul ? (size_t)(nul - w->in) : w->in_end;
	return nul;
}

bool wire_has_part(struct wire *w)
{
	return w->in_end > w->in_start && !wire_has_message(w);
}

/* Descriptors of the message that ends before `end`; a second batch for one message is surplus. */
static void take_fds(struct wire *w, size_t end, int *fds)
{
	bool have = false;

	for (unsigned i = 0; i < VARLINK_FDS_MAX; i++)
		fds[i] = -1;
	for (unsigned i = 0; i < WIRE_FDS_BATCHES; i++) {
		struct wire_fds *b = &w->batch[i];

		if (b->n == 0 || b->at >= end)
			continue;
		if (have)
			close_fds(b->fd, b->n);
		else
			memcpy(fds, b->fd, b->n * sizeof(*fds));
		have = true;
		b->n = 0;
	}
	if (w->batch[0].n == 0 && w->batch[1].n > 0) {
		w->batch[0] = w->batch[1];
		w->batch[1].n = 0;
	}
}

static void consume(struct wire *w, size_t end)
{
	w->in_start = w->in_scanned = end;
	if (w->in_start < w->in_end)
		return;
	w->in_start = w->in_scanned = w->in_end = 0;
	if (w->in_size > WIRE_IN_FIRST) { /* one large message must not hold its memory for ever */
		free(w->in);
		w->in = NULL;
		w->in_size = 0;
	}
}

int wire_next(struct wire *w, json_t **ret, int *fds)
{
	json_t *message;
	size_t end;

	if (!wire_has_message(w))
		return 0;
	end = w->in_scanned;
	message = json_loadb(w->in + w->in_start, end - w->in_start, JSON_REJECT_DUPLICATES, NULL);
	take_fds(w, end + 1, fds);
	consume(w, end + 1);
	if (!json_is_object(message)) {
		json_decref(message);
		close_fds(fds, VARLINK_FDS_MAX);
		return -EBADMSG;
	}
	*ret = message;
	return 1;
}

int wire_queue(struct wire *w, const json_t *message, const int *fds, unsigned n)
{
	scoped(out_freep) struct wire_out *o = NULL;

	if (n > VARLINK_FDS_MAX)
		return -EINVAL;
	o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->data = json_dumps(message, JSON_COMPACT);
	if (!o->data)
		return -ENOMEM;
	o->len = strlen(o->data) + 1;
	if (o->len > VARLINK_MESSAGE_MAX)
		return -EMSGSIZE;
	for (; o->n < n; o->n++) {
		o->fd[o->n] = fcntl(fds[o->n], F_DUPFD_CLOEXEC, 3);
		if (o->fd[o->n] < 0)
			return -errno;
	}
	w->out_bytes += o->len;
	*w->out_tail = o;
	w->out_tail = &o->next;
	take_ptr(&o);
	return 0;
}

static ssize_t send_some(struct wire *w, struct wire_out *o)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * VARLINK_FDS_MAX)];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {o->data + o->off, o->len - o->off};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (o->off == 0 && o->n > 0) {
		struct cmsghdr *c = &control.align;

		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(o->n * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(o->n * sizeof(int));
		memcpy(CMSG_DATA(c), o->fd, o->n * sizeof(int));
	}
	return sendmsg(w->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int wire_flush(struct wire *w)
{
	while (w->out) {
		struct wire_out *o = w->out;
		ssize_t n = send_some(w, o);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		o->off += (size_t)n;
		w->out_bytes -= (size_t)n;
		if (o->off < o->len)
			continue;
		w->out = o->next;
		if (!w->out)
			w->out_tail = &w->out;
		out_free(o);
	}
	return 1;
}
