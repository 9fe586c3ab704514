/* A person's requests about a client's data: what there is about him, that a copy was made for him, his erasure (which is one
 * of erase.h).  Labels are personal data: in the book they stand sealed, as paths do. */
#ifndef COFFER_KEYD_SUBJECTS_H
#define COFFER_KEYD_SUBJECTS_H

#include "common/varlink.h"
#include "keyd/facts.h"

struct keyd;

/* False, and answered: it is no label. */
bool params_subject(struct varlink_call *call, const char *subject);
/* For the details of an act: {client_id, month, sealed}, which LedgerNames opens; NULL: sealed, destroyed, no memory. */
json_t *subjects_seal(struct keyd *k, const struct fact_client *c, const char *subject);
/* By the key of the month that was then. */
json_t *subjects_seal_at(struct keyd *k, const struct fact_client *c, const char *subject, int64_t at);

int keyd_subject_find(struct varlink_call *call, json_t *params, void *userdata);
int keyd_subject_labels(struct varlink_call *call, json_t *params, void *userdata);
int keyd_subject_rows(struct varlink_call *call, json_t *params, void *userdata);
int keyd_subject_export(struct varlink_call *call, json_t *params, void *userdata);

void subjects_tick(struct keyd *k);
void subjects_forget(struct keyd *k);	/* what was found, for whoever has not fetched it */

#endif
