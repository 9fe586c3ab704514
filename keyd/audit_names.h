/* The paths of the record: sealed under each client's audit keys, opened here for those who may see them. */
#ifndef COFFER_KEYD_AUDIT_NAMES_H
#define COFFER_KEYD_AUDIT_NAMES_H

#include <jansson.h>

#include "keyd/keyd.h"

/* The key tree used last: rows of one client come together.  Starts as {0}. */
struct audit_names {
	char hex[CLIENT_ID_HEX];
	struct keytree *tree; /* NULL: sealed, destroyed, or not for who asks */
};
void audit_names_done(struct audit_names *a);
/* From now on those of the client with this id; `allowed`: may_see_names() of who asks. */
void audit_names_switch(struct keyd *k, struct audit_names *a, const char *hex, bool allowed);
/* Text (bytes that are no UTF-8 as '?'), or null: not to be opened.  `month` and `sealed` (base64) as in the rows of LogQuery. */
json_t *audit_name(const struct audit_names *a, json_int_t month, const char *sealed);

#endif
