/* What tools may ask.  doc/PROTOCOL.md has the same table. */
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "common/pathseal.h"
#include "common/scope.h"
#include "fs/broker/archive_job.h"
#include "fs/broker/broker.h"
#include "fs/broker/pages.h"
#include "fs/broker/verify_job.h"

#define READERS (ROLE_AUDITOR | ROLE_OWNER)

int broker_reply_errno(struct varlink_call *call, int r, const char *what)
{
	if (r == -ENOSPC || r == -EDQUOT)
		return varlink_errorf(call, "LedgerUnavailable",
			"make room on the disk that holds the ledger",
			"%s: the disk is full; nothing recorded is lost", what);
	if (r == -EUCLEAN || r == -EBADMSG)
		return varlink_errorf(
			call, "LedgerDamaged", "run `coffer log verify`", "%s: the ledger is damaged", what);
	return varlink_errorf(call, "LedgerUnavailable", "see fsd.log", "%s: %s", what, strerror(-r));
}

/* A member that is null is one that is not there. */
void broker_drop_nulls(json_t *object)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value)
	{
		if (json_is_null(value))
			json_object_del(object, key);
	}
}

static int bad_parameters(struct varlink_call *call, const json_error_t *e)
{
	return varlink_errorf(
		call, "InvalidParameter", NULL, "the request is not as it should be: %s", e->text);
}

static int attach(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(close_fdp) int fuse_fd = varlink_call_take_fd(call, 0);
	scoped(close_fdp) int keeper_fd = varlink_call_take_fd(call, 1);
	const char *token, *mountpoint;
	struct broker *b = userdata;
	struct refusal why = {0};
	json_int_t session;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:I,s:s,s:s}", "session", &session, "token", &token, "mountpoint",
		    &mountpoint) < 0)
		return bad_parameters(call, &e);
	if (fuse_fd < 0 || keeper_fd < 0)
		return varlink_error(call, "NoDescriptor",
			"the descriptors of the mount and of its keeper are missing",
			"mount with `coffer mount`");
	if (b->stopping)
		return varlink_error(
			call, "Stopping", "coffer-fsd is ending", "start it again with `coffer up`");
	r = session_attach(b, varlink_call_peer(call), (uint64_t)session, token, mountpoint,
		take_fd(&fuse_fd), take_fd(&keeper_fd), &why);
	return r < 0 ? varlink_error(call, why.error, why.message, why.remedy) : varlink_reply(call, NULL);
}

static int hex_bytes(const char *hex, uint8_t *to, size_t n)
{
	size_t got;

	if (sodium_hex2bin(to, n, hex, strlen(hex), NULL, &got, NULL) < 0 || got != n || strlen(hex) != 2 * n)
		return -EINVAL;
	return 0;
}

static void place_now(struct broker *b, char at[PAGE_PLACE_MAX])
{
	struct chain_batch head;

	(void)ledger_head(b->ledger, &head);
	snprintf(at, PAGE_PLACE_MAX, "r%llda%lld", (long long)head.to[CHAIN_RECORD], (long long)head.to[CHAIN_ACT]);
}

static int reply_rows(struct varlink_call *call, struct broker *b, const struct ledger_filter *f, const json_t *params)
{
	scoped(freep) char *next = NULL, *go_on = NULL;
	char at[PAGE_PLACE_MAX];
	json_t *rows;
	int r = ledger_query(b->ledger, f, &rows, &next);

	if (r == -EINVAL)
		return varlink_error(call, "InvalidParameter",
			"`after` is not what an earlier answer gave as `next`, or `to` no place", NULL);
	if (r < 0)
		return broker_reply_errno(call, r, "the ledger cannot be read");
	/* Without next all was looked through that is there: `at` is where to go on for what comes in from now on. */
	place_now(b, at);
	go_on = page_seal(varlink_call_peer(call)->uid, params, next ? next : at);
	return varlink_reply(call, json_pack("{s:o,s:b,s:s?,s:s?}", "rows", rows, "all", f->uid < 0, "next", next ? go_on : NULL,
					   "at", next ? NULL : go_on));
}

