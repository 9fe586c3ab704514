/* What the sources of the recovery keys share: where their files are, and the set of their holders. */
#ifndef COFFER_KEYD_RECOVERY_IMPL_H
#define COFFER_KEYD_RECOVERY_IMPL_H

#include "keyd/recovery.h"

#define RECOVERY_KEYS "keys"   /* the folder with the sets ... */
#define RECOVERY_SET "holders" /* ... and what they are called, before their generation */
#define RECOVERY_ENTRY_MAX (RECOVERY_NAME_MAX + 32)

/* Says that `what` failed with r; returns r. */
int recovery_say(int r, const char *what, struct keys_error *err);
/* A folder below D/keyd. */
int recovery_open_below(const struct keyring *k, const char *name);
/* "NAME.GENERATION" */
char *recovery_file_name(const char *name, uint64_t generation, char buf[RECOVERY_ENTRY_MAX]);
/* Under the root key of k, into its folder; whole on disk when this returns 0. */
int recovery_set_write(const struct keyring *k, const struct recovery_set *s);

#endif
