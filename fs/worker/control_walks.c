/* What goes over the whole store of the client, piece by piece as keyd asks for it: the check, surveys, restoring. */
#include "fs/worker/control_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/keytree.h"
#include "common/scope.h"
#include "fs/worker/fsck.h"
#include "fs/worker/restore_job.h"
#include "fs/worker/sandbox.h"
#include "fs/worker/survey_job.h"

/* ---- the check ---- */

int control_fsck(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	scoped(close_fdp) int table_fd = varlink_call_take_fd(call, 0);
	int r;

	if (!c->open || c->exiting || c->fsck)
		return varlink_error(call, "NotOpen", "no client, or a check already", NULL);
	r = fsck_start(&c->worker, params, table_fd, &c->fsck);
	if (r < 0)
		return varlink_errorf(call, "InvalidParameter", NULL, "the check: %s", strerror(-r));
	return varlink_reply(call, NULL);
}

int control_fsck_next(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;

	if (!c->fsck)
		return varlink_error(call, "NotOpen", "there is no check", NULL);
	return varlink_reply(call, fsck_next(c->fsck));
}

int control_fsck_stop(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;

	fsck_stop(take_ptr(&c->fsck));
	return varlink_reply(call, NULL);
}

/* ---- the walk for the sake of keys ---- */

int control_survey(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	scoped(close_fdp) int leaves_fd = varlink_call_take_fd(call, 0);
	int r;

	if (!c->open || c->exiting || c->survey)
		return varlink_error(call, "NotOpen", "no client, or a survey already", NULL);
	r = survey_job_start(&c->worker, params, leaves_fd, &c->survey);
	if (r < 0)
		return varlink_errorf(call, "InvalidParameter", NULL, "the survey: %s", strerror(-r));
	return varlink_reply(call, NULL);
}

/* The first call, and there is no client: nothing of this folder opens. */
int control_sweep_dead(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	struct sandbox_report box;
	int r;

	if (c->open || c->exiting || c->survey)
		return varlink_error(call, "AlreadyOpen", "this worker has something to do", NULL);
	r = sandbox_enter(c->fds.store, c->fds.proc, -1, &box);
	if (r == 0)
		r = survey_job_sweep_dead(c->fds.store, &c->survey);
	if (r < 0)
		return varlink_errorf(call, "OpenFailed", NULL, "the folder of the client: %s", strerror(-r));
	return varlink_reply(call, NULL);
}

/* Leaves that nothing is under any more; all that was derived of them is wiped when this is answered. */
int control_forget(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	scoped(freep) struct keytree_prefix *cuts = NULL;
	json_t *leaves, *v;
	json_error_t e;
	size_t i;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:o}", "leaves", &leaves) < 0)
		return control_bad_parameters(call, &e);
	if (!c->open)
		return varlink_error(call, "NotOpen", "this worker has no client", NULL);
	cuts = calloc(json_array_size(leaves) + 1, sizeof(*cuts));
	if (!cuts)
		return -ENOMEM;
	json_array_foreach(leaves, i, v)
	{
		const char *text = json_string_value(v);

		if (!text)
			return -EINVAL;
		cuts[i] = (struct keytree_prefix){.prefix = strtoull(text, NULL, 16), .bits = 64};
	}
	r = keytree_puncture_all(c->tree, cuts, json_array_size(leaves));
	return r < 0 ? r : varlink_reply(call, NULL);
}

/* What is on hold, and what waits for its destruction: that is closed when this is answered, but for cached pages, which
 * go at once, too. */
int control_retain(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	int r;

	if (!c->open)
		return varlink_error(call, "NotOpen", "this worker has no client", NULL);
	r = waits_set(&c->worker, params);
	if (r < 0)
		return varlink_errorf(call, "InvalidParameter", NULL, "what to retain: %s", strerror(-r));
	for (struct entry *e = c->entries; e; e = e->next)
		waits_close(e->session);
	return varlink_reply(call, NULL);
}

int control_survey_next(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;

	if (!c->survey)
		return varlink_error(call, "NotOpen", "there is no survey", NULL);
	return varlink_reply(call, survey_job_next(c->survey));
}

int control_survey_stop(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;

	survey_job_stop(take_ptr(&c->survey));
	return varlink_reply(call, NULL);
}

/* ---- restoring ---- */

int control_restore(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;
	int r;

	if (!c->open || c->exiting || !c->copy || c->restore || c->entries)
		return varlink_error(call, "NotOpen", "no copy, or it is being restored from already", NULL);
	r = restore_job_start(c->copy, c->worker.store, params, &c->restore);
	if (r < 0)
		return varlink_errorf(call, r == -EINVAL ? "InvalidParameter" : "Failed", NULL, "%s", strerror(-r));
	return varlink_reply(call, NULL);
}

int control_restore_next(struct varlink_call *call, json_t *params, void *userdata)
{
	struct control *c = userdata;

	if (!c->restore)
		return varlink_error(call, "NotOpen", "nothing is being restored", NULL);
	return varlink_reply(call, restore_job_next(c->restore));
}
