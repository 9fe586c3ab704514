#include "keyd/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/keyd.h"
#include "keyd/launch.h"

#define CLOSED_WAIT_MS 200 /* between its socket's end and its own */
#define KILL_WAIT_MS 10000 /* told: only a process in state D takes long */

void child_forget(struct child *c)
{
	sd_event_source_disable_unref(c->exit);
	varlink_client_free(c->client);
	close_fdp(&c->pidfd);
	*c = (struct child){.pidfd = -1};
}

int child_start(struct keyd *k, struct child *c, const char *path, char *const argv[], const int *fds,
	unsigned n, const char *log_name, int our_end, sd_event_child_handler_t on_exit, void *userdata)
{
	scoped(close_fdp) int log_fd = -1, sock = our_end;
	int r;

	*c = (struct child){.pidfd = -1};
	log_fd = statedir_open(&k->dir, log_name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	if (log_fd < 0)
		return log_fd;
	r = varlink_client_new_fd(take_fd(&sock), &c->client);
	if (r < 0)
		return r;
	r = launch_program(path, argv, fds, n, log_fd, &c->pid);
	if (r < 0) {
		child_forget(c);
		return r;
	}
	c->pidfd = pidfd_open(c->pid, 0);
	r = c->pidfd < 0 ? -errno : 0;
	if (r == 0)
		r = sd_event_add_child_pidfd(k->event, &c->exit, c->pidfd, WEXITED, on_exit, userdata);
	if (r < 0) { /* not watched is not kept */
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
		child_forget(c);
		return r;
	}
	return 0;
}

bool child_wait(struct child *c, int ms)
{
	struct pollfd p = {.fd = c->pidfd, .events = POLLIN};
	siginfo_t info;

	if (poll(&p, 1, ms) <= 0)
		return false;
	c->exit = sd_event_source_disable_unref(c->exit);
	(void)waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG);
	return true;
}

void child_kill(struct child *c, const char *what)
{
	if (c->pid == 0)
		return;
	if (pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_error("%s %d cannot be killed: %s", what, (int)c->pid, strerror(errno));
	if (!child_wait(c, KILL_WAIT_MS))
		log_error("%s %d was killed and has not gone", what, (int)c->pid);
}

const char *child_how_it_ended(const siginfo_t *info, char *buf, size_t n)
{
	if (info->si_code == CLD_EXITED)
		snprintf(buf, n, "exit status %d", info->si_status);
	else
		snprintf(buf, n, "signal %d", info->si_status);
	return buf;
}

void child_closed(const struct child *c)
{
	struct pollfd p = {.fd = c->pidfd, .events = POLLIN};

	if (poll(&p, 1, CLOSED_WAIT_MS) <= 0)
		(void)pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
}
