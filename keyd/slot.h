/* One record of a slot: the root key R, sealed to the slot's own key pair; its secret half, sealed under a protector (a
 * key file's bytes, or what Argon2id makes of a passphrase).  So a slot whose protector is not at hand can be given a
 * new R all the same, and R is never under a protector itself.  Pure: no I/O; slot_pair.h keeps two of them. */
#ifndef COFFER_SLOT_H
#define COFFER_SLOT_H

#include <stdbool.h>
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

/* What a slot's secret half is sealed by.  All but the passphrase open without anybody: after a restart, too. */
enum slot_protection {
	SLOT_BY_KEY_FILE = 1,	/* 32 random bytes beside the slot */
	SLOT_BY_PASSPHRASE,
	SLOT_BY_CREDENTIAL,	/* what a file of the protector's choice says, as a passphrase */
	SLOT_BY_SYSTEMD,	/* the same, below $CREDENTIALS_DIRECTORY */
	SLOT_BY_TPM,		/* 32 random bytes in a TPM */
};
#define SLOT_PROTECTION_LAST SLOT_BY_TPM

struct slot_kdf { /* Argon2id; zeros where there is no text to work on */
	uint64_t passes;
	uint64_t memory; /* bytes */
};
#define SLOT_KDF_DEFAULT ((struct slot_kdf){.passes = 3, .memory = 256u << 20}) /* libsodium's MODERATE */
#define SLOT_KDF_PASSES_MAX 64
#define SLOT_KDF_MEMORY_MIN 8192u
#define SLOT_KDF_MEMORY_MAX (4ull << 30) /* a forged record must not make us allocate what it likes */

#define SLOT_SALT_BYTES 16
#define SLOT_ID_BYTES 32
#define SLOT_LOCATOR_BYTES 176
#define SLOT_RECORD_BYTES 4096 /* of its own sector: a torn write hurts one record */
#define SLOT_USED_BYTES 456    /* zeros from there to the checksum of SLOT_SUM_BYTES */
#define SLOT_SUM_BYTES 32
#define SLOT_FACE_BYTES 360 /* of a record, from its beginning: all but R, so that R can be put in later */

struct slot_head {
	enum slot_protection protection;
	struct slot_kdf kdf;
	uint8_t salt[SLOT_SALT_BYTES];
	uint8_t id[SLOT_ID_BYTES];	  /* the public half: what R is sealed to */
	char locator[SLOT_LOCATOR_BYTES]; /* where the protector is to be found; "" where that is clear */
};

struct slot_record { /* nothing secret in it */
	struct slot_head head;
	uint64_t generation; /* of R: the ring of that number opens under it */
	uint8_t sealed_key[104], sealed_root[88];
};

/* Whether the protection is a text that Argon2id works on. */
bool slot_protection_is_text(enum slot_protection p);

/* The protector that `passphrase` makes.  -ENOMEM: not the memory that kdf asks for; -EINVAL: out of bounds.
 * */
int slot_protector_from_passphrase(const void *passphrase, size_t n, const struct slot_kdf *kdf,
	const uint8_t salt[SLOT_SALT_BYTES], struct key32 *ret);

/* A fresh key pair: sets the record's head (but the id, which it makes) and the sealed secret half. */
void slot_record_new(const struct slot_head *head, const struct key32 *protector, struct slot_record *ret);
/* Puts R of a generation into the record and encodes it. */
int slot_record_write(struct slot_record *rec, uint64_t generation, const struct root_key *r, uint8_t out[SLOT_RECORD_BYTES]);

/* What of a record does not change with R, and back: generation 0, no R in it.  -EBADMSG: nothing that the first one wrote. */
void slot_record_face(const struct slot_record *rec, uint8_t out[SLOT_FACE_BYTES]);
int slot_record_from_face(const uint8_t face[SLOT_FACE_BYTES], struct slot_record *ret);

/* Reads what is not secret.  -ENODATA: no record here (never written, or overwritten); -EBADMSG: a record,
 * but torn or altered; -EPROTONOSUPPORT: of a version this program does not know. */
int slot_record_parse(const uint8_t buf[SLOT_RECORD_BYTES], struct slot_record *ret);

/* The slot's secret half.  -EKEYREJECTED: another protector (wrong passphrase, foreign key file); -EBADMSG: altered. */
int slot_record_unlock(const struct slot_record *rec, const struct key32 *protector, struct key32 *ret_secret);
/* -EBADMSG: not sealed to this slot, or altered. */
int slot_record_open(const struct slot_record *rec, const struct key32 *secret, struct root_key *ret);

#endif
