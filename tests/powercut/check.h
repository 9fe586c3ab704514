/* Whether a store holds what a scenario may expect after a power cut, or after an error. */
#ifndef COFFER_POWERCUT_CHECK_H
#define COFFER_POWERCUT_CHECK_H

#include "crash.h"
#include "play.h"

struct check {
	struct play *p;
	const struct crash_state *crash;	/* NULL: no power cut */
	size_t meta, time;			/* points of the log */
	const struct snapshot *before, *after;	/* the trees that are right (after: NULL, or another one) */
	size_t failed_line;			/* without a power cut: what this line began may be there in part */
	char said[512];				/* what is wrong */
};

/* The two snapshots that fit c->meta. */
void check_choose(struct check *c);
/* Walks the whole store.  0, or -1 with c->said. */
int check_store(struct check *c, struct store *s);
/* Every file can be written, everything can be removed.  0, or -1 with c->said. */
int check_goes_on(struct check *c, struct store *s);

#endif
