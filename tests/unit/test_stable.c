/* Answers that wait for the disk: none leaves before fdatasync has returned, one sync serves all that wait, and when it
 * fails the answer is that error.  fdatasync is wrapped: the test holds it, lets it go, and makes it fail. */
#include "worker_fixture.h"

#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "fs/worker/handle.h"
#include "fs/worker/stable.h"

#define LIMIT_MS 10000

int __wrap_fdatasync(int fd);

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool held;
	int error;
	unsigned begun, ended;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int __wrap_fdatasync(int fd)
{
	int error;

	pthread_mutex_lock(&gate.lock);
	gate.begun++;
	pthread_cond_broadcast(&gate.changed);
	while (gate.held)
		pthread_cond_wait(&gate.changed, &gate.lock);
	gate.ended++;
	error = gate.error;
	pthread_mutex_unlock(&gate.lock);
	errno = error;
	return error ? -1 : 0;
}

static void gate_set(bool held, int error)
{
	pthread_mutex_lock(&gate.lock);
	gate.held = held;
	gate.error = error;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
}

static unsigned gate_begun(void)
{
	unsigned n;

	pthread_mutex_lock(&gate.lock);
	n = gate.begun;
	pthread_mutex_unlock(&gate.lock);
	return n;
}

static void gate_wait(unsigned begun)
{
	pthread_mutex_lock(&gate.lock);
	while (gate.begun < begun)
		pthread_cond_wait(&gate.changed, &gate.lock); /* the suite's limit ends a test that hangs */
	pthread_mutex_unlock(&gate.lock);
}

struct fixture_stable {
	struct worker_fixture x;
	struct session *s;
	struct stable *t;
	_Atomic uint64_t nodes[HANDLE_MAX];
	int kernel; /* the other end of the session's descriptor */
};

