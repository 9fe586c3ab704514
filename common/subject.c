#include "common/subject.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"

#define FORMAT 1
#define PAD 64 /* so that the length of a label is not that of an attribute */

struct subjects {
	size_t n; /* bytes; each: its length, its text */
	uint8_t bytes[];
};
DEFINE_SCOPED(struct subjects *, subjects_free)

bool subject_id_ok(const char *id, size_t n)
{
	json_t *text = n > 0 && n <= SUBJECT_ID_MAX ? json_stringn(id, n) : NULL; /* NULL: no UTF-8 */
	bool ok = text;

	for (size_t i = 0; ok && i < n; i++) {
		uint8_t c = (uint8_t)id[i];

		ok = c >= 0x20 && c != 0x7f && !(c == 0xc2 && (uint8_t)id[i + 1] < 0xa0); /* C0, DEL, C1 */
	}
	json_decref(text);
	return ok;
}

void subjects_free(struct subjects *s)
{
	free(s);
}

bool subjects_is_empty(const struct subjects *s)
{
	return !s || s->n == 0;
}

bool subjects_next(const struct subjects *s, size_t *at, const char **ret_id, size_t *ret_n)
{
	if (!s || *at >= s->n)
		return false;
	*ret_n = s->bytes[*at];
	*ret_id = (const char *)s->bytes + *at + 1;
	*at += 1 + *ret_n;
	return true;
}

static int compare(const char *a, size_t a_n, const char *b, size_t b_n)
{
	int r = memcmp(a, b, a_n < b_n ? a_n : b_n);

	return r != 0 ? r : a_n < b_n ? -1 : a_n > b_n;
}

/* Where it is, or belongs. */
static size_t find(const struct subjects *s, const char *id, size_t n, bool *ret_there)
{
	size_t at = 0, was = 0, m;
	const char *other;

	*ret_there = false;
	while (subjects_next(s, &at, &other, &m)) {
		int r = compare(id, n, other, m);

		*ret_there = r == 0;
		if (r <= 0)
			return was;
		was = at;
	}
	return was;
}

bool subjects_has(const struct subjects *s, const char *id, size_t n)
{
	bool there;

	(void)find(s, id, n, &there);
	return there;
}

bool subjects_has_other(const struct subjects *s, const char *id, size_t n)
{
	size_t at = 0, m;
	const char *other;

	while (subjects_next(s, &at, &other, &m))
		if (compare(id, n, other, m) != 0)
			return true;
	return false;
}

bool subjects_cover(const struct subjects *s, const struct subjects *of)
{
	size_t at = 0, n;
	const char *id;

	while (subjects_next(of, &at, &id, &n))
		if (!subjects_has(s, id, n))
			return false;
	return true;
}

int subjects_add(struct subjects **s, const char *id, size_t n, size_t max)
{
	size_t had = *s ? (*s)->n : 0, at;
	struct subjects *new;
	bool there;

	if (!subject_id_ok(id, n))
		return -EINVAL;
	at = find(*s, id, n, &there);
	if (there)
		return 0;
	if (had + 1 + n > max)
		return -ENOSPC;
	new = realloc(*s, sizeof(*new) + had + 1 + n);
	if (!new)
		return -ENOMEM;
	memmove(new->bytes + at + 1 + n, new->bytes + at, had - at);
	new->bytes[at] = (uint8_t)n;
	memcpy(new->bytes + at + 1, id, n);
	new->n = had + 1 + n;
	*s = new;
	return 1;
}

int subjects_add_all(struct subjects **s, const struct subjects *from, size_t max)
{
	size_t at = 0, n;
	const char *id;
	int r, grew = 0;

	while (subjects_next(from, &at, &id, &n)) {
		r = subjects_add(s, id, n, max);
		if (r < 0)
			return r;
		grew |= r;
	}
	return grew;
}

bool subjects_remove(struct subjects *s, const char *id, size_t n)
{
	bool there;
	size_t at = find(s, id, n, &there);

	if (!there)
		return false;
	memmove(s->bytes + at, s->bytes + at + 1 + n, s->n - at - 1 - n);
	s->n -= 1 + n;
	return true;
}

size_t subjects_encode(const struct subjects *s, uint8_t out[SUBJECTS_STORED_MAX])
{
	size_t n = s ? s->n : 0, padded = (1 + n + PAD - 1) / PAD * PAD;

	memset(out, 0, padded);
	out[0] = FORMAT;
	if (n > 0)
		memcpy(out + 1, s->bytes, n);
	return padded;
}

int subjects_decode(const uint8_t *in, size_t n, struct subjects **ret)
{
	scoped(subjects_freep) struct subjects *s = NULL;
	uint8_t same[SUBJECTS_STORED_MAX];
	int r;

	if (n == 0 || n > sizeof(same) || in[0] != FORMAT)
		return -EBADMSG;
	for (size_t at = 1; at < n && in[at] != 0; at += 1 + (size_t)in[at]) {
		if (in[at] >= n - at)
			return -EBADMSG;
		r = subjects_add(&s, (const char *)in + at + 1, in[at], SUBJECTS_BYTES_MAX);
		if (r < 0)
			return r == -ENOMEM ? r : -EBADMSG;
	}
	/* One form only: in order, each once, no more zeros than that. */
	if (!s || subjects_encode(s, same) != n || memcmp(same, in, n) != 0)
		return -EBADMSG;
	*ret = take_ptr(&s);
	return 0;
}
