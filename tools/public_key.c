#include "tools/public_key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/date.h"
#include "common/scope.h"
#include "fs/broker/ledger_verify.h"

_Static_assert(CHAIN_KEY_BYTES == PUBLIC_KEY_BYTES, "one key signs heads and certificates");

void public_key_done(struct public_key *k)
{
	free(k->links);
	k->links = NULL;
}

static bool parse_line(const char *line, uint8_t ret[PUBLIC_KEY_BYTES])
{
	size_t n = 0, len = strcspn(line, "\n");

	if (sodium_hex2bin(ret, PUBLIC_KEY_BYTES, line, len, NULL, &n, NULL) == 0 && n == PUBLIC_KEY_BYTES)
		return true;
	return sodium_base642bin(ret, PUBLIC_KEY_BYTES, line, len, NULL, &n, NULL, sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       n == PUBLIC_KEY_BYTES;
}

bool public_key_parse(const char *text, const char *links, struct public_key *ret)
{
	const char *newline = strchr(text, '\n');

	*ret = (struct public_key){0};
	if (!parse_line(text, ret->b))
		return false;
	if (!links)
		links = newline ? newline + 1 : "";
	signing_keys_collect(ret->b, links, &ret->all);
	ret->links = strdup(links);
	return true;
}

bool public_key_any(const struct public_key *k, const char *when, int (*check)(const uint8_t *key, const void *arg),
	const void *arg)
{
	int64_t at = 0;

	if (when && date_parse(when, 0, &at) < 0)
		at = 0;
	for (size_t i = 0; i < k->all.n; i++)
		if (at <= k->all.keys[i].until && check(k->all.keys[i].b, arg) == 0)
			return true;
	return false;
}

_Static_assert(LEDGER_KEYS_MAX == SIGNING_KEYS_MAX, "as many as there may be");

void public_key_ledger(const struct public_key *k, struct ledger_keys *ret)
{
	ret->n = k->all.n;
	for (size_t i = 0; i < ret->n; i++) {
		memcpy(ret->keys[i].b, k->all.keys[i].b, sizeof(ret->keys[i].b));
		ret->keys[i].until = k->all.keys[i].until;
	}
}

json_t *public_key_rows(const struct public_key *k)
{
	char hex[2 * PUBLIC_KEY_BYTES + 1];
	json_t *rows = json_array();

	for (size_t i = 0; i < k->all.n; i++) {
		sodium_bin2hex(hex, sizeof(hex), k->all.keys[i].b, PUBLIC_KEY_BYTES);
		json_array_append_new(rows, json_pack("{s:s, s:I}", "key", hex, "until", (json_int_t)k->all.keys[i].until));
	}
	return rows;
}

/* malloc'd; NULL and errno. */
static char *read_all(FILE *f)
{
	char *text = NULL;
	size_t room = 0;
	ssize_t n = f ? getdelim(&text, &room, '\0', f) : -1;

	if (f && n < 0 && !ferror(f)) { /* empty */
		free(text);
		return strdup("");
	}
	if (n < 0) {
		free(text);
		return NULL;
	}
	return text;
}

int public_key_read(const char *path, struct public_key *ret)
{
	FILE *f = fopen(path, "re");
	scoped(freep) char *text = read_all(f);
	int e = errno;

	if (f)
		fclose(f);
	if (!text)
		return fail(EXIT_USAGE, "%s: %s", path, strerror(e));
	if (!public_key_parse(text, NULL, ret))
		return fail(EXIT_USAGE, "%s: no public key in it; `coffer public-key` prints it", path);
	return EXIT_OK;
}

static char *read_below(struct tool *t, const char *name)
{
	int fd = statedir_open(&t->dir, name, O_RDONLY, 0);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	char *text = read_all(f);

	if (f)
		fclose(f);
	return text;
}

int public_key_find(struct tool *t, struct public_key *ret)
{
	scoped(freep) char *line = NULL, *links = NULL;
	json_t *head = NULL;
	const char *hex;
	int r;

	r = tool_find_dir(t, true);
	if (r != EXIT_OK)
		return r;
	line = read_below(t, "keyd/signing.pub");
	links = read_below(t, "keyd/signing.chain");
	if (line && public_key_parse(line, links ? links : "", ret))
		return EXIT_OK;
	r = tool_call(t, DAEMON_KEYD, "LedgerHead", NULL, NULL, 0, &head);
	hex = json_string_value(json_object_get(head, "public_key"));
	if (r == EXIT_OK && (!hex || !public_key_parse(hex, json_string_value(json_object_get(head, "links")), ret)))
		r = fail(EXIT_SEALED, "the public key is not to be had while the keys are sealed; `coffer "
				      "unseal` opens them");
	json_decref(head);
	return r;
}

int public_key_get(struct tool *t, const char *path, struct public_key *ret)
{
	int r = path ? public_key_read(path, ret) : public_key_find(t, ret);

	return path || r == EXIT_OK ? r : fail(r, "without it, name the key that must have signed: --pubkey FILE (from `coffer public-key`, there)");
}
