/* The sweep: removes the dead ciphertext after a destruction.  Due ones are facts, so they are done after a restart too;
 * a client that lives is swept by its worker, a destroyed one by a worker without keys. */
#ifndef COFFER_KEYD_SWEEPS_H
#define COFFER_KEYD_SWEEPS_H

#include "keyd/keyd.h"

/* In the transaction that says that something was destroyed. */
int sweeps_due(struct keyd *k, int64_t client);
void sweeps_tick(struct keyd *k);

#endif
