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

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int on_echo(struct varlink_call *call, json_t *params, void *userdata)
{
	struct fixture *f = userdata;

	f->handled++;
	return varlink_reply(call, json_incref(params));
}

static int on_keep(struct varlink_call *call, json_t *params, void *userdata)
{
	struct fixture *f = userdata;

	f->handled++;
	f->kept = call;
	return 0;
}

static int on_fail(struct varlink_call *call, json_t *params, void *userdata)
{
	return -ENOSPC;
}

/* Replies and then says that something failed: the reply counts. */
static int on_reply_then_fail(struct varlink_call *call, json_t *params, void *userdata)
{
	varlink_reply(call, NULL);
	return -EIO;
}

static int on_refuse(struct varlink_call *call, json_t *params, void *userdata)
{
	return varlink_errorf(call, "NotGranted", "ask an admin", "%s may not", "bob");
}

/* Gives back the first descriptor it got. */
static int on_bounce(struct varlink_call *call, json_t *params, void *userdata)
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

static int on_big(struct varlink_call *call, json_t *params, void *userdata)
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

static void on_closed(void *userdata)
{
	struct fixture *f = userdata;

	f->closed++;
	if (f->answer_on_close)
		varlink_reply(f->kept, NULL);
}

static int setup(void **state)
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
static int teardown(void **state)
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
static void spin(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static void put_raw(struct fixture *f, const void *data, size_t n, const int *fds, unsigned fds_n)
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

static void put(struct fixture *f, const char *text)
{
	put_raw(f, text, strlen(text) + 1, NULL, 0);
}

/* The next message that is there, byte by byte so that two stay two; NULL: none, or end of file. */
static json_t *get(struct fixture *f, int *ret_fd)
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

static bool at_end(struct fixture *f)
{
	char c;

	return recv(f->peer, &c, 1, MSG_DONTWAIT) == 0;
}

static void expect_error(struct fixture *f, const char *error, const char *part)
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

static void expect_echo(struct fixture *f, int number)
{
	json_t *m = get(f, NULL);

	assert_non_null(m);
	assert_null(json_object_get(m, "error"));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "parameters"), "n")), number);
	json_decref(m);
}

#define ECHO(n) "{\"method\":\"org.example.Echo\",\"parameters\":{\"n\":" #n "}}"

static void answers_a_call(void **state)
{
	struct fixture *f = *state;

	put(f, ECHO(7));
	spin(f);
	expect_echo(f, 7);
}

static void parameters_may_be_missing(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Echo\"}");
	spin(f);
	expect_echo(f, 0);
	put(f, "{\"method\":\"org.example.Echo\",\"parameters\":[1]}");
	spin(f);
	expect_error(f, "org.varlink.service.InvalidParameter", NULL);
}

static void a_message_may_come_in_any_pieces(void **state)
{
	struct fixture *f = *state;
	static const char text[] = ECHO(3);

	for (size_t cut = 1; cut < sizeof(text); cut++) {
		put_raw(f, text, cut, NULL, 0);
		spin(f);
		assert_null(get(f, NULL));
		put_raw(f, text + cut, sizeof(text) - cut, NULL, 0);
		spin(f);
		expect_echo(f, 3);
	}
}

static void several_messages_in_one_read_are_answered_in_order(void **state)
{
	struct fixture *f = *state;
	static const char text[] = ECHO(1) "\0" ECHO(2) "\0" ECHO(3);

	put_raw(f, text, sizeof(text), NULL, 0);
	spin(f);
	for (int i = 1; i <= 3; i++)
		expect_echo(f, i);
}

static void the_next_call_waits_for_the_answer_to_the_last(void **state)
{
	struct fixture *f = *state;
	static const char text[] = "{\"method\":\"org.example.Keep\"}\0" ECHO(2);

	put_raw(f, text, sizeof(text), NULL, 0);
	spin(f);
	assert_int_equal(f->handled, 1);
	assert_null(get(f, NULL));
	varlink_reply(f->kept, json_pack("{s:i}", "n", 1));
	spin(f);
	assert_int_equal(f->handled, 2);
	expect_echo(f, 1);
	expect_echo(f, 2);
}

