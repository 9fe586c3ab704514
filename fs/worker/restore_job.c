#include "fs/worker/restore_job.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/store/restore.h"

#define SLICE_MS 150u	/* keyd waits for it */
#define LOST_MAX 1000u	/* rows an answer; of more only the number is told */

struct restore_job {
	struct store *copy, *store;
	json_t *params; /* the texts below belong to it */
	struct restore_options opt;
	int names;
	struct restore *restore; /* NULL: not begun */
	json_t *lost;
};

/* The name only for who may see it. */
static void note_lost(const char *path, int error, const char *word, void *arg)
{
	struct restore_job *j = arg;
	const char *why = error == -ENOKEY ? "destroyed" : error == -EBADMSG ? "damaged" : "failed";

	if (json_array_size(j->lost) < LOST_MAX)
		json_array_append_new(j->lost, json_pack("{s:s?, s:s, s:s, s:i}", "path", j->names ? path : NULL, "why",
						       why, "word", word, "errno", -error));
}

int restore_job_start(struct store *copy, struct store *store, json_t *params, struct restore_job **ret)
{
	struct restore_job *j = calloc(1, sizeof(*j));

	if (!j)
		return -ENOMEM;
	j->copy = copy;
	j->store = store;
	j->params = json_incref(params);
	j->opt.lost = note_lost;
	j->opt.arg = j;
	j->lost = json_array();
	if (json_unpack_ex(params, NULL, JSON_STRICT, "{s:s, s?s, s:s, s:b}", "path", &j->opt.path, "to", &j->opt.to,
		    "beside", &j->opt.beside, "names", &j->names) < 0) {
		restore_job_free(j);
		return -EINVAL;
	}
	*ret = j;
	return 0;
}

json_t *restore_job_next(struct restore_job *j)
{
	struct restore_counts c = {0};
	json_t *lost;
	int r = 1;

	if (!j->restore)
		r = restore_new(j->copy, j->store, &j->opt, &j->restore);
	if (r >= 0)
		r = restore_step(j->restore, SLICE_MS);
	if (j->restore)
		restore_counts(j->restore, &c);
	lost = j->lost;
	j->lost = json_array();
	return json_pack("{s:s, s:i, s:o, s:{s:I, s:I, s:I, s:I}, s:s}", "state",
		r == 1   ? "running"
		: r == 0 ? "done"
			 : "failed",
		"errno", r < 0 ? -r : 0, "lost", lost, "counts", "files", (json_int_t)c.files, "directories",
		(json_int_t)c.directories, "bytes", (json_int_t)c.bytes, "lost", (json_int_t)c.lost, "target",
		j->names && j->restore ? restore_target(j->restore) : "");
}

void restore_job_free(struct restore_job *j)
{
	if (!j)
		return;
	restore_free(j->restore);
	json_decref(j->params);
	json_decref(j->lost);
	free(j);
}
