/* What custodians decide about a destruction that runs: cancel it, or, two of them, hasten it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "keyd/erase_two.h"
#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/forecast.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"
#include "keyd/person.h"
#include "keyd/retain.h"
#include "keyd/rules.h"
#include "keyd/window.h"

#define DAY_SECONDS 86400

struct waiting { /* a client, or one class of him, of which a notice runs */
	struct fact_client c;
	const struct policy_class *class; /* or NULL */
	int64_t notice, until;
};

static bool find_waiting(struct keyd *k, const char *class, struct waiting *ret)
{
	struct fact_class l;

	ret->class = class ? policy_class(k->policy, class) : NULL;
	ret->notice = ret->c.destroying ? 0 : ret->c.waiting;
	ret->until = ret->c.wait_until;
	if (!class)
		return ret->notice != 0;
	if (!ret->class || facts_class(k->facts, ret->c.row, ret->class->number, &l) < 0)
		return false;
	ret->notice = l.waiting;
	ret->until = l.wait_until;
	return l.waiting != 0;
}

static bool params_waiting(
	struct keyd *k, struct varlink_call *call, const char *client, const char *class, struct waiting *ret)
{
	if (!params_client(k, call, client, &ret->c))
		return false;
	if (find_waiting(k, class, ret))
		return true;
	if (class && !ret->class)
		varlink_errorf(call, "UnknownClass", "`coffer policy show` lists them",
			"the policy %s knows no record class %s", k->policy->name, class);
	else
		varlink_errorf(call, "NotWaiting", "`coffer expiry list` shows what runs",
			"no destruction of %s%s%s waits: no notice is given", class ? class : "",
			class ? " of " : "", client);
	return false;
}

static json_t *class_json(const struct waiting *w)
{
	return w->class ? json_string(w->class->id) : NULL;
}

int keyd_expiry_cancel(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "expiry-cancel", .by = actor_of(call)};
	const char *reason, *class = NULL;
	struct waiting w;
	int64_t again, now = keyd_now();
	int r;

	if (!params_unpack(call, params, "{s:s, s:s, s?s}", "client", &e.client, "reason", &reason, "class", &class) ||
		!params_text(call, "reason", reason) || !params_waiting(k, call, e.client, class, &w))
		return 0;
	again = expiry_wait_until(k->policy, now);
	e.detail = json_pack("{s:I, s:s, s:I, s:o*}", "notice", (json_int_t)w.notice, "reason", reason, "again_at",
		(json_int_t)again, "class", class_json(&w));
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_notice_end_class(k->facts, w.c.row, w.class ? w.class->number : 0, NOTICE_CANCELLED, reason,
			again, e.by, now);
	r = outbox_record_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the cancellation is not kept");
	if (w.class)
		window_drop(k, w.c.client);
	retain_tell(k, &w.c);
	return varlink_reply(call, json_pack("{s:I}", "again_at", (json_int_t)again));
}

int keyd_expiry_schedule(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "expiry-schedule", .by = actor_of(call)};
	int64_t on = -1, now = keyd_now();
	const char *reason, *class = NULL;
	struct waiting w;
	json_t *v;
	int r;

	if (!params_unpack(call, params, "{s:s, s:o, s:s, s?s}", "client", &e.client, "on", &v, "reason", &reason,
		    "class", &class) ||
		!params_text(call, "reason", reason) || !params_time(call, params, "on", &on) ||
		!params_waiting(k, call, e.client, class, &w))
		return 0;
	if (on < now - now % DAY_SECONDS)
		return varlink_error(call, "InvalidDate", "that day is over", "name today or a later day: --on");
	if (on >= w.until)
		return varlink_errorf(call, "InvalidDate",
			"to keep it longer cancel the destruction or place a hold",
			"it is destroyed before that day already");
	e.detail = json_pack("{s:I, s:I, s:s, s:o*}", "notice", (json_int_t)w.notice, "until", (json_int_t)on,
		"reason", reason, "class", class_json(&w));
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_notice_schedule(k->facts, w.notice, on, reason, person_of_call(call), now);
	r = outbox_record_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the date is not kept");
	return varlink_reply(call, json_pack("{s:I, s:b}", "until", (json_int_t)on, "separation", !person_is_alone(k, varlink_call_peer(call))));
}

static bool may_confirm(struct keyd *k, struct varlink_call *call, const struct waiting *w,
	const struct fact_schedule *s)
{
	char day[DATE_TEXT_MAX];
	int64_t now = keyd_now();

	date_format_day(s->until, day);
	if (!person_is_alone(k, varlink_call_peer(call)) && person_is(varlink_call_peer(call), s->asked_by, s->asked_uid))
		varlink_errorf(call, "OwnRequest", "another custodian must confirm it",
			"%s asked for %s himself: it takes two different custodians", s->asked_by, day);
	else if (s->until < now - now % DAY_SECONDS)
		varlink_errorf(call, "InvalidDate", "ask for another day: coffer expiry schedule",
			"%s, which %s asked for, is over", day, s->asked_by);
	else if (s->until >= w->until)
		varlink_errorf(call, "InvalidDate", "nothing is left to confirm",
			"it is destroyed before %s already", day);
	else
		return true;
	return false;
}

