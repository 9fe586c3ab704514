/* Where a slot's two records and its key lie.  One table of functions a kind; all are stateless and open what they need
 * anew: a stick may be unplugged between two calls, and nothing of ours shall keep it from being unmounted. */
#ifndef COFFER_SLOT_MEDIUM_H
#define COFFER_SLOT_MEDIUM_H

#include "keyd/slot_list.h"

struct slot_medium {
	const struct slot_medium_ops *ops;
	int keyd_fd;			/* borrowed */
	char where[SLOT_WHERE_BYTES];
	char label[SLOT_WHERE_BYTES + 24], key_label[SLOT_WHERE_BYTES + 24]; /* for people */
};

struct slot_medium_ops {
	const char *assurance;	/* what its forgetting is worth, one sentence */
	const char *half[2];	/* for people */
	/* Makes room for two records, none in it, and not over a slot: -EEXIST. */
	int (*prepare)(const struct slot_medium *m);
	/* -ENOENT: there is no slot; other errors: it cannot be reached or read. */
	int (*read)(const struct slot_medium *m, unsigned half, uint8_t buf[SLOT_RECORD_BYTES]);
	/* In place, durable, read back. */
	int (*write)(const struct slot_medium *m, unsigned half, const uint8_t buf[SLOT_RECORD_BYTES]);
	/* Overwritten and removed, both halves and the key.  0 also when nothing is there but could be. */
	int (*erase)(const struct slot_medium *m);
	/* The key beside the records.  -ENOKEY: none; -EPERM: others can read it; -EBADMSG. */
	int (*key_read)(const struct slot_medium *m, struct key32 *ret, struct keys_error *err);
	int (*key_write)(const struct slot_medium *m, const struct key32 *key);
	int (*key_destroy)(const struct slot_medium *m); /* -ENOENT: none */
	bool (*key_exists)(const struct slot_medium *m);
	/* Two slots with the same text are lost together.  Empty: not known. */
	void (*device)(const struct slot_medium *m, char ret[64]);
};

/* In a build without tpm2-tss all that a TPM is asked for fails with -EOPNOTSUPP. */
void slot_medium_init(struct slot_medium *m, int keyd_fd, enum slot_kind kind, const char *where);

/* The kinds; by slot_medium_init(). */
void slot_file_init(struct slot_medium *m, int keyd_fd, const char *where);
/* -EINVAL: `where` is no place for it (text says why). */
int slot_file_check(const char *where, struct keys_error *err);
int slot_tpm2_check(const char *where, struct keys_error *err);

#endif
