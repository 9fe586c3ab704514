/* incident, disclose: what a client must be told, and what is accounted for. */
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "tools/commands.h"
#include "tools/log_opens.h"
#include "tools/request.h"
#include "tools/table.h"

/* ---- incident ---- */

/* Clients by name: {opens, persons {name: true}, files {id: true}}. */
static void count(const json_t *row, void *arg)
{
	json_t *clients = arg;
	const char *client = json_string_value(json_object_get(row, "client"));
	const char *user = json_string_value(json_object_get(row, "user"));
	const char *file = json_string_value(json_object_get(row, "file"));
	json_t *c;

	if (!client)
		return;
	c = json_object_get(clients, client);
	if (!c) {
		c = json_pack("{s:i, s:{}, s:{}}", "opens", 0, "persons", "files");
		json_object_set_new(clients, client, c);
	}
	json_object_set_new(c, "opens", json_integer(json_integer_value(json_object_get(c, "opens")) + 1));
	json_object_set_new(json_object_get(c, "persons"), user ? user : "(not known)", json_true());
	if (file)
		json_object_set_new(json_object_get(c, "files"), file, json_true());
}

static int fetch(struct tool *t, const json_t *asked, json_t *clients)
{
	json_auto_t *params = json_pack("{s:O, s:O, s:O*, s:O*}", "since", json_object_get(asked, "from"), "until",
		json_object_get(asked, "until"), "client", json_object_get(asked, "client"), "user",
		json_object_get(asked, "user"));

	return log_opens(t, params, count, clients);
}

static json_t *keys_of(const json_t *object)
{
	json_t *list = json_array(), *v;
	const char *key;

	json_object_foreach((json_t *)object, key, v)
		json_array_append_new(list, json_string(key));
	return list;
}

static char *joined(const json_t *list)
{
	scoped(freep) char *text = NULL;
	size_t n = 0, i;
	FILE *f = open_memstream(&text, &n);
	json_t *v;

	if (!f)
		return NULL;
	json_array_foreach((json_t *)list, i, v)
		fprintf(f, "%s%s", i ? " " : "", json_string_value(v));
	fclose(f);
	return take_ptr(&text);
}

/* One client: a row, and if wanted his letter. */
static int tell(struct tool *t, const json_t *asked, const char *client, const json_t *c, bool notify, json_t *rows)
{
	json_auto_t *persons = keys_of(json_object_get(c, "persons")), *files = keys_of(json_object_get(c, "files"));
	const char *categories = json_string_value(json_object_get(asked, "categories"));
	scoped(freep) char *names = joined(persons);
	json_auto_t *answer = NULL;
	json_t *row;
	int r = EXIT_OK;

	if (notify)
		r = tool_call(t, DAEMON_KEYD, "Incident",
			json_pack("{s:s, s:O, s:O, s:I, s:I, s:s}", "client", client, "from", json_object_get(asked, "from"),
				"until", json_object_get(asked, "until"), "persons", (json_int_t)json_array_size(persons),
				"files", (json_int_t)json_array_size(files), "categories",
				categories ? categories : "what the files held that were opened"),
			NULL, 0, &answer);
	if (r != EXIT_OK)
		return r;
	row = json_pack("{s:s, s:O, s:O, s:O, s:s*, s:I}", "client", client, "opens", json_object_get(c, "opens"), "persons",
		persons, "files", files, "names", names, "files_count", (json_int_t)json_array_size(files));
	if (answer) {
		json_object_set(row, "letter", json_object_get(answer, "file"));
		json_object_set(row, "to", json_object_get(answer, "to"));
	}
	json_array_append_new(rows, row);
	return EXIT_OK;
}

