/* What `coffer doctor` looks at: the machine, the state directory, the people, the running daemons.  Looks only, mends
 * nothing.  Each check adds one finding or several to a report. */
#ifndef COFFER_DOCTOR_H
#define COFFER_DOCTOR_H

#include <jansson.h>

#include "tools/tool.h"

enum doctor_verdict {
	DOCTOR_OK = 0,
	DOCTOR_MIND,  /* works, but promises less than it could */
	DOCTOR_WRONG, /* does not work, or breaks a promise */
	DOCTOR_UNSEEN /* whoever asked may not look there */
};
const char *doctor_verdict_name(enum doctor_verdict v);

struct doctor {
	struct tool *tool;
	json_t *findings; /* array of {check, verdict, text, remedy} */
	bool installed;   /* the state directory is the installed one: roles are groups */
	unsigned count[DOCTOR_UNSEEN + 1];
};

/* remedy NULL: nothing to do.  Text and remedy as printf would have them, the remedy behind a "\n" in the format. */
void doctor_find(struct doctor *d, const char *check, enum doctor_verdict v, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

void doctor_check_machine(struct doctor *d);   /* /dev/fuse, fusermount3, memory, swap, core dumps, clock */
void doctor_check_directory(struct doctor *d); /* owners, modes, file systems, room */
void doctor_check_people(struct doctor *d);    /* groups of the roles */
void doctor_check_daemons(struct doctor *d);   /* what they say of themselves */

#endif
