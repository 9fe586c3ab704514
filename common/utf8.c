#include "common/utf8.h"

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that begins with c; 0: none begins so. */
static unsigned length_of(uint8_t c)
{
	return c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
}

/* Overlong forms, surrogates, beyond U+10FFFF: told by the second byte. */
static int second_is_wrong(uint8_t first, uint8_t second)
{
	return (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
	       (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
}

char *utf8_mend(char *text)
{
	uint8_t *p = (uint8_t *)text;

	while (*p) {
		unsigned want = length_of(*p), n = 1;

		while (n < want && (p[n] & 0xc0) == 0x80 && !(n == 1 && second_is_wrong(p[0], p[1])))
			n++;
		if (n < want && p[n] == 0) { /* cut: so far it was one */
			*p = 0;
		} else if (n < want || want == 0) {
			*p++ = '?';
		} else {
			p += want;
		}
	}
	return text;
}
