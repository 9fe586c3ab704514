#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "common/journal.h"
#include "common/record.h"
#include "common/scope.h"
#include "tests/unit/folder.h"

#define CLIENT "00112233445566778899aabbccddeeff"
#define RING (64u << 10)

struct fixture {
	char dir[64];
	int dirfd, fd, kick;
	struct journal_writer *w;
	struct journal_reader *r;
};

static void open_ends(struct fixture *f)
{
	assert_int_equal(journal_writer_open(f->fd, f->kick, &f->w), 0);
	assert_int_equal(journal_reader_open(dup(f->fd), &f->r), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dirfd = folder_make(f->dir, sizeof(f->dir), "/tmp", "journal");
	assert_true(f->dirfd >= 0);
	f->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(journal_create(f->dirfd, "j", 42, CLIENT, RING, &f->fd), 0);
	open_ends(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	journal_writer_close(f->w);
	journal_reader_free(f->r);
	close(f->fd);
	close(f->kick);
	close(f->dirfd);
	folder_remove(AT_FDCWD, f->dir);
	free(f);
	return 0;
}

/* The payload says which one it is and fills the rest with a byte that follows from it. */
static size_t make_payload(uint64_t writer, uint64_t i, uint8_t *buf)
{
	size_t n = 16 + (i * 37 + writer * 11) % 400;

	memcpy(buf, &writer, 8);
	memcpy(buf + 8, &i, 8);
	memset(buf + 16, (int)(i ^ writer), n - 16);
	return n;
}

static void check_payload(const uint8_t *buf, size_t n, uint64_t *ret_writer, uint64_t *ret_i)
{
	uint8_t want[RECORD_BYTES_MAX];

	assert_true(n >= 16);
	memcpy(ret_writer, buf, 8);
	memcpy(ret_i, buf + 8, 8);
	assert_int_equal(make_payload(*ret_writer, *ret_i, want), n);
	assert_memory_equal(buf, want, n);
}

static void append_ok(struct journal_writer *w, uint64_t i)
{
	uint8_t buf[RECORD_BYTES_MAX];
	size_t n = make_payload(0, i, buf);

	assert_int_equal(journal_append(w, buf, n, 0), 0);
}

static void expect_next(struct journal_reader *r, uint64_t i)
{
	uint8_t buf[RECORD_BYTES_MAX];
	uint64_t seq, writer, got;
	size_t n;

	assert_int_equal(journal_reader_next(r, buf, sizeof(buf), &n, &seq), 1);
	assert_int_equal(seq, i + 1);
	check_payload(buf, n, &writer, &got);
	assert_int_equal(got, i);
}

static int next(struct journal_reader *r)
{
	uint8_t buf[RECORD_BYTES_MAX];
	uint64_t seq;
	size_t n;

	return journal_reader_next(r, buf, sizeof(buf), &n, &seq);
}

static void test_constants(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(journal_reader_id(f->r), 42);
	assert_string_equal(journal_reader_client(f->r), CLIENT);
	assert_int_equal(next(f->r), 0);
}

static void test_create_refuses(void **state)
{
	struct fixture *f = *state;
	int fd;

	assert_int_equal(journal_create(f->dirfd, "j", 1, CLIENT, RING, &fd), -EEXIST);
	assert_int_equal(journal_create(f->dirfd, "k", 1, "acme", RING, &fd), -EINVAL);
	assert_int_equal(journal_create(f->dirfd, "k", 1, CLIENT, 4096, &fd), -EINVAL);
	assert_int_equal(journal_create(f->dirfd, "k", 1, CLIENT, RING + 1, &fd), -EINVAL);
	assert_int_equal(faccessat(f->dirfd, "k", F_OK, 0), -1);
}

/* What cannot be allocated is not made, and leaves nothing behind. */
static void test_create_without_room(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, small = {.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
	int fd, r;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	r = journal_create(f->dirfd, "k", 1, CLIENT, 16u << 20, &fd);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -EFBIG);
	assert_int_equal(faccessat(f->dirfd, "k", F_OK, 0), -1);
}

static void test_really_allocated(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	fstat(f->fd, &st);
	assert_true(st.st_blocks * 512 >= RING);
}

static void test_order_and_wrap(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0, read = 0; i < 5000; i++) {
		append_ok(f->w, i);
		if (i % 7 == 6) {
			for (; read <= i; read++)
				expect_next(f->r, read);
			assert_int_equal(next(f->r), 0);
			assert_int_equal(journal_reader_release(f->r), 0);
		}
	}
}

static void test_sizes(void **state)
{
	struct fixture *f = *state;
	static uint8_t in[RECORD_BYTES_MAX + 1], out[RECORD_BYTES_MAX];
	uint64_t seq;
	size_t n;

	assert_int_equal(journal_append(f->w, in, 0, 0), -EMSGSIZE);
	assert_int_equal(journal_append(f->w, in, RECORD_BYTES_MAX + 1, 0), -EMSGSIZE);
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7);
	for (size_t want = 1; want <= RECORD_BYTES_MAX; want += want < 40 ? 1 : 97) {
		assert_int_equal(journal_append(f->w, in, want, 0), 0);
		assert_int_equal(journal_reader_next(f->r, out, sizeof(out), &n, &seq), 1);
		assert_int_equal(n, want);
		assert_memory_equal(in, out, want);
		assert_int_equal(journal_reader_release(f->r), 0);
	}
}

