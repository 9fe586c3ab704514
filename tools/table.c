#include "tools/table.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/table_fit.h"
#include "tools/tool.h"

static char *number_text(const json_t *v)
{
	char *text = NULL;

	if (asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(v)) < 0)
		return NULL;
	return text;
}

static char *time_text(const json_t *v, enum cell cell)
{
	char buf[DATE_TEXT_MAX];
	int64_t t = json_integer_value(v);

	if (t == 0)
		return strdup("-");
	return strdup(cell == CELL_DAY ? date_format_day(t, buf) : date_format(t, buf));
}

static char *cell_text(const json_t *row, const struct column *c)
{
	const json_t *v = json_object_get(row, c->key);

	if (c->cell == CELL_FLAG)
		return strdup(json_is_true(v) ? "yes" : "");
	if (c->cell == CELL_TIME || c->cell == CELL_DAY)
		return time_text(v, c->cell);
	if (json_is_string(v))
		return strdup(json_string_value(v));
	if (json_is_integer(v))
		return number_text(v);
	if (json_is_array(v) || json_is_object(v))
		return json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS);
	return strdup("");
}

/* libsmartcols escapes what cannot be printed; this is what can, and deceives.  So does the end of a line where it
 * is told to take it for ours (`lines`).  Steals text. */
static char *undeceiving(char *text, bool lines)
{
	scoped(freep) char *old = text;
	char *shown = text ? malloc(8 * strlen(text) + 1) : NULL, *to = shown; /* [U+000A] for a byte */

	for (const char *p = old; shown && *p; p++) {
		unsigned c = turns_text(p);

		if (!c && !(lines && *p == '\n')) {
			*to++ = *p;
			continue;
		}
		to += sprintf(to, "[U+%04X]", c ? c : '\n');
		p += c ? 2 : 0;
	}
	if (shown)
		*to = '\0';
	return shown;
}

#define LEAST_CUT 7   /* cells of a column that may be cut */
#define GOOD_WRAP 24  /* of one that takes several lines, if there is room */
#define LEAST_WRAP 14 /* below that it is not read but deciphered */

/* What is printed: the texts of all cells, row by row, and which columns have any. */
struct grid {
	const struct column *columns;
	size_t n, rows;
	bool terminal;
	char **cells;
	struct fit *fit;
	bool *wraps, *empty;
};

static void grid_done(struct grid *g)
{
	for (size_t i = 0; g->cells && i < g->n * g->rows; i++)
		free(g->cells[i]);
	free(g->cells);
	free(g->fit);
	free(g->wraps);
	free(g->empty);
}

static int grid_fill(struct grid *g, const json_t *rows, const struct column *columns, size_t n)
{
	*g = (struct grid){.columns = columns, .n = n, .rows = json_array_size(rows), .terminal = isatty(STDOUT_FILENO)};
	g->cells = calloc(g->n * g->rows, sizeof(*g->cells));
	g->fit = calloc(n, sizeof(*g->fit));
	g->wraps = calloc(n, sizeof(*g->wraps));
	g->empty = calloc(n, sizeof(*g->empty));
	if (!g->cells || !g->fit || !g->wraps || !g->empty)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		g->wraps[i] = columns[i].cell == CELL_WRAP;
		g->fit[i].natural = fit_cells(columns[i].title);
		g->empty[i] = true;
	}
	for (size_t i = 0; i < g->n * g->rows; i++) {
		size_t cells;

		g->cells[i] = undeceiving(cell_text(json_array_get(rows, i / n), &columns[i % n]), g->terminal && g->wraps[i % n]);
		if (!g->cells[i])
			return -ENOMEM;
		cells = fit_cells(g->cells[i]);
		if (cells > 0)
			g->empty[i % n] = false;
		if (cells > g->fit[i % n].natural)
			g->fit[i % n].natural = cells;
	}
	return 0;
}

static size_t least_of(const struct grid *g, size_t i, size_t wrap)
{
	size_t title = fit_cells(g->columns[i].title);
	size_t least = g->columns[i].cell == CELL_CUT ? LEAST_CUT : wrap;

	if (g->columns[i].cell != CELL_CUT && g->columns[i].cell != CELL_WRAP)
		return g->fit[i].natural;
	return least > title ? least : title;
}

