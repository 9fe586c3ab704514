/* Disclosures that nobody may be told of before a date (O11).  The book gets at once, without the client, a commitment to the
 * whole entry: BLAKE2b-256, keyed with 32 random bytes, of its JSON text (sorted keys, compact).  On the date the entry
 * itself follows, with these bytes and the commitment: so everybody can see that it is the one, and when it was made. */
#ifndef COFFER_KEYD_SEALED_H
#define COFFER_KEYD_SEALED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/varlink.h"
#include "keyd/facts.h"

struct keyd;

/* detail: {authority, document, scope}; not stolen.  until: in the future. */
int sealed_put(struct keyd *k, const char *client, const json_t *detail, int64_t until, struct actor by);
/* Whether one of that client waits: then nobody who asks for the client is told of what was done for it (SEALED_PURPOSE).  True when
 * it is not known. */
#define SEALED_PURPOSE "legal-process"
bool sealed_concerns(struct keyd *k, const char *client);
/* What is due is opened; waits while the clock is in doubt. */
void sealed_tick(struct keyd *k);

/* org.coffer.keyd.SealedList */
int keyd_sealed_list(struct varlink_call *call, json_t *params, void *userdata);

#endif
