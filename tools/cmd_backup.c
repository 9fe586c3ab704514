/* backup: a copy of everything but the slot, while sessions run.
 *
 * In which order.  A key state lives under one root key, and each destruction makes a new one: so an old key state opens
 * nothing any more, not even of those who lost nothing.  Hence the store first, the key state after it: then each client
 * of the copied store has its keys in it; and a tree governs what is made after it as well as before.  A file that was
 * re-wrapped behind our back, with its old leaf destroyed before we came to the keys, would not open: so when the keys
 * changed meanwhile, all is done once more, which copies only what changed.  Facts just before the keys: they may know
 * less than these, as after a crash.  The ledger last: what keyd remembers of it (in the facts) must not lie beyond its
 * end; a file that was written between is then older than the record says, and `coffer fsck` says just that. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/ids.h"
#include "common/scope.h"
#include "common/sql.h"
#include "tools/backup_dir.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/request.h"
#include "tools/tree_copy.h"

#define PASSES 3
#define BUSY_MS 10000

struct backup {
	struct tool *t;
	char *to, *partial, *path, *earlier;
	struct tree_copy tree;
	struct progress progress;
	json_t *rows;
};

static void backup_done(struct backup *b)
{
	tree_copy_done(&b->tree);
	json_decref(b->rows);
	free(b->to);
	free(b->partial);
	free(b->path);
	free(b->earlier);
}

static int failed(const char *what, int r)
{
	return fail(EXIT_FAILED, "%s: %s", what, strerror(-r));
}

/* ---- parts ---- */

/* A consistent copy of a database that others write. */
static int copy_database(const char *from, const char *to)
{
	scoped(sql_closep) sqlite3 *db = NULL;
	scoped(sql_finalizep) sqlite3_stmt *st = NULL;
	int r = sql_errno(sqlite3_open_v2(from, &db, SQLITE_OPEN_READWRITE, NULL));

	if (r == 0)
		r = sql_errno(sqlite3_busy_timeout(db, BUSY_MS));
	if (r == 0)
		r = sql_prepare(db, "VACUUM INTO ?", &st);
	if (r == 0) {
		sql_bind_text(st, 1, to);
		r = sql_step(st);
	}
	return r < 0 ? failed(from, r) : EXIT_OK;
}

static int copy_state_database(struct backup *b, const char *name)
{
	scoped(freep) char *from = NULL, *to = NULL;

	if (asprintf(&from, "%s/%s", b->t->dir.root, name) < 0 || asprintf(&to, "%s/%s", b->partial, name) < 0)
		return fail(EXIT_FAILED, "out of memory");
	return copy_database(from, to);
}

/* A tree of the state directory, without a list. */
static int copy_state_tree(struct backup *b, const char *folder, const char *name)
{
	scoped(freep) char *from = NULL, *to = NULL;
	struct tree_copy c = {0};
	int r;

	if (asprintf(&from, "%s/%s", b->t->dir.root, folder) < 0 || asprintf(&to, "%s/%s", b->partial, folder) < 0)
		return fail(EXIT_FAILED, "out of memory");
	r = tree_copy(&c, from, to, name);
	if (r < 0 && r != -ENOENT)
		r = fail(EXIT_FAILED, "%s/%s: %s", from, c.failed, strerror(-r));
	tree_copy_done(&c);
	return r == -ENOENT ? EXIT_OK : r;
}

static int make_folders(struct backup *b)
{
	static const char *const folders[] = {"", "/store", "/keyd", "/ledger", "/ledger/journal"};

	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		scoped(freep) char *path = NULL;

		if (asprintf(&path, "%s%s", b->partial, folders[i]) < 0 || mkdir(path, 0700) < 0)
			return failed(b->partial, -errno);
	}
	return EXIT_OK;
}

static int is_client(const struct dirent *d)
{
	return strlen(d->d_name) == CLIENT_ID_HEX - 1 &&
	       strspn(d->d_name, "0123456789abcdef") == CLIENT_ID_HEX - 1;
}

static int is_ring(const struct dirent *d)
{
	return strncmp(d->d_name, "ring.", 5) == 0 && !strstr(d->d_name, ".tmp");
}

static int copy_clients(struct backup *b, const char *from, const char *to)
{
	struct dirent **names = NULL;
	int n = scandir(from, &names, is_client, alphasort), r = EXIT_OK;

	if (n < 0)
		return failed(from, -errno);
	for (int i = 0; i < n; i++) {
		int e = r == EXIT_OK ? tree_copy(&b->tree, from, to, names[i]->d_name) : 0;

		if (e < 0)
			r = fail(EXIT_FAILED, "%s/%s: %s", from, b->tree.failed, strerror(-e));
		free(names[i]);
	}
	free(names);
	return r;
}

