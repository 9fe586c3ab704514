/* drill: does what a restore would do, and looks at all of it.  The slot is not copied: keyd, which has it open, gives each
 * client's keys to a worker that sees the scratch copy only. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/scope.h"
#include "fs/broker/ledger_verify.h"
#include "tools/backup_dir.h"
#include "tools/commands.h"
#include "tools/request.h"

#define ASK_EVERY_NS 20000000

struct drill {
	struct tool *t;
	char *backup, *state, *scratch;
	struct public_key key;
	json_t *wrong;	 /* [text] */
	json_t *clients; /* [{client, files, bytes, damaged}] */
	bool destroyed;	 /* something was erased, with its key */
};

static void drill_done(struct drill *d)
{
	if (d->scratch && remove_tree(d->scratch) < 0)
		fprintf(stderr, "coffer: %s could not be removed\n", d->scratch);
	json_decref(d->wrong);
	json_decref(d->clients);
	public_key_done(&d->key);
	free(d->backup);
	free(d->state);
	free(d->scratch);
}

__attribute__((format(printf, 2, 3))) static void wrong(struct drill *d, const char *fmt, ...)
{
	scoped(freep) char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	json_array_append_new(d->wrong, json_string(text ? text : "out of memory"));
}

/* ---- parts ---- */

static int check_manifest(struct drill *d, const char *path, json_t **ret)
{
	json_auto_t *list = NULL;
	const json_t *row;
	size_t i;
	int r = backup_check(path, &d->key, ret, &list);

	if (r != EXIT_OK)
		return r;
	json_array_foreach(list, i, row)
	{
		wrong(d, "%s: %s: %s", path, json_string_value(json_object_get(row, "path")),
			json_string_value(json_object_get(row, "what")));
	}
	return EXIT_OK;
}

/* Under another root key than the slot's they open nothing. */
static void check_keys(struct drill *d, const json_t *manifest)
{
	json_int_t generation = json_integer_value(json_object_get(manifest, "key_generation"));
	scoped(freep) char *ring = NULL;

	if (asprintf(&ring, "%s/keyd/keys/ring.%lld", d->t->dir.root, (long long)generation) < 0 || access(ring, F_OK) < 0)
		wrong(d, "%s: its keys are of before a destruction or rotation: with the slot of now they open nothing; make a "
			 "new backup",
			d->state);
}

static void check_ledger(struct drill *d)
{
	struct ledger_keys keys;
	const struct ledger_verify_options o = {.keys = &keys};
	scoped(freep) char *db = NULL;
	struct ledger_verdict v = {0};
	int r = asprintf(&db, "%s/ledger/ledger.db", d->scratch) < 0 ? -ENOMEM : 0;

	public_key_ledger(&d->key, &keys);
	if (r == 0)
		r = ledger_verify(db, &o, &v);
	if (r < 0)
		wrong(d, "the record does not open: %s", strerror(-r));
	else if (v.first_bad)
		wrong(d, "the record: batch %lld: %s", (long long)v.first_bad, v.reason);
}

static void take_findings(struct drill *d, const char *client, const json_t *piece)
{
	const json_t *f;
	size_t i;

	json_array_foreach(json_object_get(piece, "findings"), i, f)
	{
		const char *what = "", *store = "", *path = NULL;

		if (!json_is_true(json_object_get(f, "damage")))
			continue;
		json_unpack((json_t *)f, "{s:s, s:s, s?s}", "what", &what, "store", &store, "path", &path);
		wrong(d, "%s: %s: %s", client, path ? path : store, what);
		d->destroyed |= strcmp(what, "destroyed") == 0;
	}
}

/* Every file of one client, opened and read to its end. */
static int follow(struct drill *d, const char *client, json_int_t id, json_t **ret_counts)
{
	const struct timespec wait = {.tv_nsec = ASK_EVERY_NS};

	for (;;) {
		json_auto_t *piece = NULL;
		const char *state;
		int r = tool_call(d->t, DAEMON_KEYD, "FsckNext", json_pack("{s:I}", "fsck", id), NULL, 0, &piece);

		if (r != EXIT_OK)
			return r;
		take_findings(d, client, piece);
		state = json_string_value(json_object_get(piece, "state"));
		if (!state || (strcmp(state, "checking") != 0 && strcmp(state, "comparing") != 0)) {
			*ret_counts = json_incref(json_object_get(piece, "counts"));
			if (state && strcmp(state, "failed") == 0)
				wrong(d, "%s: %s", client, json_string_value(json_object_get(piece, "error")));
			return EXIT_OK;
		}
		if (json_array_size(json_object_get(piece, "findings")) == 0)
			nanosleep(&wait, NULL);
	}
}

