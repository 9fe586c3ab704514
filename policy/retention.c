#include "policy/retention.h"

#include <errno.h>
#include <string.h>

#include "common/date.h"

#define DAY_SECONDS 86400

static int64_t event_time(const struct retention_facts *f, const struct policy_retention *r)
{
	switch (r->event) {
	case EVENT_CREATED:
		return f->created;
	case EVENT_MODIFIED:
		return f->modified;
	case EVENT_RELATIONSHIP_END:
		return f->relationship_end;
	case EVENT_NAMED:
		for (size_t i = 0; i < f->dates_count; i++)
			if (strcmp(f->dates[i].event, r->named) == 0)
				return f->dates[i].on;
	}
	return 0;
}

/* A period runs in whole days and never less than its length: what happens during a day counts from its end.
 */
static int64_t due_of(const struct policy_retention *r, int64_t event)
{
	int64_t rest = event % DAY_SECONDS;

	if (rest != 0)
		event += rest > 0 ? DAY_SECONDS - rest : -rest;
	return date_add(event, r->period.years, r->period.months, r->period.days);
}

int retention_class(const struct policy_class *c, const struct retention_facts *f, int64_t now,
	struct retention_answer *ret)
{
	struct retention_answer a = {.state = RETENTION_RUNNING};

	if (!c || !f || !ret)
		return -EINVAL;
	*ret = a;
	for (size_t i = 0; i < c->retention_count; i++) {
		const struct policy_retention *r = &c->retention[i];
		int64_t event = event_time(f, r), due;

		if (event == 0)
			return 0; /* the rule that has not begun may be the longest */
		due = due_of(r, event);
		if (!a.rule || due > a.due) {
			a.due = due;
			a.rule = r;
		}
	}
	if (!a.rule)
		return 0;
	a.state = f->held ? RETENTION_HELD : now >= a.due ? RETENTION_DUE : RETENTION_DATED;
	*ret = a;
	return 0;
}
