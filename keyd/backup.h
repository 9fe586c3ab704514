/* What keyd has to do with backups: it signs their manifests, and writes down that they were made. */
#ifndef COFFER_KEYD_BACKUP_H
#define COFFER_KEYD_BACKUP_H

#include "common/varlink.h"

#define BACKUP_CONTEXT "coffer-backup"

int keyd_backup_sign(struct varlink_call *call, json_t *params, void *userdata);

#endif