static void a_call_outlives_its_peer(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Keep\"}");
	spin(f);
	assert_non_null(f->kept);
	close_fdp(&f->peer);
	spin(f);
	assert_int_equal(f->closed, 1);
	assert_string_equal(varlink_call_peer(f->kept)->user, "inherited");
	assert_int_equal(varlink_reply(f->kept, NULL), -ECONNRESET);
}

static void a_call_outlives_its_server(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Keep\",\"more\":true}");
	spin(f);
	varlink_server_free(f->server);
	f->server = NULL;
	assert_int_equal(varlink_reply_more(f->kept, NULL), -ECONNRESET);
	assert_int_equal(varlink_error(f->kept, "Gone", "gone", NULL), -ECONNRESET);
}

static void more_replies_continue(void **state)
{
	struct fixture *f = *state;
	json_t *m;

	put(f, "{\"method\":\"org.example.Keep\",\"more\":true}");
	spin(f);
	assert_true(varlink_call_wants_more(f->kept));
	assert_int_equal(varlink_reply_more(f->kept, json_pack("{s:i}", "n", 1)), 0);
	m = get(f, NULL);
	assert_true(json_is_true(json_object_get(m, "continues")));
	json_decref(m);
	assert_int_equal(varlink_reply(f->kept, NULL), 0);
	m = get(f, NULL);
	assert_true(json_is_false(json_object_get(m, "continues")));
	json_decref(m);
}

static void more_is_not_forced_on_a_peer(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Keep\"}");
	spin(f);
	assert_int_equal(varlink_reply_more(f->kept, json_pack("{s:i}", "n", 1)), -EPROTO);
	varlink_reply(f->kept, NULL);
}

static void oneway_calls_get_no_answer(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Echo\",\"oneway\":true}");
	put(f, ECHO(5));
	spin(f);
	assert_int_equal(f->handled, 2);
	expect_echo(f, 5);
	assert_null(get(f, NULL));
}

static void an_unknown_method_is_named(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Nope\"}");
	spin(f);
	expect_error(f, "org.varlink.service.MethodNotFound", NULL);
	put(f, "{\"method\":\"org.example.Ech\"}");
	spin(f);
	expect_error(f, "org.varlink.service.MethodNotFound", NULL);
	put(f, "{\"method\":\"org.example.EchoX\"}");
	spin(f);
	expect_error(f, "org.varlink.service.MethodNotFound", NULL);
	assert_int_equal(f->handled, 0);
}

static void a_role_that_is_missing_is_named_with_its_group(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Admin\"}");
	spin(f);
	expect_error(f, "org.example.PermissionDenied",
		"admin (group coffer-admin) or custodian (group coffer-custodian)");
	put(f, "{\"method\":\"org.other.Nobody\"}");
	spin(f);
	expect_error(f, "org.other.PermissionDenied", NULL);
	assert_int_equal(f->handled, 0);
}

static void a_state_refuses_with_its_text(void **state)
{
	struct fixture *f = *state;

	varlink_server_set_state(f->server, STATE_SEALED, "Coffer is sealed");
	put(f, "{\"method\":\"org.example.Open\"}");
	spin(f);
	expect_error(f, "org.example.Sealed", "Coffer is sealed");
	assert_int_equal(f->handled, 0);
	varlink_server_set_state(f->server, STATE_OPEN, NULL);
	put(f, "{\"method\":\"org.example.Open\"}");
	spin(f);
	expect_echo(f, 0);
}

static void a_handler_that_fails_sends_an_error(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Fail\"}");
	spin(f);
	expect_error(f, "org.example.Failed", strerror(ENOSPC));
	put(f, "{\"method\":\"org.example.ReplyThenFail\"}");
	spin(f);
	expect_echo(f, 0);
	assert_null(get(f, NULL));
	put(f, "{\"method\":\"org.example.Refuse\"}");
	spin(f);
	expect_error(f, "org.example.NotGranted", "bob may not");
}

