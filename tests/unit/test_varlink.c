#include "tests/unit/varlink_fixture.h"

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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
