/* log archive: months of the record that are over, in files of their own. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/request.h"
#include "tools/table.h"

#define LOOK_EVERY_MS 200
#define MONTHS_MAX 1200 /* a hundred years */

static int show_list(struct tool *t)
{
	static const struct column columns[] = {
		{"name", "MONTH", CELL_TEXT},
		{"from", "FIRST", CELL_TIME},
		{"to", "LAST", CELL_TIME},
		{"first", "RECORD", CELL_NUMBER},
		{"last", "TO", CELL_NUMBER},
		{"bytes", "BYTES", CELL_NUMBER},
		{"state", "STATE", CELL_WRAP},
	};
	json_auto_t *answer = NULL;
	json_t *rows, *row;
	size_t i;
	int r = tool_call(t, DAEMON_FSD, "Archives", NULL, NULL, 0, &answer);

	if (r != EXIT_OK)
		return r;
	rows = json_object_get(answer, "rows");
	if (t->json)
		return print_json(rows);
	json_array_foreach(rows, i, row)
	{
		const json_t *end = json_object_get(row, "destroyed");
		char when[DATE_TEXT_MAX];

		json_object_set(row, "first", json_array_get(json_object_get(row, "records"), 0));
		json_object_set(row, "last", json_array_get(json_object_get(row, "records"), 1));
		if (json_is_object(end))
			json_object_set_new(row, "state",
				json_sprintf("destroyed %s: %s", date_format(json_integer_value(json_object_get(end, "time")), when),
					json_string_value(json_object_get(end, "why"))));
		else
			json_object_set_new(row, "state",
				json_string(json_is_null(json_object_get(row, "bytes")) ? "MISSING" : "there"));
	}
	return table_print(rows, columns, ARRAY_SIZE(columns), "no month is archived");
}

static void wait_a_little(void)
{
	const struct timespec ts = {.tv_nsec = LOOK_EVERY_MS * 1000000L};

	nanosleep(&ts, NULL);
}

/* Asked until coffer-fsd has made it and coffer-keyd has signed it.  *ret_state: as keyd says it. */
static int one_month(struct tool *t, struct progress *p, json_t **ret)
{
	for (;;) {
		json_auto_t *answer = NULL;
		const char *state;
		int r = tool_call(t, DAEMON_KEYD, "LedgerArchive", NULL, NULL, 0, &answer);

		if (r != EXIT_OK)
			return r;
		state = json_string_value(json_object_get(answer, "state"));
		if (state && strcmp(state, "failed") == 0)
			return fail(EXIT_FAILED, "the month could not be archived: %s; it stays in the ledger",
				json_string_value(json_object_get(answer, "error")));
		if (!state || strcmp(state, "making") != 0) {
			*ret = take_ptr(&answer);
			return EXIT_OK;
		}
		progress_show(p, 0, 0, "a month is being archived");
		wait_a_little();
	}
}

static int archive_all(struct tool *t)
{
	json_auto_t *done = json_array();
	struct progress p;
	int r = EXIT_OK;

	progress_begin(&p, t->json);
	for (int i = 0; i < MONTHS_MAX; i++) {
		json_auto_t *answer = NULL;
		const json_t *records;

		r = one_month(t, &p, &answer);
		if (r != EXIT_OK || strcmp(json_string_value(json_object_get(answer, "state")), "archived") != 0)
			break;
		records = json_object_get(answer, "records");
		if (!t->json)
			say("%s: records %lld to %lld are in an archive", json_string_value(json_object_get(answer, "name")),
				(long long)json_integer_value(json_array_get(records, 0)),
				(long long)json_integer_value(json_array_get(records, 1)));
		json_object_del(answer, "state");
		json_array_append(done, answer);
	}
	progress_clear(&p);
	if (r != EXIT_OK)
		return r;
	if (t->json)
		return print_json(done);
	return json_array_size(done) ? EXIT_OK : say("no month is over that is not in an archive");
}

int cmd_log_archive(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"list", "list", NULL, FIELD_FLAG, false, "show which there are, and which were destroyed by retention"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Moves each month of the record that is over into a signed, compressed file of its own.\v`log`, `report` and `log "
		"verify` read archives as if nothing had moved. It also happens by itself, when the policy says (`record: archive`)."};
	json_t *params;
	bool list;

	request_parse(t, &rq, argc, argv, &params);
	list = json_is_true(json_object_get(params, "list"));
	json_decref(params);
	return list ? show_list(t) : archive_all(t);
}
