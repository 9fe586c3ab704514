#include "keyd/signing_file.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/disk.h"

#define PUB_NAME "signing.pub"
#define PUB_TEXT_MAX 128
#define CHAIN_NAME "signing.chain"
#define CHAIN_MAX ((SIGNING_KEYS_MAX + 1) * SIGNING_LINE_MAX)

static size_t pub_text(const uint8_t key[SIGNING_KEY_BYTES], char buf[PUB_TEXT_MAX])
{
	size_t n;

	sodium_bin2base64(buf, PUB_TEXT_MAX, key, SIGNING_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL);
	n = strlen(buf);
	return n + (size_t)snprintf(buf + n, PUB_TEXT_MAX - n, "\n");
}

char *signing_file_chain(int keyd_fd)
{
	scoped(freep) uint8_t *text = NULL;
	size_t n = 0;
	int r = disk_read(keyd_fd, CHAIN_NAME, CHAIN_MAX, &text, &n);

	if (r == -ENOENT)
		return strdup("");
	return r < 0 ? NULL : strndup((char *)text, n);
}

/* One step of the chain leads from one to the other, this way or that. */
static bool is_neighbour(int keyd_fd, const uint8_t ours[SIGNING_KEY_BYTES], const uint8_t theirs[SIGNING_KEY_BYTES])
{
	scoped(freep) char *chain = signing_file_chain(keyd_fd);
	struct signing_link l;

	for (char *p = chain; p && *p;) {
		char *newline = strchr(p, '\n');

		if (signing_link_parse(p, &l) == 0 &&
			((memcmp(l.from, ours, sizeof(l.from)) == 0 && memcmp(l.to, theirs, sizeof(l.to)) == 0) ||
				(memcmp(l.to, ours, sizeof(l.to)) == 0 && memcmp(l.from, theirs, sizeof(l.from)) == 0)))
			return true;
		p = newline ? newline + 1 : NULL;
	}
	return false;
}

static bool parse_pub(const uint8_t *text, size_t n, uint8_t ret[SIGNING_KEY_BYTES])
{
	size_t got = 0;

	return n > 1 && text[n - 1] == '\n' &&
	       sodium_base642bin(ret, SIGNING_KEY_BYTES, (const char *)text, n - 1, NULL, &got, NULL,
		       sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       got == SIGNING_KEY_BYTES;
}

int signing_file_check(int keyd_fd, const uint8_t ours[SIGNING_KEY_BYTES], struct keys_error *err)
{
	uint8_t key[SIGNING_KEY_BYTES];
	scoped(freep) uint8_t *there = NULL;
	char text[PUB_TEXT_MAX];
	size_t n = pub_text(ours, text), there_n;
	int r;

	r = disk_read(keyd_fd, PUB_NAME, sizeof(text), &there, &there_n);
	if (r == -ENOENT)
		r = disk_replace(keyd_fd, PUB_NAME, text, n);
	else if (r == -EMSGSIZE || (r == 0 && !parse_pub(there, there_n, key)))
		r = -EBADMSG;
	else if (r == 0 && memcmp(key, ours, sizeof(key)) != 0 && !is_neighbour(keyd_fd, ours, key))
		r = -EBADMSG;
	if (r < 0)
		keys_error_set(err, "keyd/" PUB_NAME ": %s",
			r == -EBADMSG ? "not the public key of this installation; find out who changed it, "
					"then remove it: "
					"it is written anew at the next start"
				      : strerror(-r));
	return r;
}

static int replace_if_other(int keyd_fd, const char *name, const char *text)
{
	scoped(freep) uint8_t *there = NULL;
	size_t n = 0;
	int r = disk_read(keyd_fd, name, CHAIN_MAX, &there, &n);

	if (r == -ENOENT && !*text)
		return 0;
	if (r == 0 && n == strlen(text) && memcmp(there, text, n) == 0)
		return 0;
	return disk_replace(keyd_fd, name, text, strlen(text));
}

int signing_file_publish(int keyd_fd, const uint8_t ours[SIGNING_KEY_BYTES], struct keys_error *err)
{
	scoped(freep) char *chain = signing_file_chain(keyd_fd), *links = chain ? signing_links_of(ours, chain) : NULL;
	char text[PUB_TEXT_MAX];
	int r = -ENOMEM;

	(void)pub_text(ours, text);
	if (links)
		r = replace_if_other(keyd_fd, PUB_NAME, text);
	if (r == 0)
		r = replace_if_other(keyd_fd, CHAIN_NAME, links);
	if (r < 0)
		keys_error_set(err, "keyd/" PUB_NAME ": the public key cannot be published: %s", strerror(-r));
	return r;
}

int signing_file_add(int keyd_fd, const struct signing_link *link, struct keys_error *err)
{
	scoped(freep) char *chain = signing_file_chain(keyd_fd), *old = NULL, *text = NULL;
	char line[SIGNING_LINE_MAX];
	int r = -ENOMEM;

	if (chain)
		old = signing_links_of(link->from, chain);
	if (old && strlen(old) > (SIGNING_KEYS_MAX - 2) * SIGNING_LINE_MAX)
		r = -EMSGSIZE;
	else if (old && asprintf(&text, "%s%s", old, signing_link_format(link, line)) >= 0)
		r = disk_replace(keyd_fd, CHAIN_NAME, text, strlen(text));
	if (r < 0)
		keys_error_set(err, "keyd/" CHAIN_NAME ": %s", strerror(-r));
	return r;
}
