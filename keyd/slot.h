/* One record of a slot: the root key R sealed under a protector (a key file's bytes, or what Argon2id makes
 * of a passphrase).  Pure: no I/O; slot_file.h keeps two of them in a file. */
#ifndef COFFER_SLOT_H
#define COFFER_SLOT_H

#include <stddef.h>
#include <stdint.h>

#include "common/secret.h"

struct root_key { /* R: whoever has it has every client that is not destroyed */
	struct key32 key;
};
void root_key_wipe(struct root_key *r);

/* What is wrong with which file, and what to do: for the log and for people.  Set whenever a call that takes
 * one fails; may be NULL. */
struct keys_error {
	char text[512];
};
void keys_error_set(struct keys_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

enum slot_protection { SLOT_BY_KEY_FILE = 1, SLOT_BY_PASSPHRASE = 2 };

struct slot_kdf { /* Argon2id; zeros with a key file */
	uint64_t passes;
	uint64_t memory; /* bytes */
};
#define SLOT_KDF_DEFAULT ((struct slot_kdf){.passes = 3, .memory = 256u << 20}) /* libsodium's MODERATE */
#define SLOT_KDF_PASSES_MAX 64
#define SLOT_KDF_MEMORY_MIN 8192u
#define SLOT_KDF_MEMORY_MAX (4ull << 30) /* a forged record must not make us allocate what it likes */

#define SLOT_SALT_BYTES 16
#define SLOT_RECORD_BYTES 4096 /* of its own sector: a torn write hurts one record */

struct slot_head {
	enum slot_protection protection;
	uint64_t generation; /* of R: the ring of that number opens under it */
	uint64_t sequence;   /* of writes under this generation: a new protector */
	struct slot_kdf kdf;
	uint8_t salt[SLOT_SALT_BYTES];
};

/* The protector that `passphrase` makes.  -ENOMEM: not the memory that kdf asks for; -EINVAL: out of bounds.
 * */
int slot_protector_from_passphrase(const void *passphrase, size_t n, const struct slot_kdf *kdf,
	const uint8_t salt[SLOT_SALT_BYTES], struct key32 *ret);

void slot_record_seal(const struct slot_head *head, const struct key32 *protector, const struct root_key *r,
	uint8_t out[SLOT_RECORD_BYTES]);

/* Reads what is not secret.  -ENODATA: no record here (never written, or overwritten); -EBADMSG: a record,
 * but torn or altered; -EPROTONOSUPPORT: of a version this program does not know. */
int slot_record_parse(const uint8_t buf[SLOT_RECORD_BYTES], struct slot_head *ret);

/* -EKEYREJECTED: another protector (wrong passphrase, foreign key file); -EBADMSG; as slot_record_parse. */
int slot_record_open(
	const uint8_t buf[SLOT_RECORD_BYTES], const struct key32 *protector, struct root_key *ret);

#endif
