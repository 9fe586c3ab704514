#include "keyd/audit_names.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/pathseal.h"
#include "common/scope.h"
#include "common/utf8.h"

void audit_names_done(struct audit_names *a)
{
	keytree_free(a->tree);
	a->tree = NULL;
}

void audit_names_switch(struct keyd *k, struct audit_names *a, const char *hex, bool allowed)
{
	struct client_id id;

	audit_names_done(a);
	snprintf(a->hex, sizeof(a->hex), "%s", hex);
	if (!allowed || keyd_is_sealed(k) || client_id_parse(hex, &id) < 0)
		return;
	if (keyring_tree(k->ring, &id, &a->tree, NULL) < 0)
		a->tree = NULL; /* destroyed: its names are gone, as they should be */
}

json_t *audit_name(const struct audit_names *a, json_int_t month, const char *sealed64)
{
	struct leaf_index leaf = {.class = CLASS_AUDIT, .day = (uint16_t)month};
	scoped(key32_wipe) struct key32 key = {0};
	size_t max = strlen(sealed64), n;
	scoped(freep) uint8_t *sealed = malloc(max + 1);
	scoped(freep) char *text = calloc(1, max + 1);

	if (!a->tree || !sealed || !text || month < 0 || month > UINT16_MAX ||
		keytree_derive(a->tree, leaf, KEY_USE_AUDIT, &key) < 0)
		return json_null();
	if (sodium_base642bin(
		    sealed, max + 1, sealed64, max, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) < 0 ||
		n < PATHSEAL_OVERHEAD || pathseal_open(&key, NULL, 0, sealed, n, text) < 0)
		return json_null();
	text[n - PATHSEAL_OVERHEAD] = 0;
	return json_string(utf8_mend(text)); /* a name may be any bytes, JSON takes UTF-8 only */
}
