#include "keyd/class_life.h"

#include "common/date.h"

#define DAY 86400

static int is_due_before(const struct policy_class *class, const struct fact_client *c, uint16_t before,
	int64_t now, bool *ret)
{
	struct prefix_answer a;
	int r = prefix_due(class, c, before, now, &a);

	*ret = r == 0 && a.due;
	return r;
}

/* The later it was made, the later it is due: so the border is found by halving. */
int class_border(
	const struct policy_class *class, const struct fact_client *c, int64_t now, uint16_t *ret_before)
{
	uint16_t due = 0, not_due = date_day(now);
	bool is_due;
	int r;

	*ret_before = 0;
	if (now < DAY_EPOCH_UNIX + DAY)
		return 0;
	r = is_due_before(class, c, not_due, now, &is_due);
	if (r < 0 || is_due) {
		*ret_before = r < 0 ? 0 : not_due;
		return r;
	}
	while (not_due - due > 1) {
		uint16_t middle = (uint16_t)(due + (not_due - due) / 2);

		r = is_due_before(class, c, middle, now, &is_due);
		if (r < 0)
			return r;
		*(is_due ? &due : &not_due) = middle;
	}
	*ret_before = due;
	return 0;
}

static int is_due(const struct policy_class *class, const struct fact_client *c, int64_t created,
	int64_t modified, int64_t now, bool *ret)
{
	const struct retention_facts f = {.created = created,
		.modified = modified > created ? modified : created,
		.relationship_end = c->ended_on,
		.dates = c->dates,
		.dates_count = c->dates_count};
	struct retention_answer a;
	int r = retention_class(class, &f, now, &a);

	*ret = r == 0 && a.state == RETENTION_DUE;
	return r;
}

/* What was there is as old as its oldest, what came afterwards as young as the look. */
int class_may_be_due(const struct policy_class *class, const struct fact_client *c,
	const struct fact_class *l, int64_t now, bool *ret)
{
	int64_t oldest = DAY_EPOCH_UNIX + (int64_t)l->oldest_day * DAY;
	int r;

	*ret = true;
	if (!l->looked_at)
		return 0;
	r = is_due(class, c, l->looked_at, l->looked_at, now, ret);
	if (r < 0 || *ret || l->oldest_day == LOOK_NOTHING)
		return r;
	return is_due(class, c, oldest, l->oldest_change, now, ret);
}

enum class_step class_next(
	const struct fact_client *c, const struct fact_class *l, const struct class_moment *m)
{
	bool held = c->held || l->held;

	if (c->destroying || c->destroyed_on)
		return CLASS_NOTHING;
	if (l->waiting && held)
		return CLASS_STOP;
	if (!m->clock_trusted)
		return CLASS_NOTHING;
	if (l->waiting && !m->due)
		return CLASS_STOP;
	if (l->waiting)
		return m->now >= l->wait_until && m->window >= l->wait_until && m->window > l->tried_at
			       ? CLASS_DESTROY
			       : CLASS_NOTHING;
	if (held || !m->due || m->whole_due || c->waiting || m->now < l->postponed_until)
		return CLASS_NOTHING;
	/* One look in each window is enough. */
	return m->window >= l->looked_at || !l->looked_at ? CLASS_LOOK : CLASS_NOTHING;
}
