#include "fs/broker/pages.h"

#include <sodium.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"

/* Of this process: after a restart a search begins anew, with a record of its own. */
static const uint8_t *page_key(void)
{
	static uint8_t key[crypto_auth_KEYBYTES];
	static bool made;

	if (!made)
		crypto_auth_keygen(key);
	made = true;
	return key;
}

static bool tag_of(uid_t uid, const json_t *params, const char *place, char ret[2 * crypto_auth_BYTES + 1])
{
	json_auto_t *copy = json_copy((json_t *)params), *all = NULL;
	scoped(freep) char *text = NULL;
	uint8_t tag[crypto_auth_BYTES];

	json_object_del(copy, "after");
	json_object_del(copy, "limit");
	all = json_pack("[I, s, O]", (json_int_t)uid, place, copy);
	text = all ? json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	if (!text)
		return false;
	crypto_auth(tag, (const uint8_t *)text, strlen(text), page_key());
	sodium_bin2hex(ret, 2 * sizeof(tag) + 1, tag, sizeof(tag));
	return true;
}

char *page_seal(uid_t uid, const json_t *params, const char *place)
{
	char tag[2 * crypto_auth_BYTES + 1], *text = NULL;

	return tag_of(uid, params, place, tag) && asprintf(&text, "%s.%s", place, tag) >= 0 ? text : NULL;
}

bool page_open(uid_t uid, const json_t *params, const char *after, char place[PAGE_PLACE_MAX], bool *ret_known)
{
	const char *dot = strchr(after, '.');
	size_t n = dot ? (size_t)(dot - after) : strlen(after);
	char tag[2 * crypto_auth_BYTES + 1];

	*ret_known = false;
	if (n >= PAGE_PLACE_MAX)
		return false;
	memcpy(place, after, n);
	place[n] = '\0';
	if (dot && strlen(dot + 1) == sizeof(tag) - 1 && tag_of(uid, params, place, tag))
		*ret_known = sodium_memcmp(tag, dot + 1, sizeof(tag) - 1) == 0;
	return true;
}
