#include "keyd/person.h"

#include <string.h>

#include "keyd/decision.h"
#include "keyd/keyd.h"

bool person_is(const struct peer *p, const char *user, uid_t uid)
{
	return p->uid == uid || p->person == uid || strcmp(p->user, user) == 0;
}

struct actor person_of_call(const struct varlink_call *call)
{
	const struct peer *p = varlink_call_peer(call);

	return (struct actor){.user = p->user, .uid = p->person};
}

bool person_is_alone(const struct keyd *k, const struct peer *p)
{
	return k->embedded && p->roles & ROLE_OWNER;
}

bool person_is_member(const struct peer *p, const char *group)
{
	struct peer before;

	return nss_is_member(p->user, group) || (p->person != p->uid && peer_from_uid(p->person, (uid_t)-1, &before) == 0 &&
							nss_is_member(before.user, group));
}

bool person_is_another(struct varlink_call *call, const char *user, uid_t uid, const char *what)
{
	if (!person_is(varlink_call_peer(call), user, uid))
		return true;
	varlink_errorf(call, "OwnRequest", "ask another person", "%s: nobody %s himself", user, what);
	return false;
}
