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
#include <pthread.h>
#include <stdbool.h>
#include <sodium.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "common/bytes.h"
#include "common/record.h"
#include "common/scope.h"

#define PAGE 4096u
#define MAGIC "COFFERJ1"
#define VERSION 1u
#define AT_WRITER PAGE
#define AT_READER (2 * PAGE)
#define AT_RING (3 * PAGE)
#define HEAD_BYTES 32u   /* of a record */
#define CHECKED_FROM 16u /* the checksum covers sequence, length and payload */
#define RING_MIN (16 * PAGE)
#define RING_MAX (1u << 30)
#define HEADER_BYTES 96u
#define CHUNK (256u << 10) /* read at once by the reader; larger than any record */
#define KEY_LEN crypto_shorthash_KEYBYTES

_Static_assert(crypto_shorthash_BYTES == 8, "a checksum is one word");
_Static_assert(CHUNK > HEAD_BYTES + RECORD_BYTES_MAX + 8, "a record fits a chunk");
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

struct journal_writer {
	pthread_mutex_t lock; /* all below; never held across a wait */
	int fd, kick_fd;
	struct constants c;
	struct writer_page *page;
	const struct reader_page *reader;
	uint8_t *control, *ring; /* ring: mapped twice */
	uint64_t head, sequence; /* as in the page */
	uint64_t released;       /* last value seen */
	uint64_t kick_at;        /* no kick below this head */
	uint64_t synced;         /* head at the last successful sync */
};

struct journal_reader {
	int fd;
	struct constants c;
	uint64_t pos, sequence; /* next record stands at pos; last sequence returned */
	uint64_t released, released_seq;
	uint64_t chunk_pos, chunk_n; /* bytes of the stream in chunk */
	uint8_t chunk[CHUNK];
};

/* ---- both sides ---- */

static uint64_t word_check(const uint8_t key[KEY_LEN], const void *p, size_t n)
{
	uint64_t h;

	crypto_shorthash((unsigned char *)&h, p, n, key);
	return h; /* as bytes: the same on disk everywhere */
}

static uint64_t released_check(const struct constants *c, uint64_t released, uint64_t sequence)
{
	uint64_t words[2] = {htole64(released), htole64(sequence)};

	return word_check(c->key, words, sizeof(words));
}

static size_t padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
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
	uint64_t check = word_check(c->key, buf, HEADER_BYTES - 8);

	bytes_put(&w, &check, 8);
}

static bool client_ok(const char *hex)
{
	return strspn(hex, "0123456789abcdef") == CLIENT_ID_HEX - 1 && !hex[CLIENT_ID_HEX - 1];
}

