/* Keys that are exchanged though nothing is destroyed: R, a client's K_c, the signing key.  By the protocol of a destruction
 * (keyd/shred.h), with nothing to cut; the intent stands in the facts until it is recorded how it ended.  On keyd's
 * loop. */
#ifndef COFFER_KEYD_ROTATE_H
#define COFFER_KEYD_ROTATE_H

#include "common/varlink.h"
#include "keyd/keyd.h"

int keyd_rotate_root(struct varlink_call *call, json_t *params, void *userdata);
int keyd_rotate_client(struct varlink_call *call, json_t *params, void *userdata);
int keyd_rotate_signing(struct varlink_call *call, json_t *params, void *userdata);

/* Exchanges the root key by shred_run() for what somebody asks for; keeps the intent, records it (`client` or `slot`, or
 * neither, names what it was about), replies.  even_unfinished: also while a slot is waited for. */
int rotate_run(struct keyd *k, struct varlink_call *call, const char *kind, const char *client, const char *slot,
	const struct shred_job *job, bool even_unfinished);

/* After the keys were opened, and when an exchange was finished late: records what became of the one that was begun. */
void rotate_settle(struct keyd *k);

#endif
