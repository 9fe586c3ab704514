/* From a permission to a mount: what `coffer mount` and `coffer shell` do alike. */
#ifndef COFFER_SESSION_MOUNT_H
#define COFFER_SESSION_MOUNT_H

#include "tools/tool.h"

/* Asks keyd for a session; steals params (as `coffer mount` parses them).  *ret_answer, the caller's, has session and
 * token.  An exit code. */
int session_mount_ask(struct tool *t, json_t *params, json_t **ret_answer);
/* Mounts it at `path`, an empty directory of the user's, and hands it to coffer-fsd.  An exit code; nothing stays mounted
 * after a failure. */
int session_mount(struct tool *t, const json_t *params, const json_t *session, const char *path);
/* keyd keeps a place for the session until its token is used or too old: says that it will not be. */
void session_mount_give_up(struct tool *t, const json_t *session, const char *why);

#endif
