#include "keyd/leaves.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/erase.h"
#include "keyd/classes.h"
#include "keyd/facts_leaves.h"
#include "keyd/outbox.h"
#include "keyd/shred.h"
#include "keyd/survey.h"

#define EVERY 10 /* ticks */
#define EVERY_RETRY 600
#define AT_ONCE 100000 /* leaves of one rotation */

struct work {
	struct fact_client client;
	uint64_t *leaves;
	size_t n;
	struct keyd *k;
};

static void work_free(struct work *w)
{
	free(w->leaves);
	free(w);
}
DEFINE_SCOPED(struct work *, work_free)

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

size_t leaves_without(uint64_t *dying, size_t n, uint64_t *used, size_t used_n)
{
	size_t kept = 0;

	if (used_n == 0)
		return n;
	qsort(used, used_n, sizeof(*used), by_number);
	for (size_t i = 0; i < n; i++)
		if (!bsearch(&dying[i], used, used_n, sizeof(*used), by_number))
			dying[kept++] = dying[i];
	return kept;
}

/* The last moment.  The client's worker, if there is one, holds them too. */
static int confirm(void *arg)
{
	struct work *w = arg;
	struct worker *worker = worker_find(w->k, w->client.hex);
	struct fact_client now;
	json_t *list;
	char hex[17];
	int r = facts_client(w->k->facts, w->client.client, FACTS_LATEST, &now);

	if (r < 0 || now.held || w->k->clock.unconfirmed)
		return r < 0 ? r : -EBUSY;
	if (!worker)
		return 0;
	list = json_array();
	for (size_t i = 0; i < w->n; i++) {
		snprintf(hex, sizeof(hex), "%016" PRIx64, w->leaves[i]);
		json_array_append_new(list, json_string(hex));
	}
	r = worker_call(worker, "org.coffer.worker.Forget", json_pack("{s:o}", "leaves", list),
		WORKER_OPEN_TIMEOUT_MS, NULL);
	return r == -EREMOTEIO ? r : 0; /* one that does not answer is dead, and its memory with it */
}

static int destroy(struct work *w)
{
	scoped(freep) struct keyring_cut *cuts = calloc(w->n, sizeof(*cuts));
	struct shred_job job = {.cuts = cuts, .count = w->n, .confirm = confirm, .arg = w};
	struct outbox_entry e = {.kind = "old-keys-destroyed", .by = FACTS_CLOCK, .client = w->client.client};
	enum shred_outcome outcome = SHRED_NOTHING;
	struct keys_error err = {0};
	struct keyd *k = w->k;
	struct client_id id;
	int r;

	r = cuts ? client_id_parse(w->client.hex, &id) : -ENOMEM;
	if (r == 0)
		r = erase_settle(k);
	if (r < 0)
		return r;
	for (size_t i = 0; i < w->n; i++)
		cuts[i] = (struct keyring_cut){.client = id, .prefix = w->leaves[i], .bits = 64};
	r = keyd_shred(k, &job, &outcome, &err);
	if (outcome != SHRED_DESTROYED)
		return r < 0 ? r : -EIO; /* what is gone by then is destroyed again: nothing happens */
	r = facts_dying_drop(k->facts, w->client.row, w->leaves, w->n);
	e.detail = json_pack("{s:I}", "keys", (json_int_t)w->n);
	if (outbox_put(k, &e) < 0)
		log_error("that %zu old keys of %s are destroyed is not recorded", w->n, w->client.client);
	(void)outbox_deliver(k);
	return r;
}

/* What something is still under (a crash came before it moved) is none of them. */
static void checked(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(work_freep) struct work *w = arg;
	scoped(freep) uint64_t *used = NULL;

	k->leaves_retry_at = k->tick + EVERY_RETRY;
	if (r->error || r->moved || survey_is_incomplete(r) || keyd_is_sealed(k) || k->shred_unfinished)
		return; /* another time */
	used = malloc((r->leaves_n + 1) * sizeof(*used));
	if (!used)
		return;
	memcpy(used, r->leaves, r->leaves_n * sizeof(*used));
	w->n = leaves_without(w->leaves, w->n, used, r->leaves_n);
	if (facts_dying_drop(k->facts, w->client.row, used, r->leaves_n) < 0)
		return;
	if (w->n == 0 || destroy(w) == 0)
		k->leaves_retry_at = 0;
}

void leaves_tick(struct keyd *k)
{
	scoped(work_freep) struct work *w = NULL;
	int64_t client = 0, since = 0;
	struct fact_client c;

	if (k->tick % EVERY != 3 || k->tick < k->leaves_retry_at || !keyd_compare_ledger(k) || k->clock.unconfirmed ||
		k->shred_unfinished || facts_dying_oldest(k->facts, &client, &since) < 0 || since == 0 ||
		keyd_now() - since < (int64_t)k->window_seconds || facts_client_by_row(k->facts, client, &c) < 0)
		return;
	k->leaves_retry_at = k->tick + EVERY_RETRY;
	if (c.destroyed_on) {
		k->leaves_retry_at = facts_dying_drop_all(k->facts, client) < 0 ? k->leaves_retry_at : 0;
		return;
	}
	if (c.held || c.destroying || survey_blocks(k, c.client))
		return;
	w = calloc(1, sizeof(*w));
	if (!w)
		return;
	w->k = k;
	w->client = c;
	if (facts_dying(k->facts, client, &w->leaves, &w->n) < 0)
		return;
	w->n = w->n < AT_ONCE ? w->n : AT_ONCE;
	const struct survey_spec spec = {
		.mode = "check", .leaves = w->leaves, .leaves_n = w->n, .done = checked, .arg = w};

	if (survey_start(k, &c, &spec) == 0)
		w = NULL;
}
