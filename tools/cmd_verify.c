/* What can be checked with a public key: the ledger, with the daemons or offline on a copy. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "fs/broker/ledger_verify.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/public_key.h"
#include "tools/request.h"

#define LOOK_FIRST_NS 5000000 /* a small ledger takes no longer */
#define LOOK_EVERY_NS 200000000

static json_t *earlier(const struct public_key *key)
{
	char hex[2 * PUBLIC_KEY_BYTES + 1];
	json_t *rows = json_array();

	for (size_t i = 1; i < key->all.n; i++) {
		const struct signing_key *k = &key->all.keys[i];

		sodium_bin2hex(hex, sizeof(hex), k->b, sizeof(k->b));
		json_array_append_new(rows,
			json_pack("{s:s, s:I, s:I}", "public_key", hex, "from", (json_int_t)k->from, "until", (json_int_t)k->until));
	}
	return rows;
}

int cmd_public_key(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {{0}};
	static const struct request rq = {fields, NULL,
		"Prints the public key that signs certificates and the heads of the record, in base64.\vKeep a copy off this "
		"host: what is checked with it needs no trust in the host. When the key was exchanged (coffer rotate signing), "
		"lines follow by which each key vouches for the next and the one before; who keeps an older copy appends them."};
	char text[sodium_base64_ENCODED_LEN(PUBLIC_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL)];
	scoped(public_key_done) struct public_key key = {0};
	json_auto_t *params = NULL, *o = NULL;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	r = public_key_find(t, &key);
	if (r != EXIT_OK)
		return r;
	sodium_bin2base64(text, sizeof(text), key.b, sizeof(key.b), sodium_base64_VARIANT_ORIGINAL);
	if (!t->json) {
		printf("%s\n%s", text, key.links ? key.links : "");
		return EXIT_OK;
	}
	o = json_pack("{s:s, s:s, s:o}", "public_key", text, "links", key.links ? key.links : "", "earlier", earlier(&key));
	return print_json(o);
}

/* ---- log verify ---- */

/* {batches, records, acts, signed_until, first_bad {batch, reason}?}, as coffer-fsd answers. */
static int report(struct tool *t, const json_t *answer, const char *note)
{
	const json_t *bad = json_object_get(answer, "first_bad"), *gone = json_object_get(answer, "destroyed");
	char when[DATE_TEXT_MAX];
	int r = t->json ? print_json(answer) : EXIT_OK;

	if (r == EXIT_OK && json_is_object(bad))
		return fail(EXIT_DAMAGED,
			"batch %lld of the record is not as it was written: %s; keep a copy of the ledger as "
			"it is",
			json_integer_value(json_object_get(bad, "batch")),
			json_string_value(json_object_get(bad, "reason")));
	if (r == EXIT_OK && !t->json && json_integer_value(json_object_get(answer, "archives")))
		r = say("%lld months in archives are sound", json_integer_value(json_object_get(answer, "archives")));
	if (r == EXIT_OK && !t->json && gone)
		r = say("records 1 to %lld: destroyed by retention, the last of them %s", json_integer_value(json_object_get(gone, "to")),
			date_format(json_integer_value(json_object_get(gone, "time")), when));
	if (r == EXIT_OK && !t->json)
		r = say("sound: %lld records and %lld acts in %lld batches; signed until batch %lld%s%s",
			json_integer_value(json_object_get(answer, "records")),
			json_integer_value(json_object_get(answer, "acts")),
			json_integer_value(json_object_get(answer, "batches")),
			json_integer_value(json_object_get(answer, "signed_until")),
			!*note && json_is_false(json_object_get(answer, "time_signed")) ? " (its time is not signed: of an earlier version)" : "",
			note);
	return r;
}

/* ---- anchors: lines that have "coffer-ledger-head BATCH HASH SIGNATURE TIME" in them, as they stand in the journal ---- */

#define ANCHORS_MAX 1000 /* that coffer-fsd takes in a call */

struct anchors {
	struct ledger_anchor *list;
	size_t n;
};

static void anchors_done(struct anchors *a)
{
	free(a->list);
}

static bool anchor_parse(const char *line, struct ledger_anchor *ret)
{
	char hash[2 * CHAIN_HASH_BYTES + 1], signature[2 * CHAIN_SIGNATURE_BYTES + 1];
	const char *at = strstr(line, "coffer-ledger-head ");
	long long batch, when;
	size_t n, m;

	if (!at || sscanf(at, "coffer-ledger-head %lld %64[0-9a-f] %128[0-9a-f] %lld", &batch, hash, signature, &when) != 4)
		return false;
	ret->head.batch = batch;
	ret->time = when;
	return sodium_hex2bin(ret->head.hash.b, CHAIN_HASH_BYTES, hash, strlen(hash), NULL, &n, NULL) == 0 &&
	       sodium_hex2bin(ret->signature, CHAIN_SIGNATURE_BYTES, signature, strlen(signature), NULL, &m, NULL) == 0 &&
	       n == CHAIN_HASH_BYTES && m == CHAIN_SIGNATURE_BYTES;
}