static FILE *open_list(const char *folder, const char *mode)
{
	scoped(freep) char *path = NULL;

	return asprintf(&path, "%s/" BACKUP_FILES, folder) < 0 ? NULL : fopen(path, mode);
}

static int copy_store(struct backup *b)
{
	scoped(freep) char *from = NULL, *to = NULL, *earlier = NULL;
	FILE *list = open_list(b->partial, "wxe"), *old = b->earlier ? open_list(b->earlier, "re") : NULL;
	int r;

	tree_copy_done(&b->tree);
	if (!list)
		return failed(b->partial, -errno);
	if (asprintf(&from, "%s/store", b->t->dir.root) < 0 || asprintf(&to, "%s/store", b->partial) < 0 ||
		asprintf(&earlier, "%s/store", b->earlier ? b->earlier : "") < 0)
		return fail(EXIT_FAILED, "out of memory");
	b->tree.progress = &b->progress;
	b->tree.list = list;
	b->tree.earlier_list = old;
	b->tree.earlier = earlier;
	r = copy_clients(b, from, to);
	if (fclose(list) != 0 && r == EXIT_OK)
		r = failed(to, -EIO);
	if (old)
		fclose(old);
	b->tree.list = b->tree.earlier_list = NULL;
	return r;
}

/* The rings that are there now: another hash, other keys. */
static int ring_hashes(const struct tool *t, json_t **ret)
{
	scoped(freep) char *keyd = NULL, *keys = NULL;
	json_t *rows = json_array(), *row = NULL;
	struct dirent **names = NULL;
	int n, r = 0;

	if (asprintf(&keyd, "%s/keyd", t->dir.root) < 0 || asprintf(&keys, "%s/keys", keyd) < 0)
		return fail(EXIT_FAILED, "out of memory");
	n = scandir(keys, &names, is_ring, alphasort);
	for (int i = 0; i < n; i++) {
		if (r == 0 && backup_hash_file(keys, names[i]->d_name, &row) == 0)
			json_array_append_new(rows, row);
		free(names[i]);
	}
	free(names);
	if (json_array_size(rows) == 0) {
		json_decref(rows);
		return fail(EXIT_FAILED, "%s: no keys; is this a state directory of yours?", keys);
	}
	*ret = rows;
	return EXIT_OK;
}

/* ---- all of it ---- */

/* fsd moves what stands in journals into the ledger when it is asked anything. */
static void drain(struct backup *b)
{
	(void)tool_try(b->t, DAEMON_FSD, "LogQuery", json_pack("{s:i}", "limit", 1), NULL);
}

static int copy_state(struct backup *b)
{
	int r = copy_state_database(b, "keyd/facts.db");

	if (r == EXIT_OK)
		r = copy_state_tree(b, "keyd", "keys");
	if (r == EXIT_OK)
		r = copy_state_tree(b, "keyd", "signing.pub");
	if (r == EXIT_OK)
		r = copy_state_tree(b, "keyd", "signing.chain");
	if (r == EXIT_OK) /* where the slots are, nothing of what is in them */
		r = copy_state_tree(b, "keyd", "slots.json");
	if (r == EXIT_OK)
		r = copy_state_tree(b, "keyd", "certificates");
	if (r == EXIT_OK)
		r = copy_state_tree(b, ".", "policy.yaml");
	if (r == EXIT_OK) /* letters come before their facts: so they are copied behind them */
		r = copy_state_tree(b, ".", "outbox");
	drain(b);
	if (r == EXIT_OK)
		r = copy_state_database(b, "ledger/ledger.db");
	/* Months that moved there since are in both. */
	return r == EXIT_OK ? copy_state_tree(b, "ledger", "archive") : r;
}

/* *ret_changed: the keys changed meanwhile. */
static int copy_all(struct backup *b, bool *ret_changed)
{
	json_auto_t *before = NULL, *after = NULL;
	int r = ring_hashes(b->t, &before);

	if (r == EXIT_OK)
		r = make_folders(b);
	if (r == EXIT_OK)
		r = copy_store(b);
	if (r == EXIT_OK)
		r = copy_state(b);
	if (r == EXIT_OK)
		r = ring_hashes(b->t, &after);
	*ret_changed = r == EXIT_OK && !json_equal(before, after);
	return r;
}

/* What we have so far becomes the earlier copy of the next pass. */
static int step_back(struct backup *b, int pass)
{
	char *old = NULL;

	if (asprintf(&old, "%s.%d", b->partial, pass) < 0 || remove_tree(old) < 0 || rename(b->partial, old) < 0) {
		free(old);
		return failed(b->partial, -errno);
	}
	free(b->earlier);
	b->earlier = old;
	return EXIT_OK;
}

