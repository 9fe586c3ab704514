#include "keyd/report.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "common/scope.h"
#include "keyd/head.h"
#include "keyd/job.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/report_facts.h"
#include "keyd/rules.h"
#include "keyd/sealed.h"
#include "keyd/signed_json.h"

struct report {
	struct keyd *k;
	struct job *job;
	sd_event_source *source;
	struct fact_client client;
	char *by, *after;
	int64_t from, until, made_at;
	bool names;
	bool sealed; /* there is a disclosure that must not be told yet */
	struct fact_head head;
};

static void report_free(struct report *r)
{
	sd_event_source_disable_unref(r->source);
	free(r->by);
	free(r->after);
	free(r);
}
DEFINE_SCOPED(struct report *, report_free)

/* ---- its end ---- */

static int finish(struct report *r, const json_t *counted)
{
	char signature[2 * SIGNATURE_BYTES + 1], hex[2 * PUBLIC_KEY_BYTES + 1];
	uint8_t public_key[PUBLIC_KEY_BYTES];
	scoped(json_decrefp) json_t *report = NULL;
	struct keyd *k = r->k;
	struct report_facts f = {.client = &r->client,
		.from = r->from,
		.until = r->until,
		.made_at = r->made_at,
		.made_by = r->by,
		.names = r->names,
		.sealed = r->sealed,
		.head = &r->head,
		.counted = counted};
	int e;

	if (keyd_is_sealed(k))
		return -ENOKEY;
	e = rules_for(k, r->client.row, FACTS_LATEST, FACTS_LATEST, &f.rules);
	if (e == 0)
		e = report_make(k, &f, &report);
	if (e == 0)
		e = signed_json_sign(k->ring, REPORT_CONTEXT, report, NULL, signature);
	if (e < 0)
		return e;
	keyring_public_key(k->ring, public_key);
	sodium_bin2hex(hex, sizeof(hex), public_key, sizeof(public_key));
	job_done(r->job, json_pack("{s:O, s:s, s:s}", "report", report, "signature", signature, "public_key", hex));
	return 0;
}

static void tell_how_far(struct job *j, const json_t *answer)
{
	json_auto_t *counts = json_pack("{s:O, s:O}", "records", json_object_get(answer, "records"), "of",
		json_object_get(answer, "of"));

	job_progress(j, counts);
}

/* A piece of the record; then the loop goes round, and comes back here when nothing else waits. */
static int on_piece(sd_event_source *source, void *userdata)
{
	scoped(json_decrefp) json_t *answer = NULL;
	struct varlink_failure failure = {0};
	struct report *r = userdata;
	struct keyd *k = r->k;
	const char *next;
	int e;

	e = fsd_call(k, "org.coffer.fsd.Accesses",
		json_pack("{s:s, s:I, s:I, s:s?, s:s?}", "client", r->client.client, "since", (json_int_t)r->from, "until",
			(json_int_t)r->until, "after", r->after, "without", r->sealed ? SEALED_PURPOSE : NULL),
		&answer, &failure);
	next = json_string_value(json_object_get(answer, "next"));
	free(r->after);
	r->after = next ? strdup(next) : NULL;
	if (e == 0 && next && !r->after)
		e = -ENOMEM;
	if (e == 0 && next)
		tell_how_far(r->job, answer);
	if (e == 0 && next && sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) >= 0)
		return 0;
	if (e == 0)
		e = finish(r, json_object_get(answer, "counted"));
	if (e == -ENOKEY)
		job_fail(r->job, "Sealed", "`coffer unseal`, then try again", "the keys were sealed meanwhile: the report is not signed");
	else if (e < 0)
		job_fail(r->job, "Unavailable", "try again; log/keyd.log in the state directory says more", "the report was not made: %s",
			e == -EREMOTEIO ? failure.message : strerror(-e));
	k->report = NULL;
	report_free(r);
	return 0;
}

void report_stop(struct keyd *k)
{
	if (k->report)
		report_free(k->report);
	k->report = NULL;
}

/* ---- its beginning ---- */

/* Before anything is read: who has a report made leaves a trace. */
static int record(struct keyd *k, const struct report *r, struct actor by)
{
	struct outbox_entry e = {.kind = "report",
		.by = by,
		.client = r->client.client,
		.detail = json_pack("{s:I, s:I}", "from", (json_int_t)r->from, "until", (json_int_t)r->until)};

	return outbox_record(k, &e);
}

/* The head that the report rests on.  A book that goes back or was changed is no base. */
static int sign_head(struct keyd *k, struct varlink_call *call, struct fact_head *ret)
{
	int e = head_sign(k, ret);

	if (e == -ESTALE)
		varlink_error(call, "LedgerChanged", k->head_warning, "keep a copy of the ledger as it is; `coffer log verify`");
	else if (e < 0)
		reply_failure(k, call, e, "the head of the record is not signed");
	return e;
}

static int begin(struct varlink_call *call, struct report **ret)
{
	struct report *r = *ret;
	struct keyd *k = r->k;
	int e;

	e = record(k, r, actor_of(call));
	if (e < 0)
		return reply_failure(k, call, e, "that the report is made is not recorded");
	if (sign_head(k, call, &r->head) < 0)
		return 0;
	e = sd_event_add_defer(k->event, &r->source, on_piece, r);
	if (e < 0)
		return reply_failure(k, call, e, "the report cannot be begun");
	(void)sd_event_source_set_priority(r->source, SD_EVENT_PRIORITY_IDLE);
	r->job = job_new(k, call);
	if (r->job)
		k->report = take_ptr(ret);
	return 0;
}

int keyd_report(struct varlink_call *call, json_t *params, void *userdata)
{
	scoped(report_freep) struct report *r = calloc(1, sizeof(*r));
	struct keyd *k = userdata;
	json_t *from, *until;
	const char *client;

	if (!r)
		return -ENOMEM;
	r->k = k;
	r->from = -1;
	r->made_at = keyd_now();
	r->until = r->made_at + 1; /* this second, too */
	if (!params_unpack(call, params, "{s:s, s?o, s?o}", "client", &client, "from", &from, "until", &until) ||
		!params_time(call, params, "from", &r->from) || !params_time(call, params, "until", &r->until) ||
		!params_client(k, call, client, &r->client))
		return 0;
	if (r->from < 0)
		r->from = r->client.added_at;
	if (r->until <= r->from)
		return varlink_error(call, "InvalidDate", "the time that the report is about ends before it begins", "--from DATE --to DATE");
	if (k->report)
		return varlink_error(call, "Busy", "another report is being made", "wait for its end");
	if (!fsd_is_running(k))
		return varlink_error(call, "Unavailable", "coffer-fsd, which keeps the record, is not running",
			"try again in a few seconds; `coffer status` shows its state");
	r->sealed = sealed_concerns(k, r->client.client);
	r->names = may_see_names(k, call, r->client.hex);
	r->by = strdup(varlink_call_peer(call)->user);
	return r->by ? begin(call, &r) : -ENOMEM;
}
