/* log: rows from coffer-fsd, their names opened by coffer-keyd.  log verify: with the daemons, or offline on
 * a copy. */
#include <errno.h>
#include <fnmatch.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "fs/broker/ledger_verify.h"
#include "tools/commands.h"
#include "tools/request.h"
#include "tools/table.h"

#define PAGE_ROWS 2000
#define NAMES_MAX 1000 /* in one question to keyd */

/* ---- names ---- */

/* The sealed paths of the rows: where each name goes when it is known. */
struct names {
	json_t *items;   /* [{client_id, month, sealed}] for keyd */
	json_t *targets; /* [[row, "path"|"path2"]] */
};

static int open_names(struct tool *t, struct names *n)
{
	json_t *answer = NULL, *names, *target;
	size_t i;
	int r;

	r = tool_try(t, DAEMON_KEYD, "LedgerNames", json_pack("{s:O}", "items", n->items), &answer);
	names = json_object_get(answer, "names");
	json_array_foreach(n->targets, i, target)
	{
		json_t *row = json_array_get(target, 0);
		const char *key = json_string_value(json_array_get(target, 1));
		json_t *name = r == EXIT_OK ? json_array_get(names, i) : NULL;

		json_object_set(row, key, name ? name : json_null());
		if (!json_is_string(name))
			json_object_set_new(row, "names_lost", json_true());
	}
	json_decref(answer);
	json_array_clear(n->items);
	json_array_clear(n->targets);
	/* Sealed, destroyed, not allowed: the rows stand without names. */
	return r == EXIT_UNREACHABLE ? EXIT_UNREACHABLE : EXIT_OK;
}

static int want_name(struct tool *t, struct names *n, json_t *row, const char *key)
{
	json_t *path = json_object_get(row, key);

	if (!json_is_object(path))
		return EXIT_OK;
	json_array_append_new(n->items,
		json_pack("{s:O, s:O, s:O}", "client_id", json_object_get(row, "client_id"), "month",
			json_object_get(path, "month"), "sealed", json_object_get(path, "sealed")));
	json_array_append_new(n->targets, json_pack("[O, s]", row, key));
	return json_array_size(n->items) < NAMES_MAX ? EXIT_OK : open_names(t, n);
}

static int name_rows(struct tool *t, json_t *rows)
{
	struct names n = {json_array(), json_array()};
	json_t *row;
	size_t i;
	int r = EXIT_OK;

	json_array_foreach(rows, i, row)
	{
		if (r == EXIT_OK)
			r = want_name(t, &n, row, "path");
		if (r == EXIT_OK)
			r = want_name(t, &n, row, "path2");
	}
	if (r == EXIT_OK && json_array_size(n.items) > 0)
		r = open_names(t, &n);
	json_decref(n.items);
	json_decref(n.targets);
	return r;
}

/* A prefix of whole path components, or a shell pattern. */
static bool path_matches(const json_t *row, const char *key, const char *wanted)
{
	const char *path = json_string_value(json_object_get(row, key));
	size_t n = strlen(wanted);

	if (!path)
		return false;
	if (strncmp(path, wanted, n) == 0 &&
		(path[n] == '\0' || path[n] == '/' || (n > 0 && wanted[n - 1] == '/')))
		return true;
	return fnmatch(wanted, path, 0) == 0;
}

static void keep_path(json_t *rows, const char *wanted)
{
	for (size_t i = json_array_size(rows); i-- > 0;) {
		const json_t *row = json_array_get(rows, i);

		if (!path_matches(row, "path", wanted) && !path_matches(row, "path2", wanted))
			json_array_remove(rows, i);
	}
}

/* ---- log ---- */

static int fetch(struct tool *t, json_t *params, const char *path, json_t **ret)
{
	json_t *all = json_array(), *answer = NULL, *next;
	int r = EXIT_OK;

	json_object_set_new(params, "limit", json_integer(PAGE_ROWS));
	do {
		json_t *rows;

		r = tool_call(t, DAEMON_FSD, "LogQuery", json_copy(params), NULL, 0, &answer);
		if (r != EXIT_OK)
			break;
		rows = json_object_get(answer, "rows");
		r = name_rows(t, rows);
		if (path)
			keep_path(rows, path);
		json_array_extend(all, rows);
		next = json_object_get(answer, "next");
		if (json_is_string(next))
			json_object_set(params, "after", next);
		else
			next = NULL;
		json_decref(answer);
		answer = NULL;
	} while (r == EXIT_OK && next);
	*ret = all;
	return r;
}

