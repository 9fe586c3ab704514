/* log: rows from coffer-fsd, their names opened by coffer-keyd. */
#include <fnmatch.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/date.h"
#include "common/pathseal.h"
#include "common/record.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/log_format.h"
#include "tools/request.h"
#include "tools/table.h"

#define PAGE_ROWS 2000
#define NAMES_MAX 1000 /* in one question to keyd */
#define NAMES_BYTES_MAX (256u << 10) /* a question to keyd has at most 1 MiB */

/* ---- names ---- */

/* The sealed paths of the rows: where each name goes when it is known. */
struct names {
	bool sealed;
	json_t *items;   /* [{client_id, month, sealed}] for keyd */
	size_t bytes;    /* of what is sealed there */
	json_t *targets; /* [[row, "path"|"path2"]] */
};

/* Why a name may stay closed: said beside the row.  keyd is asked first, so that an unreachable one is an
 * error. */
static int ask_whether_sealed(struct tool *t, bool *ret)
{
	json_t *status = NULL;
	const char *state;
	int r;

	r = tool_call(t, DAEMON_KEYD, "Status", NULL, NULL, 0, &status);
	state = json_string_value(json_object_get(status, "state"));
	*ret = state && strcmp(state, "sealed") == 0;
	json_decref(status);
	return r;
}

static int open_names(struct tool *t, struct names *n)
{
	json_t *answer = NULL, *names, *target;
	size_t i;
	int r;

	r = tool_try(t, DAEMON_KEYD, "LedgerNames", json_pack("{s:O}", "items", n->items), &answer);
	names = json_object_get(answer, "names");
	json_array_foreach(n->targets, i, target)
	{
		json_t *row = json_array_get(target, 0);
		const char *key = json_string_value(json_array_get(target, 1));
		json_t *name = r == EXIT_OK ? json_array_get(names, i) : NULL;

		json_object_set(row, key, name ? name : json_null());
		if (!json_is_string(name))
			json_object_set_new(
				row, "name_lost", json_string(n->sealed ? "sealed" : "destroyed"));
	}
	json_decref(answer);
	json_array_clear(n->items);
	n->bytes = 0;
	json_array_clear(n->targets);
	/* Sealed, destroyed, not allowed: the rows stand without names. */
	return r == EXIT_UNREACHABLE ? EXIT_UNREACHABLE : EXIT_OK;
}

/* client_id: whose key it is under.  o: where the sealed name stands. */
static int want_name(struct tool *t, struct names *n, json_t *client_id, json_t *o, const char *key)
{
	json_t *path = json_object_get(o, key);

	if (!json_is_object(path))
		return EXIT_OK;
	json_array_append_new(n->items,
		json_pack("{s:O, s:O, s:O}", "client_id", client_id, "month",
			json_object_get(path, "month"), "sealed", json_object_get(path, "sealed")));
	json_array_append_new(n->targets, json_pack("[O, s]", o, key));
	n->bytes += json_string_length(json_object_get(path, "sealed"));
	return json_array_size(n->items) < NAMES_MAX && n->bytes < NAMES_BYTES_MAX ? EXIT_OK : open_names(t, n);
}

static int name_rows(struct tool *t, json_t *rows, bool sealed)
{
	struct names n = {.sealed = sealed, .items = json_array(), .targets = json_array()};
	json_t *row;
	size_t i;
	int r = EXIT_OK;

	json_array_foreach(rows, i, row)
	{
		json_t *client_id = json_object_get(row, "client_id"), *detail = json_object_get(row, "detail");

		if (r == EXIT_OK)
			r = want_name(t, &n, client_id, row, "path");
		if (r == EXIT_OK)
			r = want_name(t, &n, client_id, row, "path2");
		if (r == EXIT_OK) /* an act about a person */
			r = want_name(t, &n, json_object_get(json_object_get(detail, "subject"), "client_id"), detail, "subject");
	}
	if (r == EXIT_OK && json_array_size(n.items) > 0)
		r = open_names(t, &n);
	json_decref(n.items);
	json_decref(n.targets);
	return r;
}

