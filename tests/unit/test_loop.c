/* Who tells the session that nothing can be read any more, and why. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/worker/loop.h"

struct heard {
	atomic_int error, times, requests;
};

static void on_gone(void *arg, int error)
{
	struct heard *h = arg;

	atomic_store(&h->error, error);
	atomic_fetch_add(&h->times, 1);
}

static void on_request(void *arg, void *buf, size_t n)
{
	struct heard *h = arg;

	if (n == 4 && memcmp(buf, "ping", 4) == 0)
		atomic_fetch_add(&h->requests, 1);
}

static bool is_long(const void *buf, size_t n)
{
	return false;
}

static void wait_for(atomic_int *what, int value)
{
	for (int n = 0; n < 5000 && atomic_load(what) != value; n++)
		poll(NULL, 0, 1);
	assert_int_equal(atomic_load(what), value);
}

static struct loop *start(struct heard *h, int fd)
{
	const struct loop_client client = {.arg = h, .handle = on_request, .is_long = is_long, .gone = on_gone};
	struct loop *l = NULL;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(loop_leader_follower.start(fd, &client, &l), 0);
	return l;
}

static void the_other_end_goes(void **state)
{
	struct heard h = {0};
	struct loop *l;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
	l = start(&h, fds[0]);
	assert_int_equal(write(fds[1], "ping", 4), 4);
	wait_for(&h.requests, 1);
	assert_int_equal(atomic_load(&h.times), 0);
	close(fds[1]);
	wait_for(&h.times, 1);
	assert_int_equal(atomic_load(&h.error), ENODEV);
	loop_leader_follower.stop(l);
	assert_int_equal(atomic_load(&h.times), 1);
	close(fds[0]);
}

/* Then the kernel's caches are still there, and must be emptied. */
static void reading_fails(void **state)
{
	struct heard h = {0};
	struct loop *l;
	int fd = open("/", O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	l = start(&h, fd);
	wait_for(&h.times, 1);
	assert_int_equal(atomic_load(&h.error), EISDIR);
	loop_leader_follower.stop(l);
	assert_int_equal(atomic_load(&h.times), 1);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_other_end_goes),
		cmocka_unit_test(reading_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
