/* Certificates: asked of keyd, or read from files and checked with the public key alone. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/certificate.h"
#include "tools/commands.h"
#include "tools/public_key.h"
#include "tools/request.h"
#include "tools/table.h"

#define TITLE_WIDTH 18
#define TEXT_WIDTH 96 /* of a page, as one would print it */

/* ---- printed ---- */

/* In the order in which one reads them; what is not here follows under its own name. */
static const struct {
	const char *key, *title;
} titles[] = {
	{"kind", "Certificate of"},
	{"client", "Client"},
	{"controller", "Data controller"},
	{"contact", "Whom to ask"},
	{"scope", "What"},
	{"destroyed_at", "Destroyed at"},
	{"rule", "Rule"},
	{"policy", "Policy"},
	{"decided", "Decided"},
	{"method", "Method"},
	{"key_generation", "Key generation"},
	{"slots", "Slots"},
	{"recovery", "Recovery"},
	{"remains", "What remains"},
	{"separation", "Separation"},
	{"mode", "Mode"},
	{"ledger_head", "Ledger"},
	{"version", "Form"},
};

/* `text` behind a title, in lines that fit. */
static void put_text(const char *title, int indent, const char *text)
{
	int column = indent + TITLE_WIDTH, room = TEXT_WIDTH - column;

	printf("%*s%-*s", indent, "", TITLE_WIDTH - 1, title);
	do {
		scoped(freep) char *line = NULL;
		int n = (int)strlen(text), cut;

		for (cut = n > room ? room : n; cut < n && cut > 0 && text[cut] != ' '; cut--)
			;
		if (cut == 0)
			cut = (int)strcspn(text, " ");
		line = strndup(text, (size_t)cut);
		putchar(' ');
		put_escaped(stdout, line ? line : "");
		putchar('\n');
		text += cut + strspn(text + cut, " ");
		if (*text)
			printf("%*s", column - 1, "");
	} while (*text);
}

static char *words_of(const char *key)
{
	char *title = strdup(key);

	for (char *p = title; p && *p; p++)
		if (*p == '_')
			*p = ' ';
	return title;
}

static void put_value(const char *title, int indent, const json_t *v)
{
	scoped(freep) char *text = NULL;
	const json_t *member;
	const char *key;
	size_t i;

	if (json_is_object(v) || json_is_array(v)) {
		if (*title)
			put_text(title, indent, "");
		json_array_foreach((json_t *)v, i, member)
			put_value(json_is_object(member) ? "" : "-", indent + 2, member);
		json_object_foreach((json_t *)v, key, member)
		{
			scoped(freep) char *words = words_of(key);

			put_value(words ? words : key, indent + 2, member);
		}
		return;
	}
	text = json_is_string(v) ? strdup(json_string_value(v)) : json_dumps(v, JSON_ENCODE_ANY);
	if (!json_is_null(v))
		put_text(title, indent, text ? text : "");
}

static bool has_title(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
		if (strcmp(titles[i].key, key) == 0)
			return true;
	return false;
}

/* `verdict`: what is known of the signature. */
static int print_certificate(const json_t *envelope, const char *verdict)
{
	const json_t *c = json_object_get(envelope, "certificate"), *v;
	const char *key;

	for (size_t i = 0; i < ARRAY_SIZE(titles); i++)
		if (json_object_get(c, titles[i].key))
			put_value(titles[i].title, 0, json_object_get(c, titles[i].key));
	json_object_foreach((json_t *)c, key, v)
	{
		scoped(freep) char *words = words_of(key);

		if (!has_title(key))
			put_value(words ? words : key, 0, v);
	}
	put_value("Signature", 0, json_object_get(envelope, "signature"));
	put_value("Public key", 0, json_object_get(envelope, "public_key"));
	put_text("Verdict", 0, verdict);
	return EXIT_OK;
}

int cmd_certificate(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{0},
	};
	static const struct request rq = {
		fields, "CLIENT", "Shows the signed certificate of the destruction of a client's keys."};
	json_t *params, *answer = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = tool_call(t, DAEMON_KEYD, "Certificate", params, NULL, 0, &answer);
	if (r == EXIT_OK)
		r = t->json ? print_json(answer)
			    : print_certificate(answer, "as coffer-keyd gave it; `coffer certificate verify` "
							"checks a file that --json made");
	json_decref(answer);
	return r;
}

/* ---- files ---- */

