/* policy check: a policy file, read as coffer-keyd would.  policy show: what it says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "policy/compare.h"
#include "policy/policy.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

DEFINE_SCOPED(struct policy *, policy_free)

static int load(const char *file, struct policy **ret)
{
	struct policy_error err = {0};
	const char *name = file ? file : "the built-in policy";
	int r;

	r = file ? policy_load_file(file, ret, &err) : policy_load_text(NULL, 0, ret, &err);
	if (r == 0)
		return EXIT_OK;
	return err.line ? fail(EXIT_USAGE, "%s:%u: %s", name, err.line, err.text)
			: fail(EXIT_USAGE, "%s: %s", name, err.text);
}

struct warnings {
	const char *file;
	json_t *list;
};

static void on_warning(unsigned line, const char *text, void *arg)
{
	struct warnings *w = arg;

	json_array_append_new(w->list, json_pack("{s:i, s:s}", "line", (int)line, "text", text));
}

/* Errors end it; warnings do not. */
static int check(struct tool *t, const char *file, const struct policy *p)
{
	scoped(json_decrefp) json_t *list = json_array();
	struct warnings w = {file, list};
	scoped(freep) char *text = NULL;
	struct policy_error err;
	json_t *row;
	size_t n, i;

	if (policy_read_file(file, &text, &n, &err) < 0 || policy_advise(text, n, p, on_warning, &w) < 0)
		return fail(EXIT_FAILED, "%s: it changed meanwhile", file);
	if (t->json) {
		scoped(json_decrefp) json_t *o = json_pack("{s:s, s:O}", "hash", p->text_hash, "warnings", list);

		return print_json(o);
	}
	json_array_foreach(list, i, row) say("%s:%lld: warning: %s", file, json_integer_value(json_object_get(row, "line")),
		json_string_value(json_object_get(row, "text")));
	return say("good: %s %s, %zu purposes, %zu record classes, %zu warnings", p->name, p->version, p->purposes_count,
		p->classes_count, json_array_size(list));
}

int cmd_policy_check(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"file", NULL, "FILE", FIELD_TEXT, true, NULL}, {0}};
	static const struct request rq = {fields, "FILE",
		"Reads a policy file as coffer-keyd would, and says in which line it is wrong, if it is.\vIt warns of what can "
		"hardly be meant: purposes that nobody may use, classes that nobody may open, rules that overlap."};
	scoped(json_decrefp) json_t *params = NULL;
	scoped(policy_freep) struct policy *p = NULL;
	const char *file;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	file = json_string_value(json_object_get(params, "file"));
	r = load(file, &p);
	return r == EXIT_OK ? check(t, file, p) : r;
}

/* ---- show ---- */

static json_t *purposes_json(const struct policy *p)
{
	json_t *rows = json_array();
	char buf[PERIOD_TEXT_MAX];

	for (size_t i = 0; i < p->purposes_count; i++) {
		const struct policy_purpose *u = &p->purposes[i];

		json_array_append_new(
			rows, json_pack("{s:s, s:s, s:s?, s:s?, s:s, s:b, s:b, s:b, s:s, s:s, s:s}", "purpose", u->id, "title",
				      u->title, "basis", u->basis, "parent", u->parent < 0 ? NULL : p->purposes[u->parent].id,
				      "rights", u->node ? "" : policy_rights_name(u->rights), "prohibited", u->prohibited_at >= 0,
				      "ticket_required", u->ticket_required, "after_end", u->after_end,
				      "export", policy_export_name(u->export), "max_session", policy_period_text(&u->max_session, buf), "source", u->source));
	}
	return rows;
}

/* One row a rule: the longest one that applies counts. */
static json_t *classes_json(const struct policy *p)
{
	static const char *const events[] = {
		[EVENT_CREATED] = "created",
		[EVENT_MODIFIED] = "modified",
		[EVENT_RELATIONSHIP_END] = "relationship end",
	};
	json_t *rows = json_array();
	char buf[PERIOD_TEXT_MAX];

	for (size_t i = 0; i < p->classes_count; i++) {
		const struct policy_class *c = &p->classes[i];

		for (size_t j = 0; j < c->retention_count; j++)
			json_array_append_new(rows,
				json_pack("{s:s, s:s, s:b, s:s, s:s, s:s}", "class", c->id, "title", c->title,
					"default", c->is_default, "keep",
					policy_period_text(&c->retention[j].period, buf), "after",
					c->retention[j].named ? c->retention[j].named : events[c->retention[j].event], "source", c->retention[j].source));
	}
	return rows;
}