static int copy_until_still(struct backup *b)
{
	bool changed = true;
	int r = EXIT_OK;

	for (int pass = 0; r == EXIT_OK && changed; pass++) {
		if (pass == PASSES)
			return fail(EXIT_FAILED, "the keys change all the time; try again");
		if (pass > 0)
			r = step_back(b, pass);
		if (r == EXIT_OK)
			r = copy_all(b, &changed);
	}
	for (int pass = 1; pass < PASSES; pass++) {
		scoped(freep) char *old = NULL;

		if (asprintf(&old, "%s.%d", b->partial, pass) > 0)
			(void)remove_tree(old);
	}
	return r;
}

static json_int_t newest_generation(const json_t *state)
{
	const json_t *row;
	json_int_t newest = 0;
	size_t i;

	json_array_foreach((json_t *)state, i, row)
	{
		long long g = 0;

		if (sscanf(json_string_value(json_object_get(row, "path")), "keyd/keys/ring.%lld", &g) == 1 && g > newest)
			newest = g;
	}
	return newest;
}

static int make_manifest(struct backup *b, json_t **ret)
{
	static const char *const folders[] = {"keyd", "ledger", "outbox"};
	json_t *state = json_array(), *list = NULL, *policy = NULL;
	char made[DATE_TEXT_MAX];
	int r = backup_hash_file(b->partial, BACKUP_FILES, &list);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(folders); i++) {
		r = backup_hash_folder(b->partial, folders[i], state);
		if (r == -ENOENT && strcmp(folders[i], "outbox") == 0)
			r = 0; /* of a directory that was made before there were letters */
	}
	if (r == 0 && backup_hash_file(b->partial, "policy.yaml", &policy) == 0)
		json_array_append_new(state, policy);
	if (r < 0) {
		json_decref(state);
		json_decref(list);
		return failed(b->partial, r);
	}
	*ret = json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:O, s:o, s:o}", "version", 1, "kind", "backup",
		"made_at", date_format(time(NULL), made), "of", b->t->dir.root, "key_generation",
		newest_generation(state), "files", (json_int_t)b->tree.files, "bytes", (json_int_t)b->tree.bytes, "linked",
		(json_int_t)b->tree.linked, "copied_bytes", (json_int_t)b->tree.copied_bytes, "unsettled",
		b->tree.unsettled ? b->tree.unsettled : json_array(), "list", list, "state", state);
	return *ret ? EXIT_OK : fail(EXIT_FAILED, "out of memory");
}

/* Signed by keyd if it is there and open: else the manifest stands for itself. */
static int put_manifest(struct backup *b, const json_t *manifest, bool *ret_signed)
{
	scoped(freep) char *path = NULL;
	json_auto_t *answer = NULL, *envelope = NULL;

	*ret_signed = tool_try(b->t, DAEMON_KEYD, "BackupSign", json_pack("{s:O, s:s}", "manifest", manifest, "to", b->path),
			      &answer) == EXIT_OK;
	envelope = json_pack("{s:O, s:O?, s:O?}", "manifest", manifest, "signature", json_object_get(answer, "signature"),
		"public_key", json_object_get(answer, "public_key"));
	if (asprintf(&path, "%s/" BACKUP_MANIFEST, b->partial) < 0 || !envelope ||
		json_dump_file(envelope, path, JSON_INDENT(2) | JSON_SORT_KEYS) < 0)
		return fail(EXIT_FAILED, "%s: the manifest cannot be written", b->partial);
	return EXIT_OK;
}

/* On disk, and only then under its name. */
static int publish(struct backup *b)
{
	scoped(close_fdp) int fd = open(b->partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || syncfs(fd) < 0 || rename(b->partial, b->path) < 0 || syncfs(fd) < 0)
		return failed(b->path, -errno);
	return EXIT_OK;
}

