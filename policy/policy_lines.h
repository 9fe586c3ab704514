/* Where things stand in a YAML text: libyaml's own marks, asked by path, for errors that the schema cannot
 * see.  Internal to policy.c. */
#ifndef COFFER_POLICY_LINES_H
#define COFFER_POLICY_LINES_H

#include <stddef.h>

#include "policy/policy.h"

struct policy_lines;

/* Refuses what is no YAML, has more than one document, or names a key twice in one mapping: -EINVAL, *err filled. */
int policy_lines_new(const char *text, size_t n, struct policy_lines **ret, struct policy_error *err);
void policy_lines_free(struct policy_lines *l);

/* Line of root[list][index][key]; of the entry when key is NULL or missing, of root[list] when that is. */
unsigned policy_lines_at(const struct policy_lines *l, const char *list, size_t index, const char *key);
/* The same, one list deeper: root[list][index][sublist][subindex][key]. */
unsigned policy_lines_at_deep(const struct policy_lines *l, const char *list, size_t index, const char *sublist,
	size_t subindex, const char *key);
/* The first mapping key of that name at or below line `from`; 0: none. */
unsigned policy_lines_key(const struct policy_lines *l, const char *key, unsigned from);

#endif
