#include "tools/session_mount.h"

#include <errno.h>
#include <string.h>

#include "common/scope.h"
#include "tools/fusemount.h"

int session_mount_ask(struct tool *t, json_t *params, json_t **ret_answer)
{
	if (json_is_true(json_object_get(params, "read_only")))
		json_object_set_new(params, "rights", json_string("r"));
	json_object_del(params, "read_only");
	json_object_del(params, "mountpoint");
	return tool_call(t, DAEMON_KEYD, "Mount", params, NULL, 0, ret_answer);
}

static int attach(struct tool *t, const json_t *session, const char *path, int fuse_fd, int keeper_fd)
{
	const int fds[] = {fuse_fd, keeper_fd};
	json_t *params = json_pack("{s:O, s:O, s:s}", "session", json_object_get(session, "session"), "token",
		json_object_get(session, "token"), "mountpoint", path);

	if (!params)
		return fail(EXIT_USAGE, "%s: the path is not UTF-8 text", path);
	return tool_call(t, DAEMON_FSD, "Attach", params, fds, 2, NULL);
}

void session_mount_give_up(struct tool *t, const json_t *session, const char *why)
{
	tool_try(t, DAEMON_KEYD, "SessionEnd",
		json_pack("{s:O, s:s}", "session", json_object_get(session, "session"), "reason", why),
		NULL);
}

/* The keeper is there before the session is: whatever ends this process, an end of file wakes it and the
 * mount goes. */
int session_mount(struct tool *t, const json_t *params, const json_t *session, const char *path)
{
	scoped(close_fdp) int fuse_fd = -1, daemon_end = -1, keeper_end = -1;
	char why[512] = "no descriptors";
	int r;

	r = fusemount_keeper_pair(&daemon_end, &keeper_end);
	if (r == 0)
		r = fusemount_mount(path, json_string_value(json_object_get(params, "client")),
			json_is_true(json_object_get(params, "shared")), &fuse_fd, why, sizeof(why));
	if (r != 0)
		return fail(EXIT_FAILED, "%s cannot be mounted: %s", path, why);
	r = fusemount_keep(path, keeper_end);
	if (r < 0)
		r = fail(EXIT_FAILED, "no process to keep the mount: %s", strerror(-r));
	else
		r = attach(t, session, path, fuse_fd, daemon_end);
	if (r != EXIT_OK) {
		/* close first: while the descriptor lives an unanswered request would hold fusermount3 */
		close_fdp(&fuse_fd);
		close_fdp(&daemon_end);
		fusemount_unmount(path, true);
	}
	return r;
}