static json_int_t count_bits(const uint8_t *bitmap)
{
	json_int_t n = 0;

	for (size_t i = 0; i < PATHSEAL_BITMAP_BYTES; i++)
		n += __builtin_popcount(bitmap[i]);
	return n;
}

/* Who reads what others did leaves a trace as well; pages after the first belong to it (pages.h). */
static int note_search(struct broker *b, const struct peer *peer, json_t *params, const struct ledger_filter *f)
{
	json_auto_t *told = json_copy(params);
	scoped(freep) char *detail = NULL;
	struct timespec ts;
	struct ledger_act act = {.kind = "log-search", .uid = (int64_t)peer->uid};

	if (json_object_get(told, "names")) /* how many paths; which, only their client's key could tell */
		json_object_set_new(told, "names", json_integer((json_int_t)json_array_size(json_object_get(told, "names"))));
	if (f->names_bitmap) {
		json_object_set_new(told, "names_bitmap", json_true());
		json_object_set_new(told, "names", json_integer(count_bits(f->names_bitmap)));
	}
	act.detail = detail = json_dumps(told, JSON_COMPACT | JSON_SORT_KEYS);
	clock_gettime(CLOCK_REALTIME, &ts);
	act.time_ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
	return drain_note(b->drain, &act);
}

/* The filters beyond who and when.  Texts stay those of params. */
static int filter_more(struct ledger_filter *f, const char *outcome, const char *file, struct file_id *id)
{
	if (outcome && strcmp(outcome, "ok") != 0 && strcmp(outcome, "failed") != 0)
		return -EINVAL;
	f->outcome = !outcome ? LEDGER_ANY : strcmp(outcome, "ok") == 0 ? LEDGER_OK : LEDGER_FAILED;
	if (file && hex_bytes(file, id->b, sizeof(id->b)) < 0)
		return -EINVAL;
	f->file = file ? id : NULL;
	return 0;
}

/* The search that they are for is recorded. */
static int log_paths(struct varlink_call *call, json_t *params, void *userdata)
{
	const char *client = NULL, *after = NULL;
	scoped(freep) char *next = NULL;
	struct broker *b = userdata;
	char at[PAGE_PLACE_MAX];
	json_t *rows;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s?s,s?s}", "client", &client, "after", &after) < 0)
		return bad_parameters(call, &e);
	r = drain_run(b->drain);
	if (r < 0)
		return broker_reply_errno(call, r, "the journals could not be moved into the ledger");
	r = ledger_paths(b->ledger, client, after, &rows, &next);
	if (r == -EINVAL)
		return varlink_error(call, "InvalidParameter", "`after` is not what an earlier answer gave as `next`", NULL);
	if (r < 0)
		return broker_reply_errno(call, r, "the ledger cannot be read");
	place_now(b, at);
	return varlink_reply(call, json_pack("{s:o,s:s?,s:s}", "rows", rows, "next", next, "at", at));
}

/* [base64]: sealed paths.  What *ret_names points to is one block with the names behind. */
static int names_params(const json_t *list, struct ledger_name **ret_names, size_t *ret_n)
{
	size_t count = json_array_size(list), i, n;
	struct ledger_name *names;
	uint8_t *to;
	json_t *v;

	if (!list)
		return 0;
	if (!json_is_array(list) || count > LEDGER_NAMES_MAX)
		return -EINVAL;
	names = calloc(1, count * (sizeof(*names) + RECORD_PATH_MAX) + 1);
	if (!names)
		return -ENOMEM;
	to = (uint8_t *)(names + count);
	json_array_foreach((json_t *)list, i, v)
	{
		const char *text = json_string_value(v);

		if (!text || sodium_base642bin(to, RECORD_PATH_MAX, text, strlen(text), NULL, &n, NULL,
				     sodium_base64_VARIANT_ORIGINAL) < 0) {
			free(names);
			return -EINVAL;
		}
		names[i] = (struct ledger_name){to, n};
		to += n;
	}
	*ret_names = names;
	*ret_n = count;
	return 0;
}

