#include "fs/broker/archive_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "common/bytes.h"

#define FRAME_BYTES (256u << 10) /* of the database: what is unpacked to read one page */
#define LEVEL 6			 /* 9 wins 2 %, and takes twice as long */
#define FRAMES_KEPT 8u		 /* unpacked, of an open file: 2 MiB */
#define ENTRY_BYTES (4u + ARCHIVE_HASH_BYTES)
#define SKIPPABLE 0x184D2A5Eu	 /* of zstd: `zstd -d` passes over such a frame */
#define SKIPPABLE_HEAD 8u
#define TAIL_BYTES 24u		 /* length of the statement, 0, where the index is, magic */
#define FRAMES_MAX (1u << 24)	 /* 4 TiB */

static const uint8_t magic[8] = {'C', 'O', 'F', 'F', 'E', 'R', 'A', '1'};

struct frame {
	int64_t offset;
	uint32_t length;
	uint8_t hash[ARCHIVE_HASH_BYTES];
};

struct kept {
	int64_t frame; /* -1: nothing */
	uint64_t used;
	size_t n;
	uint8_t *bytes;
};

struct archive_file {
	int fd;
	char statement[ARCHIVE_STATEMENT_MAX + 1];
	uint8_t signature[ARCHIVE_SIGNATURE_BYTES];
	int64_t bytes;
	struct frame *frames;
	size_t frames_n;
	ZSTD_DCtx *unpack;
	uint8_t *packed; /* room for the longest frame */
	size_t longest;
	struct kept kept[FRAMES_KEPT];
	uint64_t clock;
};

static int write_all(int fd, const void *from, size_t n)
{
	const uint8_t *p = from;

	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
	}
	return 0;
}

static int read_all(int fd, int64_t offset, void *to, size_t n)
{
	uint8_t *p = to;

	while (n > 0) {
		ssize_t got = pread(fd, p, n, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EUCLEAN;
		p += got;
		n -= (size_t)got;
		offset += got;
	}
	return 0;
}

static void hash_of(const void *bytes, size_t n, uint8_t hash[ARCHIVE_HASH_BYTES])
{
	crypto_generichash(hash, ARCHIVE_HASH_BYTES, bytes, n, NULL, 0);
}

/* ---- writing ---- */

struct packer {
	ZSTD_CCtx *pack;
	uint8_t *plain, *packed, *index;
	size_t room, n, cap; /* of `packed`; entries, and room for them */
};

static void packer_done(struct packer *p)
{
	ZSTD_freeCCtx(p->pack);
	free(p->plain);
	free(p->packed);
	free(p->index);
}

static int packer_init(struct packer *p)
{
	p->room = ZSTD_compressBound(FRAME_BYTES);
	p->pack = ZSTD_createCCtx();
	p->plain = malloc(FRAME_BYTES);
	p->packed = malloc(p->room);
	if (!p->pack || !p->plain || !p->packed)
		return -ENOMEM;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(p->pack, ZSTD_c_compressionLevel, LEVEL)) ||
		ZSTD_isError(ZSTD_CCtx_setParameter(p->pack, ZSTD_c_checksumFlag, 1)))
		return -EIO;
	return 0;
}

static int add_frame(struct packer *p, size_t n, int to_fd, struct archive_index *index)
{
	size_t length = ZSTD_compress2(p->pack, p->packed, p->room, p->plain, n);
	struct bytes_writer w;

	if (ZSTD_isError(length))
		return -ENOMEM;
	if (p->n == p->cap) {
		size_t cap = p->cap ? p->cap * 2 : 64;
		uint8_t *more = realloc(p->index, cap * ENTRY_BYTES);

		if (!more)
			return -ENOMEM;
		p->index = more;
		p->cap = cap;
	}
	bytes_writer_init(&w, p->index + p->n * ENTRY_BYTES, ENTRY_BYTES);
	bytes_put_u32(&w, (uint32_t)length);
	hash_of(p->packed, length, p->index + p->n * ENTRY_BYTES + 4);
	p->n++;
	index->at += (int64_t)length;
	return p->n > FRAMES_MAX ? -EFBIG : write_all(to_fd, p->packed, length);
}

