/* Who may: grant, revoke, access, shares, why. */
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "policy/policy.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

DEFINE_SCOPED(struct policy *, policy_free)

#define SUBJECT_FIELDS                                                                                       \
	{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},                                                  \
		{"subject", NULL, "USER", FIELD_TEXT, true, NULL},                                           \
	{                                                                                                    \
		"is_group", "group", NULL, FIELD_FLAG, false, "USER is the name of a group"                  \
	}

/* The methods take the subject as member "user" or "group". */
static void name_subject(json_t *params)
{
	json_object_set(params, json_is_true(json_object_get(params, "is_group")) ? "group" : "user",
		json_object_get(params, "subject"));
	json_object_del(params, "subject");
	json_object_del(params, "is_group");
}

int cmd_grant(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		SUBJECT_FIELDS,
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, true,
			"what for; `coffer policy show` lists the purposes"},
		{"rights", "rights", "r|rw", FIELD_TEXT, true, "read, or read and write"},
		{"from", "from", "DATE", FIELD_DATE, false, "valid from (default: now)"},
		{"until", "until", "DATE", FIELD_DATE, false, "valid until"},
		{"party", "party", "PARTY", FIELD_TEXT, false,
			"employee (default), provider, partner or affiliate"},
		{"reference", "reference", "TEXT", FIELD_TEXT, false,
			"the order or request a provider acts on"},
		{"organisation", "organisation", "NAME", FIELD_TEXT, false, "whose people they are, for other parties than employees"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT USER",
		"Lets a user, or with --group a group, open a client's share for one purpose."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	name_subject(params);
	r = tool_call(t, DAEMON_KEYD, "Grant", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		printf("grant %lld recorded\n", json_integer_value(json_object_get(answer, "grant")));
	json_decref(answer);
	return r;
}

/* Of one client; adds up. */
static int revoke_one(struct tool *t, const char *client, const json_t *params, json_int_t *revoked, json_int_t *ended)
{
	json_auto_t *answer = NULL;
	int r = tool_call(t, DAEMON_KEYD, "Revoke",
		json_pack("{s:s, s:O, s:O*}", "client", client, "user", json_object_get(params, "of"), "purpose",
			json_object_get(params, "purpose")),
		NULL, 0, &answer);

	*revoked += json_integer_value(json_object_get(answer, "revoked"));
	*ended += json_integer_value(json_object_get(answer, "sessions_ended"));
	return r;
}

static json_t *keys_of(json_t *object)
{
	json_t *list = json_array(), *v;
	const char *key;

	json_object_foreach(object, key, v)
		json_array_append_new(list, json_string(key));
	return list;
}

/* Who leaves: his own grants of every client, and which groups still let him in.  Steals params. */
static int revoke_all(struct tool *t, json_t *stolen)
{
	json_auto_t *params = stolen, *answer = NULL, *done = json_object(), *groups = json_object();
	const char *user = json_string_value(json_object_get(params, "of")), *name;
	const char *purpose = json_string_value(json_object_get(params, "purpose"));
	json_int_t revoked = 0, ended = 0;
	json_t *g;
	size_t i;
	int r;

	if (json_object_get(params, "client") || json_object_get(params, "is_group"))
		return fail(EXIT_USAGE, "revoke: --user stands alone: it is about all clients; of a group name each client");
	r = tool_call(t, DAEMON_KEYD, "Access", json_pack("{s:s}", "user", user), NULL, 0, &answer);
	json_array_foreach(json_object_get(answer, "grants"), i, g)
	{
		const char *client = json_string_value(json_object_get(g, "client"));
		const char *subject = json_string_value(json_object_get(g, "subject"));

		if (purpose && strcmp(json_string_value(json_object_get(g, "purpose")), purpose) != 0)
			continue;
		if (json_is_true(json_object_get(g, "group")))
			json_object_set_new(groups, subject, json_true());
		else if (r == EXIT_OK && strcmp(subject, user) == 0 && !json_object_get(done, client)) {
			r = revoke_one(t, client, params, &revoked, &ended);
			json_object_set_new(done, client, json_true());
		}
	}
	if (r != EXIT_OK)
		return r;
	if (revoked == 0)
		r = fail(EXIT_NOT_FOUND, "%s has no grants of his own that you see (admins see all); nothing was taken back", user);
	if (t->json && r == EXIT_OK) {
		json_auto_t *said = json_pack("{s:I, s:I, s:I, s:o}", "revoked", revoked, "clients",
			(json_int_t)json_object_size(done), "sessions_ended", ended, "groups", keys_of(groups));

		return print_json(said);
	}
	if (r == EXIT_OK)
		say("grants revoked: %lld, of %zu clients; sessions ended: %lld", (long long)revoked, json_object_size(done),
			(long long)ended);
	json_object_foreach(groups, name, g)
		say("the group %s still lets him in: take him out of it", name);
	return r;
}

int cmd_revoke(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL},
		{"subject", NULL, "USER", FIELD_TEXT, false, NULL},
		{"is_group", "group", NULL, FIELD_FLAG, false, "USER is the name of a group"},
		{"of", "user", "USER", FIELD_TEXT, false, "instead of CLIENT USER: what he was granted of all clients"},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, false,
			"only the grants for this purpose (default: all)"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT USER\n--user=USER",
		"Takes back the grants of a user or group for a client, or of a user for all clients.\vSessions that rest on them end "
		"within a second, open files and mappings included. What a user may as a member of a group stays and is named: take "
		"him out of the group."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	if (json_object_get(params, "of"))
		return revoke_all(t, params);
	if (!json_object_get(params, "subject")) {
		json_decref(params);
		return fail(EXIT_USAGE, "revoke: name CLIENT and USER, or --user USER for all clients");
	}
	name_subject(params);
	r = tool_call(t, DAEMON_KEYD, "Revoke", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		printf("grants revoked: %lld; sessions ended: %lld\n",
			json_integer_value(json_object_get(answer, "revoked")),
			json_integer_value(json_object_get(answer, "sessions_ended")));
	json_decref(answer);
	return r;
}

/* As getfacl(1) prints the root of a shared mount: a grant covers the purposes below its own. */
static int print_acl(struct tool *t, const json_t *grants, const char *purpose)
{
	scoped(json_decrefp) json_t *answer = NULL;
	scoped(policy_freep) struct policy *p = NULL;
	const struct policy_purpose *used;
	struct policy_error err;
	const char *text;
	json_t *g;
	size_t i;
	int r = tool_call(t, DAEMON_KEYD, "PolicyText", NULL, NULL, 0, &answer);

	if (r != EXIT_OK)
		return r;
	text = json_string_value(json_object_get(answer, "text"));
	if (!text || policy_load_text(text, strlen(text), &p, &err) < 0)
		return fail(EXIT_FAILED, "coffer-keyd has a policy that this program cannot read");
	used = policy_purpose(p, purpose);
	if (!used)
		return fail(EXIT_NOT_FOUND, "the policy %s knows no purpose %s", p->name, purpose);
	puts("user::---\ngroup::---");
	json_array_foreach(grants, i, g)
	{
		const char *rights = json_string_value(json_object_get(g, "rights"));

		if (policy_covers(p, json_string_value(json_object_get(g, "purpose")), used))
			say("%s:%s:r%sx", json_is_true(json_object_get(g, "group")) ? "group" : "user",
				json_string_value(json_object_get(g, "subject")),
				strcmp(rights, "rw") == 0 && used->rights == RIGHTS_RW ? "w" : "-");
	}
	puts("other::---");
	return EXIT_OK;
}

int cmd_access(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL},
		{"user", "user", "USER", FIELD_TEXT, false, "only what this user may"},
		{"at", "at", "DATE", FIELD_DATE, false, "who had access then (default: now)"},
		{"acl", "acl", "PURPOSE", FIELD_TEXT, false, "as the ACL that a shared mount for this purpose shows"},
		{0},
	};
	static const struct request rq = {
		fields, "[CLIENT]", "Lists who may open a client's share, for which purpose and how long."};
	static const struct column columns[] = {
		{"grant", "GRANT", CELL_NUMBER},
		{"client", "CLIENT", CELL_TEXT},
		{"subject", "WHO", CELL_TEXT},
		{"group", "GROUP", CELL_FLAG},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"rights", "RIGHTS", CELL_TEXT},
		{"party", "PARTY", CELL_TEXT},
		{"from", "FROM", CELL_DAY},
		{"until", "UNTIL", CELL_TIME},
		{"granted_by", "BY", CELL_TEXT},
		{"reference", "REFERENCE", CELL_WRAP},
	};
	scoped(json_decrefp) json_t *acl = NULL;
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	acl = json_incref(json_object_get(params, "acl"));
	json_object_del(params, "acl");
	if (!json_object_get(params, "client") && !json_object_get(params, "user")) {
		json_decref(params);
		return fail(EXIT_USAGE, "access: name a CLIENT or --user USER");
	}
	r = tool_call(t, DAEMON_KEYD, "Access", params, NULL, 0, &answer);
	if (r == EXIT_OK && acl)
		r = print_acl(t, json_object_get(answer, "grants"), json_string_value(acl));
	else if (r == EXIT_OK)
		r = t->json ? print_json(answer)
			    : table_print(json_object_get(answer, "grants"), columns, ARRAY_SIZE(columns),
				      "nobody");
	json_decref(answer);
	return r;
}