static int look_at(struct drill *d, const char *client, const char *id)
{
	json_auto_t *begun = NULL, *counts = NULL;
	scoped(freep) char *path = NULL;
	scoped(close_fdp) int fd = -1;
	int r;

	if (asprintf(&path, "%s/store/%s", d->scratch, id) < 0)
		return fail(EXIT_FAILED, "out of memory");
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		wrong(d, "%s: nothing of it is in this backup", client);
		return EXIT_OK;
	}
	r = tool_call(d->t, DAEMON_KEYD, "Fsck", json_pack("{s:s, s:b}", "client", client, "copy", 1), &fd, 1, &begun);
	if (r == EXIT_DAMAGED) {
		wrong(d, "%s: does not open", client);
		return EXIT_OK;
	}
	if (r == EXIT_OK)
		r = follow(d, client, json_integer_value(json_object_get(begun, "fsck")), &counts);
	if (r == EXIT_OK)
		json_array_append_new(d->clients, json_pack("{s:s, s:O*, s:O*, s:O*}", "client", client, "files",
							  json_object_get(counts, "files"), "bytes",
							  json_object_get(counts, "bytes"), "damaged",
							  json_object_get(counts, "damaged")));
	return r;
}

static int look_at_all(struct drill *d)
{
	json_auto_t *answer = NULL;
	const json_t *row;
	size_t i;
	int r = tool_call(d->t, DAEMON_KEYD, "ClientList", NULL, NULL, 0, &answer);

	json_array_foreach(json_object_get(answer, "clients"), i, row)
	{
		const char *state = json_string_value(json_object_get(row, "state"));

		if (r == EXIT_OK && state && strcmp(state, "destroyed") != 0)
			r = look_at(d, json_string_value(json_object_get(row, "client")),
				json_string_value(json_object_get(row, "client_id")));
	}
	return r;
}

/* ---- all of it ---- */

static int prepare(struct drill *d, const json_t *params)
{
	const char *below = json_string_value(json_object_get(params, "scratch"));
	scoped(freep) char *found = NULL, *template = NULL;
	int r = backup_find(json_string_value(json_object_get(params, "from")), &found);

	if (r == EXIT_OK)
		r = public_key_find(d->t, &d->key);
	if (r != EXIT_OK)
		return r;
	d->backup = realpath(found, NULL);
	d->state = d->backup ? backup_newest_beside(d->backup) : NULL;
	if (!d->state || asprintf(&template, "%s/coffer-drill-XXXXXX", below ? below : "/var/tmp") < 0)
		return fail(EXIT_FAILED, "%s: %s", found, strerror(errno));
	if (!mkdtemp(template))
		return fail(EXIT_USAGE, "%s: %s", template, strerror(errno));
	d->scratch = take_ptr(&template);
	return rmdir(d->scratch) < 0 ? fail(EXIT_FAILED, "%s: %s", d->scratch, strerror(errno)) : EXIT_OK;
}

static int say_drill(struct drill *d, double seconds)
{
	const json_t *row;
	size_t i, n = json_array_size(d->wrong);

	if (d->t->json) {
		json_auto_t *o = json_pack("{s:s, s:s, s:b, s:f, s:O, s:O}", "backup", d->backup, "state_of", d->state, "sound",
			n == 0, "seconds", seconds, "clients", d->clients, "wrong", d->wrong);

		(void)print_json(o);
	} else {
		json_array_foreach(d->clients, i, row)
		{
			say("%s: %lld files, %lld bytes below, %lld damaged", json_string_value(json_object_get(row, "client")),
				json_integer_value(json_object_get(row, "files")),
				json_integer_value(json_object_get(row, "bytes")),
				json_integer_value(json_object_get(row, "damaged")));
		}
		json_array_foreach(d->wrong, i, row)
		{
			say("%s", json_string_value(row));
		}
		if (d->destroyed)
			say("what is \"destroyed\" was erased for good since this backup, or so shortly before that what is left of it was "
			    "still there: it is no damage, and a backup that is made when it is gone passes");
	}
	if (n > 0)
		return fail(EXIT_DAMAGED, "%s would not bring everything back: %zu things are wrong", d->backup, n);
	return d->t->json ? EXIT_OK
			  : say("%s is sound: restored and read in %.1f s, with the keys and the record of %s", d->backup,
				    seconds, d->state);
}

int cmd_drill(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"from", NULL, "FROM", FIELD_TEXT, true, NULL},
		{"scratch", "scratch", "DIR", FIELD_TEXT, false, "where to restore to (default: /var/tmp); removed again"},
		{0},
	};
	static const struct request rq = {fields, "FROM",
		"Restores a backup (of a folder of them: the newest) into a scratch directory, opens and reads every file "
		"with the keys of now, checks keys and record, and removes it again.\vThe running installation goes on "
		"meanwhile. The slot is not copied. What was shredded since counts as wrong: a newer backup has it not."};
	scoped(drill_done) struct drill d = {.t = t, .wrong = json_array(), .clients = json_array()};
	json_auto_t *params = NULL, *manifest = NULL, *state = NULL;
	struct timespec from, to;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	umask(0077);
	clock_gettime(CLOCK_MONOTONIC, &from);
	r = prepare(&d, params);
	if (r == EXIT_OK)
		r = check_manifest(&d, d.backup, &manifest);
	if (r == EXIT_OK && strcmp(d.backup, d.state) != 0)
		r = check_manifest(&d, d.state, &state);
	if (r == EXIT_OK)
		r = backup_unpack(d.backup, d.state, d.scratch);
	if (r != EXIT_OK)
		return r;
	check_keys(&d, state ? state : manifest);
	check_ledger(&d);
	r = look_at_all(&d);
	clock_gettime(CLOCK_MONOTONIC, &to);
	return r == EXIT_OK ? say_drill(&d, (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9) : r;
}