/* What a person reads in one cell: the path, or both of a rename; an act's details. */
static void describe(json_t *row)
{
	const char *path = json_string_value(json_object_get(row, "path"));
	const char *path2 = json_string_value(json_object_get(row, "path2"));
	json_t *detail = json_object_get(row, "detail"), *outcome = json_object_get(row, "outcome");
	scoped(freep) char *text = NULL;

	if (json_is_true(json_object_get(row, "names_lost")))
		text = strdup("(name cannot be opened: destroyed, sealed or not yours)");
	else if (path && path2 && asprintf(&text, "%s -> %s", path, path2) < 0)
		text = NULL;
	else if (path && !path2)
		text = strdup(*path ? path : "/");
	else if (!path && json_is_object(detail))
		text = json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS);
	json_object_set_new(row, "what", json_string(text ? text : ""));
	if (json_is_integer(outcome))
		json_object_set_new(row, "result",
			json_string(json_integer_value(outcome) ? strerror((int)json_integer_value(outcome))
								: "ok"));
	else
		json_object_set(row, "result", outcome ? outcome : json_null());
}

static int print_rows(json_t *rows)
{
	static const struct column columns[] = {
		{"time", "TIME", CELL_TIME},
		{"user", "USER", CELL_TEXT},
		{"client", "CLIENT", CELL_TEXT},
		{"purpose", "PURPOSE", CELL_TEXT},
		{"ticket", "TICKET", CELL_TEXT},
		{"op", "DID", CELL_TEXT},
		{"result", "RESULT", CELL_TEXT},
		{"what", "WHAT", CELL_WRAP},
		{"size", "SIZE", CELL_NUMBER},
		{"comm", "PROGRAM", CELL_TEXT},
	};
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row) describe(row);
	return table_print(rows, columns, ARRAY_SIZE(columns), "no records") < 0 ? EXIT_FAILED : EXIT_OK;
}

int cmd_log(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", "client", "CLIENT", FIELD_TEXT, false, "only this client"},
		{"user", "user", "USER", FIELD_TEXT, false, "only this user"},
		{"purpose", "purpose", "PURPOSE", FIELD_TEXT, false, "only this purpose"},
		{"session", "session", "N", FIELD_NUMBER, false, "only this session"},
		{"path", "path", "PATH", FIELD_TEXT, false,
			"only what is at or below PATH (below the share), or a pattern: '*.pdf'"},
		{"since", "since", "DATE", FIELD_DATE, false, "from then on"},
		{"until", "until", "DATE", FIELD_DATE, false, "before then"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Shows the record: who did what to which file, when, for which purpose.\vAuditors see all "
		"rows, others their own. What was "
		"done a moment ago is there: asking collects it."};
	scoped(freep) char *path = NULL;
	json_t *params, *rows = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	if (json_object_get(params, "path"))
		path = strdup(json_string_value(json_object_get(params, "path")));
	json_object_del(params, "path");
	r = fetch(t, params, path, &rows);
	if (r == EXIT_OK)
		r = t->json ? print_json(rows) : print_rows(rows);
	json_decref(rows);
	json_decref(params);
	return r;
}

/* ---- log verify ---- */

static bool hex_bytes(const char *hex, size_t length, uint8_t *to, size_t n)
{
	size_t got = 0;

	return length == 2 * n && sodium_hex2bin(to, n, hex, length, NULL, &got, NULL) == 0 && got == n;
}

static bool hex_of(const json_t *object, const char *key, uint8_t *to, size_t n)
{
	const char *hex = json_string_value(json_object_get(object, key));

	return hex && hex_bytes(hex, strlen(hex), to, n);
}

static int read_key(const char *key_file, uint8_t key[CHAIN_KEY_BYTES])
{
	scoped(freep) char *line = NULL;
	size_t cap = 0, n = 0, length;
	FILE *f = fopen(key_file, "re");

	if (!f)
		return fail(EXIT_USAGE, "%s: %s", key_file, strerror(errno));
	if (getline(&line, &cap, f) >= 0) {
		length = strcspn(line, "\n");
		if (sodium_base642bin(key, CHAIN_KEY_BYTES, line, length, NULL, &n, NULL,
			    sodium_base64_VARIANT_ORIGINAL) < 0 ||
			n != CHAIN_KEY_BYTES)
			n = hex_bytes(line, length, key, CHAIN_KEY_BYTES) ? CHAIN_KEY_BYTES : 0;
	}
	fclose(f);
	return n == CHAIN_KEY_BYTES
		       ? EXIT_OK
		       : fail(EXIT_USAGE, "%s: no public key in it; take D/keyd/signing.pub", key_file);
}

