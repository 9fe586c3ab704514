/* base64url without padding, one text for one value.  libsodium alone takes A, - and _ with their highest bit set for
 * the same as without: that would give names that are two entries. */
#ifndef COFFER_BASE64URL_H
#define COFFER_BASE64URL_H

#include <errno.h>
#include <sodium.h>
#include <stddef.h>
#include <stdint.h>

/* 0, or -EBADMSG: other characters, bits that are left over, more than `cap` bytes. */
static inline int base64url_decode(uint8_t *out, size_t cap, const char *text, size_t n, size_t *ret_n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] >= 0x80)
			return -EBADMSG;
	if (sodium_base642bin(out, cap, text, n, NULL, ret_n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) < 0)
		return -EBADMSG;
	return 0;
}

#endif
