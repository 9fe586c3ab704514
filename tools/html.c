#include "tools/html.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "common/utf8.h"

/* Of text that is valid UTF-8; *p is moved behind the character. */
static uint32_t next_character(const char **p)
{
	const uint8_t *s = (const uint8_t *)*p;
	unsigned n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));

	for (unsigned i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3f);
	*p += n;
	return c;
}

/* What deceives the eye in a name: controls, line and paragraph ends, bidirectional controls, what has no width, tags. */
static bool is_shown_by_number(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff0 && c <= 0xfffb) ||
	       (c & 0xfffe) == 0xfffe || (c >= 0xfdd0 && c <= 0xfdef) || (c >= 0xe0000 && c <= 0xe0fff);
}

void html_text(FILE *f, const char *text)
{
	scoped(freep) char *valid = strdup(text);
	const char *p = valid ? utf8_mend(valid) : "";

	while (*p) {
		const char *from = p;
		uint32_t c = next_character(&p);

		if (is_shown_by_number(c))
			fprintf(f, "[U+%04X]", c);
		else if (c == '&')
			fputs("&amp;", f);
		else if (c == '<')
			fputs("&lt;", f);
		else if (c == '>')
			fputs("&gt;", f);
		else if (c == '"')
			fputs("&quot;", f);
		else if (c == '\'')
			fputs("&#39;", f);
		else if (c == '`')
			fputs("&#96;", f);
		else
			fwrite(from, 1, (size_t)(p - from), f);
	}
}

void html_printf(FILE *f, const char *fmt, ...)
{
	scoped(freep) char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		text = NULL;
	html_text(f, text ? text : "");
}

void html_open(FILE *f, const char *tag, ...)
{
	const char *name;
	va_list ap;

	fprintf(f, "<%s", tag);
	va_start(ap, tag);
	while ((name = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);

		if (!value)
			continue;
		fprintf(f, " %s=\"", name);
		html_text(f, value);
		fputc('"', f);
	}
	va_end(ap);
	fputc('>', f);
}

void html_close(FILE *f, const char *tag)
{
	fprintf(f, "</%s>", tag);
}

void html_element(FILE *f, const char *tag, const char *class, const char *text)
{
	html_open(f, tag, "class", class, NULL);
	html_text(f, text);
	html_close(f, tag);
}
