/* Recovery keys in the hands of who opens with one: the secret's file, and a slot made of a copy of the root key.  No
 * daemon has part in it. */
#ifndef COFFER_TOOLS_RECOVERY_H
#define COFFER_TOOLS_RECOVERY_H

#include "keyd/recovery_key.h"
#include "tools/tool.h"

#define RECOVERY_ARENA_BYTES (4u << 20) /* keys of all clients for a moment; below the usual memlock limit */

/* Locked memory for keys, and no core dumps; secret_done() at the end.  An exit code, what went wrong is printed: so all
 * here. */
int recovery_begin(void);

/* The pair of a secret's file; a passphrase, if it wants one, is read from `passphrase_fd` or asked on the terminal (-1).
 * *ret: secret_free(). */
int recovery_read(const char *file, int passphrase_fd, struct recovery_pair **ret);

/* Opens `copy` (a file, or a folder of copies); *ret is from the arena. */
int recovery_open_copy(const char *copy, const struct recovery_pair *pair, struct root_key **ret, uint64_t *ret_generation);

/* Makes D/keyd/slot anew from R, after a look whether it opens the keys in D/keyd/keys; and puts it into the record. */
int recovery_make_slot(const struct statedir *d, const struct recovery_pair *pair, const struct root_key *r,
	uint64_t generation);

#endif
