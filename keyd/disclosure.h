/* Methods Incident (O21) and Disclose (O11): disclosure.c. */
#ifndef COFFER_KEYD_DISCLOSURE_H
#define COFFER_KEYD_DISCLOSURE_H

#include "common/varlink.h"

int keyd_incident(struct varlink_call *call, json_t *params, void *userdata);
int keyd_disclose(struct varlink_call *call, json_t *params, void *userdata);

#endif