/* *ret: {certificate, signature, ...}, of the form that cmd_certificate prints.  NULL and the reason else. */
static const char *load(int dir, const char *path, json_t **ret, char *why, size_t n)
{
	scoped(close_fdp) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	json_auto_t *file = NULL;
	json_error_t err;

	if (fd < 0) {
		snprintf(why, n, "%s: %s", path, strerror(errno));
		return why;
	}
	file = json_loadfd(fd, JSON_REJECT_DUPLICATES, &err);
	if (!file) {
		snprintf(why, n, "%s:%d: %s", path, err.line, err.text);
		return why;
	}
	if (!json_is_object(json_object_get(file, "certificate")) ||
		!json_is_string(json_object_get(file, "signature"))) {
		snprintf(why, n, "%s: no certificate; make it with: coffer certificate CLIENT --json", path);
		return why;
	}
	*ret = take_ptr(&file);
	return NULL;
}

static int check_one(const uint8_t *key, const void *envelope)
{
	return certificate_check(key, json_object_get(envelope, "certificate"),
		json_string_value(json_object_get(envelope, "signature")));
}

static bool is_genuine(const json_t *envelope, const struct public_key *key)
{
	return public_key_any(key,
		json_string_value(json_object_get(json_object_get(envelope, "certificate"), "destroyed_at")), check_one,
		envelope);
}

static const char *text_of(const json_t *envelope, const char *object, const char *key)
{
	const json_t *o = json_object_get(envelope, "certificate");
	const char *text;

	if (object)
		o = json_object_get(o, object);
	text = json_string_value(json_object_get(o, key));
	return text ? text : "?";
}

static int load_file(const char *path, json_t **ret)
{
	char why[512];

	if (load(AT_FDCWD, path, ret, why, sizeof(why)))
		return fail(EXIT_USAGE, "%s", why);
	return EXIT_OK;
}

/* What it proves, and no more: an erasure is no destruction of the client, and a slot may still hold the old key. */
static int say_genuine(const json_t *file)
{
	const json_t *c = json_object_get(file, "certificate"), *slot;
	const char *client = text_of(file, "client", "client"), *at = text_of(file, NULL, "destroyed_at");
	size_t i;

	if (strcmp(text_of(file, NULL, "kind"), "erasure") == 0)
		say("genuine: %lld keys of %s were destroyed at %s (%s); that is a part of it: the rest is not touched by this",
			(long long)json_integer_value(json_object_get(json_object_get(c, "what"), "keys")), client, at,
			text_of(file, "rule", "text"));
	else
		say("genuine: %s was destroyed at %s", client, at);
	if (json_is_object(json_object_get(c, "transferred_to")))
		say("but that is about the keys here: it was handed over before, and the installation with the transfer key %s can have all of it",
			text_of(file, "transferred_to", "key"));
	json_array_foreach(json_object_get(c, "slots"), i, slot)
	{
		const char *name = json_string_value(json_object_get(slot, "name"));
		const char *state = json_string_value(json_object_get(slot, "state"));

		if (!state || strcmp(state, "forgotten") != 0)
			say("but when it was signed the slot %s had not forgotten the old root key: %s", name ? name : "?",
				state ? state : "?");
	}
	return EXIT_OK;
}

int cmd_certificate_verify(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false,
			"the key as `coffer public-key` printed it (default: this installation's)"},
		{0},
	};
	static const struct request rq = {fields, "FILE",
		"Checks the signature of a certificate, as `coffer certificate CLIENT --json` printed it, without "
		"the daemons.\vThe key in the file itself proves nothing: take one that was kept off the host."};
	json_auto_t *params = NULL, *file = NULL;
	scoped(public_key_done) struct public_key key = {0};
	const char *path;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	path = json_string_value(json_object_get(params, "file"));
	r = public_key_get(t, json_string_value(json_object_get(params, "pubkey")), &key);
	if (r == EXIT_OK)
		r = load_file(path, &file);
	if (r != EXIT_OK)
		return r;
	if (!is_genuine(file, &key))
		return fail(EXIT_DAMAGED, "%s: not signed by this key, or altered since", path);
	if (t->json)
		return print_json(json_object_get(file, "certificate"));
	return say_genuine(file);
}

