/* What coffer-keyd alone may ask, over the socket that it gave us. */
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <time.h>

#include "common/ids.h"
#include "common/scope.h"
#include "fs/broker/broker.h"

static int bad_parameters(struct varlink_call *call, const json_error_t *e)
{
	return varlink_errorf(
		call, "InvalidParameter", NULL, "the request is not as it should be: %s", e->text);
}

static bool client_id_ok(const char *id)
{
	return strlen(id) == CLIENT_ID_HEX - 1 && strspn(id, "0123456789abcdef") == CLIENT_ID_HEX - 1;
}

int keyd_worker_started(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(close_fdp) int fd = varlink_call_take_fd(call, 0);
	const char *client, *client_id;
	json_int_t pid;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:s,s:s,s:I}", "client", &client, "client_id", &client_id, "pid",
		    &pid) < 0)
		return bad_parameters(call, &e);
	if (!client_id_ok(client_id) || fd < 0)
		return varlink_error(
			call, "InvalidParameter", "the worker's socket or its client's id is missing", NULL);
	r = worker_started(userdata, client, client_id, (pid_t)pid, take_fd(&fd));
	return r < 0 ? broker_reply_errno(call, r, "the worker gets no journal") : varlink_reply(call, NULL);
}

/* Seconds, or nanoseconds when keyd says so. */
static int act_from_json(json_t *entry, struct ledger_act *a, char **ret_detail, json_error_t *e)
{
	json_int_t seq, seconds, uid = -1, session = 0;
	json_t *detail = NULL, *outcome = NULL;
	int64_t ns;

	*a = (struct ledger_act){0};
	broker_drop_nulls(entry);
	if (json_unpack_ex(entry, e, 0, "{s:I,s:I,s:s,s?o,s?s,s?I,s?s,s?s,s?s,s?I,s?o}", "seq", &seq, "time",
		    &seconds, "kind", &a->kind, "outcome", &outcome, "user", &a->user, "uid", &uid, "client",
		    &a->client, "purpose", &a->purpose, "ticket", &a->ticket, "session", &session, "detail",
		    &detail) < 0)
		return -EINVAL;
	if (seq < 1 || __builtin_mul_overflow((int64_t)seconds, (int64_t)1000000000, &ns))
		return -ERANGE;
	if (detail && !json_is_null(detail)) {
		*ret_detail = json_dumps(detail, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
		a->detail = *ret_detail;
	}
	a->seq = seq;
	a->time_ns = ns;
	a->outcome = outcome;
	a->uid = uid;
	a->session = (uint64_t)session;
	return 0;
}

static int add_entries(struct ledger *l, json_t *entries, json_int_t *ret_seq, json_error_t *e)
{
	json_t *entry;
	size_t i;
	int r;

	json_array_foreach(entries, i, entry)
	{
		scoped(freep) char *detail = NULL;
		struct ledger_act act;

		r = act_from_json(entry, &act, &detail, e);
		if (r == 0)
			r = ledger_add_act(l, &act);
		if (r < 0)
			return r;
		if (act.seq > *ret_seq)
			*ret_seq = act.seq;
	}
	return 0;
}

int keyd_record(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	json_error_t e = {0};
	json_t *entries;
	json_int_t seq = 0;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:o}", "entries", &entries) < 0 || !json_is_array(entries))
		return bad_parameters(call, &e);
	r = ledger_begin(b->ledger);
	if (r == 0)
		r = add_entries(b->ledger, entries, &seq, &e);
	if (r == 0)
		r = ledger_commit(b->ledger);
	if (r < 0) {
		ledger_rollback(b->ledger);
		if (r == -EINVAL || r == -ERANGE)
			return bad_parameters(call, &e);
		return broker_reply_errno(call, r, "what coffer-keyd decided could not be recorded");
	}
	return varlink_reply(call, json_pack("{s:I}", "seq", seq));
}

int keyd_flush(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	int r = drain_run(b->drain);

	return r < 0 ? broker_reply_errno(call, r, "the journals could not be moved into the ledger")
		     : varlink_reply(call, NULL);
}

