#include "policy/builtin.h"

#include "builtin_policy.h"

const char *policy_builtin_text(size_t *ret_n)
{
	*ret_n = sizeof(builtin_policy);
	return (const char *)builtin_policy;
}
