/* Checks a ledger file, read-only, with nothing but its chain and, if given, the public key that signed its heads.
 * For coffer-fsd and for whoever has a copy: library coffer-ledger. */
#ifndef COFFER_BROKER_LEDGER_VERIFY_H
#define COFFER_BROKER_LEDGER_VERIFY_H

#include <stdatomic.h>
#include <stddef.h>

#include "fs/broker/archive.h"
#include "fs/broker/chain.h"

struct ledger_head {
	int64_t batch;
	struct chain_hash hash;
};

/* Who may have signed heads: the key of now and those before it (keyd/signing.h); each signed nothing after `until`. */
struct ledger_key {
	uint8_t b[CHAIN_KEY_BYTES];
	int64_t until;	/* INT64_MAX: it was not exchanged */
};
#define LEDGER_KEYS_MAX 64
struct ledger_keys {
	size_t n;
	struct ledger_key keys[LEDGER_KEYS_MAX];
};

/* A signed head that was kept elsewhere. */
struct ledger_anchor {
	struct ledger_head head;
	uint8_t signature[CHAIN_SIGNATURE_BYTES];
	int64_t time;
};

struct ledger_verdict {
	int64_t batches, records, acts;
	struct ledger_head head;
	int64_t signed_until;	/* the newest batch whose head is signed and fits; 0: none */
	int64_t signed_at;
	bool time_unsigned;	/* that head is of version 1: nobody signed its time */
	int64_t anchored_until, anchored_at; /* the same of the anchors */
	int64_t anchors_ignored;	     /* their signature is not of our keys: anybody may have written them */
	int64_t archives;	/* that were read */
	int64_t destroyed_to;	/* records 1 to this one are gone, by retention, as signed statements say; 0: none */
	int64_t destroyed_at;	/* when the last of them went, seconds */
	int64_t first_bad;	/* 0: all is well */
	char reason[200];
};

struct ledger_verify_options {
	const struct ledger_keys *keys;	  /* NULL: signatures are not checked, only compared with the chain */
	const struct ledger_head *expect; /* a head that somebody remembered, to which the ledger must lead; or NULL */
	const struct ledger_anchor *anchors; /* need keys */
	size_t anchors_n;
	const atomic_bool *stop;	  /* another thread sets it: -EINTR; or NULL */
	void (*progress)(void *userdata, int64_t records, int64_t of); /* from the calling thread, often; or NULL */
	void *userdata;
};

/* With the archives that the ledger names, which lie in a folder `archive` beside it.
 * 0: checked, see *ret.  Uses a second thread.  -ENOENT, -EACCES, -EUCLEAN (no ledger), ... */
int ledger_verify(const char *path, const struct ledger_verify_options *o, struct ledger_verdict *ret);
/* One archive: its frames, its rows against its chain, and what searches rely on; not its signature.  -EUCLEAN: not `a`, or
 * damaged.  -EINTR: stopped. */
int ledger_verify_archive(const char *path, const struct archive *a, const atomic_bool *stop);

#endif
