#include "fs/store/sector.h"

#include <assert.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "common/bytes.h"
#include "fs/store/header.h"

#define OVERHEAD 64
#define AD_BYTES 32
static_assert(OVERHEAD + SECTOR_DATA == SECTOR_BYTES, "table in sector.h");

static void associated_data(const struct cipher_file *f, uint64_t index, size_t n, uint8_t ad[AD_BYTES])
{
	struct bytes_writer w;

	bytes_writer_init(&w, ad, AD_BYTES);
	bytes_put_u8(&w, HEADER_FORMAT);
	bytes_put_u8(&w, f->suite);
	bytes_put_u16(&w, (uint16_t)n);
	bytes_put_zeros(&w, 4);
	bytes_put_u64(&w, index);
	bytes_put(&w, f->id.b, sizeof(f->id.b));
}

int sector_seal(const struct cipher_file *f, const struct cipher_nonce *nonce, uint64_t index,
	const uint8_t *plain, size_t n, uint8_t out[SECTOR_BYTES])
{
	struct bytes_writer w;
	uint8_t ad[AD_BYTES];

	assert(n > 0 && n <= SECTOR_DATA);
	associated_data(f, index, n, ad);
	bytes_writer_init(&w, out, OVERHEAD);
	bytes_put(&w, nonce->salt, sizeof(nonce->salt));
	bytes_put_u64(&w, nonce->counter);
	bytes_put_u16(&w, (uint16_t)n);
	bytes_put_zeros(&w, 6 + 32);
	memset(out + OVERHEAD + n, 0, SECTOR_DATA - n);
	return cipher_seal(f, nonce, ad, sizeof(ad), plain, n, out + OVERHEAD, out + 32);
}

static int open_checked(
	const struct cipher_file *f, uint64_t index, const uint8_t *in, uint8_t *plain, size_t *ret_n)
{
	struct cipher_nonce nonce;
	struct bytes_reader r;
	uint8_t ad[AD_BYTES];
	size_t n;

	bytes_reader_init(&r, in, OVERHEAD);
	bytes_get(&r, nonce.salt, sizeof(nonce.salt));
	nonce.counter = bytes_get_u64(&r);
	n = bytes_get_u16(&r);
	if (!bytes_get_zeros(&r, 6) || !bytes_get_ref(&r, CIPHER_TAG_BYTES) ||
		!bytes_get_zeros(&r, 32 - CIPHER_TAG_BYTES) || n < 1 || n > SECTOR_DATA)
		return -EBADMSG;
	if (n < SECTOR_DATA && !bytes_are_zero(in + OVERHEAD + n, SECTOR_DATA - n))
		return -EBADMSG;
	*ret_n = n;
	associated_data(f, index, n, ad);
	return cipher_open(f, &nonce, ad, sizeof(ad), in + OVERHEAD, n, in + 32, plain);
}

int sector_open(const struct cipher_file *f, uint64_t index, const uint8_t in[SECTOR_BYTES],
	uint8_t plain[SECTOR_DATA], size_t *ret_n)
{
	size_t n = 0;
	int r;

	r = open_checked(f, index, in, plain, &n);
	if (r < 0) {
		memset(plain, 0, SECTOR_DATA);
		return r;
	}
	if (n < SECTOR_DATA)
		memset(plain + n, 0, SECTOR_DATA - n);
	*ret_n = n;
	return 0;
}

bool sector_is_hole(const uint8_t in[SECTOR_BYTES])
{
	/* Salts are random: the first bytes tell for all but holes. */
	return bytes_are_zero(in, CIPHER_SALT_BYTES) && bytes_are_zero(in, SECTOR_BYTES);
}