static void malformed_messages_are_answered_and_end_the_connection(void **state)
{
	static const char *const bad[] = {"", "x", "{", "[]", "3", "{\"method\":3}", "{}",
		"{\"method\":\"Echo\"}", "{\"method\":\"org.example.Echo\"",
		"{\"method\":\"org.example.Echo\"}}",
		"{\"method\":\"org.example.Echo\",\"method\":\"org.example.Echo\"}",
		"{\"method\":\"\xff.x\"}", "{\"method\":\"org.\\u0000\"}"};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int sv[2], fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		assert_int_equal(varlink_server_add_connection(f->server, sv[0], ROLE_USER, on_closed, f), 0);
		close(f->peer);
		spin(f);
		f->peer = sv[1];
		f->closed = 0;
		put_raw(f, bad[i], strlen(bad[i]) + 1, &fd, 1);
		close(fd);
		spin(f);
		expect_error(f, "org.coffer.BadMessage", NULL);
		assert_true(at_end(f));
		assert_int_equal(f->closed, 1);
		assert_int_equal(f->handled, 0);
	}
}

/* Whatever one flipped bit or a cut makes of a call: an answer or a close, and no descriptor stays. */
static void flipped_bits_are_harmless(void **state)
{
	static const char good[] = "{\"method\":\"org.example.Bounce\",\"parameters\":{\"n\":1}}";
	struct fixture *f = *state;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	unsigned before = open_fds() - 1; /* the server's end goes with each peer */

	for (size_t bit = 0; bit < 8 * sizeof(good); bit++) {
		char bad[sizeof(good)];
		int sv[2], fd;

		memcpy(bad, good, sizeof(good));
		bad[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
		assert_int_equal(varlink_server_add_connection(f->server, sv[0], ROLE_USER, NULL, NULL), 0);
		close(f->peer);
		f->peer = sv[1];
		put_raw(f, bad, sizeof(bad), &null, 1);
		shutdown(f->peer, SHUT_WR);
		spin(f);
		json_decref(get(f, &fd));
		close_fdp(&fd);
		assert_int_equal(open_fds(), before);
	}
	close(null);
}

static void descriptors_go_there_and_back(void **state)
{
	struct fixture *f = *state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), back;
	static const char call[] = "{\"method\":\"org.example.Bounce\"}";
	struct stat a, b;
	json_t *m;

	put_raw(f, call, sizeof(call), &fd, 1);
	spin(f);
	m = get(f, &back);
	assert_non_null(m);
	assert_null(json_object_get(m, "error"));
	json_decref(m);
	assert_true(back >= 0);
	fstat(fd, &a);
	fstat(back, &b);
	assert_true(a.st_rdev == b.st_rdev);
	close(fd);
	close(back);
}

static void descriptors_stay_with_their_message(void **state)
{
	struct fixture *f = *state;
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC), back;
	static const char plain[] = ECHO(1), bounce[] = "{\"method\":\"org.example.Bounce\"}";
	json_t *m;

	put_raw(f, plain, sizeof(plain), NULL, 0);
	put_raw(f, bounce, sizeof(bounce), &fd, 1);
	put_raw(f, bounce, sizeof(bounce), NULL, 0);
	close(fd);
	spin(f);
	expect_echo(f, 1);
	m = get(f, &back);
	assert_null(json_object_get(m, "error"));
	json_decref(m);
	assert_true(back >= 0);
	close(back);
	expect_error(f, "org.example.NoDescriptor", NULL);
}

