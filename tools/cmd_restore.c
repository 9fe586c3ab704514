/* restore: a file or tree into the running installation, by the client's worker; or a whole installation, by copying. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "tools/backup_dir.h"
#include "tools/commands.h"
#include "tools/recovery.h"
#include "tools/request.h"

/* ---- a file or a tree ---- */

static int client_id(struct tool *t, const char *client, char **ret)
{
	json_auto_t *answer = NULL;
	const json_t *row;
	size_t i;
	int r = tool_call(t, DAEMON_KEYD, "ClientList", NULL, NULL, 0, &answer);

	if (r != EXIT_OK)
		return r;
	json_array_foreach(json_object_get(answer, "clients"), i, row)
	{
		const char *name = json_string_value(json_object_get(row, "client"));

		if (name && strcmp(name, client) == 0)
			*ret = strdup(json_string_value(json_object_get(row, "client_id")));
	}
	return *ret ? EXIT_OK : fail(EXIT_NOT_FOUND, "there is no client %s; `coffer client list` shows them", client);
}

static int open_copy(struct tool *t, const char *backup, const char *client, int *ret)
{
	scoped(freep) char *id = NULL, *path = NULL;
	int r = client_id(t, client, &id);

	if (r != EXIT_OK)
		return r;
	if (asprintf(&path, "%s/store/%s", backup, id) < 0)
		return fail(EXIT_FAILED, "out of memory");
	*ret = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret < 0 ? fail(EXIT_NOT_FOUND, "%s has nothing of %s: %s", backup, client, strerror(errno)) : EXIT_OK;
}

static const char *reason_of(const json_t *row)
{
	const char *why = json_string_value(json_object_get(row, "why"));

	if (why && strcmp(why, "destroyed") == 0)
		return "its key of then is destroyed";
	if (why && strcmp(why, "damaged") == 0)
		return "damaged in the backup";
	return strerror((int)json_integer_value(json_object_get(row, "errno")));
}

static void say_lost(const json_t *list)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)list, i, row)
	{
		const char *path = json_string_value(json_object_get(row, "path"));
		const char *word = json_string_value(json_object_get(row, "word"));

		say("not brought back: %s: %s%s%s%s", path ? path : "(its name does not open, or not for you)", reason_of(row),
			word && *word ? " (" : "", word ? word : "", word && *word ? ")" : "");
	}
}

/* *ret_lost: all rows; *ret: the last answer. */
static int follow(struct tool *t, json_int_t id, json_t *lost, json_t **ret)
{
	for (;;) {
		json_auto_t *answer = NULL;
		const char *state;
		int r = tool_call(t, DAEMON_KEYD, "RestoreNext", json_pack("{s:I}", "restore", id), NULL, 0, &answer);

		if (r != EXIT_OK)
			return r;
		json_array_extend(lost, json_object_get(answer, "lost"));
		if (!t->json)
			say_lost(json_object_get(answer, "lost"));
		state = json_string_value(json_object_get(answer, "state"));
		if (!state || strcmp(state, "running") != 0) {
			*ret = take_ptr(&answer);
			return EXIT_OK;
		}
	}
}

static int say_restored(struct tool *t, const json_t *answer, const json_t *lost)
{
	const json_t *counts = json_object_get(answer, "counts");
	const char *target = json_string_value(json_object_get(answer, "target"));
	json_int_t n = json_integer_value(json_object_get(counts, "lost"));
	int r;

	if (t->json) {
		json_auto_t *o = json_pack("{s:s, s:O, s:O}", "target", target, "counts", counts, "lost", lost);

		r = print_json(o);
	} else {
		r = say("%lld files in %lld directories, %lld bytes%s%s", json_integer_value(json_object_get(counts, "files")),
			json_integer_value(json_object_get(counts, "directories")),
			json_integer_value(json_object_get(counts, "bytes")), *target ? ", as " : "", target);
	}
	if (r == EXIT_OK && n > 0)
		return fail(EXIT_DAMAGED, "%lld of them could not be brought back", n);
	return r;
}

static char *without_slashes(const char *path)
{
	char *s = strdup(path + strspn(path, "/"));

	for (size_t n = s ? strlen(s) : 0; n > 0 && s[n - 1] == '/'; n--)
		s[n - 1] = '\0';
	return s;
}

static int restore_path(struct tool *t, const char *backup, const json_t *params)
{
	const char *client = json_string_value(json_object_get(params, "client"));
	const char *path = json_string_value(json_object_get(params, "path"));
	const char *to = json_string_value(json_object_get(params, "to"));
	json_auto_t *begun = NULL, *answer = NULL, *lost = json_array();
	scoped(freep) char *from = without_slashes(path ? path : ""), *target = to ? without_slashes(to) : NULL;
	scoped(close_fdp) int copy = -1;
	int r = open_copy(t, backup, client, &copy);

	if (r == EXIT_OK)
		r = tool_call(t, DAEMON_KEYD, "Restore",
			json_pack("{s:s, s:s, s:s*}", "client", client, "path", from, "to", target), &copy, 1, &begun);
	if (r == EXIT_OK)
		r = follow(t, json_integer_value(json_object_get(begun, "restore")), lost, &answer);
	return r == EXIT_OK ? say_restored(t, answer, lost) : r;
}

/* ---- all of it ---- */

