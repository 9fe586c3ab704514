/* Counts what this process does to files below a directory (writes, syncs, renames, removals, sizes), SQLite's included,
 * and at call number `at` (from 0) ends the process, ends a child of it, or lets the call fail.  Linked into a unit test,
 * or preloaded into coffer-keyd (tests/e2e/steps.py), which then takes from its environment
 *
 *	COFFER_STEPS	a file of struct steps_plan, mapped: the test changes it while keyd runs
 *	COFFER_STEPS_DIR	what counts: files below it, but for its log/ and run/
 */
#ifndef COFFER_TESTS_STEPS_H
#define COFFER_TESTS_STEPS_H

#include <stdint.h>

enum steps_mode {
	STEPS_OFF,
	STEPS_COUNT,
	STEPS_KILL,	/* before the call */
	STEPS_FAIL,	/* this call alone */
	STEPS_FAIL_ON,	/* it and all that follow */
	STEPS_KILL_CHILD,
	STEPS_TEAR,	/* half of a write, then the end; other calls as STEPS_KILL */
};

struct steps_plan { /* tests/e2e/steps.py has the same */
	uint32_t mode, at, error, count, hits, used;
	char child[40];
	char word[64];	/* only calls with it in their text count; "": all */
	char last[192];	/* what happened at `at` */
	char text[1 << 18]; /* each call, a line */
};

/* Both are borrowed for good. */
void steps_use(struct steps_plan *plan, const char *top);

#endif