int keyd_head(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	char hex[CHAIN_HASH_HEX], known_hex[CHAIN_HASH_HEX] = "";
	struct chain_hash known_hash;
	struct chain_batch head;
	json_int_t known = 0;
	int64_t newest = 0;
	int r;

	if (json_unpack(params, "{s?I}", "known", &known) < 0)
		return varlink_error(call, "InvalidParameter", "known is the number of a batch", NULL);
	r = drain_run(b->drain);
	if (r == 0)
		r = ledger_head(b->ledger, &head);
	if (r == 0)
		r = ledger_newest(b->ledger, &newest);
	if (r == 0 && known > 0) {
		r = ledger_hash_at(b->ledger, known, &known_hash);
		if (r == 0)
			sodium_bin2hex(known_hex, sizeof(known_hex), known_hash.b, sizeof(known_hash.b));
		r = r == -ENOENT ? 0 : r;
	}
	if (r < 0)
		return broker_reply_errno(call, r, "the head of the ledger is not known");
	sodium_bin2hex(hex, sizeof(hex), head.hash.b, sizeof(head.hash.b));
	return varlink_reply(
		call, json_pack("{s:I,s:s,s:I,s:s,s:I}", "batch", (json_int_t)head.batch, "hash", hex, "records",
			      (json_int_t)head.to[CHAIN_RECORD], "known_hash", known_hex, "newest",
			      (json_int_t)newest));
}

/* For `coffer fsck`, page by page; the first one drains the journals. */
int keyd_versions(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	const char *client, *client_id, *after = "";
	scoped(freep) char *next = NULL;
	json_t *rows = NULL;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s:s,s:s,s?s}", "client", &client, "client_id", &client_id, "after",
		    &after) < 0)
		return bad_parameters(call, &e);
	r = *after ? 0 : drain_run(b->drain);
	if (r == 0)
		r = ledger_versions(b->ledger, client_id, client, after, &rows, &next);
	if (r == -EINVAL)
		return varlink_error(call, "InvalidParameter", "after is the `next` of the answer before", NULL);
	if (r < 0)
		return broker_reply_errno(call, r, "the versions of files are not to be had");
	return varlink_reply(call, json_pack("{s:o,s:s?}", "rows", rows, "next", next));
}

/* For an erasure, piece by piece; each drains the journals. */
int keyd_removals(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	const char *client_id;
	json_int_t after = 0;
	int64_t next = 0;
	bool end = false;
	json_t *rows = NULL;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s:s,s?I}", "client_id", &client_id, "after", &after) < 0)
		return bad_parameters(call, &e);
	r = drain_run(b->drain);
	if (r == 0)
		r = ledger_removals(b->ledger, client_id, after, &rows, &next, &end);
	if (r == -EINVAL)
		return varlink_error(call, "InvalidParameter", "after is the `next` of the answer before", NULL);
	if (r < 0)
		return broker_reply_errno(call, r, "what was removed is not to be had");
	return varlink_reply(call, json_pack("{s:o,s:I,s:b}", "rows", rows, "next", (json_int_t)next, "end", end));
}

#define SECONDS_MAX (INT64_MAX / 1000000000) /* as nanoseconds they still are a number */

/* For a client's report, piece by piece; the first one drains the journals. */
int keyd_accesses(struct varlink_call *call, json_t *params, void *userdata)
{
	struct ledger_accesses_place place = {0};
	struct ledger_accesses_wanted w = {0};
	struct broker *b = userdata;
	scoped(freep) char *next = NULL;
	json_int_t since, until;
	json_t *counted = NULL;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s:s,s:I,s:I,s?s,s?s}", "client", &w.client, "since", &since, "until", &until, "after",
		    &w.after, "without", &w.without) < 0)
		return bad_parameters(call, &e);
	if (since < 0 || until < since)
		return varlink_error(call, "InvalidParameter", "since and until are seconds since 1970, in this order", NULL);
	w.since = since < SECONDS_MAX ? since : SECONDS_MAX;
	w.until = until < SECONDS_MAX ? until : SECONDS_MAX;
	r = w.after ? 0 : drain_run(b->drain);
	if (r == 0)
		r = ledger_accesses(b->ledger, &w, &counted, &next, &place);
	if (r == -EINVAL)
		return varlink_error(call, "InvalidParameter", "after is not the `next` of the answer before", NULL);
	if (r < 0)
		return broker_reply_errno(call, r, "the accesses could not be counted");
	return varlink_reply(call, json_pack("{s:o?,s:s?,s:I,s:I}", "counted", counted, "next", next, "records",
					   (json_int_t)place.records, "of", (json_int_t)place.of));
}

static bool signature_from_text(const char *text, uint8_t ret[CHAIN_SIGNATURE_BYTES])
{
	size_t n = 0, len = strlen(text);
	int r;

	if (len == 2 * CHAIN_SIGNATURE_BYTES)
		r = sodium_hex2bin(ret, CHAIN_SIGNATURE_BYTES, text, len, NULL, &n, NULL);
	else
		r = sodium_base642bin(ret, CHAIN_SIGNATURE_BYTES, text, len, NULL, &n, NULL,
			sodium_base64_VARIANT_ORIGINAL);
	return r == 0 && n == CHAIN_SIGNATURE_BYTES;
}

