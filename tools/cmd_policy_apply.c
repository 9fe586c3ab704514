/* policy apply, versions, diff; agreement diff: what another text would change. */
#include <stdio.h>
#include <stdlib.h>

#include "common/date.h"
#include "common/scope.h"
#include "policy/policy.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

/* The file that the member "file" names, as the member "text". */
static int put_text(json_t *params)
{
	const char *file = json_string_value(json_object_get(params, "file"));
	scoped(freep) char *text = NULL;
	struct policy_error err;
	size_t n;

	if (policy_read_file(file, &text, &n, &err) < 0)
		return fail(EXIT_USAGE, "%s: %s", file, err.text);
	if (json_object_set_new(params, "text", json_string(text)) < 0)
		return fail(EXIT_USAGE, "%s: this is not UTF-8 text", file);
	json_object_del(params, "file");
	return EXIT_OK;
}

int call_with_policy_text(
	struct tool *t, int argc, char **argv, const struct request *rq, const char *method, json_t **ret)
{
	json_t *params;
	int r;

	request_parse(t, rq, argc, argv, &params);
	r = put_text(params);
	if (r == EXIT_OK)
		return tool_call(t, DAEMON_KEYD, method, params, NULL, 0, ret);
	json_decref(params);
	return r;
}

int cmd_policy_apply(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"file", NULL, "FILE", FIELD_TEXT, true, NULL}, {0}};
	static const struct request rq = {fields, "FILE",
		"Makes a file the next version of the policy, in force from its effective date on (at once when that is past).\v"
		"Sessions that it does not allow end then. `coffer policy diff FILE` shows before what would change."};
	json_t *answer = NULL;
	char day[DATE_TEXT_MAX];
	int r;

	r = call_with_policy_text(t, argc, argv, &rq, "PolicyApply", &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		say("%s %s recorded, in force from %s; sessions ended: %lld", json_string_value(json_object_get(answer, "name")),
			json_string_value(json_object_get(answer, "version")),
			date_format(json_integer_value(json_object_get(answer, "from")), day),
			json_integer_value(json_object_get(answer, "sessions_ended")));
	if (r == EXIT_OK && !t->json)
		request_say_review(answer);
	json_decref(answer);
	return r;
}

int cmd_policy_versions(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL, "Lists the versions of the policy that were recorded."};
	static const struct column columns[] = {
		{"name", "NAME", CELL_TEXT},
		{"version", "VERSION", CELL_TEXT},
		{"in_force", "IN FORCE", CELL_FLAG},
		{"effective", "EFFECTIVE", CELL_DAY},
		{"recorded_at", "RECORDED", CELL_TIME},
		{"recorded_by", "BY", CELL_TEXT},
		{"hash", "HASH", CELL_CUT},
	};

	return request_list(t, argc, argv, &rq, "PolicyList", "versions", columns, ARRAY_SIZE(columns), "none");
}

/* Grants that would change alike are one row: a policy for 300 clients changes 300 grants in one way. */
static json_t *alike(const json_t *grants)
{
	json_t *rows = json_array(), *first, *g;
	json_auto_t *seen = json_object();
	size_t i;

	json_array_foreach((json_t *)grants, i, g)
	{
		json_auto_t *same = json_pack("[O, O, O, O, O]", json_object_get(g, "subject"), json_object_get(g, "group"),
			json_object_get(g, "purpose"), json_object_get(g, "was"), json_object_get(g, "will"));
		scoped(freep) char *key = json_dumps(same, JSON_COMPACT);

		first = key ? json_object_get(seen, key) : NULL;
		if (first) {
			json_object_set_new(first, "more", json_integer(json_integer_value(json_object_get(first, "more")) + 1));
			continue;
		}
		first = json_copy(g);
		json_array_append_new(rows, first);
		if (key)
			json_object_set(seen, key, first);
	}
	json_array_foreach(rows, i, g)
	{
		json_int_t more = json_integer_value(json_object_get(g, "more"));

		json_object_set_new(g, "count", json_integer(more + 1));
		if (more)
			json_object_set_new(g, "client",
				json_sprintf("%s and %lld more", json_string_value(json_object_get(g, "client")), (long long)more));
	}
	return rows;
}

static int print_diff(const json_t *answer)
{
	static const struct column rules[] = {
		{"kind", "RULE", CELL_TEXT},
		{"id", "OF", CELL_TEXT},
		{"key", "KEY", CELL_TEXT},
		{"was", "IS", CELL_WRAP},
		{"will", "WOULD BE", CELL_WRAP},
	};
	static const struct column grants[] = {
		{"count", "GRANTS", CELL_NUMBER},
		{"client", "OF", CELL_TEXT},
		{"subject", "WHO", CELL_TEXT},
		{"group", "GROUP", CELL_FLAG},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"was", "GIVES", CELL_WRAP},
		{"will", "WOULD GIVE", CELL_WRAP},
	};
	static const struct column sessions[] = {
		{"session", "SESSION", CELL_NUMBER},
		{"client", "CLIENT", CELL_TEXT},
		{"user", "USER", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"why", "WOULD END", CELL_WRAP},
	};
	json_auto_t *rows = alike(json_object_get(answer, "grants"));
	json_int_t left_out = json_integer_value(json_object_get(answer, "left_out"));
	int r = table_print(json_object_get(answer, "rules"), rules, ARRAY_SIZE(rules), "no rule changes");

	putchar('\n');
	if (r == EXIT_OK)
		r = table_print(rows, grants, ARRAY_SIZE(grants), "no grant gives more or less");
	putchar('\n');
	if (r == EXIT_OK)
		r = table_print(json_object_get(answer, "sessions"), sessions, ARRAY_SIZE(sessions), "no session ends");
	if (left_out)
		printf("\nand %lld rows more\n", left_out);
	return r;
}

static int diff(struct tool *t, int argc, char **argv, const struct request *rq, const char *method)
{
	json_t *answer = NULL;
	int r;

	r = call_with_policy_text(t, argc, argv, rq, method, &answer);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer) : print_diff(answer);
	json_decref(answer);
	return r;
}

int cmd_policy_diff(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"file", NULL, "FILE", FIELD_TEXT, true, NULL}, {0}};
	static const struct request rq = {fields, "FILE",
		"Shows what another policy would change against the one in force: rules, grants that would give more or less, "
		"sessions that would end.\vTickets are not known: a grant that needs one is compared up to there."};

	return diff(t, argc, argv, &rq, "PolicyDiff");
}

int cmd_agreement_diff(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT FILE",
		"Shows what an agreement would change for a client against what holds now: rules, grants, sessions."};

	return diff(t, argc, argv, &rq, "AgreementDiff");
}
