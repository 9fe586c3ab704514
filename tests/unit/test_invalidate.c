/* A worker is killed under a real mount: what the kernel has cached must go, nobody may hang. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "common/scope.h"
#include "fs/broker/invalidate.h"

#define FILE_NODE 2u
#define FILE_SIZE (1u << 20)
#define ANSWERED_BELOW 65536u /* reads beyond it are taken and never answered */
#define LIMIT_SECONDS 20      /* of the whole test, by alarm */

/* ---- a file system of one file, on the raw descriptor ---- */

static void reply(int fd, uint64_t unique, int error, const void *body, size_t n)
{
	struct fuse_out_header h = {.len = (uint32_t)(sizeof(h) + n), .error = error, .unique = unique};
	struct iovec v[2] = {{&h, sizeof(h)}, {(void *)body, n}};

	if (writev(fd, v, 2) < 0)
		_exit(3);
}

static struct fuse_attr attr_of(uint64_t node)
{
	return node == FILE_NODE
		       ? (struct fuse_attr){.ino = 2, .size = FILE_SIZE, .mode = S_IFREG | 0644, .nlink = 1}
		       : (struct fuse_attr){.ino = 1, .mode = S_IFDIR | 0755, .nlink = 2};
}

static void serve_one(int fd, const struct fuse_in_header *in, const void *body)
{
	static const char data[ANSWERED_BELOW] = "secret";
	struct fuse_entry_out entry = {
		.nodeid = FILE_NODE, .entry_valid = 1000, .attr_valid = 1000, .attr = attr_of(FILE_NODE)};
	struct fuse_attr_out attr = {.attr_valid = 1000, .attr = attr_of(in->nodeid)};
	struct fuse_init_out init = {.major = 7, .minor = 31, .max_write = 131072, .max_background = 8};
	struct fuse_open_out opened = {.fh = 1, .open_flags = FOPEN_KEEP_CACHE};
	const struct fuse_read_in *rd = body;

	switch (in->opcode) {
	case FUSE_INIT:
		reply(fd, in->unique, 0, &init, sizeof(init));
		break;
	case FUSE_LOOKUP:
		reply(fd, in->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR:
		reply(fd, in->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		reply(fd, in->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		if (rd->offset < ANSWERED_BELOW)
			reply(fd, in->unique, 0, data, rd->size < sizeof(data) ? rd->size : sizeof(data));
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(fd, in->unique, -ENOSYS, NULL, 0);
	}
}

static void serve(int fd)
{
	static uint8_t buf[1 << 20] __attribute__((aligned(8)));

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno != EINTR && errno != EAGAIN)
			_exit(2);
		if (n > 0)
			serve_one(fd, (const void *)buf, buf + sizeof(struct fuse_in_header));
	}
}

/* ---- programs that use it ---- */

static sigjmp_buf on_bus;

static void bus_handler(int sig)
{
	siglongjmp(on_bus, 1);
}

/* Reads and maps the first page; later, when told, finds both gone.  Exits 0 when all is as it should be. */
static void holder(const char *path, int socket)
{
	int fd = open(path, O_RDONLY);
	char buf[6], word = 'r';
	const volatile char *map;

	if (fd < 0 || pread(fd, buf, 6, 0) != 6 || memcmp(buf, "secret", 6) != 0)
		_exit(10);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED || map[0] != 's')
		_exit(11);
	if (write(socket, &word, 1) != 1 || read(socket, &word, 1) != 1)
		_exit(12);
	if (pread(fd, buf, 6, 0) >= 0)
		_exit(13);
	signal(SIGBUS, bus_handler);
	if (sigsetjmp(on_bus, 1) == 0) {
		word = map[0];
		_exit(14);
	}
	_exit(0);
}

