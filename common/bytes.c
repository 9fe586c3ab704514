#include "common/bytes.h"

#include <string.h>

bool bytes_are_zero(const void *buf, size_t n)
{
	const uint8_t *p = buf;

	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* The next n bytes, or NULL: from then on the reader stays failed. */
static const uint8_t *reader_take(struct bytes_reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (r->failed || n > (size_t)(r->end - r->p)) {
		r->failed = true;
		return NULL;
	}
	r->p += n;
	return p;
}

static uint64_t reader_number(struct bytes_reader *r, size_t n)
{
	const uint8_t *p = reader_take(r, n);
	uint64_t v = 0;

	if (!p)
		return 0;
	for (size_t i = n; i > 0; i--)
		v = v << 8 | p[i - 1];
	return v;
}

void bytes_reader_init(struct bytes_reader *r, const void *buf, size_t n)
{
	r->p = buf;
	r->end = r->p + n;
	r->failed = false;
}

uint8_t bytes_get_u8(struct bytes_reader *r)
{
	return (uint8_t)reader_number(r, 1);
}

uint16_t bytes_get_u16(struct bytes_reader *r)
{
	return (uint16_t)reader_number(r, 2);
}

uint32_t bytes_get_u32(struct bytes_reader *r)
{
	return (uint32_t)reader_number(r, 4);
}

uint64_t bytes_get_u64(struct bytes_reader *r)
{
	return reader_number(r, 8);
}

void bytes_get(struct bytes_reader *r, void *to, size_t n)
{
	const uint8_t *p = reader_take(r, n);

	if (n == 0)
		return;
	if (p)
		memcpy(to, p, n);
	else
		memset(to, 0, n);
}

const uint8_t *bytes_get_ref(struct bytes_reader *r, size_t n)
{
	return reader_take(r, n);
}

bool bytes_get_zeros(struct bytes_reader *r, size_t n)
{
	const uint8_t *p = reader_take(r, n);

	if (p && n > 0 && !bytes_are_zero(p, n))
		r->failed = true;
	return !r->failed;
}

size_t bytes_reader_left(const struct bytes_reader *r)
{
	return r->failed ? 0 : (size_t)(r->end - r->p);
}

bool bytes_reader_end(const struct bytes_reader *r)
{
	return !r->failed && r->p == r->end;
}

static uint8_t *writer_take(struct bytes_writer *w, size_t n)
{
	uint8_t *p = w->p;

	if (w->failed || n > (size_t)(w->end - w->p)) {
		w->failed = true;
		return NULL;
	}
	w->p += n;
	return p;
}

static void writer_number(struct bytes_writer *w, uint64_t v, size_t n)
{
	uint8_t *p = writer_take(w, n);

	if (!p)
		return;
	for (size_t i = 0; i < n; i++, v >>= 8)
		p[i] = (uint8_t)v;
}

void bytes_writer_init(struct bytes_writer *w, void *buf, size_t n)
{
	w->start = w->p = buf;
	w->end = w->start + n;
	w->failed = false;
}

void bytes_put_u8(struct bytes_writer *w, uint8_t v)
{
	writer_number(w, v, 1);
}

void bytes_put_u16(struct bytes_writer *w, uint16_t v)
{
	writer_number(w, v, 2);
}

void bytes_put_u32(struct bytes_writer *w, uint32_t v)
{
	writer_number(w, v, 4);
}

void bytes_put_u64(struct bytes_writer *w, uint64_t v)
{
	writer_number(w, v, 8);
}

void bytes_put(struct bytes_writer *w, const void *from, size_t n)
{
	uint8_t *p = writer_take(w, n);

	if (p && n > 0)
		memcpy(p, from, n);
}

void bytes_put_zeros(struct bytes_writer *w, size_t n)
{
	uint8_t *p = writer_take(w, n);

	if (p && n > 0)
		memset(p, 0, n);
}

size_t bytes_writer_size(const struct bytes_writer *w)
{
	return (size_t)(w->p - w->start);
}

bool bytes_writer_ok(const struct bytes_writer *w)
{
	return !w->failed;
}
