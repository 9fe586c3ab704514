/* The installation's public key, which checks certificates, heads of the record and backups; and the keys before and
 * after it that it vouches for (keyd/signing.h). */
#ifndef COFFER_TOOLS_PUBLIC_KEY_H
#define COFFER_TOOLS_PUBLIC_KEY_H

#include "keyd/keyring.h"
#include "keyd/signing.h"
#include "tools/tool.h"

struct public_key {
	uint8_t b[PUBLIC_KEY_BYTES];
	struct signing_keys all; /* itself first */
	char *links;             /* lines, or NULL */
};
void public_key_done(struct public_key *k);

/* One line: base64, as in signing.pub, or hex, as in certificates.  Of lines behind it the links count; `text` may have
 * them, else they come in `links` (may be NULL). */
bool public_key_parse(const char *text, const char *links, struct public_key *ret);

/* Whether one of the keys passes `check` (0) that was not yet exchanged for another at the time `when` tells (text; NULL
 * or no time: any). */
bool public_key_any(const struct public_key *k, const char *when, int (*check)(const uint8_t *key, const void *arg),
	const void *arg);

/* For a ledger. */
struct ledger_keys;
void public_key_ledger(const struct public_key *k, struct ledger_keys *ret);
json_t *public_key_rows(const struct public_key *k); /* LogVerify's public_keys */

/* From a file that has such lines.  An exit code; what is wrong is printed. */
int public_key_read(const char *path, struct public_key *ret);
/* This installation's: from the file beside the keys, which only the owner may read, also while sealed; else
 * from keyd.  An exit code. */
int public_key_find(struct tool *t, struct public_key *ret);
/* `path` if it is not NULL, else this installation's. */
int public_key_get(struct tool *t, const char *path, struct public_key *ret);

#endif