static int prepare(struct backup *b, const char *to)
{
	char stamp[DATE_TEXT_MAX];
	int r = tool_find_dir(b->t, true);

	if (r != EXIT_OK)
		return r;
	if (mkdir(to, 0700) < 0 && errno != EEXIST)
		return failed(to, -errno);
	b->to = realpath(to, NULL);
	if (!b->to)
		return failed(to, -errno);
	if (strncmp(b->to, b->t->dir.root, strlen(b->t->dir.root)) == 0 &&
		(b->to[strlen(b->t->dir.root)] == '/' || !b->to[strlen(b->t->dir.root)]))
		return fail(EXIT_USAGE, "%s lies in the state directory itself", b->to);
	b->earlier = backup_newest(b->to);
	if (asprintf(&b->partial, "%s/" BACKUP_UNFINISHED, b->to) < 0 ||
		asprintf(&b->path, "%s/%s", b->to, date_format(time(NULL), stamp)) < 0)
		return fail(EXIT_FAILED, "out of memory");
	if (access(b->path, F_OK) == 0)
		return fail(EXIT_FAILED, "%s: there is one of this second already", b->path);
	r = remove_tree(b->partial);
	return r < 0 ? failed(b->partial, r) : EXIT_OK;
}

static int say_backup(struct backup *b, const json_t *manifest, bool is_signed)
{
	size_t unsettled = json_array_size(json_object_get(manifest, "unsettled"));
	int r;

	if (b->t->json) {
		json_auto_t *o = json_pack("{s:s, s:b, s:O}", "path", b->path, "signed", is_signed, "manifest", manifest);

		return print_json(o);
	}
	r = say("%s: %llu files, %.1f MB, of these %.1f MB copied and %llu files as in the backup before; without the slot%s",
		b->path, (unsigned long long)b->tree.files, (double)b->tree.bytes / 1e6,
		(double)b->tree.copied_bytes / 1e6, (unsigned long long)b->tree.linked,
		is_signed ? "" : "; not signed, since coffer-keyd is not there or sealed");
	if (r == EXIT_OK && unsettled > 0)
		r = say("%zu files or folders changed all the time, and may not open in it; the manifest names them", unsettled);
	return r;
}

int cmd_backup(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"to", NULL, "TO", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {fields, "TO",
		"Copies store, facts, keys (sealed) and record into a new folder below TO, while sessions run.\vThe slot "
		"is left out: with it, a backup would open what was destroyed since. What has not changed since the "
		"newest backup in TO is linked to it. For the owner of the state directory."};
	scoped(backup_done) struct backup b = {.t = t};
	json_auto_t *params = NULL, *manifest = NULL;
	bool is_signed;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	umask(0077);
	r = prepare(&b, json_string_value(json_object_get(params, "to")));
	progress_begin(&b.progress, t->json);
	if (r == EXIT_OK)
		r = copy_until_still(&b);
	progress_clear(&b.progress);
	if (r == EXIT_OK)
		r = make_manifest(&b, &manifest);
	if (r == EXIT_OK)
		r = put_manifest(&b, manifest, &is_signed);
	if (r == EXIT_OK)
		r = publish(&b);
	return r == EXIT_OK ? say_backup(&b, manifest, is_signed) : r;
}

/* ---- check ---- */

static int say_check(struct tool *t, const char *path, const json_t *manifest, const json_t *list)
{
	const json_t *row;
	size_t i;

	if (t->json) {
		json_auto_t *o = json_pack("{s:s, s:b, s:O, s:O}", "path", path, "whole", json_array_size(list) == 0,
			"wrong", list, "manifest", manifest);

		(void)print_json(o);
	} else {
		json_array_foreach((json_t *)list, i, row)
		{
			say("%s: %s", json_string_value(json_object_get(row, "path")),
				json_string_value(json_object_get(row, "what")));
		}
	}
	if (json_array_size(list) > 0)
		return fail(EXIT_DAMAGED, "%s: not as it was made; %zu things are wrong", path, json_array_size(list));
	return t->json ? EXIT_OK
		       : say("%s: whole: %lld files, %lld bytes", path,
				 json_integer_value(json_object_get(manifest, "files")),
				 json_integer_value(json_object_get(manifest, "bytes")));
}

int cmd_backup_check(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"from", NULL, "FROM", FIELD_TEXT, true, NULL},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false,
			"the key as `coffer public-key` printed it (default: this installation's)"},
		{0},
	};
	static const struct request rq = {fields, "FROM",
		"Says whether a backup is as it was made: signature, databases and keys by their hashes, each file of the "
		"store by size and time.\vFROM is a backup, or a folder of them: then its newest. What the files hold is "
		"not read: `coffer drill` does that."};
	json_auto_t *params = NULL, *manifest = NULL, *list = NULL;
	scoped(freep) char *path = NULL;
	scoped(public_key_done) struct public_key key = {0};
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = backup_find(json_string_value(json_object_get(params, "from")), &path);
	if (r == EXIT_OK)
		r = public_key_get(t, json_string_value(json_object_get(params, "pubkey")), &key);
	if (r == EXIT_OK)
		r = backup_check(path, &key, &manifest, &list);
	return r == EXIT_OK ? say_check(t, path, manifest, list) : r;
}
