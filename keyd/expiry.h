/* When a client's data must go, and that it goes: rules, holds and the clock in, a destruction out. */
#ifndef COFFER_KEYD_EXPIRY_H
#define COFFER_KEYD_EXPIRY_H

#include <jansson.h>
#include <stdbool.h>

#include "keyd/facts.h"
#include "policy/retention.h"

struct keyd;
struct prefix_answer;
struct fact_class;

#define EXPIRY_RETRY 60 /* ticks between two tries of what did not work */

/* The class whose rule keeps this client's data longest; what a successor has no rule keeps here.  Pure.  Until content has dates of its own here, it is
 * taken to be as young as the end of the relationship: that is never too early. */
struct expiry_answer {
	const struct policy_class *class;
	struct retention_answer retention;
};
int expiry_judge(const struct policy *p, const struct fact_client *c, int64_t now, struct expiry_answer *ret);
/* May it be destroyed now?  Pure.  Not without a trusted clock, not on hold (nor a part of it), not twice. */
bool expiry_is_due(const struct fact_client *c, const struct expiry_answer *a, bool clock_trusted);

/* The next step of a client's life cycle.  Pure.  A hold, or a rule that no longer says so, ends a notice; what is
 * due is given notice of, not before a cancellation has run out; what waited long enough is destroyed. */
enum expiry_step { EXPIRY_NOTHING = 0, EXPIRY_NOTIFY, EXPIRY_STOP, EXPIRY_DESTROY };
enum expiry_step expiry_next(
	const struct fact_client *c, const struct expiry_answer *a, int64_t now, bool clock_trusted);
/* The end of a waiting that begins now: whole days after this one. */
int64_t expiry_wait_until(const struct policy *p, int64_t now);
/* When the last daily window for destructions began. */
int64_t expiry_window(const struct policy *p, int64_t now);
/* When the window began that counts for the run that goes on now: with an urgent one it has just begun. */
int64_t expiry_window_of_run(const struct keyd *k, int64_t now);

/* "relationship end + 7 years"; returns buf. */
char *expiry_rule_text(const struct policy_retention *rule, char *buf, size_t n);
/* 0: none. */
int64_t expiry_destroy_on(const struct policy *p, const struct fact_client *c, int64_t now);

/* Somebody wants to open a client: an alarm in the book if it waits for its destruction. */
void expiry_alarm(struct keyd *k, const char *client, const char *purpose, const char *outcome, struct actor by);
/* What status warns of; "": nothing. */
void expiry_warning(struct keyd *k, char *buf, size_t n);
/* The notice that runs, for the certificate: number, times, who hastened it.  NULL: none. */
json_t *expiry_notice_json(struct keyd *k, const struct fact_client *c);
json_t *expiry_notice_json_class(struct keyd *k, int64_t client, uint16_t class);

/* Notice is given: letter, fact and record.  Of a class: of what was made before that day. */
int expiry_notify(struct keyd *k, const struct fact_client *c, const struct expiry_answer *a);
int expiry_notify_class(struct keyd *k, const struct fact_client *c, const struct policy_class *class, uint16_t before,
	const struct prefix_answer *a);
/* The clock ends a notice; class NULL: of the client as a whole. */
int expiry_stop(struct keyd *k, const struct fact_client *c, const struct fact_class *class, enum notice_end how,
	const char *why);

void expiry_tick(struct keyd *k);
/* A person changed what it depends on: at once, and into the book. */
void expiry_now(struct keyd *k);
/* After the keys were opened: finishes what a crash interrupted, one way or the other. */
void expiry_settle(struct keyd *k);
const char *expiry_event_name(const struct policy_retention *rule);

#endif
