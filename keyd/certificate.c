#include "keyd/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/date.h"
#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/head.h"
#include "keyd/signed_json.h"

static json_t *time_json(int64_t t)
{
	char text[DATE_TEXT_MAX];

	return json_string(date_format(t, text));
}

/* Who had the old root key sealed to him, and what became of that copy. */
static json_t *recovery(const struct certificate_facts *f)
{
	json_t *rows, *row;
	size_t i;

	if (!f->recovery)
		return json_string("not known: the list of recovery copies could not be read");
	if (json_array_size(f->recovery) == 0)
		return json_string("none: no recovery copies exist");
	rows = json_array();
	json_array_foreach((json_t *)f->recovery, i, row)
	{
		const char *may = json_string_value(json_object_get(row, "may_remain"));

		json_array_append_new(rows,
			json_pack("{s:O*, s:O*, s:O*, s:s}", "name", json_object_get(row, "name"), "public_key",
				json_object_get(row, "public_key"), "path", json_object_get(row, "path"), "old_copy",
				may ? may : "overwritten and removed"));
	}
	return rows;
}

static void add_recovery_copies(json_t *remains, const json_t *rows)
{
	const json_t *row;
	size_t i;

	json_array_foreach((json_t *)rows, i, row)
	{
		const char *may = json_string_value(json_object_get(row, "may_remain"));

		if (may)
			json_array_append_new(remains,
				json_sprintf("recovery key %s: %s; with that key it would open old backups of the key state",
					json_string_value(json_object_get(row, "name")), may));
	}
}

static json_t *remains(const struct certificate_facts *f)
{
	json_t *o = json_pack("[s, s, s, s]",
		"the ciphertext in the store and in its backups, which no key opens any more: sizes, counts, "
		"times",
		"the record of who had access, when and why; file names in it are ciphertext too",
		"copies that programs made outside the share, while they had access",
		"any copy of the slot file that was taken before: it would open old backups of the key "
		"state");
	add_recovery_copies(o, f->recovery);
	return o;
}

static json_t *separation(const struct certificate_facts *f)
{
	if (f->embedded)
		return json_string("none: one user holds all roles; this is evidence against outsiders only");
	return json_string("roles are held by groups of the host; root of the host is trusted");
}

static json_t *decided(const struct certificate_facts *f)
{
	return json_pack("{s:s, s:o, s:o, s:s, s:o, s:o}", "by", "the clock", "due",
		time_json(f->destruction->due), "relationship_end", time_json(f->client->ended_on),
		"end_recorded_by", f->client->end_recorded_by, "end_recorded_at",
		time_json(f->client->end_recorded_at), "intended_at", time_json(f->destruction->intent_at));
}

/* Two persons, where roles are separate.  Of before that was asked for, one. */
static json_t *transferred(const json_t *t)
{
	const char *const texts[] = {"key", "handed_over_by", "asked_by", "confirmed_by"};
	const char *const times[] = {"handed_over_at", "asked_at", "confirmed_at"};
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (json_is_string(json_object_get(t, texts[i])))
			json_object_set(o, texts[i], json_object_get(t, texts[i]));
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		if (json_is_integer(json_object_get(t, times[i])))
			json_object_set_new(o, times[i], time_json(json_integer_value(json_object_get(t, times[i]))));
	return o;
}

int certificate_make(const struct certificate_facts *f, json_t **ret)
{
	json_t *c;

	c = json_pack("{s:i, s:s, s:{s:s, s:s, s:s}, s:{s:s, s:s}, s:{s:s, s:s, s:s}}", "version", 1, "kind",
		"destruction", "client", "client", f->client->client, "id", f->client->hex, "name",
		f->client->name, "rule", "text", f->destruction->rule, "source", f->destruction->source,
		"policy", "name", f->policy->name, "version", f->policy->version, "hash", f->policy->text_hash);
	if (!c)
		return -ENOMEM;
	json_object_set_new(c, "decided", decided(f));
	if (f->transfer)
		json_object_set_new(c, "transferred_to", transferred(f->transfer));
	if (f->notice)
		json_object_set_new(c, "notice", json_deep_copy(f->notice));
	json_object_set_new(c, "destroyed_at", time_json(f->destroyed_at));
	json_object_set_new(c, "method",
		json_string(
			"the client's key and key tree were left out of a new key state under a fresh root "
			"key, and the "
			"slots that held the old root key were overwritten in place, synced and read back"));
	json_object_set_new(c, "key_generation",
		json_pack("{s:I, s:I}", "before", (json_int_t)f->destruction->generation, "after",
			(json_int_t)f->destruction->generation + 1));
	json_object_set_new(c, "slots",
		f->slots ? json_deep_copy(f->slots) : json_array());
	json_object_set_new(c, "recovery", recovery(f));
	json_object_set_new(c, "remains", remains(f));
	json_object_set_new(c, "separation", separation(f));
	json_object_set_new(c, "mode", json_string(f->embedded ? "embedded" : "installed"));
	if (f->policy->controller)
		json_object_set_new(c, "controller", json_string(f->policy->controller));
	if (f->policy->contact)
		json_object_set_new(c, "contact", json_string(f->policy->contact));
	if (f->head)
		json_object_set_new(c, "ledger_head", head_json(f->head));
	*ret = c;
	return 0;
}

int certificate_sign(const struct keyring *k, const json_t *certificate, char **ret_text,
	char ret_signature[2 * SIGNATURE_BYTES + 1])
{
	return signed_json_sign(k, CERTIFICATE_CONTEXT, certificate, ret_text, ret_signature);
}

int certificate_check(
	const uint8_t public_key[PUBLIC_KEY_BYTES], const json_t *certificate, const char *signature)
{
	return signed_json_check(public_key, CERTIFICATE_CONTEXT, certificate, signature);
}

json_t *certificate_envelope(
	const json_t *certificate, const char *signature, const uint8_t public_key[PUBLIC_KEY_BYTES])
{
	char hex[2 * PUBLIC_KEY_BYTES + 1];

	sodium_bin2hex(hex, sizeof(hex), public_key, PUBLIC_KEY_BYTES);
	return json_pack(
		"{s:O, s:s, s:s}", "certificate", certificate, "signature", signature, "public_key", hex);
}

int certificate_store(int keyd_fd, const char *client, const json_t *certificate, const char *signature,
	const uint8_t public_key[PUBLIC_KEY_BYTES])
{
	scoped(close_fdp) int fd = openat(keyd_fd, "certificates", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	json_t *envelope = certificate_envelope(certificate, signature, public_key);
	scoped(freep) char *text = NULL;
	char name[CLIENT_NAME_MAX + 40];

	text = envelope ? json_dumps(envelope, JSON_SORT_KEYS | JSON_INDENT(2)) : NULL;
	json_decref(envelope);
	if (!text)
		return -ENOMEM;
	if (fd < 0)
		return -errno;
	snprintf(name, sizeof(name), "%s.json", client);
	return disk_replace(fd, name, text, strlen(text));
}
