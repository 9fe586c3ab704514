/* Handing a client over to another installation: its key tree, sealed to the successor's key (libsodium's sealed box), with a
 * signed inventory; and taking one over.  The ciphertext is copied by the tool. */
#ifndef COFFER_KEYD_TRANSFER_H
#define COFFER_KEYD_TRANSFER_H

#include "common/varlink.h"

#define TRANSFER_CONTEXT "coffer-transfer"

int keyd_transfer_key(struct varlink_call *call, json_t *params, void *userdata);
int keyd_transfer(struct varlink_call *call, json_t *params, void *userdata);
int keyd_transfer_finish(struct varlink_call *call, json_t *params, void *userdata);
int keyd_adopt(struct varlink_call *call, json_t *params, void *userdata);

#endif
