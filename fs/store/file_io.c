/* Sectors in and out.  The lock of the file is held: for reading in the read calls, for writing in the rest. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

#define CHUNK_SECTORS 264 /* 1 MiB of plaintext at any offset */
#define SMALL (64u << 10) /* written at once; likely all there is */

/* Ciphertext on its way, one buffer a thread: room for a header, then for the sectors. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;
static bool buffer_key_made;
static __thread uint8_t *buffer;

static void buffer_free(void *p)
{
	free(p);
	buffer = NULL;
}

static void init_once(void)
{
	buffer_key_made = pthread_key_create(&buffer_key, buffer_free) == 0;
}

static uint8_t *buffer_get(void)
{
	if (buffer)
		return buffer;
	pthread_once(&once, init_once);
	if (!buffer_key_made)
		return NULL;
	buffer = aligned_alloc(4096, HEADER_BYTES + (size_t)CHUNK_SECTORS * SECTOR_BYTES);
	if (buffer)
		pthread_setspecific(buffer_key, buffer);
	return buffer;
}

int file_need_buffer(void)
{
	return buffer_get() ? 0 : -ENOMEM;
}

struct cipher_file file_cipher(const struct file *f)
{
	return (struct cipher_file){.suite = f->h.suite, .id = f->h.id, .key = f->key};
}

static int seal(struct file *f, uint64_t index, const uint8_t *plain, size_t n, uint8_t *out)
{
	struct cipher_file c = file_cipher(f);

	file_next_nonce(f);
	return sector_seal(&c, &f->nonce, index, plain, n, out);
}

static int open_sector(struct file *f, uint64_t index, const uint8_t *in, uint8_t *plain, size_t *ret_n)
{
	struct cipher_file c = file_cipher(f);
	int r;

	if (sector_is_hole(in)) {
		if (!(f->h.rec.flags & HEADER_HOLES))
			return store_damage("sector");
		memset(plain, 0, SECTOR_DATA);
		*ret_n = SECTOR_DATA;
		return 0;
	}
	r = sector_open(&c, index, in, plain, ret_n);
	return r == -EBADMSG ? store_damage("sector") : r;
}

static bool in_tail(const struct file *f, uint64_t index)
{
	return f->tail_len > 0 && index == file_sectors(f->size) - 1;
}

int file_load_stored(
	struct file *f, uint64_t index, uint8_t plain[SECTOR_DATA], size_t *ret_len, size_t *ret_stored)
{
	uint64_t count = file_sectors(f->size);
	uint8_t *b = buffer_get();
	size_t n;
	int r;

	if (!b)
		return -ENOMEM;
	*ret_len = index + 1 < count ? SECTOR_DATA : f->size - index * SECTOR_DATA;
	if (in_tail(f, index)) {
		memcpy(plain, f->tail, f->tail_len);
		memset(plain + f->tail_len, 0, SECTOR_DATA - f->tail_len);
		*ret_stored = f->tail_len;
		return 0;
	}
	/* Behind the buffer's chunk in use: the last sector of it is never part of a chunk in the making. */
	b += HEADER_BYTES + (size_t)(CHUNK_SECTORS - 1) * SECTOR_BYTES;
	r = backing_read(f->fd, b, SECTOR_BYTES, file_sector_offset(index), &n);
	if (r < 0)
		return r;
	if (n != SECTOR_BYTES)
		return store_damage("size");
	r = open_sector(f, index, b, plain, ret_stored);
	if (sector_is_hole(b))
		*ret_stored = 0;
	return r;
}

int file_load_sector(struct file *f, uint64_t index, uint8_t plain[SECTOR_DATA], size_t *ret_len)
{
	size_t stored;

	return file_load_stored(f, index, plain, ret_len, &stored);
}

/* Bytes [from, to) of sector `index` into out. */
static int deliver(struct file *f, uint64_t index, const uint8_t *in, size_t from, size_t to, uint8_t *out)
{
	uint8_t plain[SECTOR_DATA];
	size_t n;
	int r;

	if (from == 0 && to == SECTOR_DATA)
		return open_sector(f, index, in, out, &n);
	r = open_sector(f, index, in, plain, &n);
	if (r < 0)
		return r;
	memcpy(out, plain + from, to - from);
	return 0;
}

