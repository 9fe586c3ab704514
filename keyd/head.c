#include "keyd/head.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-journal.h>

#include "common/date.h"
#include "common/log.h"
#include "keyd/anchor.h"
#include "keyd/keyd.h"

static int refuse(struct keyd *k, const struct fact_head *known, json_int_t batch, const char *what)
{
	snprintf(k->head_warning, sizeof(k->head_warning),
		"the ledger %s: batch %" PRId64
		" was signed, it now shows batch %lld; run `coffer log verify` and keep a "
		"copy of both",
		what, known->batch, (long long)batch);
	log_error("%s", k->head_warning);
	return -ESTALE;
}

/* The book that we sign must be the one that we signed before, continued.  1: it is the same, nothing to
 * sign. */
static int check_follows(
	struct keyd *k, const struct fact_head *known, json_int_t batch, const char *known_hash)
{
	if (known->batch == 0)
		return 0;
	if (batch < known->batch)
		return refuse(k, known, batch, "is shorter than it was");
	if (strcmp(known_hash, known->hash) != 0)
		return refuse(k, known, batch, "is another than the one that was signed");
	return batch == known->batch ? 1 : 0;
}

/* Where root of this host may not reach it: the system's journal, whose entries may be sealed (journalctl --setup-keys) and
 * sent elsewhere.  There need be none. */
static void anchor(const struct keyd *k, const struct fact_head *h)
{
	char line[ANCHOR_LINE_MAX];

	anchor_line(h, line);
	(void)sd_journal_send("MESSAGE=%s", line, "MESSAGE_ID=" HEAD_MESSAGE_ID, "PRIORITY=6", "SYSLOG_IDENTIFIER=coffer-keyd",
		"COFFER_DIR=%s", k->dir.root, NULL);
}

/* fsd keeps the signature with the ledger, so that a copy of it can be checked; ours is the memory. */
static int sign_and_tell(struct keyd *k, struct fact_head *h)
{
	uint8_t signature[SIGNATURE_BYTES];
	char text[160];
	int n, r;

	h->signed_at = keyd_now();
	n = snprintf(text, sizeof(text), "coffer-ledger-head-2\n%" PRId64 "\n%s\n%" PRId64 "\n", h->batch, h->hash, h->signed_at);
	r = keyring_sign(k->ring, HEAD_CONTEXT, text, (size_t)n, signature);
	if (r < 0)
		return r;
	sodium_bin2hex(h->signature, sizeof(h->signature), signature, sizeof(signature));
	r = facts_head_add(k->facts, h);
	if (r < 0)
		return r;
	anchor(k, h);
	anchors_head(k, h);
	return fsd_call(k, "org.coffer.fsd.HeadSigned",
		json_pack("{s:I, s:s, s:I}", "batch", (json_int_t)h->batch, "signature", h->signature, "time", (json_int_t)h->signed_at),
		NULL, NULL);
}

int head_sign(struct keyd *k, struct fact_head *ret)
{
	struct varlink_failure failure = {0};
	struct fact_head h = {0}, known = {0};
	json_t *answer = NULL;
	const char *hash = NULL, *known_hash = NULL;
	json_int_t batch = 0;
	int r;

	if (keyd_is_sealed(k))
		return -ENOKEY;
	r = facts_head_last(k->facts, &known);
	if (r < 0 && r != -ENOENT)
		return r;
	r = fsd_call(k, "org.coffer.fsd.Head", json_pack("{s:I}", "known", (json_int_t)known.batch), &answer,
		&failure);
	if (r < 0)
		return r;
	if (json_unpack(answer, "{s:I, s:s, s:s}", "batch", &batch, "hash", &hash, "known_hash",
		    &known_hash) < 0 ||
		strlen(hash) != sizeof(h.hash) - 1)
		r = -EBADMSG;
	else
		r = check_follows(k, &known, batch, known_hash);
	if (r == 0) {
		h.batch = batch;
		snprintf(h.hash, sizeof(h.hash), "%s", hash);
		r = sign_and_tell(k, &h);
	}
	json_decref(answer);
	if (r < 0)
		return r;
	*k->head_warning = '\0';
	k->traffic = false;
	return ret ? facts_head_last(k->facts, ret) : 0;
}

json_t *head_json(const struct fact_head *h)
{
	char when[DATE_TEXT_MAX];

	return json_pack("{s:I, s:s, s:s, s:s, s:[s]}", "batch", (json_int_t)h->batch, "hash", h->hash, "signature", h->signature,
		"signed_at", date_format(h->signed_at, when), "anchors",
		"sent to the system's journal of this host, MESSAGE_ID=" HEAD_MESSAGE_ID);
}
