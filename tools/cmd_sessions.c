/* sessions; session end. */
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

int cmd_sessions(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"ended", "ended", NULL, FIELD_FLAG, false, "those that ended, newest first, and why"},
		{"client", "client", "CLIENT", FIELD_TEXT, false, "with --ended: of this client only"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Lists open sessions: your own; all of them for administrators, custodians and auditors."};
	static const struct column ended[] = {
		{"session", "SESSION", CELL_NUMBER},
		{"client", "CLIENT", CELL_TEXT},
		{"user", "USER", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"since", "SINCE", CELL_TIME},
		{"ended_at", "ENDED", CELL_TIME},
		{"end_reason", "WHY", CELL_WRAP},
	};
	static const struct column columns[] = {
		{"session", "SESSION", CELL_NUMBER},
		{"client", "CLIENT", CELL_TEXT},
		{"user", "USER", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"ticket", "TICKET", CELL_TEXT},
		{"rights", "RIGHTS", CELL_TEXT},
		{"export", "EXPORT", CELL_TEXT},
		{"since", "SINCE", CELL_TIME},
		{"until", "UNTIL", CELL_TIME},
		{"mountpoint", "MOUNTED AT", CELL_WRAP},
		{"state", "STATE", CELL_TEXT},
	};
	json_t *params, *answer = NULL;
	bool over;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	over = json_is_true(json_object_get(params, "ended"));
	r = tool_call(t, DAEMON_KEYD, "Sessions", params, NULL, 0, &answer);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer)
			    : table_print(json_object_get(answer, "sessions"), over ? ended : columns,
				      over ? ARRAY_SIZE(ended) : ARRAY_SIZE(columns),
				      over ? "no session has ended"
					   : "no sessions; `coffer sessions --ended` says why those that were ended");
	json_decref(answer);
	return r;
}

int cmd_session_end(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"session", NULL, "SESSION", FIELD_NUMBER, true, NULL},
		{"reason", "reason", "TEXT", FIELD_TEXT, false, "why: it is recorded"},
		{0},
	};
	static const struct request rq = {
		fields, "SESSION", "Ends a session: your own, or as administrator any."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "SessionEnd", params, NULL, 0, &answer);
	if (r == EXIT_OK)
		puts(t->json ? "{}" : "ended");
	json_decref(answer);
	return r;
}
