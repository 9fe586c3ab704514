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

#define FIELDS_MAX 12

struct request {
	const struct field *fields; /* ends with a NULL key */
	const char *args;           /* "CLIENT USER" */
	const char *doc;            /* what the command does, below the usage line */
};

/* Parses argv into *ret (a new object).  Bad input ends the program with EXIT_USAGE, --help with 0. */
void request_parse(struct tool *t, const struct request *rq, int argc, char **argv, json_t **ret);

#endif