static json_t *parties_json(const struct policy *p)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < p->parties_count; i++) {
		const struct policy_party *a = &p->parties[i];

		json_array_append_new(
			rows, json_pack("{s:s, s:s, s:b, s:b, s:s}", "party", a->id, "title", a->title,
				      "reference_required", a->reference_required, "until_required",
				      a->until_required, "source", a->source));
	}
	return rows;
}

static int print_policy(const struct policy *p, const json_t *j)
{
	static const struct column purposes[] = {
		{"purpose", "PURPOSE", CELL_TEXT},
		{"parent", "BELOW", CELL_TEXT},
		{"rights", "RIGHTS", CELL_TEXT},
		{"ticket_required", "TICKET", CELL_FLAG},
		{"export", "EXPORT", CELL_TEXT},
		{"basis", "BASIS", CELL_TEXT},
		{"title", "TITLE", CELL_WRAP},
		{"source", "RESTS ON", CELL_WRAP},
	};
	static const struct column classes[] = {
		{"class", "RECORD CLASS", CELL_TEXT},
		{"default", "DEFAULT", CELL_FLAG},
		{"keep", "KEEP", CELL_TEXT},
		{"after", "AFTER", CELL_TEXT},
		{"title", "TITLE", CELL_WRAP},
		{"source", "RESTS ON", CELL_WRAP},
	};
	static const struct column parties[] = {
		{"party", "PARTY", CELL_TEXT},
		{"reference_required", "REFERENCE", CELL_FLAG},
		{"until_required", "END", CELL_FLAG},
		{"title", "TITLE", CELL_WRAP},
		{"source", "RESTS ON", CELL_WRAP},
	};
	int r;

	say("%s %s", p->name, p->version);
	say("hash %s", p->text_hash);
	putchar('\n');
	r = table_print(json_object_get(j, "purposes"), purposes, ARRAY_SIZE(purposes), NULL);
	putchar('\n');
	if (r == EXIT_OK)
		r = table_print(json_object_get(j, "classes"), classes, ARRAY_SIZE(classes), NULL);
	putchar('\n');
	if (r == EXIT_OK)
		r = table_print(json_object_get(j, "parties"), parties, ARRAY_SIZE(parties), NULL);
	return r;
}

/* The policy in force, or (a date) of then: keyd has the text. */
static int load_in_force(struct tool *t, json_t *params, struct policy **ret)
{
	scoped(json_decrefp) json_t *answer = NULL;
	struct policy_error err;
	const char *text;
	int r = tool_call(t, DAEMON_KEYD, "PolicyText", params, NULL, 0, &answer);

	if (r != EXIT_OK)
		return r;
	text = json_string_value(json_object_get(answer, "text"));
	if (!text || policy_load_text(text, strlen(text), ret, &err) < 0)
		return fail(EXIT_FAILED, "coffer-keyd has a policy that this program cannot read: are both of the same version?");
	return EXIT_OK;
}

int cmd_policy_show(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"file", NULL, "FILE", FIELD_TEXT, false, NULL},
		{"at", "at", "DATE", FIELD_DATE, false, "the one in force then"},
		{0},
	};
	static const struct request rq = {fields, "[FILE]",
		"Shows a policy (default: the one in force): its purposes, record classes and parties."};
	scoped(policy_freep) struct policy *p = NULL;
	scoped(json_decrefp) json_t *params = NULL, *j = NULL;
	const char *file;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	file = json_string_value(json_object_get(params, "file"));
	r = file ? load(file, &p) : load_in_force(t, json_incref(params), &p);
	if (r != EXIT_OK)
		return r;
	j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", p->name, "version", p->version, "hash",
		p->text_hash, "purposes", purposes_json(p), "classes", classes_json(p), "parties",
		parties_json(p));
	if (!j)
		return fail(EXIT_FAILED, "out of memory");
	return t->json ? print_json(j) : print_policy(p, j);
}