static int write_skippable_head(int fd, size_t n)
{
	uint8_t head[SKIPPABLE_HEAD];
	struct bytes_writer w;

	bytes_writer_init(&w, head, sizeof(head));
	bytes_put_u32(&w, SKIPPABLE);
	bytes_put_u32(&w, (uint32_t)n);
	return write_all(fd, head, sizeof(head));
}

int archive_file_write(int from_fd, int to_fd, const atomic_bool *stop, struct archive_index *ret)
{
	scoped(packer_done) struct packer p = {0};
	struct archive_index index = {0};
	struct stat st;
	int r = packer_init(&p);

	if (r == 0 && fstat(from_fd, &st) < 0)
		r = -errno;
	while (r == 0 && index.bytes < st.st_size) {
		size_t n = st.st_size - index.bytes < FRAME_BYTES ? (size_t)(st.st_size - index.bytes) : FRAME_BYTES;

		if (stop && atomic_load(stop))
			return -ECANCELED;
		r = read_all(from_fd, index.bytes, p.plain, n);
		if (r == 0)
			r = add_frame(&p, n, to_fd, &index);
		index.bytes += (int64_t)n;
	}
	if (r == 0)
		r = write_skippable_head(to_fd, p.n * ENTRY_BYTES);
	if (r == 0)
		r = write_all(to_fd, p.index, p.n * ENTRY_BYTES);
	if (r == 0 && fsync(to_fd) < 0)
		r = -errno;
	if (r < 0)
		return r;
	index.end = index.at + SKIPPABLE_HEAD + (int64_t)(p.n * ENTRY_BYTES);
	hash_of(p.index, p.n * ENTRY_BYTES, index.hash);
	*ret = index;
	return 0;
}

