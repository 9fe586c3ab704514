#include "tools/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/scope.h"
#include "tools/progress.h"
#include "tools/table.h"

struct parse {
	struct tool *tool;
	const struct request *rq;
	json_t *params;
	unsigned positional;
};

#define ASK_EVERY_NS 50000000
#define KEY_FIRST 256 /* options without a short letter */

static void put(struct argp_state *state, const struct field *f, const char *text)
{
	struct parse *p = state->input;
	char *end;
	long long number;

	switch (f->kind) {
	case FIELD_FLAG:
		json_object_set_new(p->params, f->key, json_true());
		return;
	case FIELD_DATE:
		if (put_date(p->params, f->key, f->option ? f->option : f->arg, text) != EXIT_OK)
			exit(EXIT_USAGE);
		return;
	case FIELD_NUMBER:
		errno = 0;
		number = strtoll(text, &end, 10);
		if (errno || end == text || *end || number < 0)
			exit(fail(
				EXIT_USAGE, "%s: %s is not a number", f->option ? f->option : f->arg, text));
		json_object_set_new(p->params, f->key, json_integer(number));
		return;
	case FIELD_TEXT:
		if (json_object_set_new(p->params, f->key, json_string(text)) < 0)
			exit(fail(EXIT_USAGE, "%s: this is not UTF-8 text", f->option ? f->option : f->arg));
		return;
	}
}

static const struct field *positional(const struct request *rq, unsigned n)
{
	for (const struct field *f = rq->fields; f->key; f++)
		if (!f->option && n-- == 0)
			return f;
	return NULL;
}

static void check_required(struct argp_state *state)
{
	struct parse *p = state->input;

	for (const struct field *f = p->rq->fields; f->key; f++)
		if (f->required && !json_object_get(p->params, f->key))
			argp_error(state, "%s%s is missing", f->option ? "--" : "",
				f->option ? f->option : f->arg);
}

static error_t parse_one(int key, char *arg, struct argp_state *state)
{
	struct parse *p = state->input;
	const struct field *f;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = p->tool;
		return 0;
	case ARGP_KEY_ARG:
		f = positional(p->rq, p->positional++);
		if (!f)
			argp_error(state, "%s is too much", arg);
		else
			put(state, f, arg);
		return 0;
	case ARGP_KEY_END:
		check_required(state);
		return 0;
	}
	if (key < KEY_FIRST || key >= KEY_FIRST + FIELDS_MAX)
		return ARGP_ERR_UNKNOWN;
	put(state, &p->rq->fields[key - KEY_FIRST], arg);
	return 0;
}

void request_parse(struct tool *t, const struct request *rq, int argc, char **argv, json_t **ret)
{
	struct argp_option options[FIELDS_MAX + 1] = {0};
	struct argp argp = {options, parse_one, rq->args, rq->doc, tool_children, NULL, NULL};
	struct parse p = {.tool = t, .rq = rq, .params = json_object()};
	size_t n = 0;

	for (size_t i = 0; rq->fields[i].key && i < FIELDS_MAX; i++) {
		const struct field *f = &rq->fields[i];

		if (f->option)
			options[n++] =
				(struct argp_option){f->option, KEY_FIRST + (int)i, f->arg, 0, f->doc, 0};
	}
	argp_parse(&argp, argc, argv, 0, NULL, &p);
	*ret = p.params;
}

bool request_say_confirm(const json_t *answer)
{
	if (!json_is_true(json_object_get(answer, "confirm")))
		return false;
	say("nothing is destroyed yet: %s asked for it, and another custodian confirms it by the same command with --confirm, within seven days",
		json_string_value(json_object_get(answer, "asked_by")));
	return true;
}

void request_say_review(const json_t *answer)
{
	json_int_t review = json_integer_value(json_object_get(answer, "review"));

	if (review)
		say("you may do more by this yourself: another person must look at it (review %lld, `coffer reviews`)", (long long)review);
}

int request_say(struct tool *t, int argc, char **argv, const struct request *rq, const char *method, const char *said)
{
	json_t *params, *answer = NULL, *ended;
	int r;

	request_parse(t, rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, method, params, NULL, 0, &answer);
	ended = json_object_get(answer, "sessions_ended");
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK && ended)
		printf("%s; sessions ended: %lld\n", said, json_integer_value(ended));
	else if (r == EXIT_OK)
		puts(said);
	json_decref(answer);
	return r;
}

int request_list(struct tool *t, int argc, char **argv, const struct request *rq, const char *method, const char *member,
	const struct column *columns, size_t n, const char *none)
{
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, method, params, NULL, 0, &answer);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer) : table_print(json_object_get(answer, member), columns, n, none);
	json_decref(answer);
	return r;
}

/* What a job says of it; a job that goes through files need not. */
static void show_how_far(struct progress *p, const json_t *counts)
{
	const json_t *files = json_object_get(counts, "files"), *of = json_object_get(counts, "of");
	json_int_t records = json_integer_value(json_object_get(counts, "records"));
	char seen[64] = "";

	if (of) {
		progress_show(p, (uint64_t)records, (uint64_t)json_integer_value(of), "reading the record: %lld of %lld",
			(long long)records, (long long)json_integer_value(of));
		return;
	}
	if (files)
		snprintf(seen, sizeof(seen), ", %lld files", (long long)json_integer_value(files));
	progress_show(p, 0, 0, "going through the store: %.0f s%s", progress_seconds(p), seen);
}

int request_run_job(struct tool *t, const char *method, json_t *params, json_t **ret)
{
	const struct timespec wait = {.tv_nsec = ASK_EVERY_NS};
	json_auto_t *begun = NULL;
	json_t *answer = NULL;
	struct progress progress;
	int r;

	progress_begin(&progress, t->json);
	r = tool_call(t, DAEMON_KEYD, method, params, NULL, 0, &begun);

	while (r == EXIT_OK) {
		const char *state;

		r = tool_call(t, DAEMON_KEYD, "Job", json_pack("{s:O}", "job", json_object_get(begun, "job")),
			NULL, 0, &answer);
		state = json_string_value(json_object_get(answer, "state"));
		if (r == EXIT_OK && state && strcmp(state, "done") == 0)
			break;
		if (r == EXIT_OK)
			show_how_far(&progress, json_object_get(answer, "counts"));
		json_decref(answer);
		answer = NULL;
		if (r == EXIT_OK)
			nanosleep(&wait, NULL);
	}
	progress_clear(&progress);
	if (r == EXIT_OK)
		*ret = answer;
	return r;
}
