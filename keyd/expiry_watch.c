/* What waits for its destruction is watched: who still wants to open it, and what status says. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/log.h"
#include "common/scope.h"
#include "keyd/expiry.h"
#include "keyd/facts_life.h"
#include "keyd/keyd.h"
#include "keyd/outbox.h"

void expiry_alarm(struct keyd *k, const char *client, const char *purpose, const char *outcome, struct actor by)
{
	struct outbox_entry e = {
		.kind = "alarm", .outcome = outcome, .by = by, .client = client, .purpose = purpose};
	char day[DATE_TEXT_MAX];
	struct fact_client c;

	if (facts_client(k->facts, client, FACTS_LATEST, &c) < 0 || !c.waiting)
		return;
	date_format_day(c.wait_until, day);
	log_warning("%s wanted to open %s, which is to be destroyed on %s", by.user, client, day);
	e.detail = json_pack("{s:s, s:I, s:I}", "what", "use of what waits for its destruction", "notice",
		(json_int_t)c.waiting, "until", (json_int_t)c.wait_until);
	if (outbox_put(k, &e) < 0)
		log_error("the alarm is not recorded");
}

void expiry_warning(struct keyd *k, char *buf, size_t n)
{
	char day[DATE_TEXT_MAX];
	int64_t count, first;

	*buf = '\0';
	if (facts_waiting(k->facts, &count, &first) == 0 && count > 0)
		snprintf(buf, n, "%" PRId64 " destruction%s, on %s the first: `coffer expiry list`", count,
			count == 1 ? " waits" : "s wait", date_format_day(first, day));
}

static json_t *time_text(int64_t t)
{
	char text[DATE_TEXT_MAX];

	return json_string(date_format(t, text));
}

static json_t *time_of(const json_t *row, const char *key)
{
	return time_text(json_integer_value(json_object_get(row, key)));
}

/* Only the one that was confirmed and counts: the earliest. */
static json_t *hastened(json_t *schedules, int64_t until)
{
	json_t *s;
	size_t i;

	json_array_foreach(schedules, i, s)
	{
		if (json_integer_value(json_object_get(s, "confirmed_at")) != 0 &&
			json_integer_value(json_object_get(s, "until")) == until)
			return json_pack("{s:O, s:O, s:O, s:o, s:o}", "reason", json_object_get(s, "reason"),
				"asked_by", json_object_get(s, "asked_by"), "confirmed_by",
				json_object_get(s, "confirmed_by"), "asked_at", time_of(s, "asked_at"),
				"confirmed_at", time_of(s, "confirmed_at"));
	}
	return json_null();
}

static json_t *notice_json(struct keyd *k, int64_t notice, int64_t given_at, int64_t until)
{
	json_t *o, *schedules = NULL;

	if (!notice || facts_schedules(k->facts, notice, &schedules) < 0)
		return NULL;
	o = json_pack("{s:I, s:o, s:o, s:o}", "number", (json_int_t)notice, "given_at", time_text(given_at),
		"waited_until", time_text(until), "hastened", hastened(schedules, until));
	json_decref(schedules);
	return o;
}

json_t *expiry_notice_json(struct keyd *k, const struct fact_client *c)
{
	return notice_json(k, c->waiting, c->notified_at, c->wait_until);
}

json_t *expiry_notice_json_class(struct keyd *k, int64_t client, uint16_t class)
{
	struct fact_class l;

	if (facts_class(k->facts, client, class, &l) < 0)
		return NULL;
	return notice_json(k, l.waiting, l.notified_at, l.wait_until);
}
