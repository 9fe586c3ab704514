#include "keyd/sweeps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/scope.h"
#include "keyd/classes.h"
#include "keyd/facts_leaves.h"
#include "keyd/outbox.h"
#include "keyd/survey.h"

#define EVERY_RETRY 60 /* ticks between two tries of what did not work */

struct sweep_work {
	int64_t client;
	char name[CLIENT_NAME_MAX];
};

int sweeps_due(struct keyd *k, int64_t client)
{
	k->sweep_retry_at = 0;
	return facts_sweep_due(k->facts, client, keyd_now());
}

static void done(struct keyd *k, const struct survey_result *r, void *arg)
{
	scoped(freep) struct sweep_work *w = arg;
	struct outbox_entry e = {.kind = "sweep", .by = FACTS_CLOCK, .client = w->name};

	if (r->error) {
		log_error("the dead files of %s are not removed yet: %s", w->name,
			r->text ? r->text : strerror(-r->error));
		k->sweep_retry_at = k->tick + EVERY_RETRY;
		return;
	}
	e.detail = json_incref((json_t *)r->counts);
	if (facts_sweep_done(k->facts, w->client) < 0 || outbox_put(k, &e) < 0)
		log_error("the sweep of %s is not recorded", w->name);
	(void)outbox_deliver(k);
	log_info("the dead files of %s are removed", w->name);
}

static int start(struct keyd *k, int64_t row)
{
	struct survey_spec spec = {.done = done};
	struct sweep_work *w;
	struct fact_client c;
	int r = facts_client_by_row(k->facts, row, &c);

	if (r < 0 || survey_blocks(k, c.client))
		return r < 0 ? r : -EBUSY;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->client = row;
	snprintf(w->name, sizeof(w->name), "%s", c.client);
	spec.mode = c.destroyed_on ? "sweep-dead" : "sweep";
	spec.arg = w;
	r = survey_start(k, &c, &spec);
	if (r < 0)
		free(w);
	return r;
}

/* One begins each second; several can run. */
void sweeps_tick(struct keyd *k)
{
	int64_t client = 0;
	int r = 0;

	if (k->tick < k->sweep_retry_at)
		return;
	while (facts_sweep_any(k->facts, client, &client) == 0) {
		r = start(k, client);
		if (r == 0)
			return;
	}
	if (r < 0 && r != -EBUSY)
		k->sweep_retry_at = k->tick + EVERY_RETRY;
}