static int anchors_read(const char *file, struct anchors *a)
{
	scoped(freep) char *line = NULL;
	FILE *f = fopen(file, "re");
	size_t cap = 0;

	if (!f)
		return fail(EXIT_USAGE, "%s: %s", file, strerror(errno));
	while (getline(&line, &cap, f) > 0) {
		struct ledger_anchor one, *list;

		if (!anchor_parse(line, &one))
			continue;
		list = realloc(a->list, (a->n + 1) * sizeof(*list));
		if (!list) {
			fclose(f);
			return fail(EXIT_FAILED, "out of memory");
		}
		a->list = list;
		a->list[a->n++] = one;
	}
	fclose(f);
	return a->n ? EXIT_OK : fail(EXIT_USAGE, "%s: no line has a head (coffer-ledger-head ...)", file);
}

/* A record that was made anew with another key leads to no head of before: that none counts is no good end. */
static int report_anchors(struct tool *t, int64_t until, int64_t at, int64_t batches, int64_t ignored)
{
	char when[DATE_TEXT_MAX];
	int r = EXIT_OK;

	if (!until)
		return fail(EXIT_DAMAGED, "no head in the file is signed by the key of this record: the file is another record's, or somebody exchanged the key");
	if (!t->json)
		r = say("anchored until batch %lld, %s; unanchored since: %lld batches", (long long)until,
			date_format(at, when), (long long)(batches - until));
	if (!t->json && ignored)
		r = say("%lld heads in the file are not signed by this key and count for nothing",
			(long long)ignored);
	return r;
}

static void show_progress(void *userdata, int64_t records, int64_t of)
{
	progress_show(userdata, (uint64_t)records, (uint64_t)of, "%lld of %lld records checked", (long long)records, (long long)of);
}

/* `key`, `expect`, `anchors`: or NULL. */
static int verify_file(struct tool *t, const char *db, const struct public_key *key, const struct ledger_head *expect,
	const struct anchors *anchors)
{
	struct ledger_keys keys;
	struct progress p;
	const struct ledger_verify_options o = {.keys = key ? &keys : NULL,
		.expect = expect,
		.progress = show_progress,
		.userdata = &p,
		.anchors = anchors ? anchors->list : NULL,
		.anchors_n = anchors ? anchors->n : 0};
	json_auto_t *answer = NULL;
	struct ledger_verdict v = {0};
	int r;

	if (key)
		public_key_ledger(key, &keys);
	progress_begin(&p, t->json);
	r = ledger_verify(db, &o, &v);
	progress_clear(&p);
	if (r < 0)
		return fail(r == -EUCLEAN ? EXIT_DAMAGED : EXIT_USAGE, "%s: %s", db,
			r == -EUCLEAN           ? "this is not a ledger"
			: r == -EPROTONOSUPPORT ? "this ledger is of another version: coffer-fsd brings an older one to this when it starts"
						: strerror(-r));
	answer = json_pack("{s:I, s:I, s:I, s:I, s:I}", "batches", (json_int_t)v.batches, "records",
		(json_int_t)v.records, "acts", (json_int_t)v.acts, "signed_until", (json_int_t)v.signed_until,
		"signed_at", (json_int_t)v.signed_at);
	if (v.signed_until)
		json_object_set_new(answer, "time_signed", json_boolean(key && !v.time_unsigned));
	json_object_set_new(answer, "archives", json_integer(v.archives));
	if (v.destroyed_to)
		json_object_set_new(answer, "destroyed",
			json_pack("{s:I, s:I}", "to", (json_int_t)v.destroyed_to, "time", (json_int_t)v.destroyed_at));
	if (v.first_bad)
		json_object_set_new(answer, "first_bad",
			json_pack("{s:I, s:s}", "batch", (json_int_t)v.first_bad, "reason", v.reason));
	if (anchors) {
		json_object_set_new(answer, "anchored_until", json_integer(v.anchored_until));
		json_object_set_new(answer, "anchored_at", json_integer(v.anchored_at));
		json_object_set_new(answer, "anchors_ignored", json_integer(v.anchors_ignored));
	}
	r = report(t, answer, key ? "" : "; signatures were not checked: that needs --pubkey");
	return r == EXIT_OK && anchors ? report_anchors(t, v.anchored_until, v.anchored_at, v.batches, v.anchors_ignored) : r;
}

