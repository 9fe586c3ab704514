#include "keyd/refusals.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"

#define MINUTE 60u

struct refusals { /* of one user, in one minute */
	struct refusals *next;
	uint64_t since; /* tick */
	uid_t uid;
	char user[256];
	unsigned recorded;
	json_int_t left_out;
};

static void record(struct keyd *k, const struct refusals *r, json_t *detail)
{
	struct outbox_entry e = {
		.kind = "refused", .outcome = "TooMany", .by = {.user = r->user, .uid = r->uid}, .detail = detail};

	if (outbox_put(k, &e) < 0)
		log_error("that %s was refused, and how often, is not recorded", r->user);
	(void)outbox_deliver(k);
}

static struct refusals *refusals_of(struct keyd *k, struct actor by)
{
	struct refusals *r;

	for (r = k->refusals; r; r = r->next)
		if (r->uid == by.uid && k->tick - r->since < MINUTE)
			return r;
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->since = k->tick;
	r->uid = by.uid;
	snprintf(r->user, sizeof(r->user), "%s", by.user);
	r->next = k->refusals;
	k->refusals = r;
	return r;
}

bool refusal_is_recorded(struct keyd *k, struct actor by)
{
	struct refusals *r = refusals_of(k, by);

	if (!r)
		return true;
	if (r->recorded < REFUSALS_A_MINUTE) {
		r->recorded++;
		return true;
	}
	if (r->left_out++ == 0) {
		log_warning("%s (uid %u) is refused again and again: from now on this is only counted", r->user, (unsigned)r->uid);
		record(k, r, json_pack("{s:s}", "message", "more refusals in this minute are counted, not recorded one by one"));
	}
	return false;
}

static void end(struct keyd *k, bool all)
{
	struct refusals **p = &k->refusals;

	while (*p) {
		struct refusals *r = *p;

		if (!all && k->tick - r->since < MINUTE) {
			p = &r->next;
			continue;
		}
		if (r->left_out)
			record(k, r, json_pack("{s:I}", "left_out", r->left_out));
		*p = r->next;
		free(r);
	}
}

void refusals_tick(struct keyd *k)
{
	end(k, false);
}

void refusals_flush(struct keyd *k)
{
	end(k, true);
}
