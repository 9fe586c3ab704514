#include "keyd/destruction.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/certificate.h"
#include "keyd/holders.h"
#include "keyd/outbox.h"
#include "keyd/session.h"
#include "keyd/slots.h"
#include "keyd/sweeps.h"

struct destruction {
	struct keyd *k;
	struct fact_client client;
	struct fact_destruction fact;
	struct keyring_cut cut;
};

void destruction_free(struct destruction *d)
{
	free(d);
}
DEFINE_SCOPED(struct destruction *, destruction_free)

static int put(
	const struct destruction *d, const char *kind, const char *outcome, const char *text)
{
	struct outbox_entry e = {
		.kind = kind,
		.outcome = outcome,
		.by = FACTS_CLOCK,
		.client = d->client.client,
		.detail = json_pack("{s:s, s:s, s:I, s:s?}", "rule", d->fact.rule, "source",
			d->fact.source, "due", (json_int_t)d->fact.due, "text", text),
	};

	return outbox_put(d->k, &e);
}

/* The intent is on disk before anything is touched; a hold that is there by then wins. */
static int intend(void *arg)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	struct destruction *d = arg;
	struct facts *f = d->k->facts;
	int r;

	r = facts_begin(f);
	if (r < 0)
		return r;
	open = f;
	r = facts_destruction_intend(f, &d->fact, keyd_now(), &d->fact.row);
	if (r == 0)
		r = put(d, "destroy-intent", NULL, NULL);
	return r < 0 ? r : facts_commit(f);
}

static void abandon(const struct destruction *d, const char *why)
{
	int r;

	log_error("%s is not destroyed: %s", d->client.client, why);
	r = facts_destruction_finish(d->k->facts, d->fact.row, false, NULL, NULL, keyd_now());
	if (r == 0)
		r = put(d, "destroy-abandoned", "Failed", why);
	if (r < 0)
		log_error("that it is not destroyed is not recorded: %s", strerror(-r));
}

static int certify(const struct destruction *d, int64_t now, json_t **ret, char **ret_text,
	char signature[2 * SIGNATURE_BYTES + 1])
{
	struct fact_head head;
	bool have_head = facts_head_last(d->k->facts, &head) == 0;
	scoped(json_decrefp) json_t *notice = expiry_notice_json(d->k, &d->client);
	scoped(json_decrefp) json_t *recovery = holders_json(d->k, NULL);
	scoped(json_decrefp) json_t *slots = slots_certificate(d->k);
	scoped(json_decrefp) json_t *transfer = NULL;
	struct certificate_facts f = {
		.client = &d->client,
		.destruction = &d->fact,
		.destroyed_at = now,
		.policy = d->k->policy,
		.slots = slots,
		.notice = notice,
		.recovery = recovery,
		.embedded = d->k->embedded,
		.head = have_head ? &head : NULL,
	};
	json_t *c = NULL;
	int r = d->client.transferred_at ? facts_transfer_row(d->k->facts, d->client.row, &transfer) : 0;

	f.transfer = transfer;
	if (r == 0)
		r = certificate_make(&f, &c);
	if (r == 0)
		r = certificate_sign(d->k->ring, c, ret_text, signature);
	if (r < 0) {
		json_decref(c);
		return r;
	}
	*ret = c;
	return 0;
}

/* The key is gone: say so, in facts, certificate and record.  What fails here is done again after a restart.
 */
