/* Many grants as CSV (RFC 4180, by libcsv): export, and import of all or nothing. */
#include <csv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "policy/policy.h"
#include "tools/commands.h"
#include "tools/request.h"

static const char *const columns[] = {
	"client", "user", "group", "purpose", "rights", "party", "reference", "organisation", "from", "until"};
#define COLUMNS ARRAY_SIZE(columns)

/* ---- export ---- */

/* A spreadsheet takes what begins so for a formula.  Export puts a ' before it, and import takes that away again: hence
 * also before what begins with '= itself. */
static bool is_formula(const char *s)
{
	s += strspn(s, "'");
	return *s && strchr("=+-@\t\r", *s);
}

static void put(const char *text, bool last)
{
	scoped(freep) char *marked = NULL;

	if (text && is_formula(text) && asprintf(&marked, "'%s", text) >= 0)
		text = marked;
	if (text && *text)
		(void)csv_fwrite(stdout, text, strlen(text));
	fputs(last ? "\r\n" : ",", stdout);
}

static void put_grant(const json_t *g)
{
	bool group = json_is_true(json_object_get(g, "group"));
	char when[DATE_TEXT_MAX];

	for (size_t i = 0; i < COLUMNS; i++) {
		const json_t *v = json_object_get(g, columns[i]);
		const char *text = json_string_value(v);

		if (strcmp(columns[i], "user") == 0)
			text = group ? NULL : json_string_value(json_object_get(g, "subject"));
		else if (strcmp(columns[i], "group") == 0)
			text = group ? json_string_value(json_object_get(g, "subject")) : NULL;
		else if (json_is_integer(v))
			text = json_integer_value(v) ? date_format(json_integer_value(v), when) : NULL;
		put(text, i + 1 == COLUMNS);
	}
}

int cmd_grants_export(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"client", "client", "CLIENT", FIELD_TEXT, false, "only of this client"}, {0}};
	static const struct request rq = {fields, NULL, "Writes the grants that are not revoked and not over, as CSV."};
	json_t *params, *answer = NULL, *g;
	size_t i;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "Access", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK) {
		for (i = 0; i < COLUMNS; i++)
			printf("%s%s", columns[i], i + 1 == COLUMNS ? "\r\n" : ",");
		json_array_foreach(json_object_get(answer, "grants"), i, g) put_grant(g);
	}
	json_decref(answer);
	return r;
}

/* ---- import ---- */

struct reading {
	const char *file;
	json_t *rows, *lines; /* of each row, where it begins */
	json_t *row;
	int map[64]; /* place in the file -> column */
	size_t places, place, line;
	bool header;
	int r;
};

static void on_field(void *text, size_t n, void *arg)
{
	struct reading *in = arg;
	const char *t = text;
	size_t place = in->place++;

	if (in->r != EXIT_OK)
		return;
	if (!in->header) {
		int column = -1;

		for (size_t i = 0; i < COLUMNS; i++)
			if (strlen(columns[i]) == n && memcmp(columns[i], t, n) == 0)
				column = (int)i;
		if (column < 0 || place >= ARRAY_SIZE(in->map))
			in->r = fail(EXIT_USAGE, "%s:1: there is no column \"%.*s\": `coffer grants export` shows them", in->file,
				(int)(n < 64 ? n : 64), t);
		else
			in->map[place] = column;
		return;
	}
	if (n == 0)
		return; /* empty is as good as not there */
	if (*t == '\'' && is_formula(t)) { /* CSV_APPEND_NULL: it ends */
		t++;
		n--;
	}
	if (place >= in->places || json_object_set_new(in->row, columns[in->map[place]], json_stringn(t, n)) < 0)
		in->r = fail(EXIT_USAGE, "%s:%zu: %s", in->file, in->line,
			place >= in->places ? "more fields than the first line names" : "this is not UTF-8 text");
}

