/* Tables for people, by libsmartcols: they fit the terminal (what is empty in every row goes first; see table_fit.h);
 * in a pipe nothing is cut or wrapped.  Control characters are written as \xNN by the library. */
#ifndef COFFER_TABLE_H
#define COFFER_TABLE_H

#include <jansson.h>

enum cell {
	CELL_TEXT,
	CELL_NUMBER,
	CELL_TIME, /* seconds since 1970; null or 0: "-" */
	CELL_DAY,
	CELL_FLAG, /* true: "yes" */
	CELL_CUT,  /* text that may be cut when the terminal is narrow */
	CELL_WRAP, /* text that may take several lines then */
};

struct column {
	const char *key; /* member of the row */
	const char *title;
	enum cell cell;
};

/* Prints one line a row, in red if the row has a true member "attention" and stdout is a terminal; `none`
 * when there are no rows.  An exit code. */
int table_print(const json_t *rows, const struct column *columns, size_t n, const char *none);

#endif
