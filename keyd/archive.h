/* Months of the ledger that are over move into archives, which coffer-fsd makes and coffer-keyd signs; and they end, if the
 * policy says when (`record:`).  DESIGN section 3. */
#ifndef COFFER_KEYD_ARCHIVE_H
#define COFFER_KEYD_ARCHIVE_H

#include "keyd/keyd.h"

#define ARCHIVE_CONTEXT "coffer-ledger-archive"

/* Every second, with keys and a running fsd: what is due by the policy, a step at a time. */
void archive_tick(struct keyd *k);

/* LedgerArchive, doc/PROTOCOL.md. */
int keyd_ledger_archive(struct varlink_call *call, json_t *params, void *userdata);

#endif
