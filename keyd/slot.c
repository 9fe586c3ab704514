/* A record, version 2, integers little-endian:
 *
 *	offset  size  field                         authenticated by   on read
 *	0       8     magic "COFRSLOT"              box (ad)           else: no record
 *	8       2     version = 2                   box (ad)           else refused
 *	10      2     protection, see slot.h        box (ad)
 *	12      4     zero                          box (ad)           must be zero
 *	16      8     Argon2id passes               box (ad)           within bounds; 0 without a text
 *	24      8     Argon2id memory, bytes        box (ad)           within bounds; 0 without a text
 *	32      16    Argon2id salt                 box (ad)
 *	48      32    the slot's public key         box (ad), ring     that of the secret half
 *	80      176   where the protector is        box (ad)           text, zeros behind it
 *	256     104   box of the slot's secret key under the protector
 *	360     8     generation of R               sealed box         > 0
 *	368     88    sealed box to the public key: generation 8, R 32
 *	456     3608  zero                          checksum           must be zero
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
#define VERSION 2
#define HEAD_BYTES 256
#define PLAIN_BYTES (8 + KEY_BYTES)
#define SUM_OFFSET (SLOT_RECORD_BYTES - SLOT_SUM_BYTES)
#define PAD_BYTES (SUM_OFFSET - SLOT_USED_BYTES)

static_assert(sizeof(((struct slot_record *)0)->sealed_key) == KEY_BYTES + WRAP_OVERHEAD, "the table above");
static_assert(sizeof(((struct slot_record *)0)->sealed_root) == PLAIN_BYTES + crypto_box_SEALBYTES, "the table above");
static_assert(HEAD_BYTES + KEY_BYTES + WRAP_OVERHEAD + 8 + PLAIN_BYTES + crypto_box_SEALBYTES == SLOT_USED_BYTES, "the table above");
static_assert(HEAD_BYTES + KEY_BYTES + WRAP_OVERHEAD == SLOT_FACE_BYTES, "the table above");
static_assert(SLOT_SALT_BYTES == crypto_pwhash_SALTBYTES, "Argon2id's salt");
static_assert(SLOT_ID_BYTES == crypto_box_PUBLICKEYBYTES && KEY_BYTES == crypto_box_SECRETKEYBYTES, "an X25519 pair");

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

bool slot_protection_is_text(enum slot_protection p)
{
	return p == SLOT_BY_PASSPHRASE || p == SLOT_BY_CREDENTIAL || p == SLOT_BY_SYSTEMD;
}

static void put_head(const struct slot_head *head, uint8_t out[HEAD_BYTES])
{
	struct bytes_writer w;

	bytes_writer_init(&w, out, HEAD_BYTES);
	bytes_put(&w, MAGIC, MAGIC_BYTES);
	bytes_put_u16(&w, VERSION);
	bytes_put_u16(&w, (uint16_t)head->protection);
	bytes_put_zeros(&w, 4);
	bytes_put_u64(&w, head->kdf.passes);
	bytes_put_u64(&w, head->kdf.memory);
	bytes_put(&w, head->salt, SLOT_SALT_BYTES);
	bytes_put(&w, head->id, SLOT_ID_BYTES);
	bytes_put(&w, head->locator, SLOT_LOCATOR_BYTES);
	assert(bytes_writer_ok(&w) && bytes_writer_size(&w) == HEAD_BYTES);
}

void slot_record_new(const struct slot_head *head, const struct key32 *protector, struct slot_record *ret)
{
	scoped(key32_wipe) struct key32 secret = {0};
	struct slot_record rec = {.head = *head};
	uint8_t ad[HEAD_BYTES];

	crypto_box_keypair(rec.head.id, secret.b);
	put_head(&rec.head, ad);
	wrap_seal(protector, WRAP_SLOT, ad, HEAD_BYTES, secret.b, KEY_BYTES, rec.sealed_key);
	*ret = rec;
}

int slot_record_write(struct slot_record *rec, uint64_t generation, const struct root_key *r, uint8_t out[SLOT_RECORD_BYTES])
{
	uint8_t plain[PLAIN_BYTES];
	struct bytes_writer w;
	int k;

	bytes_writer_init(&w, plain, sizeof(plain));
	bytes_put_u64(&w, generation);
	bytes_put(&w, r->key.b, KEY_BYTES);
	k = crypto_box_seal(rec->sealed_root, plain, sizeof(plain), rec->head.id);
	sodium_memzero(plain, sizeof(plain));
	if (k < 0)
		return -EBADMSG; /* a public key of small order: no slot of ours */
	rec->generation = generation;
	put_head(&rec->head, out);
	bytes_writer_init(&w, out + HEAD_BYTES, SLOT_RECORD_BYTES - HEAD_BYTES);
	bytes_put(&w, rec->sealed_key, sizeof(rec->sealed_key));
	bytes_put_u64(&w, generation);
	bytes_put(&w, rec->sealed_root, sizeof(rec->sealed_root));
	bytes_put_zeros(&w, PAD_BYTES);
	crypto_generichash(out + SUM_OFFSET, SLOT_SUM_BYTES, out, SUM_OFFSET, NULL, 0);
	return 0;
}

