/* What the sources of a file share among themselves and with the store. */
#ifndef COFFER_FILE_IMPL_H
#define COFFER_FILE_IMPL_H

#include <time.h>

#include "fs/store/file.h"
#include "fs/store/header.h"
#include "fs/store/sector.h"
#include "fs/store/store_impl.h"
#include "fs/store/version.h"

struct file {
	struct store *store;
	unsigned refs;		/* under store->lock */
	ino_t ino;
	struct file *next;	/* same bucket; under store->lock */
	int fd;
	bool writable;
	bool nameless;		/* its last name is gone: closing it frees its blocks */
	struct store_dir *hidden_in;	/* while it has no name: where its hidden entry is */
	char hidden[SIDE_RANDOM_TEXT];

	pthread_rwlock_t lock;	/* before store->lock; of all that follows */
	bool has_header;
	bool linked;		/* without header: it has several names, say so in the header */
	atomic_bool lost;	/* an fsync failed: the kernel forgot what it did not write, so a later one promises nothing */
	bool stale;		/* without header: what one that was lost in a power cut left must go before the next */
	bool hint;		/* the backing's size tells ours, or nothing can be done about it */
	struct header h;	/* without header: id and origin of the one to come */
	struct key32 *key;	/* in a key slot; NULL without header */
	struct place place;
	uint64_t size;
	uint64_t promised;	/* up to here an fsync may have promised it, whatever the floor says */
	uint64_t floor_due;	/* the next flush raises the floor to this; 0: it need not */
	int64_t floor_second;	/* when an fsync raised it last, by the monotonic clock */
	uint64_t cuts; /* how often it was cut: what was written since an fsync began is not durable by it */

	uint8_t *head;		/* ciphertext of sector 0 as it came with the header; NULL: not kept */
	uint8_t *tail;		/* SECTOR_DATA bytes: plaintext of the last sector when tail_len > 0 */
	size_t tail_len;

	struct cipher_nonce nonce;
	uint64_t nonce_time;	/* what its salt carries */
	uint32_t nonce_left;	/* sectors until a fresh salt */
	time_t nonce_until;
	struct version written;	/* of the newest sector that was written through this object */
	bool bare;		/* ... and after it came a change that no sector tells of */
};

static inline uint64_t file_sectors(uint64_t size)
{
	return (size + SECTOR_DATA - 1) / SECTOR_DATA;
}

static inline off_t file_sector_offset(uint64_t index)
{
	return HEADER_BYTES + (off_t)index * SECTOR_BYTES;
}

#define FILE_SIZE_MAX (((uint64_t)INT64_MAX / SECTOR_BYTES - 2) * SECTOR_DATA)

DEFINE_SCOPED(struct file *, file_close)

int file_open_entry(struct store_dir *d, const char *entry, struct file **ret);
struct file *file_find(struct store *s, ino_t ino);	/* open already?  With a reference, or NULL */

/* f->lock is held for writing. */
int file_need_header(struct file *f, uint32_t flags);		/* a header with these flags is on disk */
int file_wait(struct file *f, bool data_only);	/* fsync; -EIO for good once one has failed.  No lock needed */
int file_write_record(struct file *f, const struct header_record *rec, bool durable);
int file_set_flags(struct file *f, uint32_t flags);		/* durable when it returns */
int file_set_backing_size(struct file *f, off_t size);	/* and no time changes */
int file_drop_hint(struct file *f);
int file_set_hint(struct file *f);
/* Makes id, key and bytes of a header; the caller writes them, or calls file_abandon_header. */
int file_prepare_header(struct file *f, uint32_t flags, uint8_t out[HEADER_BYTES]);
void file_abandon_header(struct file *f);
/* Of that class and, while it is there, that day; else of today. */
int file_new_leaf(struct store *s, uint16_t class, uint16_t day, struct leaf_index *ret, struct key32 *ret_wrap);
struct cipher_file file_cipher(const struct file *f);
void file_next_nonce(struct file *f);	/* f->nonce is one that was never used */
/* Whole sectors in a row, by several threads: worth it from FILE_RUN_MIN on.  open: false when one of them is a hole or
 * does not open; then do it one by one to see which. */