/* `key`, `expect`: or NULL. */
static int verify_file(struct tool *t, const char *db, const uint8_t *key, const struct ledger_head *expect)
{
	struct ledger_verdict v = {0};
	int r;

	r = ledger_verify_file(db, key, expect, &v);
	if (r < 0)
		return fail(r == -EUCLEAN ? EXIT_DAMAGED : EXIT_USAGE, "%s: %s", db,
			r == -EUCLEAN ? "this is not a ledger" : strerror(-r));
	if (t->json)
		printf("{\"batches\": %lld, \"records\": %lld, \"acts\": %lld, \"signed_until\": %lld, "
		       "\"first_bad\": %lld}\n",
			(long long)v.batches, (long long)v.records, (long long)v.acts,
			(long long)v.signed_until, (long long)v.first_bad);
	if (v.first_bad)
		return fail(EXIT_DAMAGED, "%s: batch %lld is not as it was written: %s", db,
			(long long)v.first_bad, v.reason);
	if (!t->json)
		printf("sound: %lld records and %lld acts in %lld batches; signed until batch %lld%s\n",
			(long long)v.records, (long long)v.acts, (long long)v.batches,
			(long long)v.signed_until, key ? "" : " (signatures not checked: --pubkey)");
	return EXIT_OK;
}

static int offline(struct tool *t, const char *db, const char *key_file)
{
	uint8_t key[CHAIN_KEY_BYTES];
	int r = key_file ? read_key(key_file, key) : EXIT_OK;

	return r == EXIT_OK ? verify_file(t, db, key_file ? key : NULL, NULL) : r;
}

/* coffer-fsd does not start on a ledger that somebody wrote into: then the owner reads the file himself. */
static int verify_own_file(struct tool *t, const json_t *head)
{
	struct ledger_head expect = {0};
	uint8_t key[CHAIN_KEY_BYTES];
	scoped(freep) char *db = NULL;
	bool known, signer;

	if (asprintf(&db, "%s/ledger/ledger.db", t->dir.root) < 0)
		return fail(EXIT_FAILED, "out of memory");
	expect.batch = json_integer_value(json_object_get(head, "batch"));
	known = hex_of(head, "hash", expect.hash.b, sizeof(expect.hash.b));
	signer = hex_of(head, "public_key", key, sizeof(key));
	return verify_file(t, db, signer ? key : NULL, known ? &expect : NULL);
}

static int online(struct tool *t)
{
	json_t *head = NULL, *params = json_object(), *answer = NULL, *bad;
	int r;

	/* The head that keyd remembers: a ledger that was cut cleanly does not lead to it. */
	if (tool_try(t, DAEMON_KEYD, "LedgerHead", NULL, &head) == EXIT_OK) {
		json_object_set_new(params, "expect",
			json_pack("{s:O, s:O}", "batch", json_object_get(head, "batch"), "hash",
				json_object_get(head, "hash")));
		json_object_set(params, "public_key", json_object_get(head, "public_key"));
	}
	if (tool_try(t, DAEMON_FSD, "Status", NULL, NULL) == EXIT_UNREACHABLE && head) {
		r = verify_own_file(t, head);
		json_decref(params);
		json_decref(head);
		return r;
	}
	json_decref(head);
	r = tool_call(t, DAEMON_FSD, "LogVerify", params, NULL, 0, &answer);
	bad = json_object_get(answer, "first_bad");
	if (r == EXIT_OK && t->json)
		r = print_json(answer);
	if (r == EXIT_OK && json_is_object(bad))
		r = fail(EXIT_DAMAGED, "batch %lld is not as it was written: %s",
			json_integer_value(json_object_get(bad, "batch")),
			json_string_value(json_object_get(bad, "reason")));
	else if (r == EXIT_OK && !t->json)
		printf("sound: %lld records and %lld acts in %lld batches; signed until batch %lld\n",
			json_integer_value(json_object_get(answer, "records")),
			json_integer_value(json_object_get(answer, "acts")),
			json_integer_value(json_object_get(answer, "batches")),
			json_integer_value(json_object_get(answer, "signed_until")));
	json_decref(answer);
	return r;
}

int cmd_log_verify(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"db", "db", "FILE", FIELD_TEXT, false, "a copy of ledger.db, checked without the daemons"},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false, "with --db: the public key (signing.pub)"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Checks the chain of the record: finds a changed, removed, inserted or cut row.\vWith the "
		"daemons the end is compared with the "
		"head that coffer-keyd remembers; a copy alone cannot show a cut tail beyond its last signed "
		"head."};
	const char *db;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	db = json_string_value(json_object_get(params, "db"));
	if (!db && json_object_get(params, "pubkey"))
		r = fail(EXIT_USAGE, "log verify: --pubkey goes with --db");
	else
		r = db ? offline(t, db, json_string_value(json_object_get(params, "pubkey"))) : online(t);
	json_decref(params);
	return r;
}