static void on_row(int end, void *arg)
{
	struct reading *in = arg;

	if (!in->header) {
		in->header = true;
		in->places = in->place;
	} else if (json_object_size(in->row) > 0) {
		json_array_append(in->rows, in->row);
		json_array_append_new(in->lines, json_integer((json_int_t)in->line));
	}
	json_decref(in->row);
	in->row = json_object();
	in->place = 0;
}

/* Line by line, so that each row knows its own; a field may go over several. */
static int read_rows(const char *text, size_t n, struct reading *in)
{
	struct csv_parser p;
	size_t line = 1;

	if (csv_init(&p, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL) != 0)
		return fail(EXIT_FAILED, "out of memory");
	in->row = json_object();
	in->line = 1;
	for (size_t at = 0; at < n && in->r == EXIT_OK;) {
		const char *end = memchr(text + at, '\n', n - at);
		size_t len = end ? (size_t)(end - text) - at + 1 : n - at, rows = json_array_size(in->rows);
		bool header = in->header;

		if (csv_parse(&p, text + at, len, on_field, on_row, in) != len) {
			in->r = fail(EXIT_USAGE, "%s:%zu: this is no CSV: %s", in->file, line, csv_strerror(csv_error(&p)));
			break;
		}
		at += len;
		line++;
		if (json_array_size(in->rows) != rows || in->header != header || in->place == 0)
			in->line = line;
	}
	if (in->r == EXIT_OK && csv_fini(&p, on_field, on_row, in) != 0)
		in->r = fail(EXIT_USAGE, "%s:%zu: a quotation is not closed", in->file, in->line);
	csv_free(&p);
	json_decref(in->row);
	return in->r;
}

static int print_import(struct tool *t, const struct reading *in, const json_t *answer, bool dry_run)
{
	json_int_t refused = json_integer_value(json_object_get(answer, "refused"));
	json_t *p;
	size_t i;

	if (t->json)
		print_json(answer);
	else
		json_array_foreach(json_object_get(answer, "problems"), i, p) fail(EXIT_REFUSED, "%s:%lld: %s", in->file,
			json_integer_value(json_array_get(in->lines, (size_t)json_integer_value(json_object_get(p, "row")))),
			json_string_value(json_object_get(p, "text")));
	if (refused)
		return fail(EXIT_REFUSED, "%lld of %zu rows cannot be granted: nothing was", refused, json_array_size(in->rows));
	if (t->json)
		return EXIT_OK;
	return say("%s%lld grants%s, %lld were there already", dry_run ? "would add " : "", json_integer_value(json_object_get(answer, "added")),
		dry_run ? "" : " added", json_integer_value(json_object_get(answer, "already")));
}

int cmd_grants_import(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{"dry_run", "dry-run", NULL, FIELD_FLAG, false, "only say what would happen"},
		{0},
	};
	static const struct request rq = {fields, "FILE",
		"Adds the grants of a CSV file, all of them or, when one cannot be, none.\vThe first line names the columns, as "
		"`coffer grants export` writes them; what is there already stays as it is."};
	scoped(json_decrefp) json_t *params = NULL, *rows = json_array(), *lines = json_array(), *answer = NULL;
	struct reading in = {.rows = rows, .lines = lines};
	scoped(freep) char *text = NULL;
	struct policy_error err;
	bool dry_run;
	size_t n;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	in.file = json_string_value(json_object_get(params, "file"));
	dry_run = json_is_true(json_object_get(params, "dry_run"));
	if (policy_read_file(in.file, &text, &n, &err) < 0)
		return fail(EXIT_USAGE, "%s: %s", in.file, err.text);
	r = read_rows(text, n, &in);
	if (r != EXIT_OK)
		return r;
	if (json_array_size(rows) == 0)
		return fail(EXIT_USAGE, "%s: there is no grant in it", in.file);
	r = tool_call(t, DAEMON_KEYD, "GrantImport", json_pack("{s:O, s:b}", "rows", rows, "dry_run", dry_run), NULL, 0, &answer);
	return r == EXIT_OK ? print_import(t, &in, answer, dry_run) : r;
}
