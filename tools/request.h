/* Subcommands whose options are members of a daemon's method: declared in a table, parsed by argp. */
#ifndef COFFER_REQUEST_H
#define COFFER_REQUEST_H

#include "tools/tool.h"

enum field_kind { FIELD_TEXT, FIELD_DATE, FIELD_NUMBER, FIELD_FLAG };

struct field {
	const char *key;    /* member of the parameters */
	const char *option; /* long option's name; NULL: a positional argument */
	const char *arg;    /* what stands for its value in the help: "DATE"; NULL for a flag */
	enum field_kind kind;
	bool required;
	const char *doc;
};

#define FIELDS_MAX 18

struct request {
	const struct field *fields; /* ends with a NULL key */
	const char *args;           /* "CLIENT USER" */
	const char *doc;            /* what the command does, below the usage line */
};

/* Parses argv into *ret (a new object).  Bad input ends the program with EXIT_USAGE, --help with 0. */
void request_parse(struct tool *t, const struct request *rq, int argc, char **argv, json_t **ret);

/* What takes longer than a call: begins it and asks until it is through.  Steals params. */
int request_run_job(struct tool *t, const char *method, json_t *params, json_t **ret);

/* A whole command: parse, one call to keyd, and the answer as JSON, or `said` and how many sessions it ended, if it says so. */
int request_say(struct tool *t, int argc, char **argv, const struct request *rq, const char *method, const char *said);
/* Of an erasure: whether it waits for another custodian; then that is said. */
bool request_say_confirm(const json_t *answer);
/* Of an answer of a call by which the caller may do more himself: that another looks at it. */
void request_say_review(const json_t *answer);
/* The same with the list `member` of the answer as a table. */
struct column;
int request_list(struct tool *t, int argc, char **argv, const struct request *rq, const char *method, const char *member,
	const struct column *columns, size_t n, const char *none);

#endif
