/* Recovery keys: X25519 pairs that are made off the host, and copies of R sealed to them.  Pure: no I/O; recovery.h
 * keeps the copies.  A pair is made by `coffer recovery keygen`; the host knows its public half alone. */
#ifndef COFFER_RECOVERY_KEY_H
#define COFFER_RECOVERY_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keyd/slot.h"

#define RECOVERY_KEY_BYTES 32
#define RECOVERY_INSTALLATION_BYTES 16

struct recovery_public {
	uint8_t b[RECOVERY_KEY_BYTES];
};

/* One line that a person can read out: a word, the key and a checksum.  Returns buf. */
#define RECOVERY_LINE_MAX 80
char *recovery_public_format(const struct recovery_public *p, char buf[RECOVERY_LINE_MAX]);
/* Ends at a NUL or newline.  -EINVAL: this is no such line.  -EBADMSG: mistyped, the checksum says. */
int recovery_public_parse(const char *line, struct recovery_public *ret);

struct recovery_pair { /* in the arena */
	struct recovery_public public;
	struct key32 secret;
};
int recovery_pair_new(struct recovery_pair **ret); /* -ENOMEM; secret_free() frees */

/* The secret's file, text; under the passphrase if it is not NULL.  *ret is from the arena, not NUL-terminated.
 * Errors of slot_protector_from_passphrase. */
int recovery_file_format(const struct recovery_pair *pair, const void *passphrase, size_t passphrase_n,
	const struct slot_kdf *kdf, char **ret, size_t *ret_n);
/* -ENOKEY: it wants a passphrase.  -EKEYREJECTED: not this one.  -EBADMSG: no such file, or altered. */
#define RECOVERY_FILE_MAX 4096
int recovery_file_parse(const char *text, size_t n, const void *passphrase, size_t passphrase_n,
	struct recovery_pair **ret);

/* ---- a copy of R ---- */
#define RECOVERY_COPY_BYTES 208
struct recovery_copy {
	uint64_t generation; /* of R */
	uint8_t installation[RECOVERY_INSTALLATION_BYTES];
	struct recovery_public to;
};
/* -EINVAL: a key that is no point of the curve. */
int recovery_copy_seal(
	const struct recovery_copy *head, const struct root_key *r, uint8_t out[RECOVERY_COPY_BYTES]);
/* What is in clear.  -ENODATA: no copy.  -EBADMSG: torn or altered.  -EPROTONOSUPPORT. */
int recovery_copy_parse(const uint8_t *buf, size_t n, struct recovery_copy *ret);
/* -EKEYREJECTED: sealed to another key; the others as recovery_copy_parse. */
int recovery_copy_open(
	const uint8_t *buf, size_t n, const struct recovery_pair *pair, struct root_key *ret);

#endif
