/* JSON objects that an installation signs: their canonical text (sorted keys, compact; doc/format-keys.md) under a context,
 * so that what is signed as one thing is never taken for another.  Pure. */
#ifndef COFFER_KEYD_SIGNED_JSON_H
#define COFFER_KEYD_SIGNED_JSON_H

#include <jansson.h>

#include "keyd/keyring.h"

/* *ret_text (malloc'd; or NULL: not wanted) is what is signed; the signature in hex. */
int signed_json_sign(const struct keyring *k, const char *context, const json_t *o, char **ret_text,
	char ret_signature[2 * SIGNATURE_BYTES + 1]);
/* -EBADMSG: not signed by this key in this context, or altered since. */
int signed_json_check(const uint8_t public_key[PUBLIC_KEY_BYTES], const char *context, const json_t *o, const char *signature);

#endif
