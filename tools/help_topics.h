/* What people come to do, by role, each with the commands in the order in which they are typed: `coffer help TASK`. */
#ifndef COFFER_HELP_TOPICS_H
#define COFFER_HELP_TOPICS_H

struct help_topic {
	const char *role; /* "consultant" */
	const char *task; /* one word */
	const char *title;
	const char *text; /* lines; those that begin with a blank are typed */
};

extern const struct help_topic help_topics[]; /* by role; ends with a NULL role */

#endif