int cmd_incident(struct tool *t, int argc, char **argv)
{
	static const struct column columns[] = {
		{"client", "CLIENT", CELL_TEXT},
		{"opens", "OPENED", CELL_NUMBER},
		{"files_count", "FILES", CELL_NUMBER},
		{"names", "BY", CELL_WRAP},
		{"letter", "LETTER", CELL_TEXT},
		{"to", "TO", CELL_WRAP},
	};
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, false, "the client; --all: every client"},
		{"all", "all", NULL, FIELD_FLAG, false, "every client of which something was opened then"},
		{"from", "from", "DATE", FIELD_DATE, true, "when it began"},
		{"until", "to", "DATE", FIELD_DATE, true, "when it was over"},
		{"user", "user", "USER", FIELD_TEXT, false, "only what this user opened"},
		{"notify", "notify", NULL, FIELD_FLAG, false, "write each client's letter, and hand it to the mail program"},
		{"categories", "categories", "TEXT", FIELD_TEXT, false, "what kind of data it was: stands in the letter"},
		{0},
	};
	static const struct request rq = {fields, "[CLIENT]",
		"Lists after a breach of security which clients, persons and files it concerns.\vWith --notify a letter to each "
		"client's address of record is written to DIR/outbox and handed to the policy's mail program; that is recorded."};
	json_t *params, *clients = json_object(), *rows = json_array(), *c;
	const char *client;
	bool all, notify;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	all = json_is_true(json_object_get(params, "all"));
	notify = json_is_true(json_object_get(params, "notify"));
	if (all == !!json_object_get(params, "client"))
		r = fail(EXIT_USAGE, "incident: name a client, or --all");
	else
		r = fetch(t, params, clients);
	json_object_foreach(clients, client, c)
		if (r == EXIT_OK)
			r = tell(t, params, client, c, notify, rows);
	if (r == EXIT_OK && t->json)
		r = print_json(rows);
	else if (r == EXIT_OK)
		r = table_print(rows, columns, ARRAY_SIZE(columns), "nothing was opened then");
	json_decref(rows);
	json_decref(clients);
	json_decref(params);
	return r;
}

/* ---- disclose ---- */

static int hash_file(const char *path, char hex[2 * crypto_hash_sha256_BYTES + 1])
{
	unsigned char buf[65536], hash[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state h;
	FILE *f = fopen(path, "re");
	bool bad;
	size_t n;

	if (!f)
		return fail(EXIT_USAGE, "%s: %s", path, strerror(errno));
	crypto_hash_sha256_init(&h);
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		crypto_hash_sha256_update(&h, buf, n);
	bad = ferror(f);
	fclose(f);
	if (bad)
		return fail(EXIT_USAGE, "%s: cannot be read", path);
	crypto_hash_sha256_final(&h, hash);
	sodium_bin2hex(hex, 2 * sizeof(hash) + 1, hash, sizeof(hash));
	return EXIT_OK;
}

int cmd_disclose(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"client", NULL, "CLIENT", FIELD_TEXT, true, NULL},
		{"authority", "authority", "TEXT", FIELD_TEXT, true, "who demanded it: the court, its reference"},
		{"document", "document", "FILE", FIELD_TEXT, true, "the order; its SHA-256 is recorded, not the file"},
		{"scope", "scope", "TEXT", FIELD_TEXT, true, "what was disclosed"},
		{"sealed_until", "sealed-until", "DATE", FIELD_DATE, false, "nobody is told before: the book has a commitment until then"},
		{0},
	};
	static const struct request rq = {fields, "CLIENT",
		"Records that a client's data were disclosed to an authority.\vThe accounting: coffer log --op disclosure --client "
		"CLIENT. What the authority's order allows somebody to open is opened for the purpose legal-process."};
	char hex[2 * crypto_hash_sha256_BYTES + 1];
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = hash_file(json_string_value(json_object_get(params, "document")), hex);
	if (r != EXIT_OK) {
		json_decref(params);
		return r;
	}
	json_object_set_new(params, "document", json_string(hex));
	r = tool_call(t, DAEMON_KEYD, "Disclose", params, NULL, 0, NULL);
	return r == EXIT_OK ? say("recorded; the document's SHA-256 is %s", hex) : r;
}

int cmd_disclosures(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Lists the disclosures that are sealed, for admins and custodians.\vThe others are in the book: coffer log --op "
		"disclosure. That somebody looked at the list is recorded."};
	static const struct column columns[] = {
		{"until", "SEALED UNTIL", CELL_DAY},
		{"client", "CLIENT", CELL_TEXT},
		{"authority", "AUTHORITY", CELL_WRAP},
		{"scope", "SCOPE", CELL_WRAP},
		{"recorded_at", "RECORDED", CELL_TIME},
		{"recorded_by", "BY", CELL_TEXT},
	};

	return request_list(t, argc, argv, &rq, "SealedList", "sealed", columns, ARRAY_SIZE(columns), "nothing is sealed");
}
