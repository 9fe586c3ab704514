/* What custodians do with keys and clock, and what auditors need of the keys. */
#include <errno.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/audit_names.h"
#include "keyd/expiry.h"
#include "keyd/head.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/signing_file.h"

#define PASSPHRASE_MAX 1024
#define PASSPHRASE_WAIT_MS 2000 /* the tool has it before it calls: this only bounds a hostile one */
#define NAMES_MAX 10000         /* items a call */

/* A custodian's act that is no other fact. */
static int act(
	struct keyd *k, struct varlink_call *call, const char *kind, const char *outcome, const char *text)
{
	struct outbox_entry e = {.kind = kind, .outcome = outcome, .by = actor_of(call)};

	if (text)
		e.detail = json_pack("{s:s}", "text", text);
	return outbox_act(k, text, &e);
}

int keyd_clock_confirm(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct clock_reading now;
	char text[32];
	int r;

	k->ledger_compared = false;
	(void)keyd_compare_ledger(k); /* what it finds is confirmed, too */
	r = act(k, call, "clock-confirm", NULL, k->clock.unconfirmed ? k->clock.reason : "it was trusted");
	if (r < 0)
		return reply_failure(k, call, r, "the confirmation is not kept");
	clock_read(&now);
	clock_confirm(&k->clock, &now);
	snprintf(text, sizeof(text), "%lld", (long long)k->ledger_newest);
	if (k->ledger_compared && facts_state_set(k->facts, FACTS_STATE_LEDGER, text) < 0)
		log_error("that the record is ahead of the clock will be said again after a restart");
	keyd_remember_clock(k);
	k->archive_next_at = k->tick + 1; /* what the doubt held up */
	expiry_now(k);
	return varlink_reply(call, json_pack("{s:I}", "now", (json_int_t)now.wall));
}

/* ---- sealing ---- */

int keyd_seal_method(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	int ended, r;

	/* Sealing is never refused for want of a record: it only closes doors. */
	r = act(k, call, "seal", NULL, NULL);
	if (r < 0)
		log_error("the sealing is not recorded: %s", strerror(-r));
	r = facts_state_set(k->facts, FACTS_STATE_SEALED, "1");
	if (r < 0)
		log_error("the sealing will not outlive a restart: %s", strerror(-r));
	keyd_seal(k, &ended);
	(void)outbox_deliver(k);
	return varlink_reply(call, json_pack("{s:i}", "sessions_ended", ended));
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Reads to the end of file, PASSPHRASE_MAX at most, without one newline at the end.  *ret is from the arena.
 */
static int read_passphrase(int fd, char **ret, size_t *ret_n)
{
	char *buf = secret_alloc(PASSPHRASE_MAX + 1);
	int64_t end = now_ms() + PASSPHRASE_WAIT_MS;
	size_t n = 0;
	ssize_t got = 1;
	int r = 0;

	if (!buf)
		return -ENOMEM;
	while (r == 0 && got > 0) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = end - now_ms(); /* for all of it: byte by byte gives no more time */

		if (left <= 0 || poll(&p, 1, (int)left) <= 0) {
			r = -ETIME;
			break;
		}
		got = read(fd, buf + n, PASSPHRASE_MAX + 1 - n);
		if (got < 0)
			r = -errno;
		else
			n += (size_t)got;
		if (n > PASSPHRASE_MAX)
			r = -EMSGSIZE;
	}
	if (n > 0 && buf[n - 1] == '\n')
		n--;
	if (r == 0 && n == 0)
		r = -ENODATA;
	if (r < 0) {
		secret_free(buf);
		return r;
	}
	*ret = buf;
	*ret_n = n;
	return 0;
}

/* 1: read; 0: none came; else replied and negative. */
int take_passphrase(struct varlink_call *call, char **ret, size_t *ret_n)
{
	scoped(close_fdp) int fd = varlink_call_take_fd(call, 0);
	int r;

	if (fd < 0)
		return 0;
	r = read_passphrase(fd, ret, ret_n);
	if (r < 0)
		varlink_errorf(call, "NoPassphrase", "a passphrase has 1 to 1024 bytes",
			"the passphrase cannot be read: %s", strerror(-r));
	return r < 0 ? r : 1;
}

static int refuse_unseal(struct keyd *k, struct varlink_call *call, int r, const struct keys_error *err)
{
	const char *error = r == -EKEYREJECTED ? "WrongPassphrase"
			    : r == -ENOKEY     ? "PassphraseNeeded"
					       : "UnsealFailed";

	log_warning("not unsealed by %s: %s", varlink_call_peer(call)->user, err->text);
	(void)act(k, call, "unseal", error, err->text);
	return varlink_error(call, error, err->text,
		r == -ENOKEY         ? "run `coffer unseal` and type it"
		: r == -EKEYREJECTED ? "try again"
				     : NULL);
}

