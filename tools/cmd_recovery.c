/* recovery: keys made off the host, to which the root key is sealed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "common/secret.h"
#include "tools/commands.h"
#include "tools/passphrase.h"
#include "tools/recovery.h"
#include "tools/request.h"
#include "tools/table.h"

#define LINE_BYTES 256

static void pair_freep(struct recovery_pair **p)
{
	secret_free(*p);
}

static void root_freep(struct root_key **p)
{
	secret_free(*p);
}

static void arena_done(const int *begun)
{
	secret_done();
}

static int number_of(const json_t *params, const char *key)
{
	const json_t *v = json_object_get(params, key);

	return v ? (int)json_integer_value(v) : -1;
}

/* ---- the pair ---- */

static int write_secret(const char *file, const char *text, size_t n)
{
	scoped(close_fdp) int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return fail(EXIT_USAGE, "%s: %s%s", file, strerror(errno),
			errno == EEXIST ? "; a key is never written over something" : "");
	if (write(fd, text, n) != (ssize_t)n || fsync(fd) < 0) {
		(void)unlink(file);
		return fail(EXIT_FAILED, "%s: %s", file, strerror(errno));
	}
	return EXIT_OK;
}

static int make_secret(const char *file, bool with_passphrase, int from, const struct recovery_pair *pair)
{
	char *passphrase = NULL, *text = NULL;
	scoped(close_fdp) int fd = -1;
	ssize_t got = 0;
	size_t n = 0;
	int r = EXIT_OK, e;

	if (with_passphrase)
		r = passphrase_ask(from, "Passphrase of the new recovery key", true, &fd);
	if (r != EXIT_OK)
		return r;
	if (with_passphrase) {
		passphrase = secret_alloc(PASSPHRASE_BYTES_MAX);
		got = passphrase ? read(fd, passphrase, PASSPHRASE_BYTES_MAX) : -1;
	}
	e = got < 0 ? -ENOMEM : recovery_file_format(pair, passphrase, (size_t)got, &SLOT_KDF_DEFAULT, &text, &n);
	secret_free(passphrase);
	r = e < 0 ? fail(EXIT_FAILED, "the key cannot be made: %s", strerror(-e)) : write_secret(file, text, n);
	secret_free(text);
	return r;
}

int cmd_recovery_keygen(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{"passphrase", "passphrase", NULL, FIELD_FLAG, false, "seal the secret by a passphrase (Argon2id)"},
		{"fd", "passphrase-fd", "N", FIELD_NUMBER, false, "the same, read from descriptor N"},
		{0},
	};
	static const struct request rq = {fields, "FILE",
		"Makes a recovery key: the secret in FILE, which must not be there yet, the public part on standard output.\v"
		"Do it on another machine than the one it is for, and keep FILE off that. Who has it and the newest copy of the "
		"root key opens everything that is not destroyed."};
	scoped(arena_done) int begun = recovery_begin(); /* first, so that it ends last */
	scoped(pair_freep) struct recovery_pair *pair = NULL;
	json_auto_t *params = NULL;
	char line[RECOVERY_LINE_MAX];
	const char *file;
	int from, r;

	request_parse(t, &rq, argc, argv, &params);
	file = json_string_value(json_object_get(params, "file"));
	if (begun != EXIT_OK)
		return begun;
	if (access(file, F_OK) == 0)
		return fail(EXIT_USAGE, "%s: something is there; a key is never written over something", file);
	if (recovery_pair_new(&pair) < 0)
		return fail(EXIT_FAILED, "no locked memory left");
	from = number_of(params, "fd");
	r = make_secret(file, json_is_true(json_object_get(params, "passphrase")) || from >= 0, from, pair);
	if (r != EXIT_OK)
		return r;
	recovery_public_format(&pair->public, line);
	if (t->json) {
		json_auto_t *o = json_pack("{s:s, s:s}", "public_key", line, "secret", file);

		return print_json(o);
	}
	return say("%s", line);
}

/* ---- who has one ---- */

/* The line itself, or a file that has it. */
static int public_line(const char *given, char line[LINE_BYTES])
{
	struct recovery_public key;
	FILE *f;

	snprintf(line, LINE_BYTES, "%s", given);
	if (recovery_public_parse(line, &key) == -EINVAL) {
		f = fopen(given, "re");
		if (!f)
			return fail(EXIT_USAGE,
				"%s: neither a public recovery key (`coffer recovery keygen` prints one) nor a file: %s", given,
				strerror(errno));
		if (!fgets(line, LINE_BYTES, f))
			*line = '\0';
		fclose(f);
		line[strcspn(line, "\n")] = '\0';
	}
	switch (recovery_public_parse(line, &key)) {
	case 0:
		return EXIT_OK;
	case -EBADMSG:
		return fail(EXIT_USAGE, "the recovery key is mistyped: its checksum says so");
	default:
		return fail(EXIT_USAGE, "%s: no public recovery key in it; `coffer recovery keygen` prints it", given);
	}
}

