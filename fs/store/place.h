/* Where a file or directory belongs: MACs under the place key of its parent, so that what was moved or swapped
 * on the backing store is noticed.  Pure: no I/O.
 *
 * File: extended attribute "user.coffer.place" = version 1 (1 byte), MAC of the place now (16), MAC of the
 * place before (16, equal when there was none).  Either may fit: a rename writes them before it moves.
 * Directory: symlink ".id" (and ".id+" during a rename) inside it; target = base64url(leaf index 8, random 8,
 * MAC 16) = 43 characters.  The root's MAC is under its own place key with an empty entry. */
#ifndef COFFER_PLACE_H
#define COFFER_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "common/secret.h"

#define PLACE_XATTR "user.coffer.place"
#define PLACE_BYTES 33
#define PLACE_MAC_BYTES 16
#define PLACE_DIR_TEXT 44	/* with NUL */

struct place_mac {
	uint8_t b[PLACE_MAC_BYTES];
};

struct place {
	struct place_mac now, before;
};

#define DIR_ID_BYTES 16
struct dir_id {
	struct leaf_index leaf;
	uint8_t random[8];
};

void place_of_file(const struct key32 *parent, const struct file_id *id, const char *entry, struct place_mac *ret);
void place_of_dir(const struct key32 *parent, const struct dir_id *id, const char *entry, struct place_mac *ret);
bool place_fits(const struct place *p, const struct place_mac *mac);

void place_encode(const struct place *p, uint8_t out[PLACE_BYTES]);
int place_decode(const uint8_t *in, size_t n, struct place *ret);	/* -EBADMSG */

void place_dir_bytes(const struct dir_id *id, uint8_t out[DIR_ID_BYTES]);
void place_dir_encode(const struct dir_id *id, const struct place_mac *mac, char out[PLACE_DIR_TEXT]);
int place_dir_decode(const char *in, size_t n, struct dir_id *ret, struct place_mac *ret_mac);	/* -EBADMSG */

#endif
