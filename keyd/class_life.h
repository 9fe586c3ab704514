/* The life of one record class of a client, as pure functions: from when on what of it is due, whether it is worth a look,
 * and the next step.  A class is destroyed by what was made before a day: what becomes due while a notice of the class runs
 * is in the next one. */
#ifndef COFFER_KEYD_CLASS_LIFE_H
#define COFFER_KEYD_CLASS_LIFE_H

#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/prefix.h"

/* The latest day before which all of the class is due (that was not modified since); it never lies ahead of today.
 * 0: nothing of it can be due. */
int class_border(const struct policy_class *class, const struct fact_client *c, int64_t now, uint16_t *ret_before);

/* After the last look: can something be due by now?  True when there was none. */
int class_may_be_due(const struct policy_class *class, const struct fact_client *c, const struct fact_class *l, int64_t now,
	bool *ret);

struct class_moment {
	int64_t now;
	int64_t window;		/* when the last window began (expiry_window) */
	bool clock_trusted;
	bool whole_due;		/* the client as a whole is due and goes as a whole */
	bool due;		/* waiting: what it is about is due still; else: class_border and class_may_be_due */
};
/* LOOK: whether there is something; then it is given notice of. */
enum class_step { CLASS_NOTHING = 0, CLASS_LOOK, CLASS_STOP, CLASS_DESTROY };
enum class_step class_next(const struct fact_client *c, const struct fact_class *l, const struct class_moment *m);

#endif
