/* The nightly run, of classes: looks what there is of them, gives notice, and says what is to be destroyed now. */
#ifndef COFFER_KEYD_EXPIRY_CLASS_H
#define COFFER_KEYD_EXPIRY_CLASS_H

#include "keyd/expiry.h"
#include "keyd/window.h"

/* The classes that something of the client is of, as far as the policy knows them.  Returns how many. */
size_t expiry_classes_of(
	const struct policy *p, const struct fact_client *c, const struct policy_class *ret[FACT_CLASSES_MAX + 1]);
/* One step of each; what is to be destroyed now comes into the window.  Looks go on by themselves. */
struct night {
	int64_t now;
	struct window *window;
	const struct fact_class_waits *waits;	/* facts_classes_wait; borrowed */
	size_t waits_n;
};
int expiry_step_classes(struct keyd *k, const struct fact_client *c, const struct policy *rules, bool whole_due,
	const struct night *night);

#endif
