/* Listening, the client and its watches; the server runs in a thread. */
#include "tests/unit/varlink_fixture.h"

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

static void two_peers_work_on_their_answers_at_once(void **state)
{
	static const char text[] = "{\"parameters\":{\"n\":42}}";
	struct varlink_client *c[2];
	json_t *answer;
	int sv[2][2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv[i]), 0);
		assert_int_equal(varlink_client_new_fd(sv[i][0], &c[i]), 0);
		assert_int_equal(varlink_call_begin(c[i], "a.Long", NULL, NULL, 0, 5000), 0);
	}
	/* between the two steps there is no other call */
	assert_int_equal(varlink_call(c[0], "a.Other", NULL, NULL, 0, 5000, NULL, NULL, NULL), -ECONNRESET);
	assert_int_equal(send(sv[0][1], text, sizeof(text), MSG_NOSIGNAL), sizeof(text));
	assert_int_equal(varlink_call_finish(c[0], &answer, NULL, NULL), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "n")), 42);
	json_decref(answer);
	close(sv[1][1]);
	assert_int_equal(varlink_call_finish(c[1], NULL, NULL, NULL), -ECONNRESET);
	assert_int_equal(varlink_call_begin(c[1], "a.Long", NULL, NULL, 0, 5000), -ECONNRESET);
	assert_int_equal(varlink_call_begin(c[0], "a.Long", NULL, NULL, 0, 1), 0);
	assert_int_equal(varlink_call_finish(c[0], NULL, NULL, NULL), -ETIME);
	for (int i = 0; i < 2; i++)
		varlink_client_free(c[i]);
	close(sv[0][1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		TEST(two_peers_work_on_their_answers_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