static bool protection_is_sound(const struct slot_head *h)
{
	if (h->protection < SLOT_BY_KEY_FILE || h->protection > SLOT_PROTECTION_LAST)
		return false;
	return slot_protection_is_text(h->protection) ? kdf_in_bounds(&h->kdf)
						      : h->kdf.passes == 0 && h->kdf.memory == 0;
}

static bool locator_is_sound(const char locator[SLOT_LOCATOR_BYTES])
{
	size_t n = strnlen(locator, SLOT_LOCATOR_BYTES);
	char text[SLOT_LOCATOR_BYTES];

	if (n == SLOT_LOCATOR_BYTES || !bytes_are_zero(locator + n, SLOT_LOCATOR_BYTES - n))
		return false;
	memcpy(text, locator, sizeof(text));
	return strcmp(utf8_mend(text), locator) == 0;
}

/* Behind the magic.  The reader tells what is too short. */
static int get_face(struct bytes_reader *rd, struct slot_record *rec)
{
	struct slot_head *h = &rec->head;
	uint16_t version = bytes_get_u16(rd);

	if (version != VERSION)
		return -EPROTONOSUPPORT;
	h->protection = bytes_get_u16(rd);
	(void)bytes_get_zeros(rd, 4);
	h->kdf.passes = bytes_get_u64(rd);
	h->kdf.memory = bytes_get_u64(rd);
	bytes_get(rd, h->salt, sizeof(h->salt));
	bytes_get(rd, h->id, sizeof(h->id));
	bytes_get(rd, h->locator, sizeof(h->locator));
	bytes_get(rd, rec->sealed_key, sizeof(rec->sealed_key));
	return protection_is_sound(h) && locator_is_sound(h->locator) ? 0 : -EBADMSG;
}

int slot_record_parse(const uint8_t buf[SLOT_RECORD_BYTES], struct slot_record *ret)
{
	struct slot_record rec = {0};
	struct bytes_reader rd;
	uint8_t sum[SLOT_SUM_BYTES];
	int r;

	bytes_reader_init(&rd, buf, SLOT_RECORD_BYTES);
	if (memcmp(bytes_get_ref(&rd, MAGIC_BYTES), MAGIC, MAGIC_BYTES) != 0)
		return -ENODATA;
	crypto_generichash(sum, sizeof(sum), buf, SUM_OFFSET, NULL, 0);
	if (memcmp(sum, buf + SUM_OFFSET, sizeof(sum)) != 0)
		return -EBADMSG;
	r = get_face(&rd, &rec);
	if (r < 0)
		return r;
	rec.generation = bytes_get_u64(&rd);
	bytes_get(&rd, rec.sealed_root, sizeof(rec.sealed_root));
	(void)bytes_get_zeros(&rd, PAD_BYTES);
	(void)bytes_get_ref(&rd, SLOT_SUM_BYTES);
	if (!bytes_reader_end(&rd) || rec.generation == 0)
		return -EBADMSG;
	*ret = rec;
	return 0;
}

void slot_record_face(const struct slot_record *rec, uint8_t out[SLOT_FACE_BYTES])
{
	put_head(&rec->head, out);
	memcpy(out + HEAD_BYTES, rec->sealed_key, sizeof(rec->sealed_key));
}

int slot_record_from_face(const uint8_t face[SLOT_FACE_BYTES], struct slot_record *ret)
{
	struct slot_record rec = {0};
	struct bytes_reader rd;

	bytes_reader_init(&rd, face, SLOT_FACE_BYTES);
	if (memcmp(bytes_get_ref(&rd, MAGIC_BYTES), MAGIC, MAGIC_BYTES) != 0 || get_face(&rd, &rec) < 0 || !bytes_reader_end(&rd))
		return -EBADMSG;
	*ret = rec;
	return 0;
}

int slot_record_unlock(const struct slot_record *rec, const struct key32 *protector, struct key32 *ret_secret)
{
	scoped(key32_wipe) struct key32 secret = {0};
	uint8_t ad[HEAD_BYTES], id[SLOT_ID_BYTES];
	int r;

	put_head(&rec->head, ad);
	r = wrap_open(protector, WRAP_SLOT, ad, HEAD_BYTES, rec->sealed_key, sizeof(rec->sealed_key), secret.b);
	if (r < 0)
		return r;
	if (crypto_scalarmult_base(id, secret.b) < 0 || memcmp(id, rec->head.id, sizeof(id)) != 0)
		return -EBADMSG;
	*ret_secret = secret;
	return 0;
}

int slot_record_open(const struct slot_record *rec, const struct key32 *secret, struct root_key *ret)
{
	uint8_t plain[PLAIN_BYTES];
	struct bytes_reader rd;
	int r = -EBADMSG;

	if (crypto_box_seal_open(plain, rec->sealed_root, sizeof(rec->sealed_root), rec->head.id, secret->b) == 0) {
		bytes_reader_init(&rd, plain, sizeof(plain));
		if (bytes_get_u64(&rd) == rec->generation) {
			bytes_get(&rd, ret->key.b, KEY_BYTES);
			r = 0;
		}
	}
	sodium_memzero(plain, sizeof(plain));
	return r;
}
