/* What the writer and the reader of a journal have in common.  Internal to common/journal*.c. */
#ifndef COFFER_JOURNAL_IMPL_H
#define COFFER_JOURNAL_IMPL_H

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>

#include "common/ids.h"
#include "common/record.h"

#define PAGE 4096u
#define AT_WRITER PAGE
#define AT_READER (2 * PAGE)
#define AT_RING (3 * PAGE)
#define HEAD_BYTES 32u   /* of a record */
#define CHECKED_FROM 16u /* the checksum covers sequence, length and payload */
#define RING_MIN (16 * PAGE)
#define RING_MAX (1u << 30)
#define KEY_LEN crypto_shorthash_KEYBYTES

_Static_assert(RING_MIN > 2 * (HEAD_BYTES + RECORD_BYTES_MAX + 16), "two records fit the smallest ring");

struct constants {
	uint32_t ring;
	uint64_t id;
	char client[CLIENT_ID_HEX];
	uint8_t key[KEY_LEN];
};

struct writer_page {
	uint64_t head, records, refused;
};

struct reader_page {
	uint64_t released, sequence, check;
};

static inline size_t journal_padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

uint64_t journal_word_check(const uint8_t key[KEY_LEN], const void *p, size_t n);
uint64_t journal_released_check(const struct constants *c, uint64_t released, uint64_t sequence);
int journal_constants_read(int fd, struct constants *ret);	/* -EBADMSG: it is no journal, or damaged */

#endif