static int verify_copy(struct tool *t, const char *db, const char *key_file, const char *anchors_file)
{
	scoped(public_key_done) struct public_key key = {0};
	scoped(anchors_done) struct anchors anchors = {0};
	int r = key_file ? public_key_read(key_file, &key) : EXIT_OK;

	if (r == EXIT_OK && anchors_file)
		r = anchors_read(anchors_file, &anchors);
	return r == EXIT_OK ? verify_file(t, db, key_file ? &key : NULL, NULL, anchors_file ? &anchors : NULL) : r;
}

/* The head that keyd remembers: a ledger that was cut cleanly, or replaced by an older one, does not lead to
 * it. NULL: none was signed yet. */
static int remembered_head(struct tool *t, json_t **ret)
{
	int r = tool_try(t, DAEMON_KEYD, "LedgerHead", NULL, ret);

	if (r == EXIT_OK || r == EXIT_NOT_FOUND)
		return EXIT_OK;
	return tool_call(t, DAEMON_KEYD, "LedgerHead", NULL, NULL, 0, NULL); /* once more, aloud */
}

/* coffer-fsd does not start on a ledger that somebody wrote into: then the owner reads the file himself. */
static int verify_own_file(struct tool *t, const json_t *head, const struct anchors *anchors)
{
	const char *hash = json_string_value(json_object_get(head, "hash"));
	const char *hex = json_string_value(json_object_get(head, "public_key"));
	struct ledger_head expect = {.batch = json_integer_value(json_object_get(head, "batch"))};
	scoped(freep) char *db = NULL;
	scoped(public_key_done) struct public_key key = {0};
	bool known, signs;
	size_t n = 0;

	if (asprintf(&db, "%s/ledger/ledger.db", t->dir.root) < 0)
		return fail(EXIT_FAILED, "out of memory");
	known = hash &&
		sodium_hex2bin(expect.hash.b, sizeof(expect.hash.b), hash, strlen(hash), NULL, &n, NULL) ==
			0 &&
		n == sizeof(expect.hash.b);
	signs = hex && public_key_parse(hex, json_string_value(json_object_get(head, "links")), &key);
	return verify_file(t, db, signs ? &key : NULL, known ? &expect : NULL, anchors);
}

/* Asked for until it is done, with a line that says how far it is. */
static int verify_in_daemon(struct tool *t, json_t *params, json_t **ret)
{
	struct timespec pause = {.tv_nsec = LOOK_FIRST_NS};
	json_auto_t *begun = NULL;
	struct progress p;
	int r;

	json_object_set_new(params, "job", json_true());
	r = tool_call(t, DAEMON_FSD, "LogVerify", params, NULL, 0, &begun);
	progress_begin(&p, t->json);
	while (r == EXIT_OK) {
		json_auto_t *answer = NULL;
		const char *state;

		r = tool_call(t, DAEMON_FSD, "VerifyJob", json_pack("{s:O}", "job", json_object_get(begun, "job")), NULL, 0, &answer);
		state = json_string_value(json_object_get(answer, "state"));
		if (r == EXIT_OK && (!state || strcmp(state, "running") != 0)) {
			json_object_del(answer, "state");
			*ret = take_ptr(&answer);
			break;
		}
		if (r == EXIT_OK) {
			show_progress(&p, json_integer_value(json_object_get(answer, "records")),
				json_integer_value(json_object_get(answer, "of")));
			nanosleep(&pause, NULL);
			if (pause.tv_nsec < LOOK_EVERY_NS)
				pause.tv_nsec *= 2;
		}
	}
	progress_clear(&p);
	return r;
}

static json_t *anchors_rows(const struct anchors *a)
{
	json_t *rows = json_array();

	for (size_t i = 0; i < a->n; i++) {
		char hash[2 * CHAIN_HASH_BYTES + 1], signature[2 * CHAIN_SIGNATURE_BYTES + 1];
		const struct ledger_anchor *one = &a->list[i];

		sodium_bin2hex(hash, sizeof(hash), one->head.hash.b, sizeof(one->head.hash.b));
		sodium_bin2hex(signature, sizeof(signature), one->signature, sizeof(one->signature));
		json_array_append_new(rows, json_pack("{s:I, s:s, s:s, s:I}", "batch", (json_int_t)one->head.batch, "hash", hash,
							"signature", signature, "at", (json_int_t)one->time));
	}
	return rows;
}

