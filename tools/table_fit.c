#include "tools/table_fit.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

/* One character: its bytes, and the cells it takes when libsmartcols prints it (each byte that is no text as \xNN). */
static size_t step(const char *p, size_t *ret_cells)
{
	mbstate_t state = {0};
	wchar_t c;
	size_t n = mbrtowc(&c, p, strlen(p), &state);

	if (n == 0 || n == (size_t)-1 || n == (size_t)-2 || !iswprint((wint_t)c)) {
		size_t bytes = n == 0 || n == (size_t)-1 || n == (size_t)-2 ? 1 : n;

		*ret_cells = 4 * bytes;
		return bytes;
	}
	*ret_cells = wcwidth(c) > 0 ? (size_t)wcwidth(c) : 0;
	return n;
}

size_t fit_cells(const char *text)
{
	size_t cells, sum = 0;

	for (; *text; sum += cells)
		text += step(text, &cells);
	return sum;
}

/* All at their least. */
static size_t begin_least(struct fit *columns, size_t n)
{
	size_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		struct fit *c = &columns[i];

		c->width = c->dropped ? 0 : c->least < c->natural ? c->least : c->natural;
		sum += c->dropped ? 0 : c->width + (sum > 0);
	}
	return sum;
}

bool fit_columns(struct fit *columns, size_t n, size_t room)
{
	size_t least = begin_least(columns, n);
	bool grew = true;

	if (least > room) {
		for (size_t i = 0; i < n; i++)
			if (columns[i].wraps)
				columns[i].width = 0;
		return false;
	}
	for (room -= least; room > 0 && grew;) {
		grew = false;
		for (size_t i = 0; i < n && room > 0; i++) {
			if (columns[i].dropped || columns[i].width >= columns[i].natural)
				continue;
			columns[i].width++;
			room--;
			grew = true;
		}
	}
	return true;
}

/* Bytes of the next line, and in *ret_skip those with the spaces behind it. */
static size_t line_of(const char *text, size_t width, size_t *ret_skip)
{
	size_t at = 0, cells = 0, word = 0, n, c;

	while (text[at]) {
		n = step(text + at, &c);
		if (cells + c > width && at > 0)
			break;
		if (text[at] == ' ')
			word = at;
		at += n;
		cells += c;
	}
	if (text[at] && text[at] != ' ' && word > 0)
		at = word;
	*ret_skip = at + strspn(text + at, " ");
	return at;
}

char *fit_lines(const char *text, size_t width)
{
	char *lines = malloc(2 * strlen(text) + 1), *to = lines;
	size_t n, skip;

	if (!lines)
		return NULL;
	for (const char *p = text; *p; p += skip) {
		if (to > lines)
			*to++ = '\n';
		n = line_of(p, width, &skip);
		to = mempcpy(to, p, n);
	}
	*to = '\0';
	return lines;
}

char *fit_cut(const char *text, size_t width)
{
	size_t at = 0, cells = 0, n, c;

	for (; text[at]; at += n, cells += c) {
		n = step(text + at, &c);
		if (cells + c > width)
			break;
	}
	return strndup(text, at);
}
