/* The ring.  Four parts in one file (doc/format-ledger.md has the table):
 *
 *	0	constants: magic, version, size of the ring, id, client, checksum key; checksum
 *	4096	written by the writer: head (bytes appended since the start), records, refused
 *	8192	written by the reader: released (bytes), sequence, checksum over both
 *	12288	the ring: position p of the stream stands at p modulo its size
 *
 * A record: commit word (its sequence number, stored last) | checksum | sequence | length, 0 | payload,
 *padded with zeros to 8 bytes.  The word after the last record is 0: the writer clears it before it commits,
 *so that bytes of a former lap never look like a record.  The writer maps the ring twice, side by side, so
 *that a record may run over the end. */
#include "common/journal.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/journal_impl.h"
#include "common/record.h"
#include "common/scope.h"

#define MAGIC "COFFERJ1"
#define VERSION 1u
#define HEADER_BYTES 96u
#define CHUNK (256u << 10) /* read at once by the reader; larger than any record */

_Static_assert(crypto_shorthash_BYTES == 8, "a checksum is one word");
_Static_assert(CHUNK > HEAD_BYTES + RECORD_BYTES_MAX + 8, "a record fits a chunk");

struct journal_reader {
	int fd;
	struct constants c;
	uint64_t pos, sequence; /* next record stands at pos; last sequence returned */
	uint64_t released, released_seq;
	uint64_t chunk_pos, chunk_n; /* bytes of the stream in chunk */
	uint8_t chunk[CHUNK];
};

/* ---- both sides ---- */

uint64_t journal_word_check(const uint8_t key[KEY_LEN], const void *p, size_t n)
{
	uint64_t h;

	crypto_shorthash((unsigned char *)&h, p, n, key);
	return h; /* as bytes: the same on disk everywhere */
}

uint64_t journal_released_check(const struct constants *c, uint64_t released, uint64_t sequence)
{
	uint64_t words[2] = {htole64(released), htole64(sequence)};

	return journal_word_check(c->key, words, sizeof(words));
}

