/* Rows of the record for other programs: a line each, on stdout. */
#ifndef COFFER_TOOLS_LOG_FORMAT_H
#define COFFER_TOOLS_LOG_FORMAT_H

#include <jansson.h>
#include <stdbool.h>

struct log_format {
	const char *name;
	void (*begin)(void);		   /* or NULL */
	void (*row)(const json_t *row);
	int (*check)(void);		   /* before all, an exit code; or NULL */
	int (*end)(void);		   /* an exit code; or NULL */
};

/* log_journald.c.  Of the entries in the system's journal: */
#define LOG_MESSAGE_ID "5d0c1f6f8f3f4a2e9a67c2a1d1b7e904"
void log_journald_row(const json_t *row, const char *result, int priority);
int log_journald_check(void);
int log_journald_end(void);

/* csv (RFC 4180), cef (ArcSight), ocsf (class 1001, a JSON object a line), journald (entries of the system's journal).  NULL: no such format. */
const struct log_format *log_format_find(const char *name);

/* Pseudonyms instead of users, clients, paths and files, and what tells more about a person taken out.  The key stands in
 * `file` (64 hex digits; made when it is not there): who has it can find a known name's pseudonym.  An exit code. */
struct pseudonyms;
int pseudonyms_open(const char *file, struct pseudonyms **ret);
void pseudonyms_free(struct pseudonyms *p);
void pseudonyms_apply(const struct pseudonyms *p, json_t *row);

/* What the second path of a record is that is no path: "subject" (a person's label), "source"; NULL: it is one. */
const char *log_text_of(const char *op);

#endif
