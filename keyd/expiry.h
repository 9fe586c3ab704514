/* When a client's data must go, and that it goes: rules, holds and the clock in, a destruction out. */
#ifndef COFFER_KEYD_EXPIRY_H
#define COFFER_KEYD_EXPIRY_H

#include <jansson.h>
#include <stdbool.h>

#include "keyd/facts.h"
#include "policy/retention.h"

struct keyd;

/* The class whose rule keeps this client's data longest.  Pure.  Until content has dates of its own here, it is
 * taken to be as young as the end of the relationship: that is never too early. */
struct expiry_answer {
	const struct policy_class *class;
	struct retention_answer retention;
};
int expiry_judge(const struct policy *p, const struct fact_client *c, int64_t now, struct expiry_answer *ret);
/* May it be destroyed now?  Pure.  Not without a trusted clock, not on hold, not twice. */
bool expiry_is_due(const struct fact_client *c, const struct expiry_answer *a, bool clock_trusted);

/* "relationship end + 7 years"; returns buf. */
char *expiry_rule_text(const struct policy_retention *rule, char *buf, size_t n);
/* 0: none. */
int64_t expiry_destroy_on(const struct policy *p, const struct fact_client *c, int64_t now);

void expiry_tick(struct keyd *k);
/* After the keys were opened: finishes what a crash interrupted, one way or the other. */
void expiry_settle(struct keyd *k);
/* Rows of RetentionForecast; client NULL: of all. */
int expiry_forecast(struct keyd *k, const char *client, json_t **ret);

#endif
