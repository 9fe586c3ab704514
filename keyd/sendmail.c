#include "keyd/sendmail.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/keyd.h"
#include "keyd/launch.h"
#include "keyd/notice.h"
#include "keyd/outbox.h"

struct sending {
	struct keyd *k;
	char name[NOTICE_NAME_MAX], client[CLIENT_NAME_MAX];
};

static void not_sent(const struct sending *s, const char *why)
{
	struct outbox_entry e = {
		.kind = "notice-unsent", .outcome = "Failed", .by = FACTS_CLOCK, .client = *s->client ? s->client : NULL};

	log_warning("the notice outbox/%s is not sent: %s", s->name, why);
	e.detail = json_pack("{s:s, s:s}", "file", s->name, "reason", why);
	if (outbox_put(s->k, &e) < 0)
		log_error("that it is not sent is not recorded");
}

static int on_exit_of(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	scoped(freep) struct sending *s = userdata;
	char why[64];

	if (info->si_code != CLD_EXITED || info->si_status != 0) {
		snprintf(why, sizeof(why), "the program ended with %s %d",
			info->si_code == CLD_EXITED ? "exit status" : "signal", info->si_status);
		not_sent(s, why);
	}
	sd_event_source_disable_unref(source);
	return 0;
}

/* One that hangs must not pile up.  Its end is recorded as any other failure. */
#define SENDING_SECONDS "300"

/* The shell only turns descriptor 3 into the program's input; the path is its $0, not part of the script. */
static int send_it(struct sending *s)
{
	char *const argv[] = {(char *)"sh", (char *)"-c", (char *)"exec timeout -s KILL " SENDING_SECONDS " \"$0\" -oi -t <&3 3<&-", s->k->policy->sendmail,
		NULL};
	scoped(close_fdp) int fd = -1, log_fd = -1;
	sd_event_source *source = NULL;
	char path[NOTICE_NAME_MAX + 16];
	pid_t pid;
	int r;

	snprintf(path, sizeof(path), "outbox/%s", s->name);
	fd = statedir_open(&s->k->dir, path, O_RDONLY | O_NOFOLLOW, 0);
	log_fd = statedir_open(&s->k->dir, "log/keyd.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
	if (fd < 0 || log_fd < 0)
		return fd < 0 ? fd : log_fd;
	r = launch_program("/bin/sh", argv, &fd, 1, log_fd, &pid);
	if (r < 0)
		return r;
	r = sd_event_add_child(s->k->event, &source, pid, WEXITED, on_exit_of, s);
	if (r < 0) { /* not watched is not kept */
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	return r;
}

void notice_send(struct keyd *k, const char *name, const char *client)
{
	scoped(freep) struct sending *s = NULL;
	int r;

	if (!k->policy->sendmail)
		return;
	s = calloc(1, sizeof(*s));
	if (!s)
		return;
	s->k = k;
	snprintf(s->name, sizeof(s->name), "%s", name);
	snprintf(s->client, sizeof(s->client), "%s", client ? client : "");
	r = send_it(s);
	if (r < 0)
		not_sent(s, strerror(-r));
	else
		take_ptr(&s);
}
