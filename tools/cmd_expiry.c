/* Destructions on their way: list, cancel, hasten. */
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

static char *day_of(const json_t *answer, const char *key, char buf[DATE_TEXT_MAX])
{
	return date_format_day(json_integer_value(json_object_get(answer, key)), buf);
}

/* "2026-12-31 (ada)": what was asked for and nobody confirmed yet. */
static json_t *asked_text(const json_t *row)
{
	const json_t *asked = json_object_get(row, "asked");
	char day[DATE_TEXT_MAX];

	if (!asked)
		return json_null();
	return json_sprintf("%s (%s)", day_of(asked, "until", day), json_string_value(json_object_get(asked, "by")));
}

static json_t *class_text(const json_t *row)
{
	const char *of = json_string_value(json_object_get(row, "of"));

	return of && strcmp(of, "class") == 0 ? json_incref(json_object_get(row, "class")) : json_string("(all)");
}

/* Who is to confirm learns of it here, not by word of mouth alone. */
static int say_erasures(const json_t *rows)
{
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"asked_by", "ERASURE ASKED BY", CELL_TEXT},
		{"asked_at", "AT", CELL_TIME},
		{"reason", "REASON", CELL_WRAP},
	};

	if (json_array_size(rows) == 0)
		return EXIT_OK;
	puts("\nErasures that wait for another custodian, by the same command with --confirm, within seven days:");
	return table_print(rows, columns, ARRAY_SIZE(columns), NULL);
}

int cmd_expiry_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL}, {0}};
	static const struct request rq = {fields, "[CLIENT]",
		"Lists which destructions run, are due, wait until when, or are held.\vWith --json also all "
		"notices that were ever given."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"of_class", "CLASS", CELL_TEXT},
		{"before", "MADE BEFORE", CELL_DAY},
		{"state", "STATE", CELL_TEXT},
		{"due", "DUE", CELL_DAY},
		{"notified_at", "NOTICE", CELL_DAY},
		{"wait_until", "DESTROYED ON", CELL_DAY},
		{"asked_text", "ASKED FOR", CELL_TEXT},
		{"postponed_until", "CANCELLED UNTIL", CELL_DAY},
		{"rule", "RULE", CELL_WRAP},
	};
	scoped(json_decrefp) json_t *answer = NULL;
	json_t *params, *row;
	size_t i;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "ExpiryList", params, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	json_array_foreach(json_object_get(answer, "expiry"), i, row)
	{
		json_object_set_new(row, "asked_text", asked_text(row));
		json_object_set_new(row, "of_class", class_text(row));
	}
	r = table_print(json_object_get(answer, "expiry"), columns, ARRAY_SIZE(columns), "no clients");
	return r == EXIT_OK ? say_erasures(json_object_get(answer, "erasures")) : r;
}

static int decide(struct tool *t, int argc, char **argv, const struct request *rq, const char *method,
	const char *key, const char *before, const char *after)
{
	scoped(json_decrefp) json_t *answer = NULL;
	char day[DATE_TEXT_MAX];
	json_t *params;
	int r;

	request_parse(t, rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, method, params, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	printf("%s%s%s\n", before, day_of(answer, key, day), after);
	if (json_is_false(json_object_get(answer, "separation")))
		puts("one user holds all roles here: that two decide is not enforced");
	return EXIT_OK;
}

int cmd_expiry_cancel(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why"},
		{"class", "class", "CLASS", FIELD_TEXT, false, "of this record class, not of the client as a whole"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Cancels the destruction that waits.\vIt begins anew, with another notice, when as long as the "
		"waiting period has passed. To keep the data longer, place a hold."};

	return decide(t, argc, argv, &rq, "ExpiryCancel", "again_at", "cancelled; the next notice is not given before ",
		"");
}

int cmd_expiry_schedule(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"on", "on", "DATE", FIELD_DATE, true, "the day of the destruction"},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why"},
		{"class", "class", "CLASS", FIELD_TEXT, false, "of this record class, not of the client as a whole"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Asks for a destruction before the waiting period is over.\vAnother custodian must confirm it."};

	return decide(t, argc, argv, &rq, "ExpirySchedule", "until", "asked for ",
		"; another custodian must confirm it");
}

int cmd_expiry_confirm(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"class", "class", "CLASS", FIELD_TEXT, false, "of this record class, not of the client as a whole"},
		{0},
	};
	static const struct request rq = {
		fields, "CLIENT", "Confirms the earlier destruction that another custodian asked for."};

	return decide(t, argc, argv, &rq, "ExpiryConfirm", "until", "confirmed: it will be destroyed on ", "");
}

int cmd_expiry_run(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why it cannot wait until the window"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Destroys what has waited long enough, now and not at the next window (`destruction: at` of the policy).\vIt shortens no "
		"waiting period and lifts no hold: `coffer expiry list` shows what waits until when."};

	return request_say(t, argc, argv, &rq, "ExpiryRun", "what has waited long enough is destroyed now");
}

int cmd_event_set(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"event", NULL, "EVENT", FIELD_TEXT, true, NULL},
		{"on", NULL, "DATE", FIELD_DATE, false, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT EVENT [DATE]",
		"Records when an event of the policy happened, or will.\vGiven again, the last date counts; without "
		"one it is taken back. What was recorded before stays on record."};
	scoped(json_decrefp) json_t *answer = NULL;
	char day[DATE_TEXT_MAX];
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "EventSet", params, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	if (json_is_integer(json_object_get(answer, "destroy_on")))
		printf("recorded; it is due on %s\n", day_of(answer, "destroy_on", day));
	else
		puts("recorded; it is not due on any day yet");
	return EXIT_OK;
}

int cmd_event_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL}, {0}};
	static const struct request rq = {
		fields, "[CLIENT]", "Lists the events that were recorded, replaced ones too."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"event", "EVENT", CELL_TEXT},
		{"happens_on", "ON", CELL_DAY},
		{"recorded_by", "BY", CELL_TEXT},
		{"recorded_at", "RECORDED", CELL_DAY},
	};
	scoped(json_decrefp) json_t *answer = NULL;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "EventList", params, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	return table_print(json_object_get(answer, "events"), columns, ARRAY_SIZE(columns), "no events");
}