/* Full: refused, nothing overwritten; goes on once the reader released, not before. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	uint8_t buf[RECORD_BYTES_MAX];
	uint64_t kicks = 0, count = 0;
	size_t n = make_payload(0, 0, buf);

	while (journal_append(f->w, buf, n, 0) == 0)
		count++;
	assert_true(count > 100);
	assert_int_equal(read(f->kick, &kicks, sizeof(kicks)), sizeof(kicks));
	assert_true(kicks >= 2);
	assert_int_equal(journal_append(f->w, buf, n, 3), -ENOSPC);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(next(f->r), 1);
	assert_int_equal(next(f->r), 0);
	assert_int_equal(journal_append(f->w, buf, n, 0), -ENOSPC);
	assert_int_equal(journal_reader_release(f->r), 0);
	assert_int_equal(journal_append(f->w, buf, n, 0), 0);
	assert_int_equal(next(f->r), 1);
	assert_int_equal(next(f->r), 0);
}

static void test_kick_at_a_quarter(void **state)
{
	struct fixture *f = *state;
	uint64_t kicks;
	size_t used = 0;

	for (uint64_t i = 0; used < RING / 4; i++) {
		uint8_t buf[RECORD_BYTES_MAX];
		size_t n = make_payload(0, i, buf);

		assert_int_equal(read(f->kick, &kicks, sizeof(kicks)), -1);
		assert_int_equal(journal_append(f->w, buf, n, 0), 0);
		used += 32 + (n + 7) / 8 * 8;
	}
	append_ok(f->w, 0);
	assert_int_equal(read(f->kick, &kicks, sizeof(kicks)), sizeof(kicks));
}

static void test_resume(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0; i < 20; i++)
		append_ok(f->w, i);
	for (uint64_t i = 0; i < 10; i++)
		expect_next(f->r, i);
	assert_int_equal(journal_reader_release(f->r), 0);
	for (uint64_t i = 10; i < 15; i++)
		expect_next(f->r, i);
	journal_reader_free(f->r);
	journal_writer_close(f->w);
	open_ends(f);
	assert_int_equal(journal_reader_released(f->r), 10);
	append_ok(f->w, 20);
	for (uint64_t i = 10; i <= 20; i++)
		expect_next(f->r, i);
	assert_int_equal(next(f->r), 0);
}

static void test_sync(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(journal_sync(f->w), 0);
	append_ok(f->w, 0);
	assert_int_equal(journal_sync(f->w), 0);
	assert_int_equal(journal_sync(f->w), 0);
}

#define WRITERS 4
#define EACH 20000u

struct thread_arg {
	struct journal_writer *w;
	uint64_t id;
};

static void *writer_thread(void *p)
{
	struct thread_arg *a = p;
	uint8_t buf[RECORD_BYTES_MAX];

	for (uint64_t i = 0; i < EACH; i++) {
		size_t n = make_payload(a->id, i, buf);

		if (journal_append(a->w, buf, n, 60000) < 0)
			return a;
	}
	return NULL;
}

static void test_many_writers(void **state)
{
	struct fixture *f = *state;
	struct thread_arg args[WRITERS];
	pthread_t threads[WRITERS];
	uint64_t seen[WRITERS] = {0}, total = 0, seq, writer, i;
	uint8_t buf[RECORD_BYTES_MAX];
	size_t n;

	for (uint64_t t = 0; t < WRITERS; t++) {
		args[t] = (struct thread_arg){f->w, t};
		assert_int_equal(pthread_create(&threads[t], NULL, writer_thread, &args[t]), 0);
	}
	while (total < WRITERS * EACH) {
		int r = journal_reader_next(f->r, buf, sizeof(buf), &n, &seq);

		assert_true(r >= 0);
		if (r == 0) {
			assert_int_equal(journal_reader_release(f->r), 0);
			sched_yield();
			continue;
		}
		assert_int_equal(seq, ++total);
		check_payload(buf, n, &writer, &i);
		assert_int_equal(i, seen[writer]++);
	}
	for (unsigned t = 0; t < WRITERS; t++) {
		void *failure;

		pthread_join(threads[t], &failure);
		assert_null(failure);
	}
	assert_int_equal(next(f->r), 0);
}

static void die_writing(struct fixture *f, volatile uint64_t *done)
{
	struct journal_writer *w;
	uint8_t buf[RECORD_BYTES_MAX];

	if (journal_writer_open(f->fd, f->kick, &w) < 0)
		_exit(1);
	for (uint64_t i = 0;; i++) {
		size_t n = make_payload(0, i, buf);

		if (journal_append(w, buf, n, 60000) < 0)
			_exit(1);
		*done = i + 1;
	}
}

/* Killed anywhere: what append had returned for is there, once, in order; at most the one in the making
 * beside. */
