/* Recovery keys (keyd/recovery.h) as people meet them: the methods of custodians, what status and certificates say, and
 * the look for media that are back.  On keyd's loop. */
#ifndef COFFER_KEYD_HOLDERS_H
#define COFFER_KEYD_HOLDERS_H

#include <jansson.h>

#include "common/varlink.h"
#include "keyd/keyd.h"

int keyd_recovery_add(struct varlink_call *call, json_t *params, void *userdata);
int keyd_recovery_remove(struct varlink_call *call, json_t *params, void *userdata);
int keyd_recovery_confirm(struct varlink_call *call, json_t *params, void *userdata);
int keyd_recovery_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_recovery_check(struct varlink_call *call, json_t *params, void *userdata);

/* Rows of recovery_json(); NULL: sealed, or the set cannot be read.  Adds to `warnings` (may be NULL) what to mind. */
json_t *holders_json(struct keyd *k, json_t *warnings);
/* Once a minute: copies that could not be exchanged are tried again. */
void holders_tick(struct keyd *k);

#endif