static void surplus_descriptors_are_closed(void **state)
{
	struct fixture *f = *state;
	static const char call[] = "{\"method\":\"org.example.Bounce\"}";
	int fds[16], back;

	for (unsigned i = 0; i < 16; i++)
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	put_raw(f, call, sizeof(call), fds, 16);
	for (size_t i = 1; i < sizeof(call); i++) /* and one beside every byte of another */
		put_raw(f, call + i, 1, fds, 1);
	for (unsigned i = 0; i < 16; i++)
		close(fds[i]);
	spin(f);
	json_decref(get(f, &back));
	close_fdp(&back);
	while (!at_end(f)) {
		json_t *m = get(f, &back);

		close_fdp(&back);
		if (!m)
			break;
		json_decref(m);
	}
	/* teardown counts */
}

static void an_oversized_message_ends_the_connection(void **state)
{
	struct fixture *f = *state;
	static char block[1 << 16];
	size_t sent = 0;

	memset(block, ' ', sizeof(block));
	while (!f->closed && sent < 2 * (size_t)VARLINK_MESSAGE_MAX) {
		ssize_t n = send(f->peer, block, sizeof(block), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		spin(f);
	}
	assert_int_equal(f->closed, 1);
	assert_true(sent > VARLINK_MESSAGE_MAX);
}

static void an_answer_that_is_too_large_is_an_error(void **state)
{
	struct fixture *f = *state;
	char call[128];

	snprintf(call, sizeof(call), "{\"method\":\"org.example.Big\",\"parameters\":{\"size\":%u}}",
		VARLINK_MESSAGE_MAX);
	put(f, call);
	spin(f);
	expect_error(f, "org.coffer.AnswerFailed", NULL);
	put(f, ECHO(1));
	spin(f);
	expect_echo(f, 1);
}

static void a_slow_reader_gets_all(void **state)
{
	struct fixture *f = *state;
	static char buf[1 << 16];
	static const char call[] =
		"{\"method\":\"org.example.Big\",\"parameters\":{\"size\":4000000}}\0" ECHO(9);
	size_t got = 0, ends = 0;

	put_raw(f, call, sizeof(call), NULL, 0);
	spin(f);
	assert_int_equal(f->handled, 0); /* the second call waits until the first answer is taken */
	for (;;) {
		ssize_t n = recv(f->peer, buf, sizeof(buf), MSG_DONTWAIT);

		if (n <= 0)
			break;
		got += (size_t)n;
		for (ssize_t i = 0; i < n; i++)
			ends += buf[i] == '\0';
		spin(f);
	}
	assert_true(got > 4000000);
	assert_int_equal(ends, 2);
	assert_int_equal(f->handled, 1);
}

static void a_peer_that_never_reads_is_dropped(void **state)
{
	struct fixture *f = *state;
	char *text = malloc(1 << 20);
	int r = 0;

	memset(text, 'x', 1 << 20);
	text[(1 << 20) - 1] = '\0';
	put(f, "{\"method\":\"org.example.Keep\",\"more\":true}");
	spin(f);
	for (unsigned i = 0; i < 64 && r == 0; i++)
		r = varlink_reply_more(f->kept, json_pack("{s:s}", "text", text));
	assert_int_equal(r, -ECONNRESET);
	spin(f);
	assert_int_equal(f->closed, 1);
	varlink_reply(f->kept, NULL);
	free(text);
}

static void info_lists_the_interfaces(void **state)
{
	struct fixture *f = *state;
	json_t *m;

	put(f, "{\"method\":\"org.varlink.service.GetInfo\"}");
	spin(f);
	m = get(f, NULL);
	assert_int_equal(json_array_size(json_object_get(json_object_get(m, "parameters"), "interfaces")), 3);
	json_decref(m);
}

/* ---- listening, and the client; the server runs in a thread ---- */

struct place {
	char dir[512];
	int dirfd;
};

static void place_new(struct place *p)
{
	char top[] = "/tmp/coffer-varlink-XXXXXX", part[101];

	/* longer than a socket address */
	assert_non_null(mkdtemp(top));
	memset(part, 'd', 100);
	part[100] = '\0';
	snprintf(p->dir, sizeof(p->dir), "%s/%s", top, part);
	assert_int_equal(mkdir(p->dir, 0700), 0);
	p->dirfd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->dirfd >= 0);
}

