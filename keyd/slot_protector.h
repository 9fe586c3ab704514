/* What unlocks a slot: finds it, says what is wrong with it. */
#ifndef COFFER_SLOT_PROTECTOR_H
#define COFFER_SLOT_PROTECTOR_H

#include "keyd/slot_medium.h"

/* "key file", "passphrase", "credential", "systemd", "tpm2". */
const char *slot_protection_name(enum slot_protection p);
int slot_protection_parse(const char *text, enum slot_protection *ret); /* -EINVAL */

/* `passphrase` NULL: none was given.  -ENOKEY: it wants one, or the key file or credential is missing.  -EPERM: others can
 * read it.  -EBADMSG: damaged.  -ENOMEM: not the memory that Argon2id wants. */
int slot_protector_find(const struct slot_medium *m, const struct slot_head *head, const void *passphrase, size_t n,
	struct key32 *ret, struct keys_error *err);
/* The protector for a slot that is being sealed: as slot_protector_find(), and what does not exist yet is made. */
int slot_protector_make(const struct slot_medium *m, const struct slot_head *head, const void *passphrase, size_t n,
	struct key32 *ret, struct keys_error *err);
/* What was made for a slot that does not need it any more: a key in a TPM. */
void slot_protector_forget(const struct slot_head *head);
/* Why it does not unlock (r: of slot_record_unlock or _open).  Returns r. */
int slot_protector_say(const struct slot_medium *m, const struct slot_head *head, int r, struct keys_error *err);

#endif
