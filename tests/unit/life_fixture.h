/* The built-in policy and two people, for the tests of how clients and classes end. */
#ifndef COFFER_TESTS_LIFE_FIXTURE_H
#define COFFER_TESTS_LIFE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "keyd/facts_leaves.h"
#include "policy/policy.h"

#define DAY 86400

static struct policy *policy;
static const struct actor ada = {"ada", 100}, bob = {"bob", 200};

static inline int life_setup_all(void **state)
{
	struct policy_error err;

	return policy_load_text(NULL, 0, &policy, &err);
}

static inline int life_teardown_all(void **state)
{
	policy_free(policy);
	return 0;
}

#endif
