#include "keyd/erase_two.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "keyd/job.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "policy/policy.h"

/* Into facts and book, or neither. */
static int record(struct erase *e, int r, const char *kind, const char *target)
{
	struct outbox_entry entry = {.kind = kind, .by = erase_actor(e), .client = e->client.client};
	json_t *subject = json_object_get(e->book, "subject");

	entry.detail = json_pack("{s:s*, s:s*, s:O*, s:s, s:s*}", "store", subject || e->class ? NULL : target, "class",
		e->class ? e->class->id : NULL, "subject", subject, "reason", e->reason, "asked_by", e->asked_by);
	return outbox_record_with(e->k, r, &entry);
}

static bool ask(struct erase *e, const char *target, const struct fact_erase_ask *there)
{
	const struct actor by = {.user = e->user, .uid = e->peer.person};
	int r = 0;

	if (!there) {
		r = facts_begin(e->k->facts);
		if (r == 0)
			r = facts_erase_ask(e->k->facts, e->client.row, target, e->reason, by, keyd_now());
		r = record(e, r, "erase-ask", target);
	}
	if (r < 0)
		job_fail(e->job, "Failed", NULL, "that it was asked for is not kept: %s", strerror(-r));
	else
		job_done(e->job, json_pack("{s:b, s:s}", "confirm", 1, "asked_by", there ? there->asked_by : e->user));
	return false;
}

static bool confirm(struct erase *e, const char *target, const struct fact_erase_ask *there)
{
	const struct actor by = {.user = e->user, .uid = e->peer.person};
	int r;

	if (!there) {
		erase_refuse(e, "NotScheduled", "first without --confirm, then another custodian confirms",
			"nobody asked for it in the last seven days");
		return false;
	}
	if (person_is(&e->peer, there->asked_by, there->asked_uid)) {
		erase_refuse(e, "OwnRequest", "another custodian must confirm it",
			"he asked for it himself: it takes two different custodians");
		return false;
	}
	e->asked_by = strdup(there->asked_by);
	r = e->asked_by ? facts_begin(e->k->facts) : -ENOMEM;
	if (r == 0)
		r = facts_erase_confirm(e->k->facts, there->row, by, keyd_now());
	r = record(e, r, "erase-confirm", target);
	if (r < 0)
		erase_refuse(e, "Failed", NULL, "the confirmation is not kept");
	return r == 0;
}

bool erase_takes_two(struct erase *e, const char *target, const char *former)
{
	struct fact_erase_ask there;
	int r;

	if (person_is_alone(e->k, &e->peer))
		return true;
	r = facts_erase_asked(e->k->facts, e->client.row, target, keyd_now() - ERASE_ASK_SECONDS, &there);
	if (r == -ENOENT && former)
		r = facts_erase_asked(e->k->facts, e->client.row, former, keyd_now() - ERASE_ASK_SECONDS, &there);
	if (r < 0 && r != -ENOENT) {
		erase_refuse(e, "Failed", NULL, "what was asked for cannot be read");
		return false;
	}
	return e->confirm ? confirm(e, target, r == 0 ? &there : NULL) : ask(e, target, r == 0 ? &there : NULL);
}
