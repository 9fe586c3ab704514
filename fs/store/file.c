/* Opening, closing, and what concerns the whole file.  The header: file_header.c; sectors: file_io.c; size and holes: file_size.c;
 * attributes: file_attr.c. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

#define LOAD_SECTORS 2 /* files up to so many are read with their header: most files */

static size_t bucket_of(ino_t ino)
{
	return (ino * 0x9e3779b97f4a7c15u) >> 54;
}
_Static_assert(FILE_BUCKETS == 1 << 10, "the shift above");

static struct file *find_locked(struct store *s, ino_t ino)
{
	struct file *f;

	for (f = s->files[bucket_of(ino)]; f; f = f->next)
		if (f->ino == ino) {
			f->refs++;
			return f;
		}
	return NULL;
}

struct file *file_find(struct store *s, ino_t ino)
{
	struct file *f;

	pthread_mutex_lock(&s->lock);
	f = find_locked(s, ino);
	pthread_mutex_unlock(&s->lock);
	return f;
}

/* As file_find; else *closed is what publish() wants to know. */
static struct file *find_or_count(struct store *s, ino_t ino, unsigned *closed)
{
	struct file *f;

	pthread_mutex_lock(&s->lock);
	f = find_locked(s, ino);
	*closed = s->closed[bucket_of(ino)];
	pthread_mutex_unlock(&s->lock);
	return f;
}

/* Since find_or_count() found none, nobody had it open. */
static bool is_untouched(struct store *s, ino_t ino, unsigned closed)
{
	bool untouched = true;

	pthread_mutex_lock(&s->lock);
	for (struct file *f = s->files[bucket_of(ino)]; f && untouched; f = f->next)
		untouched = f->ino != ino;
	untouched &= closed == s->closed[bucket_of(ino)];
	pthread_mutex_unlock(&s->lock);
	return untouched;
}

/* Into the table; *ret is f then.  If another thread was first, *ret is its object and f is the caller's to free.  -ERESTART: one
 * was first and is gone again, and may have written what f knows nothing of; `closed`: from before f was read, NULL: it is new. */
