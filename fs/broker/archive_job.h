/* Moving months into archives beside the loop: a thread makes the file, the loop takes it when coffer-keyd has signed it, and
 * removes what lies in the ledger twice, a little at a time.  One month at a time. */
#ifndef COFFER_BROKER_ARCHIVE_JOB_H
#define COFFER_BROKER_ARCHIVE_JOB_H

#include "fs/broker/broker.h"

/* The state lives in broker.archive; made at the start, ended before the loop goes. */
int archive_job_new(struct broker *b);
void archive_job_free(struct broker *b);

/* ROLE_KEYD: doc/PROTOCOL.md */
int keyd_archive(struct varlink_call *call, json_t *params, void *userdata);
int keyd_archive_signed(struct varlink_call *call, json_t *params, void *userdata);
int keyd_archive_end(struct varlink_call *call, json_t *params, void *userdata);
int keyd_archive_destroy(struct varlink_call *call, json_t *params, void *userdata);

#endif
