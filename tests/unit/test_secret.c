#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "common/secret.h"

#define ARENA (1u << 20)

static int setup(void **state)
{
	return secret_init(ARENA);
}

static int teardown(void **state)
{
	int r = secret_in_use() == 0 ? 0 : -1;

	secret_done();
	return r;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return sodium_is_zero(p, n) == 1;
}

static void test_alloc(void **state)
{
	uint8_t *a = secret_alloc(1), *b = secret_alloc(32), *c = secret_alloc(5000);

	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
	assert_true(all_zero(c, 5000));
	assert_int_equal((uintptr_t)a % 64, 0);
	assert_int_equal((uintptr_t)c % 64, 0);
	assert_int_equal(secret_in_use(), 5033);
	memset(a, 1, 1);
	memset(b, 2, 32);
	memset(c, 3, 5000);
	secret_free(b);
	assert_int_equal(a[0], 1);
	assert_int_equal(c[0], 3);
	assert_int_equal(secret_in_use(), 5001);
	/* The hole is used again, and nothing is left in it. */
	assert_ptr_equal(secret_alloc(20), b);
	assert_true(all_zero(b, 20));
	secret_free(a);
	secret_free(b);
	secret_free(c);
	secret_free(NULL);
	assert_null(secret_alloc(0));
	assert_null(secret_alloc(ARENA));
	assert_null(secret_alloc(SIZE_MAX));
	assert_null(secret_alloc(SIZE_MAX - 7));
}

static void test_full_and_empty_again(void **state)
{
	static void *all[ARENA / 64 + 1];
	size_t n = 0;

	while ((all[n] = secret_alloc(32)))
		n++;
	assert_int_equal(n, ARENA / 64);
	for (size_t i = 0; i < n; i += 2)
		secret_free(all[i]);
	assert_null(secret_alloc(64)); /* no two holes in a row */
	for (size_t i = 1; i < n; i += 2)
		secret_free(all[i]);
	all[0] = secret_alloc(ARENA - 8);
	assert_non_null(all[0]);
	secret_free(all[0]);
}

static void test_init_again(void **state)
{
	assert_int_equal(secret_init(ARENA), 0);
	assert_int_equal(secret_init(2 * ARENA), -EALREADY);
	assert_int_equal(secret_init(0), -EINVAL);
}

