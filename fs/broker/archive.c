/* Statements over archives, and where archives are. */
#include "fs/broker/archive.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT 1
#define FORMAT_ACTS 2 /* of an archive with which acts left the ledger */

static json_t *batch_json(const struct chain_batch *b)
{
	char hex[CHAIN_HASH_HEX];
	json_t *to = json_array();

	for (unsigned t = 0; t < CHAIN_TABLES; t++)
		json_array_append_new(to, json_integer(b->to[t]));
	sodium_bin2hex(hex, sizeof(hex), b->hash.b, sizeof(b->hash.b));
	return json_pack("{s:I, s:I, s:s, s:o}", "batch", (json_int_t)b->batch, "time", (json_int_t)b->time, "hash", hex, "to", to);
}

static bool hash_parse(const char *hex, uint8_t hash[CHAIN_HASH_BYTES])
{
	size_t n = 0;

	return hex && strlen(hex) == 2 * CHAIN_HASH_BYTES &&
	       sodium_hex2bin(hash, CHAIN_HASH_BYTES, hex, strlen(hex), NULL, &n, NULL) == 0 && n == CHAIN_HASH_BYTES;
}

static bool batch_parse(json_t *o, struct chain_batch *ret)
{
	json_int_t batch, time;
	const char *hash;
	json_t *to;

	if (json_unpack(o, "{s:I, s:I, s:s, s:o}", "batch", &batch, "time", &time, "hash", &hash, "to", &to) < 0 ||
		!hash_parse(hash, ret->hash.b) || json_array_size(to) != CHAIN_TABLES || batch < 0)
		return false;
	ret->batch = batch;
	ret->time = time;
	for (unsigned t = 0; t < CHAIN_TABLES; t++) {
		ret->to[t] = json_integer_value(json_array_get(to, t));
		if (!json_is_integer(json_array_get(to, t)) || ret->to[t] < 0)
			return false;
	}
	return true;
}

/* It becomes the name of a file. */
static bool name_ok(const char *name)
{
	return strlen(name) >= 7 && strlen(name) < ARCHIVE_NAME_MAX && strspn(name, "0123456789-.") == strlen(name) && name[0] != '.';
}

static int dump(json_t *o, char **ret)
{
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	json_decref(o);
	if (!text)
		return -ENOMEM;
	*ret = text;
	return 0;
}

int archive_statement(const struct archive *a, char **ret)
{
	char kept[CHAIN_HASH_HEX], index[CHAIN_HASH_HEX];
	json_t *act_times = NULL;

	sodium_bin2hex(kept, sizeof(kept), a->kept.b, sizeof(a->kept.b));
	sodium_bin2hex(index, sizeof(index), a->index.hash, sizeof(a->index.hash));
	if (a->acts_moved)
		act_times = json_pack("[I,I]", (json_int_t)a->act_from, (json_int_t)a->act_to);
	return dump(json_pack("{s:i, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:s, s:s, s:I, s:I, s:o*}", "format", a->acts_moved ? FORMAT_ACTS : FORMAT, "kind", "archive",
			    "name", a->name, "ledger", a->ledger, "before", batch_json(&a->before), "last", batch_json(&a->last),
			    "from_time", (json_int_t)a->from_time, "to_time", (json_int_t)a->to_time, "kept", kept, "index", index,
			    "bytes", (json_int_t)a->index.bytes, "made", (json_int_t)a->made, "act_times", act_times),
		ret);
}

