/* slot: where the root key lives, and what seals it there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/passphrase.h"
#include "tools/request.h"
#include "tools/table.h"

#define NEW_BACKUP "Key states in older backups do not open any more, so make a new one now: coffer backup TO"

#define SEAL_FIELDS                                                                                          \
	{"passphrase", "passphrase", NULL, FIELD_FLAG, false, "seal it by a passphrase"},                    \
		{"fd", "passphrase-fd", "N", FIELD_NUMBER, false,                                            \
			"read the passphrase from descriptor N instead of the terminal"},                    \
		{"credential", "credential", "FILE", FIELD_TEXT, false,                                      \
			"by what this file says; it is read at each start, so nobody need be there"},        \
		{"systemd", "systemd", "NAME", FIELD_TEXT, false,                                            \
			"the same, for a credential that systemd hands to coffer-keyd (LoadCredential=NAME:...)"}, \
		{"tpm", "tpm", "INDEX[@TCTI]", FIELD_TEXT, false, "by a key that lies in a TPM, at this NV index"}, \
	{"keyfile", "key-file", NULL, FIELD_FLAG, false, "by a key file beside it"}

static void take(json_t *params, const char *from, json_t *to, const char *protection, unsigned *count)
{
	json_t *v = json_object_get(params, from);

	if (!v || json_is_false(v))
		return;
	json_object_set_new(to, "protection", json_string(protection));
	if (json_is_string(v))
		json_object_set(to, "protected_by", v);
	++*count;
}

/* Moves what says how to seal into the words of the call; asks for the passphrase.  An exit code. */
static int take_seal(json_t *params, bool needed, json_t *to, int *ret_fd)
{
	const json_t *from = json_object_get(params, "fd");
	unsigned count = 0;

	if (from)
		json_object_set_new(params, "passphrase", json_true());
	take(params, "passphrase", to, "passphrase", &count);
	take(params, "credential", to, "credential", &count);
	take(params, "systemd", to, "systemd", &count);
	take(params, "tpm", to, "tpm2", &count);
	take(params, "keyfile", to, "key file", &count);
	if (count > 1 || (needed && count == 0))
		return fail(EXIT_USAGE, "coffer slot: say by what the slot is to be sealed, one of: --passphrase, --credential FILE, "
					"--systemd NAME, --tpm INDEX, --key-file");
	if (!json_object_get(params, "passphrase"))
		return EXIT_OK;
	return passphrase_ask(from ? (int)json_integer_value(from) : -1, "Passphrase of the slot", true, ret_fd);
}

static int call(struct tool *t, const char *method, json_t *params, int fd, const char *said)
{
	json_auto_t *answer = NULL;
	int r = tool_call(t, DAEMON_KEYD, method, params, fd >= 0 ? &fd : NULL, fd >= 0, &answer);

	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	(void)say("%s The root key is new (number %lld): what was sealed before opens nothing from now on.", said,
		json_integer_value(json_object_get(answer, "generation")));
	return say(NEW_BACKUP);
}

/* `call` with what seals the slot in it.  Steals to. */
static int call_sealed(struct tool *t, json_t *params, bool required, const char *method, json_t *to, const char *said)
{
	scoped(close_fdp) int fd = -1;
	int r = take_seal(params, required, to, &fd);

	if (r == EXIT_OK)
		return call(t, method, to, fd, said);
	json_decref(to);
	return r;
}

int cmd_slot_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Lists the slots: where the root key lives, what seals it there, and what its forgetting is worth."};
	static const struct column columns[] = {
		{"name", "SLOT", CELL_TEXT},
		{"kind", "KIND", CELL_TEXT},
		{"state", "STATE", CELL_TEXT},
		{"path", "PLACE", CELL_WRAP},
		{"protection", "SEALED BY", CELL_TEXT},
		{"protected_by", "FROM", CELL_WRAP},
		{"automatic", "OPENS BY ITSELF", CELL_FLAG},
		{"assurance", "FORGETS", CELL_WRAP},
	};
	json_auto_t *params = NULL, *answer = NULL;
	json_t *rows, *v;
	size_t i;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "SlotList", NULL, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	rows = json_object_get(answer, "slots");
	json_array_foreach(rows, i, v)
		json_object_set_new(v, "attention", json_boolean(!json_is_true(json_object_get(v, "healthy"))));
	r = table_print(rows, columns, ARRAY_SIZE(columns), "no slots");
	json_array_foreach(rows, i, v)
	{
		const char *text = json_string_value(json_object_get(v, "text"));

		if (text && *text)
			(void)say("%s: %s", json_string_value(json_object_get(v, "name")), text);
	}
	return r;
}

