/* seal, unseal, passphrase. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/passphrase.h"
#include "tools/request.h"

#define PASSPHRASE_FIELD                                                                                     \
	{                                                                                                    \
		"fd", "passphrase-fd", "N", FIELD_NUMBER, false,                                             \
			"read the passphrase from descriptor N instead of the terminal"                      \
	}

int cmd_seal(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Ends all sessions and forgets all keys.\vNothing opens until `coffer unseal`."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "Seal", params, NULL, 0, &answer);
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	else if (r == EXIT_OK)
		printf("sealed; sessions ended: %lld\n",
			json_integer_value(json_object_get(answer, "sessions_ended")));
	json_decref(answer);
	return r;
}

static int with_passphrase(struct tool *t, const char *method, int from, const char *prompt, bool confirm)
{
	scoped(close_fdp) int fd = -1;
	json_t *answer = NULL;
	int r;

	r = passphrase_ask(from, prompt, confirm, &fd);
	if (r == EXIT_OK)
		r = tool_call(t, DAEMON_KEYD, method, NULL, &fd, 1, &answer);
	json_decref(answer);
	return r;
}

/* Whether the slot asks for a passphrase, by keyd's status. */
static bool protected_by_passphrase(struct tool *t)
{
	json_t *answer = NULL, *slot;
	const char *how = NULL;

	if (tool_try(t, DAEMON_KEYD, "Status", NULL, &answer) == EXIT_OK) {
		slot = json_array_get(json_object_get(answer, "slots"), 0);
		how = json_string_value(json_object_get(slot, "protection"));
	}
	bool yes = how && strcmp(how, "passphrase") == 0;

	json_decref(answer);
	return yes;
}

int cmd_unseal(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {PASSPHRASE_FIELD, {0}};
	static const struct request rq = {
		fields, NULL, "Opens the keys again, by the key file or by the passphrase."};
	json_t *params;
	int from, r;

	request_parse(t, &rq, argc, argv, &params);
	from = json_object_get(params, "fd") ? (int)json_integer_value(json_object_get(params, "fd")) : -1;
	json_decref(params);
	if (from >= 0 || (isatty(STDIN_FILENO) && protected_by_passphrase(t)))
		r = with_passphrase(t, "Unseal", from, "Passphrase", false);
	else
		r = tool_call(t, DAEMON_KEYD, "Unseal", NULL, NULL, 0, NULL);
	if (r == EXIT_OK)
		puts(t->json ? "{}" : "unsealed");
	return r;
}

int cmd_passphrase(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {PASSPHRASE_FIELD, {0}};
	static const struct request rq = {fields, NULL,
		"Seals the root key by a passphrase from now on.\vThe key file is destroyed; whoever loses "
		"the passphrase loses every client."};
	json_t *params;
	int from, r;

	request_parse(t, &rq, argc, argv, &params);
	from = json_object_get(params, "fd") ? (int)json_integer_value(json_object_get(params, "fd")) : -1;
	json_decref(params);
	r = with_passphrase(t, "PassphraseSet", from, "New passphrase", true);
	if (r == EXIT_OK)
		puts(t->json ? "{}"
			     : "the root key is sealed by the passphrase now; what sealed it before (a key file is "
			       "destroyed) opens this slot no more.\nNot changed: the root key itself; a copy of the slot of "
			       "before still gives it, until coffer rotate root.");
	return r;
}
