/* The retention calendar: what RetentionForecast and ExpiryList answer. */
#ifndef COFFER_KEYD_FORECAST_H
#define COFFER_KEYD_FORECAST_H

#include <jansson.h>

#include "policy/policy.h"

struct keyd;

/* One row of each client, and one of each of his classes that has a life of its own; client NULL: of all. */
int expiry_forecast(struct keyd *k, const char *client, json_t **ret);
/* `class_number` of each row becomes `class`: its id, null for 0, a text for a number that the policy does not know. */
void expiry_name_classes(const struct policy *p, json_t *rows);

#endif