/* A prefix of whole path components, or a shell pattern. */
static bool path_matches(const json_t *row, const char *key, const char *wanted)
{
	const char *path = json_string_value(json_object_get(row, key));
	size_t n = strlen(wanted);

	if (!path)
		return false;
	if (strncmp(path, wanted, n) == 0 &&
		(path[n] == '\0' || path[n] == '/' || (n > 0 && wanted[n - 1] == '/')))
		return true;
	return fnmatch(wanted, path, 0) == 0;
}

/* The record knows paths below the share; other commands write them with a slash before. "/": all of them. */
static char *path_wanted(const char *text)
{
	text += strspn(text, "/");
	return strdup(*text ? text : "*");
}

static void keep_path(json_t *rows, const char *wanted)
{
	for (size_t i = json_array_size(rows); i-- > 0;) {
		const json_t *row = json_array_get(rows, i);

		if (!path_matches(row, "path", wanted) && !path_matches(row, "path2", wanted))
			json_array_remove(rows, i);
	}
}

/* ---- a table for people ---- */

static void put_value(FILE *f, const char *key, const json_t *v)
{
	char when[DATE_TEXT_MAX];

	if (json_is_string(v))
		fputs(json_string_value(v), f);
	else if (json_is_integer(v) && (strcmp(key, "from") == 0 || strcmp(key, "until") == 0 ||
					       strcmp(key, "on") == 0 || strcmp(key, "due") == 0))
		fputs(date_format(json_integer_value(v), when), f);
	else
		json_dumpf(v, f, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS);
}

/* An act's details, without what says nothing and without the steps of a decision, which `coffer why` shows.
 */
static void put_detail(FILE *f, const json_t *detail)
{
	const char *key, *space = "";
	const json_t *v;

	json_object_foreach((json_t *)detail, key, v)
	{
		bool empty = json_is_null(v) || json_is_false(v) ||
			     (json_is_string(v) && !json_string_length(v)) ||
			     (json_is_integer(v) && json_integer_value(v) == 0);

		if (empty || strcmp(key, "steps") == 0 || strcmp(key, "policy_hash") == 0)
			continue;
		fprintf(f, "%s%s=", space, key);
		put_value(f, key, v);
		space = " ";
	}
}

/* Which state of the file it was, or which key went with a name: for programs, `coffer fsck` and erasures. */
static bool is_for_programs(const char *op, const char *detail)
{
	if (op && (strcmp(op, "unlink") == 0 || strcmp(op, "rmdir") == 0 || strcmp(op, "rename") == 0))
		return true;
	return detail[0] == 'v' && strspn(detail + 1, "0123456789abcdef.-") == strlen(detail) - 1;
}

/* What was acted on: the path, both of a rename, or the details of an act. */
static void put_what(FILE *f, const json_t *row)
{
	const char *lost = json_string_value(json_object_get(row, "name_lost"));
	const char *path = json_string_value(json_object_get(row, "path"));
	const char *path2 = json_string_value(json_object_get(row, "path2"));
	const json_t *detail = json_object_get(row, "detail");

	if (lost)
		fprintf(f, "(%s)", lost);
	else if (path)
		fprintf(f, "%s%s%s", *path ? path : "/", path2 ? (log_text_of(json_string_value(json_object_get(row, "op"))) ? ": " : " -> ") : "", path2 ? path2 : "");
	if (json_object_size(detail) > 0) {
		fputs(lost || path ? "  " : "", f);
		put_detail(f, detail);
	} else if (json_is_string(detail) && !is_for_programs(json_string_value(json_object_get(row, "op")), json_string_value(detail))) {
		fprintf(f, "%s%s", lost || path ? "  " : "", json_string_value(detail));
	}
}

/* At the close what was delivered, before that how much there was. */
static void put_bytes(FILE *f, const json_t *row)
{
	json_int_t got = json_integer_value(json_object_get(row, "bytes_read"));
	json_int_t put = json_integer_value(json_object_get(row, "bytes_written"));
	json_int_t size = json_integer_value(json_object_get(row, "size"));

	if (got || put)
		fprintf(f, "%s%.0lld%s%s%.0lld", got ? "read " : "", got, got && put ? ", " : "",
			put ? "wrote " : "", put);
	else if (size)
		fprintf(f, "%lld", size);
}

