/* The installation's public key, which checks certificates, heads of the record and backups. */
#ifndef COFFER_TOOLS_PUBLIC_KEY_H
#define COFFER_TOOLS_PUBLIC_KEY_H

#include "keyd/keyring.h"
#include "tools/tool.h"

struct public_key {
	uint8_t b[PUBLIC_KEY_BYTES];
};

/* One line: base64, as in signing.pub, or hex, as in certificates. */
bool public_key_parse(const char *line, struct public_key *ret);
/* From a file that has such a line.  An exit code; what is wrong is printed. */
int public_key_read(const char *path, struct public_key *ret);
/* This installation's: from the file beside the keys, which only the owner may read, also while sealed; else
 * from keyd.  An exit code. */
int public_key_find(struct tool *t, struct public_key *ret);
/* `path` if it is not NULL, else this installation's. */
int public_key_get(struct tool *t, const char *path, struct public_key *ret);

#endif