static int finish(const struct destruction *d)
{
	scoped(facts_rollbackp) struct facts *open = NULL;
	scoped(freep) char *text = NULL;
	char signature[2 * SIGNATURE_BYTES + 1];
	uint8_t public_key[PUBLIC_KEY_BYTES];
	json_t *certificate = NULL;
	int64_t now = keyd_now();
	int r;

	r = certify(d, now, &certificate, &text, signature);
	if (r < 0)
		return r;
	keyring_public_key(d->k->ring, public_key);
	r = certificate_store(d->k->keyd_fd, d->client.client, certificate, signature, public_key);
	json_decref(certificate);
	if (r == 0)
		r = facts_begin(d->k->facts);
	if (r < 0)
		return r;
	open = d->k->facts;
	r = facts_destruction_finish(d->k->facts, d->fact.row, true, text, signature, now);
	if (r == 0)
		r = put(d, "destroy", NULL, signature);
	if (r == 0)
		r = sweeps_due(d->k, d->client.row);
	if (r == 0)
		r = facts_commit(d->k->facts);
	if (r == 0)
		log_info("%s is destroyed (%s); the certificate is keyd/certificates/%s.json",
			d->client.client, d->fact.rule, d->client.client);
	return r;
}

static void destroyed(void *arg)
{
	struct destruction *d = arg;
	int r = finish(d);

	if (r < 0)
		log_error("the destruction of %s is not certified yet: %s", d->client.client, strerror(-r));
}

/* The last moment: holds again, then the doors.  The workers must be gone, with the keys they hold. */
static int confirm(void *arg)
{
	struct destruction *d = arg;
	struct fact_client now;
	int r = facts_client(d->k->facts, d->client.client, FACTS_LATEST, &now);

	if (r < 0)
		return r;
	if (now.held || now.held_partly || d->k->clock.unconfirmed)
		return -EBUSY;
	if (now.waiting != d->client.waiting || now.wait_until > keyd_now())
		return -EPERM;
	sessions_end(d->k, d->client.client, "destroyed", EKEYEXPIRED, FACTS_CLOCK);
	children_stop_worker(d->k, d->client.hex);
	return 0;
}

static void failed(void *arg, bool intended, enum shred_outcome outcome, int error, const char *text)
{
	struct destruction *d = arg;

	if (outcome == SHRED_PENDING || outcome == SHRED_UNKNOWN)
		return;
	if (error == -EBUSY)
		text = "a hold was placed";
	if (error == -EPERM)
		text = "it was cancelled";
	if (intended)
		abandon(d, text);
	else
		log_error("%s is not destroyed: %s", d->client.client, text);
}

int destruction_new(struct keyd *k, const struct fact_client *c, const struct expiry_answer *a, int64_t now,
	struct destruction **ret)
{
	const struct policy_retention *rule = a->retention.rule;
	scoped(destruction_freep) struct destruction *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->k = k;
	d->client = *c;
	d->fact = (struct fact_destruction){.client = c->row,
		.generation = (int64_t)keyring_generation(k->ring),
		.due = a->retention.due,
		.intent_at = now};
	expiry_rule_text(rule, d->fact.rule, sizeof(d->fact.rule));
	snprintf(d->fact.source, sizeof(d->fact.source), "%s", rule->source ? rule->source : "");
	d->cut.whole = true;
	if (client_id_parse(c->hex, &d->cut.client) < 0)
		return -EINVAL;
	*ret = take_ptr(&d);
	return 0;
}

struct batch_item destruction_item(struct destruction *d)
{
	static const struct batch_ops ops = {intend, confirm, destroyed, failed};

	return (struct batch_item){.ops = &ops, .arg = d, .cuts = &d->cut, .cuts_n = 1};
}

void destructions_settle(struct keyd *k)
{
	scoped(freep) struct fact_destruction *pending = NULL;
	size_t n = 0;

	if (facts_destructions_pending(k->facts, &pending, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct destruction d = {.k = k, .fact = pending[i]};
		struct client_id id;
		int r = facts_client_by_row(k->facts, pending[i].client, &d.client);

		if (r == 0)
			r = client_id_parse(d.client.hex, &id);
		if (r < 0)
			log_error("what destruction %lld was of cannot be read: %s", (long long)pending[i].row, strerror(-r));
		else if (keyring_has(k->ring, &id))
			abandon(&d, "it was interrupted before anything was destroyed");
		else if ((r = finish(&d)) < 0)
			log_error("the destruction of %s is not certified yet: %s", d.client.client, strerror(-r));
	}
}