int archive_file_sign(int fd, const struct archive_index *index, const char *statement,
	const uint8_t signature[ARCHIVE_SIGNATURE_BYTES])
{
	size_t n = strlen(statement);
	uint8_t tail[TAIL_BYTES];
	struct bytes_writer w;
	int r;

	if (n == 0 || n > ARCHIVE_STATEMENT_MAX)
		return -EINVAL;
	if (ftruncate(fd, index->end) < 0 || lseek(fd, index->end, SEEK_SET) < 0)
		return -errno;
	bytes_writer_init(&w, tail, sizeof(tail));
	bytes_put_u32(&w, (uint32_t)n);
	bytes_put_u32(&w, 0);
	bytes_put_u64(&w, (uint64_t)index->at);
	bytes_put(&w, magic, sizeof(magic));
	r = write_skippable_head(fd, n + ARCHIVE_SIGNATURE_BYTES + TAIL_BYTES);
	if (r == 0)
		r = write_all(fd, statement, n);
	if (r == 0)
		r = write_all(fd, signature, ARCHIVE_SIGNATURE_BYTES);
	if (r == 0)
		r = write_all(fd, tail, sizeof(tail));
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

/* ---- reading ---- */

static int read_skippable_head(int fd, int64_t at, uint32_t *ret_n)
{
	uint8_t head[SKIPPABLE_HEAD];
	struct bytes_reader b;
	int r = read_all(fd, at, head, sizeof(head));

	if (r < 0)
		return r;
	bytes_reader_init(&b, head, sizeof(head));
	if (bytes_get_u32(&b) != SKIPPABLE)
		return -EUCLEAN;
	*ret_n = bytes_get_u32(&b);
	return 0;
}

static int read_index(struct archive_file *f, int64_t at, int64_t end, const uint8_t wanted[ARCHIVE_HASH_BYTES])
{
	scoped(freep) uint8_t *index = NULL;
	uint8_t hash[ARCHIVE_HASH_BYTES];
	int64_t offset = 0;
	uint32_t n;
	int r = read_skippable_head(f->fd, at, &n);

	if (r < 0)
		return r;
	if (at + SKIPPABLE_HEAD + n != end || n % ENTRY_BYTES || !n || n / ENTRY_BYTES > FRAMES_MAX)
		return -EUCLEAN;
	index = malloc(n);
	f->frames_n = n / ENTRY_BYTES;
	f->frames = calloc(f->frames_n, sizeof(*f->frames));
	if (!index || !f->frames)
		return -ENOMEM;
	r = read_all(f->fd, at + SKIPPABLE_HEAD, index, n);
	if (r < 0)
		return r;
	hash_of(index, n, hash);
	if (sodium_memcmp(hash, wanted, sizeof(hash)) != 0)
		return -EUCLEAN;
	for (size_t i = 0; i < f->frames_n; i++) {
		struct frame *frame = &f->frames[i];
		struct bytes_reader b;

		bytes_reader_init(&b, index + i * ENTRY_BYTES, 4);
		frame->length = bytes_get_u32(&b);
		frame->offset = offset;
		memcpy(frame->hash, index + i * ENTRY_BYTES + 4, ARCHIVE_HASH_BYTES);
		offset += frame->length;
		if (frame->length > f->longest)
			f->longest = frame->length;
	}
	return offset == at && f->longest <= ZSTD_compressBound(FRAME_BYTES) ? 0 : -EUCLEAN;
}

/* What the statement says of the file; the rest of it is the reader's. */
static int read_statement(struct archive_file *f, uint8_t hash[ARCHIVE_HASH_BYTES])
{
	json_auto_t *s = json_loads(f->statement, 0, NULL);
	const char *hex;
	json_int_t bytes;
	size_t n = 0;

	if (json_unpack(s, "{s:s, s:I}", "index", &hex, "bytes", &bytes) < 0 || bytes <= 0 ||
		sodium_hex2bin(hash, ARCHIVE_HASH_BYTES, hex, strlen(hex), NULL, &n, NULL) != 0 || n != ARCHIVE_HASH_BYTES)
		return -EUCLEAN;
	f->bytes = bytes;
	return 0;
}

static int read_end(struct archive_file *f)
{
	uint8_t tail[TAIL_BYTES], hash[ARCHIVE_HASH_BYTES];
	struct bytes_reader b;
	uint32_t n, length;
	int64_t index, at;
	struct stat st;
	int r;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (int64_t)TAIL_BYTES)
		return -EUCLEAN;
	r = read_all(f->fd, st.st_size - TAIL_BYTES, tail, sizeof(tail));
	if (r < 0)
		return r;
	bytes_reader_init(&b, tail, sizeof(tail));
	n = bytes_get_u32(&b);
	length = bytes_get_u32(&b);
	index = (int64_t)bytes_get_u64(&b);
	at = st.st_size - TAIL_BYTES - ARCHIVE_SIGNATURE_BYTES - n - SKIPPABLE_HEAD;
	if (memcmp(tail + TAIL_BYTES - sizeof(magic), magic, sizeof(magic)) != 0 || length != 0 || !n ||
		n > ARCHIVE_STATEMENT_MAX || at < 0 || index < 0 || index > at)
		return -EUCLEAN;
	r = read_skippable_head(f->fd, at, &length);
	if (r == 0 && length != n + ARCHIVE_SIGNATURE_BYTES + TAIL_BYTES)
		r = -EUCLEAN;
	if (r == 0)
		r = read_all(f->fd, at + SKIPPABLE_HEAD, f->statement, n);
	if (r == 0)
		r = read_all(f->fd, at + SKIPPABLE_HEAD + n, f->signature, sizeof(f->signature));
	if (r == 0)
		r = strlen(f->statement) == n ? read_statement(f, hash) : -EUCLEAN;
	return r == 0 ? read_index(f, index, at, hash) : r;
}

