/* policy check: a policy file, read as coffer-keyd would. */
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "policy/policy.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

static json_t *purposes_of(const struct policy *p)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < p->purposes_count; i++) {
		const struct policy_purpose *u = &p->purposes[i];

		json_array_append_new(
			rows, json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "purpose", u->id, "title", u->title,
				      "basis", u->basis, "rights", policy_rights_name(u->rights),
				      "ticket_required", u->ticket_required, "source", u->source));
	}
	return rows;
}

int cmd_policy_check(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"file", NULL, "FILE", FIELD_TEXT, false, NULL}, {0}};
	static const struct request rq = {fields, "[FILE]",
		"Checks a policy file (default: the built-in policy) and lists its purposes."};
	static const struct column columns[] = {
		{"purpose", "PURPOSE", CELL_TEXT},
		{"title", "TITLE", CELL_WRAP},
		{"basis", "BASIS", CELL_TEXT},
		{"rights", "RIGHTS", CELL_TEXT},
		{"ticket_required", "TICKET", CELL_FLAG},
		{"source", "RESTS ON", CELL_WRAP},
	};
	struct policy_error err = {0};
	struct policy *p = NULL;
	json_t *params, *rows;
	const char *file;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	file = json_string_value(json_object_get(params, "file"));
	r = file ? policy_load_file(file, &p, &err) : policy_load_text(NULL, 0, &p, &err);
	if (r < 0) {
		r = err.line ? fail(EXIT_USAGE, "%s:%u: %s", file ? file : "built-in policy", err.line,
				       err.text)
			     : fail(EXIT_USAGE, "%s: %s", file ? file : "built-in policy", err.text);
		json_decref(params);
		return r;
	}
	rows = purposes_of(p);
	if (t->json) {
		json_t *out = json_pack(
			"{s:s, s:s, s:O}", "name", p->name, "version", p->version, "purposes", rows);

		r = print_json(out);
		json_decref(out);
	} else {
		printf("%s %s: good\n\n", p->name, p->version);
		r = table_print(rows, columns, ARRAY_SIZE(columns), NULL);
	}
	json_decref(rows);
	json_decref(params);
	policy_free(p);
	return r;
}