static void test_killed_writer(void **state)
{
	struct fixture *f = *state;
	volatile uint64_t *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	for (unsigned round = 0; round < 60; round++) {
		uint64_t read = 0, seq, writer, i, stop = 1 + round * 53;
		uint8_t buf[RECORD_BYTES_MAX];
		bool alive = true;
		size_t n;
		pid_t pid;
		int r;

		journal_writer_close(take_ptr(&f->w));
		journal_reader_free(take_ptr(&f->r));
		close(f->fd);
		unlinkat(f->dirfd, "j", 0);
		assert_int_equal(journal_create(f->dirfd, "j", round, CLIENT, RING, &f->fd), 0);
		assert_int_equal(journal_reader_open(dup(f->fd), &f->r), 0);
		*done = 0;
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			die_writing(f, done);
		for (;;) {
			if (alive && *done >= stop) {
				kill(pid, SIGKILL);
				waitpid(pid, &r, 0);
				assert_true(WIFSIGNALED(r));
				alive = false;
			}
			r = journal_reader_next(f->r, buf, sizeof(buf), &n, &seq);
			assert_true(r >= 0);
			if (r == 0 && !alive)
				break;
			if (r == 0) {
				assert_int_equal(journal_reader_release(f->r), 0);
				continue;
			}
			check_payload(buf, n, &writer, &i);
			assert_int_equal(i, read++);
		}
		assert_true(read >= *done && read <= *done + 1);
	}
	munmap((void *)done, 4096);
}

/* Every flipped bit in what was appended and not yet released is refused, or changes nothing that was
 * written. */
static void test_bit_flips(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	unsigned refused = 0;

	for (uint64_t i = 0; i < 6; i++)
		append_ok(f->w, i);
	fstat(f->fd, &st);
	for (off_t at = 0; at < 12288 + 2048; at += (at % 4096) >= 96 && at < 12288 ? 128 : 1) {
		struct journal_reader *r;
		uint8_t byte, flipped;
		int e;

		assert_int_equal(pread(f->fd, &byte, 1, at), 1);
		flipped = byte ^ (uint8_t)(1 << at % 8);
		assert_int_equal(pwrite(f->fd, &flipped, 1, at), 1);
		e = journal_reader_open(dup(f->fd), &r);
		if (e == 0) {
			uint8_t buf[RECORD_BYTES_MAX];
			uint64_t seq, writer, i, count = 0;
			size_t n;

			while ((e = journal_reader_next(r, buf, sizeof(buf), &n, &seq)) == 1) {
				check_payload(buf, n, &writer, &i);
				assert_int_equal(i, count++);
			}
			if (e == 0)
				assert_int_equal(count, 6);
			journal_reader_free(r);
		}
		if (e < 0) {
			assert_int_equal(e, -EBADMSG);
			refused++;
		}
		assert_int_equal(pwrite(f->fd, &byte, 1, at), 1);
	}
	assert_true(refused > 500);
}

/* A record taken away (its commit word zeroed) is not an end. */
static void test_erased_record(void **state)
{
	struct fixture *f = *state;
	uint64_t zero = 0;

	append_ok(f->w, 0);
	append_ok(f->w, 1);
	assert_int_equal(pwrite(f->fd, &zero, 8, 12288), 8);
	assert_int_equal(next(f->r), -EBADMSG);
	assert_int_equal(next(f->r), -EBADMSG);
}

/* The writer may cut the file: the reader must say so, not die. */
static void test_cut_file(void **state)
{
	struct fixture *f = *state;

	append_ok(f->w, 0);
	journal_writer_close(take_ptr(&f->w));
	assert_int_equal(ftruncate(f->fd, 12288), 0);
	assert_int_equal(next(f->r), -EBADMSG);
	journal_reader_free(take_ptr(&f->r));
	assert_int_equal(journal_reader_open(f->fd, &f->r), -EBADMSG);
}

/* A reader page that says more than was ever written must not free anything. */
static void test_lying_reader_page(void **state)
{
	struct fixture *f = *state;
	uint64_t lie[3] = {1 << 20, 5000, 77};
	uint8_t buf[RECORD_BYTES_MAX];
	size_t n = make_payload(0, 0, buf);

	assert_int_equal(pwrite(f->fd, lie, sizeof(lie), 8192), sizeof(lie));
	while (journal_append(f->w, buf, n, 0) == 0)
		;
	assert_int_equal(next(f->r), 1);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_constants),
		T(test_create_refuses),
		T(test_create_without_room),
		T(test_really_allocated),
		T(test_order_and_wrap),
		T(test_sizes),
		T(test_full),
		T(test_kick_at_a_quarter),
		T(test_resume),
		T(test_sync),
		T(test_many_writers),
		T(test_killed_writer),
		T(test_bit_flips),
		T(test_erased_record),
		T(test_cut_file),
		T(test_lying_reader_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
