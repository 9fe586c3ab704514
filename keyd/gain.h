/* Whether who administers gains by it himself: what he could open before and after.  An act that gives him a power by itself (a grant,
 * a consent, roles, a group for emergencies) is another's to do; a change of rules that lets his own grants give more is done, loudly:
 * log, letter, a review that another person closes.  Who is alone (person.h) has all powers already. */
#ifndef COFFER_KEYD_GAIN_H
#define COFFER_KEYD_GAIN_H

#include "common/peer.h"
#include "common/varlink.h"
#include "keyd/facts.h"
#include "policy/policy.h"

struct keyd;

/* What somebody (and who he was before he became root) could open of one client, for each purpose. */
struct gain_look;
/* Under those rules; NULL: of now.  Sees what the open transaction changed.  now: the same for two that are compared, else the
 * later one's sessions would end later. */
int gain_look(struct keyd *k, const struct peer *p, const char *client, const struct policy *rules, int64_t now, struct gain_look **ret);
void gain_look_free(struct gain_look *l);
DEFINE_SCOPED(struct gain_look *, gain_look_free)
/* The first purpose for which `after` opens more, or comes further, also behind a ticket or an approval; NULL: none. */
const char *gain_between(const struct gain_look *before, const struct gain_look *after);

/* For gain_is_refused(), before the change; *ret NULL: the caller is alone. */
int gain_look_before(struct keyd *k, const struct varlink_call *call, const char *client, struct gain_look **ret);

/* Whether what the transaction changed for that client lets the caller open more: then it has rolled back and replied OwnRequest.
 * before: gain_look() of before it; NULL: nobody asks (he is alone). */
bool gain_is_refused(struct keyd *k, struct varlink_call *call, const char *client, const struct gain_look *before, const char *what);

/* Whether he has a grant of any client. */
int gain_has_grants(struct keyd *k, const struct varlink_call *call, bool *ret);

/* False: replied OwnGrant.  The policy would name a group of his for emergencies, or let him use roles together that he has. */
bool gain_policy_is_others(struct keyd *k, struct varlink_call *call, const struct policy *will);
/* What the caller's own grants, and emergencies of his groups, would give more, under another policy for all clients, or other rules
 * for one (client not NULL); "": nothing. */
int gain_by_rules(struct keyd *k, struct varlink_call *call, const char *client, const struct policy *will, char *buf, size_t n);

/* In the transaction of the change: the review.  what: "policy" or "agreement". */
int gain_note(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *what, const char *text, int64_t *ret_review);
void gain_tell(struct keyd *k, struct varlink_call *call, const struct fact_client *c, const char *what, const char *text, int64_t review);

#endif