/* Reads what is never answered, again and again, until the mount is dead. */
static void stubborn_reader(const char *path, int socket)
{
	int fd = open(path, O_RDONLY);
	char buf[4096], word = 'r';

	if (fd < 0 || write(socket, &word, 1) != 1)
		_exit(10);
	for (off_t off = ANSWERED_BELOW;; off = off < FILE_SIZE - 4096 ? off + 4096 : ANSWERED_BELOW) {
		if (pread(fd, buf, sizeof(buf), off) >= 0)
			_exit(11);
		if (errno == ENOTCONN)
			_exit(0);
	}
}

struct child {
	pid_t pid;
	int socket;
};

static struct child run(void (*program)(const char *, int), const char *path)
{
	struct child c;
	int s[2];
	char word;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	c.pid = fork();
	assert_true(c.pid >= 0);
	if (c.pid == 0) {
		for (int fd = 3; fd < 64; fd++) /* no copy of the mount's descriptors */
			if (fd != s[1])
				close(fd);
		program(path, s[1]);
	}
	close(s[1]);
	c.socket = s[0];
	assert_int_equal(read(c.socket, &word, 1), 1);
	return c;
}

static int exit_of(struct child c)
{
	int status;

	assert_int_equal(waitpid(c.pid, &status, 0), c.pid);
	close(c.socket);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- the broker's side ---- */

struct mounted {
	char dir[64], path[80];
	int own;
	pid_t worker;
};

static int clone_of(int fd, int flags)
{
	int c = open("/dev/fuse", O_RDWR | O_CLOEXEC | flags);
	uint32_t from = (uint32_t)fd;

	assert_true(c >= 0);
	assert_int_equal(ioctl(c, FUSE_DEV_IOC_CLONE, &from), 0);
	return c;
}

static int setup(void **state)
{
	struct mounted *m = calloc(1, sizeof(*m));
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), worker;
	char options[128];

	alarm(LIMIT_SECONDS);
	snprintf(m->dir, sizeof(m->dir), "/tmp/coffer-test-inval-XXXXXX");
	assert_non_null(mkdtemp(m->dir));
	snprintf(m->path, sizeof(m->path), "%s/f", m->dir);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fd, getuid(),
		getgid());
	if (fd < 0 || mount("coffer-test", m->dir, "fuse", MS_NODEV | MS_NOSUID, options) < 0) {
		rmdir(m->dir);
		free(m);
		*state = NULL;
		return 0;
	}
	worker = clone_of(fd, 0);
	m->own = clone_of(fd, O_NONBLOCK);
	close(fd);
	m->worker = fork();
	assert_true(m->worker >= 0);
	if (m->worker == 0) {
		close(m->own);
		serve(worker);
	}
	close(worker);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct mounted *m = *state;

	if (!m)
		return 0;
	umount2(m->dir, MNT_DETACH);
	rmdir(m->dir);
	free(m);
	alarm(0);
	return 0;
}

static void on_done(void *userdata)
{
	*(bool *)userdata = true;
}

static void test_killed_worker(void **state)
{
	struct mounted *m = *state;
	const uint64_t nodes[] = {0, FILE_NODE, 0, 12345};
	struct child held, stubborn;
	sd_event *event;
	bool done = false;
	int keeper[2];
	char byte;

	if (!m)
		skip(); /* mounting needs root here */
	held = run(holder, m->path);
	stubborn = run(stubborn_reader, m->path);
	kill(m->worker, SIGKILL);
	waitpid(m->worker, NULL, 0);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, keeper), 0);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(invalidate_start(event, take_fd(&m->own), keeper[1], nodes, 4, on_done, &done), 0);
	while (!done)
		assert_true(sd_event_run(event, UINT64_MAX) >= 0);
	sd_event_unref(event);
	assert_int_equal(read(keeper[0], &byte, 1), 0); /* the keeper hears of it */
	close(keeper[0]);

	assert_int_equal(write(held.socket, "g", 1), 1);
	assert_int_equal(exit_of(held), 0);
	assert_int_equal(exit_of(stubborn), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_killed_worker, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
