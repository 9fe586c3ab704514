#include "tools/public_key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "common/scope.h"
#include "fs/broker/ledger_verify.h"

_Static_assert(CHAIN_KEY_BYTES == PUBLIC_KEY_BYTES, "one key signs heads and certificates");

bool public_key_parse(const char *line, struct public_key *ret)
{
	size_t n = 0, len = strcspn(line, "\n");

	if (sodium_hex2bin(ret->b, sizeof(ret->b), line, len, NULL, &n, NULL) == 0 && n == sizeof(ret->b))
		return true;
	return sodium_base642bin(ret->b, sizeof(ret->b), line, len, NULL, &n, NULL,
		       sodium_base64_VARIANT_ORIGINAL) == 0 &&
	       n == sizeof(ret->b);
}

int public_key_read(const char *path, struct public_key *ret)
{
	char line[256] = "";
	FILE *f = fopen(path, "re");

	if (!f)
		return fail(EXIT_USAGE, "%s: %s", path, strerror(errno));
	if (!fgets(line, sizeof(line), f))
		*line = '\0';
	fclose(f);
	if (!public_key_parse(line, ret))
		return fail(EXIT_USAGE, "%s: no public key in it; `coffer public-key` prints it", path);
	return EXIT_OK;
}

int public_key_find(struct tool *t, struct public_key *ret)
{
	scoped(close_fdp) int fd = -1;
	json_t *head = NULL;
	char line[256] = "";
	const char *hex;
	int r;

	r = tool_find_dir(t, true);
	if (r != EXIT_OK)
		return r;
	fd = statedir_open(&t->dir, "keyd/signing.pub", O_RDONLY, 0);
	if (fd >= 0 && read(fd, line, sizeof(line) - 1) > 0 && public_key_parse(line, ret))
		return EXIT_OK;
	r = tool_call(t, DAEMON_KEYD, "LedgerHead", NULL, NULL, 0, &head);
	hex = json_string_value(json_object_get(head, "public_key"));
	if (r == EXIT_OK && (!hex || !public_key_parse(hex, ret)))
		r = fail(EXIT_SEALED, "the public key is not to be had while the keys are sealed; `coffer "
				      "unseal` opens them");
	json_decref(head);
	return r;
}

int public_key_get(struct tool *t, const char *path, struct public_key *ret)
{
	return path ? public_key_read(path, ret) : public_key_find(t, ret);
}
