#include "keyd/slot_note.h"

#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/keyring.h"

#define NAME "slots.json"
#define SIZE_MAX_BYTES 65536
#define ID_HEX (2 * SLOT_ID_BYTES + 1)

static void json_freep(json_t **p)
{
	json_decref(*p);
}

static int get_hex(const char *hex, uint8_t *ret, size_t n)
{
	size_t got;

	return strlen(hex) == 2 * n && sodium_hex2bin(ret, n, hex, 2 * n, NULL, &got, NULL) == 0 && got == n ? 0 : -EBADMSG;
}

static int note_parse(json_t *o, struct slot_note *ret)
{
	const char *name, *kind, *where, *id, *record, *next = NULL, *before = NULL;
	uint8_t face[SLOT_FACE_BYTES];
	json_int_t number, role, generation;
	struct slot_note n = {0};
	int erased;

	if (json_unpack(o, "{s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:b, s?s, s?s}", "number", &number, "name", &name, "kind", &kind,
		    "where", &where, "id", &id, "role", &role, "generation", &generation, "record", &record, "erased",
		    &erased, "next", &next, "before", &before) < 0)
		return -EBADMSG;
	if (number < 0 || number >= SLOT_LIST_MAX || role < SLOT_MEMBER || role > SLOT_LOST || generation < 0 ||
		!slot_name_is_valid(name) || strlen(where) >= SLOT_WHERE_BYTES || slot_kind_parse(kind, &n.ref.kind) < 0 ||
		get_hex(id, n.ref.id, sizeof(n.ref.id)) < 0 || get_hex(record, n.hash, sizeof(n.hash)) < 0)
		return -EBADMSG;
	if (next && (get_hex(next, face, sizeof(face)) < 0 || slot_record_from_face(face, &n.next) < 0 ||
			    memcmp(n.next.head.id, n.ref.id, SLOT_ID_BYTES) != 0))
		return -EBADMSG;
	if (before && get_hex(before, n.before, sizeof(n.before)) < 0)
		return -EBADMSG;
	n.has_next = next;
	n.has_before = before;
	n.ref.number = (uint8_t)number;
	n.ref.role = (enum slot_role)role;
	n.generation = (uint64_t)generation;
	n.erased = erased;
	(void)snprintf(n.ref.name, sizeof(n.ref.name), "%s", name);
	(void)snprintf(n.ref.where, sizeof(n.ref.where), "%s", where);
	*ret = n;
	return 0;
}

static json_t *load(int keyd_fd, int *ret_error)
{
	scoped(freep) uint8_t *raw = NULL;
	json_t *o = NULL;
	size_t n;

	*ret_error = disk_read(keyd_fd, NAME, SIZE_MAX_BYTES, &raw, &n);
	if (*ret_error < 0)
		return NULL;
	o = json_loadb((const char *)raw, n, JSON_REJECT_DUPLICATES, NULL);
	if (!o)
		*ret_error = -EBADMSG;
	return o;
}

static int parse(json_t *file, struct slot_notes *ret)
{
	json_t *slots = json_object_get(json_object_get(file, "set"), "slots"), *v;
	struct slot_notes n = {0};
	size_t i;

	if (!json_is_array(slots) || json_array_size(slots) > SLOT_LIST_MAX)
		return -EBADMSG;
	json_array_foreach(slots, i, v)
		if (note_parse(v, &n.notes[n.count++]) < 0)
			return -EBADMSG;
	*ret = n;
	return 0;
}

int slot_notes_read(int keyd_fd, struct slot_notes *ret)
{
	int r;
	scoped(json_freep) json_t *file = load(keyd_fd, &r);

	return file ? parse(file, ret) : r;
}

static char *canonical(const json_t *set)
{
	return json_dumps(set, JSON_SORT_KEYS | JSON_COMPACT);
}

static int check(const json_t *file, const struct keyring *k)
{
	scoped(freep) char *text = canonical(json_object_get(file, "set"));
	const char *hex = json_string_value(json_object_get(file, "signature"));
	uint8_t signature[SIGNATURE_BYTES], public_key[PUBLIC_KEY_BYTES];

	if (!text || !hex || get_hex(hex, signature, sizeof(signature)) < 0)
		return -EBADMSG;
	keyring_public_key(k, public_key);
	return keyring_signature_check(public_key, SLOT_NOTE_CONTEXT, text, strlen(text), signature) < 0 ? -EKEYREJECTED : 0;
}

int slot_notes_read_signed(int keyd_fd, const struct keyring *k, struct slot_notes *ret)
{
	int r;
	scoped(json_freep) json_t *file = load(keyd_fd, &r);

	if (!file)
		return r;
	r = check(file, k);
	return r < 0 ? r : parse(file, ret);
}

static json_t *note_json(const struct slot_note *n)
{
	char id[ID_HEX], record[ID_HEX], before[ID_HEX], next[2 * SLOT_FACE_BYTES + 1];
	uint8_t face[SLOT_FACE_BYTES];
	json_t *o;

	sodium_bin2hex(id, sizeof(id), n->ref.id, sizeof(n->ref.id));
	sodium_bin2hex(record, sizeof(record), n->hash, sizeof(n->hash));
	o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:I, s:s, s:b}", "number", (int)n->ref.number, "name", n->ref.name,
		"kind", slot_kind_name(n->ref.kind), "where", n->ref.where, "id", id, "role", (int)n->ref.role, "generation",
		(json_int_t)n->generation, "record", record, "erased", (int)n->erased);
	if (n->has_next) {
		slot_record_face(&n->next, face);
		json_object_set_new(o, "next", json_string(sodium_bin2hex(next, sizeof(next), face, sizeof(face))));
	}
	if (n->has_before)
		json_object_set_new(o, "before", json_string(sodium_bin2hex(before, sizeof(before), n->before, sizeof(n->before))));
	return o;
}

int slot_notes_write(int keyd_fd, const struct keyring *k, const struct slot_notes *n)
{
	scoped(json_freep) json_t *slots = json_array(), *file = NULL, *old = NULL;
	scoped(freep) char *text = NULL, *out = NULL;
	char hex[2 * SIGNATURE_BYTES + 1];
	uint8_t signature[SIGNATURE_BYTES];
	json_t *set;
	int r;

	for (size_t i = 0; i < n->count; i++)
		json_array_append_new(slots, note_json(&n->notes[i]));
	set = json_pack("{s:i, s:O}", "version", 1, "slots", slots);
	file = json_pack("{s:o}", "set", set);
	text = file ? canonical(set) : NULL;
	if (!text)
		return -ENOMEM;
	old = load(keyd_fd, &r);
	if (old && json_equal(json_object_get(old, "set"), set) && check(old, k) == 0)
		return 0;
	r = keyring_sign(k, SLOT_NOTE_CONTEXT, text, strlen(text), signature);
	if (r < 0)
		return r;
	sodium_bin2hex(hex, sizeof(hex), signature, sizeof(signature));
	json_object_set_new(file, "signature", json_string(hex));
	out = json_dumps(file, JSON_SORT_KEYS | JSON_INDENT(2));
	return out ? disk_replace(keyd_fd, NAME, out, strlen(out)) : -ENOMEM;
}