int keyd_expiry_confirm(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	struct outbox_entry e = {.kind = "expiry-confirm", .by = actor_of(call)};
	const char *class = NULL;
	struct fact_schedule s;
	struct waiting w;
	int r;

	if (!params_unpack(call, params, "{s:s, s?s}", "client", &e.client, "class", &class) ||
		!params_waiting(k, call, e.client, class, &w))
		return 0;
	r = facts_notice_scheduled(k->facts, w.notice, &s);
	if (r == -ENOENT)
		return varlink_errorf(call, "NotScheduled", "first `coffer expiry schedule`, then another confirms",
			"nobody asked for an earlier destruction of %s", w.c.client);
	if (r < 0)
		return reply_failure(k, call, r, "what was asked for cannot be read");
	if (!may_confirm(k, call, &w, &s))
		return 0;
	e.detail = json_pack("{s:I, s:I, s:s, s:s, s:b, s:o*}", "notice", (json_int_t)w.notice, "until",
		(json_int_t)s.until, "asked_by", s.asked_by, "reason", s.reason, "separation", !person_is_alone(k, varlink_call_peer(call)), "class",
		class_json(&w));
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_notice_confirm(k->facts, s.row, e.by, keyd_now());
	r = outbox_record_with(k, r, &e);
	if (r < 0)
		return reply_failure(k, call, r, "the confirmation is not kept");
	expiry_now(k);
	return varlink_reply(call, json_pack("{s:I, s:s, s:s, s:b}", "until", (json_int_t)s.until, "asked_by",
		s.asked_by, "reason", s.reason, "separation", !person_is_alone(k, varlink_call_peer(call))));
}

int keyd_expiry_run(struct varlink_call *call, json_t *params, void *userdata)
{
	struct outbox_entry e = {.kind = "expiry-run", .by = actor_of(call)};
	struct keyd *k = userdata;
	const char *reason;
	int r;

	if (!params_unpack(call, params, "{s:s}", "reason", &reason) || !params_text(call, "reason", reason))
		return 0;
	if (k->clock.unconfirmed)
		return varlink_error(call, "ClockUnconfirmed", "the clock is in doubt: nothing is destroyed",
			"look whether it is right, then `coffer clock confirm`");
	e.detail = json_pack("{s:s}", "reason", reason);
	r = outbox_record(k, &e);
	if (r < 0)
		return reply_failure(k, call, r, "that it was asked for is not recorded");
	k->expiry_urgent = true;
	expiry_now(k);
	return varlink_reply(call, NULL);
}

int keyd_expiry_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	json_t *rows = NULL, *notices = NULL, *erasures = NULL;
	const char *client = NULL;
	struct fact_client c;
	int r;

	if (!params_unpack(call, params, "{s?s}", "client", &client) ||
		(client && !params_client(k, call, client, &c)))
		return 0;
	r = expiry_forecast(k, client, &rows);
	if (r == 0)
		r = facts_notices(k->facts, client, &notices);
	if (r == 0)
		r = facts_erase_waiting(k->facts, client, keyd_now() - ERASE_ASK_SECONDS, &erasures);
	if (r < 0) {
		json_decref(rows);
		json_decref(notices);
		return reply_failure(k, call, r, "the destructions cannot be read");
	}
	expiry_name_classes(k->policy, notices);
	return varlink_reply(call, json_pack("{s:o, s:o, s:o}", "expiry", rows, "notices", notices, "erasures", erasures));
}

/* ---- named events ---- */

static int keep_event(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *event,
	int64_t on)
{
	struct outbox_entry e = {.kind = "event-set", .by = actor_of(call), .client = c->client};
	struct fact_client now;
	int64_t destroy_on;
	int r;

	e.detail = json_pack("{s:s, s:I}", "event", event, "on", (json_int_t)on);
	r = facts_begin(k->facts);
	if (r == 0)
		r = facts_event_set(k->facts, c->row, event, on, e.by, keyd_now());
	r = outbox_record_with(k, r, &e);
	if (r == 0)
		r = facts_client(k->facts, c->client, FACTS_LATEST, &now);
	if (r < 0)
		return reply_failure(k, call, r, "the date is not kept");
	destroy_on = expiry_destroy_on(rules_now(k, now.row), &now, keyd_now());
	return varlink_reply(call, destroy_on ? json_pack("{s:I}", "destroy_on", (json_int_t)destroy_on)
					      : json_pack("{s:n}", "destroy_on"));
}

int keyd_event_set(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *client, *event;
	int64_t on = 0; /* taken back */
	struct fact_client c;
	json_t *v = NULL;

	if (!params_unpack(call, params, "{s:s, s:s, s?o}", "client", &client, "event", &event, "on", &v) ||
		!params_time(call, params, "on", &on) || !params_client(k, call, client, &c))
		return 0;
	if (c.destroyed_on || c.destroying)
		return varlink_errorf(call, "Destroyed", NULL, "%s is destroyed", c.client);
	if (!policy_event(k->policy, event))
		return varlink_errorf(call, "UnknownEvent", "the policy describes them under `events`",
			"the policy %s knows no event %s", k->policy->name, event);
	return keep_event(k, call, &c, event, on);
}

int keyd_event_list(struct varlink_call *call, json_t *params, void *userdata)
{
	struct keyd *k = userdata;
	const char *client = NULL;
	struct fact_client c;
	json_t *rows = NULL;
	int r;

	if (!params_unpack(call, params, "{s?s}", "client", &client) ||
		(client && !params_client(k, call, client, &c)))
		return 0;
	r = facts_events(k->facts, client, &rows);
	return reply_rows(k, call, r, "events", rows, "the events cannot be read");
}
