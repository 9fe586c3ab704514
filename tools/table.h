/* Tables for people, by libsmartcols: fit the terminal, or tab-free columns in a pipe. */
#ifndef COFFER_TABLE_H
#define COFFER_TABLE_H

#include <jansson.h>

enum cell {
	CELL_TEXT,
	CELL_NUMBER,
	CELL_TIME, /* seconds since 1970; null or 0: "-" */
	CELL_DAY,
	CELL_FLAG, /* true: "yes" */
	CELL_WRAP, /* text that may be cut or wrapped when the terminal is narrow */
};

struct column {
	const char *key; /* member of the row */
	const char *title;
	enum cell cell;
};

/* Prints one line a row; `none` when there are no rows.  Returns 0 or -ENOMEM. */
int table_print(const json_t *rows, const struct column *columns, size_t n, const char *none);

/* Text of a member as a table shows it; malloc'd, control characters escaped. */
char *cell_text(const json_t *row, const struct column *c);

#endif