int keyd_head_signed(struct varlink_call *call, json_t *params, void *userdata)
{
	uint8_t signature[CHAIN_SIGNATURE_BYTES];
	struct broker *b = userdata;
	json_int_t batch, time;
	const char *text;
	json_error_t e;
	int r;

	if (json_unpack_ex(params, &e, 0, "{s:I,s:s,s:I}", "batch", &batch, "signature", &text, "time", &time) < 0)
		return bad_parameters(call, &e);
	if (!signature_from_text(text, signature))
		return varlink_error(
			call, "InvalidParameter", "a signature is 64 bytes in hex or base64", NULL);
	r = ledger_add_signature(b->ledger, batch, time, signature);
	if (r == -ENOENT)
		return varlink_errorf(
			call, "NoBatch", NULL, "the ledger has no batch %lld", (long long)batch);
	return r < 0 ? broker_reply_errno(call, r, "the signature is not kept") : varlink_reply(call, NULL);
}

/* The call stays open; a newer one takes its place. */
int keyd_watch(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;

	if (!varlink_call_wants_more(call))
		return varlink_error(call, "InvalidParameter", "Watch is a call with \"more\"", NULL);
	if (b->watch)
		varlink_reply(take_ptr(&b->watch), NULL);
	b->watch = call;
	return 0;
}

int keyd_session_expected(struct varlink_call *call, json_t *params, void *userdata)
{
	struct session_expected s = {0};
	json_int_t session, uid, member_of = 0;
	struct broker *b = userdata;
	json_error_t e;
	int r;

	broker_drop_nulls(params);
	if (json_unpack_ex(params, &e, 0, "{s:I,s:s,s:s,s:I,s:s,s:s,s?s,s?s,s?I}", "session", &session,
		    "client_id", &s.client_id, "user", &s.user, "uid", &uid, "client", &s.client, "purpose",
		    &s.purpose, "ticket", &s.ticket, "rights", &s.rights, "member_of", &member_of) < 0)
		return bad_parameters(call, &e);
	if (!client_id_ok(s.client_id) || uid < 0 || uid >= UINT32_MAX || session == 0)
		return varlink_error(
			call, "InvalidParameter", "client id, uid or session is out of range", NULL);
	if (b->stopping)
		return varlink_error(call, "Stopping", "coffer-fsd is ending", NULL);
	s.number = (uint64_t)session;
	s.member_of = (uint64_t)member_of;
	s.uid = (uid_t)uid;
	r = session_expect(b, &s);
	if (r == -EEXIST)
		return varlink_error(
			call, "SessionKnown", "a session with this number was announced before", NULL);
	return r < 0 ? broker_reply_errno(call, r, "the session could not be recorded")
		     : varlink_reply(call, NULL);
}

/* The policy is keyd's to know. */
int keyd_roles(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;
	int admin, custodian;
	json_error_t e;

	if (json_unpack_ex(params, &e, 0, "{s:b,s:b}", "admin", &admin, "custodian", &custodian) < 0)
		return bad_parameters(call, &e);
	b->apart = (admin ? 0 : ROLE_ADMIN) | (custodian ? 0 : ROLE_CUSTODIAN);
	return varlink_reply(call, NULL);
}

/* It may have ended meanwhile: then there is nothing to break. */
int keyd_breaker(struct varlink_call *call, json_t *params, void *userdata)
{
	json_int_t session;
	json_error_t e;
	int fd;

	if (json_unpack_ex(params, &e, 0, "{s:I}", "session", &session) < 0)
		return bad_parameters(call, &e);
	fd = varlink_call_take_fd(call, 0);
	if (fd < 0)
		return varlink_error(call, "InvalidParameter", "no descriptor came", NULL);
	(void)session_breaker(userdata, (uint64_t)session, fd);
	return varlink_reply(call, NULL);
}

/* Answered when all sessions have ended, the journals are drained and the ledger is on disk. */
int keyd_shutdown(struct varlink_call *call, json_t *params, void *userdata)
{
	struct broker *b = userdata;

	if (b->shutdown)
		return varlink_error(call, "Stopping", "coffer-fsd is ending already", NULL);
	b->shutdown = call;
	broker_stop(b, "shutdown");
	return 0;
}
