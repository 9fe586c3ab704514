/* One line on a terminal that says how far something is.  Nothing where stderr is no terminal, and nothing of what is over
 * before somebody would ask. */
#ifndef COFFER_PROGRESS_H
#define COFFER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	bool wanted, shown;
	double began, drawn; /* seconds of the monotonic clock */
};

/* quiet: nothing is ever shown (--json). */
void progress_begin(struct progress *p, bool quiet);
/* Draws, some times a second at most.  total 0: not known, then there is no bar.  The text: what is being done, counts. */
void progress_show(struct progress *p, uint64_t done, uint64_t total, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
double progress_seconds(const struct progress *p); /* since progress_begin */
void progress_clear(struct progress *p); /* at the end */
/* Takes whatever line is shown away, before anything else is written; say() and fail() do it. */
void progress_interrupt(void);

#endif