/* Base64.  *ret: malloc'd, or NULL: none. */
static int bitmap_param(const char *text, uint8_t **ret)
{
	scoped(freep) uint8_t *bytes = NULL;
	size_t n = 0;

	if (!text)
		return 0;
	bytes = malloc(PATHSEAL_BITMAP_BYTES);
	if (!bytes)
		return -ENOMEM;
	if (sodium_base642bin(bytes, PATHSEAL_BITMAP_BYTES, text, strlen(text), NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) < 0 ||
		n != PATHSEAL_BITMAP_BYTES)
		return -EINVAL;
	*ret = take_ptr(&bytes);
	return 0;
}

static int log_query(struct varlink_call *call, json_t *params, void *userdata)
{
	const struct peer *peer = varlink_call_peer(call);
	json_int_t session = 0, since = INT64_MIN, until = INT64_MAX, limit = 1000;
	const char *outcome = NULL, *file = NULL;
	scoped(freep) struct ledger_name *names = NULL;
	scoped(freep) uint8_t *bitmap = NULL;
	const char *bitmap_text = NULL;
	json_t *wanted = NULL;
	char place[PAGE_PLACE_MAX];
	struct ledger_filter f = {0};
	struct broker *b = userdata;
	struct file_id id;
	bool goes_on = false;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s?s,s?s,s?s,s?I,s?I,s?I,s?s,s?I,s?s,s?s,s?s,s?o,s?s,s?s}", "user", &f.user, "client",
		    &f.client, "purpose", &f.purpose, "session", &session, "since", &since, "until", &until,
		    "after", &f.after, "limit", &limit, "op", &f.op, "outcome", &outcome, "file", &file, "names", &wanted,
		    "names_bitmap", &bitmap_text, "to", &f.to) < 0)
		return bad_parameters(call, &e);
	if (filter_more(&f, outcome, file, &id) < 0)
		return varlink_error(call, "InvalidParameter",
			"outcome is ok or failed, a file's id has 32 hex digits (`coffer log --json` shows them)", NULL);
	if (names_params(wanted, &names, &f.names_n) < 0)
		return varlink_errorf(call, "InvalidParameter", NULL, "names are at most %d sealed paths in base64", LEDGER_NAMES_MAX);
	f.names = names;
	if (bitmap_param(bitmap_text, &bitmap) < 0)
		return varlink_errorf(call, "InvalidParameter", NULL, "names_bitmap is %u bytes in base64", PATHSEAL_BITMAP_BYTES);
	f.names_bitmap = bitmap;
	if (limit < 1 || limit > LEDGER_QUERY_MAX)
		return varlink_errorf(
			call, "InvalidParameter", NULL, "limit must be 1 to %d", LEDGER_QUERY_MAX);
	if (f.after && !page_open(peer->uid, params, f.after, place, &goes_on))
		return varlink_error(call, "InvalidParameter", "`after` is not what an earlier answer gave as `next`", NULL);
	f.after = f.after ? place : NULL;
	f.session = (uint64_t)session;
	f.since = since;
	f.until = until;
	f.limit = (unsigned)limit;
	f.uid = peer->roles & READERS ? -1 : (int64_t)peer->uid;
	r = drain_run(b->drain);
	if (r < 0)
		return broker_reply_errno(call, r, "the journals could not be moved into the ledger");
	if (f.uid < 0 && !goes_on && note_search(b, peer, params, &f) < 0)
		return varlink_error(call, "LedgerUnavailable", "the search could not be recorded", "see fsd.log");
	return reply_rows(call, b, &f, params);
}

