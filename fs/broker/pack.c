#include "fs/broker/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/bytes.h"
#include "common/scope.h"

#define VERSION_DEFLATED 1
#define VERSION_PLAIN 2
#define HEAD_BYTES 7u /* version, records, bytes before deflation */
#define VARINT_MAX 10u
#define LEVEL 1 /* columns of differences: higher levels win little */

enum column {
	TIME,
	SESSION,
	OP,
	FLAGS,
	OUTCOME,
	PATH,
	PATH2,
	PROCESS,
	FILE_INDEX, /* 0: none; n: the n-th of FILES; one more than there were: the next one */
	FILES,
	SIZE,
	BYTES_READ,
	BYTES_WRITTEN,
	DETAIL,
	COLUMNS,
};

/* The most bytes that one record takes in each. */
static const uint8_t widest[COLUMNS] = {VARINT_MAX, VARINT_MAX, 1, 1, 3, VARINT_MAX, VARINT_MAX, VARINT_MAX, 2,
	FILE_ID_BYTES, VARINT_MAX, VARINT_MAX, VARINT_MAX, PACK_DETAIL_MAX};
#define WIDEST_SUM (9 * VARINT_MAX + 1 + 1 + 3 + 2 + FILE_ID_BYTES + PACK_DETAIL_MAX)
#define RAW_MAX (COLUMNS * 4 + PACK_RECORDS_MAX * WIDEST_SUM)

/* ---- numbers: seven bits a byte, the lowest first; differences with the sign in the lowest bit ---- */

static uint8_t *put_varint(uint8_t *p, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		*p++ = (uint8_t)(v | 0x80);
	*p++ = (uint8_t)v;
	return p;
}

static uint8_t *put_difference(uint8_t *p, int64_t v, int64_t *last)
{
	uint64_t d = (uint64_t)v - (uint64_t)*last;

	*last = v;
	return put_varint(p, d << 1 ^ (0 - (d >> 63)));
}

struct cursor {
	const uint8_t *p, *end;
};

/* Beyond the end or too long: 0, and the cursor never reaches its end exactly. */
static inline uint64_t get_varint(struct cursor *c)
{
	uint64_t v = 0;

	for (unsigned shift = 0; c->p < c->end && shift < 64; shift += 7) {
		uint8_t b = *c->p++;

		v |= (uint64_t)(b & 0x7f) << shift;
		if (!(b & 0x80))
			return v;
	}
	c->p = c->end + 1;
	return 0;
}

static inline int64_t get_difference(struct cursor *c, int64_t *last)
{
	uint64_t v = get_varint(c);

	*last = (int64_t)((uint64_t)*last + (v >> 1 ^ (0 - (v & 1))));
	return *last;
}

/* ---- encoding ---- */

#define SLOTS 8192u /* twice the records: half empty at most */

/* The files of the block so far, by hash: number of the file in FILES, or 0. */
struct files {
	uint16_t slots[SLOTS];
	struct file_id ids[PACK_RECORDS_MAX];
	unsigned n;
};

static unsigned file_number(struct files *f, const struct file_id *id)
{
	uint64_t a, b;
	unsigned slot;

	memcpy(&a, id->b, 8);
	memcpy(&b, id->b + 8, 8);
	slot = (unsigned)(((a ^ b * 0x9e3779b97f4a7c15u) * 0xff51afd7ed558ccdu) >> 51);
	for (; f->slots[slot % SLOTS]; slot++)
		if (memcmp(&f->ids[f->slots[slot % SLOTS] - 1], id, sizeof(*id)) == 0)
			return f->slots[slot % SLOTS];
	f->ids[f->n++] = *id;
	f->slots[slot % SLOTS] = (uint16_t)f->n;
	return f->n;
}