int keyd_unseal_method(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct keys_error err = {0};
	char *passphrase = NULL;
	size_t n = 0;
	int r;

	if (!keyd_is_sealed(k))
		return varlink_error(call, "NotSealed", "the keys are open already", NULL);
	r = take_passphrase(call, &passphrase, &n);
	if (r < 0)
		return 0;
	r = keyd_unseal(k, passphrase, n, &err);
	secret_free(passphrase);
	if (r < 0)
		return refuse_unseal(k, call, r, &err);
	if (facts_state_set(k->facts, FACTS_STATE_SEALED, "") < 0)
		log_error("a restart will find the keys sealed again");
	r = act(k, call, "unseal", NULL, NULL);
	if (r < 0)
		log_error("the unsealing is not recorded: %s", strerror(-r));
	return varlink_reply(call, NULL);
}

/* ---- for auditors ---- */

int keyd_ledger_names(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(audit_names_done) struct audit_names keys = {0};
	struct keyd *k = userdata;
	json_t *items, *item, *names;
	size_t i;

	if (!params_unpack(call, params, "{s:o}", "items", &items))
		return 0;
	if (json_array_size(items) > NAMES_MAX)
		return varlink_errorf(call, "TooMany", NULL, "at most %d names a call", NAMES_MAX);
	names = json_array();
	json_array_foreach(items, i, item)
	{
		const char *hex, *sealed;
		json_int_t month;
		json_t *name = NULL;

		if (json_unpack(item, "{s:s, s:I, s:s}", "client_id", &hex, "month", &month, "sealed",
			    &sealed) == 0 &&
			strlen(hex) == CLIENT_ID_HEX - 1) {
			if (strcmp(keys.hex, hex) != 0)
				audit_names_switch(k, &keys, hex, may_see_names(k, call, hex));
			name = audit_name(&keys, month, sealed);
		}
		json_array_append_new(names, name ? name : json_null());
	}
	return varlink_reply(call, json_pack("{s:o}", "names", names));
}

static bool end_is_in_the_book(const struct keyd *k, uint64_t session)
{
	for (size_t i = 0; session && i < ARRAY_SIZE(k->ends); i++)
		if (k->ends[i] == session)
			return true;
	return false;
}

/* What anybody may know who has ended a session: a head that its record is below.  A session that ended makes one due; it is signed
 * now instead of with the next tick, and by nobody more often. */
int keyd_receipt(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_int_t session = 0;
	struct fact_head h;
	int r = 0;

	if (!params_unpack(call, params, "{s:I}", "session", &session))
		return 0;
	if (!end_is_in_the_book(k, (uint64_t)session))
		return varlink_error(call, "NotYet", "no session of that number has ended lately", "ask again in a moment");
	if (k->head_due && k->traffic) {
		k->head_due = false;
		r = head_sign(k, NULL);
	}
	if (r == 0)
		r = facts_head_last(k->facts, &h);
	if (r < 0)
		return varlink_error(call, "NoHead", "the head of the record cannot be signed now",
			"an auditor's `coffer log verify` shows it later");
	return varlink_reply(call, json_pack("{s:I, s:s, s:I}", "batch", (json_int_t)h.batch, "hash", h.hash, "signed_at",
					   (json_int_t)h.signed_at));
}

int keyd_ledger_head(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	uint8_t public_key[PUBLIC_KEY_BYTES];
	char hex[2 * PUBLIC_KEY_BYTES + 1] = "";
	scoped(freep) char *links = signing_file_chain(k->keyd_fd);
	struct fact_head h;
	int r;

	/* Sealed, no fsd, or a ledger that does not continue it: the last one that was signed is what counts. */
	(void)head_sign(k, NULL);
	r = facts_head_last(k->facts, &h);
	if (r == -ENOENT)
		return varlink_error(call, "NoHead", "no head of the ledger was signed yet",
			"there is one within a minute after the first record");
	if (r < 0)
		return reply_failure(k, call, r, "the signed heads cannot be read");
	if (!keyd_is_sealed(k)) {
		keyring_public_key(k->ring, public_key);
		sodium_bin2hex(hex, sizeof(hex), public_key, sizeof(public_key));
	}
	return varlink_reply(call, json_pack("{s:I, s:s, s:s, s:s?, s:s?, s:I}", "batch", (json_int_t)h.batch,
					   "hash", h.hash, "signature", h.signature, "public_key",
					   *hex ? hex : NULL, "links", links, "signed_at", (json_int_t)h.signed_at));
}
