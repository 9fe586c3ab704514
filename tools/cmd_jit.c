/* Just in time: request, approve, deny; emergencies and their reviews. */
#include <stdio.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

int cmd_request(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, true, "what for"},
		{"class", "class", "CLASS", FIELD_TEXT, false, "a record class that needs an approval of its own"},
		{"ticket", "ticket", "TICKET", FIELD_TEXT, false, "what you work on"},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why: who approves reads it"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Asks for the approval that a purpose needs.\vAn administrator or custodian, but not you, approves it; nobody "
		"does so within a day: it expires. Once approved, mount as usual."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "Request", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		say("request %lld recorded; an administrator or custodian decides: coffer approve %lld",
			json_integer_value(json_object_get(answer, "request")),
			json_integer_value(json_object_get(answer, "request")));
	json_decref(answer);
	return r;
}

int cmd_requests(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"all", "all", NULL, FIELD_FLAG, false, "decided, expired and past ones, too"},
		{0},
	};
	static const struct request rq = {
		fields, NULL, "Lists what was asked for and holds or waits: your own; all for administrators, custodians, auditors."};
	static const struct column columns[] = {
		{"request", "REQUEST", CELL_NUMBER},
		{"state", "STATE", CELL_TEXT},
		{"client", "CLIENT", CELL_TEXT},
		{"user", "USER", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"class", "CLASS", CELL_TEXT},
		{"asked_at", "ASKED", CELL_TIME},
		{"decided_by", "DECIDED BY", CELL_TEXT},
		{"valid_until", "UNTIL", CELL_TIME},
		{"reason", "REASON", CELL_WRAP},
	};

	return request_list(t, argc, argv, &rq, "RequestList", "requests", columns, ARRAY_SIZE(columns), "no requests");
}

static int decide(struct tool *t, int argc, char **argv, const struct request *rq, bool approve)
{
	json_t *params, *answer = NULL;
	char until[DATE_TEXT_MAX];
	int r;

	request_parse(t, rq, argc, argv, &params);
	json_object_set_new(params, "approve", json_boolean(approve));
	r = tool_call(t, DAEMON_KEYD, "RequestDecide", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK && approve)
		printf("approved until %s\n", date_format(json_integer_value(json_object_get(answer, "until")), until));
	else if (r == EXIT_OK)
		printf("denied; sessions ended: %lld\n", json_integer_value(json_object_get(answer, "sessions_ended")));
	json_decref(answer);
	return r;
}

int cmd_approve(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"request", NULL, "REQUEST", FIELD_NUMBER, true, NULL},
		{"note", "note", "TEXT", FIELD_TEXT, false, "it is recorded"},
		{0},
	};
	static const struct request rq = {fields, "REQUEST",
		"Approves what somebody asked for (`coffer requests` numbers it).\vNobody approves his own request."};

	return decide(t, argc, argv, &rq, true);
}

int cmd_deny(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"request", NULL, "REQUEST", FIELD_NUMBER, true, NULL},
		{"note", "note", "TEXT", FIELD_TEXT, false, "why: it is recorded"},
		{0},
	};
	static const struct request rq = {fields, "REQUEST",
		"Denies what somebody asked for, or takes an approval back.\vSessions that rest on it end within a second."};

	return decide(t, argc, argv, &rq, false);
}

int cmd_reviews(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"all", "all", NULL, FIELD_FLAG, false, "closed ones, too"}, {0}};
	static const struct request rq = {fields, NULL, "Lists what somebody else must still look at: emergencies, and changes of policy or agreement by which who made them may open more."};
	static const struct column columns[] = {
		{"review", "REVIEW", CELL_NUMBER},
		{"what", "WHAT", CELL_TEXT},
		{"client", "CLIENT", CELL_TEXT},
		{"user", "USER", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"session", "SESSION", CELL_NUMBER},
		{"opened_at", "OPENED", CELL_TIME},
		{"ended_at", "ENDED", CELL_TIME},
		{"closed_by", "REVIEWED BY", CELL_TEXT},
		{"reason", "REASON", CELL_WRAP},
		{"note", "NOTE", CELL_WRAP},
	};

	return request_list(t, argc, argv, &rq, "ReviewList", "reviews", columns, ARRAY_SIZE(columns), "nothing to review");
}

int cmd_reviews_close(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"review", NULL, "REVIEW", FIELD_NUMBER, true, NULL},
		{"note", "note", "TEXT", FIELD_TEXT, true, "what you found"},
		{0},
	};
	static const struct request rq = {
		fields, "REVIEW", "Says that an emergency or a change was looked at.\vNobody reviews what he did himself."};

	return request_say(t, argc, argv, &rq, "ReviewClose", "closed");
}
