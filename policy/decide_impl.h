/* What the sources of the decision share. */
#ifndef COFFER_DECIDE_IMPL_H
#define COFFER_DECIDE_IMPL_H

#include "policy/decide.h"

/* What the walk has found so far. */
struct walk {
	const struct policy *p;
	const struct decide_facts *f;
	const struct decide_request *rq;
	int64_t now;
	struct decision *d;
	const struct policy_purpose *purpose;
	const struct decide_grant *grant; /* NULL in an emergency */
	const struct decide_consent *consent; /* NULL: the purpose needs none */
	int64_t classes_until; /* the end of the first approval of a class; 0: none */
	enum rights rights; /* that grant and purpose give together */
};

static inline bool decide_is_in(int64_t from, int64_t until, int64_t now)
{
	return from <= now && (until == 0 || now < until);
}

/* Of several that hold, the one that holds longest: it sets no needless end. */
static inline bool decide_lasts_longer(int64_t a, int64_t b)
{
	return a == 0 ? b != 0 : b != 0 && a > b;
}

const struct policy_basis *decide_basis_of(const struct walk *w); /* of the purpose; or NULL */
/* The one that covers the purpose now and names `recipient` (NULL: one that names none); or NULL. */
const struct decide_consent *decide_consent_to(const struct walk *w, const char *recipient);

bool decide_in_group(const struct decide_request *rq, const char *group);
/* Name and uid: a name given to somebody else later is not the one the grant was given to. */
bool decide_is_for(const struct decide_request *rq, const struct decide_grant *g);
/* "" is nobody: no consent names it. */
const char *decide_recipient_of(const struct decide_grant *g);
/* NULL: the grant keeps the limits of its party, and the purpose is open to that party; else what is in the way, and the
 * name of that error. */
const char *decide_party_obstacle(const struct walk *w, const struct decide_grant *g, const char **ret_error);
/* A total order: what is open to its party, most rights, longest, then the one given first. */
bool decide_is_better(const struct walk *w, const struct decide_grant *a, const struct decide_grant *b);

#endif
