#include "keyd/retain.h"

#include <errno.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/facts_life.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"
#include "keyd/prefix.h"
#include "keyd/rules.h"
#include "keyd/session.h"

#define ALARM_EVERY 60 /* ticks */

/* What is not due any more is closed for no longer than until the next look ends its notice. */
static int add_waiting(struct keyd *k, const struct fact_client *c, const struct fact_class *l, json_t *list)
{
	const struct policy_class *class = policy_class_by_number(rules_now(k, c->row), l->class);
	struct prefix_answer a = {.modified_since = INT64_MAX};
	int r = class ? prefix_judge(class, c, l->before, keyd_now(), &a) : 0;

	if (r < 0)
		return r;
	return json_array_append_new(list, json_pack("{s:i, s:i, s:I}", "class", (int)l->class, "before", (int)l->before,
						   "modified_since", (json_int_t)(a.due ? a.modified_since : INT64_MAX)));
}

static int make(struct keyd *k, const struct fact_client *c, json_t **ret)
{
	scoped(freep) struct fact_class *waiting = NULL;
	scoped(json_decrefp) json_t *o = NULL;
	json_t *list = json_array();
	size_t n = 0;
	int r = facts_held(k->facts, c->row, &o);

	if (r == 0)
		r = facts_classes_waiting(k->facts, c->row, &waiting, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add_waiting(k, c, &waiting[i], list);
	if (r < 0) {
		json_decref(list);
		return r;
	}
	json_object_set_new(o, "waiting", list);
	*ret = take_ptr(&o);
	return 0;
}

static bool says_nothing(const json_t *o)
{
	return json_array_size(json_object_get(o, "waiting")) + json_array_size(json_object_get(o, "files")) +
		       json_array_size(json_object_get(o, "directories")) ==
	       0;
}

int retain_open(struct keyd *k, const struct fact_client *c, struct worker *w)
{
	json_t *o = NULL;
	int r = make(k, c, &o);

	if (r < 0)
		return r;
	if (says_nothing(o)) {
		json_decref(o);
		return 0;
	}
	return worker_call(w, "org.coffer.worker.Retain", o, WORKER_TIMEOUT_MS, NULL);
}

void retain_tell(struct keyd *k, const struct fact_client *c)
{
	struct worker *w = worker_find(k, c->hex);
	json_t *o = NULL;
	int r;

	if (!w)
		return;
	r = make(k, c, &o);
	if (r == 0)
		r = worker_call(w, "org.coffer.worker.Retain", o, WORKER_TIMEOUT_MS, NULL);
	if (r == 0)
		return;
	log_error("the worker of %s does not know what to retain: %s", c->client, strerror(-r));
	w = worker_find(k, c->hex);
	if (w)
		worker_kill(w); /* the next one learns it when it opens */
}

void retain_alarm(struct keyd *k, struct session *s, json_int_t class, json_int_t used, json_int_t refused)
{
	struct outbox_entry e = {.kind = "alarm",
		.outcome = refused ? "Waiting" : NULL,
		.by = {.user = s->user, .uid = s->uid},
		.client = s->client,
		.purpose = s->purpose,
		.ticket = s->ticket,
		.session = s->id};
	const struct policy_class *c = policy_class_by_number(k->policy, (uint16_t) class);
	char day[DATE_TEXT_MAX];
	struct fact_class l;

	if (s->alarmed_class == class && k->tick - s->alarmed_at < ALARM_EVERY)
		return;
	if (facts_class(k->facts, s->client_row, (uint16_t) class, &l) < 0 || !l.waiting)
		return;
	s->alarmed_class = class;
	s->alarmed_at = k->tick;
	log_warning("%s wanted to open something of %s of %s, which is to be destroyed on %s", s->user,
		c ? c->id : "a class", s->client, date_format_day(l.wait_until, day));
	e.detail = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "what", "use of what waits for its destruction", "class",
		c ? c->id : "", "notice", (json_int_t)l.waiting, "until", (json_int_t)l.wait_until, "used", used,
		"refused", refused);
	if (outbox_put(k, &e) < 0)
		log_error("the alarm is not recorded");
}
