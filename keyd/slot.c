/* A record, version 1, integers little-endian:
 *
 *	offset  size  field                         authenticated by   on read
 *	0       8     magic "COFRSLOT"              box (ad)           else: no record
 *	8       2     version = 1                   box (ad)           else refused
 *	10      2     protection (1 key file, 2 passphrase)  box (ad)
 *	12      4     zero                          box (ad)           must be zero
 *	16      8     generation of R               box (ad)           > 0
 *	24      8     sequence                      box (ad)
 *	32      8     Argon2id passes               box (ad)           within bounds; 0 with a key file
 *	40      8     Argon2id memory, bytes        box (ad)           within bounds; 0 with a key file
 *	48      16    Argon2id salt                 box (ad)
 *	64      24    nonce                         box
 *	88      32    commitment to the protector   compared
 *	120     48    R, sealed; tag                box
 *	168     3896  zero                          checksum           must be zero
 *	4064    32    BLAKE2b-256 of bytes 0..4063  (no secret: tells torn from wrong key)
 */
#include "keyd/slot.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/scope.h"
#include "keyd/wrap.h"

#include "common/utf8.h"

#define MAGIC "COFRSLOT"
#define MAGIC_BYTES 8
#define VERSION 1
#define HEAD_BYTES 64
#define SEALED_BYTES (KEY_BYTES + WRAP_OVERHEAD)
#define SUM_BYTES 32
#define SUM_OFFSET (SLOT_RECORD_BYTES - SUM_BYTES)
#define PAD_BYTES (SUM_OFFSET - HEAD_BYTES - SEALED_BYTES)

static_assert(HEAD_BYTES + SEALED_BYTES == 168 && PAD_BYTES == 3896, "the table above");
static_assert(SLOT_SALT_BYTES == crypto_pwhash_SALTBYTES, "Argon2id's salt");

void root_key_wipe(struct root_key *r)
{
	sodium_memzero(r, sizeof(*r));
}

void keys_error_set(struct keys_error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
	utf8_mend(err->text);
	va_end(ap);
}

static bool kdf_in_bounds(const struct slot_kdf *kdf)
{
	return kdf->passes >= 1 && kdf->passes <= SLOT_KDF_PASSES_MAX && kdf->memory >= SLOT_KDF_MEMORY_MIN &&
	       kdf->memory <= SLOT_KDF_MEMORY_MAX;
}

int slot_protector_from_passphrase(const void *passphrase, size_t n, const struct slot_kdf *kdf,
	const uint8_t salt[SLOT_SALT_BYTES], struct key32 *ret)
{
	if (!kdf_in_bounds(kdf))
		return -EINVAL;
	if (crypto_pwhash(ret->b, sizeof(ret->b), passphrase, n, salt, kdf->passes, (size_t)kdf->memory,
		    crypto_pwhash_ALG_ARGON2ID13) < 0)
		return -ENOMEM;
	return 0;
}

void slot_record_seal(const struct slot_head *head, const struct key32 *protector, const struct root_key *r,
	uint8_t out[SLOT_RECORD_BYTES])
{
	struct bytes_writer w;

	bytes_writer_init(&w, out, SLOT_RECORD_BYTES);
	bytes_put(&w, MAGIC, MAGIC_BYTES);
	bytes_put_u16(&w, VERSION);
	bytes_put_u16(&w, (uint16_t)head->protection);
	bytes_put_zeros(&w, 4);
	bytes_put_u64(&w, head->generation);
	bytes_put_u64(&w, head->sequence);
	bytes_put_u64(&w, head->kdf.passes);
	bytes_put_u64(&w, head->kdf.memory);
	bytes_put(&w, head->salt, SLOT_SALT_BYTES);
	assert(bytes_writer_size(&w) == HEAD_BYTES);
	wrap_seal(protector, WRAP_SLOT, out, HEAD_BYTES, r->key.b, KEY_BYTES, out + HEAD_BYTES);
	memset(out + HEAD_BYTES + SEALED_BYTES, 0, PAD_BYTES);
	crypto_generichash(out + SUM_OFFSET, SUM_BYTES, out, SUM_OFFSET, NULL, 0);
}

static bool protection_is_sound(const struct slot_head *h)
{
	if (h->protection == SLOT_BY_KEY_FILE)
		return h->kdf.passes == 0 && h->kdf.memory == 0;
	return h->protection == SLOT_BY_PASSPHRASE && kdf_in_bounds(&h->kdf);
}

int slot_record_parse(const uint8_t buf[SLOT_RECORD_BYTES], struct slot_head *ret)
{
	struct slot_head h = {0};
	struct bytes_reader rd;
	uint8_t sum[SUM_BYTES];
	uint16_t version;

	bytes_reader_init(&rd, buf, SLOT_RECORD_BYTES);
	if (memcmp(bytes_get_ref(&rd, MAGIC_BYTES), MAGIC, MAGIC_BYTES) != 0)
		return -ENODATA;
	crypto_generichash(sum, sizeof(sum), buf, SUM_OFFSET, NULL, 0);
	if (memcmp(sum, buf + SUM_OFFSET, sizeof(sum)) != 0)
		return -EBADMSG;
	version = bytes_get_u16(&rd);
	if (version != VERSION)
		return -EPROTONOSUPPORT;
	h.protection = bytes_get_u16(&rd);
	(void)bytes_get_zeros(&rd, 4);
	h.generation = bytes_get_u64(&rd);
	h.sequence = bytes_get_u64(&rd);
	h.kdf.passes = bytes_get_u64(&rd);
	h.kdf.memory = bytes_get_u64(&rd);
	bytes_get(&rd, h.salt, sizeof(h.salt));
	(void)bytes_get_ref(&rd, SEALED_BYTES);
	(void)bytes_get_zeros(&rd, PAD_BYTES);
	(void)bytes_get_ref(&rd, SUM_BYTES);
	if (!bytes_reader_end(&rd) || h.generation == 0 || !protection_is_sound(&h))
		return -EBADMSG;
	*ret = h;
	return 0;
}

int slot_record_open(
	const uint8_t buf[SLOT_RECORD_BYTES], const struct key32 *protector, struct root_key *ret)
{
	struct slot_head h;
	int r;

	r = slot_record_parse(buf, &h);
	if (r < 0)
		return r;
	return wrap_open(protector, WRAP_SLOT, buf, HEAD_BYTES, buf + HEAD_BYTES, SEALED_BYTES, ret->key.b);
}