/* At most a chunk, all of it inside the file. */
static int read_chunk(struct file *f, uint8_t *out, size_t n, uint64_t off)
{
	uint64_t first = off / SECTOR_DATA, last = (off + n - 1) / SECTOR_DATA, i;
	size_t count = (size_t)(last - first + 1), got, from, to, whole;
	bool alone = false; /* there is a hole or damage in it: one by one */
	uint8_t *b = buffer_get();
	int r;

	if (!b)
		return -ENOMEM;
	if (in_tail(f, last))
		count--;
	if (count == 1 && first == 0 && f->head) {
		memcpy(b, f->head, SECTOR_BYTES);
	} else if (count > 0) {
		r = backing_read(f->fd, b, count * SECTOR_BYTES, file_sector_offset(first), &got);
		if (r < 0)
			return r;
		if (got != count * SECTOR_BYTES)
			return store_damage("size");
	}
	for (i = first; i <= last; i++) {
		from = i == first ? off % SECTOR_DATA : 0;
		to = i == last ? (size_t)(off + n - i * SECTOR_DATA) : SECTOR_DATA;
		whole = from == 0 ? (size_t)(off + n - i * SECTOR_DATA) / SECTOR_DATA : 0;
		if (whole > count - (size_t)(i - first))
			whole = count - (size_t)(i - first);
		if (whole >= FILE_RUN_MIN && !alone) {
			alone = !file_open_run(f, i, b + (i - first) * SECTOR_BYTES, whole, out);
			if (!alone) {
				out += whole * SECTOR_DATA;
				i += whole - 1;
				continue;
			}
		}
		r = 0;
		if (i - first == count)
			memcpy(out, f->tail + from, to - from);
		else
			r = deliver(f, i, b + (i - first) * SECTOR_BYTES, from, to, out);
		if (r < 0)
			return r;
		out += to - from;
	}
	return 0;
}

static size_t chunk_bytes(uint64_t off, size_t n)
{
	size_t room = (size_t)(CHUNK_SECTORS - 1) * SECTOR_DATA - off % SECTOR_DATA;

	return n < room ? n : room;
}

ssize_t file_read(struct file *f, void *buf, size_t n, uint64_t off)
{
	size_t done = 0, k;
	int r = 0;

	pthread_rwlock_rdlock(&f->lock);
	if (off >= f->size)
		n = 0;
	else if (n > f->size - off)
		n = (size_t)(f->size - off);
	while (r == 0 && done < n) {
		k = chunk_bytes(off + done, n - done);
		r = read_chunk(f, (uint8_t *)buf + done, k, off + done);
		done += k;
	}
	pthread_rwlock_unlock(&f->lock);
	return r < 0 ? r : (ssize_t)n;
}

/* Seals sector `index` after bytes [from, to) of it were replaced by `data` (NULL: zeros); *ret_len is its
 * length then. */
static int compose(struct file *f, uint64_t index, const uint8_t *data, size_t from, size_t to, uint8_t *out,
	uint8_t plain[SECTOR_DATA], size_t *ret_len)
{
	uint64_t count = file_sectors(f->size);
	size_t len = 0;
	int r;

	if (index < count)
		len = index + 1 < count ? SECTOR_DATA : (size_t)(f->size - index * SECTOR_DATA);
	if (from == 0 && to >= len) {
		*ret_len = to;
		if (data)
			return seal(f, index, data, to, out);
		memset(plain, 0, to);
		return seal(f, index, plain, to, out);
	}
	memset(plain, 0, SECTOR_DATA);
	if (index < count) {
		r = file_load_sector(f, index, plain, &len);
		if (r < 0)
			return r;
	}
	if (data)
		memcpy(plain + from, data, to - from);
	else
		memset(plain + from, 0, to - from);
	*ret_len = to > len ? to : len;
	return seal(f, index, plain, *ret_len, out);
}

void file_drop_head(struct file *f)
{
	free(f->head);
	f->head = NULL;
}

void file_remember_tail(struct file *f, const uint8_t *plain, size_t len)
{
	f->tail_len = 0;
	if (len == SECTOR_DATA)
		return;
	if (!f->tail)
		f->tail = malloc(SECTOR_DATA);
	if (!f->tail) /* it is read back when needed */
		return;
	if (f->tail != plain)
		memmove(f->tail, plain, len);
	f->tail_len = len;
}

void file_mark_written(struct file *f)
{
	f->written = (struct version){.time = f->nonce_time, .counter = f->nonce.counter};
	f->bare = false;
}