static int publish(struct file *f, const unsigned *closed, struct file **ret)
{
	struct store *s = f->store;
	size_t b = bucket_of(f->ino);
	int r = 0;

	pthread_mutex_lock(&s->lock);
	*ret = find_locked(s, f->ino);
	if (!*ret && closed && *closed != s->closed[b]) {
		r = -ERESTART;
	} else if (!*ret) {
		f->next = s->files[b];
		s->files[b] = f;
		f->refs = 1;
		*ret = f;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Lets one reference go.  False: it is the last one and hint or floor are not set yet, so that whoever opens the
 * file next would not find them. */
static bool unpublish(struct file *f, bool flushed, bool *ret_last)
{
	struct store *s = f->store;
	struct file **at;
	bool done;

	pthread_mutex_lock(&s->lock);
	/* The only reference: nobody else changes what is due. */
	done = f->refs > 1 || (f->hint && !f->floor_due) || flushed;
	*ret_last = done && --f->refs == 0;
	if (*ret_last) {
		for (at = &s->files[bucket_of(f->ino)]; *at != f; at = &(*at)->next)
			;
		*at = f->next;
		s->closed[bucket_of(f->ino)]++;
		atomic_fetch_add(&s->closed_all, 1);
	}
	pthread_mutex_unlock(&s->lock);
	return done;
}

static void file_free(struct file *f)
{
	if (f->hidden_in)
		(void)unlinkat(f->hidden_in->fd, f->hidden, 0);
	store_dir_unref(f->hidden_in);
	if (f->tail) {
		sodium_memzero(f->tail, SECTOR_DATA);
		free(f->tail);
	}
	free(f->head);
	store_key_free(f->store, f->key);
	pthread_rwlock_destroy(&f->lock);
	if (f->nameless)
		reaper_close(f->store->reaper, take_fd(&f->fd));
	close_fdp(&f->fd);
	free(f);
}
DEFINE_SCOPED(struct file *, file_free)

static int file_new(struct store *s, int fd, struct file **ret)
{
	struct file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->store = s;
	f->fd = fd;
	f->hint = true;
	f->h.suite = s->suite;
	pthread_rwlock_init(&f->lock, NULL);
	*ret = f;
	return 0;
}

/* What the header to come will say. */
static void set_future(struct file *f, struct store_dir *d, const char *entry)
{
	randombytes_buf(f->h.id.b, sizeof(f->h.id.b));
	f->h.rec.generation = 1;
	f->h.rec.origin_class = (uint16_t)atomic_load(&d->class);
	f->h.rec.origin_day = (uint16_t)atomic_load(&f->store->today);
	place_of_file(&d->keys->place, &f->h.id, entry, &f->place.now);
	f->place.before = f->place.now;
}

static int unwrap(struct file *f, const uint8_t header[HEADER_BYTES])
{
	scoped(key32_wipe) struct key32 wrap = {0};
	struct header h;
	int r;

	r = header_peek(header, &h);
	if (r < 0)
		return store_damage("header");
	r = keytree_derive(f->store->tree, h.leaf, KEY_USE_WRAP, &wrap);
	if (r < 0)
		return r;
	f->key = store_key_alloc(f->store);
	if (!f->key)
		return -ENOMEM;
	r = header_open(header, &wrap, &f->h, f->key);
	return r < 0 ? store_damage("header") : 0;
}

static int load_place(struct file *f)
{
	uint8_t bytes[PLACE_BYTES + 1];
	ssize_t n;

	n = backing_getxattr(f->fd, PLACE_XATTR, bytes, sizeof(bytes));
	if (n == -ENODATA || n == -ERANGE)
		n = 0;
	if (n < 0)
		return (int)n;
	if (n > 0 && place_decode(bytes, (size_t)n, &f->place) == 0)
		return 0;
	/* No place at all fits nothing but a linked file: a random one does the same. */
	randombytes_buf(&f->place, sizeof(f->place));
	return 0;
}

/* Most files are read from their beginning, and once: what came with the header need not be read again. */
static void keep_head(struct file *f, const uint8_t sector[SECTOR_BYTES])
{
	f->head = malloc(SECTOR_BYTES);
	if (f->head)
		memcpy(f->head, sector, SECTOR_BYTES);
}

/* A power cut kept the size and not the header, as ext4 does for half a minute after the first write: the file never had
 * content.  Its size is put right where nothing but holes is lost by that. */
static int cut_nothing(struct file *f)
{
	if (!f->writable || lseek(f->fd, 0, SEEK_DATA) >= 0 || errno != ENXIO)
		return 0;
	return file_set_backing_size(f, 0);
}

/* What only a crash leaves.  f is in the table: nobody writes but through it. */
static int mend(struct file *f)
{
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = f->has_header ? file_set_hint(f) : cut_nothing(f);
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* The header and what the backing says of the size.  *ret_mend: mend() has something to do. */
static int load(struct file *f, const struct stat *st, bool *ret_mend)
{
	uint64_t count = (uint64_t)(st->st_size - HEADER_BYTES) / SECTOR_BYTES;
	size_t excess = (size_t)(st->st_size % SECTOR_BYTES), n;
	uint8_t bytes[HEADER_BYTES + LOAD_SECTORS * SECTOR_BYTES];
	size_t all = HEADER_BYTES + (count <= LOAD_SECTORS ? (size_t)count * SECTOR_BYTES : 0);
	const uint8_t *last = NULL;
	int r;

	if (st->st_size < HEADER_BYTES)
		return store_damage("header");
	r = backing_read(f->fd, bytes, all, 0, &n);
	if (r < 0)
		return r;
	if (n < HEADER_BYTES)
		return store_damage("header");
	*ret_mend = bytes[0] == 0 && sodium_is_zero(bytes, HEADER_BYTES);
	if (*ret_mend)
		return 0;
	r = unwrap(f, bytes);
	if (r < 0)
		return r;
	f->has_header = true;
	f->stale = false;
	f->hint = (count > 0) == (excess > 0) && excess <= SECTOR_DATA;
	f->size = count * SECTOR_DATA;
	if (count > 0 && f->hint)
		f->size += excess - SECTOR_DATA;
	if (n == all && all > HEADER_BYTES)
		last = bytes + all - SECTOR_BYTES;
	r = file_load_tail(f, last);
	if (r == 0 && last && count > 1)
		keep_head(f, bytes + HEADER_BYTES);
	f->promised = f->size;
	*ret_mend = !f->hint;
	return r < 0 ? r : load_place(f);
}

int file_check_place(struct file *f, struct store_dir *d, const char *entry)
{
	struct place_mac mac;
	bool bound, fits;

	pthread_rwlock_rdlock(&f->lock);
	bound = f->has_header && !(f->h.rec.flags & HEADER_LINKED);
	place_of_file(&d->keys->place, &f->h.id, entry, &mac);
	fits = place_fits(&f->place, &mac);
	pthread_rwlock_unlock(&f->lock);
	return bound && !fits ? store_damage("place") : 0;
}

static int open_backing(struct store_dir *d, const char *entry, bool *ret_writable)
{
	int fd = backing_open(d->fd, entry, O_RDWR);

	*ret_writable = fd >= 0;
	if (fd == -EROFS || fd == -EACCES || fd == -EPERM || fd == -ETXTBSY)
		fd = backing_open(d->fd, entry, O_RDONLY);
	return fd;
}

/* What nobody has open, as the disk tells it.  -ERESTART: somebody had meanwhile, and it may be another by now. */
static int open_anew(struct store_dir *d, const char *entry, int *fd, bool writable, const struct stat *st, unsigned closed,
	struct file **ret)
{
	scoped(file_freep) struct file *f = NULL;
	bool to_mend = false;
	int r = file_new(d->store, *fd, &f);

	if (r < 0)
		return r;
	(void)take_fd(fd);
	f->ino = st->st_ino;
	f->writable = writable;
	f->linked = st->st_nlink > 1;
	f->stale = true;
	atomic_init(&f->lost, store_is_lost(d->store, f->ino));
	r = st->st_size > 0 ? load(f, st, &to_mend) : 0;
	if (!f->has_header)
		set_future(f, d, entry);
	if (r < 0) /* a sector that somebody was writing reads as damage */
		return is_untouched(d->store, st->st_ino, closed) ? r : -ERESTART;
	r = publish(f, &closed, ret);
	if (r < 0 || *ret != f)
		return r;
	(void)take_ptr(&f);
	r = to_mend ? mend(*ret) : 0;
	if (r < 0)
		file_close(*ret);
	return r;
}

static int open_once(struct store_dir *d, const char *entry, struct file **ret)
{
	unsigned closed, closed_all = atomic_load(&d->store->closed_all);
	scoped(close_fdp) int fd = -1;
	struct stat st;
	bool writable;

	fd = open_backing(d, entry, &writable);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	*ret = find_or_count(d->store, st.st_ino, &closed);
	if (*ret)
		return 0;
	if (closed_all != atomic_load(&d->store->closed_all) && fstat(fd, &st) < 0)
		return -errno; /* it may have been this one: what counts is how it stands now that nobody has it open */
	return open_anew(d, entry, &fd, writable, &st, closed, ret);
}

int file_open_entry(struct store_dir *d, const char *entry, struct file **ret)
{
	struct file *f = NULL;
	int r;

	do
		r = open_once(d, entry, &f);
	while (r == -ERESTART);
	if (r < 0)
		return r;
	r = file_check_place(f, d, entry);
	if (r < 0) {
		file_close(f);
		return r;
	}
	*ret = f;
	return 0;
}

int file_open(struct store_dir *d, const char *name, struct file **ret)
{
	struct name_entry n;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	return r < 0 ? r : file_open_entry(d, n.entry, ret);
}

static int create(struct store_dir *d, const char *entry, mode_t mode, struct file **ret, struct stat *ret_st)
{
	scoped(subjects_freep) struct subjects *subjects = NULL;
	scoped(file_freep) struct file *f = NULL;
	scoped(close_fdp) int fd = -1;
	int r;

	r = dir_check_class(d);
	if (r < 0)
		return r;
	fd = openat(d->fd, entry, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_st) < 0) {
		r = -errno;
		(void)unlinkat(d->fd, entry, 0);
		return r;
	}
	r = file_new(d->store, fd, &f);
	if (r < 0) {
		(void)unlinkat(d->fd, entry, 0);
		return r;
	}
	(void)take_fd(&fd);
	f->ino = ret_st->st_ino;
	store_forget_lost(d->store, f->ino); /* another one, that is gone */
	f->writable = true;
	set_future(f, d, entry);
	(void)tunnel_take(d, entry, &f->h.rec, &subjects);
	r = subjects ? file_add_subjects(f, subjects) : 0;
	if (r < 0) {
		(void)unlinkat(d->fd, entry, 0);
		return r;
	}
	(void)publish(f, NULL, ret);
	if (*ret == f) /* else another thread has opened it by now */
		(void)take_ptr(&f);
	return 0;
}

int file_create(struct store_dir *d, const char *name, mode_t mode, struct file **ret, struct stat *ret_st)
{
	struct name_entry n;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	if (r == 0)
		r = dir_write_side(d, &n);
	return r < 0 ? r : create(d, n.entry, mode, ret, ret_st);
}

int file_create_unnamed(
	struct store_dir *root, struct store_dir *d, mode_t mode, struct file **ret, struct stat *ret_st)
{
	char hidden[SIDE_RANDOM_TEXT];
	int r = dir_check_class(d);

	if (r < 0)
		return r;
	dir_side_random(SIDE_FILE_PREFIX, hidden);
	r = create(root, hidden, mode, ret, ret_st);
	if (r < 0)
		return r;
	(*ret)->h.rec.origin_class = (uint16_t)atomic_load(&d->class);
	memcpy((*ret)->hidden, hidden, sizeof(hidden));
	(*ret)->hidden_in = store_dir_ref(root);
	ret_st->st_nlink = 0;
	return 0;
}

int file_link_unnamed(struct file *f, struct store_dir *to, const char *new_name)
{
	struct name_entry n;
	int r;

	r = name_seal(&to->keys->name, new_name, &n);
	if (r < 0)
		return r;
	if (!f->hidden_in)
		return -ENOENT;
	r = dir_write_side(to, &n);
	if (r == 0)
		r = file_move(f, f->hidden_in, f->hidden, to, n.entry);
	if (r < 0)
		return r;
	if (renameat2(f->hidden_in->fd, f->hidden, to->fd, n.entry, RENAME_NOREPLACE) < 0)
		return -errno;
	atomic_fetch_add(&f->store->renames, 1);
	pthread_rwlock_wrlock(&f->lock);
	store_dir_unref(f->hidden_in);
	f->hidden_in = NULL;
	pthread_rwlock_unlock(&f->lock);
	return 0;
}

void file_close(struct file *f)
{
	bool last, failed = false;

	if (!f)
		return;
	/* Another thread can have found the file, written and let go between our flush and our going: again.
	 */
	while (!unpublish(f, failed, &last))
		failed = file_flush(f) < 0;
	if (last)
		file_free(f);
}

bool file_writable(const struct file *f)
{
	return f->writable;
}

void file_id(const struct file *f, struct file_id *ret)
{
	struct file *shared = (struct file *)f;

	pthread_rwlock_rdlock(&shared->lock);
	*ret = f->has_header ? f->h.id : (struct file_id){{0}};
	pthread_rwlock_unlock(&shared->lock);
}

int file_stat(struct file *f, struct stat *ret)
{
	int r = 0;

	pthread_rwlock_rdlock(&f->lock);
	if (fstat(f->fd, ret) < 0)
		r = -errno;
	ret->st_size = (off_t)f->size;
	if (f->hidden_in)
		ret->st_nlink = 0;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

uint64_t file_size(struct file *f)
{
	uint64_t size;

	pthread_rwlock_rdlock(&f->lock);
	size = f->size;
	pthread_rwlock_unlock(&f->lock);
	return size;
}

uint64_t file_version(struct file *f, char *text)
{
	uint64_t size;

	pthread_rwlock_rdlock(&f->lock);
	size = f->size;
	text[0] = 0;
	if (f->bare)
		memcpy(text, VERSION_BARE, sizeof(VERSION_BARE));
	else if (f->written.time)
		version_format(&f->written, text);
	pthread_rwlock_unlock(&f->lock);
	return size;
}

/* `durable` bytes are on disk now. */
static int raise_floor(struct file *f, uint64_t durable)
{
	struct header_record rec = f->h.rec;

	if (durable > f->size)
		durable = f->size;
	if (!f->has_header || !f->writable || rec.floor >= durable)
		return 0;
	rec.floor = durable;
	return file_write_record(f, &rec, false);
}

int file_flush(struct file *f)
{
	bool due;
	int r = 0;

	pthread_rwlock_rdlock(&f->lock);
	due = !f->hint || f->floor_due;
	pthread_rwlock_unlock(&f->lock);
	if (!due)
		return 0;
	pthread_rwlock_wrlock(&f->lock);
	r = file_set_hint(f);
	if (r == 0 && f->floor_due && !atomic_load(&f->lost))
		r = raise_floor(f, f->floor_due);
	f->floor_due = 0;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* A database syncs for each transaction.  A hint is cut off again by the next write, and a floor is one more block to be
 * written then: so once a second is enough, and when it is closed. */
static bool is_first_of_second(const struct file *f, time_t *ret)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	*ret = now.tv_sec;
	return now.tv_sec != f->floor_second;
}

static int note_durable(struct file *f, uint64_t size)
{
	time_t second;
	bool first = is_first_of_second(f, &second);

	if (size > f->promised)
		f->promised = size;
	if (!first) {
		f->floor_due = size > f->h.rec.floor ? size : 0;
		return 0;
	}
	f->floor_second = second;
	f->floor_due = 0;
	return raise_floor(f, size);
}

int file_sync(struct file *f, bool data_only)
{
	uint64_t size, cuts;
	time_t second;
	int r;

	pthread_rwlock_wrlock(&f->lock);
	r = is_first_of_second(f, &second) ? file_set_hint(f) : 0;
	size = f->size;
	cuts = f->cuts;
	pthread_rwlock_unlock(&f->lock);
	if (r < 0)
		return r;
	r = file_wait(f, data_only);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	/* Cut meanwhile and grown again: those bytes are others, and perhaps not on disk. */
	r = cuts == f->cuts ? note_durable(f, size) : 0;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_move(
	struct file *f, struct store_dir *d, const char *entry, struct store_dir *to, const char *new_entry)
{
	uint8_t bytes[PLACE_BYTES];
	struct place place;
	int r;

	r = file_check_place(f, d, entry);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&f->lock);
	place_of_file(&d->keys->place, &f->h.id, entry, &place.before);
	place_of_file(&to->keys->place, &f->h.id, new_entry, &place.now);
	if (f->has_header) {
		place_encode(&place, bytes);
		r = backing_setxattr(f->fd, PLACE_XATTR, bytes, sizeof(bytes), 0);
	}
	if (r == 0)
		f->place = place;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

int file_mark_linked(struct file *f)
{
	int r = 0;

	pthread_rwlock_wrlock(&f->lock);
	if (f->has_header)
		r = file_set_flags(f, HEADER_LINKED);
	f->linked = true;
	pthread_rwlock_unlock(&f->lock);
	return r;
}

/* Retention goes on counting from the file whose name this one takes. */
int file_inherit(struct file *f, struct file *replaced)
{
	struct header_record rec;
	uint16_t class, day;
	uint64_t line;
	bool had;
	int r;

	pthread_rwlock_rdlock(&replaced->lock);
	had = replaced->has_header;
	class = replaced->h.rec.origin_class;
	day = replaced->h.rec.origin_day;
	line = header_line(&replaced->h);
	pthread_rwlock_unlock(&replaced->lock);
	if (!had)
		return 0;
	pthread_rwlock_wrlock(&f->lock);
	rec = f->h.rec;
	rec.origin_class = class;
	rec.origin_day = day;
	if (store_is_held(f->store, line))
		rec.line = line;
	r = 0;
	if (rec.origin_class != f->h.rec.origin_class || rec.origin_day != f->h.rec.origin_day ||
		rec.line != f->h.rec.line) {
		if (f->has_header) {
			r = file_write_record(f, &rec, false);
		} else {
			f->h.rec = rec;
			r = file_need_header(f, 0);
		}
	}
	pthread_rwlock_unlock(&f->lock);
	return r;
}
