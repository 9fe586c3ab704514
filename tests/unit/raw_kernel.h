/* A session whose kernel is the test: raw requests go in by a socket, raw answers come out. */
#ifndef COFFER_RAW_KERNEL_H
#define COFFER_RAW_KERNEL_H

#include "worker_fixture.h"

#include <linux/fuse.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "fs/worker/handle.h"

#define UID 1234u

struct kernel {
	struct worker_fixture x;
	struct session *s;
	int fd;
	uint64_t unique;
	uint32_t uid, pid;
	union {
		struct fuse_out_header head;
		uint8_t bytes[1 << 18];
	} answer;
	size_t answer_n;
};

static inline void send_raw(struct kernel *k, const void *bytes, size_t n)
{
	assert_int_equal(send(k->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static inline uint64_t send_request(struct kernel *k, uint32_t opcode, uint64_t node, const void *arg, size_t n)
{
	uint8_t buf[8192];
	struct fuse_in_header in = {.len = (uint32_t)(sizeof(in) + n),
		.opcode = opcode,
		.unique = ++k->unique,
		.nodeid = node,
		.uid = k->uid,
		.gid = k->uid,
		.pid = k->pid};

	assert_true(n <= sizeof(buf) - sizeof(in));
	memcpy(buf, &in, sizeof(in));
	if (n)
		memcpy(buf + sizeof(in), arg, n);
	send_raw(k, buf, sizeof(in) + n);
	return in.unique;
}

/* The answer to `unique`; others (late ones, notifications) are passed over.  Its error, positive. */
static inline int answer(struct kernel *k, uint64_t unique)
{
	do {
		struct pollfd p = {.fd = k->fd, .events = POLLIN};
		ssize_t n;

		assert_int_equal(poll(&p, 1, 20000), 1);
		n = recv(k->fd, k->answer.bytes, sizeof(k->answer), 0);
		assert_true(n >= (ssize_t)sizeof(k->answer.head));
		assert_int_equal(k->answer.head.len, n);
		k->answer_n = (size_t)n;
	} while (k->answer.head.unique != unique);
	return -k->answer.head.error;
}

static inline int ask(struct kernel *k, uint32_t opcode, uint64_t node, const void *arg, size_t n)
{
	return answer(k, send_request(k, opcode, node, arg, n));
}

static inline const void *out(const struct kernel *k)
{
	return k->answer.bytes + sizeof(k->answer.head);
}

static inline struct kernel *begin_terms(const struct session_terms *terms)
{
	struct fuse_init_in init = {.major = FUSE_KERNEL_VERSION,
		.minor = 38,
		.max_readahead = 131072,
		.flags = FUSE_HANDLE_KILLPRIV_V2 | FUSE_HANDLE_KILLPRIV | FUSE_BIG_WRITES | FUSE_MAX_PAGES |
			 FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS};
	struct kernel *k = calloc(1, sizeof(*k));
	int pair[2], table;

	assert_non_null(k);
	worker_fixture_setup(&k->x, 1 << 20);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	/* A kernel takes every answer; a socket only while it has room: few requests under way, room for many answers. */
	assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &(int){16 << 10}, sizeof(int)), 0);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &(int){1 << 20}, sizeof(int)), 0);
	table = memfd_create("table", MFD_CLOEXEC);
	assert_int_equal(ftruncate(table, HANDLE_MAX * 8), 0);
	assert_int_equal(session_new(&k->x.w, terms, &k->s), 0);
	k->fd = pair[0];
	k->uid = UID;
	k->pid = 1;
	assert_int_equal(session_attach(k->s, pair[1], table), 0);
	close(table);
	assert_int_equal(ask(k, FUSE_INIT, 0, &init, sizeof(init)), 0);
	return k;
}

static inline struct kernel *begin_as(bool read_only, bool exclusive)
{
	return begin_terms(&(struct session_terms){.number = 9,
		.uid = UID,
		.gid = UID,
		.read_only = read_only,
		.exclusive = exclusive,
		.classes = class_set_all()});
}

static inline struct kernel *begin(bool read_only)
{
	return begin_as(read_only, false);
}

static inline struct kernel *begin_shared(void)
{
	return begin_terms(&(struct session_terms){.number = 9, .shared = true, .classes = class_set_all()});
}

static inline void wait_dead(struct kernel *k)
{
	while (atomic_load(&k->s->state) != SESSION_DEAD) {
		struct pollfd p[] = {
			{.fd = k->x.w.event_fd, .events = POLLIN}, {.fd = k->fd, .events = POLLIN}};
		uint64_t n;

		assert_true(poll(p, 2, 20000) > 0);
		(void)!read(k->x.w.event_fd, &n, sizeof(n));
		(void)!recv(k->fd, k->answer.bytes, sizeof(k->answer), MSG_DONTWAIT);
	}
}

static inline void end(struct kernel *k)
{
	session_end(k->s, EKEYREVOKED, "test");
	wait_dead(k);
	assert_int_equal(inode_table_count(k->x.w.inodes), 1); /* nothing leaked */
	session_free(k->s);
	close(k->fd);
	worker_fixture_teardown(&k->x);
	free(k);
}

static inline unsigned count_refused(struct kernel *k, const char *word)
{
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;
	unsigned n = 0;

	while (next_record(&k->x, buf, &rec))
		n += rec.kind == RECORD_KIND_ACCESS && rec.access.op == RECORD_REFUSED &&
		     strcmp(rec.access.detail, word) == 0;
	return n;
}

struct created {
	uint64_t node, fh;
};

static inline struct created create(struct kernel *k, const char *name)
{
	uint8_t arg[sizeof(struct fuse_create_in) + 64] = {0};
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0644};
	const struct fuse_entry_out *e = out(k);
	const struct fuse_open_out *o = (const void *)(e + 1);

	memcpy(arg, &in, sizeof(in));
	memcpy(arg + sizeof(in), name, strlen(name) + 1);
	assert_int_equal(ask(k, FUSE_CREATE, FUSE_ROOT_ID, arg, sizeof(in) + strlen(name) + 1), 0);
	return (struct created){e->nodeid, o->fh};
}

static inline int write_at(struct kernel *k, uint64_t node, uint64_t fh, uint32_t flags)
{
	uint8_t arg[sizeof(struct fuse_write_in) + 5];
	struct fuse_write_in in = {.fh = fh, .size = 5, .write_flags = flags};

	memcpy(arg, &in, sizeof(in));
	memcpy(arg + sizeof(in), "hello", 5);
	return ask(k, FUSE_WRITE, node, arg, sizeof(arg));
}

static inline int read_at(struct kernel *k, uint64_t node, uint64_t fh)
{
	struct fuse_read_in in = {.fh = fh, .size = 4096};

	return ask(k, FUSE_READ, node, &in, sizeof(in));
}

#endif