static void place_done(struct place *p)
{
	unlinkat(p->dirfd, "s", 0);
	close(p->dirfd);
	rmdir(p->dir);
	*strrchr(p->dir, '/') = '\0';
	assert_int_equal(rmdir(p->dir), 0);
}

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	return sd_event_exit(sd_event_source_get_event(source), 0);
}

struct daemon {
	struct fixture *f;
	pthread_t thread;
	int stop[2];
	sd_event_source *source;
};

static void *daemon_thread(void *arg)
{
	struct daemon *d = arg;

	sd_event_loop(d->f->event);
	return NULL;
}

static void daemon_start(struct daemon *d, struct fixture *f)
{
	d->f = f;
	assert_int_equal(pipe2(d->stop, O_CLOEXEC), 0);
	assert_return_code(sd_event_add_io(f->event, &d->source, d->stop[0], EPOLLIN, on_stop, NULL), 0);
	assert_int_equal(pthread_create(&d->thread, NULL, daemon_thread, d), 0);
}

static void daemon_stop(struct daemon *d)
{
	assert_int_equal(write(d->stop[1], "x", 1), 1);
	pthread_join(d->thread, NULL);
	sd_event_source_disable_unref(d->source);
	close(d->stop[0]);
	close(d->stop[1]);
}

static void a_client_calls_through_a_long_path(void **state)
{
	struct fixture *f = *state;
	struct varlink_client *c;
	struct varlink_failure failure;
	struct daemon d;
	struct place p;
	struct stat st;
	json_t *answer;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[VARLINK_FDS_MAX];
	mode_t mask = umask(0077);

	place_new(&p);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0666), 0);
	umask(mask);
	assert_int_equal(fstatat(p.dirfd, "s", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0666), -EADDRINUSE);
	daemon_start(&d, f);
	assert_int_equal(varlink_client_connect(p.dir, "s", &c), 0);

	assert_int_equal(varlink_call(c, "org.example.Echo", json_pack("{s:i}", "n", 4), NULL, 0, 10000,
				 &answer, NULL, &failure),
		0);
	assert_int_equal(json_integer_value(json_object_get(answer, "n")), 4);
	json_decref(answer);

	assert_int_equal(varlink_call(c, "org.example.Refuse", NULL, NULL, 0, 10000, NULL, NULL, &failure),
		-EREMOTEIO);
	assert_string_equal(failure.error, "org.example.NotGranted");
	assert_string_equal(failure.message, "bob may not");
	assert_string_equal(failure.remedy, "ask an admin");

	assert_int_equal(
		varlink_call(c, "org.example.Bounce", NULL, &null, 1, 10000, NULL, fds, &failure), 0);
	assert_true(fds[0] >= 0 && fds[1] == -1);
	close(fds[0]);
	assert_int_equal(
		varlink_call(c, "org.example.Bounce", NULL, &null, 1, 10000, NULL, NULL, &failure), 0);

	assert_int_equal(varlink_call(c, "org.example.Big", json_pack("{s:i}", "size", 8000000), NULL, 0,
				 60000, &answer, NULL, &failure),
		0);
	assert_int_equal(json_string_length(json_object_get(answer, "text")), 8000000);
	json_decref(answer);

	daemon_stop(&d);
	varlink_client_free(c);
	close(null);
	place_done(&p);
}

