/* policy check: a policy file, read as coffer-keyd would.  policy show: what it says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
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

int cmd_policy_check(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"file", NULL, "FILE", FIELD_TEXT, true, NULL}, {0}};
	static const struct request rq = {fields, "FILE",
		"Reads a policy file as coffer-keyd would, and says in which line it is wrong, if it is."};
	scoped(policy_freep) struct policy *p = NULL;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = load(json_string_value(json_object_get(params, "file")), &p);
	json_decref(params);
	if (r != EXIT_OK)
		return r;
	if (t->json)
		printf("{\"hash\": \"%s\"}\n", p->text_hash);
	else
		r = say("good: %s %s, %zu purposes, %zu record classes", p->name, p->version,
			p->purposes_count, p->classes_count);
	return r;
}

/* ---- show ---- */

/* "7y 6m": as the file would say it. */
static const char *period_text(const struct period *p, char buf[64])
{
	const struct {
		int n;
		char unit;
	} parts[] = {{p->years, 'y'}, {p->months, 'm'}, {p->days, 'd'}};
	int n = 0;

	*buf = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].n)
			n += snprintf(
				buf + n, 64 - (size_t)n, "%s%d%c", n ? " " : "", parts[i].n, parts[i].unit);
	return buf;
}

static json_t *purposes_json(const struct policy *p)
{
	json_t *rows = json_array();
	char buf[64];

	for (size_t i = 0; i < p->purposes_count; i++) {
		const struct policy_purpose *u = &p->purposes[i];

		json_array_append_new(
			rows, json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:s, s:s}", "purpose", u->id, "title",
				      u->title, "basis", u->basis, "rights", policy_rights_name(u->rights),
				      "ticket_required", u->ticket_required, "after_end", u->after_end,
				      "max_session", period_text(&u->max_session, buf), "source", u->source));
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
	char buf[64];

	for (size_t i = 0; i < p->classes_count; i++) {
		const struct policy_class *c = &p->classes[i];

		for (size_t j = 0; j < c->retention_count; j++)
			json_array_append_new(rows,
				json_pack("{s:s, s:s, s:b, s:s, s:s, s:s}", "class", c->id, "title", c->title,
					"default", c->is_default, "keep",
					period_text(&c->retention[j].period, buf), "after",
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
		{"rights", "RIGHTS", CELL_TEXT},
		{"ticket_required", "TICKET", CELL_FLAG},
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

/* The policy in force: keyd says its hash; what is read here must be that. */
static int load_in_force(struct tool *t, struct policy **ret)
{
	scoped(json_decrefp) json_t *status = NULL;
	scoped(policy_freep) struct policy *p = NULL;
	scoped(freep) char *own = NULL;
	const char *hash = NULL;
	int r;

	r = tool_call(t, DAEMON_KEYD, "Status", NULL, NULL, 0, &status);
	if (r != EXIT_OK)
		return r;
	if (json_unpack(status, "{s:{s:s}}", "policy", "hash", &hash) < 0 ||
		asprintf(&own, "%s/policy.yaml", t->dir.root) < 0)
		return fail(EXIT_FAILED, "coffer-keyd does not say which policy is in force");
	r = load(access(own, F_OK) == 0 ? own : NULL, &p);
	if (r != EXIT_OK)
		return r;
	if (strcmp(p->text_hash, hash) != 0)
		return fail(EXIT_FAILED,
			"the policy in force (hash %s) was read from another file; name it: coffer policy "
			"show FILE",
			hash);
	*ret = take_ptr(&p);
	return EXIT_OK;
}

int cmd_policy_show(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"file", NULL, "FILE", FIELD_TEXT, false, NULL}, {0}};
	static const struct request rq = {fields, "[FILE]",
		"Shows a policy (default: the one in force): its purposes, record classes and parties."};
	scoped(policy_freep) struct policy *p = NULL;
	scoped(json_decrefp) json_t *params = NULL, *j = NULL;
	const char *file;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	file = json_string_value(json_object_get(params, "file"));
	r = file ? load(file, &p) : load_in_force(t, &p);
	if (r != EXIT_OK)
		return r;
	j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", p->name, "version", p->version, "hash",
		p->text_hash, "purposes", purposes_json(p), "classes", classes_json(p), "parties",
		parties_json(p));
	if (!j)
		return fail(EXIT_FAILED, "out of memory");
	return t->json ? print_json(j) : print_policy(p, j);
}
