/* One program that keyd started: watched through its pidfd, asked over a socket of its own. */
#ifndef COFFER_KEYD_CHILD_H
#define COFFER_KEYD_CHILD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#include "common/varlink.h"

struct keyd;

struct child {
	pid_t pid;		/* 0: not running */
	int pidfd;
	sd_event_source *exit;
	struct varlink_client *client;
};

/* Forks, watches.  `fds[0]` will be our socket's other end, `our_end` (it takes it) is ours; what it says on stderr goes to
 * `log_name` in the state directory.  On failure nothing is left of it. */
int child_start(struct keyd *k, struct child *c, const char *path, char *const argv[], const int *fds, unsigned n,
	const char *log_name, int our_end, sd_event_child_handler_t on_exit, void *userdata);
/* True when it has exited within `ms`; reaped then. */
bool child_wait(struct child *c, int ms);
/* At once, and waits for its end; `what` is its name in the log.  One that does not run is fine. */
void child_kill(struct child *c, const char *what);
/* Its socket is closed: it exits now, or is of no use. */
void child_closed(const struct child *c);
/* It has exited: nothing is kept of it. */
void child_forget(struct child *c);
const char *child_how_it_ended(const siginfo_t *info, char *buf, size_t n);

#endif
