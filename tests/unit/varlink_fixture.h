/* A server with one connection, and its raw other end: for test_varlink and test_varlink_client. */
#ifndef COFFER_TESTS_VARLINK_FIXTURE_H
#define COFFER_TESTS_VARLINK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <pthread.h>
#include <sys/wait.h>

#include "common/scope.h"
#include "common/varlink.h"

enum { STATE_OPEN = 1, STATE_SEALED = 2 };

struct fixture {
	sd_event *event;
	struct varlink_server *server;
	struct varlink_call *kept;
	int closed; /* on_close of the inherited connection */
	bool answer_on_close;
	int handled;
	int peer; /* the raw other end */
	unsigned fds_before;
};

static inline unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline int on_echo(struct varlink_call *call, json_t *params, void *userdata)
{
	struct fixture *f = userdata;

	f->handled++;
	return varlink_reply(call, json_incref(params));
}

static inline int on_keep(struct varlink_call *call, json_t *params, void *userdata)
{
	struct fixture *f = userdata;

	f->handled++;
	f->kept = call;
	return 0;
}

static inline int on_fail(struct varlink_call *call, json_t *params, void *userdata)
{
	return -ENOSPC;
}

/* Replies and then says that something failed: the reply counts. */
static inline int on_reply_then_fail(struct varlink_call *call, json_t *params, void *userdata)
{
	varlink_reply(call, NULL);
	return -EIO;
}

static inline int on_refuse(struct varlink_call *call, json_t *params, void *userdata)
{
	return varlink_errorf(call, "NotGranted", "ask an admin", "%s may not", "bob");
}

/* Gives back the first descriptor it got. */
static inline int on_bounce(struct varlink_call *call, json_t *params, void *userdata)
{
	int fd = varlink_call_take_fd(call, 0), r;

	if (fd < 0)
		return varlink_error(call, "NoDescriptor", "none came", NULL);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(varlink_call_take_fd(call, 0), -EBADF);
	r = varlink_reply_fds(call, NULL, &fd, 1);
	close(fd);
	return r;
}

static inline int on_big(struct varlink_call *call, json_t *params, void *userdata)
{
	size_t n = (size_t)json_integer_value(json_object_get(params, "size"));
	char *text = malloc(n + 1);
	json_t *reply;

	assert_non_null(text);
	memset(text, 'x', n);
	text[n] = '\0';
	reply = json_pack("{s:s}", "text", text);
	free(text);
	return varlink_reply(call, reply);
}

static const struct varlink_method methods[] = {
	{"org.example.Echo", ROLE_USER, 0, on_echo},
	{"org.example.Keep", ROLE_USER, 0, on_keep},
	{"org.example.Fail", ROLE_USER, 0, on_fail},
	{"org.example.ReplyThenFail", ROLE_USER, 0, on_reply_then_fail},
	{"org.example.Refuse", ROLE_USER, 0, on_refuse},
	{"org.example.Bounce", ROLE_USER, 0, on_bounce},
	{"org.example.Big", ROLE_USER, 0, on_big},
	{"org.example.Admin", ROLE_ADMIN | ROLE_CUSTODIAN, 0, on_echo},
	{"org.example.Open", ROLE_USER, STATE_OPEN, on_echo},
	{"org.other.Nobody", ROLE_NONE, 0, on_echo},
	{NULL},
};

static inline void on_closed(void *userdata)
{
	struct fixture *f = userdata;

	f->closed++;
	if (f->answer_on_close)
		varlink_reply(f->kept, NULL);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int sv[2];

	assert_non_null(f);
	f->fds_before = open_fds();
	assert_return_code(sd_event_new(&f->event), 0);
	assert_int_equal(varlink_server_new(f->event, methods, (uid_t)-1, f, &f->server), 0);
	varlink_server_set_state(f->server, STATE_OPEN, NULL);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(varlink_server_add_connection(f->server, sv[0], ROLE_USER, on_closed, f), 0);
	f->peer = sv[1];
	*state = f;
	return 0;
}

/* Every test ends with as many descriptors as it began with. */
static inline int teardown(void **state)
{
	struct fixture *f = *state;

	varlink_server_free(f->server);
	sd_event_unref(f->event);
	close_fdp(&f->peer);
	assert_int_equal(open_fds(), f->fds_before);
	free(f);
	return 0;
}

/* Runs the loop until nothing is left to do. */
static inline void spin(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static inline void put_raw(struct fixture *f, const void *data, size_t n, const int *fds, unsigned fds_n)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 16)];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)data, n};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fds_n > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * fds_n);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * fds_n);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * fds_n);
	}
	assert_int_equal(sendmsg(f->peer, &m, MSG_NOSIGNAL), (ssize_t)n);
}

static inline void put(struct fixture *f, const char *text)
{
	put_raw(f, text, strlen(text) + 1, NULL, 0);
}

/* The next message that is there, byte by byte so that two stay two; NULL: none, or end of file. */
static inline json_t *get(struct fixture *f, int *ret_fd)
{
	static char buf[1 << 16];
	union {
		char buf[CMSG_SPACE(sizeof(int) * 4)];
		struct cmsghdr align;
	} control;
	size_t n = 0;

	if (ret_fd)
		*ret_fd = -1;
	for (; n < sizeof(buf); n++) {
		struct iovec iov = {buf + n, 1};
		struct msghdr m = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof(control)};
		struct cmsghdr *c;

		if (recvmsg(f->peer, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
			return NULL;
		c = CMSG_FIRSTHDR(&m);
		if (c && ret_fd)
			memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
		if (buf[n] == '\0')
			break;
	}
	return json_loadb(buf, n, 0, NULL);
}

static inline bool at_end(struct fixture *f)
{
	char c;

	return recv(f->peer, &c, 1, MSG_DONTWAIT) == 0;
}

static inline void expect_error(struct fixture *f, const char *error, const char *part)
{
	json_t *m = get(f, NULL);
	const char *text;

	assert_non_null(m);
	assert_string_equal(json_string_value(json_object_get(m, "error")), error);
	text = json_string_value(json_object_get(json_object_get(m, "parameters"), "message"));
	assert_non_null(text);
	assert_non_null(json_object_get(json_object_get(m, "parameters"), "remedy"));
	if (part && !strstr(text, part))
		fail_msg("\"%s\" does not say \"%s\"", text, part);
	json_decref(m);
}

static inline void expect_echo(struct fixture *f, int number)
{
	json_t *m = get(f, NULL);

	assert_non_null(m);
	assert_null(json_object_get(m, "error"));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "parameters"), "n")), number);
	json_decref(m);
}

#define ECHO(n) "{\"method\":\"org.example.Echo\",\"parameters\":{\"n\":" #n "}}"

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

#endif
