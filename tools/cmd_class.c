/* Record classes of files and directories, and the erasure of a file or tree. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

static json_int_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

int cmd_class_set(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"path", NULL, "PATH", FIELD_TEXT, true, NULL},
		{"class", NULL, "CLASS", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT PATH CLASS",
		"Gives a file, or a directory with all that is in it, a record class.\vPATH is the path in "
		"the share, or in the "
		"store. What is made in the directory later is of that class too. Each file's key moves; the "
		"old keys "
		"are destroyed with the next erasure, at the latest after a day. Sessions may go on."};
	json_auto_t *answer = NULL;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = request_run_job(t, "ClassSet", params, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	say("%lld of %lld files and symlinks moved to %s; %lld old keys await destruction",
		number(answer, "rewrapped"), number(answer, "files") + number(answer, "links"),
		json_string_value(json_object_get(answer, "class")), number(answer, "old_keys"));
	if (number(answer, "failed") + number(answer, "damaged") > 0)
		return fail(EXIT_FAILED, "%lld could not be moved, %lld are damaged (`coffer fsck`)",
			number(answer, "failed"), number(answer, "damaged"));
	return EXIT_OK;
}

int cmd_class_show(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"path", NULL, "PATH", FIELD_TEXT, false, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT [PATH]",
		"Shows the record class of a file or directory, and how much of which class is in it."};
	static const struct column columns[] = {
		{"class", "CLASS", CELL_TEXT},
		{"files", "FILES", CELL_NUMBER},
		{"bytes", "BYTES", CELL_NUMBER},
	};
	json_auto_t *answer = NULL;
	const char *class;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = request_run_job(t, "ClassShow", params, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	class = json_string_value(json_object_get(answer, "class"));
	say("%s%s", class ? class : "(empty: none yet)",
		json_is_true(json_object_get(answer, "labelled")) ? "" : " (not labelled itself)");
	if (number(answer, "old_keys") > 0)
		say("%lld old keys of this client await destruction", number(answer, "old_keys"));
	return table_print(
		json_object_get(answer, "classes"), columns, ARRAY_SIZE(columns), "no files with content");
}

static bool answered_yes(int *ret)
{
	char line[16] = "";

	fputs("All sessions of this client end. Type yes to go on: ", stderr);
	if (fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0)
		return true;
	*ret = fail(EXIT_REFUSED, "nothing was destroyed");
	return false;
}

/* What stood there before, and what an erasure does not reach. */
void say_versions(const json_t *counts, const char *verb)
{
	if (number(counts, "versions") > 0)
		fprintf(stderr, "%lld former versions (replaced, removed; they are in older backups) %s with it.\n",
			number(counts, "versions"), verb);
	if (number(counts, "versions_unknown") > 0)
		fprintf(stderr, "%lld more were replaced or removed whose keys the record does not tell: older backups of these open.\n",
			number(counts, "versions_unknown"));
	if (number(counts, "versions_elsewhere") > 0)
		fprintf(stderr, "What was there was renamed to %lld other names, and may be there still: `coffer log` shows them.\n",
			number(counts, "versions_elsewhere"));
	if (json_is_true(json_object_get(counts, "versions_unread")))
		fprintf(stderr, "The record is not readable: whether there were former versions cannot be told, older backups of them open.\n");
}

/* Says what would go; true: go on. */
static bool confirmed(struct tool *t, const json_t *params, int *ret)
{
	json_t *ask = json_copy((json_t *)params);
	json_auto_t *answer = NULL;
	const json_t *n;

	json_object_set_new(ask, "preview", json_true());
	json_object_del(ask, "confirm");
	*ret = request_run_job(t, "Erase", ask, &answer);
	if (*ret != EXIT_OK)
		return false;
	n = json_object_get(answer, "counts");
	fprintf(stderr,
		"The keys of %lld files, %lld directories and %lld symlinks are destroyed for good, backups "
		"included.\n",
		number(n, "files") - number(n, "empty"), number(n, "directories"), number(n, "links"));
	if (number(n, "other_names") > 0)
		fprintf(stderr,
			"They have %lld other names elsewhere (hard links): under these they die, too.\n",
			number(n, "other_names"));
	if (number(n, "damaged") > 0)
		fprintf(stderr, "%lld are damaged: which keys they have cannot be told.\n",
			number(n, "damaged"));
	say_versions(n, "would go");
	return answered_yes(ret);
}

static bool class_confirmed(const json_t *params, int *ret)
{
	const char *class = json_string_value(json_object_get(params, "class"));

	fprintf(stderr,
		"The keys of all %s made before that date are destroyed for good, backups included.\n",
		class ? class : "of that class");
	return answered_yes(ret);
}

int cmd_shred(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"path", NULL, "PATH", FIELD_TEXT, false, NULL},
		{"class", "class", "CLASS", FIELD_TEXT, false, "instead of PATH: all of this class"},
		{"before", "before", "DATE", FIELD_DATE, false,
			"... that was made before this date and is due by its rules"},
		{"reason", "reason", "TEXT", FIELD_TEXT, true, "why: it stands on the certificate"},
		{"confirm", "confirm", NULL, FIELD_FLAG, false, "another custodian asked for it, by the same command"},
		{"yes", "yes", NULL, FIELD_FLAG, false, "do not ask"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT PATH",
		"Destroys the keys of one file, or of a directory with all that is in it (custodians).\vWhat "
		"is asked for by "
		"name is gone under all its names, and from all backups. The client's sessions end. Without "
		"--yes it says "
		"before what would go. Refused while there is a hold. Where roles are separate it takes two custodians: one asks, another "
		"gives the same command with --confirm within seven days."};
	json_auto_t *answer = NULL;
	json_t *params;
	bool yes;
	int r = EXIT_OK;

	request_parse(t, &rq, argc, argv, &params);
	yes = json_is_true(json_object_get(params, "yes"));
	json_object_del(params, "yes");
	if (!yes &&
		!(json_object_get(params, "path") ? confirmed(t, params, &r) : class_confirmed(params, &r))) {
		json_decref(params);
		return r;
	}
	r = request_run_job(t, "Erase", params, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	if (request_say_confirm(answer))
		return EXIT_OK;
	say_versions(json_object_get(answer, "counts"), "are gone");
	say("%lld keys are destroyed%s", number(answer, "keys"),
		number(answer, "old_keys") > 0 ? ", and old ones that waited for it" : "");
	if (json_is_string(json_object_get(answer, "certificate")))
		return say(
			"the certificate is %s", json_string_value(json_object_get(answer, "certificate")));
	return say("the certificate follows");
}
