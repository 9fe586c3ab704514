/* The signing keys of an installation, one after another.  When the key is exchanged, the old one signs the new one,
 * so that who trusts the old one may trust the new; and the new one signs the old one, so that who trusts the new
 * one may still believe what the old one signed while it was in force.  Pure. */
#ifndef COFFER_SIGNING_H
#define COFFER_SIGNING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIGNING_KEY_BYTES 32
#define SIGNING_SIGNATURE_BYTES 64
#define SIGNING_CONTEXT "coffer-signing"

struct signing_link {
	uint8_t from[SIGNING_KEY_BYTES], to[SIGNING_KEY_BYTES];
	int64_t at; /* seconds: `from` signed until then, `to` since */
	uint8_t by_from[SIGNING_SIGNATURE_BYTES], by_to[SIGNING_SIGNATURE_BYTES];
};

/* What both sign, in the context above (keyring_sign()); returns the length. */
#define SIGNING_TEXT_MAX 192
size_t signing_link_text(const struct signing_link *l, char buf[SIGNING_TEXT_MAX]);

/* One line, with its newline; returns buf. */
#define SIGNING_LINE_MAX 512
char *signing_link_format(const struct signing_link *l, char buf[SIGNING_LINE_MAX]);
/* Ends at a newline or NUL.  -EINVAL: no such line.  -EBADMSG: not signed by both. */
int signing_link_parse(const char *line, struct signing_link *ret);

#define SIGNING_KEYS_MAX 64
struct signing_key {
	uint8_t b[SIGNING_KEY_BYTES];
	int64_t from, until; /* 0, INT64_MAX: not known to begin or end */
};
struct signing_keys {
	size_t n;
	struct signing_key keys[SIGNING_KEYS_MAX];
};
/* `trusted`, and what the links in `text` (lines; others are passed over) vouch for, in both directions; `trusted`
 * comes first. */
void signing_keys_collect(const uint8_t trusted[SIGNING_KEY_BYTES], const char *text, struct signing_keys *ret);
/* NULL: none of them. */
const struct signing_key *signing_keys_find(const struct signing_keys *keys, const uint8_t key[SIGNING_KEY_BYTES]);

/* The lines of `text` by which one comes back from `key` to the first, oldest first; malloc'd.  What leads elsewhere was
 * written for an exchange that did not take place. */
char *signing_links_of(const uint8_t key[SIGNING_KEY_BYTES], const char *text);

#endif