/* Where heads go by themselves, and how far they came: what nobody has compared says less than --anchors, and where to look. */
static void say_places(struct tool *t, json_int_t batches)
{
	json_auto_t *status = NULL;
	const json_t *row;
	size_t i;

	if (t->json || tool_try(t, DAEMON_KEYD, "Status", NULL, &status) != EXIT_OK)
		return;
	json_array_foreach(json_object_get(status, "anchors"), i, row)
	{
		const char *to = json_string_value(json_object_get(row, "to"));
		json_int_t until = json_integer_value(json_object_get(row, "batch"));
		char when[DATE_TEXT_MAX];

		if (json_object_get(row, "failing") && !json_is_null(json_object_get(row, "failing")))
			say("%s: fails (%s)", to, json_string_value(json_object_get(row, "failing")));
		else if (until)
			say("sent to %s: heads until batch %lld, %s; not since: %lld batches", to, (long long)until,
				date_format(json_integer_value(json_object_get(row, "at")), when), (long long)(batches - until));
		else
			say("sent to %s: nothing since coffer-keyd started", to);
	}
}

static int report_anchored(struct tool *t, const json_t *answer, bool anchors)
{
	json_int_t batches = json_integer_value(json_object_get(answer, "batches"));
	int r = report(t, answer, "");

	if (r != EXIT_OK)
		return r;
	if (anchors)
		r = report_anchors(t, json_integer_value(json_object_get(answer, "anchored_until")),
			json_integer_value(json_object_get(answer, "anchored_at")), batches,
			json_integer_value(json_object_get(answer, "anchors_ignored")));
	else
		say_places(t, batches);
	return r;
}

static int verify_with_daemons(struct tool *t, const char *anchors_file)
{
	scoped(anchors_done) struct anchors anchors = {0};
	scoped(public_key_done) struct public_key key = {0};
	json_auto_t *head = NULL, *answer = NULL;
	const char *hex;
	json_t *params;
	int r;

	r = anchors_file ? anchors_read(anchors_file, &anchors) : EXIT_OK;
	if (r == EXIT_OK && anchors.n > ANCHORS_MAX)
		r = fail(EXIT_USAGE, "%s: more than %d heads; give --db and --pubkey, too, or a part of it", anchors_file, ANCHORS_MAX);
	if (r == EXIT_OK)
		r = remembered_head(t, &head);
	if (r != EXIT_OK)
		return r;
	hex = json_string_value(json_object_get(head, "public_key"));
	if (anchors_file && head && !hex)
		return fail(EXIT_SEALED, "the keys are sealed, and without the public key anybody can write heads: `coffer unseal`, or give --db and --pubkey, too");
	if (tool_try(t, DAEMON_FSD, "Status", NULL, NULL) == EXIT_UNREACHABLE && head)
		return verify_own_file(t, head, anchors_file ? &anchors : NULL);
	params = json_object();
	if (head) {
		json_object_set_new(params, "expect",
			json_pack("{s:O, s:O}", "batch", json_object_get(head, "batch"), "hash",
				json_object_get(head, "hash")));
		if (hex && public_key_parse(hex, json_string_value(json_object_get(head, "links")), &key))
			json_object_set_new(params, "public_keys", public_key_rows(&key));
	}
	if (anchors_file)
		json_object_set_new(params, "anchors", anchors_rows(&anchors));
	r = verify_in_daemon(t, params, &answer);
	return r == EXIT_OK ? report_anchored(t, answer, anchors_file) : r;
}

int cmd_log_verify(struct tool *t, int argc, char **argv)
{
	static const struct field fields[] = {
		{"db", "db", "FILE", FIELD_TEXT, false, "a copy of ledger.db, checked without the daemons"},
		{"pubkey", "pubkey", "FILE", FIELD_TEXT, false,
			"with --db: the key as `coffer public-key` prints it"},
		{"anchors", "anchors", "FILE", FIELD_TEXT, false,
			"heads that were kept elsewhere: lines of the system's journal, of a file, of letters; with --db needs --pubkey"},
		{0},
	};
	static const struct request rq = {fields, NULL,
		"Checks the chain of the record: finds a changed, removed, inserted or cut row.\vWith the "
		"daemons "
		"the end is compared with the head that coffer-keyd remembers. A copy alone cannot show that "
		"its "
		"end was cut behind the last signed head."};
	const char *db, *anchors;
	json_t *params;
	int r;

	request_parse(t, &rq, argc, argv, &params);
	db = json_string_value(json_object_get(params, "db"));
	anchors = json_string_value(json_object_get(params, "anchors"));
	if (!db && json_object_get(params, "pubkey"))
		r = fail(EXIT_USAGE, "log verify: --pubkey goes with --db");
	else if (db && anchors && !json_object_get(params, "pubkey"))
		r = fail(EXIT_USAGE, "log verify: --anchors of a copy needs --pubkey: without the key anybody can write heads");
	else
		r = db ? verify_copy(t, db, json_string_value(json_object_get(params, "pubkey")), anchors)
		       : verify_with_daemons(t, anchors);
	json_decref(params);
	return r;
}
