#include "fs/store/name.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/base64url.h"
#include "common/pathseal.h"

#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define HASH_BYTES 32
#define SEALED_MAX (NAME_MAX_BYTES + PATHSEAL_OVERHEAD)

static const uint8_t personal_long[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-long-name";

static_assert(sodium_base64_ENCODED_LEN(NAME_DIRECT_MAX + PATHSEAL_OVERHEAD, VARIANT) <= NAME_MAX_BYTES + 1,
	"a short name fits");
static_assert(sodium_base64_ENCODED_LEN(SEALED_MAX, VARIANT) <= NAME_TEXT_MAX, "a long name fits");

static bool name_legal(const char *name, size_t n)
{
	if (n == 0 || n > NAME_MAX_BYTES || memchr(name, '/', n) || memchr(name, 0, n))
		return false;
	return !(n == 1 && name[0] == '.') && !(n == 2 && name[0] == '.' && name[1] == '.');
}

static void hashed_entry(const struct key32 *key, const uint8_t *sealed, size_t n, char *entry)
{
	uint8_t hash[HASH_BYTES];

	crypto_generichash_blake2b_salt_personal(
		hash, sizeof(hash), sealed, n, key->b, sizeof(key->b), NULL, personal_long);
	entry[0] = '+';
	sodium_bin2base64(entry + 1, NAME_MAX_BYTES, hash, sizeof(hash), VARIANT);
}

bool name_is_long(const char *entry)
{
	return entry[0] == '+';
}

void name_side(const char *entry, char side[NAME_MAX_BYTES + 1])
{
	snprintf(side, NAME_MAX_BYTES + 1, ".n%s", entry + 1);
}

int name_seal(const struct key32 *key, const char *name, struct name_entry *ret)
{
	uint8_t sealed[SEALED_MAX];
	size_t n = strlen(name);

	if (n > NAME_MAX_BYTES)
		return -ENAMETOOLONG;
	if (!name_legal(name, n))
		return -EINVAL;
	pathseal_seal(key, NULL, 0, name, n, sealed);
	ret->side[0] = ret->text[0] = 0;
	if (n <= NAME_DIRECT_MAX) {
		sodium_bin2base64(ret->entry, sizeof(ret->entry), sealed, n + PATHSEAL_OVERHEAD, VARIANT);
		return 0;
	}
	hashed_entry(key, sealed, n + PATHSEAL_OVERHEAD, ret->entry);
	name_side(ret->entry, ret->side);
	sodium_bin2base64(ret->text, sizeof(ret->text), sealed, n + PATHSEAL_OVERHEAD, VARIANT);
	return 0;
}

int name_open(const struct key32 *key, const char *entry, const char *text, char name[NAME_MAX_BYTES + 1])
{
	const char *from = text ? text : entry;
	char expected[NAME_MAX_BYTES + 1];
	uint8_t sealed[SEALED_MAX];
	char plain[NAME_MAX_BYTES + 1];
	size_t n;

	if (base64url_decode(sealed, sizeof(sealed), from, strlen(from), &n) < 0)
		return -EBADMSG;
	if (n <= PATHSEAL_OVERHEAD || pathseal_open(key, NULL, 0, sealed, n, plain) < 0)
		return -EBADMSG;
	if (text) {
		hashed_entry(key, sealed, n, expected);
		if (strcmp(expected, entry) != 0)
			return -EBADMSG;
	}
	n -= PATHSEAL_OVERHEAD;
	if (!name_legal(plain, n) || (n > NAME_DIRECT_MAX) != (text != NULL))
		return -EBADMSG;
	memcpy(name, plain, n);
	name[n] = 0;
	return 0;
}