/* What a failed write may have left behind the end must not become the end at the next open. */
static void cut_to_size(struct file *f)
{
	f->hint = false;
	(void)!ftruncate(f->fd, f->has_header ? file_sector_offset(file_sectors(f->size)) : 0);
}

static int put_chunk(struct file *f, uint8_t *b, uint64_t first, size_t count, bool with_header)
{
	int r;

	if (with_header && first == 0)
		return backing_write(f->fd, b, HEADER_BYTES + count * SECTOR_BYTES, 0);
	if (with_header) {
		r = backing_write(f->fd, b, HEADER_BYTES, 0);
		if (r < 0)
			return r;
	}
	return backing_write(f->fd, b + HEADER_BYTES, count * SECTOR_BYTES, file_sector_offset(first));
}

/* Header flags that a write beginning in sector `first` needs. */
static uint32_t flags_for(const struct file *f, uint64_t first)
{
	return first > file_sectors(f->size) ? HEADER_HOLES : 0;
}

/* Before sectors first..last change. */
static int before_change(struct file *f, uint64_t first, uint64_t end, uint8_t *b, bool *ret_with_header)
{
	uint32_t flags = flags_for(f, first);
	int r;

	*ret_with_header = false;
	if (!f->has_header) {
		r = file_prepare_header(f, flags, b);
		if (r == 0)
			*ret_with_header = true;
		return r;
	}
	r = file_set_flags(f, flags);
	if (r < 0)
		return r;
	/* In place, the backing's size would go on telling the old length. */
	if (f->hint && end > f->size && file_sectors(end) == file_sectors(f->size))
		return file_drop_hint(f);
	return 0;
}

/* Most files are written at once: with the size right after it, nothing is left to do at their close, and there is no
 * time to be put back. */
static bool first_hint(struct file *f)
{
	uint64_t count = file_sectors(f->size);

	return ftruncate(f->fd, file_sector_offset(count) + (off_t)(f->size - (count - 1) * SECTOR_DATA)) == 0;
}

/* data == NULL: zeros. */
static int write_chunk(struct file *f, const uint8_t *data, size_t n, uint64_t off)
{
	uint64_t first = off / SECTOR_DATA, last = (off + n - 1) / SECTOR_DATA, i, end;
	uint8_t plain[SECTOR_DATA], *b = buffer_get();
	const uint8_t *from_data = data;
	size_t from, to, whole, len = 0;
	bool with_header, direct = false;
	int r;

	if (!b)
		return -ENOMEM;
	r = before_change(f, first, off + n, b, &with_header);
	for (i = first; r == 0 && i <= last; i++) {
		from = i == first ? off % SECTOR_DATA : 0;
		to = i == last ? (size_t)(off + n - i * SECTOR_DATA) : SECTOR_DATA;
		from_data = data;
		whole = data && from == 0 ? (size_t)(off + n - i * SECTOR_DATA) / SECTOR_DATA : 0;
		if (whole >= FILE_RUN_MIN) {
			r = file_seal_run(f, i, data, whole, b + HEADER_BYTES + (i - first) * SECTOR_BYTES);
			data += whole * SECTOR_DATA;
			i += whole - 1;
			len = SECTOR_DATA;
			direct = true;
			continue;
		}
		r = compose(f, i, data, from, to, b + HEADER_BYTES + (i - first) * SECTOR_BYTES, plain, &len);
		direct = data && from == 0 && to == len;
		if (data)
			data += to - from;
	}
	if (r == 0)
		r = put_chunk(f, b, first, (size_t)(last - first + 1), with_header);
	if (r < 0) {
		if (with_header)
			file_abandon_header(f);
		cut_to_size(f);
		sodium_memzero(plain, sizeof(plain));
		return r;
	}
	f->has_header = true;
	file_mark_written(f);
	end = last * SECTOR_DATA + len;
	if (file_sectors(end) >= file_sectors(f->size)) {
		file_remember_tail(f, direct ? from_data : plain, len);
		if (end > f->size) {
			f->size = end;
			f->hint = with_header && n <= SMALL && first_hint(f);
		}
	}
	return 0;
}

int file_write_range(struct file *f, const uint8_t *data, uint64_t n, uint64_t off)
{
	size_t k;
	int r;

	while (n > 0) {
		k = chunk_bytes(off, n > SIZE_MAX / 2 ? SIZE_MAX / 2 : (size_t)n);
		r = write_chunk(f, data, k, off);
		if (r < 0)
			return r;
		if (data)
			data += k;
		off += k;
		n -= k;
	}
	return 0;
}