static uint8_t *put_column(enum column c, const struct pack_record *records, size_t n, struct files *files, uint8_t *p)
{
	int64_t last = 0;

	if (c == FILES) {
		memcpy(p, files->ids, files->n * sizeof(files->ids[0]));
		return p + files->n * sizeof(files->ids[0]);
	}
	for (const struct pack_record *r = records; r < records + n; r++) {
		switch (c) {
		case TIME: p = put_difference(p, r->time, &last); break;
		case SESSION: p = put_difference(p, r->session, &last); break;
		case OP: *p++ = r->op; break;
		case FLAGS: *p++ = r->flags; break;
		case OUTCOME: p = put_varint(p, r->outcome); break;
		case PATH: p = put_difference(p, r->path, &last); break;
		case PATH2: p = put_varint(p, (uint64_t)r->path2); break;
		case PROCESS: p = put_difference(p, r->process, &last); break;
		case FILE_INDEX: p = put_varint(p, r->has_file ? file_number(files, &r->file) : 0); break;
		case SIZE: p = put_varint(p, (uint64_t)r->size); break;
		case BYTES_READ: p = put_varint(p, (uint64_t)r->bytes_read); break;
		case BYTES_WRITTEN: p = put_varint(p, (uint64_t)r->bytes_written); break;
		case DETAIL:
			*p++ = r->detail_len;
			memcpy(p, r->detail, r->detail_len);
			p += r->detail_len;
			break;
		case FILES:
		case COLUMNS: break;
		}
	}
	return p;
}

/* Columns into `raw`, which has room for RAW_MAX. */
static int put_columns(const struct pack_record *records, size_t n, uint8_t *raw, size_t *ret_n)
{
	scoped(freep) struct files *files = calloc(1, sizeof(*files));
	uint8_t *p = raw + COLUMNS * 4;
	struct bytes_writer head;

	if (!files)
		return -ENOMEM;
	bytes_writer_init(&head, raw, COLUMNS * 4);
	for (enum column c = 0; c < COLUMNS; c++) {
		uint8_t *begin = p;

		p = put_column(c, records, n, files, p);
		bytes_put_u32(&head, (uint32_t)(p - begin));
	}
	*ret_n = (size_t)(p - raw);
	return 0;
}

static void put_head(uint8_t *to, uint8_t version, size_t n, size_t raw_n)
{
	struct bytes_writer head;

	bytes_writer_init(&head, to, HEAD_BYTES);
	bytes_put_u8(&head, version);
	bytes_put_u16(&head, (uint16_t)n);
	bytes_put_u32(&head, (uint32_t)raw_n);
}

int pack_encode(const struct pack_record *records, size_t n, uint8_t **ret, size_t *ret_n)
{
	scoped(freep) uint8_t *raw = malloc(RAW_MAX), *out = NULL;
	uLongf deflated;
	size_t raw_n;
	int r;

	if (!raw || n < 1 || n > PACK_RECORDS_MAX)
		return raw ? -EINVAL : -ENOMEM;
	r = put_columns(records, n, raw, &raw_n);
	if (r < 0)
		return r;
	deflated = compressBound((uLong)raw_n);
	out = malloc(HEAD_BYTES + deflated);
	if (!out || compress2(out + HEAD_BYTES, &deflated, raw, (uLong)raw_n, LEVEL) != Z_OK)
		return -ENOMEM;
	put_head(out, VERSION_DEFLATED, n, raw_n);
	*ret = take_ptr(&out);
	*ret_n = HEAD_BYTES + deflated;
	return 0;
}

int pack_encode_plain(const struct pack_record *records, size_t n, uint8_t **ret, size_t *ret_n)
{
	scoped(freep) uint8_t *out = malloc(HEAD_BYTES + RAW_MAX);
	size_t raw_n;
	int r;

	if (!out || n < 1 || n > PACK_RECORDS_MAX)
		return out ? -EINVAL : -ENOMEM;
	r = put_columns(records, n, out + HEAD_BYTES, &raw_n);
	if (r < 0)
		return r;
	put_head(out, VERSION_PLAIN, n, raw_n);
	*ret = take_ptr(&out);
	*ret_n = HEAD_BYTES + raw_n;
	return 0;
}

/* ---- decoding ---- */

/* A file is named by its first record, so the dictionary is read along. */
static bool get_file(struct cursor *index, struct cursor *files, const uint8_t *first, unsigned *count, struct pack_record *r)
{
	uint64_t i = get_varint(index);

	r->has_file = i != 0;
	if (i == 0) {
		memset(&r->file, 0, sizeof(r->file));
		return true;
	}
	if (i > *count) {
		if (i != *count + 1 || files->end - files->p < FILE_ID_BYTES)
			return false;
		files->p += FILE_ID_BYTES;
		*count = (unsigned)i;
	}
	memcpy(&r->file, first + (i - 1) * FILE_ID_BYTES, FILE_ID_BYTES);
	return true;
}

