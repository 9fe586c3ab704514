/* How a table fits a terminal: libsmartcols breaks words anywhere, and makes columns of four characters. */
#ifndef COFFER_TABLE_FIT_H
#define COFFER_TABLE_FIT_H

#include <stdbool.h>
#include <stddef.h>

struct fit {
	size_t natural; /* cells that its longest text takes */
	size_t least;	/* what it may be brought down to */
	bool wraps;	/* takes several lines, where the others are cut */
	bool dropped;	/* not shown: takes no room */
	size_t width;	/* the answer; 0: as long as it is */
};

/* Cells of a terminal that a text takes, with what is escaped (\xNN) counted so. */
size_t fit_cells(const char *text);

/* Brings n columns, with one space between, into `room`.  false: even the least is too much; then those that wrap go
 * on as long as they are: the terminal breaks the lines, and that is read more easily than a column of a few letters. */
bool fit_columns(struct fit *columns, size_t n, size_t room);

/* Malloc'd: the text in lines of at most `width` cells, broken between words where there are any.  NULL: no memory. */
char *fit_lines(const char *text, size_t width);
/* Malloc'd: the first `width` cells. */
char *fit_cut(const char *text, size_t width);

#endif
