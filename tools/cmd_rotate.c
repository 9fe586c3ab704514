/* rotate: keys are exchanged; each says what that changes, and what it does not. */
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/request.h"

#define NEW_BACKUP "Key states in older backups do not open any more, so make a new one now: coffer backup TO"

static int rotate(struct tool *t, const char *method, json_t *params, json_t **ret)
{
	int r = tool_call(t, DAEMON_KEYD, method, params, NULL, 0, ret);

	return r == EXIT_OK && t->json ? print_json(*ret) : r;
}

static int say_generations(const json_t *answer)
{
	return say("The root key is new: generation %lld, before %lld. Slots and recovery copies have it; the old one is "
		   "overwritten there.",
		json_integer_value(json_object_get(answer, "generation")),
		json_integer_value(json_object_get(answer, "generation_before")));
}

int cmd_rotate_root(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Makes a new root key; slots and recovery copies of before open nothing any more.\vFor custodians; sessions go on. "
		"For when a copy of the slot, a passphrase or a recovery key may have got into other hands."};
	json_auto_t *params = NULL, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = rotate(t, "RotateRoot", NULL, &answer);
	if (r != EXIT_OK || t->json)
		return r;
	(void)say_generations(answer);
	(void)say("Not changed: the keys of clients and files, the signing key, passphrases and recovery keys; no file was "
		  "written.");
	return say(NEW_BACKUP);
}

int cmd_rotate_signing(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Makes a new key that signs certificates, heads of the record and backups, and a new root key.\vFor custodians; "
		"sessions go on. The old key signs the new one and the new one the old one, so that what the old one signed until "
		"now still verifies, and nothing that it signs from now on."};
	json_auto_t *params = NULL, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = rotate(t, "RotateSigning", NULL, &answer);
	if (r != EXIT_OK || t->json)
		return r;
	(void)say("The signing key is new, and with it the key to which others hand over clients: bundles that are under way to "
		  "us must be made anew (coffer transfer-key).");
	(void)say_generations(answer);
	(void)say("Not changed: what the old key signed until now verifies as before, with the lines that coffer public-key "
		  "prints: give them to whoever keeps a copy. The keys of clients and files.");
	return say(NEW_BACKUP);
}

int cmd_rotate_client(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Seals a client's key tree under a new key, and makes a new root key.\vFor custodians; sessions go on."};
	json_auto_t *params = NULL, *answer = NULL;
	const char *client;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	client = json_string_value(json_object_get(params, "client"));
	r = rotate(t, "RotateClient", json_incref(params), &answer);
	if (r != EXIT_OK || t->json)
		return r;
	(void)say("The key that seals the key tree of %s is new.", client);
	(void)say_generations(answer);
	(void)say("Not changed: the tree itself and the keys of files in it, so no file was written anew; who had the tree itself "
		  "(a worker, a successor to whom %s was handed over) has it still. Other clients and the signing key.",
		client);
	return say(NEW_BACKUP);
}