int cmd_certificate_show(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"file", NULL, "FILE", FIELD_TEXT, true, NULL},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false, "check the signature with this key"},
		{0},
	};
	static const struct request rq = {fields, "FILE",
		"Prints a certificate from its file, for people, without the daemons.\vWithout --pubkey nothing is "
		"said about its signature. One that is not genuine is not printed."};
	json_auto_t *params = NULL, *file = NULL;
	scoped(public_key_done) struct public_key key = {0};
	const char *path, *with;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	path = json_string_value(json_object_get(params, "file"));
	with = json_string_value(json_object_get(params, "pubkey"));
	r = with ? public_key_read(with, &key) : EXIT_OK;
	if (r == EXIT_OK)
		r = load_file(path, &file);
	if (r != EXIT_OK)
		return r;
	if (with && !is_genuine(file, &key))
		return fail(EXIT_DAMAGED, "%s: not signed by this key, or altered since", path);
	if (t->json)
		return print_json(json_object_get(file, "certificate"));
	return print_certificate(file, with ? "genuine: signed by the key in the file given, and not altered since"
					    : "the signature was not checked: that needs --pubkey");
}

/* ---- list ---- */

static json_t *row_of(int dir, const char *name, const struct public_key *key)
{
	json_auto_t *file = NULL;
	char why[512];

	if (load(dir, name, &file, why, sizeof(why)))
		return json_pack("{s:s, s:s, s:b}", "file", name, "verdict", "no certificate", "attention", 1);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "file", name, "client", text_of(file, "client", "client"), "kind",
		text_of(file, NULL, "kind"),
		"destroyed_at", text_of(file, NULL, "destroyed_at"), "rule", text_of(file, "rule", "text"), "verdict",
		!key ? "not checked" : is_genuine(file, key) ? "genuine" : "not genuine", "attention",
		key && !is_genuine(file, key));
}

static int is_json(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return dot && strcmp(dot, ".json") == 0 && d->d_name[0] != '.';
}

static int list_folder(const char *path, const struct public_key *key, json_t *rows)
{
	scoped(close_fdp) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **names = NULL;
	int n = dir < 0 ? -1 : scandirat(dir, ".", &names, is_json, alphasort);

	if (n < 0 && (errno == EACCES || errno == EPERM))
		return fail(EXIT_REFUSED, "%s: closed to you; ask its owner for copies and name their folder (`coffer report CLIENT` lists a client's)",
			path);
	if (n < 0)
		return fail(EXIT_USAGE, "%s: %s", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		json_array_append_new(rows, row_of(dir, names[i]->d_name, key));
		free(names[i]);
	}
	free(names);
	return EXIT_OK;
}

static int attention_code(const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
	{
		if (json_is_true(json_object_get(row, "attention")))
			return EXIT_DAMAGED;
	}
	return EXIT_OK;
}

int cmd_certificate_list(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"folder", NULL, "FOLDER", FIELD_TEXT, false, NULL},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false, "the key that must have signed them"},
		{0},
	};
	static const struct request rq = {fields, "[FOLDER]",
		"Lists the certificates in a folder (default: this installation's own, for its owner), without the "
		"daemons.\vOf a folder that is named, signatures are checked only with --pubkey."};
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"kind", "OF", CELL_TEXT},
		{"destroyed_at", "DESTROYED AT", CELL_TEXT},
		{"rule", "RULE", CELL_WRAP},
		{"verdict", "SIGNATURE", CELL_TEXT},
		{"file", "FILE", CELL_TEXT},
	};
	json_auto_t *params = NULL, *rows = json_array();
	scoped(freep) char *own = NULL;
	const char *folder, *with;
	scoped(public_key_done) struct public_key key = {0};
	int r = EXIT_OK;

	request_parse(t, &rq, argc, argv, &params);
	folder = json_string_value(json_object_get(params, "folder"));
	with = json_string_value(json_object_get(params, "pubkey"));
	if (!folder)
		r = tool_find_dir(t, true);
	if (r == EXIT_OK && !folder && asprintf(&own, "%s/keyd/certificates", t->dir.root) < 0)
		r = fail(EXIT_FAILED, "out of memory");
	if (r == EXIT_OK && (with || (!folder && access(own, R_OK | X_OK) == 0))) /* closed: list_folder says so */
		r = public_key_get(t, with, &key);
	if (r == EXIT_OK)
		r = list_folder(folder ? folder : own, !folder || with ? &key : NULL, rows);
	if (r == EXIT_OK)
		r = t->json ? print_json(rows) : table_print(rows, columns, ARRAY_SIZE(columns), "no certificates");
	return r == EXIT_OK ? attention_code(rows) : r;
}
