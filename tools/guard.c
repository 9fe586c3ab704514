#include "tools/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/background.h"
#include "tools/backup_dir.h"
#include "tools/fusemount.h"
#include "tools/scratch.h"

#define TRIES 150
#define TRY_MS 20

/* First what lies in the share, while the session can still remove it; then the session, so that what still runs reads
 * nothing any more; then the mount, which the keeper may have removed by then. */
static void take_away(const struct tool *t, const struct guarded *g)
{
	struct tool ours = {.dir_option = t->dir_option, .dir = t->dir}; /* its connections are another process's */

	if (fusemount_is_coffer(g->mount))
		scratch_remove(g->mount, g->session);
	tool_try(&ours, DAEMON_KEYD, "SessionEnd",
		json_pack("{s:I, s:s}", "session", (json_int_t)g->session, "reason", "its program ended"), NULL);
	varlink_client_free(ours.keyd);
	if (fusemount_is_mounted(g->mount))
		(void)fusemount_unmount(g->mount, true);
	for (int i = 0; i < TRIES && rmdir(g->mount) < 0 && errno == EBUSY; i++)
		poll(NULL, 0, TRY_MS);
	(void)remove_tree(g->base);
}

static void wait_and_take_away(const struct tool *t, const struct guarded *g, int fd)
{
	static const int ends[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		signal(ends[i], SIG_IGN);
	background_wait(fd);
	take_away(t, g);
	_exit(0);
}

int guard_start(const struct tool *t, const struct guarded *g, int *ret_fd, pid_t *ret_pid)
{
	scoped(close_fdp) int r_end = -1, w_end = -1;
	int pair[2];
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	r_end = pair[0];
	w_end = pair[1];
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close_fdp(&w_end);
		wait_and_take_away(t, g, r_end);
	}
	*ret_fd = take_fd(&w_end);
	*ret_pid = pid;
	return 0;
}

void guard_finish(const struct tool *t, const struct guarded *g, int fd, pid_t pid)
{
	int status = 0;

	close(fd);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		take_away(t, g);
}
