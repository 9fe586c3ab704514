/* Two policies side by side, and what a policy says that can hardly be meant. */
#ifndef COFFER_POLICY_COMPARE_H
#define COFFER_POLICY_COMPARE_H

#include "policy/policy.h"

struct policy_change {
	const char *kind;		/* "setting", "basis", "purpose", "class", "party", "emergency" */
	const char *id, *key;		/* what of it: "rights", "parties", ...; "" for the whole */
	const char *was, *will;		/* "" where it is not there */
};
/* Calls `say` for each difference that decisions, retention, the record or the daemons can see; titles and sources are left out. */
void policy_compare(const struct policy *a, const struct policy *b, void (*say)(const struct policy_change *c, void *arg),
	void *arg);

/* "7y 6m", "1h 30min": as the file would say it. */
#define PERIOD_TEXT_MAX 96
const char *policy_period_text(const struct period *p, char buf[PERIOD_TEXT_MAX]);

/* Of a text that loads as p: purposes that nobody may use, classes that nobody may open, what nothing refers to, rules that
 * another of the same class makes useless.  -ENOMEM, -EINVAL (it does not load). */
int policy_advise(const char *text, size_t n, const struct policy *p, void (*say)(unsigned line, const char *text, void *arg),
	void *arg);

#endif