int cmd_slot_add(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"name", NULL, "NAME", FIELD_TEXT, true, NULL},
		{"where", NULL, "PLACE", FIELD_TEXT, true, NULL},
		{"kind", "kind", "KIND", FIELD_TEXT, false, "file (default): PLACE is a folder; tpm2: an NV index of a TPM"},
		SEAL_FIELDS,
		{0},
	};
	static const struct request rq = {fields, "NAME PLACE",
		"Adds a slot, so that losing one is not losing everything.\vFor custodians. PLACE is a folder on another medium (a "
		"stick, another disk), or with --kind tpm2 the NV index that is used, and INDEX+1 and INDEX+2: 0x01800100, with a "
		"TCTI behind an @ when it is not the machine's own TPM. Without an option the slot is sealed by a key file beside "
		"it. A destruction is not complete until every slot has forgotten the old root key: one that is kept apart has to "
		"be plugged in for it."};
	json_auto_t *params = NULL;
	json_t *to;

	request_parse(t, &rq, argc, argv, &params);
	to = json_pack("{s:O, s:O, s:O*}", "name", json_object_get(params, "name"), "where", json_object_get(params, "where"), "kind",
		json_object_get(params, "kind"));
	return call_sealed(t, params, false, "SlotAdd", to, "The slot is there.");
}

int cmd_slot_remove(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"name", NULL, "NAME", FIELD_TEXT, true, NULL},
		{"lost", "lost", NULL, FIELD_FLAG, false, "it cannot be overwritten: it is remembered as lost, also on certificates"},
		{0},
	};
	static const struct request rq = {fields, "NAME", "Takes a slot away: it is overwritten, and gets no root key any more."};
	json_auto_t *params = NULL;
	bool lost;

	request_parse(t, &rq, argc, argv, &params);
	lost = json_is_true(json_object_get(params, "lost"));
	return call(t, "SlotRemove", json_incref(params), -1,
		lost ? "The slot is given up; nothing waits for it any more." : "The slot is overwritten.");
}

int cmd_slot_replace(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"name", NULL, "NAME", FIELD_TEXT, true, NULL},
		{"where", NULL, "PLACE", FIELD_TEXT, false, NULL},
		SEAL_FIELDS,
		{0},
	};
	static const struct request rq = {fields, "NAME [PLACE]",
		"Makes another slot of that name, there or at another place.\vFor one that is damaged, foreign, or on a medium that is "
		"given up. What lies at its place is destroyed."};
	json_auto_t *params = NULL;
	json_t *to;

	request_parse(t, &rq, argc, argv, &params);
	to = json_pack("{s:O, s:O*}", "name", json_object_get(params, "name"), "where", json_object_get(params, "where"));
	return call_sealed(t, params, false, "SlotReplace", to, "The slot is there anew.");
}

int cmd_slot_seal(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"name", NULL, "NAME", FIELD_TEXT, false, NULL},
		SEAL_FIELDS,
		{0},
	};
	static const struct request rq = {fields, "[NAME]",
		"Seals a slot, or all of them, by something else.\vWhat sealed it before opens nothing from now on, also not a copy of "
		"the slot of before."};
	json_auto_t *params = NULL;
	json_t *to;

	request_parse(t, &rq, argc, argv, &params);
	to = json_pack("{s:O*}", "name", json_object_get(params, "name"));
	return call_sealed(t, params, true, "SlotSeal", to, "It is sealed anew.");
}
