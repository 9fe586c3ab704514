/* What a client's worker must know for retention: the documents and directories on hold, and what waits for its destruction,
 * which it does not open any more.  On keyd's loop. */
#ifndef COFFER_KEYD_RETAIN_H
#define COFFER_KEYD_RETAIN_H

#include <jansson.h>

#include "keyd/children.h"
#include "keyd/facts.h"

struct session;

/* A worker that has just opened. */
int retain_open(struct keyd *k, const struct fact_client *c, struct worker *w);
/* It changed: the client's worker, if there is one, knows it (or is dead) when this returns. */
void retain_tell(struct keyd *k, const struct fact_client *c);
/* Somebody wanted to open what waits: an alarm in the book, once a minute for a session and class. */
void retain_alarm(struct keyd *k, struct session *s, json_int_t class, json_int_t used, json_int_t refused);

#endif