int cmd_shares(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {
		fields, NULL, "Lists the shares that you may mount, and for which purposes."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"name", "NAME", CELL_WRAP},
		{"state", "STATE", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"title", "TITLE", CELL_WRAP},
		{"rights", "RIGHTS", CELL_TEXT},
		{"until", "UNTIL", CELL_TIME},
		{"ticket_required", "TICKET", CELL_FLAG},
		{"export", "EXPORT", CELL_TEXT},
	};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "Shares", params, NULL, 0, &answer);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer)
			    : table_print(json_object_get(answer, "shares"), columns, ARRAY_SIZE(columns),
				      "nothing: ask an administrator for a grant");
	json_decref(answer);
	return r;
}

static void print_why(const json_t *answer)
{
	static const struct column columns[] = {
		{"mark", "", CELL_TEXT},
		{"rule", "STEP", CELL_TEXT},
		{"text", "FOUND", CELL_WRAP},
		{"source", "RESTS ON", CELL_WRAP},
	};
	json_t *steps = json_object_get(answer, "steps"), *step;
	const char *message = json_string_value(json_object_get(answer, "message"));
	const char *remedy = json_string_value(json_object_get(answer, "remedy"));
	size_t i;

	json_array_foreach(steps, i, step) json_object_set_new(
		step, "mark", json_string(json_is_true(json_object_get(step, "passed")) ? "ok" : "NO"));
	table_print(steps, columns, ARRAY_SIZE(columns), NULL);
	putchar('\n');
	say("%s%s%s%s%s", json_string_value(json_object_get(answer, "verdict")),
		message && *message ? ": " : "", message ? message : "", remedy && *remedy ? "; " : "",
		remedy ? remedy : "");
}

