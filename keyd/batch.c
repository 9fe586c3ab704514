#include "keyd/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/erase.h"
#include "keyd/head.h"
#include "keyd/outbox.h"

struct run {
	const struct batch_item **ready; /* those that are intended */
	size_t n;
	struct keyring_cut *cuts;
	size_t cuts_n;
};

static void run_done(struct run *r)
{
	free(r->ready);
	free(r->cuts);
}

static int confirm(void *arg)
{
	struct run *run = arg;
	int r = 0;

	for (size_t i = 0; r == 0 && i < run->n; i++)
		r = run->ready[i]->ops->confirm(run->ready[i]->arg);
	return r;
}

static void fail_all(const struct batch_item *items, size_t n, int error)
{
	for (size_t i = 0; i < n; i++)
		items[i].ops->failed(items[i].arg, false, SHRED_NOTHING, error, strerror(-error));
}

static void intend_all(struct run *run, const struct batch_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = items[i].ops->intend(items[i].arg);

		if (r < 0) {
			items[i].ops->failed(items[i].arg, false, SHRED_NOTHING, r, strerror(-r));
			continue;
		}
		run->ready[run->n++] = &items[i];
		if (items[i].cuts_n > 0)
			memcpy(run->cuts + run->cuts_n, items[i].cuts, items[i].cuts_n * sizeof(*run->cuts));
		run->cuts_n += items[i].cuts_n;
	}
}

static void tell(const struct run *run, enum shred_outcome outcome, int error, const char *text)
{
	for (size_t i = 0; i < run->n; i++) {
		const struct batch_item *item = run->ready[i];

		if (outcome == SHRED_DESTROYED)
			item->ops->destroyed(item->arg);
		else
			item->ops->failed(item->arg, true, outcome, error, text);
	}
}

int batch_run(struct keyd *k, const struct batch_item *items, size_t n)
{
	scoped(run_done) struct run run = {0};
	enum shred_outcome outcome = SHRED_NOTHING;
	struct keys_error err = {0};
	size_t cuts = 0;
	int r;

	for (size_t i = 0; i < n; i++)
		cuts += items[i].cuts_n;
	run.ready = calloc(n + 1, sizeof(*run.ready));
	run.cuts = calloc(cuts + 1, sizeof(*run.cuts));
	if (!run.ready || !run.cuts) {
		fail_all(items, n, -ENOMEM);
		return -ENOMEM;
	}
	r = erase_settle(k);
	if (r < 0) {
		fail_all(items, n, r);
		return r;
	}
	intend_all(&run, items, n);
	if (run.n == 0)
		return 0;
	if (fsd_is_running(k) && outbox_deliver(k) == 0)
		(void)head_sign(k, NULL); /* the certificates name the book as it stood before */
	const struct shred_job job = {.cuts = run.cuts, .count = run.cuts_n, .confirm = confirm, .arg = &run};

	r = keyd_shred(k, &job, &outcome, &err);
	tell(&run, outcome, r, *err.text ? err.text : strerror(-r));
	return outcome == SHRED_DESTROYED ? 0 : r < 0 ? r : -EIO;
}
