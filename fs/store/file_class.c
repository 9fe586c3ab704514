/* One file's record class: the leaf that its key is under, and the class and day that its record tells. */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

void file_origin(struct file *f, struct leaf_index *ret_leaf, uint16_t *ret_class, uint16_t *ret_day)
{
	pthread_rwlock_rdlock(&f->lock);
	*ret_leaf = f->has_header ? f->h.leaf : (struct leaf_index){0};
	*ret_class = f->h.rec.origin_class;
	*ret_day = f->h.rec.origin_day;
	pthread_rwlock_unlock(&f->lock);
}

uint16_t file_class(struct file *f)
{
	uint16_t class;

	pthread_rwlock_rdlock(&f->lock);
	class = f->h.rec.origin_class;
	pthread_rwlock_unlock(&f->lock);
	return class;
}

/* The first 512 bytes are one sector of any disk: they are old or new, and both open while both leaves live. */
static int write_fixed(struct file *f, const struct rewrap *to)
{
	scoped(key32_wipe) struct key32 wrap = {0};
	uint8_t bytes[HEADER_BYTES];
	struct header h = f->h;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
	struct stat st;
	int r;

	r = file_new_leaf(f->store, to->class, to->day, &h.leaf, &wrap);
	if (r < 0)
		return r;
	if (fstat(f->fd, &st) < 0)
		return -errno;
	header_seal(&h, &wrap, f->key, bytes);
	r = backing_write(f->fd, bytes, HEADER_RECORD_BYTES, 0);
	sodium_memzero(bytes, sizeof(bytes));
	if (r < 0)
		return r;
	times[1] = st.st_mtim;
	(void)futimens(f->fd, times);
	f->h.leaf = h.leaf;
	return 0;
}

static int rewrap(struct file *f, const struct rewrap *to)
{
	struct header_record rec = f->h.rec;
	int r = 0;

	rec.origin_class = to->origin_class;
	if (!f->has_header) {
		f->h.rec = rec;
		return 0;
	}
	if (!f->writable)
		return -EROFS;
	/* After a failed fsync nobody knows which header is on disk. */
	if (atomic_load(&f->lost))
		return -EIO;
	if (rec.origin_class != f->h.rec.origin_class)
		r = file_write_record(f, &rec, false);
	return r < 0 ? r : write_fixed(f, to);
}

int file_rewrap(struct file *f, const struct rewrap *to)
{
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = rewrap(f, to);
	pthread_rwlock_unlock(&f->lock);
	return r;
}
