/* Whom R is sealed to, so that losing every slot is not losing everything; and the copies.  Below D/keyd:
 *
 *	keys/holders.<generation>       who they are, sealed under R: nobody adds himself to the file
 *	recovery/<name>.<generation>    a copy of R for each of them
 *	recovery/CACHEDIR.TAG           so that backup tools leave it out
 * and one at the path that was named for each holder, on another medium; there PATH.new and PATH.old (and .tmp of them)
 * while R is being exchanged.
 *
 * A copy opens what its R opens, so an old one must not outlive a destruction.  keyd/shred.h drives it: the new copies
 * are durable before the slot has the new R; the old ones are overwritten and removed when the old R is forgotten.
 * A holder's path that cannot be reached stops nothing: its copy "may remain" and is said so, until it was replaced
 * or a custodian confirmed that it is gone.
 *
 * Not thread-safe: lives on keyd's loop. */
#ifndef COFFER_RECOVERY_H
#define COFFER_RECOVERY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/keyring.h"
#include "keyd/recovery_key.h"

#define RECOVERY_HOLDERS_MAX 16
#define RECOVERY_NAME_MAX 33 /* a-z, 0-9, dash: it stands in file names */
#define RECOVERY_PATH_MAX 256
#define RECOVERY_BY_MAX 64

struct recovery_holder {
	char name[RECOVERY_NAME_MAX];
	struct recovery_public public;
	char path[RECOVERY_PATH_MAX]; /* absolute: where the copy is kept */
	char by[RECOVERY_BY_MAX];     /* who added it */
	int64_t added_at, removed_at; /* removed: gets no more copies, but one may be there */
	uint64_t at_path;             /* generation of the copy at `path`, as far as we know; 0: none */
	uint64_t astray;              /* of the newest copy that was not there any more when we came to replace it */
};

struct recovery_set {
	uint64_t generation;
	uint8_t installation[RECOVERY_INSTALLATION_BYTES];
	size_t count;
	struct recovery_holder holders[RECOVERY_HOLDERS_MAX];
};

/* The set of this ring; without one an empty set.  -EBADMSG, -EKEYREJECTED: altered (text says which file). */
int recovery_load(const struct keyring *k, struct recovery_set *ret, struct keys_error *err);

/* Seals R to another holder: at once in D, and at his path.  -EEXIST: name or key is there.  -ENOSPC: there are
 * RECOVERY_HOLDERS_MAX.  -EINVAL: name or path will not do.  Errors of his path: nothing was changed. */
int recovery_add(const struct keyring *k, const struct recovery_holder *h, struct keys_error *err);
/* His copies go; where one cannot be reached he stays in the list as removed.  -ENOENT: no such holder. */
int recovery_remove(const struct keyring *k, const char *name, int64_t now, struct keys_error *err);
/* Somebody vouches that what may remain with this holder is destroyed.  -ENOENT: nothing may. */
int recovery_confirm(const struct keyring *k, const char *name, struct keys_error *err);

/* Before the slot takes the R of `next`: copies of it, and its set.  Nothing of `now` is touched.  Fails when D does
 * not take them; a holder's path does not matter here. */
int recovery_prepare(const struct keyring *now, const struct keyring *next, struct keys_error *err);
/* Copies of another R than this ring's are overwritten and removed, missing ones made: after a rotation, after one
 * that was undone, at start, and again whenever a path may be back.  Idempotent.  Fails when D does not take it.
 * *ret_changed (or NULL): a holder's copy was replaced, or turned out to be lost. */
int recovery_settle(const struct keyring *k, bool *ret_changed, struct keys_error *err);

/* A copy may be there that no longer should: of an older R, or of a holder who was removed. */
bool recovery_may_remain(const struct recovery_set *s, const struct recovery_holder *h);
/* Something is to be done as soon as the path can be reached. */
bool recovery_is_behind(const struct recovery_set *s, const struct recovery_holder *h);
/* [{name, public_key, path, added_by, added_at, generation (at his path; 0: none), current (bool), removed_at?,
 * may_remain? (text)}] */
json_t *recovery_json(const struct recovery_set *s);

/* Reads a copy from a file, or for this key from a folder keyd/recovery (the newest there).  -ENOENT: there is none. */
int recovery_copy_find(const char *path, const struct recovery_public *to, uint8_t ret[RECOVERY_COPY_BYTES],
	struct keys_error *err);

#endif
