/* Rows of the record for other programs: a line each, on stdout. */
#ifndef COFFER_TOOLS_LOG_FORMAT_H
#define COFFER_TOOLS_LOG_FORMAT_H

#include <jansson.h>
#include <stdbool.h>

struct log_format {
	const char *name;
	void (*begin)(void);		   /* or NULL */
	void (*row)(const json_t *row);
};

/* csv (RFC 4180), cef (ArcSight), ocsf (class 1001, a JSON object a line).  NULL: no such format. */
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