static void set_text(json_t *row, const char *key, void (*put)(FILE *f, const json_t *row))
{
	scoped(freep) char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (!f)
		return;
	put(f, row);
	fclose(f);
	json_object_set_new(row, key, json_string(text));
}

/* 0 or missing, an errno, or the name of the error of a decision. */
static void set_result(json_t *row)
{
	const json_t *outcome = json_object_get(row, "outcome");
	int number = (int)json_integer_value(outcome);
	bool bad = json_is_string(outcome) || number != 0;

	json_object_set_new(row, "result",
		json_string(json_is_string(outcome) ? json_string_value(outcome)
			    : number                ? strerrorname_np(number)
						    : "ok"));
	json_object_set_new(row, "attention", json_boolean(bad));
}

static int print_rows(json_t *rows, const char *none)
{
	static const struct column columns[] = {
		{"time", "TIME", CELL_TIME},
		{"user", "USER", CELL_TEXT},
		{"client", "CLIENT", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_CUT},
		{"ticket", "TICKET", CELL_CUT},
		{"op", "DID", CELL_TEXT},
		{"result", "RESULT", CELL_TEXT},
		{"comm", "PROGRAM", CELL_CUT},
		{"bytes", "BYTES", CELL_CUT},
		{"what", "WHAT", CELL_WRAP},
	};
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		set_text(row, "what", put_what);
		if (json_is_null(json_object_get(row, "user")) && json_is_integer(json_object_get(row, "uid")))
			json_object_set_new(row, "user",
				json_sprintf("uid %lld", (long long)json_integer_value(json_object_get(row, "uid"))));
		set_text(row, "bytes", put_bytes);
		set_result(row);
	}
	return table_print(rows, columns, ARRAY_SIZE(columns), none);
}

/* ---- JSON: one array, one row a line, written as the pages come ---- */

struct json_rows {
	size_t printed;
};

static int print_json_rows(struct json_rows *j, const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		fputs(j->printed++ ? ",\n" : "[\n", stdout);
		if (print_json_text(stdout, row, JSON_COMPACT) < 0)
			return fail(EXIT_FAILED, "the output could not be written");
	}
	return EXIT_OK;
}

static void end_json_rows(const struct json_rows *j)
{
	puts(j->printed ? "\n]" : "[]");
}

/* ---- log ---- */

struct query {
	json_t *params;
	const char *path; /* or NULL */
	json_int_t limit; /* rows to show; 0: all */
	json_int_t last;  /* of the table; 0: all */
	bool sealed;      /* names stay closed because the keys are */
	bool follow;
	bool own; /* the caller sees only what he did himself */
	const struct log_format *format; /* NULL: a table, or JSON */
	struct pseudonyms *pseudonyms;	 /* or NULL */
	json_t *rows;     /* for the table */
	size_t count;
	struct json_rows json;
};

static void keep_last(json_t *rows, size_t n)
{
	json_auto_t *kept = json_array();
	size_t size = json_array_size(rows);

	for (size_t i = size > n ? size - n : 0; i < size; i++)
		json_array_append(kept, json_array_get(rows, i));
	json_array_clear(rows);
	json_array_extend(rows, kept);
}

/* Names, the filter for paths (names are ciphertext to coffer-fsd), the limit. */
static int take_page(struct tool *t, struct query *q, json_t *rows)
{
	int r = name_rows(t, rows, q->sealed);
	json_t *row;
	size_t i;

	if (r != EXIT_OK)
		return r;
	if (q->path)
		keep_path(rows, q->path);
	while (q->limit && q->count + json_array_size(rows) > (size_t)q->limit)
		json_array_remove(rows, json_array_size(rows) - 1);
	q->count += json_array_size(rows);
	if (q->pseudonyms)
		json_array_foreach(rows, i, row)
			pseudonyms_apply(q->pseudonyms, row);
	if (q->format || (q->follow && t->json)) {
		json_array_foreach(rows, i, row)
		{
			if (q->format) {
				q->format->row(row);
			} else {
				(void)print_json_text(stdout, row, JSON_COMPACT);
				putchar('\n');
			}
		}
		return fflush(stdout) == 0 ? EXIT_OK : fail(EXIT_FAILED, "the output could not be written");
	}
	if (t->json)
		return print_json_rows(&q->json, rows);
	if (q->last && json_array_size(q->rows) > 2 * (size_t)q->last + PAGE_ROWS) /* rows come nearly in their order */
		keep_last(q->rows, (size_t)q->last + PAGE_ROWS);
	return json_array_extend(q->rows, rows) < 0 ? fail(EXIT_FAILED, "out of memory") : EXIT_OK;
}

