#include "tools/table.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
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

/* libsmartcols escapes what cannot be printed; this is what can, and deceives.  Steals text. */
static char *undeceiving(char *text)
{
	scoped(freep) char *old = text;
	char *shown = text ? malloc(3 * strlen(text) + 1) : NULL, *to = shown; /* [U+202E] for three bytes */

	for (const char *p = old; shown && *p; p++) {
		unsigned c = turns_text(p);

		if (!c) {
			*to++ = *p;
			continue;
		}
		to += sprintf(to, "[U+%04X]", c);
		p += 2;
	}
	if (shown)
		*to = '\0';
	return shown;
}

static int add_row(struct libscols_table *t, const json_t *row, const struct column *columns, size_t n)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);

	if (!line)
		return -ENOMEM;
	if (json_is_true(json_object_get(row, "attention")))
		scols_line_set_color(line, "red");
	for (size_t i = 0; i < n; i++) {
		char *text = undeceiving(cell_text(row, &columns[i]));

		if (!text || scols_line_refer_data(line, i, text) < 0) {
			free(text);
			return -ENOMEM;
		}
	}
	return 0;
}

static int add_column(struct libscols_table *t, const struct column *c)
{
	int flags = c->cell == CELL_NUMBER ? SCOLS_FL_RIGHT
		    : c->cell == CELL_WRAP ? SCOLS_FL_WRAP
		    : c->cell == CELL_CUT  ? SCOLS_FL_TRUNC
					   : 0;

	return scols_table_new_column(t, c->title, c->cell == CELL_WRAP ? 0.3 : 0, flags) ? 0 : -ENOMEM;
}

static int fill(struct libscols_table *t, const json_t *rows, const struct column *columns, size_t n)
{
	const json_t *row;
	size_t i;
	int r = 0;

	scols_table_enable_colors(t, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
	for (i = 0; i < n && r == 0; i++)
		r = add_column(t, &columns[i]);
	json_array_foreach(rows, i, row)
	{
		if (r == 0)
			r = add_row(t, row, columns, n);
	}
	return r;
}

int table_print(const json_t *rows, const struct column *columns, size_t n, const char *none)
{
	struct libscols_table *t;
	int r;

	if (json_array_size(rows) == 0) {
		if (none)
			puts(none);
		return EXIT_OK;
	}
	t = scols_new_table();
	r = t ? fill(t, rows, columns, n) : -ENOMEM;
	if (r == 0)
		r = scols_print_table(t);
	scols_unref_table(t);
	return r < 0 ? fail(EXIT_FAILED, "the table cannot be printed: %s", strerror(-r)) : EXIT_OK;
}