static int copy_slot(const char *slot, const char *to)
{
	scoped(freep) char *keyd = NULL, *from = strdup(slot), *probe = NULL;
	char *name;

	for (size_t n = strlen(from); n > 1 && from[n - 1] == '/'; n--)
		from[n - 1] = '\0';
	name = strrchr(from, '/');
	if (asprintf(&probe, "%s/root.slot", from) < 0 || asprintf(&keyd, "%s/keyd", to) < 0)
		return fail(EXIT_FAILED, "out of memory");
	if (access(probe, R_OK) < 0 || !name || strcmp(name + 1, "slot") != 0)
		return fail(EXIT_USAGE, "%s: this is no folder `slot` with a root.slot", slot);
	*name = '\0';
	return backup_copy_part(*from ? from : "/", keyd, "slot", true);
}

static void pair_freep(struct recovery_pair **p)
{
	secret_free(*p);
}

static void root_freep(struct root_key **p)
{
	secret_free(*p);
}

struct opener { /* what makes a new slot; all NULL: nothing does */
	struct recovery_pair *pair;
	struct root_key *root;
	uint64_t generation;
};

static void opener_done(struct opener *o)
{
	root_freep(&o->root);
	pair_freep(&o->pair);
	secret_done();
}

/* Before anything is copied: a wrong key is told at once. */
static int prepare_opener(const json_t *params, struct opener *o)
{
	const char *key = json_string_value(json_object_get(params, "key"));
	const char *copy = json_string_value(json_object_get(params, "copy"));
	const json_t *fd = json_object_get(params, "fd");
	int r;

	if (!key && !copy)
		return EXIT_OK;
	if (!key || !copy || json_object_get(params, "slot"))
		return fail(EXIT_USAGE, "restore --all: --recovery-key FILE and --recovery-copy PATH belong together, and take the "
					"place of --slot");
	r = recovery_begin();
	if (r == EXIT_OK)
		r = recovery_read(key, fd ? (int)json_integer_value(fd) : -1, &o->pair);
	return r == EXIT_OK ? recovery_open_copy(copy, o->pair, &o->root, &o->generation) : r;
}

static int make_slot(const char *to, const struct opener *o)
{
	struct statedir d = {0};
	int r = statedir_find(to, true, &d);

	r = r < 0 ? fail(EXIT_FAILED, "%s: %s", to, strerror(-r)) : recovery_make_slot(&d, o->pair, o->root, o->generation);
	statedir_done(&d);
	return r;
}

static int restore_all(struct tool *t, const char *backup, const json_t *params)
{
	scoped(opener_done) struct opener opener = {0};
	const char *to = json_string_value(json_object_get(params, "to"));
	const char *slot = json_string_value(json_object_get(params, "slot"));
	scoped(freep) char *path = realpath(backup, NULL), *state = path ? backup_newest_beside(path) : NULL;
	int r;

	if (!to)
		return fail(EXIT_USAGE, "restore --all: name the new directory with --to");
	if (!state)
		return fail(EXIT_FAILED, "%s: %s", backup, strerror(errno));
	r = prepare_opener(params, &opener);
	if (r == EXIT_OK)
		r = backup_unpack(path, state, to);
	if (r == EXIT_OK && slot)
		r = copy_slot(slot, to);
	if (r == EXIT_OK && opener.root)
		r = make_slot(to, &opener);
	if (r != EXIT_OK)
		return r;
	if (t->json) {
		json_auto_t *o = json_pack("{s:s, s:s, s:s, s:b}", "to", to, "store_of", path, "state_of", state, "slot",
			slot || opener.root);

		return print_json(o);
	}
	r = say("%s: store of %s, keys, facts and record of %s", to, path, state);
	if (r == EXIT_OK && opener.root)
		r = say("a new slot, sealed by a key file; a lost one still opens these keys until: coffer rotate root");
	else if (r == EXIT_OK && !slot)
		r = say("the slot is missing: put it into %s/keyd/slot; without it nothing opens", to);
	return r == EXIT_OK ? say("then: coffer up --dir %s", to) : r;
}

int cmd_restore(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"from", NULL, "FROM", FIELD_TEXT, true, NULL},
		{"client", NULL, "CLIENT", FIELD_TEXT, false, NULL},
		{"path", NULL, "PATH", FIELD_TEXT, false, NULL},
		{"to", "to", "PATH", FIELD_TEXT, false, "put it there, where nothing may be yet"},
		{"all", "all", NULL, FIELD_FLAG, false, "make a whole state directory of it: --to DIR"},
		{"slot", "slot", "FOLDER", FIELD_TEXT, false, "with --all: the folder keyd/slot, kept apart"},
		{"key", "recovery-key", "FILE", FIELD_TEXT, false, "with --all, when every slot is lost: a recovery key"},
		{"copy", "recovery-copy", "PATH", FIELD_TEXT, false, "and the newest copy of the root key that is sealed to it"},
		{"fd", "passphrase-fd", "N", FIELD_NUMBER, false, "read the recovery key's passphrase from descriptor N"},
		{0},
	};
	static const struct request rq = {fields, "FROM [CLIENT [PATH]]",
		"Brings back a file or a tree (without PATH: all of the client's) from a backup into the running "
		"installation; with --all a whole installation, into a new directory.\vFROM is a backup, or a folder of "
		"them: then its newest. Nothing is overwritten: what finds its name taken gets another beside it. The "
		"client must have no open session. What was destroyed does not come back; it is listed, and the exit "
		"status is 8."};
	json_auto_t *params = NULL;
	scoped(freep) char *backup = NULL;
	bool all;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	umask(0077);
	all = json_is_true(json_object_get(params, "all"));
	if (all == (json_object_get(params, "client") != NULL))
		return fail(EXIT_USAGE, "restore: name a client, or --all");
	r = backup_find(json_string_value(json_object_get(params, "from")), &backup);
	if (r != EXIT_OK)
		return r;
	return all ? restore_all(t, backup, params) : restore_path(t, backup, params);
}