/* "No records" must not be taken for "nobody did it" where the question could not find anything. */
static const char *none_text(const struct query *q)
{
	static const char *const named[] = {"client", "user", "purpose", "session", "op", "file"};

	if (q->own)
		return "no records of yours; only auditors see what others did";
	for (size_t i = 0; i < ARRAY_SIZE(named); i++)
		if (json_object_get(q->params, named[i]))
			return "no records (what is misspelt finds nothing, too)";
	return q->path ? "no records; PATH is below the share, whole names or a pattern like '*.pdf'" : "no records";
}

/* Of a table that goes on: what came since the last time. */
static int show_now(struct tool *t, struct query *q)
{
	int r = t->json || q->format || !json_array_size(q->rows) ? EXIT_OK : print_rows(q->rows, NULL);

	json_array_clear(q->rows);
	return r;
}

/* Rows come in the order in which they reached the ledger, which is nearly this one. */
static int by_time(const void *a, const void *b)
{
	json_int_t x = json_integer_value(json_object_get(*(json_t *const *)a, "time_ns"));
	json_int_t y = json_integer_value(json_object_get(*(json_t *const *)b, "time_ns"));

	return x < y ? -1 : x > y;
}

static json_t *sorted(const json_t *rows)
{
	size_t n = json_array_size(rows);
	scoped(freep) json_t **list = malloc((n + 1) * sizeof(*list));
	json_t *ret = json_array();

	for (size_t i = 0; list && i < n; i++)
		list[i] = json_array_get(rows, i);
	if (list)
		qsort(list, n, sizeof(*list), by_time);
	for (size_t i = 0; list && i < n; i++)
		json_array_append(ret, list[i]);
	return ret;
}

/* ---- --path: which sealed names are meant, so that coffer-fsd need not read all records ---- */

#define NAMES_WANTED_MAX 200	/* more are asked for by a bitmap (pathseal.h), and what comes along is dropped here */
#define BITMAP_WANTED_MAX 200000	/* more fill it: then reading on is as fast */

/* One page of paths: those that fit go into `wanted`, each once. */
static int pick_names(struct tool *t, const struct query *q, json_t *rows, json_t *wanted)
{
	json_auto_t *copy = json_array();
	json_t *row;
	size_t i;
	int r;

	json_array_foreach(rows, i, row)
		json_array_append_new(copy, json_pack("{s:O, s:{s:O, s:O}}", "client_id", json_object_get(row, "client_id"), "path", "month",
						    json_object_get(row, "month"), "sealed", json_object_get(row, "sealed")));
	r = name_rows(t, copy, q->sealed);
	for (i = 0; r == EXIT_OK && i < json_array_size(rows); i++)
		if (path_matches(json_array_get(copy, i), "path", q->path))
			json_object_set_new(wanted, json_string_value(json_object_get(json_array_get(rows, i), "sealed")), json_true());
	return r;
}

/* Of their keys, in base64.  NULL: not to be had. */
static json_t *bitmap_of(json_t *wanted)
{
	uint8_t bytes[RECORD_PATH_MAX], bitmap[PATHSEAL_BITMAP_BYTES] = {0};
	char text[sodium_base64_ENCODED_LEN(sizeof(bitmap), sodium_base64_VARIANT_ORIGINAL)];
	const char *sealed;
	size_t n;
	json_t *v;

	json_object_foreach(wanted, sealed, v)
	{
		if (sodium_base642bin(bytes, sizeof(bytes), sealed, strlen(sealed), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) < 0)
			return NULL;
		pathseal_bitmap_add(bitmap, pathseal_key(bytes, n));
	}
	return json_string(sodium_bin2base64(text, sizeof(text), bitmap, sizeof(bitmap), sodium_base64_VARIANT_ORIGINAL));
}