#define FILE_RUN_MIN 64u
int file_seal_run(struct file *f, uint64_t index, const uint8_t *data, size_t count, uint8_t *out);
bool file_open_run(struct file *f, uint64_t index, const uint8_t *in, size_t count, uint8_t *out);
/* One sector's plaintext as it reads today, zero-extended.  A lock of either kind. */
int file_load_sector(struct file *f, uint64_t index, uint8_t plain[SECTOR_DATA], size_t *ret_len);
/* The same; *ret_stored: how long the sector says it is; 0: a hole. */
int file_load_stored(struct file *f, uint64_t index, uint8_t plain[SECTOR_DATA], size_t *ret_len, size_t *ret_stored);
/* Of file_io.c, for file_size.c; f->lock is held for writing. */
int file_need_buffer(void);	/* -ENOMEM: this thread cannot write */
void file_drop_head(struct file *f);	/* before anything in the file changes */
int file_write_range(struct file *f, const uint8_t *data, uint64_t n, uint64_t off);	/* all of it; data NULL: zeros */
int file_put_sector(struct file *f, uint64_t index, const uint8_t *plain, size_t len);	/* file_need_buffer() was 0 */
void file_mark_written(struct file *f);	/* sectors sealed by now are written */
void file_remember_tail(struct file *f, const uint8_t *plain, size_t len);	/* the last sector is plain[0..len) now, or full */
/* At open: finds the true end.  `last`: the ciphertext of the last sector by the size, or NULL. */
int file_load_tail(struct file *f, const uint8_t *last);
/* *count: sectors that the backing's size tells; less those at the end that are zeros: they were never written (a crash
 * came first).  b: SECTOR_BYTES of room, then the last sector. */
int file_last_written(int fd, uint64_t *count, uint8_t *b);

struct xattr_keys;
struct xattr_owner;

/* For names that change.  Namespace lock held, f->lock not. */
int file_check_place(struct file *f, struct store_dir *d, const char *entry);
int file_move(struct file *f, struct store_dir *d, const char *entry, struct store_dir *to, const char *new_entry);
int file_mark_linked(struct file *f);
int file_inherit(struct file *f, struct file *replaced);
void file_xattr_owner(struct file *f, struct xattr_keys *keys, struct xattr_owner *ret);	/* it has a header */
/* Its key, wrapped under a fresh leaf of that class and day (that day being destroyed: of today), and its record says
 * `origin_class`; what is on disk is old or new, and opens, as long as both leaves live.  Without header: what the one to
 * come will say.  Nobody may be opening the file: the namespace lock is held for writing. */
struct rewrap {
	uint16_t class, day, origin_class;
};
int file_rewrap(struct file *f, const struct rewrap *to);	/* then file_wait(f, true) makes it last */
void file_origin(struct file *f, struct leaf_index *ret_leaf, uint16_t *ret_class, uint16_t *ret_day);

/* Attributes: of a descriptor, under keys derived by the caller. */
struct xattr_keys {
	struct key32 name, value;
};
struct xattr_owner {
	int fd;
	uint8_t id[16];
	struct xattr_keys *keys;
};
void xattr_keys_wipe(struct xattr_keys *k);
void xattr_keys_of_file(const struct key32 *content, struct xattr_keys *ret);
void xattr_keys_of_dir(const struct key32 *names, struct xattr_keys *ret);
int xattr_check_name(const char *attr);
int xattr_get(const struct xattr_owner *o, const char *attr, void *buf, size_t cap);
int xattr_set(const struct xattr_owner *o, const char *attr, const void *val, size_t n, int flags);
int xattr_list(const struct xattr_owner *o, char *buf, size_t cap);
int xattr_remove(const struct xattr_owner *o, const char *attr);
void xattr_remove_all(int fd);

#endif
