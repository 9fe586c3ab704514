/* Holds: on a client, on a class of his, on a file or a directory.  What a path names is known again by its identity: a
 * directory by its id, a file by the line of documents (fs/store/header.h), so both are followed through renames, a file
 * through saving too.  On keyd's loop. */
#ifndef COFFER_KEYD_HOLDS_H
#define COFFER_KEYD_HOLDS_H

#include "common/varlink.h"
#include "keyd/children.h"
#include "keyd/keyd.h"

int keyd_hold_place(struct varlink_call *call, json_t *params, void *userdata);
int keyd_hold_lift(struct varlink_call *call, json_t *params, void *userdata);

#endif