/* Puts `names` or `names_bitmap` into the question.  Nothing there: reading all records does as well, only slower. */
static void narrow_by_names(struct tool *t, struct query *q)
{
	json_auto_t *wanted = json_object();
	json_auto_t *params = json_object();
	json_auto_t *names = json_array();
	const char *sealed;
	json_auto_t *at = NULL;
	bool more = true;
	json_t *v;

	if (json_object_get(q->params, "client"))
		json_object_set(params, "client", json_object_get(q->params, "client"));
	while (more && json_object_size(wanted) <= BITMAP_WANTED_MAX) {
		json_auto_t *answer = NULL;

		if (tool_try(t, DAEMON_FSD, "LogPaths", json_copy(params), &answer) != EXIT_OK ||
			pick_names(t, q, json_object_get(answer, "rows"), wanted) != EXIT_OK)
			return;
		if (!at)
			at = json_incref(json_object_get(answer, "at"));
		more = json_is_string(json_object_get(answer, "next"));
		json_object_set(params, "after", json_object_get(answer, "next"));
	}
	if (json_object_size(wanted) > BITMAP_WANTED_MAX || !json_is_string(at))
		return;
	if (q->follow) /* what comes behind this place may have names that were not there yet */
		json_object_set(q->params, "to", at);
	if (json_object_size(wanted) > NAMES_WANTED_MAX) {
		json_t *bitmap = bitmap_of(wanted);

		if (bitmap)
			json_object_set_new(q->params, "names_bitmap", bitmap);
		else
			json_object_del(q->params, "to");
		return;
	}
	json_object_foreach(wanted, sealed, v)
		json_array_append_new(names, json_string(sealed));
	if (json_array_size(names) == 0)
		json_array_append_new(names, json_string("")); /* no path is sealed so: the search is made, and recorded */
	json_object_set(q->params, "names", names);
}

/* From where the names were known on, by all rows. */
static void read_on(struct query *q)
{
	json_object_set(q->params, "after", json_object_get(q->params, "to"));
	json_object_del(q->params, "to");
	json_object_del(q->params, "names");
	json_object_del(q->params, "names_bitmap");
}

static int fetch(struct tool *t, struct query *q)
{
	bool more = true;
	int r = EXIT_OK;

	json_object_set_new(q->params, "limit", json_integer(PAGE_ROWS));
	while (more && r == EXIT_OK && (!q->limit || q->count < (size_t)q->limit)) {
		json_t *answer = NULL, *next;

		r = tool_call(t, DAEMON_FSD, "LogQuery", json_copy(q->params), NULL, 0, &answer);
		if (r != EXIT_OK)
			break;
		q->own = json_is_false(json_object_get(answer, "all"));
		r = take_page(t, q, json_object_get(answer, "rows"));
		next = json_object_get(answer, "next");
		more = json_is_string(next);
		if (!more && json_object_get(q->params, "to")) {
			read_on(q);
			more = true;
			json_decref(answer);
			continue;
		}
		if (more || q->follow)
			json_object_set(q->params, "after", more ? next : json_object_get(answer, "at"));
		json_decref(answer);
		if (!more && q->follow && r == EXIT_OK) {
			r = show_now(t, q);
			sleep(1);
			more = true;
		}
	}
	return r;
}

/* --format, --follow and --pseudonyms are ours; fsd knows nothing of them. */
static int take_format(struct tool *t, struct query *q)
{
	const char *format = json_string_value(json_object_get(q->params, "format"));
	const char *file = json_string_value(json_object_get(q->params, "pseudonyms"));
	int r = EXIT_OK;

	q->format = format ? log_format_find(format) : NULL;
	if (format && !q->format)
		return fail(EXIT_USAGE, "--format %s: there are csv, cef, ocsf and journald", format);
	if (format && t->json)
		return fail(EXIT_USAGE, "--format and --json: choose one");
	if (q->format && q->format->check && (r = q->format->check()) != EXIT_OK)
		return r;
	q->follow = json_is_true(json_object_get(q->params, "follow"));
	if (file)
		r = pseudonyms_open(file, &q->pseudonyms);
	json_object_del(q->params, "format");
	json_object_del(q->params, "follow");
	json_object_del(q->params, "pseudonyms");
	return r;
}