/* Of a path it is the record class that decides. */
static int put_class(struct tool *t, json_t *params)
{
	json_t *path = json_object_get(params, "path");
	json_auto_t *answer = NULL;
	int r;

	if (!path)
		return EXIT_OK;
	r = request_run_job(
		t, "ClassShow", json_pack("{s:O, s:O}", "client", json_object_get(params, "client"), "path", path), &answer);
	if (r == EXIT_OK)
		json_object_set(params, "class", json_object_get(answer, "class"));
	json_object_del(params, "path");
	return r;
}

int cmd_why(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"user", NULL, "USER", FIELD_TEXT, true, NULL},
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, true, "what for"},
		{"ticket", "ticket", "TICKET", FIELD_TEXT, false, "as it would be given to mount"},
		{"path", "path", "PATH", FIELD_TEXT, false, "whether such a session opens this file of the share"},
		{"at", "at", "DATE", FIELD_DATE, false, "as it would have been decided then"},
		{0},
	};
	static const struct request rq = {fields, "USER CLIENT",
		"Walks through the decision whether a user may open a client for a purpose, with the heading "
		"of the policy each step rests on."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = put_class(t, params);
	if (r != EXIT_OK) {
		json_decref(params);
		return r;
	}
	r = tool_call(t, DAEMON_KEYD, "Why", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		print_why(answer);
	json_decref(answer);
	return r;
}
