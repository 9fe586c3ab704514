#include "fs/store/header.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#include "common/bytes.h"
#include "common/scope.h"
#include "fs/store/cipher.h"

static const uint8_t magic[8] = {'C', 'O', 'F', 'F', 'E', 'R', '\r', '\n'};

#define BOUND_BYTES 40 /* magic .. leaf index: the AAD of the wrap */
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES
#define COMMITMENT_BYTES 32
#define FIXED_BYTES (BOUND_BYTES + NONCE_BYTES + COMMITMENT_BYTES + KEY_BYTES + TAG_BYTES)
#define RECORD_BOUND_BYTES 32
#define RECORD_MAC_BYTES 32
#define KNOWN_FLAGS ((uint32_t)(HEADER_HOLES | HEADER_LINKED))
static_assert(FIXED_BYTES == 144, "table in header.h");
static_assert(BOUND_BYTES == HEADER_PEEK_BYTES, "all that is not sealed");

static const uint8_t personal_wrap[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-file-wrap";
static const uint8_t personal_record[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-file-recs";

struct wrap_keys {
	uint8_t box[KEY_BYTES];
	uint8_t commitment[COMMITMENT_BYTES];
};

static void wrap_keys_wipe(struct wrap_keys *k)
{
	sodium_memzero(k, sizeof(*k));
}

static void wrap_keys_derive(const struct key32 *wrap, struct wrap_keys *ret)
{
	crypto_generichash_blake2b_salt_personal(
		(uint8_t *)ret, sizeof(*ret), NULL, 0, wrap->b, sizeof(wrap->b), NULL, personal_wrap);
}

off_t header_record_offset(const struct header_record *rec)
{
	return HEADER_RECORD_BYTES * (1 + (off_t)(rec->generation & 1));
}

static void record_mac(const struct header *h, const struct key32 *content,
	const uint8_t record[RECORD_BOUND_BYTES], uint8_t mac[RECORD_MAC_BYTES])
{
	scoped(key32_wipe) struct key32 key;
	uint8_t message[FILE_ID_BYTES + RECORD_BOUND_BYTES];

	crypto_generichash_blake2b_salt_personal(
		key.b, sizeof(key.b), NULL, 0, content->b, sizeof(content->b), NULL, personal_record);
	memcpy(message, h->id.b, FILE_ID_BYTES);
	memcpy(message + FILE_ID_BYTES, record, RECORD_BOUND_BYTES);
	crypto_generichash_blake2b(mac, RECORD_MAC_BYTES, message, sizeof(message), key.b, sizeof(key.b));
}

void header_seal_record(const struct header *h, const struct key32 *content, uint8_t out[HEADER_RECORD_BYTES])
{
	struct bytes_writer w;

	assert(h->rec.generation > 0);
	memset(out, 0, HEADER_RECORD_BYTES);
	bytes_writer_init(&w, out, RECORD_BOUND_BYTES);
	bytes_put_u64(&w, h->rec.generation);
	bytes_put_u64(&w, h->rec.floor);
	bytes_put_u32(&w, h->rec.flags);
	bytes_put_u16(&w, h->rec.origin_day);
	bytes_put_u16(&w, h->rec.origin_class);
	bytes_put_u64(&w, h->rec.line);
	record_mac(h, content, out, out + RECORD_BOUND_BYTES);
}

/* False: nobody wrote it, or not all of it, or not us. */
static bool record_open(
	const struct header *h, const struct key32 *content, const uint8_t *in, struct header_record *ret)
{
	struct header_record rec;
	struct bytes_reader r;
	uint8_t mac[RECORD_MAC_BYTES];

	bytes_reader_init(&r, in, HEADER_RECORD_BYTES);
	rec.generation = bytes_get_u64(&r);
	rec.floor = bytes_get_u64(&r);
	rec.flags = bytes_get_u32(&r);
	rec.origin_day = bytes_get_u16(&r);
	rec.origin_class = bytes_get_u16(&r);
	rec.line = bytes_get_u64(&r);
	if (!bytes_get_ref(&r, RECORD_MAC_BYTES))
		return false;
	if (!bytes_get_zeros(&r, HEADER_RECORD_BYTES - RECORD_BOUND_BYTES - RECORD_MAC_BYTES))
		return false;
	if (rec.generation == 0 || (rec.flags & ~KNOWN_FLAGS))
		return false;
	record_mac(h, content, in, mac);
	if (sodium_memcmp(mac, in + RECORD_BOUND_BYTES, sizeof(mac)) != 0)
		return false;
	*ret = rec;
	return true;
}

static int newest_record(
	const struct header *h, const struct key32 *content, const uint8_t *in, struct header_record *ret)
{
	struct header_record rec, best = {0};
	unsigned parity;

	for (parity = 0; parity < 2; parity++) {
		if (!record_open(h, content, in + HEADER_RECORD_BYTES * (1 + parity), &rec))
			continue;
		if ((rec.generation & 1) == parity && rec.generation > best.generation)
			best = rec;
	}
	if (best.generation == 0)
		return -EBADMSG;
	*ret = best;
	return 0;
}

void header_seal(const struct header *h, const struct key32 *wrap, const struct key32 *content,
	uint8_t out[HEADER_BYTES])
{
	scoped(wrap_keys_wipe) struct wrap_keys k;
	struct bytes_writer w;
	uint8_t *nonce = out + BOUND_BYTES;

	memset(out, 0, HEADER_BYTES);
	wrap_keys_derive(wrap, &k);
	bytes_writer_init(&w, out, HEADER_BYTES);
	bytes_put(&w, magic, sizeof(magic));
	bytes_put_u8(&w, HEADER_FORMAT);
	bytes_put_u8(&w, h->suite);
	bytes_put_u8(&w, HEADER_LAYOUT);
	bytes_put_u8(&w, HEADER_KIND_FILE);
	bytes_put_zeros(&w, 4);
	bytes_put(&w, h->id.b, sizeof(h->id.b));
	bytes_put_u64(&w, leaf_index_u64(h->leaf));
	assert(bytes_writer_size(&w) == BOUND_BYTES);
	randombytes_buf(nonce, NONCE_BYTES);
	memcpy(nonce + NONCE_BYTES, k.commitment, COMMITMENT_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + NONCE_BYTES + COMMITMENT_BYTES, NULL, content->b,
		sizeof(content->b), out, BOUND_BYTES, NULL, nonce, k.box);
	header_seal_record(h, content, out + header_record_offset(&h->rec));
}

int header_peek(const uint8_t in[HEADER_PEEK_BYTES], struct header *ret)
{
	struct header h = {0};
	struct bytes_reader r;
	const uint8_t *m;
	uint8_t format, layout, kind;
	bool zeros;

	bytes_reader_init(&r, in, HEADER_PEEK_BYTES);
	m = bytes_get_ref(&r, sizeof(magic));
	format = bytes_get_u8(&r);
	h.suite = bytes_get_u8(&r);
	layout = bytes_get_u8(&r);
	kind = bytes_get_u8(&r);
	zeros = bytes_get_zeros(&r, 4);
	bytes_get(&r, h.id.b, sizeof(h.id.b));
	h.leaf = leaf_index_from_u64(bytes_get_u64(&r));
	if (!m || memcmp(m, magic, sizeof(magic)) != 0 || !zeros)
		return -EBADMSG;
	if (format != HEADER_FORMAT || layout != HEADER_LAYOUT || kind != HEADER_KIND_FILE)
		return -EBADMSG;
	if (!cipher_suite_known(h.suite))
		return -EBADMSG;
	*ret = h;
	return 0;
}

int header_open(const uint8_t in[HEADER_BYTES], const struct key32 *wrap, struct header *ret,
	struct key32 *ret_content)
{
	scoped(wrap_keys_wipe) struct wrap_keys k = {0};
	scoped(key32_wipe) struct key32 content = {0};
	const uint8_t *nonce = in + BOUND_BYTES;
	struct header h;
	int r;

	r = header_peek(in, &h);
	if (r < 0)
		return r;
	if (!bytes_are_zero(in + FIXED_BYTES, HEADER_RECORD_BYTES - FIXED_BYTES) ||
		!bytes_are_zero(in + HEADER_USED_BYTES, HEADER_BYTES - HEADER_USED_BYTES))
		return -EBADMSG;
	wrap_keys_derive(wrap, &k);
	if (sodium_memcmp(nonce + NONCE_BYTES, k.commitment, COMMITMENT_BYTES) != 0)
		return -EBADMSG;
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(content.b, NULL, NULL,
		    nonce + NONCE_BYTES + COMMITMENT_BYTES, KEY_BYTES + TAG_BYTES, in, BOUND_BYTES, nonce,
		    k.box) < 0)
		return -EBADMSG;
	r = newest_record(&h, &content, in, &h.rec);
	if (r < 0)
		return r;
	*ret = h;
	*ret_content = content;
	return 0;
}

uint64_t header_line(const struct header *h)
{
	struct bytes_reader r;

	if (h->rec.line)
		return h->rec.line;
	bytes_reader_init(&r, h->id.b, sizeof(h->id.b));
	return bytes_get_u64(&r);
}
