/* Bounded reader and writer over a buffer: the only place that shifts bytes.
 * All integers are little-endian.  Once a call overruns, the object is in error
 * and stays so: check bytes_*_ok() (or _end()) once at the end. */
#ifndef COFFER_BYTES_H
#define COFFER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes_reader {
	const uint8_t *p, *end;
	bool failed;
};

struct bytes_writer {
	uint8_t *start, *p, *end;
	bool failed;
};

void bytes_reader_init(struct bytes_reader *r, const void *buf, size_t n);
uint8_t bytes_get_u8(struct bytes_reader *r);	/* 0 once failed, as all getters */
uint16_t bytes_get_u16(struct bytes_reader *r);
uint32_t bytes_get_u32(struct bytes_reader *r);
uint64_t bytes_get_u64(struct bytes_reader *r);
void bytes_get(struct bytes_reader *r, void *to, size_t n); /* zeroes `to` on failure */
const uint8_t *bytes_get_ref(struct bytes_reader *r, size_t n); /* into the buffer; NULL on failure */
/* n >= 1 bytes of ciphertext or padding are all 0.  For what is no secret: it takes no constant time. */
bool bytes_are_zero(const void *buf, size_t n);
bool bytes_get_zeros(struct bytes_reader *r, size_t n); /* fails unless the next n bytes are 0 */
size_t bytes_reader_left(const struct bytes_reader *r);
bool bytes_reader_end(const struct bytes_reader *r); /* no failure, and all was consumed */

void bytes_writer_init(struct bytes_writer *w, void *buf, size_t n);
void bytes_put_u8(struct bytes_writer *w, uint8_t v);
void bytes_put_u16(struct bytes_writer *w, uint16_t v);
void bytes_put_u32(struct bytes_writer *w, uint32_t v);
void bytes_put_u64(struct bytes_writer *w, uint64_t v);
void bytes_put(struct bytes_writer *w, const void *from, size_t n);
void bytes_put_zeros(struct bytes_writer *w, size_t n);
size_t bytes_writer_size(const struct bytes_writer *w); /* written so far */
bool bytes_writer_ok(const struct bytes_writer *w);

#endif
