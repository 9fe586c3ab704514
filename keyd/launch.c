#include "keyd/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <unistd.h>

#include "common/scope.h"

#define FD_ABOVE 32 /* sources stand here while 3, 4, 5 are filled */

static const char *const inherited[] = {
	"PATH",
	"LANG",
	"COFFER_LOG",
	"COFFER_INODES", /* for tests and measurements: see fs/worker/evict.h */
	"COFFER_NOTES", /* for tests: see fs/worker/notify.h */
	"COFFER_UNRECORDED", /* for measurements; what is built to record ignores it */
	"ASAN_OPTIONS",
	"TSAN_OPTIONS",
	"UBSAN_OPTIONS",
	"LSAN_OPTIONS",
};

#define FOREIGN 2 /* the first so many are for everybody */

static int build_environment(char *env[ARRAY_SIZE(inherited) + 1], size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const char *value = getenv(inherited[i]);

		env[n] = NULL;
		if (value && asprintf(&env[n++], "%s=%s", inherited[i], value) < 0)
			return -ENOMEM;
	}
	env[n] = NULL;
	return 0;
}

/* dup2() onto the very same number would keep close-on-exec, and 3, 4, 5 may be ours: hence the detour. */
static int arrange_fds(
	posix_spawn_file_actions_t *actions, const int *fds, unsigned n, int log_fd, int *copies)
{
	int r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);

	for (unsigned i = 0; r == 0 && i < n; i++) {
		copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, FD_ABOVE);
		if (copies[i] < 0)
			return -errno;
		r = posix_spawn_file_actions_adddup2(actions, copies[i], LAUNCH_FD_FIRST + (int)i);
	}
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, log_fd, STDERR_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, log_fd, STDOUT_FILENO);
	return -r;
}

/* A group of its own: ^C at the terminal of a foreground keyd is keyd's to handle. */
static int arrange_signals(posix_spawnattr_t *attr)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	sigdelset(&all, SIGKILL);
	sigdelset(&all, SIGSTOP);
	r = posix_spawnattr_setsigmask(attr, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attr, &all);
	if (r == 0)
		r = posix_spawnattr_setpgroup(attr, 0);
	if (r == 0)
		r = posix_spawnattr_setflags(
			attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	return -r;
}

static int launch(const char *path, char *const argv[], const int *fds, unsigned n, int log_fd, size_t environment, pid_t *ret_pid)
{
	char *env[ARRAY_SIZE(inherited) + 1] = {NULL};
	int copies[LAUNCH_FDS_MAX] = {-1, -1, -1};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	if (n > LAUNCH_FDS_MAX)
		return -EINVAL;
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	r = build_environment(env, environment);
	if (r == 0)
		r = arrange_signals(&attr);
	if (r == 0)
		r = arrange_fds(&actions, fds, n, log_fd, copies);
	if (r == 0)
		r = -posix_spawn(ret_pid, path, &actions, &attr, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	for (size_t i = 0; i < LAUNCH_FDS_MAX; i++)
		close_fdp(&copies[i]);
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	return r;
}

int launch_program(
	const char *path, char *const argv[], const int *fds, unsigned n, int log_fd, pid_t *ret_pid)
{
	return launch(path, argv, fds, n, log_fd, ARRAY_SIZE(inherited), ret_pid);
}

/* In the child: only what may follow a fork. */
static void become_foreign(cap_t none, const char *path, char *const argv[], char *const env[], int *copies, unsigned n)
{
	sigset_t unblocked;

	sigemptyset(&unblocked);
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &unblocked, NULL);
	if (setpgid(0, 0) < 0 || cap_set_proc(none) < 0 || dup2(copies[0], STDIN_FILENO) < 0 || dup2(copies[1], STDOUT_FILENO) < 0 ||
		dup2(copies[1], STDERR_FILENO) < 0)
		_exit(126);
	for (unsigned i = 0; i < n; i++)
		if (dup2(copies[2 + i], LAUNCH_FD_FIRST + (int)i) < 0)
			_exit(126);
	execve(path, argv, env);
	_exit(127);
}

/* Not by posix_spawn: a thread without capabilities has no room for its stack where all our memory is locked. */
int launch_foreign(const char *path, char *const argv[], const int *fds, unsigned n, int log_fd, pid_t *ret_pid)
{
	char *env[ARRAY_SIZE(inherited) + 1] = {NULL};
	int copies[2 + LAUNCH_FDS_MAX] = {-1, -1, -1, -1, -1}, r;
	cap_t none = cap_init();
	pid_t pid;

	r = !none || n > LAUNCH_FDS_MAX ? -EINVAL : build_environment(env, FOREIGN);
	for (unsigned i = 0; r == 0 && i < 2 + n; i++) {
		scoped(close_fdp) int null_fd = i == 0 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

		copies[i] = fcntl(i == 0 ? null_fd : i == 1 ? log_fd : fds[i - 2], F_DUPFD_CLOEXEC, FD_ABOVE);
		r = copies[i] < 0 ? -errno : 0;
	}
	if (r == 0) {
		pid = fork();
		if (pid == 0)
			become_foreign(none, path, argv, env, copies, n);
		if (pid > 0)
			*ret_pid = pid;
		else
			r = -errno;
	}
	for (size_t i = 0; i < ARRAY_SIZE(copies); i++)
		close_fdp(&copies[i]);
	for (size_t i = 0; env[i]; i++)
		free(env[i]);
	cap_free(none);
	return r;
}
