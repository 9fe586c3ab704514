/* One class before a date, as an erasure. */
#include "keyd/erase_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "keyd/facts_life.h"
#include "keyd/job.h"
#include "keyd/survey.h"

static json_t *class_counts(const struct erase *e, const struct survey_result *r)
{
	char text[DATE_TEXT_MAX];
	json_t *o = json_pack("{s:s, s:i, s:s, s:s, s:s}", "class", e->class->id, "class_number",
		(int)e->class->number, "before",
		date_format_day(DAY_EPOCH_UNIX + (int64_t)e->before * 86400, text), "rule", e->rule, "source",
		e->source);

	if (e->asked_by)
		json_object_set_new(o, "asked_by", json_string(e->asked_by));
	json_object_set(o, "dying", json_object_get(r->counts, "dying"));
	json_object_set_new(o, "stragglers", json_integer((json_int_t)r->leaves_n));
	json_object_set(o, "survivors", json_object_get(r->counts, "rewrapped"));
	json_object_set(o, "held", json_object_get(r->counts, "held"));
	return o;
}

/* Its leaves are those that lie elsewhere; before them one that marks the prefix, so that it shows whether it
 * is gone. */
static bool take_moved(struct erase *e, const struct survey_result *r)
{
	const struct leaf_index mark = {.class = e->class->number, .day = (uint16_t)(e->before - 1)};
	json_t *counts;

	if (r->error)
		erase_failed(e, r->error, r->text);
	else if (r->moved || survey_is_incomplete(r) ||
		 json_integer_value(json_object_get(r->counts, "damaged")) > 0)
		erase_refuse(e, "Failed",
			"`coffer fsck` finds what is damaged; isolate or remove it, then try again",
			"what must survive could not all be moved, or cannot be told: nothing was destroyed");
	else if (r->leaves_n == 0 && json_integer_value(json_object_get(r->counts, "dying")) == 0)
		erase_refuse(e, "NothingToErase", NULL, "there is nothing of that class from before that date");
	else if (keyd_is_sealed(e->k))
		erase_refuse(e, "Sealed", NULL, KEYD_SEALED_TEXT);
	else {
		counts = class_counts(e, r);
		e->fact.counts = json_dumps(counts, JSON_COMPACT | JSON_SORT_KEYS);
		json_decref(counts);
		e->fact.store = strdup("");
		e->leaves = calloc(r->leaves_n + 1, sizeof(*e->leaves));
		if (e->leaves && e->fact.counts && e->fact.store) {
			e->leaves[0] = leaf_index_u64(mark);
			memcpy(e->leaves + 1, r->leaves, r->leaves_n * sizeof(*e->leaves));
			e->n = r->leaves_n + 1;
			return true;
		}
		erase_failed(e, -ENOMEM, NULL);
	}
	return false;
}

static void class_moved(struct keyd *k, const struct survey_result *r, void *arg)
{
	struct erase *e = arg;

	if (take_moved(e, r))
		erase_proceed(e);
	else
		erase_free(e);
}

int erase_class(struct keyd *k, const struct fact_client *c, const struct erase_class *spec, struct job **job)
{
	scoped(erase_freep) struct erase *e = NULL;
	int r;

	if (spec->before == 0 || spec->before > date_day(keyd_now()))
		return -EINVAL; /* leaves of today are still given out */
	e = erase_new(k, c, spec->by, spec->reason);
	if (!e)
		return -ENOMEM;
	e->class = spec->class;
	e->before = spec->before;
	e->fact.class = spec->class->number;
	e->fact.notice = spec->notice;
	e->prefixes_n = prefix_cuts(spec->class->number, spec->before, e->prefixes);
	e->rule = strdup(spec->rule);
	e->source = strdup(spec->source ? spec->source : "");
	e->asked_by = spec->asked_by ? strdup(spec->asked_by) : NULL;
	if (!e->rule || !e->source || (spec->asked_by && !e->asked_by))
		return -ENOMEM;
	const struct survey_spec survey = {.mode = "move",
		.params = json_pack("{s:i, s:i, s:I, s:O, s:i}", "class", (int)spec->class->number,
			"before", (int)spec->before, "modified_since", (json_int_t)spec->modified_since,
			"held", e->held, "keep_class", (int)CLASS_HOLDS),
		.alone = true,
		.why = "data is being destroyed",
		.by = spec->by,
		.done = class_moved,
		.arg = e};

	r = survey_start(k, c, &survey);
	if (r < 0)
		return r;
	e->done = spec->done;
	e->ready = spec->ready;
	e->arg = spec->arg;
	e->job = spec->job;
	if (job)
		*job = e->job;
	e = NULL;
	return 0;
}

