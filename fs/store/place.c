#include "fs/store/place.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/base64url.h"
#include "common/bytes.h"

#define VERSION 1
#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING

static const uint8_t personal_file[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-place-fil";
static const uint8_t personal_dir[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-place-dir";

/* The id has 16 bytes, so the entry needs no length before it. */
static void mac_of(const struct key32 *key, const uint8_t *personal, const uint8_t id[16], const char *entry,
	struct place_mac *ret)
{
	uint8_t message[16 + 256];
	size_t n = strnlen(entry, 256);

	memcpy(message, id, 16);
	memcpy(message + 16, entry, n);
	crypto_generichash_blake2b_salt_personal(
		ret->b, sizeof(ret->b), message, 16 + n, key->b, sizeof(key->b), NULL, personal);
}

void place_of_file(
	const struct key32 *parent, const struct file_id *id, const char *entry, struct place_mac *ret)
{
	mac_of(parent, personal_file, id->b, entry, ret);
}

void place_dir_bytes(const struct dir_id *id, uint8_t out[DIR_ID_BYTES])
{
	struct bytes_writer w;

	bytes_writer_init(&w, out, DIR_ID_BYTES);
	bytes_put_u64(&w, leaf_index_u64(id->leaf));
	bytes_put(&w, id->random, sizeof(id->random));
}

void place_of_dir(
	const struct key32 *parent, const struct dir_id *id, const char *entry, struct place_mac *ret)
{
	uint8_t bytes[DIR_ID_BYTES];

	place_dir_bytes(id, bytes);
	mac_of(parent, personal_dir, bytes, entry, ret);
}

bool place_fits(const struct place *p, const struct place_mac *mac)
{
	return sodium_memcmp(p->now.b, mac->b, PLACE_MAC_BYTES) == 0 ||
	       sodium_memcmp(p->before.b, mac->b, PLACE_MAC_BYTES) == 0;
}

void place_encode(const struct place *p, uint8_t out[PLACE_BYTES])
{
	struct bytes_writer w;

	bytes_writer_init(&w, out, PLACE_BYTES);
	bytes_put_u8(&w, VERSION);
	bytes_put(&w, p->now.b, PLACE_MAC_BYTES);
	bytes_put(&w, p->before.b, PLACE_MAC_BYTES);
}

int place_decode(const uint8_t *in, size_t n, struct place *ret)
{
	struct bytes_reader r;
	struct place p;
	uint8_t version;

	bytes_reader_init(&r, in, n);
	version = bytes_get_u8(&r);
	bytes_get(&r, p.now.b, PLACE_MAC_BYTES);
	bytes_get(&r, p.before.b, PLACE_MAC_BYTES);
	if (!bytes_reader_end(&r) || version != VERSION)
		return -EBADMSG;
	*ret = p;
	return 0;
}

void place_dir_encode(const struct dir_id *id, const struct place_mac *mac, char out[PLACE_DIR_TEXT])
{
	uint8_t bytes[DIR_ID_BYTES + PLACE_MAC_BYTES];

	place_dir_bytes(id, bytes);
	memcpy(bytes + DIR_ID_BYTES, mac->b, PLACE_MAC_BYTES);
	sodium_bin2base64(out, PLACE_DIR_TEXT, bytes, sizeof(bytes), VARIANT);
}

int place_dir_decode(const char *in, size_t n, struct dir_id *ret, struct place_mac *ret_mac)
{
	uint8_t bytes[DIR_ID_BYTES + PLACE_MAC_BYTES];
	struct bytes_reader r;
	struct dir_id id;
	size_t got;

	if (n != PLACE_DIR_TEXT - 1 ||
		base64url_decode(bytes, sizeof(bytes), in, n, &got) < 0 ||
		got != sizeof(bytes))
		return -EBADMSG;
	bytes_reader_init(&r, bytes, sizeof(bytes));
	id.leaf = leaf_index_from_u64(bytes_get_u64(&r));
	bytes_get(&r, id.random, sizeof(id.random));
	bytes_get(&r, ret_mac->b, PLACE_MAC_BYTES);
	if (id.leaf.class != CLASS_NAMES)
		return -EBADMSG;
	*ret = id;
	return 0;
}
