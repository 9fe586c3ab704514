/* Finding things in a loaded policy, and the words for its enumerations. */
#include <errno.h>
#include <regex.h>
#include <string.h>

#include "common/scope.h"
#include "policy/policy.h"

static const char *const party_names[] = {
	[PARTY_EMPLOYEE] = "employee",
	[PARTY_PROVIDER] = "provider",
	[PARTY_PARTNER] = "partner",
	[PARTY_AFFILIATE] = "affiliate",
};

static const char *const role_names[POLICY_ROLES] = {
	[POLICY_ADMIN] = "admin",
	[POLICY_CUSTODIAN] = "custodian",
	[POLICY_AUDITOR] = "auditor",
	[POLICY_CONSULTANT] = "consultant",
};

const struct policy_purpose *policy_purpose(const struct policy *p, const char *id)
{
	for (size_t i = 0; i < p->purposes_count; i++)
		if (strcmp(p->purposes[i].id, id) == 0)
			return &p->purposes[i];
	return NULL;
}

bool policy_covers(const struct policy *p, const char *above, const struct policy_purpose *purpose)
{
	for (; strcmp(purpose->id, above) != 0; purpose = &p->purposes[purpose->parent])
		if (purpose->parent < 0)
			return false;
	return true;
}

char *const *policy_services(const struct policy *p, const struct policy_purpose *purpose, size_t *ret_n)
{
	while (purpose->services_count == 0 && purpose->parent >= 0)
		purpose = &p->purposes[purpose->parent];
	*ret_n = purpose->services_count;
	return purpose->services;
}

const struct policy_service *policy_service(const struct policy *p, const char *id)
{
	for (size_t i = 0; i < p->services_count; i++)
		if (strcmp(p->services[i].id, id) == 0)
			return &p->services[i];
	return NULL;
}

const struct policy_basis *policy_basis(const struct policy *p, const char *id)
{
	for (size_t i = 0; i < p->bases_count; i++)
		if (strcmp(p->bases[i].id, id) == 0)
			return &p->bases[i];
	return NULL;
}

const struct policy_event *policy_event(const struct policy *p, const char *id)
{
	for (size_t i = 0; i < p->events_count; i++)
		if (strcmp(p->events[i].id, id) == 0)
			return &p->events[i];
	return NULL;
}

const struct policy_class *policy_class(const struct policy *p, const char *id)
{
	for (size_t i = 0; i < p->classes_count; i++)
		if (strcmp(p->classes[i].id, id) == 0)
			return &p->classes[i];
	return NULL;
}

const struct policy_class *policy_class_by_number(const struct policy *p, uint16_t number)
{
	for (size_t i = 0; i < p->classes_count; i++)
		if (p->classes[i].number == number)
			return &p->classes[i];
	return NULL;
}

const struct policy_class *policy_default_class(const struct policy *p)
{
	for (size_t i = 0; i < p->classes_count; i++)
		if (p->classes[i].is_default)
			return &p->classes[i];
	return NULL;
}

const struct policy_party *policy_party(const struct policy *p, enum party party)
{
	for (size_t i = 0; i < p->parties_count; i++)
		if (p->parties[i].party == party)
			return &p->parties[i];
	return NULL;
}

int policy_party_parse(const char *id, enum party *ret)
{
	for (unsigned i = 0; i < ARRAY_SIZE(party_names); i++) {
		if (strcmp(party_names[i], id) != 0)
			continue;
		*ret = (enum party)i;
		return 0;
	}
	return -EINVAL;
}

const char *policy_party_name(enum party party)
{
	return (unsigned)party < ARRAY_SIZE(party_names) ? party_names[party] : "unknown";
}

int policy_rights_parse(const char *text, enum rights *ret)
{
	if (strcmp(text, "r") == 0)
		*ret = RIGHTS_READ;
	else if (strcmp(text, "rw") == 0)
		*ret = RIGHTS_RW;
	else
		return -EINVAL;
	return 0;
}

const char *policy_rights_name(enum rights r)
{
	switch (r) {
	case RIGHTS_NONE:
		return "none";
	case RIGHTS_READ:
		return "r";
	case RIGHTS_WRITE:
		return "w";
	case RIGHTS_RW:
		return "rw";
	}
	return "unknown";
}

const char *policy_export_name(enum policy_export e)
{
	return e == EXPORT_NO ? "no" : e == EXPORT_RECORDED ? "recorded" : "";
}

const char *policy_durability_name(enum policy_durability d)
{
	return d == DURABILITY_SYNC ? "sync" : d == DURABILITY_PROCESS ? "process" : "";
}

bool policy_ticket_fits(const struct policy_purpose *purpose, const char *ticket)
{
	regex_t re;
	int r;

	if (strlen(ticket) > POLICY_TICKET_MAX)
		return false;
	if (!purpose->ticket)
		return true;
	if (regcomp(&re, purpose->ticket, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	r = regexec(&re, ticket, 0, NULL, 0);
	regfree(&re);
	return r == 0;
}

int policy_role_parse(const char *id, enum policy_role *ret)
{
	for (unsigned i = 0; i < POLICY_ROLES; i++) {
		if (strcmp(role_names[i], id) != 0)
			continue;
		*ret = (enum policy_role)i;
		return 0;
	}
	return -EINVAL;
}

const char *policy_role_name(enum policy_role role)
{
	return (unsigned)role < POLICY_ROLES ? role_names[role] : "unknown";
}
