/* The proof of a destruction: a JSON object, its canonical text (sorted keys, compact) signed with the
 * installation's key under the context CERTIFICATE_CONTEXT.  Pure but for certificate_store(). */
#ifndef COFFER_KEYD_CERTIFICATE_H
#define COFFER_KEYD_CERTIFICATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "keyd/facts.h"
#include "keyd/keyring.h"
#include "policy/policy.h"

#define CERTIFICATE_CONTEXT "coffer-certificate"

struct certificate_facts {
	const struct fact_client *client;
	const struct fact_destruction *destruction;
	int64_t destroyed_at;
	const struct policy *policy;	/* in force then: its name, version and hash, controller and contact stand on it */
	const json_t *slots;		/* slots_certificate() */
	const json_t *notice;		/* of the destruction; or NULL */
	const json_t *transfer;		/* facts_transfer_row(), where a successor has it; or NULL */
	const json_t *recovery;		/* rows of recovery_json(); NULL: not known */
	bool embedded;			/* one user has all roles: said on it */
	const struct fact_head *head;	/* or NULL: none signed yet */
};

int certificate_make(const struct certificate_facts *f, json_t **ret);
/* *ret_text (malloc'd) is what is signed; the signature in hex. */
int certificate_sign(const struct keyring *k, const json_t *certificate, char **ret_text,
	char ret_signature[2 * SIGNATURE_BYTES + 1]);
/* -EBADMSG: not signed by this key, or altered since. */
int certificate_check(const uint8_t public_key[PUBLIC_KEY_BYTES], const json_t *certificate, const char *signature);

/* {certificate, signature, public_key} as D/keyd/certificates/<client>.json, synced; an erasure's is
 * <client>+erasure-<number> (no client has a + in his name). */
int certificate_store(int keyd_fd, const char *client, const json_t *certificate, const char *signature,
	const uint8_t public_key[PUBLIC_KEY_BYTES]);
/* The same three as an object: what Certificate answers. */
json_t *certificate_envelope(const json_t *certificate, const char *signature,
	const uint8_t public_key[PUBLIC_KEY_BYTES]);

#endif
