/* When data must be destroyed: a pure function of rules, dates and holds.  The longest applicable rule wins,
 * a hold beats all.  Dates are UTC days; date_add() (common/date.h) is the one rule for leap days and month ends. */
#ifndef COFFER_RETENTION_H
#define COFFER_RETENTION_H

#include "policy/policy.h"

struct retention_date {		/* a named event of the policy */
	char event[65];
	int64_t on;
};

struct retention_facts {	/* 0: not (yet) known */
	int64_t created;	/* oldest content of that class */
	int64_t modified;	/* latest */
	int64_t relationship_end;
	const struct retention_date *dates;	/* of named events; borrowed */
	size_t dates_count;
	bool held;
};

enum retention_state { RETENTION_RUNNING = 0 /* an event has not happened yet */, RETENTION_DATED, RETENTION_DUE, RETENTION_HELD };

struct retention_answer {
	enum retention_state state;	/* HELD only when it would be due or dated: see `due` */
	int64_t due;			/* 0 while RUNNING */
	const struct policy_retention *rule;	/* the one that decides; NULL while RUNNING */
};

/* For one class.  A class without rules never becomes due (policy loading refuses such a policy). */
int retention_class(const struct policy_class *c, const struct retention_facts *f, int64_t now, struct retention_answer *ret);

#endif