/* [{key (hex), until}] */
static int keys_params(const json_t *rows, struct ledger_keys *ret)
{
	const json_t *row;
	size_t i;

	if (json_array_size(rows) > LEDGER_KEYS_MAX)
		return -EINVAL;
	json_array_foreach((json_t *)rows, i, row)
	{
		const char *hex;
		json_int_t until;

		if (json_unpack((json_t *)row, "{s:s, s:I}", "key", &hex, "until", &until) < 0 ||
			hex_bytes(hex, ret->keys[i].b, sizeof(ret->keys[i].b)) < 0)
			return -EINVAL;
		ret->keys[i].until = until;
	}
	ret->n = json_array_size(rows);
	return 0;
}

/* [{batch, hash, signature, at}]: heads that were kept elsewhere. */
static int anchors_params(const json_t *rows, struct verify_wanted *ret)
{
	const char *hash, *signature;
	json_int_t batch, at;
	const json_t *row;
	size_t i;

	if (json_array_size(rows) > VERIFY_ANCHORS_MAX)
		return -EINVAL;
	ret->anchors = rows ? calloc(json_array_size(rows) + 1, sizeof(*ret->anchors)) : NULL;
	if (rows && !ret->anchors)
		return -ENOMEM;
	json_array_foreach((json_t *)rows, i, row)
	{
		struct ledger_anchor *a = &ret->anchors[i];

		if (json_unpack((json_t *)row, "{s:I, s:s, s:s, s:I}", "batch", &batch, "hash", &hash, "signature", &signature, "at",
			    &at) < 0 ||
			hex_bytes(hash, a->head.hash.b, sizeof(a->head.hash.b)) < 0 ||
			hex_bytes(signature, a->signature, sizeof(a->signature)) < 0)
			return -EINVAL;
		a->head.batch = batch;
		a->time = at;
		ret->anchors_n++;
	}
	return 0;
}

/* Optional: the head that keyd remembers, its public keys, and heads from elsewhere. */
static int verify_params(json_t *params, struct verify_wanted *ret, json_error_t *e)
{
	const char *hash = NULL;
	json_t *keys = NULL, *anchors = NULL;
	json_int_t batch = 0;
	int job = 0;

	*ret = (struct verify_wanted){.has_expect = false};
	broker_drop_nulls(params);
	if (json_unpack_ex(params, e, 0, "{s?{s:I,s:s},s?o,s?o,s?b}", "expect", "batch", &batch, "hash", &hash, "public_keys",
		    &keys, "anchors", &anchors, "job", &job) < 0)
		return -EINVAL;
	ret->asked_for = job;
	ret->expect.batch = batch;
	ret->has_expect = hash != NULL;
	if ((hash && hex_bytes(hash, ret->expect.hash.b, sizeof(ret->expect.hash.b)) < 0) ||
		keys_params(keys, &ret->keys) < 0 || anchors_params(anchors, ret) < 0) {
		free(take_ptr(&ret->anchors));
		snprintf(e->text, sizeof(e->text), "hash and the keys are 64 hex digits, a signature 128; at most %d anchors",
			VERIFY_ANCHORS_MAX);
		return -EINVAL;
	}
	return 0;
}

static int log_verify(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	struct verify_wanted what;
	json_error_t e;
	int r;

	if (verify_params(params, &what, &e) < 0)
		return bad_parameters(call, &e);
	r = drain_run(b->drain);
	if (r < 0) {
		free(what.anchors);
		return broker_reply_errno(call, r, "the journals could not be moved into the ledger");
	}
	r = verify_job_start(b, call, &what);
	if (r == -EBUSY)
		return varlink_errorf(call, "Busy", "wait for them", "%d verifications are running", VERIFY_JOBS_MAX);
	return r < 0 ? broker_reply_errno(call, r, "the ledger cannot be verified") : 0;
}

