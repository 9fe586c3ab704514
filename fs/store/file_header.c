/* The header of a file on its way to disk: a key for what never had one, its record, its flags, and whether the backing's size
 * is a hint.  Reading it: file.c. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

/* What a header that never reached the disk left behind: attributes and sectors under its key, which is gone. */
static int clear_stale(struct file *f)
{
	if (!f->stale)
		return 0;
	if (ftruncate(f->fd, 0) < 0)
		return -errno;
	xattr_remove_all(f->fd);
	f->stale = false;
	return 0;
}

int file_new_leaf(struct store *s, uint16_t class, uint16_t day, struct leaf_index *ret, struct key32 *ret_wrap)
{
	int r = store_new_leaf_on(s, class, day, KEY_USE_WRAP, ret, ret_wrap);

	return r == -ENOKEY ? store_new_leaf(s, class, KEY_USE_WRAP, ret, ret_wrap) : r;
}

int file_prepare_header(struct file *f, uint32_t flags, uint8_t out[HEADER_BYTES])
{
	scoped(key32_wipe) struct key32 wrap = {0};
	uint8_t place[PLACE_BYTES];
	int r;

	r = clear_stale(f);
	if (r < 0)
		return r;
	f->key = store_key_alloc(f->store);
	if (!f->key)
		return -ENOMEM;
	r = file_new_leaf(f->store, f->h.rec.origin_class, f->h.rec.origin_day, &f->h.leaf, &wrap);
	if (r == 0) {
		/* Before the header: without it the header would be taken for one that was moved. */
		place_encode(&f->place, place);
		r = backing_setxattr(f->fd, PLACE_XATTR, place, sizeof(place), 0);
	}
	if (r < 0) {
		file_abandon_header(f);
		return r;
	}
	randombytes_buf(f->key->b, sizeof(f->key->b));
	f->h.rec.generation = 1;
	f->h.rec.flags = flags | (f->linked ? HEADER_LINKED : 0);
	header_seal(&f->h, &wrap, f->key, out);
	return 0;
}

void file_abandon_header(struct file *f)
{
	store_key_free(f->store, f->key);
	f->key = NULL;
	f->nonce_left = 0;
	f->h.rec.flags = 0;
}

/* What we write on our own account changes nothing in the time that programs see. */
static int modified_get(struct file *f, struct timespec ret[2], off_t *ret_size)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	ret[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
	ret[1] = st.st_mtim;
	*ret_size = st.st_size;
	return 0;
}

int file_need_header(struct file *f, uint32_t flags)
{
	uint8_t header[HEADER_BYTES];
	struct timespec times[2];
	off_t size;
	int r;

	if (f->has_header)
		return file_set_flags(f, flags);
	r = modified_get(f, times, &size);
	if (r == 0)
		r = file_prepare_header(f, flags, header);
	if (r < 0)
		return r;
	r = backing_write(f->fd, header, sizeof(header), 0);
	if (r < 0) {
		file_abandon_header(f);
		(void)!ftruncate(f->fd, 0);
		return r;
	}
	(void)futimens(f->fd, times);
	f->has_header = true;
	return 0;
}

int file_wait(struct file *f, bool data_only)
{
	int r;

	if (atomic_load(&f->lost))
		return -EIO;
	if ((data_only ? fdatasync(f->fd) : fsync(f->fd)) == 0)
		return 0;
	r = -errno;
	atomic_store(&f->lost, true);
	store_note_lost(f->store, f->ino);
	return r;
}

int file_write_record(struct file *f, const struct header_record *rec, bool durable)
{
	uint8_t bytes[HEADER_RECORD_BYTES];
	struct header h = f->h;
	struct timespec times[2];
	off_t size;
	int r;

	if (!f->writable)
		return -EROFS;
	r = modified_get(f, times, &size);
	if (r < 0)
		return r;

	h.rec = *rec;
	h.rec.generation = f->h.rec.generation + 1;
	header_seal_record(&h, f->key, bytes);
	r = backing_write(f->fd, bytes, sizeof(bytes), header_record_offset(&h.rec));
	if (r < 0)
		return r;
	(void)futimens(f->fd, times);
	/* A record that may be lost is written again by whoever needs it. */
	r = durable ? file_wait(f, true) : 0;
	if (r == 0)
		f->h.rec = h.rec;
	return r;
}

int file_set_flags(struct file *f, uint32_t flags)
{
	struct header_record rec = f->h.rec;

	/* After a failed fsync the record that we read may not be the one on disk. */
	if (flags != 0 && atomic_load(&f->lost))
		return -EIO;
	if ((rec.flags & flags) == flags)
		return 0;
	rec.flags |= flags;
	return file_write_record(f, &rec, true);
}

int file_set_backing_size(struct file *f, off_t size)
{
	struct timespec times[2];
	off_t old = 0;
	int r = modified_get(f, times, &old);

	if (r < 0 || old == size)
		return r;
	if (ftruncate(f->fd, size) < 0)
		return -errno;
	(void)futimens(f->fd, times);
	return 0;
}

int file_drop_hint(struct file *f)
{
	int r = file_set_backing_size(f, file_sector_offset(file_sectors(f->size)));

	if (r == 0)
		f->hint = false;
	return r;
}

int file_set_hint(struct file *f)
{
	uint64_t count = file_sectors(f->size);
	uint64_t excess = count > 0 ? f->size - (count - 1) * SECTOR_DATA : 0;
	int r;

	if (f->hint)
		return 0;
	if (!f->writable || !f->has_header) {
		f->hint = true; /* nothing to be set */
		return 0;
	}
	r = file_set_backing_size(f, file_sector_offset(count) + (off_t)excess);
	if (r == 0)
		f->hint = true;
	return r;
}
