/* The public side of the signing key on disk, in D/keyd: signing.pub (base64, one line) and signing.chain (the links of
 * signing.h, a line each). */
#ifndef COFFER_SIGNING_FILE_H
#define COFFER_SIGNING_FILE_H

#include "keyd/signing.h"
#include "keyd/slot.h"

/* signing.pub must be ours, or of a key that was exchanged for ours or ours for it (an exchange that is not settled);
 * it is written if it is missing.  -EBADMSG: another's. */
int signing_file_check(int keyd_fd, const uint8_t ours[SIGNING_KEY_BYTES], struct keys_error *err);
/* Ours is in force: signing.pub is ours, and the chain has what leads to it and no more. */
int signing_file_publish(int keyd_fd, const uint8_t ours[SIGNING_KEY_BYTES], struct keys_error *err);
/* Before the exchange. */
int signing_file_add(int keyd_fd, const struct signing_link *link, struct keys_error *err);
/* The chain's text, "" if there is none; malloc'd.  NULL: it cannot be read. */
char *signing_file_chain(int keyd_fd);

#endif
