/* Moves what stands in the journals into the ledger: every second while there are journals, when a writer kicks, and
 * whenever asked.  A record is released in its journal only after the batch that holds it is on disk.  A full disk or
 * a failing ledger loses nothing: journals and notes keep what they have, and every later run tries again.
 * Lives on the loop. */
#ifndef COFFER_BROKER_DRAIN_H
#define COFFER_BROKER_DRAIN_H

#include <systemd/sd-event.h>

#include "fs/broker/ledger.h"

struct drain;
struct drain_journal;

/* `dirfd`: the folder of the journals; stays the caller's, as the ledger does. */
int drain_new(sd_event *event, struct ledger *l, int dirfd, struct drain **ret);
void drain_free(struct drain *d);

/* Takes over what dead workers of an earlier coffer-fsd left.  Damaged ones are kept beside, and noted. */
int drain_replay(struct drain *d);

/* A new journal for a worker: in the ledger first, so that its number is never given twice.  *ret_fd is the
 * caller's.  `on_damage` (called from the loop): what the worker wrote is not what a worker writes;
 * it must not call into this module. */
int drain_add_journal(struct drain *d, const char *client_id, int64_t pid, void (*on_damage)(void *userdata),
	void *userdata, struct drain_journal **ret, int *ret_fd);
/* Its writer is dead: drained to the end, then unlinked once that is on disk. */
void drain_retire_journal(struct drain *d, struct drain_journal *j);

/* An act of coffer-fsd itself, to be written with the next batch.  Copies everything. */
int drain_note(struct drain *d, const struct ledger_act *act);

/* All that is there now, in the ledger and on disk.  -ENOSPC, -EIO, ...: some of it is not (and none is lost). */
int drain_run(struct drain *d);

int drain_kick_fd(const struct drain *d);
unsigned drain_journals(const struct drain *d);
/* Their rows in the ledger; malloc'd.  -ENOMEM */
int drain_journal_ids(const struct drain *d, int64_t **ret, size_t *ret_n);
/* Bytes that are free on the disk of the journals and the ledger; *ret_low: so few that somebody should make room. */
int drain_disk_free(const struct drain *d, int64_t *ret, bool *ret_low);
bool drain_failing(const struct drain *d);	/* the last run could not write */

#endif
