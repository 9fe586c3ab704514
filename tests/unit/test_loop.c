/* Who reads, and who tells the session that nothing can be read any more, and why. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/worker/loop_impl.h"

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

/* ---- the near reader ---- */

/* A /proc of ours: as many threads want to run as we say, and the caller (this thread) ran last where we are. */
struct stage {
	char proc[32];
	int fds[2];
	struct loop *l;
	atomic_int shorts, longs, idle_shorts, idle_longs;
	sem_t go; /* "stuck" waits for it */
	atomic_int stuck;
};

static int policy_here(void)
{
	return sched_getscheduler(0);
}

static void on_staged(void *arg, void *buf, size_t n)
{
	struct stage *s = arg;

	if (memcmp(buf, "long", 4) == 0) {
		atomic_fetch_add(&s->idle_longs, policy_here() == SCHED_IDLE);
		atomic_fetch_add(&s->longs, 1);
		return;
	}
	if (memcmp(buf, "stuck", 5) == 0) {
		atomic_store(&s->stuck, policy_here());
		if (policy_here() == SCHED_IDLE) /* another thread answers under the baton: it may not be stuck */
			sem_wait(&s->go);
	}
	atomic_fetch_add(&s->idle_shorts, policy_here() == SCHED_IDLE);
	atomic_fetch_add(&s->shorts, 1);
}

static bool is_staged_long(const void *buf, size_t n)
{
	return memcmp(buf, "long", 4) == 0;
}

static bool is_staged_serial(const void *buf)
{
	return memcmp(buf, "long serial", 11) == 0;
}

static uint32_t caller_of(const void *buf)
{
	return (uint32_t)getpid();
}

static bool is_waited_for(const void *buf)
{
	return true;
}

static void ignore_gone(void *arg, int error)
{
}

static void put(const struct stage *s, const char *name, const char *text)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", s->proc, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void set_load(const struct stage *s, unsigned running)
{
	char text[64];

	snprintf(text, sizeof(text), "0.00 0.00 0.00 %u/100 4711\n", running);
	put(s, "loadavg", text);
}

static void set_cpu(const struct stage *s, int cpu)
{
	char name[32], text[256];

	snprintf(name, sizeof(name), "%d/stat", (int)getpid());
	snprintf(text, sizeof(text),
		"1 (a b) c) S 1 1 1 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 9 9 9 18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 %d 0 0\n",
		cpu);
	put(s, name, text);
}

static int raise_curtain(void **state)
{
	struct stage *s = calloc(1, sizeof(*s));
	char path[64];

	assert_non_null(s);
	snprintf(s->proc, sizeof(s->proc), "/tmp/test_loop.XXXXXX");
	assert_non_null(mkdtemp(s->proc));
	snprintf(path, sizeof(path), "%s/%d", s->proc, (int)getpid());
	assert_int_equal(mkdir(path, 0700), 0);
	set_load(s, 1);
	set_cpu(s, sched_getcpu());
	sem_init(&s->go, 0, 0);
	atomic_store(&s->stuck, -1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, s->fds), 0);
	*state = s;
	return 0;
}

static int proc_fd;

static void begin(struct stage *s)
{
	struct loop_client client = {.arg = s, .handle = on_staged, .is_long = is_staged_long, .is_serial = is_staged_serial,
		.caller = caller_of, .waits = is_waited_for, .gone = ignore_gone};

	proc_fd = client.proc_fd = open(s->proc, O_PATH | O_DIRECTORY);
	assert_true(client.proc_fd >= 0);
	assert_int_equal(loop_leader_follower.start(s->fds[0], &client, &s->l), 0);
	assert_non_null(s->l->near);
}

static int drop_curtain(void **state)
{
	struct stage *s = *state;
	char path[64];

	sem_post(&s->go); /* a test that failed may have left somebody there */
	if (s->l)
		loop_leader_follower.stop(s->l);
	close(proc_fd);
	close(s->fds[0]);
	close(s->fds[1]);
	snprintf(path, sizeof(path), "%s/%d/stat", s->proc, (int)getpid());
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	snprintf(path, sizeof(path), "%s/loadavg", s->proc);
	unlink(path);
	rmdir(s->proc);
	sem_destroy(&s->go);
	free(s);
	return 0;
}

static void ask(struct stage *s, const char *what)
{
	struct pollfd p = {.fd = s->fds[1], .events = POLLOUT};

	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(write(s->fds[1], what, strlen(what) + 1), (ssize_t)strlen(what) + 1);
}

/* One after the other, as a program does. */
static void ask_shorts(struct stage *s, int count)
{
	for (int n = 0; n < count; n++) {
		int before = atomic_load(&s->shorts);

		ask(s, "short");
		wait_for(&s->shorts, before + 1);
	}
}