int cmd_log(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", "client", "CLIENT", FIELD_TEXT, false, "only this client"},
		{"user", "user", "USER", FIELD_TEXT, false, "only this user"},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, false, "only this purpose"},
		{"session", "session", "N", FIELD_NUMBER, false, "only this session"},
		{"path", "path", "PATH", FIELD_TEXT, false,
			"only what is at or below PATH (below the share), or a pattern: '*.pdf'"},
		{"file", "file", "ID", FIELD_TEXT, false, "only this file, by its id (--json tells it), whatever it was called"},
		{"op", "op", "OP", FIELD_TEXT, false, "only this operation or act: open, rename, grant, ..."},
		{"outcome", "outcome", "ok|failed", FIELD_TEXT, false, "only what went well, or what was refused or failed"},
		{"since", "since", "DATE", FIELD_DATE, false, "from then on"},
		{"until", "until", "DATE", FIELD_DATE, false, "before then"},
		{"limit", "limit", "N", FIELD_NUMBER, false, "only the first N rows"},
		{"last", "last", "N", FIELD_NUMBER, false, "only the last N rows (of the table)"},
		{"follow", "follow", NULL, FIELD_FLAG, false, "go on with what comes in; ends by Ctrl-C"},
		{"format", "format", "FORMAT", FIELD_TEXT, false, "csv, cef or ocsf (one event a line)"},
		{"pseudonyms", "pseudonyms", "KEYFILE", FIELD_TEXT, false,
			"with pseudonyms in the place of names; the key to them stands in KEYFILE, which is made if need be"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Shows the record: who did what to which file, when, for which purpose.\vAuditors see all "
		"rows, others their own. What was "
		"done a moment ago is there: asking collects it."};
	struct query q = {.rows = json_array()};
	scoped(freep) char *path = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &q.params);
	if (json_object_get(q.params, "path"))
		path = path_wanted(json_string_value(json_object_get(q.params, "path")));
	r = take_format(t, &q);
	if (r == EXIT_OK && json_object_get(q.params, "last") &&
		(q.format || q.follow || t->json || json_object_get(q.params, "limit") ||
			json_integer_value(json_object_get(q.params, "last")) <= 0))
		r = fail(EXIT_USAGE, "--last N (1 or more) is for the table, without --limit and --follow");
	if (r == EXIT_OK && json_object_get(q.params, "since") && json_object_get(q.params, "until") &&
		json_integer_value(json_object_get(q.params, "since")) >= json_integer_value(json_object_get(q.params, "until")))
		r = fail(EXIT_USAGE, "--until is not after --since: nothing can lie between; --until is the first moment that is left out");
	if (r != EXIT_OK) {
		json_decref(q.rows);
		json_decref(q.params);
		return r;
	}
	q.path = path;
	q.last = json_integer_value(json_object_get(q.params, "last"));
	json_object_del(q.params, "last");
	q.limit = json_integer_value(json_object_get(q.params, "limit"));
	json_object_del(q.params, "path");
	r = ask_whether_sealed(t, &q.sealed);
	if (r == EXIT_OK && path && !q.sealed && !json_object_get(q.params, "file")) /* that has an index of its own */
		narrow_by_names(t, &q);
	if (r == EXIT_OK && q.format && q.format->begin)
		q.format->begin();
	if (r == EXIT_OK)
		r = fetch(t, &q);
	if (r == EXIT_OK && q.format && q.format->end)
		r = q.format->end();
	if (r == EXIT_OK && t->json && !q.follow)
		end_json_rows(&q.json);
	else if (r == EXIT_OK && !q.format && !t->json) {
		json_t *rows = sorted(q.rows);

		if (q.last)
			keep_last(rows, (size_t)q.last);
		r = print_rows(rows, none_text(&q));
		json_decref(rows);
	}
	pseudonyms_free(q.pseudonyms);
	json_decref(q.rows);
	json_decref(q.params);
	return r;
}