/* How wide each column becomes: what is empty in every row goes first. */
static void measure(struct grid *g, size_t room)
{
	size_t sum = 0;

	for (size_t i = 0; i < g->n; i++)
		sum += g->fit[i].natural + 1;
	if (sum - 1 <= room)
		memset(g->empty, 0, g->n * sizeof(*g->empty));
	for (size_t i = 0; i < g->n; i++) {
		g->fit[i].dropped = g->empty[i];
		g->fit[i].wraps = g->wraps[i];
		g->fit[i].least = least_of(g, i, GOOD_WRAP);
	}
	if (fit_columns(g->fit, g->n, room))
		return;
	for (size_t i = 0; i < g->n; i++)
		g->fit[i].least = least_of(g, i, LEAST_WRAP);
	fit_columns(g->fit, g->n, room);
}

static int grid_narrow(struct grid *g, size_t room)
{
	measure(g, room);
	for (size_t i = 0; i < g->n * g->rows; i++) {
		size_t column = i % g->n, width = g->fit[column].width;
		char *text;

		if (width == 0 || fit_cells(g->cells[i]) <= width)
			continue;
		text = g->wraps[column] ? fit_lines(g->cells[i], width) : fit_cut(g->cells[i], width);
		if (!text)
			return -ENOMEM;
		free(g->cells[i]);
		g->cells[i] = text;
	}
	return 0;
}

static int add_row(struct libscols_table *t, const json_t *row, struct grid *g, size_t at)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);
	size_t to = 0;

	if (!line)
		return -ENOMEM;
	if (json_is_true(json_object_get(row, "attention")))
		scols_line_set_color(line, "red");
	for (size_t i = 0; i < g->n; i++) {
		char **cell = &g->cells[at * g->n + i];

		if (g->empty[i])
			continue;
		if (scols_line_refer_data(line, to++, *cell) < 0)
			return -ENOMEM;
		*cell = NULL; /* it is the line's now */
	}
	return 0;
}

static int add_column(struct libscols_table *t, const struct column *c, bool terminal)
{
	int flags = c->cell == CELL_NUMBER ? SCOLS_FL_RIGHT : c->cell == CELL_WRAP ? SCOLS_FL_WRAP : 0;
	struct libscols_column *column = scols_table_new_column(t, c->title, 0, flags);

	if (!column)
		return -ENOMEM;
	if (c->cell != CELL_WRAP || !terminal)
		return 0;
	scols_column_set_safechars(column, "\n"); /* the lines that fit_lines made */
	return scols_column_set_wrapfunc(column, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL);
}

static int fill(struct libscols_table *t, const json_t *rows, struct grid *g)
{
	const json_t *row;
	size_t i;
	int r = 0;

	scols_table_enable_colors(t, g->terminal && !getenv("NO_COLOR"));
	if (g->terminal)
		r = grid_narrow(g, scols_table_get_termwidth(t));
	else
		memset(g->empty, 0, g->n * sizeof(*g->empty));
	scols_table_set_termforce(t, SCOLS_TERMFORCE_NEVER);
	for (i = 0; i < g->n && r == 0; i++)
		if (!g->empty[i])
			r = add_column(t, &g->columns[i], g->terminal);
	json_array_foreach(rows, i, row)
	{
		if (r == 0)
			r = add_row(t, row, g, i);
	}
	return r;
}

int table_print(const json_t *rows, const struct column *columns, size_t n, const char *none)
{
	struct libscols_table *t;
	struct grid g;
	int r;

	if (json_array_size(rows) == 0) {
		if (none)
			puts(none);
		return EXIT_OK;
	}
	t = scols_new_table();
	r = grid_fill(&g, rows, columns, n);
	if (r == 0)
		r = t ? fill(t, rows, &g) : -ENOMEM;
	if (r == 0)
		r = scols_print_table(t);
	scols_unref_table(t);
	grid_done(&g);
	return r < 0 ? fail(EXIT_FAILED, "the table cannot be printed: %s", strerror(-r)) : EXIT_OK;
}