static int setup(void **state)
{
	struct fixture_stable *f = calloc(1, sizeof(*f));
	const struct session_terms terms = {.number = 7, .sync = true, .classes = class_set_all()};
	int ends[2];

	gate_set(false, 0);
	worker_fixture_setup(&f->x, 1u << 20);
	assert_int_equal(session_new(&f->x.w, &terms, &f->s), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	f->s->fd = ends[0];
	f->kernel = ends[1];
	assert_int_equal(handle_table_new(f->nodes, &f->s->handles), 0);
	inode_view_enter_root(f->x.w.inodes, &f->s->view);
	assert_int_equal(stable_new(recorder_journal(f->x.w.recorder), &f->t), 0);
	f->x.w.stable = f->t;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture_stable *f = *state;

	gate_set(false, 0);
	stable_free(f->t);
	f->x.w.stable = NULL;
	handle_table_free(f->s->handles);
	inode_view_done(f->x.w.inodes, &f->s->view);
	close(f->s->fd);
	close(f->kernel);
	session_free(f->s);
	worker_fixture_teardown(&f->x);
	free(f);
	return 0;
}

static void record(struct fixture_stable *f)
{
	struct record_access a = {.session = 7, .op = RECORD_OPEN};

	assert_int_equal(recorder_append(f->x.w.recorder, &a), 0);
	stable_due(journal_position(recorder_journal(f->x.w.recorder)));
}

static void answer(struct fixture_stable *f, uint64_t unique, const void *body, size_t n)
{
	struct fuse_out_header h = {.len = (uint32_t)(sizeof(h) + n), .unique = unique};
	struct iovec iov[] = {{&h, sizeof(h)}, {(void *)body, n}};

	assert_int_equal(stable_answer(f->t, f->s, iov, 2), (ssize_t)(sizeof(h) + n));
}

/* The next answer that the kernel gets; its error (0 or positive). */
static int expect(struct fixture_stable *f, uint64_t unique, size_t body)
{
	struct pollfd p = {.fd = f->kernel, .events = POLLIN};
	uint8_t buf[4096];
	struct fuse_out_header h;
	ssize_t n;

	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	n = recv(f->kernel, buf, sizeof(buf), 0);
	assert_true(n >= (ssize_t)sizeof(h));
	memcpy(&h, buf, sizeof(h));
	assert_int_equal(h.unique, unique);
	assert_int_equal(n, (ssize_t)(sizeof(h) + (h.error ? 0 : body)));
	return -h.error;
}

static void expect_nothing(struct fixture_stable *f)
{
	char c;

	assert_int_equal(recv(f->kernel, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

/* A sync is under way that began before what comes now. */
static unsigned hold(void)
{
	gate_set(true, 0);
	return gate_begun();
}

static void test_no_answer_before_the_sync_returned(void **state)
{
	struct fixture_stable *f = *state;
	unsigned begun;

	gate_wait(1); /* that of the beginning */
	begun = hold();
	stable_request(FUSE_READLINK, 5);
	record(f);
	answer(f, 1, "secret", 6);
	gate_wait(begun + 1);
	expect_nothing(f);
	stable_request(FUSE_GETATTR, 5); /* what is not recorded does not wait, and other answers go on */
	answer(f, 2, "attr", 4);
	assert_int_equal(expect(f, 2, 4), 0);
	expect_nothing(f);
	gate_set(false, 0);
	assert_int_equal(expect(f, 1, 6), 0);
}

static void test_an_error_gives_nothing_and_does_not_wait(void **state)
{
	struct fixture_stable *f = *state;
	struct fuse_out_header h = {.len = sizeof(h), .unique = 3, .error = -EACCES};
	struct iovec iov = {&h, sizeof(h)};

	gate_wait(1);
	hold();
	stable_request(FUSE_OPEN, 5);
	record(f);
	assert_int_equal(stable_answer(f->t, f->s, &iov, 1), (ssize_t)sizeof(h));
	assert_int_equal(expect(f, 3, 0), EACCES);
}

static void test_one_sync_for_all_that_wait(void **state)
{
	struct fixture_stable *f = *state;
	unsigned begun;

	gate_wait(1);
	begun = hold();
	for (uint64_t k = 1; k <= 100; k++) {
		stable_request(FUSE_READLINK, 5);
		record(f);
		answer(f, k, "x", 1);
	}
	gate_set(false, 0);
	for (uint64_t k = 1; k <= 100; k++)
		assert_int_equal(expect(f, k, 1), 0);
	assert_in_range(gate_begun() - begun, 1, 2);
}

static void test_what_is_durable_already_does_not_wait(void **state)
{
	struct fixture_stable *f = *state;

	gate_wait(1);
	stable_request(FUSE_READLINK, 5);
	record(f);
	assert_int_equal(journal_sync(recorder_journal(f->x.w.recorder)), 0);
	hold();
	answer(f, 4, "x", 1);
	assert_int_equal(expect(f, 4, 1), 0);
}

/* The ledger has it: as good as a sync. */
static void test_after_a_failed_sync_no_data_until_the_ledger_has_it(void **state)
{
	struct fixture_stable *f = *state;
	uint8_t buf[RECORD_BYTES_MAX];
	struct fuse_open_out open = {.fh = 0};
	struct record rec;
	struct handle *h;
	uint64_t fh;

	gate_wait(1);
	gate_set(false, EIO);
	stable_request(FUSE_OPENDIR, INODE_ROOT);
	assert_int_equal(handle_new(f->s->handles, HANDLE_DIR, INODE_ROOT, &h, &fh), 0);
	h->inode = inode_get(f->x.w.inodes, &f->s->view, INODE_ROOT);
	handle_publish(f->s->handles, h);
	assert_int_equal(handle_count(f->s->handles), 1);
	open.fh = fh;
	record(f);
	answer(f, 5, &open, sizeof(open));
	assert_int_equal(expect(f, 5, 0), EIO);
	assert_int_equal(handle_count(f->s->handles), 0); /* the kernel will never release it */

	gate_set(false, 0); /* the disk is well again; but what it did not take is not there */
	stable_request(FUSE_READLINK, 5);
	record(f);
	answer(f, 6, "x", 1);
	assert_int_equal(expect(f, 6, 0), EIO);

	while (next_record(&f->x, buf, &rec))
		;
	assert_int_equal(journal_reader_release(f->x.reader), 0);
	stable_request(FUSE_READLINK, 5);
	record(f);
	answer(f, 7, "x", 1);
	assert_int_equal(expect(f, 7, 1), 0);
}

static void test_the_end_of_the_session_takes_what_waits(void **state)
{
	struct fixture_stable *f = *state;
	unsigned begun;

	gate_wait(1);
	begun = hold();
	for (uint64_t k = 1; k <= 3; k++) {
		stable_request(FUSE_READLINK, 5);
		record(f);
		answer(f, k, "secret", 6);
		gate_wait(begun + 1); /* the first is in the sync, the others wait for the next */
	}
	stable_cancel(f->t, f->s, EKEYREVOKED);
	for (unsigned k = 0; k < 3; k++) {
		struct fuse_out_header out;

		assert_int_equal(recv(f->kernel, &out, sizeof(out), MSG_DONTWAIT), (ssize_t)sizeof(out));
		assert_int_equal(out.error, -EKEYREVOKED);
	}
	gate_set(false, 0);
	stable_request(FUSE_READLINK, 5);
	record(f);
	answer(f, 8, "x", 1);
	assert_int_equal(expect(f, 8, 1), 0); /* and nothing else came */
}

/* The bytes of a close: no answer waits for them, and no later one is needed. */
static void test_what_nobody_waits_for_reaches_the_disk_soon(void **state)
{
	struct fixture_stable *f = *state;
	struct journal_writer *j = recorder_journal(f->x.w.recorder);
	unsigned begun;

	record(f);
	answer(f, 1, "", 0);
	assert_int_equal(expect(f, 1, 0), 0);
	begun = gate_begun();
	stable_request(FUSE_RELEASE, 1);
	record(f);
	assert_false(journal_is_synced(j));
	stable_soon(f->t);
	stable_soon(f->t);
	gate_wait(begun + 1);
	expect_nothing(f);
	stable_free(f->t); /* both ways out: it waits for what is due */
	assert_true(journal_is_synced(j));
	assert_int_equal(stable_new(j, &f->t), 0);
	f->x.w.stable = f->t;
	record(f);
	stable_soon(f->t);
	stable_free(f->t);
	assert_true(journal_is_synced(j));
	assert_int_equal(stable_new(j, &f->t), 0);
	f->x.w.stable = f->t;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_answer_before_the_sync_returned, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_error_gives_nothing_and_does_not_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_nobody_waits_for_reaches_the_disk_soon, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_sync_for_all_that_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_durable_already_does_not_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_after_a_failed_sync_no_data_until_the_ledger_has_it, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_end_of_the_session_takes_what_waits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
