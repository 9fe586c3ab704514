#include "keyd/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int build_environment(char *env[ARRAY_SIZE(inherited) + 1])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++) {
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

int launch_program(
	const char *path, char *const argv[], const int *fds, unsigned n, int log_fd, pid_t *ret_pid)
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
	r = build_environment(env);
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
