/* coffer help: what there is to do, by role; one task with its commands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/commands.h"
#include "tools/help_topics.h"
#include "tools/request.h"

static int list(void)
{
	const char *role = "";

	puts("coffer help TASK, where TASK is one of:");
	for (const struct help_topic *h = help_topics; h->role; h++) {
		if (strcmp(role, h->role) != 0)
			printf("\n  for the %s\n", h->role);
		role = h->role;
		printf("    %-10s %s\n", h->task, h->title);
	}
	puts("\n`coffer --help` lists the commands, `coffer COMMAND --help` explains one; the manual is coffer(1).");
	return EXIT_OK;
}

static int list_json(void)
{
	json_t *rows = json_array();
	int r;

	for (const struct help_topic *h = help_topics; h->role; h++)
		json_array_append_new(rows,
			json_pack("{s:s, s:s, s:s, s:s}", "role", h->role, "task", h->task, "title", h->title, "text", h->text));
	r = print_json(rows);
	json_decref(rows);
	return r;
}

static int show(const char *task)
{
	for (const struct help_topic *h = help_topics; h->role; h++) {
		if (strcmp(h->task, task) != 0)
			continue;
		printf("%s (%s)\n\n%s", h->title, h->role, h->text);
		return EXIT_OK;
	}
	return fail(EXIT_NOT_FOUND, "there is no task \"%s\"; `coffer help` lists them; of a command: coffer COMMAND --help", task);
}

int cmd_help(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"task", NULL, "TASK", FIELD_TEXT, false, NULL},
		{0},
	};
	static const struct request rq = {
		fields, "[TASK]", "What there is to do, by role; with TASK, the commands for it in their order."};
	json_t *params;
	const char *task;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	task = json_string_value(json_object_get(params, "task"));
	r = task ? show(task) : t->json ? list_json() : list();
	json_decref(params);
	return r;
}
