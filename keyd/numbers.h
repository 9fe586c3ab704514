/* The numbers of leaves that a worker may give out, and the days on which it does: booked before it has them
 * (facts_loads.h), more when they come to an end, written down as used when it says so.  On keyd's loop alone. */
#ifndef COFFER_KEYD_NUMBERS_H
#define COFFER_KEYD_NUMBERS_H

#include <jansson.h>

struct keyd;
struct worker;

/* Books numbers for w, and puts them into the parameters of its Open: "numbers" and "today".  Frees params on failure. */
int numbers_begin(struct keyd *k, struct worker *w, json_t *params);
/* Asks for a sign of life, unless its fsd is gone.  A worker that does not answer is killed, and w is gone. */
void numbers_ping(struct worker *w);
/* Tells that a day has begun; the same holds. */
void numbers_new_day(struct worker *w);
/* What it answered to Exit; nothing more is given out by it. */
void numbers_end(struct worker *w, const json_t *answer);

#endif
