/* What all subcommands share: finding the daemons, asking them, saying what went wrong. */
#ifndef COFFER_TOOL_H
#define COFFER_TOOL_H

#include <argp.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/statedir.h"
#include "common/varlink.h"

enum exit_code { /* stable: coffer(1) lists them */
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_REFUSED = 3,
	EXIT_NOT_FOUND = 4,
	EXIT_UNREACHABLE = 5,
	EXIT_SEALED = 6,
	EXIT_DESTROYED = 7,
	EXIT_DAMAGED = 8,
	EXIT_MENDED = 9,
};

struct tool {
	const char *dir_option; /* --dir, or NULL */
	struct statedir dir;    /* see tool_find_dir */
	bool json;
	struct varlink_client *keyd, *fsd;
};

struct command {
	const char *name; /* "mount", or "client add" */
	int (*run)(struct tool *t, int argc, char **argv);
	const char *doc; /* one line for `coffer --help`; NULL: another name of a command listed there */
};

extern const struct command commands[]; /* ends with a NULL name */

/* --dir and --json, which every subcommand takes: the child parser of each; its input is the struct tool. */
extern const struct argp_child tool_children[];

/* Whether a character begins there that ends a line or turns the reading direction: its number, of three bytes; else 0. */
unsigned turns_text(const char *text);
/* Control characters as \xNN, those of turns_text as [U+NNNN]: what came from outside can neither forge a line nor reach the terminal. */
void put_escaped(FILE *to, const char *text);
/* A line on stdout / on stderr after "coffer: ", escaped.  say: an exit code; fail: `code`. */
int say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int fail(enum exit_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int tool_find_dir(struct tool *t, bool must_exist); /* an exit code */

enum daemon { DAEMON_KEYD, DAEMON_FSD };
/* One call; steals params; what went wrong is printed and is the exit code.  *ret may be NULL. */
int tool_call(struct tool *t, enum daemon d, const char *method, json_t *params, const int *fds, unsigned n,
	json_t **ret);
/* The same, silent: only the exit code. */
int tool_try(struct tool *t, enum daemon d, const char *method, json_t *params, json_t **ret);
enum exit_code exit_code_of(const char *varlink_error);
/* For a program that asks nothing for a long time: the next call connects again. */
void tool_disconnect(struct tool *t);
void tool_done(struct tool *t);

/* Sorted; flags of jansson's. What a terminal would obey, or what turns the reading direction, stands as \uNNNN: the same value,
 * and harmless to look at.  -1: not written. */
int print_json_text(FILE *to, const json_t *value, size_t flags);
int print_json(const json_t *value); /* pretty, sorted; an exit code */

/* A date option into params[key]; -> usage error with the forms that are understood. */
int put_date(json_t *params, const char *key, const char *option, const char *text);

#endif
