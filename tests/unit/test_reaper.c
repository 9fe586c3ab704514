/* What is given to the reaper is closed, in the background or at once, each descriptor exactly once. */
#include "store_fixture.h"

#include <pthread.h>
#include <time.h>

#include "fs/store/reaper.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void drain_closes_all_given_before(void **state)
{
	scoped(reaper_freep) struct reaper *r = NULL;
	int fds[40];

	assert_int_equal(reaper_new(&r), 0);
	assert_false(reaper_drain(r)); /* nothing was given: no wait */
	for (int n = 0; n < 40; n++) {
		fds[n] = open("/", O_PATH | O_CLOEXEC);
		assert_true(fds[n] >= 0);
	}
	for (int n = 0; n < 40; n++)
		reaper_close(r, fds[n]);
	assert_true(reaper_drain(r));
	for (int n = 0; n < 40; n++)
		assert_false(is_open(fds[n]));
	assert_false(reaper_drain(r));
}

static int count_open(void)
{
	int n = 0;

	for (int fd = 0; fd < 4096; fd++)
		n += is_open(fd);
	return n;
}

static void more_than_it_holds(void **state)
{
	struct reaper *r = NULL;
	int before = count_open();

	assert_int_equal(reaper_new(&r), 0);
	reaper_close(r, -1);
	for (int n = 0; n < 5000; n++) {
		int fd = open("/", O_PATH | O_CLOEXEC);

		assert_true(fd >= 0);
		reaper_close(r, fd);
		if (n % 500 == 0)
			assert_true(count_open() < before + 600); /* they do not pile up */
	}
	reaper_free(r); /* closes what is left */
	assert_int_equal(count_open(), before);
}

#define BIG (32u << 20)

static int64_t room_of_removed(struct fixture *x, const uint8_t *data)
{
	struct statvfs full, empty;

	fixture_write_file(x, "big", data, BIG);
	assert_int_equal(fsync(x->fd), 0);
	sync(); /* delayed allocation */
	assert_int_equal(store_statvfs(x->store, &full), 0);
	assert_int_equal(store_unlink(x->root, "big"), 0);
	assert_int_equal(store_statvfs(x->store, &empty), 0);
	return (int64_t)(empty.f_bfree - full.f_bfree) * (int64_t)full.f_frsize;
}

/* The blocks of a removed file are free when somebody asks how many there are.  Others write to the disk meanwhile: half of them
 * is sign enough, and what somebody took in just that moment he does not take twice. */
static void removed_room_is_told(void **state)
{
	uint8_t *data = malloc(BIG);

	assert_non_null(data);
	memset(data, 7, BIG);
	if (room_of_removed(*state, data) <= BIG / 2)
		assert_true(room_of_removed(*state, data) > BIG / 2);
	free(data);
}

static struct reaper *_Atomic fed;
static _Thread_local bool is_main;

int __real_close(int fd);
int __wrap_close(int fd);

/* While one is closed in the background, somebody gives the next. */
int __wrap_close(int fd)
{
	struct reaper *r = atomic_load(&fed);
	int e = __real_close(fd);

	if (r && !is_main)
		reaper_close(r, open("/", O_PATH | O_CLOEXEC));
	return e;
}

static void *drain(void *arg)
{
	reaper_drain(arg);
	return NULL;
}

/* Who waits does so for what was given before, and not until nothing comes any more. */
static void drain_ends_while_more_comes(void **state)
{
	struct timespec until;
	struct reaper *r = NULL;
	pthread_t t;
	int late;

	is_main = true;
	assert_int_equal(reaper_new(&r), 0);
	atomic_store(&fed, r);
	reaper_close(r, open("/", O_PATH | O_CLOEXEC));
	assert_int_equal(pthread_create(&t, NULL, drain, r), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	late = pthread_timedjoin_np(t, NULL, &until);
	atomic_store(&fed, NULL);
	if (late)
		pthread_join(t, NULL);
	assert_int_equal(late, 0);
	reaper_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drain_closes_all_given_before),
		cmocka_unit_test(more_than_it_holds),
		cmocka_unit_test(drain_ends_while_more_comes),
		cmocka_unit_test_setup_teardown(removed_room_is_told, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
