/* What custodians do with slots, and what everybody may know of them. */
#ifndef COFFER_KEYD_SLOTS_H
#define COFFER_KEYD_SLOTS_H

#include "common/varlink.h"
#include "keyd/keyd.h"

int keyd_slot_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_slot_add(struct varlink_call *call, json_t *params, void *userdata);
int keyd_slot_remove(struct varlink_call *call, json_t *params, void *userdata);
int keyd_slot_replace(struct varlink_call *call, json_t *params, void *userdata);
int keyd_slot_seal(struct varlink_call *call, json_t *params, void *userdata);
int keyd_passphrase_set(struct varlink_call *call, json_t *params, void *userdata);

/* [{name, kind, path, protection, assurance, healthy, state, text}] as in doc/PROTOCOL.md.  Adds to `warnings` what to
 * mind and to `red` what can cost every client or undo a destruction (both may be NULL). */
json_t *slots_json(struct keyd *k, json_t *warnings, json_t *red);
/* For a certificate: what forgot, and what may not have: [{name, kind, path, state, assurance}]. */
json_t *slots_certificate(struct keyd *k);

#endif