int archive_file_open(const char *path, struct archive_file **ret)
{
	scoped(archive_file_closep) struct archive_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < FRAMES_KEPT; i++)
		f->kept[i].frame = -1;
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (f->fd < 0)
		return -errno;
	r = read_end(f);
	if (r < 0)
		return r;
	if ((int64_t)f->frames_n != (f->bytes + FRAME_BYTES - 1) / FRAME_BYTES)
		return -EUCLEAN;
	f->unpack = ZSTD_createDCtx();
	f->packed = malloc(f->longest);
	if (!f->unpack || !f->packed)
		return -ENOMEM;
	*ret = take_ptr(&f);
	return 0;
}

void archive_file_close(struct archive_file *f)
{
	if (!f)
		return;
	close_fdp(&f->fd);
	for (size_t i = 0; i < FRAMES_KEPT; i++)
		free(f->kept[i].bytes);
	ZSTD_freeDCtx(f->unpack);
	free(f->frames);
	free(f->packed);
	free(f);
}

const char *archive_file_statement(const struct archive_file *f)
{
	return f->statement;
}

const uint8_t *archive_file_signature(const struct archive_file *f)
{
	return f->signature;
}

int64_t archive_file_bytes(const struct archive_file *f)
{
	return f->bytes;
}

/* The packed bytes of a frame into f->packed, as they were signed. */
static int read_packed(struct archive_file *f, const struct frame *frame)
{
	uint8_t hash[ARCHIVE_HASH_BYTES];
	int r = read_all(f->fd, frame->offset, f->packed, frame->length);

	if (r < 0)
		return r;
	hash_of(f->packed, frame->length, hash);
	return sodium_memcmp(hash, frame->hash, sizeof(hash)) == 0 ? 0 : -EUCLEAN;
}

static int get_frame(struct archive_file *f, int64_t number, const struct kept **ret)
{
	const struct frame *frame = &f->frames[number];
	struct kept *k = &f->kept[0];
	int64_t left = f->bytes - number * FRAME_BYTES;
	size_t n;
	int r;

	for (size_t i = 0; i < FRAMES_KEPT; i++) {
		if (f->kept[i].frame == number) {
			k = &f->kept[i];
			break;
		}
		if (f->kept[i].used < k->used)
			k = &f->kept[i];
	}
	k->used = ++f->clock;
	*ret = k;
	if (k->frame == number)
		return 0;
	k->frame = -1;
	if (!k->bytes)
		k->bytes = malloc(FRAME_BYTES);
	if (!k->bytes)
		return -ENOMEM;
	r = read_packed(f, frame);
	if (r < 0)
		return r;
	n = ZSTD_decompressDCtx(f->unpack, k->bytes, FRAME_BYTES, f->packed, frame->length);
	if (ZSTD_isError(n) || n != (left < FRAME_BYTES ? (size_t)left : FRAME_BYTES))
		return -EUCLEAN;
	k->n = n;
	k->frame = number;
	return 0;
}

int archive_file_read(struct archive_file *f, int64_t offset, void *to, size_t n)
{
	uint8_t *p = to;

	if (offset < 0 || offset > f->bytes || (int64_t)n > f->bytes - offset)
		return -ERANGE;
	while (n > 0) {
		const struct kept *k;
		size_t at = (size_t)(offset % FRAME_BYTES), now;
		int r = get_frame(f, offset / FRAME_BYTES, &k);

		if (r < 0)
			return r;
		now = k->n - at < n ? k->n - at : n;
		memcpy(p, k->bytes + at, now);
		p += now;
		n -= now;
		offset += (int64_t)now;
	}
	return 0;
}

int archive_file_check(struct archive_file *f, const atomic_bool *stop)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < f->frames_n; i++)
		r = stop && atomic_load(stop) ? -ECANCELED : read_packed(f, &f->frames[i]);
	return r;
}