static int constants_read(int fd, struct constants *ret)
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
	if (!bytes_reader_end(&r) || check != word_check(c.key, buf, HEADER_BYTES - 8) ||
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

/* ---- writer ---- */

static int map_parts(struct journal_writer *w)
{
	uint8_t *ring;

	w->control = mmap(NULL, AT_RING, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	if (w->control == MAP_FAILED) {
		w->control = NULL;
		return -errno;
	}
	ring = mmap(NULL, 2 * (size_t)w->c.ring, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return -errno;
	w->ring = ring;
	for (unsigned i = 0; i < 2; i++)
		if (mmap(ring + i * (size_t)w->c.ring, w->c.ring, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, w->fd, AT_RING) == MAP_FAILED)
			return -errno;
	w->page = (struct writer_page *)(w->control + AT_WRITER);
	w->reader = (const struct reader_page *)(w->control + AT_READER);
	return 0;
}

/* The reader writes its page with pwrite, which promises no atomic words: only a value whose checksum fits
 * counts, and only within bounds.  Anything else leaves what was known: less room, never an overwritten
 * record. */
static void refresh_released(struct journal_writer *w)
{
	uint64_t released = le64toh(__atomic_load_n(&w->reader->released, __ATOMIC_ACQUIRE));
	uint64_t sequence = le64toh(__atomic_load_n(&w->reader->sequence, __ATOMIC_ACQUIRE));
	uint64_t check = __atomic_load_n(&w->reader->check, __ATOMIC_ACQUIRE);

	if (check != released_check(&w->c, released, sequence))
		return;
	if (released > w->released && released <= w->head && released % 8 == 0)
		w->released = released;
}

int journal_writer_open(int fd, int kick_fd, struct journal_writer **ret)
{
	struct journal_writer *w;
	int r;

	if (sodium_init() < 0)
		return -EIO;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	w->kick_fd = -1;
	w->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = w->fd < 0 ? -errno : constants_read(w->fd, &w->c);
	if (r == 0)
		r = map_parts(w);
	if (r == 0 && kick_fd >= 0) {
		w->kick_fd = fcntl(kick_fd, F_DUPFD_CLOEXEC, 3);
		if (w->kick_fd < 0)
			r = -errno;
	}
	if (r == 0) {
		w->head = le64toh(w->page->head);
		w->sequence = le64toh(w->page->records);
		refresh_released(w);
		if (w->head % 8 || w->head - w->released > w->c.ring)
			r = -EBADMSG;
	}
	if (r < 0) {
		journal_writer_close(w);
		return r;
	}
	*ret = w;
	return 0;
}

void journal_writer_close(struct journal_writer *w)
{
	if (!w)
		return;
	if (w->control)
		munmap(w->control, AT_RING);
	if (w->ring)
		munmap(w->ring, 2 * (size_t)w->c.ring);
	close_fdp(&w->fd);
	close_fdp(&w->kick_fd);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static void kick(struct journal_writer *w)
{
	uint64_t one = 1;

	if (w->kick_fd >= 0 && write(w->kick_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: a kick is pending already; the reader's timer comes anyway */
}

static void put_record(struct journal_writer *w, const void *record, size_t n)
{
	uint8_t *at = w->ring + w->head % w->c.ring;
	size_t total = HEAD_BYTES + padded(n);
	uint64_t *after = (uint64_t *)(void *)(w->ring + (w->head + total) % w->c.ring);
	uint64_t words[2] = {htole64(w->sequence + 1), htole64(n)};
	uint64_t check;

	*after = 0;
	memcpy(at + CHECKED_FROM, words, sizeof(words));
	memset(at + total - 8, 0, 8); /* padding */
	memcpy(at + HEAD_BYTES, record, n);
	check = word_check(w->c.key, at + CHECKED_FROM, total - CHECKED_FROM);
	memcpy(at + 8, &check, sizeof(check));
	__atomic_store_n((uint64_t *)(void *)at, words[0], __ATOMIC_RELEASE);

	w->sequence++;
	w->head += total;
	__atomic_store_n(&w->page->records, htole64(w->sequence), __ATOMIC_RELAXED);
	__atomic_store_n(&w->page->head, htole64(w->head), __ATOMIC_RELEASE);
}

/* Under the lock.  Room for the record and for the empty word behind it. */
static bool try_append(struct journal_writer *w, const void *record, size_t n)
{
	uint64_t need = HEAD_BYTES + padded(n) + 8;

	if (w->head - w->released + need > w->c.ring)
		refresh_released(w);
	if (w->head - w->released + need > w->c.ring)
		return false;
	put_record(w, record, n);
	if (w->head - w->released > w->c.ring / 4 && w->head >= w->kick_at) {
		refresh_released(w);
		if (w->head - w->released > w->c.ring / 4) {
			kick(w);
			w->kick_at = w->head + w->c.ring / 8;
		}
	}
	return true;
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int journal_append(struct journal_writer *w, const void *record, size_t n, int wait_ms)
{
	int64_t deadline = 0;
	bool done;

	if (n == 0 || n > RECORD_BYTES_MAX)
		return -EMSGSIZE;
	for (;;) {
		pthread_mutex_lock(&w->lock);
		done = try_append(w, record, n);
		if (!done)
			kick(w);
		pthread_mutex_unlock(&w->lock);
		if (done)
			return 0;
		if (!deadline)
			deadline = now_ms() + wait_ms;
		if (now_ms() >= deadline)
			break;
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
	pthread_mutex_lock(&w->lock);
	__atomic_store_n(&w->page->refused, htole64(le64toh(w->page->refused) + 1), __ATOMIC_RELAXED);
	pthread_mutex_unlock(&w->lock);
	return -ENOSPC;
}

static bool is_ready(struct journal_writer *w)
{
	uint64_t most = w->c.ring - w->c.ring / 16;
	bool ready;

	pthread_mutex_lock(&w->lock);
	if (w->head - w->released > most)
		refresh_released(w);
	ready = w->head - w->released <= most;
	if (!ready)
		kick(w);
	pthread_mutex_unlock(&w->lock);
	return ready;
}

int journal_ready(struct journal_writer *w, int wait_ms)
{
	int64_t deadline;

	if (is_ready(w))
		return 0;
	for (deadline = now_ms() + wait_ms; now_ms() < deadline;) {
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
		if (is_ready(w))
			return 0;
	}
	return -ENOSPC;
}

static bool is_synced(struct journal_writer *w, uint64_t *ret_head)
{
	bool clean;

	pthread_mutex_lock(&w->lock);
	*ret_head = w->head;
	clean = w->synced == w->head;
	pthread_mutex_unlock(&w->lock);
	return clean;
}

bool journal_is_synced(struct journal_writer *w)
{
	uint64_t head;

	return is_synced(w, &head);
}

int journal_sync(struct journal_writer *w)
{
	uint64_t head;

	if (is_synced(w, &head))
		return 0;
	if (fdatasync(w->fd) < 0)
		return -errno;
	pthread_mutex_lock(&w->lock);
	if (head > w->synced)
		w->synced = head;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

/* ---- reader ---- */

static int reader_page_write(int fd, const struct constants *c, uint64_t released, uint64_t sequence)
{
	struct reader_page p = {
		.released = htole64(released),
		.sequence = htole64(sequence),
		.check = released_check(c, released, sequence),
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
	e = constants_read(fd, &r->c);
	if (e == 0)
		e = pread_all(fd, &p, sizeof(p), AT_READER);
	if (e == 0) {
		r->released = r->pos = le64toh(p.released);
		r->released_seq = r->sequence = le64toh(p.sequence);
		if (p.check != released_check(&r->c, r->released, r->released_seq) || r->released % 8)
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
	size_t n = HEAD_BYTES + padded(RECORD_BYTES_MAX);
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
	r->chunk_n = HEAD_BYTES + padded(length);
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
	return length > RECORD_BYTES_MAX || HEAD_BYTES + padded(length) <= *ret_left;
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
	if (HEAD_BYTES + padded(n) > left)
		return -EBADMSG;
	if (words[1] != word_check(r->c.key, at + CHECKED_FROM, HEAD_BYTES + padded(n) - CHECKED_FROM))
		return -EBADMSG;
	if (n > cap)
		return -EMSGSIZE;
	memcpy(buf, at + HEAD_BYTES, n);
	r->pos += HEAD_BYTES + padded(n);
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