static void no_answer_is_etime_and_ends_the_client(void **state)
{
	struct fixture *f = *state;
	struct varlink_client *c;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(varlink_client_new_fd(sv[0], &c), 0);
	assert_int_equal(varlink_call(c, "a.B", NULL, NULL, 0, 1, NULL, NULL, NULL), -ETIME);
	assert_int_equal(varlink_call(c, "a.B", NULL, NULL, 0, 1, NULL, NULL, NULL), -ECONNRESET);
	varlink_client_free(c);
	close(sv[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	close(sv[1]);
	assert_int_equal(varlink_client_new_fd(sv[0], &c), 0);
	assert_int_equal(varlink_call(c, "a.B", NULL, NULL, 0, 1, NULL, NULL, NULL), -ECONNRESET);
	varlink_client_free(c);
	assert_int_equal(f->closed, 0);
}

static atomic_bool trusted;

static bool from_trusted(const struct peer *p, void *userdata)
{
	return trusted && p->uid == getuid();
}

static void descriptors_of_strangers_are_not_taken(void **state)
{
	struct fixture *f = *state;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[VARLINK_FDS_MAX];
	struct varlink_failure failure;
	struct varlink_client *c;
	struct daemon d;
	struct place p;

	place_new(&p);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0666), 0);
	varlink_server_set_fds_from(f->server, from_trusted);
	daemon_start(&d, f);
	assert_int_equal(varlink_client_connect(p.dir, "s", &c), 0);
	assert_int_equal(
		varlink_call(c, "org.example.Bounce", NULL, &null, 1, 10000, NULL, fds, &failure), -EREMOTEIO);
	assert_int_equal(varlink_call(c, "org.example.Echo", NULL, NULL, 0, 10000, NULL, NULL, &failure), 0);
	trusted = true;
	assert_int_equal(
		varlink_call(c, "org.example.Bounce", NULL, &null, 1, 10000, NULL, fds, &failure), 0);
	close(fds[0]);
	daemon_stop(&d);
	varlink_client_free(c);
	close(null);
	place_done(&p);
}

static void limits_of_what_is_read_from_anybody(void **state)
{
	struct fixture *f = *state;
	char text[3000];
	struct pollfd pfd = {.events = POLLIN};
	struct varlink_failure failure;
	struct varlink_client *c;
	struct daemon d;
	struct place p;

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	place_new(&p);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0666), 0);
	varlink_server_set_limits(f->server, 2000, 1);
	daemon_start(&d, f);
	assert_int_equal(varlink_client_connect(p.dir, "s", &c), 0);
	text[1000] = '\0';
	assert_int_equal(varlink_call(c, "org.example.Echo", json_pack("{s:s}", "t", text), NULL, 0, 10000, NULL,
				 NULL, &failure),
		0);
	text[1000] = 'x';
	assert_int_equal(varlink_call(c, "org.example.Echo", json_pack("{s:s}", "t", text), NULL, 0, 10000, NULL,
				 NULL, &failure),
		-ECONNRESET);
	varlink_client_free(c);

	/* A message that is begun and not finished. */
	assert_int_equal(varlink_client_connect(p.dir, "s", &c), 0);
	pfd.fd = varlink_client_fd(c);
	assert_int_equal(write(pfd.fd, "{", 1), 1);
	assert_int_equal(poll(&pfd, 1, 20000), 1);
	assert_int_equal(read(pfd.fd, text, sizeof(text)), 0);
	varlink_client_free(c);

	/* One that says nothing may stay. */
	assert_int_equal(varlink_client_connect(p.dir, "s", &c), 0);
	pfd.fd = varlink_client_fd(c);
	assert_int_equal(poll(&pfd, 1, 1500), 0);
	assert_int_equal(varlink_call(c, "org.example.Echo", NULL, NULL, 0, 10000, NULL, NULL, &failure), 0);
	daemon_stop(&d);
	varlink_client_free(c);
	place_done(&p);
}

static void a_stale_socket_is_replaced_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	struct place p;
	int fd;

	place_new(&p);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/s", p.dirfd);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(fd);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0600), 0);
	assert_int_equal(unlinkat(p.dirfd, "s", 0), 0);
	fd = openat(p.dirfd, "s", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0600), -EEXIST);
	place_done(&p);
}

