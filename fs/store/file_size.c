/* What changes the size of a file or makes and finds its holes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

/* The last sector is written even where it is zeros: its length is the size. */
static int grow(struct file *f, uint64_t size)
{
	uint64_t last = (size - 1) / SECTOR_DATA;
	uint64_t from = last * SECTOR_DATA;

	if (from < f->size)
		from = f->size;
	return file_write_range(f, NULL, size - from, from);
}

/* To `floor`, not to size: between cutting and writing the last sector again the file may be shorter. */
static int lower_floor(struct file *f, uint64_t size, uint64_t floor)
{
	struct header_record rec = f->h.rec;

	if (atomic_load(&f->lost)) /* who knows which floor is on disk */
		return -EIO;
	if (!f->has_header || rec.floor <= size)
		return 0;
	rec.floor = floor;
	return file_write_record(f, &rec, true);
}

/* The sector that will be the last is a hole, or shorter than it reads: between the cut and its new form the file would be
 * too short, so it is filled first. */
static int fill_sector(struct file *f, uint64_t index, const uint8_t plain[SECTOR_DATA])
{
	int r = file_put_sector(f, index, plain, SECTOR_DATA);

	return r < 0 ? r : file_wait(f, true);
}

static int shrink(struct file *f, uint64_t size)
{
	uint64_t count = file_sectors(size);
	size_t len = (size_t)(size - (count ? count - 1 : 0) * SECTOR_DATA), old = 0, stored = 0;
	bool was_durable = f->h.rec.floor > size || f->promised > size;
	uint8_t plain[SECTOR_DATA];
	int r;

	r = file_need_buffer();
	if (r == 0 && count > 0)
		r = file_load_stored(f, count - 1, plain, &old, &stored);
	if (r == 0 && stored < len)
		r = fill_sector(f, count - 1, plain);
	if (r == 0)
		r = lower_floor(f, size, count > 0 ? (count - 1) * SECTOR_DATA : 0);
	if (r < 0)
		return r;
	/* Cut before the new last sector is written, and durably so if the old content was: the other order
	 * could leave the old size with zeros in the middle. */
	if (ftruncate(f->fd, file_sector_offset(count)) < 0)
		return -errno;
	f->size = count ? (count - 1) * SECTOR_DATA + old : 0; /* until the new last sector is written */
	f->cuts++;
	f->floor_due = 0;
	if (f->promised > f->size)
		f->promised = f->size;
	f->tail_len = 0;
	f->hint = count == 0;
	f->bare = true;
	if (count == 0)
		return 0;
	r = was_durable ? file_wait(f, true) : 0;
	if (r == 0)
		r = file_put_sector(f, count - 1, plain, len);
	if (r < 0)
		return r;
	f->size = size;
	file_mark_written(f);
	file_remember_tail(f, plain, len);
	return 0;
}

static const struct timespec modified_now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};

int file_truncate(struct file *f, uint64_t size)
{
	int r = 0;

	if (size > FILE_SIZE_MAX)
		return -EFBIG;
	pthread_rwlock_wrlock(&f->lock);
	file_drop_head(f);
	if (!f->writable)
		r = -EROFS;
	else if (size > f->size)
		r = grow(f, size);
	else if (size < f->size)
		r = shrink(f, size);
	else if (futimens(f->fd, modified_now) < 0)
		r = -errno;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* [off, end) inside the file reads as zeros afterwards; whole sectors but the last become holes. */
static int punch(struct file *f, uint64_t off, uint64_t end)
{
	uint64_t first = (off + SECTOR_DATA - 1) / SECTOR_DATA, behind = end / SECTOR_DATA;
	uint64_t count = file_sectors(f->size);
	int r;

	if (behind > count - 1)
		behind = count - 1; /* the last sector stays: its length is the size */
	if (first >= behind)
		return file_write_range(f, NULL, end - off, off);
	r = file_set_flags(f, HEADER_HOLES);
	if (r < 0)
		return r;
	if (off < first * SECTOR_DATA)
		r = file_write_range(f, NULL, first * SECTOR_DATA - off, off);
	if (r == 0 && fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, file_sector_offset(first),
			      (off_t)(behind - first) * SECTOR_BYTES) < 0)
		r = -errno;
	f->bare = true;
	if (r == 0 && end > behind * SECTOR_DATA)
		r = file_write_range(f, NULL, end - behind * SECTOR_DATA, behind * SECTOR_DATA);
	return r;
}

static int reserve(struct file *f, uint64_t off, uint64_t end)
{
	uint64_t first = off / SECTOR_DATA, behind = file_sectors(end);

	if (fallocate(f->fd, FALLOC_FL_KEEP_SIZE, file_sector_offset(first),
		    (off_t)(behind - first) * SECTOR_BYTES) < 0)
		return -errno;
	return 0;
}

static int allocate(struct file *f, int mode, uint64_t off, uint64_t end)
{
	uint64_t inside = end < f->size ? end : f->size;
	bool zero = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
	int r = 0;

	if (!zero)
		r = reserve(f, off, end);
	else if (off < inside)
		r = punch(f, off, inside);
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && end > f->size)
		r = grow(f, end);
	return r;
}

int file_allocate(struct file *f, int mode, uint64_t off, uint64_t n)
{
	int r;

	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (n == 0)
		return -EINVAL;
	if (off > FILE_SIZE_MAX || n > FILE_SIZE_MAX - off)
		return -EFBIG;
	pthread_rwlock_wrlock(&f->lock);
	file_drop_head(f);
	r = f->writable ? allocate(f, mode, off, off + n) : -EROFS;
	/* A change for programs, as on a local disk, even where it wrote nothing. */
	if (r == 0 && (mode & (FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE)))
		(void)futimens(f->fd, modified_now);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

static int64_t seek_backing(struct file *f, uint64_t off, int whence)
{
	uint64_t index = off / SECTOR_DATA, found;
	off_t at;

	at = lseek(f->fd, file_sector_offset(index), whence);
	if (at < 0)
		return errno == ENXIO && whence == SEEK_HOLE ? (int64_t)f->size : -errno;
	found = (uint64_t)(at - HEADER_BYTES) / SECTOR_BYTES;
	if (found >= file_sectors(f->size))
		return whence == SEEK_HOLE ? (int64_t)f->size : -ENXIO;
	return (int64_t)(found <= index ? off : found * SECTOR_DATA);
}

int64_t file_seek(struct file *f, uint64_t off, int whence)
{
	int64_t r;

	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	pthread_rwlock_rdlock(&f->lock);
	if (off >= f->size)
		r = -ENXIO;
	else if (f->h.rec.flags & HEADER_HOLES)
		r = seek_backing(f, off, whence);
	else
		r = whence == SEEK_DATA ? (int64_t)off : (int64_t)f->size;
	pthread_rwlock_unlock(&f->lock);
	return r;
}
