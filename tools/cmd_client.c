/* Clients: add, list, end, suspend, resume. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

static void split_services(json_t *params)
{
	const char *text = json_string_value(json_object_get(params, "services"));
	json_t *list = text ? json_array() : NULL;

	for (const char *at = text; at; at = *at ? at + 1 : NULL) {
		size_t n = strcspn(at, ",");

		json_array_append_new(list, json_stringn(at, n));
		at += n;
	}
	if (list)
		json_object_set_new(params, "services", list);
}

int cmd_client_add(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"name", "name", "NAME", FIELD_TEXT, true, "the client's full name"},
		{"email", "email", "ADDRESS", FIELD_TEXT, true, "address of record, for notices"},
		{"services", "services", "SERVICE,...", FIELD_TEXT, false,
			"service lines that the client has engaged the firm for (default: all)"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Adds a client and makes its keys.\vCLIENT is the short name that all commands use: "
		"a-z, 0-9, dot, dash and underscore, beginning with a letter or digit."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	split_services(params);
	json_incref(params);
	r = tool_call(t, DAEMON_KEYD, "ClientAdd", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		say("client %s added; its store is %s/store/%s",
			json_string_value(json_object_get(params, "client")), t->dir.root,
			json_string_value(json_object_get(answer, "client_id")));
	json_decref(params);
	json_decref(answer);
	return r;
}

static void keep_clients(json_t *rows, const char *wanted)
{
	static const char *const keys[] = {"client", "name", "email"};

	for (size_t i = json_array_size(rows); i-- > 0;) {
		bool fits = false;

		for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
			const char *text = json_string_value(json_object_get(json_array_get(rows, i), keys[k]));

			fits = fits || (text && strcasestr(text, wanted));
		}
		if (!fits)
			json_array_remove(rows, i);
	}
}

int cmd_client_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"wanted", NULL, "TEXT", FIELD_TEXT, false, NULL},
		{0},
	};
	static const struct request rq = {fields, "[TEXT]",
		"Lists the clients: all of them for administrators, else those you have grants for.\vWith TEXT those in whose "
		"short name, name or address it stands, in capitals or not."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"name", "NAME", CELL_WRAP},
		{"state", "STATE", CELL_TEXT},
		{"ended_on", "ENDED", CELL_DAY},
		{"destroy_on", "DESTROY ON", CELL_DAY},
		{"destroyed_on", "DESTROYED", CELL_DAY},
		{"sessions", "SESSIONS", CELL_NUMBER},
		{"email", "ADDRESS", CELL_WRAP},
	};
	json_auto_t *params = NULL;
	json_t *answer = NULL;
	const char *wanted;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	wanted = json_string_value(json_object_get(params, "wanted"));
	r = tool_call(t, DAEMON_KEYD, "ClientList", NULL, NULL, 0, &answer);
	if (r == EXIT_OK && wanted)
		keep_clients(json_object_get(answer, "clients"), wanted);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer)
			    : table_print(json_object_get(answer, "clients"), columns, ARRAY_SIZE(columns),
				      wanted ? "no client that you may see is called so" : "no clients");
	json_decref(answer);
	return r;
}

int cmd_client_end(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"on", "on", "DATE", FIELD_DATE, true, "the day the relationship ends"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Records when the relationship with a client ends.\vThe retention rules of the policy count "
		"from that day; when the "
		"last has run out, the client's keys are destroyed."};
	char day[DATE_TEXT_MAX];
	json_t *params, *answer = NULL;
	int64_t due;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "ClientEnd", params, NULL, 0, &answer);
	due = json_integer_value(json_object_get(answer, "destroy_on"));
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK && due)
		printf("recorded; the keys will be destroyed on %s\n", date_format_day(due, day));
	else if (r == EXIT_OK)
		puts("recorded");
	json_decref(answer);
	return r;
}

static int suspend_or_resume(
	struct tool *t, int argc, char **argv, const char *method, const char *doc, const char *said)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL},
		{"user", "user", "USER", FIELD_TEXT, false, "a user instead of a client"},
		{"all", "all", NULL, FIELD_FLAG, false, "all use of all clients"},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why: it is recorded"},
		{0},
	};
	const struct request rq = {fields, "[CLIENT]", doc};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	if (json_object_get(params, "user") && !getpwnam(json_string_value(json_object_get(params, "user"))))
		fail(EXIT_OK, "mind: this host knows no user %s; is that how the name is written?",
			json_string_value(json_object_get(params, "user"))); /* one that is gone may come back: done all the same */
	r = tool_call(t, DAEMON_KEYD, method, params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK && strcmp(method, "Resume") == 0)
		puts(said);
	else if (r == EXIT_OK)
		printf("%s; sessions ended: %lld\n", said,
			json_integer_value(json_object_get(answer, "sessions_ended")));
	json_decref(answer);
	return r;
}

int cmd_suspend(struct tool *t, int argc, char **argv)
{
	return suspend_or_resume(t, argc, argv, "Suspend",
		"Suspends the use of a client's data, of a user, or of all.\vTheir sessions end within a second; nothing is "
		"lost; the record until then is closed with a signed head.",
		"suspended");
}

int cmd_resume(struct tool *t, int argc, char **argv)
{
	return suspend_or_resume(t, argc, argv, "Resume", "Lifts the suspension of a client, of a user, or of all.", "resumed");
}
