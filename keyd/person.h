/* What takes two persons: whether the caller is the one who did something, and whether there is anybody but him. */
#ifndef COFFER_KEYD_PERSON_H
#define COFFER_KEYD_PERSON_H

#include <stdbool.h>

#include "common/peer.h"
#include "common/varlink.h"
#include "keyd/facts.h"

struct keyd;

/* Pure.  By number and by name: neither a second account nor a renamed one makes two of one; nor does becoming root. */
bool person_is(const struct peer *p, const char *user, uid_t uid);
/* Who calls, with the number to keep for a later person_is(). */
struct actor person_of_call(const struct varlink_call *call);

/* Where one user holds all roles (embedded) nobody else is there: he alone may do what takes two, and answers and certificates say
 * so.  Only he: who has a role by its group has others beside him. */
bool person_is_alone(const struct keyd *k, const struct peer *p);

/* Whether he is in that group, also as who he was before he became root. */
bool person_is_member(const struct peer *p, const char *group);

/* False when it was the caller himself; then it has replied OwnRequest: "<user>: nobody <what> himself". */
bool person_is_another(struct varlink_call *call, const char *user, uid_t uid, const char *what);

#endif