static bool get_detail(struct cursor *c, struct pack_record *r)
{
	uint8_t len = c->p < c->end ? *c->p++ : PACK_DETAIL_MAX;

	if (len >= PACK_DETAIL_MAX || c->end - c->p < len)
		return false;
	r->detail_len = len;
	if (len)
		memcpy(r->detail, c->p, len);
	c->p += len;
	return true;
}

/* One form of each: numbers out of range and bytes left over are refused. */
static int get_records(struct cursor *c, struct pack_record *records, size_t n)
{
	const uint8_t *first_file = c[FILES].p;
	int64_t time = 0, session = 0, path = 0, process = 0;
	unsigned files = 0;

	for (struct pack_record *r = records; r < records + n; r++) {
		uint64_t outcome = get_varint(&c[OUTCOME]);

		r->time = get_difference(&c[TIME], &time);
		r->session = get_difference(&c[SESSION], &session);
		r->op = *c[OP].p++;
		r->flags = *c[FLAGS].p++;
		r->outcome = (uint16_t)outcome;
		r->path = get_difference(&c[PATH], &path);
		r->path2 = (int64_t)get_varint(&c[PATH2]);
		r->process = get_difference(&c[PROCESS], &process);
		r->size = (int64_t)get_varint(&c[SIZE]);
		r->bytes_read = (int64_t)get_varint(&c[BYTES_READ]);
		r->bytes_written = (int64_t)get_varint(&c[BYTES_WRITTEN]);
		if (outcome > UINT16_MAX || !get_file(&c[FILE_INDEX], &c[FILES], first_file, &files, r) ||
			!get_detail(&c[DETAIL], r))
			return -EUCLEAN;
	}
	for (enum column i = 0; i < COLUMNS; i++)
		if (c[i].p != c[i].end)
			return -EUCLEAN;
	return 0;
}

static int get_columns(const uint8_t *raw, size_t raw_n, size_t n, struct cursor c[COLUMNS])
{
	const uint8_t *p = raw + COLUMNS * 4, *end = raw + raw_n;
	struct bytes_reader head;

	bytes_reader_init(&head, raw, raw_n);
	for (enum column i = 0; i < COLUMNS; i++) {
		uint32_t length = bytes_get_u32(&head);

		if (length > (size_t)(end - p) || length > n * widest[i])
			return -EUCLEAN;
		c[i] = (struct cursor){p, p + length};
		p += length;
	}
	return p == end && c[OP].end - c[OP].p == (ptrdiff_t)n && c[FLAGS].end - c[FLAGS].p == (ptrdiff_t)n ? 0
													    : -EUCLEAN;
}

static int get_block(const uint8_t *raw, size_t raw_n, size_t count, struct pack_record *records)
{
	struct cursor columns[COLUMNS];
	int r = get_columns(raw, raw_n, count, columns);

	return r == 0 ? get_records(columns, records, count) : r;
}

static int get_deflated(const uint8_t *data, size_t n, size_t raw_n, size_t count, struct pack_record *records)
{
	scoped(freep) uint8_t *raw = malloc(raw_n);
	uLongf got = raw_n;
	int r;

	if (!raw)
		return -ENOMEM;
	r = uncompress(raw, &got, data, (uLong)n);
	if (r == Z_MEM_ERROR)
		return -ENOMEM;
	return r == Z_OK && got == raw_n ? get_block(raw, raw_n, count, records) : -EUCLEAN;
}

int pack_decode(const uint8_t *data, size_t n, struct pack_record *records, size_t *ret_n)
{
	struct bytes_reader head;
	uint8_t version;
	uint16_t count;
	uint32_t raw_n;
	int r;

	bytes_reader_init(&head, data, n);
	version = bytes_get_u8(&head);
	count = bytes_get_u16(&head);
	raw_n = bytes_get_u32(&head);
	if (n < HEAD_BYTES || count < 1 || count > PACK_RECORDS_MAX || raw_n < COLUMNS * 4 || raw_n > RAW_MAX)
		return -EUCLEAN;
	if (version == VERSION_DEFLATED)
		r = get_deflated(data + HEAD_BYTES, n - HEAD_BYTES, raw_n, count, records);
	else if (version == VERSION_PLAIN && n - HEAD_BYTES == raw_n)
		r = get_block(data + HEAD_BYTES, raw_n, count, records);
	else
		r = -EUCLEAN;
	if (r == 0)
		*ret_n = count;
	return r;
}
