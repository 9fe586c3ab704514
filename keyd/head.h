/* The heads of the ledger's chain that keyd has signed.  A head is signed only when the ledger leads from the last
 * one to it: a ledger that was cut or exchanged shows here. */
#ifndef COFFER_KEYD_HEAD_H
#define COFFER_KEYD_HEAD_H

#include "keyd/facts.h"

struct keyd;

#define HEAD_CONTEXT "coffer-head"

/* Asks fsd for the head, signs it, remembers it, tells fsd.  ret (or NULL): the newest signed head.
 * -ESTALE: the ledger goes back or differs from what was signed; status says so.  -ENOKEY: sealed. */
int head_sign(struct keyd *k, struct fact_head *ret);

#endif
