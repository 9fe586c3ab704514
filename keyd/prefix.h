/* A record class before a date, as what can be destroyed at once: whether it is due, and which prefixes of the key tree
 * that is.  Pure. */
#ifndef COFFER_KEYD_PREFIX_H
#define COFFER_KEYD_PREFIX_H

#include <stdbool.h>
#include <stdint.h>

#include "keyd/facts.h"
#include "policy/retention.h"

struct prefix_answer {
	bool due;
	int64_t due_on;		/* of the youngest, if it was not modified since it was made; 0: an event has not happened yet */
	int64_t modified_since;	/* what was modified then or later is not due; INT64_MAX: that does not count */
	const struct policy_retention *rule;	/* that decides; NULL while an event has not happened */
};

/* All of the class that was made before that day (ids.h). */
int prefix_judge(const struct policy_class *c, const struct fact_client *client, uint16_t before, int64_t now,
	struct prefix_answer *ret);

/* The same without modified_since, which takes longer. */
int prefix_due(const struct policy_class *c, const struct fact_client *client, uint16_t before, int64_t now,
	struct prefix_answer *ret);

#define PREFIXES_MAX 16
struct prefix {
	uint64_t prefix;	/* as keytree_puncture */
	unsigned bits;
};
/* (class, day < before) in as few prefixes as there are bits in `before`.  Returns how many. */
unsigned prefix_cuts(uint16_t class, uint16_t before, struct prefix out[PREFIXES_MAX]);

#endif