int cmd_recovery_add(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"public_key", NULL, "KEY", FIELD_TEXT, true, NULL},
		{"name", "name", "NAME", FIELD_TEXT, true, "who has it: a-z, 0-9 and -"},
		{"path", "to", "PATH", FIELD_TEXT, true, "the file where the copy is kept, on another medium"},
		{0},
	};
	static const struct request rq = {fields, "KEY",
		"Seals the root key to another recovery key, now and at each exchange.\vKEY is the line that `coffer recovery "
		"keygen` printed, or a file with it. PATH gets a new copy each time and loses the old one; a medium that can be "
		"reached only sometimes is brought up to date when it is. For custodians."};
	json_auto_t *params = NULL, *answer = NULL;
	scoped(freep) char *path = NULL;
	char line[LINE_BYTES];
	const char *to;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = public_line(json_string_value(json_object_get(params, "public_key")), line);
	if (r != EXIT_OK)
		return r;
	to = json_string_value(json_object_get(params, "path"));
	if (*to != '/') {
		char here[4096];

		if (!getcwd(here, sizeof(here)) || asprintf(&path, "%s/%s", here, to) < 0)
			return fail(EXIT_FAILED, "out of memory");
		json_object_set_new(params, "path", json_string(path));
	}
	json_object_set_new(params, "public_key", json_string(line));
	r = tool_call(t, DAEMON_KEYD, "RecoveryAdd", json_incref(params), NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	return say("the root key is sealed to %s from now on; the copy is %s. Try it: coffer recovery check --key FILE --copy %s",
		json_string_value(json_object_get(params, "name")), json_string_value(json_object_get(params, "path")),
		json_string_value(json_object_get(params, "path")));
}

static int print_holders(struct tool *t, json_t *answer)
{
	static const struct column columns[] = {
		{"name", "NAME", CELL_TEXT},
		{"path", "COPY", CELL_WRAP},
		{"current", "CURRENT", CELL_FLAG},
		{"added_by", "ADDED BY", CELL_TEXT},
		{"added_at", "SINCE", CELL_TIME},
		{"removed_at", "REMOVED", CELL_TIME},
		{"may_remain", "MAY REMAIN", CELL_WRAP},
		{"public_key", "KEY", CELL_CUT},
	};
	json_t *rows = json_object_get(answer, "recovery"), *row;
	size_t i;

	if (t->json)
		return print_json(answer);
	json_array_foreach(rows, i, row)
	{
		bool fine = json_is_true(json_object_get(row, "current")) && !json_object_get(row, "may_remain");

		json_object_set_new(row, "attention", json_boolean(!fine));
	}
	return table_print(rows, columns, ARRAY_SIZE(columns), "no recovery keys: who loses every slot loses every client");
}

int cmd_recovery_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {
		fields, NULL, "Lists the recovery keys, where their copies of the root key are, and which old copies may remain."};
	json_auto_t *params = NULL, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "RecoveryList", NULL, NULL, 0, &answer);
	return r == EXIT_OK ? print_holders(t, answer) : r;
}

static const struct field name_fields[] = {
	{"name", NULL, "NAME", FIELD_TEXT, true, NULL},
	{0},
};

static const json_t *row_of(const json_t *answer, const char *name)
{
	json_t *row;
	size_t i;

	json_array_foreach(json_object_get(answer, "recovery"), i, row)
	{
		if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0)
			return row;
	}
	return NULL;
}

int cmd_recovery_remove(struct tool *t, int argc, char **argv)
{
	static const struct request rq = {name_fields, "NAME",
		"Takes a recovery key away: its copies are removed, and it gets no more.\vWhat its holder copied before still "
		"opens the keys of now: `coffer rotate root` ends that. For custodians."};
	json_auto_t *params = NULL, *answer = NULL;
	const char *remains, *name;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	name = json_string_value(json_object_get(params, "name"));
	r = tool_call(t, DAEMON_KEYD, "RecoveryRemove", json_incref(params), NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	remains = json_string_value(json_object_get(row_of(answer, name), "may_remain"));
	if (remains)
		(void)say("%s; when it is destroyed: coffer recovery confirm %s", remains, name);
	return say("%s is removed. So that no copy of his opens anything: coffer rotate root", name);
}

int cmd_recovery_confirm(struct tool *t, int argc, char **argv)
{
	static const struct request rq = {name_fields, "NAME",
		"Says that the old copies which may remain with that holder are destroyed.\vFor custodians, who vouch for it; it "
		"is recorded. Certificates from then on do not name them."};
	json_auto_t *params = NULL, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "RecoveryConfirm", json_incref(params), NULL, 0, &answer);
	if (r != EXIT_OK || t->json)
		return r == EXIT_OK ? print_json(answer) : r;
	return say("confirmed and recorded: no old copy remains with %s", json_string_value(json_object_get(params, "name")));
}

/* ---- does it do ---- */