int archive_parse(const char *statement, struct archive *ret)
{
	json_auto_t *o = json_loads(statement, 0, NULL);
	const char *kind, *name, *ledger, *kept, *index;
	json_int_t from, to, bytes, made, act_from = 0, act_to = 0;
	json_t *before, *last, *act_times = NULL;
	struct archive a = {0};
	int format;

	if (json_unpack(o, "{s:i, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:s, s:s, s:I, s:I, s?o!}", "format", &format, "kind", &kind, "name",
		    &name, "ledger", &ledger, "before", &before, "last", &last, "from_time", &from, "to_time", &to, "kept", &kept,
		    "index", &index, "bytes", &bytes, "made", &made, "act_times", &act_times) < 0)
		return -EUCLEAN;
	if (act_times && json_unpack(act_times, "[I,I!]", &act_from, &act_to) < 0)
		return -EUCLEAN;
	if (format != (act_times ? FORMAT_ACTS : FORMAT) || strcmp(kind, "archive") != 0 || !name_ok(name) || strlen(ledger) >= sizeof(a.ledger) ||
		!batch_parse(before, &a.before) || !batch_parse(last, &a.last) || !hash_parse(kept, a.kept.b) ||
		!hash_parse(index, a.index.hash) || a.last.batch <= a.before.batch)
		return -EUCLEAN;
	snprintf(a.name, sizeof(a.name), "%s", name);
	snprintf(a.ledger, sizeof(a.ledger), "%s", ledger);
	a.from_time = from;
	a.to_time = to;
	a.index.bytes = bytes;
	a.made = made;
	a.acts_moved = act_times;
	a.act_from = act_from;
	a.act_to = act_to;
	*ret = a;
	return 0;
}

int archive_end_statement(const struct archive_end *e, char **ret)
{
	char last[CHAIN_HASH_HEX];

	sodium_bin2hex(last, sizeof(last), e->last.b, sizeof(e->last.b));
	return dump(json_pack("{s:i, s:s, s:s, s:s, s:[I,I], s:s, s:I, s:s}", "format", FORMAT, "kind", "destroyed", "name", e->name,
			    "ledger", e->ledger, "records", (json_int_t)e->from_record, (json_int_t)e->to_record, "last", last, "time",
			    (json_int_t)e->time, "why", e->why),
		ret);
}

int archive_end_parse(const char *statement, struct archive_end *ret)
{
	json_auto_t *o = json_loads(statement, 0, NULL);
	const char *kind, *name, *ledger, *last, *why;
	struct archive_end e = {0};
	json_int_t from, to, time;
	int format;

	if (json_unpack(o, "{s:i, s:s, s:s, s:s, s:[I,I!], s:s, s:I, s:s!}", "format", &format, "kind", &kind, "name", &name,
		    "ledger", &ledger, "records", &from, &to, "last", &last, "time", &time, "why", &why) < 0)
		return -EUCLEAN;
	if (format != FORMAT || strcmp(kind, "destroyed") != 0 || !name_ok(name) || strlen(ledger) >= sizeof(e.ledger) ||
		!hash_parse(last, e.last.b))
		return -EUCLEAN;
	snprintf(e.name, sizeof(e.name), "%s", name);
	snprintf(e.ledger, sizeof(e.ledger), "%s", ledger);
	snprintf(e.why, sizeof(e.why), "%s", why);
	e.from_record = from;
	e.to_record = to;
	e.time = time;
	*ret = e;
	return 0;
}

bool archive_signature_ok(const char *statement, const uint8_t signature[ARCHIVE_SIGNATURE_BYTES],
	const uint8_t key[CHAIN_KEY_BYTES])
{
	size_t n = sizeof(ARCHIVE_CONTEXT) + strlen(statement); /* with the zero between them */
	scoped(freep) unsigned char *text = malloc(n);

	if (!text)
		return false;
	memcpy(text, ARCHIVE_CONTEXT, sizeof(ARCHIVE_CONTEXT));
	memcpy(text + sizeof(ARCHIVE_CONTEXT), statement, strlen(statement));
	return crypto_sign_verify_detached(signature, text, n, key) == 0;
}

char *archive_path(const char *ledger_path, const char *name)
{
	const char *slash = strrchr(ledger_path, '/');
	int n = slash ? (int)(slash - ledger_path + 1) : 0;
	char *path;

	return asprintf(&path, "%.*s" ARCHIVE_FOLDER "/%s" ARCHIVE_SUFFIX, n, ledger_path, name) < 0 ? NULL : path;
}
