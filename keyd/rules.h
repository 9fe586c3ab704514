/* The rules that hold: which version of the policy at which time, and with which agreement of the client.  Everything that
 * was ever loaded stays until the end of the process, so that pointers to policies, purposes and classes stay good. */
#ifndef COFFER_KEYD_RULES_H
#define COFFER_KEYD_RULES_H

#include "keyd/facts.h"
#include "policy/agreement.h"

struct keyd;
struct rules;

/* At start, with the facts open.  `named`: the policy that keyd was told to read, or NULL: the one recorded last, at first
 * the built-in one.  A policy that was not recorded last is recorded as a new version.  Sets k->policy.  -EINVAL, logged: rules_numbers_kept(). */
int rules_start(struct keyd *k, struct policy *named, const char *named_text);
void rules_done(struct keyd *k);

/* For a client (row 0: of no client) as known and at a time: see facts.h; FACTS_LATEST: the version in force now.  A client whose agreement cannot be read has no
 * rules: -EBADMSG, logged. */
int rules_for(struct keyd *k, int64_t client, int64_t known_at, int64_t at, const struct policy **ret);
/* Now; the policy without agreement when the facts cannot be asked: only for what must not fail, such as a list. */
const struct policy *rules_now(struct keyd *k, int64_t client);

int64_t rules_row(const struct keyd *k);	/* of the version in force, in the facts */

/* After a change, and every second: the version in force.  True: it changed, and decisions with it. */
bool rules_refresh(struct keyd *k);
/* Sessions end that the rules of today do not allow any more: a new version, the beginning and the end of an agreement. */
void rules_tick(struct keyd *k);

/* Every version that was ever recorded and can be read, oldest first, until fn returns other than 0, which is the result. */
int rules_each_version(struct keyd *k, int (*fn)(const struct policy *p, void *arg), void *arg);

/* Keys are derived from the numbers of classes: one that ever meant another class would open its files by the wrong rules.
 * -EINVAL: p gives one, that any recorded version had, to another class, or a class another number; the text says which. */
#define RULES_NUMBERS_REMEDY "a number belongs to its class for ever: give the new class another"
int rules_numbers_kept(struct keyd *k, const struct policy *p, char *text, size_t n);

/* {name, version, hash, agreement...} for a record. */
json_t *rules_json(const struct policy *p);

#endif
