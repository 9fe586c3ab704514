/* The terms of a client, as admins record them: engagements, consents, agreements. */
#ifndef COFFER_KEYD_TERMS_H
#define COFFER_KEYD_TERMS_H

#include "common/varlink.h"
#include "keyd/keyd.h"

/* A list of ids of service lines, or NULL; replies with an error when one is unknown. */
bool terms_params_services(struct keyd *k, struct varlink_call *call, const json_t *services);
/* A new client's: those, or all ("*") when NULL.  In the caller's transaction. */
int terms_engage(struct keyd *k, const char *client, const json_t *services, struct actor by);

int keyd_engagement_begin(struct varlink_call *call, json_t *params, void *userdata);
int keyd_engagement_end(struct varlink_call *call, json_t *params, void *userdata);
int keyd_engagement_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_consent_give(struct varlink_call *call, json_t *params, void *userdata);
int keyd_consent_withdraw(struct varlink_call *call, json_t *params, void *userdata);
int keyd_consent_list(struct varlink_call *call, json_t *params, void *userdata);
int keyd_agreement_set(struct varlink_call *call, json_t *params, void *userdata);
int keyd_agreement_end(struct varlink_call *call, json_t *params, void *userdata);
int keyd_agreement_list(struct varlink_call *call, json_t *params, void *userdata);

#endif
