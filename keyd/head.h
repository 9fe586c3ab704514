/* The heads of the ledger's chain that keyd has signed.  A head is signed only when the ledger leads from the last
 * one to it: a ledger that was cut or exchanged shows here. */
#ifndef COFFER_KEYD_HEAD_H
#define COFFER_KEYD_HEAD_H

#include "keyd/facts.h"

struct keyd;

#define HEAD_CONTEXT "coffer-head"
#define HEAD_MESSAGE_ID "b3c1f0a4d2a94b0e8f6a3c5e7d9b1c20" /* of the entries in the journal (doc/format-ledger.md) */

/* Asks fsd for the head, signs it, remembers it, tells fsd.  ret (or NULL): the newest signed head.
 * -ESTALE: the ledger goes back or differs from what was signed; status says so.  -ENOKEY: sealed. */
int head_sign(struct keyd *k, struct fact_head *ret);

/* As certificates and reports print it: {batch, hash, signature, signed_at (text), anchors [text]: where it was sent when it
 * was signed}. */
json_t *head_json(const struct fact_head *h);

#endif
