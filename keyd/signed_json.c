#include "keyd/signed_json.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/scope.h"

static char *canonical(const json_t *o)
{
	return json_dumps(o, JSON_SORT_KEYS | JSON_COMPACT);
}

int signed_json_sign(const struct keyring *k, const char *context, const json_t *o, char **ret_text,
	char ret_signature[2 * SIGNATURE_BYTES + 1])
{
	scoped(freep) char *text = canonical(o);
	uint8_t signature[SIGNATURE_BYTES];
	int r;

	if (!text)
		return -ENOMEM;
	r = keyring_sign(k, context, text, strlen(text), signature);
	if (r < 0)
		return r;
	sodium_bin2hex(ret_signature, 2 * SIGNATURE_BYTES + 1, signature, sizeof(signature));
	if (ret_text)
		*ret_text = take_ptr(&text);
	return 0;
}

int signed_json_check(const uint8_t public_key[PUBLIC_KEY_BYTES], const char *context, const json_t *o, const char *signature)
{
	scoped(freep) char *text = canonical(o);
	uint8_t bytes[SIGNATURE_BYTES];
	size_t n;

	if (!text)
		return -ENOMEM;
	if (sodium_hex2bin(bytes, sizeof(bytes), signature, strlen(signature), NULL, &n, NULL) < 0 ||
		n != sizeof(bytes) || strlen(signature) != 2 * sizeof(bytes))
		return -EBADMSG;
	return keyring_signature_check(public_key, context, text, strlen(text), bytes);
}
