/* A line: coffer-signing-link <from> <to> <seconds> <signature of from> <signature of to>, in hex but the seconds. */
#include "keyd/signing.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/keyring.h"

#define WORD "coffer-signing-link"

static_assert(SIGNING_KEY_BYTES == PUBLIC_KEY_BYTES && SIGNING_SIGNATURE_BYTES == SIGNATURE_BYTES, "Ed25519");

size_t signing_link_text(const struct signing_link *l, char buf[SIGNING_TEXT_MAX])
{
	char from[2 * SIGNING_KEY_BYTES + 1], to[2 * SIGNING_KEY_BYTES + 1];

	sodium_bin2hex(from, sizeof(from), l->from, sizeof(l->from));
	sodium_bin2hex(to, sizeof(to), l->to, sizeof(l->to));
	return (size_t)snprintf(buf, SIGNING_TEXT_MAX, "coffer-signing-1\n%s\n%s\n%" PRId64 "\n", from, to, l->at);
}

char *signing_link_format(const struct signing_link *l, char buf[SIGNING_LINE_MAX])
{
	char from[2 * SIGNING_KEY_BYTES + 1], to[2 * SIGNING_KEY_BYTES + 1];
	char by_from[2 * SIGNING_SIGNATURE_BYTES + 1], by_to[2 * SIGNING_SIGNATURE_BYTES + 1];

	sodium_bin2hex(from, sizeof(from), l->from, sizeof(l->from));
	sodium_bin2hex(to, sizeof(to), l->to, sizeof(l->to));
	sodium_bin2hex(by_from, sizeof(by_from), l->by_from, sizeof(l->by_from));
	sodium_bin2hex(by_to, sizeof(by_to), l->by_to, sizeof(l->by_to));
	(void)snprintf(buf, SIGNING_LINE_MAX, WORD " %s %s %" PRId64 " %s %s\n", from, to, l->at, by_from, by_to);
	return buf;
}

static bool take_hex(const char **p, uint8_t *ret, size_t size)
{
	size_t n = 0;

	if (sodium_hex2bin(ret, size, *p, strnlen(*p, 2 * size), NULL, &n, p) != 0 || n != size)
		return false;
	*p += **p == ' ';
	return true;
}

int signing_link_parse(const char *line, struct signing_link *ret)
{
	size_t word = strlen(WORD);
	struct signing_link l;
	char text[SIGNING_TEXT_MAX], *end;
	const char *p;
	size_t n;

	if (strncmp(line, WORD " ", word + 1) != 0)
		return -EINVAL;
	p = line + word + 1;
	if (!take_hex(&p, l.from, sizeof(l.from)) || !take_hex(&p, l.to, sizeof(l.to)))
		return -EBADMSG;
	errno = 0;
	l.at = strtoll(p, &end, 10);
	if (errno || end == p || *end != ' ' || l.at < 0)
		return -EBADMSG;
	p = end + 1;
	if (!take_hex(&p, l.by_from, sizeof(l.by_from)) || !take_hex(&p, l.by_to, sizeof(l.by_to)) || (*p && *p != '\n'))
		return -EBADMSG;
	n = signing_link_text(&l, text);
	if (keyring_signature_check(l.from, SIGNING_CONTEXT, text, n, l.by_from) < 0 ||
		keyring_signature_check(l.to, SIGNING_CONTEXT, text, n, l.by_to) < 0)
		return -EBADMSG;
	*ret = l;
	return 0;
}

/* The next sound link of *text, which moves on.  False: no more. */
static bool next_link(const char **text, struct signing_link *ret)
{
	while (*text && **text) {
		const char *newline = strchr(*text, '\n');
		int r = signing_link_parse(*text, ret);

		*text = newline ? newline + 1 : *text + strlen(*text);
		if (r == 0)
			return true;
	}
	return false;
}

static struct signing_key *find(struct signing_keys *keys, const uint8_t key[SIGNING_KEY_BYTES])
{
	for (size_t i = 0; i < keys->n; i++)
		if (memcmp(keys->keys[i].b, key, SIGNING_KEY_BYTES) == 0)
			return &keys->keys[i];
	return NULL;
}

const struct signing_key *signing_keys_find(const struct signing_keys *keys, const uint8_t key[SIGNING_KEY_BYTES])
{
	return find((struct signing_keys *)keys, key);
}

static struct signing_key *append(struct signing_keys *keys, const uint8_t key[SIGNING_KEY_BYTES])
{
	struct signing_key *k = keys->n < SIGNING_KEYS_MAX ? &keys->keys[keys->n++] : NULL;

	if (k) {
		*k = (struct signing_key){.until = INT64_MAX};
		memcpy(k->b, key, SIGNING_KEY_BYTES);
	}
	return k;
}

void signing_keys_collect(const uint8_t trusted[SIGNING_KEY_BYTES], const char *text, struct signing_keys *ret)
{
	bool more = true;

	ret->n = 0;
	(void)append(ret, trusted);
	/* Links may stand in any order: again until nothing new comes. */
	while (more) {
		const char *p = text;
		struct signing_link l;

		more = false;
		while (next_link(&p, &l)) {
			struct signing_key *from = find(ret, l.from), *to = find(ret, l.to);

			if (from && !to)
				more = (to = append(ret, l.to)) || more;
			else if (to && !from)
				more = (from = append(ret, l.from)) || more;
			if (!from || !to)
				continue;
			from->until = l.at;
			to->from = l.at;
		}
	}
}

char *signing_links_of(const uint8_t key[SIGNING_KEY_BYTES], const char *text)
{
	struct signing_link chain[SIGNING_KEYS_MAX], l;
	uint8_t at[SIGNING_KEY_BYTES];
	char *lines, line[SIGNING_LINE_MAX];
	size_t n = 0;
	bool found = true;

	memcpy(at, key, sizeof(at));
	while (found && n < SIGNING_KEYS_MAX) {
		const char *p = text;

		for (found = false; !found && next_link(&p, &l);)
			found = memcmp(l.to, at, sizeof(at)) == 0;
		if (found) {
			chain[n++] = l;
			memcpy(at, l.from, sizeof(at));
		}
	}
	lines = malloc(n * SIGNING_LINE_MAX + 1);
	if (!lines)
		return NULL;
	*lines = '\0';
	for (char *end = lines; n > 0; end += strlen(end))
		snprintf(end, SIGNING_LINE_MAX, "%s", signing_link_format(&chain[--n], line));
	return lines;
}
