/* What a name looks like on disk.  Pure: no I/O.
 *
 *	up to 160 bytes  entry = base64url(SIV(name key of the directory, name))          33..246 characters
 *	longer           entry = "+" base64url(BLAKE2b-256(name key, sealed name))        44 characters
 *	                 beside it a symlink ".n" + the same 43 characters, whose target is
 *	                 base64url(SIV(...)), written first; a stale one is legal
 *
 * base64url has no padding.  Entries that begin with '.' are ours and no names. */
#ifndef COFFER_NAME_H
#define COFFER_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "common/secret.h"

#define NAME_MAX_BYTES 255
#define NAME_DIRECT_MAX 160	/* 160 + 24 bytes are 246 characters: below 255 */
#define NAME_TEXT_MAX 384	/* sealed name as text, with NUL: 279 bytes are 372 characters */

struct name_entry {
	char entry[NAME_MAX_BYTES + 1];
	char side[NAME_MAX_BYTES + 1];	/* "" unless the name is long */
	char text[NAME_TEXT_MAX];	/* target of `side` */
};

/* -ENAMETOOLONG; -EINVAL: empty, ".", "..", or with a slash. */
int name_seal(const struct key32 *key, const char *name, struct name_entry *ret);
bool name_is_long(const char *entry);
void name_side(const char *entry, char side[NAME_MAX_BYTES + 1]);
/* `text`: NULL for a short name, else the target of the side symlink.  -EBADMSG. */
int name_open(const struct key32 *key, const char *entry, const char *text, char name[NAME_MAX_BYTES + 1]);

#endif