/* Not root, so that the quota holds: the connections are made by a child. */
static void one_user_has_a_bounded_number_of_connections(void **state)
{
	struct fixture *f = *state;
	struct place p;
	struct daemon d;
	pid_t child;
	int status;

	if (getuid() != 0)
		skip();
	place_new(&p);
	assert_int_equal(fchmod(p.dirfd, 0711), 0);
	assert_int_equal(varlink_server_listen(f->server, p.dirfd, "s", 0666), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct varlink_client *c[VARLINK_PEER_CONNECTIONS_MAX + 1];
		int bad = setresuid(12345, 12345, 12345);
		struct sockaddr_un sa = {.sun_family = AF_UNIX};

		snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/s", p.dirfd);
		for (unsigned i = 0; i <= VARLINK_PEER_CONNECTIONS_MAX; i++) {
			int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

			bad |= connect(fd, (struct sockaddr *)&sa, sizeof(sa));
			bad |= varlink_client_new_fd(fd, &c[i]);
			r = varlink_call(c[i], "org.example.Echo", NULL, NULL, 0, 20000, NULL, NULL, NULL);
			bad |= i < VARLINK_PEER_CONNECTIONS_MAX ? r != 0 : r != -ECONNRESET;
		}
		_exit(bad ? 1 : 0);
	}
	daemon_start(&d, f);
	assert_int_equal(waitpid(child, &status, 0), child);
	daemon_stop(&d);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	place_done(&p);
}

/* ---- watches ---- */

struct watch {
	struct varlink_client *client;
	int replies, closes;
	bool free_on_reply;
};

static void on_watch_reply(json_t *params, void *userdata)
{
	struct watch *w = userdata;

	w->replies++;
	assert_int_equal(json_integer_value(json_object_get(params, "n")), w->replies);
	if (w->free_on_reply) {
		varlink_client_free(w->client);
		w->client = NULL;
	}
}

static void on_watch_close(void *userdata)
{
	((struct watch *)userdata)->closes++;
}

static void a_watch_gets_every_reply_and_the_end(void **state)
{
	struct fixture *f = *state;
	struct watch w = {0};

	assert_int_equal(varlink_client_new_fd(take_fd(&f->peer), &w.client), 0);
	assert_int_equal(varlink_watch(w.client, f->event, "org.example.Keep", NULL, on_watch_reply,
				 on_watch_close, &w),
		0);
	spin(f);
	for (int i = 1; i <= 3; i++)
		assert_int_equal(varlink_reply_more(f->kept, json_pack("{s:i}", "n", i)), 0);
	spin(f);
	assert_int_equal(w.replies, 3);
	assert_int_equal(w.closes, 0);
	varlink_error(f->kept, "End", "no more", NULL);
	spin(f);
	assert_int_equal(w.closes, 1);
	varlink_client_free(w.client);
}

/* The other side of the connection speaks while the call waits, as a daemon in another process would. */
static void *answer_beside_news(void *arg)
{
	static const char text[] =
		"{\"parameters\":{\"n\":1},\"continues\":true}\0{\"parameters\":{\"n\":42}}\0"
		"{\"parameters\":{\"n\":2},\"continues\":true}";

	return send(*(int *)arg, text, sizeof(text), MSG_NOSIGNAL) == sizeof(text) ? arg : NULL;
}

static void a_call_beside_a_watch_gets_its_own_answer(void **state)
{
	struct fixture *f = *state;
	struct watch w = {0};
	json_t *answer;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(varlink_client_new_fd(sv[0], &w.client), 0);
	assert_int_equal(
		varlink_watch(w.client, f->event, "a.Watch", NULL, on_watch_reply, on_watch_close, &w), 0);
	assert_non_null(answer_beside_news(&sv[1]));
	assert_int_equal(varlink_call(w.client, "a.B", NULL, NULL, 0, 10000, &answer, NULL, NULL), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "n")), 42);
	json_decref(answer);
	assert_int_equal(w.replies, 0); /* never inside the call */
	spin(f);
	assert_int_equal(w.replies, 2);
	close(sv[1]);
	spin(f);
	assert_int_equal(w.closes, 1);
	varlink_client_free(w.client);
}

