/* `coffer shred CLIENT PATH`: the keys of one file or tree are destroyed, because somebody asked for it.  The client's
 * sessions end; the leaves of all that is there are found, whoever shares one of them is moved, and only then they are
 * punctured, together with old leaves that wait for a destruction.  On keyd's loop. */
#ifndef COFFER_KEYD_ERASE_H
#define COFFER_KEYD_ERASE_H

#include "common/varlink.h"
#include "keyd/keyd.h"

int keyd_erase(struct varlink_call *call, json_t *params, void *userdata);
/* Certifies what a crash left uncertified. */
void erase_tick(struct keyd *k);

#endif
