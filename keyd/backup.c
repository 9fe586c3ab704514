#include "keyd/backup.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/methods.h"
#include "keyd/outbox.h"

static int record(struct keyd *k, struct varlink_call *call, const char *to, const json_t *manifest)
{
	struct outbox_entry e = {.kind = "backup", .by = actor_of(call)};
	int r;

	e.detail = json_pack("{s:s, s:O*, s:O*, s:O*}", "to", to, "files", json_object_get(manifest, "files"), "bytes",
		json_object_get(manifest, "bytes"), "key_generation", json_object_get(manifest, "key_generation"));
	r = outbox_put(k, &e);
	(void)outbox_deliver(k);
	return r;
}

int keyd_backup_sign(struct varlink_call *call, json_t *params, void *userdata)
{
	char hex[2 * SIGNATURE_BYTES + 1], public_hex[2 * PUBLIC_KEY_BYTES + 1];
	uint8_t signature[SIGNATURE_BYTES], public_key[PUBLIC_KEY_BYTES];
	scoped(freep) char *text = NULL;
	struct keyd *k = userdata;
	const char *to, *kind;
	json_t *manifest;
	int r;

	if (!params_unpack(call, params, "{s:s, s:o}", "to", &to, "manifest", &manifest) || !params_text(call, "to", to))
		return 0;
	kind = json_string_value(json_object_get(manifest, "kind"));
	if (!kind || strcmp(kind, "backup") != 0)
		return varlink_error(call, "InvalidParameter", "this is no manifest of a backup", NULL);
	text = json_dumps(manifest, JSON_SORT_KEYS | JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	r = record(k, call, to, manifest);
	if (r == 0)
		r = keyring_sign(k->ring, BACKUP_CONTEXT, text, strlen(text), signature);
	if (r < 0)
		return reply_failure(k, call, r, "the backup cannot be recorded");
	keyring_public_key(k->ring, public_key);
	sodium_bin2hex(hex, sizeof(hex), signature, sizeof(signature));
	sodium_bin2hex(public_hex, sizeof(public_hex), public_key, sizeof(public_key));
	return varlink_reply(call, json_pack("{s:s, s:s}", "signature", hex, "public_key", public_hex));
}