static void a_watch_holds_up_no_other_call(void **state)
{
	struct fixture *f = *state;
	json_t *m;

	put(f, "{\"method\":\"org.example.Keep\",\"more\":true}");
	put(f, ECHO(6));
	spin(f);
	expect_echo(f, 6);
	assert_int_equal(varlink_reply_more(f->kept, NULL), 0);
	m = get(f, NULL);
	assert_true(json_is_true(json_object_get(m, "continues")));
	json_decref(m);
	close_fdp(&f->peer);
	spin(f);
	assert_int_equal(f->closed, 1);
	assert_int_equal(varlink_reply(f->kept, NULL), -ECONNRESET);
}

/* Once the daemon that answered the watch used it after it was freed: the close had answered it within the answer. */
static void the_close_that_an_answer_finds_may_end_the_call(void **state)
{
	struct fixture *f = *state;

	put(f, "{\"method\":\"org.example.Keep\",\"more\":true}");
	spin(f);
	close_fdp(&f->peer);
	f->answer_on_close = true;
	assert_int_equal(varlink_reply_more(f->kept, json_pack("{s:i}", "n", 1)), -ECONNRESET);
	assert_int_equal(f->closed, 0);
	spin(f);
	assert_int_equal(f->closed, 1);
}

static void a_watch_may_be_freed_from_its_callback(void **state)
{
	struct fixture *f = *state;
	struct watch w = {.free_on_reply = true};

	assert_int_equal(varlink_client_new_fd(take_fd(&f->peer), &w.client), 0);
	assert_int_equal(varlink_watch(w.client, f->event, "org.example.Keep", NULL, on_watch_reply,
				 on_watch_close, &w),
		0);
	spin(f);
	varlink_reply_more(f->kept, json_pack("{s:i}", "n", 1));
	varlink_reply_more(f->kept, json_pack("{s:i}", "n", 2));
	spin(f);
	assert_int_equal(w.replies, 1);
	assert_int_equal(w.closes, 0);
	assert_int_equal(f->closed, 1);
	varlink_reply(f->kept, NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_a_call),
		TEST(parameters_may_be_missing),
		TEST(a_message_may_come_in_any_pieces),
		TEST(several_messages_in_one_read_are_answered_in_order),
		TEST(the_next_call_waits_for_the_answer_to_the_last),
		TEST(a_call_outlives_its_peer),
		TEST(a_call_outlives_its_server),
		TEST(more_replies_continue),
		TEST(more_is_not_forced_on_a_peer),
		TEST(oneway_calls_get_no_answer),
		TEST(an_unknown_method_is_named),
		TEST(a_role_that_is_missing_is_named_with_its_group),
		TEST(a_state_refuses_with_its_text),
		TEST(a_handler_that_fails_sends_an_error),
		TEST(malformed_messages_are_answered_and_end_the_connection),
		TEST(flipped_bits_are_harmless),
		TEST(descriptors_go_there_and_back),
		TEST(descriptors_stay_with_their_message),
		TEST(surplus_descriptors_are_closed),
		TEST(an_oversized_message_ends_the_connection),
		TEST(an_answer_that_is_too_large_is_an_error),
		TEST(a_slow_reader_gets_all),
		TEST(a_peer_that_never_reads_is_dropped),
		TEST(info_lists_the_interfaces),
		TEST(a_client_calls_through_a_long_path),
		TEST(no_answer_is_etime_and_ends_the_client),
		TEST(a_stale_socket_is_replaced_and_nothing_else),
		TEST(descriptors_of_strangers_are_not_taken),
		TEST(limits_of_what_is_read_from_anybody),
		TEST(one_user_has_a_bounded_number_of_connections),
		TEST(a_watch_gets_every_reply_and_the_end),
		TEST(the_close_that_an_answer_finds_may_end_the_call),
		TEST(a_watch_may_be_freed_from_its_callback),
		TEST(a_call_beside_a_watch_gets_its_own_answer),
		TEST(a_watch_holds_up_no_other_call),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
