/* How old is what a file holds?  Each sector's salt carries, masked, the moment it was drawn; with the counter behind
 * it that orders all sectors ever written to the file.  The newest of them is the file's version: at a close the record
 * tells it, and fsck compares.  It costs no byte and no write.  doc/FORMAT.md has the salt. */
#ifndef COFFER_VERSION_H
#define COFFER_VERSION_H

#include <stdbool.h>

#include "fs/store/cipher.h"

struct version {
	uint64_t time;		/* ns since 1970, never twice in one worker; 0: none */
	uint64_t counter;
};

#define VERSION_TEXT 32		/* with NUL: fits the detail of a record */
#define VERSION_BARE "v-"	/* the content changed, and no sector tells of it: a hole, a cut to nothing */

/* A fresh salt; *ret_time is what it carries. */
void version_salt(const struct key32 *content, uint8_t salt[CIPHER_SALT_BYTES], uint64_t *ret_time);
/* What the salt carries, if it is one of this file. */
uint64_t version_time(const struct key32 *content, const uint8_t salt[CIPHER_SALT_BYTES]);
int version_compare(const struct version *a, const struct version *b);	/* <0: a is older */

void version_format(const struct version *v, char text[VERSION_TEXT]);
int version_parse(const char *text, struct version *ret);	/* VERSION_BARE: zeros.  -EINVAL */

#endif
