/* stats: how much the data are used, told so that it says nothing about anybody. */
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/log_opens.h"
#include "tools/request.h"
#include "tools/table.h"

#define PERSONS_MIN 5 /* of a group that is told */

/* Groups by "<month>\n<client>\n<purpose>": {opens, persons {uid: true}}. */
static void count(const json_t *row, void *arg)
{
	json_t *groups = arg;
	const char *client = json_string_value(json_object_get(row, "client"));
	const char *purpose = json_string_value(json_object_get(row, "purpose"));
	char when[DATE_TEXT_MAX], uid[24];
	scoped(freep) char *key = NULL;
	json_t *g;

	date_format(json_integer_value(json_object_get(row, "time")), when);
	if (!client || !purpose || asprintf(&key, "%.7s\n%s\n%s", when, client, purpose) < 0)
		return;
	g = json_object_get(groups, key);
	if (!g) {
		g = json_pack("{s:i, s:{}}", "opens", 0, "persons");
		json_object_set_new(groups, key, g);
	}
	json_object_set_new(g, "opens", json_integer(json_integer_value(json_object_get(g, "opens")) + 1));
	snprintf(uid, sizeof(uid), "%lld", (long long)json_integer_value(json_object_get(row, "uid")));
	json_object_set_new(json_object_get(g, "persons"), uid, json_true());
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In order of month, client and purpose; small groups only as how many there are: what they add up to would tell, too. */
static json_t *told(json_t *groups, json_int_t persons_min, size_t *ret_small)
{
	scoped(freep) const char **keys = calloc(json_object_size(groups) + 1, sizeof(*keys));
	json_t *rows = json_array(), *g;
	const char *key;
	size_t n = 0;

	*ret_small = 0;
	if (!keys)
		return rows;
	json_object_foreach(groups, key, g)
		keys[n++] = key;
	qsort(keys, n, sizeof(*keys), compare);
	for (size_t i = 0; i < n; i++) {
		const char *client = strchr(keys[i], '\n') + 1, *purpose = strchr(client, '\n') + 1;
		size_t persons;

		g = json_object_get(groups, keys[i]);
		persons = json_object_size(json_object_get(g, "persons"));
		if ((json_int_t)persons < persons_min) {
			++*ret_small;
			continue;
		}
		json_array_append_new(rows,
			json_pack("{s:s%, s:s%, s:s, s:O, s:I}", "month", keys[i], (size_t)(client - keys[i] - 1), "client",
				client, (size_t)(purpose - client - 1), "purpose", purpose, "opens",
				json_object_get(g, "opens"), "persons", (json_int_t)persons));
	}
	return rows;
}

int cmd_stats(struct tool *t, int argc, char **argv)
{
	static const struct column columns[] = {
		{"month", "MONTH", CELL_TEXT},
		{"client", "CLIENT", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"opens", "FILES OPENED", CELL_NUMBER},
		{"persons", "PERSONS", CELL_NUMBER},
	};
	static const struct field fields[] = {
		{"client", "client", "CLIENT", FIELD_TEXT, false, "only this client"},
		{"since", "since", "DATE", FIELD_DATE, false, "from then on"},
		{"until", "until", "DATE", FIELD_DATE, false, "before then"},
		{"least", "least", "N", FIELD_NUMBER, false, "tell groups of at least N persons (5; not below 3)"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Counts how often files were opened, by month, client and purpose.\vNo users, no paths; groups of fewer than five "
		"persons are not told. For auditors."};
	json_t *params, *groups = json_object(), *rows = NULL;
	json_int_t least = PERSONS_MIN;
	size_t small = 0;
	int r = EXIT_OK;

	request_parse(t, &rq, argc, argv, &params);
	if (json_object_get(params, "least"))
		least = json_integer_value(json_object_get(params, "least"));
	json_object_del(params, "least");
	if (least < 3)
		r = fail(EXIT_USAGE, "--least: a group of fewer than 3 persons says what one of them did");
	if (r == EXIT_OK)
		r = log_opens(t, params, count, groups);
	if (r == EXIT_OK) {
		rows = told(groups, least, &small);
		if (t->json) {
			json_auto_t *answer = json_pack("{s:O, s:I, s:I}", "groups", rows, "least_persons", least,
				"suppressed", (json_int_t)small);

			r = print_json(answer);
		} else {
			r = table_print(rows, columns, ARRAY_SIZE(columns), "no group is large enough to be told");
		}
	}
	if (r == EXIT_OK && !t->json && small)
		r = say("%zu groups of fewer than %lld persons are not told", small, (long long)least);
	json_decref(rows);
	json_decref(groups);
	json_decref(params);
	return r;
}
