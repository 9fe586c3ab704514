#include "tools/log_opens.h"

#define PAGE_ROWS 5000

int log_opens(struct tool *t, json_t *params, void (*take)(const json_t *row, void *arg), void *arg)
{
	bool more = true;
	int r = EXIT_OK;

	json_object_set_new(params, "op", json_string("open"));
	json_object_set_new(params, "outcome", json_string("ok"));
	json_object_set_new(params, "limit", json_integer(PAGE_ROWS));
	while (more && r == EXIT_OK) {
		json_t *answer = NULL, *row, *next;
		size_t i;

		r = tool_call(t, DAEMON_FSD, "LogQuery", json_copy(params), NULL, 0, &answer);
		if (r == EXIT_OK && !json_is_true(json_object_get(answer, "all")))
			r = fail(EXIT_REFUSED, "only auditors see what others did");
		if (r == EXIT_OK)
			json_array_foreach(json_object_get(answer, "rows"), i, row)
				take(row, arg);
		next = json_object_get(answer, "next");
		more = json_is_string(next);
		if (more)
			json_object_set(params, "after", next);
		json_decref(answer);
	}
	return r;
}