/* Months in archives, and what that leaves in the ledger. */
static json_t *archives_json(const struct ledger_stats *s)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "count", (json_int_t)s->archives, "bytes", (json_int_t)s->archives_bytes,
		"missing", (json_int_t)s->archives_missing, "destroyed_records", (json_int_t)s->destroyed_records, "ledger_free",
		(json_int_t)s->free, "ledger_records", (json_int_t)s->here_records, "ledger_since", (json_int_t)s->here_since);
}

static int verify_job(struct varlink_call *call, json_t *params, void *userdata)
{
	json_int_t job;
	json_error_t e;

	if (json_unpack_ex(params, &e, 0, "{s:I}", "job", &job) < 0)
		return bad_parameters(call, &e);
	return verify_job_reply(userdata, call, job);
}

static int status(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	struct ledger_stats s;
	bool low = false;
	int64_t left = 0;
	int r = ledger_stats(b->ledger, &s);

	if (r < 0)
		return broker_reply_errno(call, r, "the ledger cannot be read");
	(void)drain_disk_free(b->drain, &left, &low);
	return varlink_reply(call,
		json_pack("{s:I,s:I,s:I,s:I,s:b,s:b,s:i,s:i,s:o}", "rows", (json_int_t)(s.records + s.acts), "bytes",
			(json_int_t)s.bytes, "since", (json_int_t)s.since, "disk_free", (json_int_t)left, "disk_low", low, "lag",
			drain_failing(b->drain), "journals", (int)drain_journals(b->drain), "sessions",
			(int)sessions_count(b), "archives", archives_json(&s)));
}

static int archives(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	json_t *rows;
	int r = ledger_archives(b->ledger, &rows);

	return r < 0 ? broker_reply_errno(call, r, "the archives are not known") : varlink_reply(call, json_pack("{s:o}", "rows", rows));
}

#define NAME(n) "org.coffer.fsd." n
const struct varlink_method broker_methods[] = {
	{NAME("Attach"), ROLE_USER, 0, attach},
	{NAME("LogQuery"), ROLE_USER, 0, log_query},
	{NAME("LogPaths"), READERS, 0, log_paths},
	{NAME("LogVerify"), READERS, 0, log_verify},
	{NAME("VerifyJob"), READERS, 0, verify_job},
	{NAME("Status"), ROLE_USER, 0, status},
	{NAME("Archives"), READERS, 0, archives},
	{NAME("WorkerStarted"), ROLE_KEYD, 0, keyd_worker_started},
	{NAME("Record"), ROLE_KEYD, 0, keyd_record},
	{NAME("Flush"), ROLE_KEYD, 0, keyd_flush},
	{NAME("Head"), ROLE_KEYD, 0, keyd_head},
	{NAME("Versions"), ROLE_KEYD, 0, keyd_versions},
	{NAME("Removals"), ROLE_KEYD, 0, keyd_removals},
	{NAME("Accesses"), ROLE_KEYD, 0, keyd_accesses},
	{NAME("HeadSigned"), ROLE_KEYD, 0, keyd_head_signed},
	{NAME("Archive"), ROLE_KEYD, 0, keyd_archive},
	{NAME("ArchiveSigned"), ROLE_KEYD, 0, keyd_archive_signed},
	{NAME("ArchiveEnd"), ROLE_KEYD, 0, keyd_archive_end},
	{NAME("ArchiveDestroy"), ROLE_KEYD, 0, keyd_archive_destroy},
	{NAME("Watch"), ROLE_KEYD, 0, keyd_watch},
	{NAME("SessionExpected"), ROLE_KEYD, 0, keyd_session_expected},
	{NAME("Roles"), ROLE_KEYD, 0, keyd_roles},
	{NAME("Breaker"), ROLE_KEYD, 0, keyd_breaker},
	{NAME("Shutdown"), ROLE_KEYD, 0, keyd_shutdown},
	{0},
};
