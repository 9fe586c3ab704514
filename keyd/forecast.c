#include "keyd/forecast.h"

#include <string.h>

#include "common/ids.h"
#include "common/scope.h"
#include "keyd/expiry_class.h"
#include "keyd/facts_life.h"
#include "keyd/keyd.h"
#include "keyd/rules.h"

static const char *forecast_state(const struct fact_client *c, const struct expiry_answer *a)
{
	if (c->destroyed_on)
		return "destroyed";
	switch (a->retention.state) {
	case RETENTION_DATED:
		return "dated";
	case RETENTION_DUE:
		return c->held || c->held_partly ? "held" : c->waiting ? "waiting" : "due";
	case RETENTION_HELD:
		return "held";
	default:
		return c->held ? "held" : "running";
	}
}

static json_t *time_json(int64_t t)
{
	return t ? json_integer((json_int_t)t) : json_null();
}

struct life { /* of a client or a class */
	int64_t waiting, notified_at, wait_until, postponed_until;
	bool over;
};

static void add_waiting(struct keyd *k, const struct life *l, int64_t now, json_t *row)
{
	struct fact_schedule s;

	json_object_set_new(row, "notified_at", time_json(l->notified_at));
	json_object_set_new(row, "wait_until", time_json(l->wait_until));
	json_object_set_new(row, "postponed_until",
		time_json(!l->waiting && !l->over && l->postponed_until > now ? l->postponed_until : 0));
	if (l->waiting && facts_notice_scheduled(k->facts, l->waiting, &s) == 0)
		json_object_set_new(row, "asked",
			json_pack("{s:I, s:s, s:s}", "until", (json_int_t)s.until, "by", s.asked_by, "reason",
				s.reason));
}

/* While it runs, the rule that will decide is the class's first: the policy lists the strictest there. */
static json_t *forecast_row(struct keyd *k, const struct fact_client *c, int64_t now)
{
	const struct policy_retention *rule;
	const struct life l = {c->waiting, c->notified_at, c->wait_until, c->postponed_until, c->destroyed_on != 0};
	struct expiry_answer a;
	json_t *row, *holds = NULL;
	char text[128] = "";

	if (expiry_judge(rules_now(k, c->row), c, now, &a) < 0)
		return NULL;
	rule = a.retention.rule               ? a.retention.rule
	       : a.class->retention_count > 0 ? &a.class->retention[0]
					      : NULL;
	if (rule)
		expiry_rule_text(rule, text, sizeof(text));
	if (facts_holds(k->facts, c->client, &holds) < 0)
		holds = json_array();
	for (size_t i = json_array_size(holds); i-- > 0;) /* those that are in force */
		if (!json_is_null(json_object_get(json_array_get(holds, i), "lifted_at")))
			json_array_remove(holds, i);
	expiry_name_classes(k->policy, holds);
	row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:s, s:o}", "of", "client", "client", c->client, "name", c->name,
		"class", a.class->id, "rule", text, "source", rule ? rule->source : NULL, "event",
		rule ? expiry_event_name(rule) : "relationship end", "state", forecast_state(c, &a),
		"holds", holds);
	if (row) {
		json_object_set_new(row, "event_on", c->ended_on ? json_integer(c->ended_on) : json_null());
		json_object_set_new(
			row, "due", a.retention.due ? json_integer(a.retention.due) : json_null());
		add_waiting(k, &l, now, row);
	}
	return row;
}

/* ---- classes ---- */

/* When the oldest that was seen of it becomes due. */
static int next_due(const struct policy_class *class, const struct fact_client *c, const struct fact_class *l, int64_t now,
	struct retention_answer *ret)
{
	int64_t made = DAY_EPOCH_UNIX + ((int64_t)l->oldest_day + 1) * 86400 - 1;
	const struct retention_facts f = {.created = made,
		.modified = l->oldest_change > made ? l->oldest_change : made,
		.relationship_end = c->ended_on,
		.dates = c->dates,
		.dates_count = c->dates_count};

	*ret = (struct retention_answer){0};
	if (!l->looked_at || l->oldest_day == LOOK_NOTHING)
		return 0;
	return retention_class(class, &f, now, ret);
}

static const char *class_state(const struct fact_client *c, const struct fact_class *l, const struct retention_answer *a)
{
	if (c->held || l->held)
		return "held";
	if (l->waiting)
		return "waiting";
	return a->state == RETENTION_DUE ? "due" : a->due ? "dated" : "running";
}

static json_t *class_row(struct keyd *k, const struct fact_client *c, const struct policy_class *class,
	const struct fact_class *f, int64_t now)
{
	const struct life l = {f->waiting, f->notified_at, f->wait_until, f->postponed_until, false};
	const struct policy_retention *rule;
	struct retention_answer a;
	char text[128] = "";
	json_t *row;

	if (next_due(class, c, f, now, &a) < 0)
		return NULL;
	rule = a.rule ? a.rule : class->retention_count > 0 ? &class->retention[0] : NULL;
	if (rule)
		expiry_rule_text(rule, text, sizeof(text));
	row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:s, s:s, s:[]}", "of", "class", "client", c->client, "name", c->name,
		"class", class->id, "rule", text, "source", rule ? rule->source : NULL, "event",
		rule ? expiry_event_name(rule) : "created", "state", class_state(c, f, &a), "holds");
	if (!row)
		return NULL;
	json_object_set_new(row, "event_on", json_null());
	json_object_set_new(row, "due", time_json(f->waiting ? f->due : a.due));
	json_object_set_new(row, "before",
		f->waiting ? json_integer((json_int_t)(DAY_EPOCH_UNIX + (int64_t)f->before * 86400)) : json_null());
	add_waiting(k, &l, now, row);
	return row;
}

/* What only goes with the client has no row of its own. */
static bool has_life(const struct fact_class *l, int64_t now)
{
	return l->waiting || l->held || l->postponed_until > now ||
	       (l->looked_at && l->oldest_day != LOOK_NOTHING);
}

static int add_classes(struct keyd *k, const struct fact_client *c, int64_t now, json_t *rows)
{
	const struct policy_class *classes[FACT_CLASSES_MAX + 1];
	size_t n = c->destroyed_on ? 0 : expiry_classes_of(rules_now(k, c->row), c, classes);
	struct fact_class l;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		r = facts_class(k->facts, c->row, classes[i]->number, &l);
		if (r == 0 && has_life(&l, now))
			json_array_append_new(rows, class_row(k, c, classes[i], &l, now));
	}
	return r;
}

static json_t *class_name(const struct policy *p, json_int_t number)
{
	const struct policy_class *c = policy_class_by_number(p, (uint16_t)number);

	return number == 0 ? json_null() : c ? json_string(c->id) : json_sprintf("number %d", (int)number);
}

void expiry_name_classes(const struct policy *p, json_t *rows)
{
	json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		json_object_set_new(
			row, "class", class_name(p, json_integer_value(json_object_get(row, "class_number"))));
		json_object_del(row, "class_number");
	}
}

int expiry_forecast(struct keyd *k, const char *client, json_t **ret)
{
	scoped(freep) struct fact_client *clients = NULL;
	json_t *rows;
	int64_t now = keyd_now();
	size_t n = 0;
	int r;

	r = facts_clients(k->facts, FACTS_LATEST, &clients, &n);
	if (r < 0)
		return r;
	rows = json_array();
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (client && strcmp(client, clients[i].client) != 0)
			continue;
		json_array_append_new(rows, forecast_row(k, &clients[i], now));
		r = add_classes(k, &clients[i], now, rows);
	}
	if (r < 0)
		json_decref(rows);
	else
		*ret = rows;
	return r;
}
