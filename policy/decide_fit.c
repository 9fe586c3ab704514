/* Which consents and grants fit what is asked for, and which of several is taken. */
#include <string.h>

#include "policy/decide_impl.h"

const struct decide_consent *decide_consent_to(const struct walk *w, const char *recipient)
{
	const struct decide_consent *found = NULL;

	for (size_t i = 0; i < w->f->consents_count; i++) {
		const struct decide_consent *c = &w->f->consents[i];
		bool fits = recipient ? c->recipient && strcmp(c->recipient, recipient) == 0 : !c->recipient;

		if (fits && policy_covers(w->p, c->scope, w->purpose) && decide_is_in(c->from, c->until, w->now) &&
			(!found || decide_lasts_longer(c->until, found->until)))
			found = c;
	}
	return found;
}

const struct policy_basis *decide_basis_of(const struct walk *w)
{
	return w->purpose->basis ? policy_basis(w->p, w->purpose->basis) : NULL;
}

bool decide_in_group(const struct decide_request *rq, const char *group)
{
	for (size_t i = 0; i < rq->groups_count; i++)
		if (strcmp(rq->groups[i], group) == 0)
			return true;
	return false;
}

bool decide_is_for(const struct decide_request *rq, const struct decide_grant *g)
{
	if (g->is_group)
		return decide_in_group(rq, g->subject);
	return strcmp(g->subject, rq->user) == 0 && g->uid == rq->uid;
}

const char *decide_recipient_of(const struct decide_grant *g)
{
	return g->organisation ? g->organisation : "";
}

const char *decide_party_obstacle(const struct walk *w, const struct decide_grant *g, const char **ret_error)
{
	const struct policy_party *party = policy_party(w->p, g->party);
	bool may = w->purpose->parties_count == 0;

	for (size_t i = 0; i < w->purpose->parties_count; i++)
		may |= strcmp(w->purpose->parties[i], policy_party_name(g->party)) == 0;
	if (!party || !may) {
		*ret_error = "PartyNotAllowed";
		return "is not open to that party";
	}
	if (party->reference_required && (!g->reference || g->reference[0] == '\0')) {
		*ret_error = "ReferenceMissing";
		return "needs the reference of a request or order for that party, and the grant has none";
	}
	if (party->until_required && g->until == 0) {
		*ret_error = "EndMissing";
		return "needs an end for that party, and the grant has none";
	}
	if (decide_basis_of(w)->consent && !decide_consent_to(w, g->party == PARTY_EMPLOYEE ? NULL : decide_recipient_of(g))) {
		*ret_error = "NoConsent";
		return g->party == PARTY_EMPLOYEE ? "rests on consent, and what the client consented to is sharing it with others"
						  : "rests on consent, and the client did not consent to that recipient";
	}
	return NULL;
}

bool decide_is_better(const struct walk *w, const struct decide_grant *a, const struct decide_grant *b)
{
	const char *ignored;
	bool a_may = !decide_party_obstacle(w, a, &ignored), b_may = !decide_party_obstacle(w, b, &ignored);
	enum rights a_rights = a->rights & w->purpose->rights, b_rights = b->rights & w->purpose->rights;

	if (a_may != b_may)
		return a_may;
	if (a_rights != b_rights)
		return a_rights > b_rights;
	if (a->until != b->until)
		return a->until == 0 || (b->until != 0 && a->until > b->until);
	return a->id < b->id;
}