static ssize_t write_locked(struct file *f, const void *buf, size_t n, uint64_t off)
{
	uint64_t before = f->size;
	int r;

	if (n > SSIZE_MAX || off > FILE_SIZE_MAX || n > FILE_SIZE_MAX - off)
		return -EFBIG;
	if (!f->writable)
		return -EROFS;
	file_drop_head(f);
	r = file_write_range(f, buf, n, off);
	if (r == -ENOSPC && f->size == before && reaper_drain(f->store->reaper))
		r = file_write_range(f, buf, n, off); /* there was room, it only had to be freed */
	if (r < 0 && f->size > before && f->size > off) /* some chunks went in: say how far */
		return (ssize_t)(f->size - off < n ? f->size - off : n);
	return r < 0 ? r : (ssize_t)n;
}

ssize_t file_write(struct file *f, const void *buf, size_t n, uint64_t off)
{
	ssize_t r;

	pthread_rwlock_wrlock(&f->lock);
	r = write_locked(f, buf, n, off);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

ssize_t file_append(struct file *f, const void *buf, size_t n, uint64_t *ret_off)
{
	ssize_t r;

	pthread_rwlock_wrlock(&f->lock);
	*ret_off = f->size;
	r = write_locked(f, buf, n, f->size);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_put_sector(struct file *f, uint64_t index, const uint8_t *plain, size_t len)
{
	uint8_t *b = buffer_get() + HEADER_BYTES;
	int r = seal(f, index, plain, len, b);

	return r < 0 ? r : backing_write(f->fd, b, SECTOR_BYTES, file_sector_offset(index));
}

/* Behind the last data below; a hole that somebody made behind the end can be of any length. */
static int end_of_data(int fd, uint64_t *count)
{
	off_t end = 0, data;

	for (data = lseek(fd, 0, SEEK_DATA); data >= 0; data = lseek(fd, end, SEEK_DATA)) {
		end = lseek(fd, data, SEEK_HOLE);
		if (end < 0)
			break;
	}
	if (errno != ENXIO)
		return -errno;
	end = end > HEADER_BYTES ? (end - HEADER_BYTES + SECTOR_BYTES - 1) / SECTOR_BYTES : 0;
	if ((uint64_t)end < *count)
		*count = (uint64_t)end;
	return 0;
}

int file_last_written(int fd, uint64_t *count, uint8_t *b)
{
	bool hole = false;
	size_t n;
	int r;

	for (; *count > 0; (*count)--) {
		r = backing_read(fd, b, SECTOR_BYTES, file_sector_offset(*count - 1), &n);
		if (r < 0)
			return r;
		if (n != SECTOR_BYTES)
			return store_damage("size");
		if (!sector_is_hole(b))
			break;
		if (!hole) {
			hole = true;
			r = end_of_data(fd, count);
			if (r < 0)
				return r;
			++*count; /* for the loop */
		}
	}
	return 0;
}

/* f->size is what the backing's size says; b holds nothing yet. */
int file_load_tail(struct file *f, const uint8_t *last)
{
	uint64_t count = file_sectors(f->size), before = count;
	struct cipher_file c = file_cipher(f);
	uint8_t plain[SECTOR_DATA], *b = buffer_get();
	size_t len = 0;
	uint64_t size = 0;
	int r = 0;

	if (!b)
		return -ENOMEM;
	if (last && count > 0 && !sector_is_hole(last))
		memcpy(b, last, SECTOR_BYTES);
	else
		r = file_last_written(f->fd, &count, b);
	if (r < 0)
		return r;
	if (count > 0) {
		r = sector_open(&c, count - 1, b, plain, &len);
		if (r < 0 && r != -EBADMSG)
			return r;
		/* Torn: reading it tells, the sectors before it are well.  The hint is all that is known of its
		 * length. */
		if (r < 0)
			len = count == before ? f->size - (count - 1) * SECTOR_DATA : SECTOR_DATA;
		size = (count - 1) * SECTOR_DATA + len;
		if (r < 0 && size < f->h.rec.floor)
			size = f->h.rec.floor < count * SECTOR_DATA ? f->h.rec.floor : count * SECTOR_DATA;
	}
	if (size < f->h.rec.floor)
		return store_damage("size");
	if (size != f->size || count != before)
		f->hint = false;
	f->size = size;
	if (count > 0 && r == 0)
		file_remember_tail(f, plain, len);
	return 0;
}