static int pread_all(int fd, void *buf, size_t n, uint64_t off)
{
	uint8_t *p = buf;

	while (n) {
		ssize_t got = pread(fd, p, n, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EBADMSG; /* shorter than its header says: cut */
		p += got;
		n -= (size_t)got;
		off += (uint64_t)got;
	}
	return 0;
}

static int pwrite_all(int fd, const void *buf, size_t n, uint64_t off)
{
	const uint8_t *p = buf;

	while (n) {
		ssize_t put = pwrite(fd, p, n, (off_t)off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
		off += (uint64_t)put;
	}
	return 0;
}

static void constants_encode(const struct constants *c, uint8_t buf[HEADER_BYTES])
{
	struct bytes_writer w;

	memset(buf, 0, HEADER_BYTES);
	bytes_writer_init(&w, buf, HEADER_BYTES);
	bytes_put(&w, MAGIC, 8);
	bytes_put_u32(&w, VERSION);
	bytes_put_u32(&w, c->ring);
	bytes_put_u64(&w, c->id);
	bytes_put(&w, c->client, CLIENT_ID_HEX - 1);
	bytes_put(&w, c->key, KEY_LEN);
	bytes_put_zeros(&w, 16);
	uint64_t check = journal_word_check(c->key, buf, HEADER_BYTES - 8);

	bytes_put(&w, &check, 8);
}

static bool client_ok(const char *hex)
{
	return strspn(hex, "0123456789abcdef") == CLIENT_ID_HEX - 1 && !hex[CLIENT_ID_HEX - 1];
}

int journal_constants_read(int fd, struct constants *ret)
{
	uint8_t buf[HEADER_BYTES], magic[8];
	struct constants c = {0};
	struct bytes_reader r;
	uint64_t check;
	struct stat st;
	int e;

	e = pread_all(fd, buf, sizeof(buf), 0);
	if (e < 0)
		return e;
	bytes_reader_init(&r, buf, sizeof(buf));
	bytes_get(&r, magic, sizeof(magic));
	if (memcmp(magic, MAGIC, sizeof(magic)) != 0 || bytes_get_u32(&r) != VERSION)
		return -EBADMSG;
	c.ring = bytes_get_u32(&r);
	c.id = bytes_get_u64(&r);
	bytes_get(&r, c.client, CLIENT_ID_HEX - 1);
	bytes_get(&r, c.key, KEY_LEN);
	if (!bytes_get_zeros(&r, 16))
		return -EBADMSG;
	bytes_get(&r, &check, sizeof(check));
	if (!bytes_reader_end(&r) || check != journal_word_check(c.key, buf, HEADER_BYTES - 8) ||
		!client_ok(c.client))
		return -EBADMSG;
	if (c.ring < RING_MIN || c.ring > RING_MAX || c.ring % PAGE)
		return -EBADMSG;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size != (off_t)AT_RING + c.ring)
		return -EBADMSG;
	*ret = c;
	return 0;
}

/* ---- reader ---- */

static int reader_page_write(int fd, const struct constants *c, uint64_t released, uint64_t sequence)
{
	struct reader_page p = {
		.released = htole64(released),
		.sequence = htole64(sequence),
		.check = journal_released_check(c, released, sequence),
	};

	return pwrite_all(fd, &p, sizeof(p), AT_READER);
}

static int create_in(int fd, uint64_t id, const char *client_hex, uint32_t ring)
{
	struct constants c = {.ring = ring, .id = id};
	uint8_t buf[HEADER_BYTES];
	int r;

	memcpy(c.client, client_hex, CLIENT_ID_HEX);
	randombytes_buf(c.key, sizeof(c.key));
	r = posix_fallocate(fd, 0, (off_t)AT_RING + ring);
	if (r)
		return -r;
	r = reader_page_write(fd, &c, 0, 0);
	if (r < 0)
		return r;
	constants_encode(&c, buf);
	r = pwrite_all(fd, buf, sizeof(buf), 0);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? -errno : 0;
}

int journal_create(
	int dirfd, const char *name, uint64_t id, const char *client_hex, uint32_t bytes, int *ret_fd)
{
	scoped(close_fdp) int fd = -1;
	int r;

	if (bytes < RING_MIN || bytes > RING_MAX || bytes % PAGE || strlen(client_hex) != CLIENT_ID_HEX - 1 ||
		!client_ok(client_hex))
		return -EINVAL;
	if (sodium_init() < 0)
		return -EIO;
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	r = create_in(fd, id, client_hex, bytes);
	if (r == 0 && fcntl(fd, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET}) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, name, 0);
		return r;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

bool journal_reader_writer_lives(const struct journal_reader *r)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(r->fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

int journal_reader_open(int fd, struct journal_reader **ret)
{
	struct journal_reader *r;
	struct reader_page p;
	int e;

	if (sodium_init() < 0)
		return -EIO;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->fd = -1;
	e = journal_constants_read(fd, &r->c);
	if (e == 0)
		e = pread_all(fd, &p, sizeof(p), AT_READER);
	if (e == 0) {
		r->released = r->pos = le64toh(p.released);
		r->released_seq = r->sequence = le64toh(p.sequence);
		if (p.check != journal_released_check(&r->c, r->released, r->released_seq) || r->released % 8)
			e = -EBADMSG;
	}
	if (e < 0) {
		journal_reader_free(r);
		return e;
	}
	r->fd = fd;
	*ret = r;
	return 0;
}

void journal_reader_free(struct journal_reader *r)
{
	if (!r)
		return;
	close_fdp(&r->fd);
	free(r);
}

uint64_t journal_reader_id(const struct journal_reader *r)
{
	return r->c.id;
}

const char *journal_reader_client(const struct journal_reader *r)
{
	return r->c.client;
}

uint64_t journal_reader_released(const struct journal_reader *r)
{
	return r->released_seq;
}

static int ring_read(const struct journal_reader *r, uint64_t pos, void *buf, size_t n)
{
	size_t off = pos % r->c.ring, first = r->c.ring - off;
	int e;

	if (first > n)
		first = n;
	e = pread_all(r->fd, buf, first, AT_RING + off);
	if (e == 0 && n > first)
		e = pread_all(r->fd, (uint8_t *)buf + first, n - first, AT_RING);
	return e;
}

/* pread promises no atomic words either: a head counts once it was read twice alike. */
static int head_read(const struct journal_reader *r, uint64_t *ret)
{
	uint64_t before, head;
	int e;

	e = pread_all(r->fd, &head, sizeof(head), AT_WRITER);
	if (e < 0)
		return e;
	do {
		before = head;
		e = pread_all(r->fd, &head, sizeof(head), AT_WRITER);
		if (e < 0)
			return e;
	} while (head != before);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	*ret = le64toh(head);
	return 0;
}

int journal_reader_head(const struct journal_reader *r, uint64_t *ret)
{
	return head_read(r, ret);
}

uint64_t journal_reader_position(const struct journal_reader *r)
{
	return r->pos;
}

/* A commit word beyond the head counts too: its writer may have died between the two stores.  Only that one
 * record then: what follows it may be in the making. */
static int chunk_fill_one(struct journal_reader *r)
{
	size_t n = HEAD_BYTES + journal_padded(RECORD_BYTES_MAX);
	uint64_t word, length;
	int e;

	e = ring_read(r, r->pos, &word, sizeof(word));
	if (e < 0 || word == 0)
		return e;
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	e = ring_read(r, r->pos, r->chunk, n);
	if (e < 0)
		return e;
	memcpy(&length, r->chunk + 24, sizeof(length));
	length = le64toh(length);
	if (length > RECORD_BYTES_MAX)
		return -EBADMSG;
	r->chunk_n = HEAD_BYTES + journal_padded(length);
	return 1;
}

/* Makes the chunk begin at pos and hold what is committed there.  1: it does; 0: nothing new.  The head is
 * read before the bytes it vouches for. */
static int chunk_fill(struct journal_reader *r)
{
	uint64_t head, n;
	int e;

	e = head_read(r, &head);
	if (e < 0)
		return e;
	r->chunk_pos = r->pos;
	r->chunk_n = 0;
	if (head <= r->pos)
		return chunk_fill_one(r);
	n = head - r->pos;
	if (n > r->c.ring)
		return -EBADMSG;
	if (n > CHUNK)
		n = CHUNK;
	e = ring_read(r, r->pos, r->chunk, n);
	if (e < 0)
		return e;
	r->chunk_n = n;
	return 1;
}

/* Is there a whole record at pos within the chunk? */
static bool chunk_holds(const struct journal_reader *r, const uint8_t **ret, size_t *ret_left)
{
	uint64_t length;

	if (r->pos < r->chunk_pos || r->pos - r->chunk_pos + HEAD_BYTES > r->chunk_n)
		return false;
	*ret = r->chunk + (r->pos - r->chunk_pos);
	*ret_left = r->chunk_n - (r->pos - r->chunk_pos);
	memcpy(&length, *ret + 24, sizeof(length));
	length = le64toh(length);
	return length > RECORD_BYTES_MAX || HEAD_BYTES + journal_padded(length) <= *ret_left;
}

static int take_record(struct journal_reader *r, const uint8_t *at, size_t left, uint8_t *buf, size_t cap,
	size_t *ret_n, uint64_t *ret_seq)
{
	uint64_t words[4];
	size_t n;

	memcpy(words, at, sizeof(words));
	if (le64toh(words[0]) != r->sequence + 1 || words[2] != words[0])
		return -EBADMSG;
	if (le64toh(words[3]) == 0 || le64toh(words[3]) > RECORD_BYTES_MAX)
		return -EBADMSG;
	n = le64toh(words[3]);
	if (HEAD_BYTES + journal_padded(n) > left)
		return -EBADMSG;
	if (words[1] != journal_word_check(r->c.key, at + CHECKED_FROM, HEAD_BYTES + journal_padded(n) - CHECKED_FROM))
		return -EBADMSG;
	if (n > cap)
		return -EMSGSIZE;
	memcpy(buf, at + HEAD_BYTES, n);
	r->pos += HEAD_BYTES + journal_padded(n);
	r->sequence++;
	*ret_n = n;
	*ret_seq = r->sequence;
	return 1;
}

int journal_reader_next(struct journal_reader *r, uint8_t *buf, size_t cap, size_t *ret_n, uint64_t *ret_seq)
{
	const uint8_t *at;
	size_t left;

	if (!chunk_holds(r, &at, &left)) {
		int e = chunk_fill(r);

		if (e <= 0)
			return e;
		if (!chunk_holds(r, &at, &left))
			return -EBADMSG;
	}
	return take_record(r, at, left, buf, cap, ret_n, ret_seq);
}

int journal_reader_release(struct journal_reader *r)
{
	int e;

	if (r->released == r->pos)
		return 0;
	e = reader_page_write(r->fd, &r->c, r->pos, r->sequence);
	if (e < 0)
		return e;
	r->released = r->pos;
	r->released_seq = r->sequence;
	return 0;
}
