/* Retention: holds, forecast, the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

int cmd_hold_place(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"matter", "matter", "TEXT", FIELD_TEXT, true, "the case it belongs to"},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why"},
		{"class", "class", "CLASS", FIELD_TEXT, false, "only on this record class"},
		{"path", "path", "PATH", FIELD_TEXT, false, "only on this file or directory of the share"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Places a hold: while there is one, nothing of the client is destroyed, or nothing of the class, or not "
		"what PATH names.\vA file stays on hold under each name that it is given, and when a program saves it anew; a "
		"directory under each name, with what is in it. What is moved out of the directory is not on hold any more."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = json_object_get(params, "path")
		    ? request_run_job(t, "HoldPlace", params, &answer)
		    : tool_call(t, DAEMON_KEYD, "HoldPlace", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		printf("hold %lld placed\n", json_integer_value(json_object_get(answer, "hold")));
	json_decref(answer);
	return r;
}

int cmd_hold_lift(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"hold", NULL, "HOLD", FIELD_NUMBER, true, NULL},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why"},
		{0},
	};
	static const struct request rq = {fields, "HOLD",
		"Lifts a hold (`coffer hold list` numbers them).\vWhat is overdue is given notice of "
		"once the last one is lifted, and waits anew."};

	return request_say(t, argc, argv, &rq, "HoldLift", "lifted");
}

/* "client", "class billing", "file 9f/a3..." (where it stood in the store: names are the client's) */
static json_t *what_text(const json_t *row)
{
	const char *what = json_string_value(json_object_get(row, "on_what"));
	const char *class = json_string_value(json_object_get(row, "class"));
	const char *store = json_string_value(json_object_get(row, "store"));

	return json_sprintf("%s%s%s", what ? what : "", class || store ? " " : "", class ? class : store ? store : "");
}

int cmd_hold_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL},
		{0},
	};
	static const struct request rq = {fields, "[CLIENT]", "Lists the holds, lifted ones too."};
	static const struct column columns[] = {
		{"hold", "HOLD", CELL_NUMBER},
		{"client", "CLIENT", CELL_TEXT},
		{"what", "ON", CELL_WRAP},
		{"matter", "MATTER", CELL_WRAP},
		{"reason", "REASON", CELL_WRAP},
		{"placed_by", "BY", CELL_TEXT},
		{"placed_at", "SINCE", CELL_DAY},
		{"lifted_by", "LIFTED BY", CELL_TEXT},
		{"lifted_at", "LIFTED", CELL_DAY},
	};

	json_auto_t *answer = NULL;
	json_t *params, *row;
	size_t i;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "HoldList", params, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	json_array_foreach(json_object_get(answer, "holds"), i, row)
	{
		json_object_set_new(row, "what", what_text(row));
	}
	return table_print(json_object_get(answer, "holds"), columns, ARRAY_SIZE(columns), "no holds");
}

/* "1 (case 17), 3 (audit)" */
static json_t *holds_text(const json_t *holds)
{
	scoped(freep) char *text = NULL;
	size_t n = 0, i;
	FILE *f = open_memstream(&text, &n);
	const json_t *h;

	if (!f)
		return json_null();
	json_array_foreach(holds, i, h)
	{
		const char *matter = json_string_value(json_object_get(h, "matter"));

		fprintf(f, "%s%lld (%s)", i ? ", " : "", json_integer_value(json_object_get(h, "hold")),
			matter ? matter : "");
	}
	fclose(f);
	return json_string(text);
}

int cmd_forecast(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL},
		{0},
	};
	static const struct request rq = {fields, "[CLIENT]",
		"Shows the retention calendar: what will be destroyed when, and by which rule.\vA client as a whole goes by the class that "
		"is kept longest; what of a class is due before has a row of its own, as it was seen last night."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"of", "OF", CELL_TEXT},
		{"class", "CLASS", CELL_TEXT},
		{"state", "STATE", CELL_TEXT},
		{"due", "DESTROY ON", CELL_DAY},
		{"rule", "RULE", CELL_WRAP},
		{"event_on", "COUNTED FROM", CELL_DAY},
		{"held_by", "HELD BY", CELL_WRAP},
		{"source", "RESTS ON", CELL_WRAP},
	};
	json_auto_t *answer = NULL;
	json_t *params, *row;
	size_t i;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "RetentionForecast", params, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	json_array_foreach(json_object_get(answer, "forecast"), i, row)
	{
		json_object_set_new(row, "held_by", holds_text(json_object_get(row, "holds")));
	}
	return table_print(json_object_get(answer, "forecast"), columns, ARRAY_SIZE(columns), "no clients");
}

int cmd_clock_confirm(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Confirms that the clock is right after it jumped (`coffer status` says so).\vUntil then "
		"nothing is destroyed."};

	return request_say(t, argc, argv, &rq, "ClockConfirm", "confirmed; what is due takes its next step now");
}