static int child_status(void (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fn(arg);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void child_sees(void *arg)
{
	_exit(all_zero(arg, 32) ? 7 : 8);
}

static void test_child_sees_nothing(void **state)
{
	uint8_t *p = secret_alloc(32);

	memset(p, 0x42, 32);
	assert_int_equal(WEXITSTATUS(child_status(child_sees, p)), 7);
	assert_int_equal(p[31], 0x42);
	secret_free(p);
}

static void child_abuses(void *arg)
{
	const struct rlimit none = {0};
	uint8_t *p;

	(void)setrlimit(RLIMIT_CORE, &none);
	signal(SIGABRT, SIG_DFL);
	secret_done(); /* an arena of its own: that of the parent reads as zeros here */
	if (secret_init(ARENA) < 0)
		_exit(1);
	p = secret_alloc(32);
	if (*(int *)arg == 0)
		p[32] ^= 1;
	if (*(int *)arg == 1)
		secret_free(p);
	secret_free(*(int *)arg == 2 ? p + 64 : p);
}

static void test_abuse_aborts(void **state)
{
	for (int what = 0; what < 3; what++) {
		int status = child_status(child_abuses, &what);

		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGABRT);
	}
}

/* As an ordinary user under a limit: what is not locked is not used. */
static void child_without_limit(void *arg)
{
	const struct rlimit small = {.rlim_cur = 65536, .rlim_max = 65536};

	secret_done();
	if (setrlimit(RLIMIT_MEMLOCK, &small) < 0)
		_exit(1);
	if (setgid(65534) < 0 || setuid(65534) < 0)
		_exit(2);
	if (secret_init(ARENA) != -ENOMEM || secret_alloc(1))
		_exit(3);
	if (secret_init(32768) != 0 || !secret_alloc(1))
		_exit(4);
	if (secret_lock_all() != -EPERM)
		_exit(5);
	/* And memory is still to be had. */
	if (!malloc(16u << 20))
		_exit(6);
	_exit(0);
}

static void test_lock_is_checked(void **state)
{
	int status;

	if (geteuid() != 0 || COFFER_SANITIZED) {
		print_message("needs root to become nobody, and an mlock that no sanitizer replaces\n");
		skip();
	}
	status = child_status(child_without_limit, NULL);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void child_hardens(void *arg)
{
	struct rlimit core;

	if (secret_harden_process() < 0)
		_exit(1);
	if (prctl(PR_GET_DUMPABLE) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		_exit(2);
	if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_cur != 0 || core.rlim_max != 0)
		_exit(3);
}

static void test_harden(void **state)
{
	assert_int_equal(child_status(child_hardens, NULL), 0);
}

static void test_fd(void **state)
{
	static const size_t sizes[] = {1, 32, 4096, 4097, 70000};
	uint8_t in[70000];
	size_t n;
	void *out;
	int fd;

	randombytes_buf(in, sizeof(in));
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(secret_fd_new(in, sizes[i], &fd), 0);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		assert_int_equal(secret_fd_take(fd, sizes[i] - 1, &out, &n), -EMSGSIZE);
		assert_int_equal(secret_fd_take(fd, sizes[i], &out, &n), 0);
		assert_int_equal(n, sizes[i]);
		assert_memory_equal(out, in, n);
		secret_free(out);
		/* Wiped: who takes it again gets zeros. */
		assert_int_equal(secret_fd_take(fd, sizes[i], &out, &n), 0);
		assert_true(all_zero(out, n));
		secret_free(out);
		close(fd);
	}
	assert_int_equal(secret_fd_new(in, 0, &fd), -EINVAL);
}

/* The form for kernels without memfd_secret. */
static void test_fd_memfd(void **state)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	uint8_t in[5000], back[5000];
	void *out = NULL;
	size_t n;

	randombytes_buf(in, sizeof(in));
	assert_int_equal(secret_fd_take(fd, sizeof(in), &out, &n), -EBADMSG); /* empty */
	assert_int_equal(pwrite(fd, in, sizeof(in), 0), sizeof(in));
	assert_int_equal(secret_fd_take(fd, sizeof(in), &out, &n), 0);
	assert_memory_equal(out, in, sizeof(in));
	secret_free(out);
	assert_int_equal(pread(fd, back, sizeof(back), 0), sizeof(back));
	assert_true(all_zero(back, sizeof(back)));
	close(fd);
}

static void test_fd_refused(void **state)
{
	char path[] = "/tmp/coffer-test-secret.XXXXXX";
	void *out = NULL;
	int fd, pipes[2];
	size_t n;

	fd = mkstemp(path);
	assert_int_equal(write(fd, "abc", 3), 3);
	assert_int_equal(secret_fd_take(fd, 100, &out, &n), -EBADF);
	unlink(path);
	close(fd);
	fd = open("/dev/zero", O_RDWR);
	assert_int_equal(secret_fd_take(fd, 100, &out, &n), -EBADF);
	close(fd);
	fd = open("/proc/self/status", O_RDONLY);
	assert_int_equal(secret_fd_take(fd, 100, &out, &n), -EBADF);
	close(fd);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(secret_fd_take(pipes[0], 100, &out, &n), -EBADF);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(secret_fd_take(-1, 100, &out, &n), -EBADF);
	assert_int_equal(secret_fd_new("abc", 3, &fd), 0);
	assert_int_equal(secret_fd_take(fd, 2, &out, &n), -EMSGSIZE);
	close(fd);
	assert_null(out);
}

static void *churn(void *arg)
{
	for (size_t i = 1; i < 3000; i++) {
		uint8_t *p = secret_alloc(i % 300 + 1);

		if (!p || !all_zero(p, i % 300 + 1))
			return arg;
		memset(p, 0xcc, i % 300 + 1);
		secret_free(p);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t t[4];
	void *wrong;

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, t), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(t[i], &wrong), 0);
		assert_null(wrong);
	}
}

static void test_key_wipe(void **state)
{
	struct key32 k;

	memset(&k, 1, sizeof(k));
	key32_wipe(&k);
	assert_true(all_zero(k.b, sizeof(k.b)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alloc),
		cmocka_unit_test(test_full_and_empty_again),
		cmocka_unit_test(test_init_again),
		cmocka_unit_test(test_child_sees_nothing),
		cmocka_unit_test(test_abuse_aborts),
		cmocka_unit_test(test_lock_is_checked),
		cmocka_unit_test(test_harden),
		cmocka_unit_test(test_fd),
		cmocka_unit_test(test_fd_memfd),
		cmocka_unit_test(test_fd_refused),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_key_wipe),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
