/* transfer, adopt: a client goes to another installation: a folder with its ciphertext, a list of that, and a bundle that only
 * the successor opens. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/date.h"
#include "common/ids.h"
#include "common/scope.h"
#include "tools/backup_dir.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/progress.h"
#include "tools/tree_copy.h"

#define BUNDLE "BUNDLE.json"

int cmd_transfer_key(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Prints the key to which another installation seals a client that it hands over to this one."};
	json_auto_t *params = NULL, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "TransferKey", NULL, NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	return say("%s", json_string_value(json_object_get(answer, "transfer_key")));
}

/* ---- ours to another ---- */

static int find_client(struct tool *t, const char *client, json_t **ret)
{
	json_auto_t *answer = NULL;
	json_t *row;
	size_t i;
	int r = tool_call(t, DAEMON_KEYD, "ClientList", NULL, NULL, 0, &answer);

	if (r != EXIT_OK)
		return r;
	json_array_foreach(json_object_get(answer, "clients"), i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "client")), client) == 0)
			*ret = json_incref(row);
	}
	return *ret ? EXIT_OK : fail(EXIT_NOT_FOUND, "there is no client %s; `coffer client list` shows them", client);
}

/* out/store/<id> and out/FILES; *ret: what the inventory says of them. */
static int copy_out(struct tool *t, const char *id, const char *out, json_t **ret)
{
	scoped(freep) char *from = NULL, *to = NULL, *list = NULL;
	struct progress progress;
	struct tree_copy c = {.progress = &progress};
	json_t *row = NULL;
	int r;

	if (asprintf(&from, "%s/store", t->dir.root) < 0 || asprintf(&to, "%s/store", out) < 0 ||
		asprintf(&list, "%s/" BACKUP_FILES, out) < 0)
		return fail(EXIT_FAILED, "out of memory");
	if (faccessat(AT_FDCWD, from, R_OK | X_OK, AT_EACCESS) < 0 && errno == EACCES)
		return fail(EXIT_REFUSED, "%s is closed to you: its owner hands the ciphertext over by this command; --finish and --confirm are for custodians",
			from);
	if (mkdir(out, 0700) < 0 || mkdir(to, 0700) < 0)
		return fail(EXIT_USAGE, "%s: %s; name a directory that is not there yet", out, strerror(errno));
	c.list = fopen(list, "wxe");
	if (!c.list)
		return fail(EXIT_FAILED, "%s: %s", list, strerror(errno));
	progress_begin(&progress, t->json);
	r = tree_copy(&c, from, to, id);
	progress_clear(&progress);
	if (fclose(c.list) != 0 && r == 0)
		r = -EIO;
	if (r == 0)
		r = backup_hash_file(out, BACKUP_FILES, &row);
	if (r < 0)
		r = fail(EXIT_FAILED, "%s/%s: %s", from, c.failed ? c.failed : id, strerror(-r));
	else
		*ret = json_pack("{s:I, s:I, s:o}", "files", (json_int_t)c.files, "bytes", (json_int_t)c.bytes, "list", row);
	tree_copy_done(&c);
	return r;
}

static int write_bundle(const char *out, const json_t *bundle)
{
	scoped(freep) char *path = NULL;

	if (asprintf(&path, "%s/" BUNDLE, out) < 0 || json_dump_file(bundle, path, JSON_INDENT(2) | JSON_SORT_KEYS) < 0)
		return fail(EXIT_FAILED, "%s: the bundle cannot be written", out);
	sync();
	return EXIT_OK;
}

static int hand_over(struct tool *t, const char *client, const char *to, const char *out)
{
	json_auto_t *row = NULL, *store = NULL, *bundle = NULL;
	const char *state;
	int r = find_client(t, client, &row);

	if (r != EXIT_OK)
		return r;
	state = json_string_value(json_object_get(row, "state"));
	if (strcmp(state, "active") == 0)
		return fail(EXIT_REFUSED, "%s is in use: coffer suspend %s --reason ..., so that all of it is handed over", client,
			client);
	r = copy_out(t, json_string_value(json_object_get(row, "client_id")), out, &store);
	if (r == EXIT_OK)
		r = tool_call(t, DAEMON_KEYD, "Transfer",
			json_pack("{s:s, s:s, s:O}", "client", client, "to", to, "store", store), NULL, 0, &bundle);
	if (r != EXIT_OK)
		return r;
	r = write_bundle(out, bundle);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(json_object_get(bundle, "inventory")) : r;
	return say("%s: hand it over whole; there: coffer adopt. When the successor has it: coffer transfer %s --finish", out,
		client);
}

/* The successor has it: ours goes, by two pairs of hands. */
static int finish(struct tool *t, const char *client, bool confirm)
{
	json_auto_t *answer = NULL;
	const char *to;
	int r = tool_call(t, DAEMON_KEYD, "TransferFinish", json_pack("{s:s, s:b}", "client", client, "confirm", confirm), NULL, 0,
		&answer);

	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	to = json_string_value(json_object_get(answer, "to"));
	if (json_is_true(json_object_get(answer, "destroyed")))
		return say("our keys of %s are destroyed, transferred to %s: coffer certificate %s", client, to, client);
	if (json_is_true(json_object_get(answer, "confirm")))
		return say("%s says that the successor has %s; our keys are destroyed when another custodian confirms it: coffer transfer %s --confirm",
			json_string_value(json_object_get(answer, "asked_by")), client, client);
	return say("our keys of %s are destroyed in the next window: coffer expiry list %s", client, client);
}

