/* coffer doctor: is this installation as it should be, and if not, how to mend it. */
#include "tools/doctor.h"

#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

const char *doctor_verdict_name(enum doctor_verdict v)
{
	static const char *const names[] = {"ok", "mind", "WRONG", "unseen"};

	return names[v];
}

void doctor_find(struct doctor *d, const char *check, enum doctor_verdict v, const char *fmt, ...)
{
	scoped(freep) char *text = NULL;
	char *remedy = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	remedy = strchr(text, '\n');
	if (remedy)
		*remedy++ = '\0';
	d->count[v]++;
	json_array_append_new(d->findings,
		json_pack("{s:s, s:s, s:s, s:s?, s:b}", "check", check, "verdict", doctor_verdict_name(v), "text", text,
			"remedy", remedy, "attention", v == DOCTOR_WRONG));
}

/* ---- people ---- */

static bool is_member(const struct group *g, const char *user)
{
	for (char **m = g->gr_mem; *m; m++)
		if (strcmp(*m, user) == 0)
			return true;
	return false;
}

/* Nobody should be able to decide who may enter and to remove what tells of it, or to destroy alone. */
static void check_two_roles(struct doctor *d, const char *one, const char *other)
{
	scoped(freep) char *both = NULL;
	struct group *g = getgrnam(one);
	char **members = NULL;
	size_t n = 0;

	for (char **m = g ? g->gr_mem : NULL; m && *m; m++) {
		char **more = realloc(members, (n + 1) * sizeof(*members));

		if (!more)
			break;
		members = more;
		members[n++] = strdup(*m); /* the next look-up takes the buffer away */
	}
	g = getgrnam(other);
	for (size_t i = 0; i < n; i++) {
		if (g && members[i] && !both && is_member(g, members[i]))
			both = strdup(members[i]);
		free(members[i]);
	}
	free(members);
	if (both)
		doctor_find(d, "roles", DOCTOR_MIND, "%s is in %s and in %s: his acts are not checked by another person\n"
			"gpasswd -d %s %s", both, one, other, both, other);
}

void doctor_check_people(struct doctor *d)
{
	static const char *const groups[] = {"coffer-admin", "coffer-custodian", "coffer-auditor"};
	unsigned before = d->count[DOCTOR_MIND] + d->count[DOCTOR_WRONG];

	if (!d->installed) {
		doctor_find(d, "roles", DOCTOR_MIND,
			"%s is a directory of one's own: its owner has all roles, nobody checks his acts\ninstall Coffer for "
			"separated roles (state in " STATEDIR_DEFAULT ")",
			d->tool->dir.root);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		struct group *g = getgrnam(groups[i]);

		if (!g)
			doctor_find(d, "roles", DOCTOR_WRONG, "there is no group %s\ngroupadd --system %s", groups[i], groups[i]);
		else if (!g->gr_mem[0])
			doctor_find(d, "roles", DOCTOR_MIND, "nobody is in %s\ngpasswd -a USER %s", groups[i], groups[i]);
	}
	check_two_roles(d, groups[0], groups[1]);
	check_two_roles(d, groups[0], groups[2]);
	check_two_roles(d, groups[1], groups[2]);
	if (d->count[DOCTOR_MIND] + d->count[DOCTOR_WRONG] == before)
		doctor_find(d, "roles", DOCTOR_OK, "each has members of its own");
}

/* ---- daemons ---- */

void doctor_check_daemons(struct doctor *d)
{
	json_t *status = NULL;
	const json_t *v;
	const char *state;
	size_t i;

	if (tool_try(d->tool, DAEMON_KEYD, "Status", NULL, &status) != EXIT_OK) {
		doctor_find(d, "daemons", DOCTOR_WRONG, "coffer-keyd does not answer\n%s",
			d->installed ? "systemctl start coffer (or: coffer up)" : "coffer up");
		return;
	}
	state = json_string_value(json_object_get(status, "fsd"));
	if (!state || strcmp(state, "running") != 0)
		doctor_find(d, "daemons", DOCTOR_WRONG, "coffer-fsd: %s\nits words are in %s/log/fsd.log", state ? state : "?",
			d->tool->dir.root);
	else
		doctor_find(d, "daemons", DOCTOR_OK, "they answer");
	state = json_string_value(json_object_get(status, "state"));
	if (state && strcmp(state, "sealed") == 0)
		doctor_find(d, "keys", DOCTOR_WRONG, "sealed: nothing can be mounted\ncoffer unseal");
	json_array_foreach(json_object_get(status, "slots"), i, v)
	{
		if (json_object_get(v, "healthy") && !json_is_true(json_object_get(v, "healthy")))
			doctor_find(d, "slot", DOCTOR_WRONG, "%s is not healthy\n`coffer status` says why",
				json_string_value(json_object_get(v, "path")));
	}
	json_array_foreach(json_object_get(status, "red"), i, v)
	{
		doctor_find(d, "status", DOCTOR_MIND, "%s", json_string_value(v));
	}
	json_array_foreach(json_object_get(status, "warnings"), i, v)
	{
		doctor_find(d, "status", DOCTOR_MIND, "%s", json_string_value(v));
	}
	json_decref(status);
}

/* ---- the command ---- */

static int print(const struct doctor *d)
{
	static const struct column columns[] = {
		{"check", "CHECK", CELL_TEXT},
		{"verdict", "VERDICT", CELL_TEXT},
		{"text", "WHAT", CELL_WRAP},
		{"remedy", "TO MEND IT", CELL_WRAP},
	};
	int r = table_print(d->findings, columns, ARRAY_SIZE(columns), NULL);

	if (r == EXIT_OK)
		r = say("%u ok, %u to mind, %u wrong, %u not visible to you", d->count[DOCTOR_OK], d->count[DOCTOR_MIND],
			d->count[DOCTOR_WRONG], d->count[DOCTOR_UNSEEN]);
	return r;
}

int cmd_doctor(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Looks whether the machine, the state directory, the groups and the daemons are as they should be, and says how to "
		"mend what is not.  Changes nothing.  Exit status 1 when something is wrong."};
	struct doctor d = {.tool = t};
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	json_decref(params);
	r = tool_find_dir(t, false);
	if (r != EXIT_OK)
		return r;
	d.installed = strcmp(t->dir.root, STATEDIR_DEFAULT) == 0;
	d.findings = json_array();
	doctor_check_machine(&d);
	doctor_check_directory(&d);
	doctor_check_people(&d);
	doctor_check_daemons(&d);
	r = t->json ? print_json(d.findings) : print(&d);
	json_decref(d.findings);
	return r != EXIT_OK ? r : d.count[DOCTOR_WRONG] > 0 ? EXIT_FAILED : EXIT_OK;
}
