/* The terms of a client: engagements, consents, agreements. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "tools/backup_dir.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

/* ---- engagements ---- */

int cmd_engagement_begin(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"service", NULL, "SERVICE", FIELD_TEXT, true, NULL},
		{"from", "from", "DATE", FIELD_DATE, false, "valid from (default: now)"},
		{"until", "until", "DATE", FIELD_DATE, false, "valid until"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT SERVICE",
		"Records that a client has engaged the firm for a service line of the policy (\"*\": for all).\vPurposes that "
		"belong to a service line are open only while there is such an engagement."};

	return request_say(t, argc, argv, &rq, "EngagementBegin", "recorded");
}

int cmd_engagement_end(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"service", NULL, "SERVICE", FIELD_TEXT, true, NULL},
		{"on", "on", "DATE", FIELD_DATE, false, "the day it ends (default: now)"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT SERVICE",
		"Ends an engagement; sessions that rest on it end within a second."};

	return request_say(t, argc, argv, &rq, "EngagementEnd", "ended");
}

int cmd_engagement_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL}, {0}};
	static const struct request rq = {fields, "[CLIENT]", "Lists the engagements of a client, or of all."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"service", "SERVICE", CELL_TEXT},
		{"from", "FROM", CELL_DAY},
		{"until", "UNTIL", CELL_TIME},
		{"recorded_by", "BY", CELL_TEXT},
		{"ended_by", "ENDED BY", CELL_TEXT},
	};

	return request_list(
		t, argc, argv, &rq, "EngagementList", "engagements", columns, ARRAY_SIZE(columns), "no engagements");
}

/* ---- consents ---- */

/* The document stays where it is: its hash is what is recorded. */
static int put_evidence(json_t *params)
{
	const char *file = json_string_value(json_object_get(params, "evidence"));
	scoped(freep) char *path = realpath(file, NULL);
	scoped(json_decrefp) json_t *row = NULL;

	if (!path || backup_hash_file("/", path + 1, &row) < 0)
		return fail(EXIT_USAGE, "%s: the document cannot be read: name the file that shows the consent", file);
	json_object_set_new(params, "document", json_string(strrchr(path, '/') + 1));
	json_object_set(params, "evidence", json_object_get(row, "hash"));
	return EXIT_OK;
}

int cmd_consent_give(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"scope", "scope", "PURPOSE", FIELD_TEXT, true, "what for: a purpose, or a node above some"},
		{"recipient", "recipient", "NAME", FIELD_TEXT, false, "with whom it may be shared (default: only ourselves)"},
		{"reason", "reason", "TEXT", FIELD_TEXT, false, "why it is shared, as the client was told"},
		{"giver", "giver", "NAME", FIELD_TEXT, false, "who consented (default: the client)"},
		{"evidence", "evidence", "FILE", FIELD_TEXT, true, "the document that shows it; its hash is recorded"},
		{"from", "from", "DATE", FIELD_DATE, false, "valid from (default: now)"},
		{"until", "until", "DATE", FIELD_DATE, false, "valid until"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Records a client's consent.\vPurposes that rest on consent are open only while there is one that covers them."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = put_evidence(params);
	if (r != EXIT_OK) {
		json_decref(params);
		return r;
	}
	r = tool_call(t, DAEMON_KEYD, "ConsentGive", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		printf("consent %lld recorded\n", json_integer_value(json_object_get(answer, "consent")));
	json_decref(answer);
	return r;
}

int cmd_consent_withdraw(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"consent", NULL, "CONSENT", FIELD_NUMBER, true, NULL},
		{"reason", "reason", "TEXT", FIELD_TEXT, false, "what the client said"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT CONSENT",
		"Records that a consent is withdrawn (`coffer consent list` numbers them).\vSessions that rest on it end within "
		"a second; others go on."};

	return request_say(t, argc, argv, &rq, "ConsentWithdraw", "withdrawn");
}

int cmd_consent_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL}, {0}};
	static const struct request rq = {fields, "[CLIENT]", "Lists the consents of a client, or of all, withdrawn ones too."};
	static const struct column columns[] = {
		{"consent", "CONSENT", CELL_NUMBER},
		{"client", "CLIENT", CELL_TEXT},
		{"scope", "SCOPE", CELL_TEXT},
		{"recipient", "RECIPIENT", CELL_WRAP},
		{"giver", "GIVEN BY", CELL_WRAP},
		{"from", "FROM", CELL_DAY},
		{"until", "UNTIL", CELL_DAY},
		{"withdrawn_at", "WITHDRAWN", CELL_TIME},
		{"reason", "REASON", CELL_WRAP},
		{"document", "DOCUMENT", CELL_WRAP},
	};

	return request_list(t, argc, argv, &rq, "ConsentList", "consents", columns, ARRAY_SIZE(columns), "no consents");
}

/* ---- agreements ---- */

int cmd_agreement_set(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT FILE",
		"Records what a client's contract says otherwise than the policy.\vIt replaces the agreement before it from its "
		"effective date on; doc/POLICY.md describes the file."};
	json_t *answer = NULL;
	char day[DATE_TEXT_MAX];
	int r;

	r = call_with_policy_text(t, argc, argv, &rq, "AgreementSet", &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		printf("agreement recorded, in force from %s; sessions ended: %lld\n",
			date_format_day(json_integer_value(json_object_get(answer, "effective")), day),
			json_integer_value(json_object_get(answer, "sessions_ended")));
	if (r == EXIT_OK && !t->json)
		request_say_review(answer);
	json_decref(answer);
	return r;
}

int cmd_agreement_end(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why: it is recorded"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT", "Ends the agreement with a client: the policy alone holds again."};

	return request_say(t, argc, argv, &rq, "AgreementEnd", "ended");
}

static int print_agreements(struct tool *t, const json_t *rows)
{
	static const struct column columns[] = {
		{"agreement", "AGREEMENT", CELL_NUMBER},
		{"name", "NAME", CELL_WRAP},
		{"version", "VERSION", CELL_TEXT},
		{"effective", "FROM", CELL_DAY},
		{"until", "UNTIL", CELL_DAY},
		{"recorded_at", "RECORDED", CELL_TIME},
		{"recorded_by", "BY", CELL_TEXT},
		{"ended_at", "ENDED", CELL_TIME},
	};
	const json_t *last = json_array_get(rows, json_array_size(rows) - 1);
	int r = table_print(rows, columns, ARRAY_SIZE(columns), "no agreement: the policy alone holds");
	const char *text = json_string_value(json_object_get(last, "text"));

	if (r != EXIT_OK || !text)
		return r;
	putchar('\n');
	for (const char *end; *text; text = *end ? end + 1 : end) { /* line by line, so that nothing forges one */
		end = text + strcspn(text, "\n");
		say("%.*s", (int)(end - text), text);
	}
	return EXIT_OK;
}

int cmd_agreement_show(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL}, {0}};
	static const struct request rq = {
		fields, "CLIENT", "Lists the agreements with a client, and the text of the one recorded last."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "AgreementList", params, NULL, 0, &answer);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer) : print_agreements(t, json_object_get(answer, "agreements"));
	json_decref(answer);
	return r;
}