static int check_all(struct tool *t)
{
	json_auto_t *answer = NULL;
	json_t *row;
	size_t i, bad = 0;
	int r = tool_call(t, DAEMON_KEYD, "RecoveryCheck", NULL, NULL, 0, &answer);

	if (r == EXIT_OK)
		r = print_holders(t, answer);
	json_array_foreach(json_object_get(answer, "recovery"), i, row)
	{
		bad += !json_is_true(json_object_get(row, "current")) || json_object_get(row, "may_remain");
	}
	return r == EXIT_OK && bad > 0
		       ? fail(EXIT_DAMAGED, "%zu of the recovery keys have no copy of now, or an old one may remain", bad)
		       : r;
}

static int check_one(struct tool *t, const char *key, const char *copy, int from)
{
	scoped(pair_freep) struct recovery_pair *pair = NULL;
	scoped(root_freep) struct root_key *root = NULL;
	scoped(freep) char *own = NULL;
	uint64_t generation = 0;
	int r = EXIT_OK;

	if (!copy) {
		r = tool_find_dir(t, true);
		if (r == EXIT_OK && asprintf(&own, "%s/keyd/recovery", t->dir.root) < 0)
			r = fail(EXIT_FAILED, "out of memory");
		copy = own;
	}
	if (r == EXIT_OK)
		r = recovery_read(key, from, &pair);
	if (r == EXIT_OK)
		r = recovery_open_copy(copy, pair, &root, &generation);
	if (r != EXIT_OK)
		return r;
	if (t->json) {
		json_auto_t *o = json_pack("{s:s, s:I}", "copy", copy, "generation", (json_int_t)generation);

		return print_json(o);
	}
	return say("it opens: the root key of generation %" PRIu64, generation);
}

int cmd_recovery_check(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"key", "key", "FILE", FIELD_TEXT, false, "try this secret, without the daemons"},
		{"copy", "copy", "PATH", FIELD_TEXT, false, "on this copy (default: those in the state directory)"},
		{"fd", "passphrase-fd", "N", FIELD_NUMBER, false, "read the secret's passphrase from descriptor N"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Looks whether every recovery key has a copy of the root key of now; with --key whether that key opens one.\vExit "
		"status 8 if a copy is missing or an old one may remain."};
	scoped(arena_done) int begun = 0;
	json_auto_t *params = NULL;
	const char *key, *copy;

	request_parse(t, &rq, argc, argv, &params);
	key = json_string_value(json_object_get(params, "key"));
	copy = json_string_value(json_object_get(params, "copy"));
	if (!key && copy)
		return fail(EXIT_USAGE, "recovery check: --copy needs --key");
	if (!key)
		return check_all(t);
	begun = recovery_begin();
	return begun == EXIT_OK ? check_one(t, key, copy, number_of(params, "fd")) : begun;
}

/* ---- when every slot is lost ---- */

static int open_with(struct tool *t, const char *key, const char *copy, int from)
{
	scoped(pair_freep) struct recovery_pair *pair = NULL;
	scoped(root_freep) struct root_key *root = NULL;
	scoped(close_fdp) int lock = -1;
	scoped(freep) char *own = NULL;
	uint64_t generation = 0;
	int r = tool_find_dir(t, true);

	if (r != EXIT_OK)
		return r;
	r = statedir_lock(&t->dir, "coffer.lock", &lock);
	if (r < 0)
		return fail(EXIT_REFUSED, "%s: %s", t->dir.root,
			r == -EWOULDBLOCK || r == -EAGAIN ? "the daemons run: coffer down" : strerror(-r));
	if (!copy && asprintf(&own, "%s/keyd/recovery", t->dir.root) < 0)
		return fail(EXIT_FAILED, "out of memory");
	r = recovery_read(key, from, &pair);
	if (r == EXIT_OK)
		r = recovery_open_copy(copy ? copy : own, pair, &root, &generation);
	if (r == EXIT_OK)
		r = recovery_make_slot(&t->dir, pair, root, generation);
	if (r != EXIT_OK)
		return r;
	if (t->json) {
		json_auto_t *o = json_pack("{s:I}", "generation", (json_int_t)generation);

		return print_json(o);
	}
	return say("there is a slot again, sealed by a key file. Then: coffer up; coffer rotate root, so that the slot that was "
		   "lost opens nothing; coffer passphrase");
}

int cmd_recovery_open(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"key", "key", "FILE", FIELD_TEXT, true, "the secret that `coffer recovery keygen` made"},
		{"copy", "copy", "PATH", FIELD_TEXT, false, "the copy of the root key (default: the one in the state directory)"},
		{"fd", "passphrase-fd", "N", FIELD_NUMBER, false, "read the secret's passphrase from descriptor N"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Makes a new slot with a recovery key when every slot is lost.\vThe daemons must be down. It is recorded. For the "
		"owner of the state directory. A whole machine: coffer restore --all --recovery-key."};
	scoped(arena_done) int begun = 0;
	json_auto_t *params = NULL;

	request_parse(t, &rq, argc, argv, &params);
	umask(0077);
	begun = recovery_begin();
	return begun != EXIT_OK ? begun
				: open_with(t, json_string_value(json_object_get(params, "key")),
					  json_string_value(json_object_get(params, "copy")), number_of(params, "fd"));
}