int cmd_transfer(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"to", "to", "KEY", FIELD_TEXT, false, "the successor's key, as his `coffer transfer-key` prints it"},
		{"out", "out", "DIR", FIELD_TEXT, false, "a new folder, for all that the successor needs"},
		{"finish", "finish", NULL, FIELD_FLAG, false,
			"the successor has it: the relationship ends, and our keys are destroyed, when another custodian confirms it"},
		{"confirm", "confirm", NULL, FIELD_FLAG, false, "confirm what another custodian said by --finish"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Hands a client over to another installation: its ciphertext, and its keys sealed to the successor's key.\v"
		"The client must be suspended or ended, without sessions. --finish by one custodian and --confirm by another then end the "
		"relationship here and destroy our keys at once, whatever the rules of retention say: the successor has them. A hold stops "
		"it, and so does use after the handing over. Where one user has all roles --finish is enough. --out is for the owner of "
		"the state directory, as custodian."};
	const char *client, *to, *out;
	json_auto_t *params = NULL;
	bool ends, confirm;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	client = json_string_value(json_object_get(params, "client"));
	to = json_string_value(json_object_get(params, "to"));
	out = json_string_value(json_object_get(params, "out"));
	ends = json_is_true(json_object_get(params, "finish"));
	confirm = json_is_true(json_object_get(params, "confirm"));
	if (ends || confirm ? to || out || (ends && confirm) : !to || !out)
		return fail(EXIT_USAGE, "transfer: --to with --out, or --finish, or --confirm");
	umask(0077);
	r = tool_find_dir(t, true);
	if (r != EXIT_OK)
		return r;
	return ends || confirm ? finish(t, client, confirm) : hand_over(t, client, to, out);
}

/* ---- another's to us ---- */

static int is_key(const uint8_t *key, const void *wanted)
{
	return memcmp(key, wanted, PUBLIC_KEY_BYTES);
}

static int check_folder(const char *from, const json_t *bundle, const struct public_key *sender)
{
	json_auto_t *wrong = json_array();
	const json_t *inventory = json_object_get(bundle, "inventory");
	const char *hex = json_string_value(json_object_get(bundle, "public_key"));
	scoped(public_key_done) struct public_key key = {0};

	if (!json_is_object(inventory) || !hex || !public_key_parse(hex, NULL, &key))
		return fail(EXIT_DAMAGED, "%s: this is no bundle", from);
	if (!public_key_any(sender, json_string_value(json_object_get(inventory, "made_at")), is_key, key.b))
		return fail(EXIT_DAMAGED, "%s: it was signed by another key than the one you named", from);
	backup_check_store(from, json_object_get(json_object_get(inventory, "store"), "list"), wrong);
	if (json_array_size(wrong) > 0)
		return fail(EXIT_DAMAGED, "%s: %s: %s", from,
			json_string_value(json_object_get(json_array_get(wrong, 0), "path")),
			json_string_value(json_object_get(json_array_get(wrong, 0), "what")));
	return EXIT_OK;
}

static int take_over(struct tool *t, const char *from, const json_t *bundle)
{
	scoped(freep) char *source = NULL, *store = NULL, *folder = NULL;
	const json_t *inventory = json_object_get(bundle, "inventory");
	const char *id = json_string_value(json_object_get(inventory, "client_id"));
	const char *client = json_string_value(json_object_get(inventory, "client"));
	json_auto_t *answer = NULL;
	int r;

	if (!id || !client || strlen(id) != 2 * CLIENT_ID_BYTES || strspn(id, "0123456789abcdef") != strlen(id))
		return fail(EXIT_DAMAGED, "%s: this is no bundle", from);
	if (asprintf(&source, "%s/store", from) < 0 || asprintf(&store, "%s/store", t->dir.root) < 0 ||
		asprintf(&folder, "%s/%s", store, id) < 0)
		return fail(EXIT_FAILED, "out of memory");
	if (access(folder, F_OK) == 0)
		return fail(EXIT_USAGE, "%s is there already", folder);
	r = backup_copy_part(source, store, id, true);
	if (r == EXIT_OK)
		r = tool_call(t, DAEMON_KEYD, "Adopt", json_deep_copy(bundle), NULL, 0, &answer);
	if (r != EXIT_OK) {
		(void)remove_tree(folder);
		return r;
	}
	if (t->json)
		return print_json(answer);
	return say("%s is here; nobody has a grant yet. Now: coffer fsck %s, and tell whom it came from", client, client);
}

int cmd_adopt(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"from", NULL, "DIR", FIELD_TEXT, true, NULL},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, true, "whose it is: that installation's `coffer public-key`"},
		{0},
	};
	static const struct request rq = {fields, "DIR",
		"Takes over a client that another installation handed over by `coffer transfer --out DIR`.\vFor the owner of "
		"the state directory, as custodian. Grants and the record stay with the other."};
	scoped(freep) char *path = NULL;
	json_auto_t *params = NULL, *bundle = NULL;
	scoped(public_key_done) struct public_key sender = {0};
	json_error_t err;
	const char *from;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	from = json_string_value(json_object_get(params, "from"));
	r = tool_find_dir(t, true);
	if (r == EXIT_OK)
		r = public_key_read(json_string_value(json_object_get(params, "pubkey")), &sender);
	if (r != EXIT_OK)
		return r;
	if (asprintf(&path, "%s/" BUNDLE, from) < 0)
		return fail(EXIT_FAILED, "out of memory");
	bundle = json_load_file(path, JSON_REJECT_DUPLICATES, &err);
	if (!bundle)
		return fail(EXIT_USAGE, "%s: %s", path, err.text);
	umask(0077);
	r = check_folder(from, bundle, &sender);
	return r == EXIT_OK ? take_over(t, from, bundle) : r;
}