/* After a pause it reads as soon as its thread has begun. */
static void until_near(struct stage *s)
{
	for (int n = 0; n < 500 && !near_leads(s->l); n++) {
		poll(NULL, 0, 25);
		ask_shorts(s, 1);
	}
	assert_true(near_leads(s->l));
}

static void one_program_is_answered_beside_it(void **state)
{
	struct stage *s = *state;
	int before;

	begin(s);
	until_near(s);
	before = atomic_load(&s->idle_shorts);
	for (int n = 0; n < 50 && atomic_load(&s->idle_shorts) == before; n++)
		ask_shorts(s, 20);
	assert_true(atomic_load(&s->idle_shorts) > before);
}

static void long_ones_are_handed_over(void **state)
{
	struct stage *s = *state;

	begin(s);
	until_near(s);
	for (int n = 1; n <= 100; n++) {
		ask(s, "long");
		ask_shorts(s, 10);
		wait_for(&s->longs, n);
	}
	assert_int_equal(atomic_load(&s->idle_longs), 0);
	assert_true(atomic_load(&s->idle_shorts) > 0);
}

static void what_a_program_waits_for_is_not_handed_over(void **state)
{
	struct stage *s = *state;

	begin(s);
	for (int n = 1; n <= 1000 && atomic_load(&s->idle_longs) < 20; n++) {
		until_near(s);
		ask(s, "long serial");
		wait_for(&s->longs, n);
	}
	assert_true(atomic_load(&s->idle_longs) >= 20);
}

/* Several at once, while the baton's holder may sleep. */
static void many_long_ones_at_once(void **state)
{
	struct stage *s = *state;

	begin(s);
	for (int n = 1; n <= 20; n++) {
		until_near(s);
		for (int k = 0; k < 20; k++)
			ask(s, "long");
		wait_for(&s->longs, n * 20);
		poll(NULL, 0, 35); /* more than it must wait then */
	}
	assert_int_equal(atomic_load(&s->idle_longs), 0);
}

static void who_is_stuck_holds_nobody_up(void **state)
{
	struct stage *s = *state;
	int shorts;

	begin(s);
	for (int n = 0; n < 50 && atomic_load(&s->stuck) != SCHED_IDLE; n++) {
		until_near(s);
		shorts = atomic_load(&s->shorts);
		ask(s, "stuck");
		ask(s, "short");
		wait_for(&s->shorts, shorts + 1);
		if (atomic_load(&s->stuck) == SCHED_IDLE)
			sem_post(&s->go);
		wait_for(&s->shorts, shorts + 2);
	}
	assert_int_equal(atomic_load(&s->stuck), SCHED_IDLE);
	until_near(s); /* and it comes back */
}

static void a_crowd_is_polled_for(void **state)
{
	struct stage *s = *state;

	begin(s);
	until_near(s);
	set_load(s, 1000);
	for (int n = 0; n < 50 && near_leads(s->l); n++)
		ask_shorts(s, 100);
	assert_false(near_leads(s->l));
	for (int n = 0; n < 3; n++) {
		poll(NULL, 0, 50);
		ask_shorts(s, 100);
	}
	assert_false(near_leads(s->l));
}

static void it_goes_where_the_caller_is(void **state)
{
	struct stage *s = *state;

	begin(s);
	until_near(s);
	set_cpu(s, CPU_SETSIZE - 1); /* not one of ours */
	for (int n = 0; n < 50 && near_leads(s->l); n++)
		ask_shorts(s, 100);
	assert_false(near_leads(s->l));
}

static void without_proc_there_is_none(void **state)
{
	struct stage *s = *state;
	char path[64];

	snprintf(path, sizeof(path), "%s/loadavg", s->proc);
	assert_int_equal(unlink(path), 0);
	proc_fd = open(s->proc, O_PATH | O_DIRECTORY);
	struct loop_client client = {.arg = s, .handle = on_staged, .is_long = is_staged_long, .caller = caller_of,
		.waits = is_waited_for, .gone = ignore_gone, .proc_fd = proc_fd};
	assert_int_equal(loop_leader_follower.start(s->fds[0], &client, &s->l), 0);
	assert_null(s->l->near);
	ask_shorts(s, 10);
	assert_int_equal(atomic_load(&s->idle_shorts), 0);
}

#define STAGED(f) cmocka_unit_test_setup_teardown(f, raise_curtain, drop_curtain)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_other_end_goes),
		cmocka_unit_test(reading_fails),
		STAGED(one_program_is_answered_beside_it),
		STAGED(long_ones_are_handed_over),
		STAGED(what_a_program_waits_for_is_not_handed_over),
		STAGED(many_long_ones_at_once),
		STAGED(who_is_stuck_holds_nobody_up),
		STAGED(a_crowd_is_polled_for),
		STAGED(it_goes_where_the_caller_is),
		STAGED(without_proc_there_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
