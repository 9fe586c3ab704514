/* One file: header, place, attributes, each sector, its length, its age. */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/check_impl.h"

#define CHUNK 256 /* sectors read at once */
#define FINDINGS 6
#define TICK_NS 20000000 /* times of files are that much coarser than the clock */

struct look {
	struct check *c;
	const struct check_entry *e;
	int fd;
	struct stat st;
	bool has_header, in_use, changed, aged;
	struct header h;
	struct key32 key;
	uint64_t count; /* sectors up to the last that was written */
	size_t last_len;
	uint64_t bad;
	char bad_text[112];
	struct version newest;
	uint8_t salt[CIPHER_SALT_BYTES]; /* the last one seen, and its moment */
	uint64_t salt_time;
	struct check_finding found[FINDINGS];
	unsigned found_n;
};

static void look_done(struct look *l)
{
	close_fdp(&l->fd);
	sodium_memzero(&l->key, sizeof(l->key));
}

static struct check_finding *note(struct look *l, const char *what, bool damage)
{
	struct check_finding *f = &l->found[l->found_n < FINDINGS - 1 ? l->found_n++ : FINDINGS - 1];

	*f = (struct check_finding){.what = what, .damage = damage, .done = ""};
	return f;
}

static bool in_use(const struct look *l)
{
	struct file *f = file_find(l->c->store, l->st.st_ino);

	file_close(f);
	return f != NULL;
}

/* -ENOENT: it has gone, or is something else now. */
static int look_open(struct look *l)
{
	close_fdp(&l->fd);
	l->fd = backing_open(l->e->dir->fd, l->e->entry, O_RDONLY);
	if (l->fd == -ELOOP || l->fd == -ENXIO)
		return -ENOENT;
	if (l->fd < 0)
		return l->fd;
	if (fstat(l->fd, &l->st) < 0)
		return -errno;
	l->in_use = in_use(l);
	return S_ISREG(l->st.st_mode) ? 0 : -ENOENT;
}

/* ---- what the header says; NULL: nothing is wrong ---- */

static const char *place_fault(struct look *l)
{
	uint8_t bytes[PLACE_BYTES + 1];
	struct place place;
	struct place_mac mac;
	ssize_t n;

	if (l->h.rec.flags & HEADER_LINKED)
		return NULL;
	if (l->st.st_nlink > 1)
		return "links";
	n = backing_getxattr(l->fd, PLACE_XATTR, bytes, sizeof(bytes));
	if (n < 0 && n != -ENODATA && n != -ERANGE)
		return "unreadable";
	place_of_file(&l->e->dir->keys->place, &l->h.id, l->e->entry, &mac);
	if (n < 0 || place_decode(bytes, (size_t)n, &place) < 0 || !place_fits(&place, &mac))
		return "place";
	return NULL;
}

static const char *xattr_fault(struct look *l)
{
	scoped(xattr_keys_wipe) struct xattr_keys keys = {0};
	struct xattr_owner o = {.fd = l->fd, .keys = &keys};

	xattr_keys_of_file(&l->key, &keys);
	memcpy(o.id, l->h.id.b, sizeof(o.id));
	return check_xattrs(&o) < 0 ? "xattr" : NULL;
}

static const char *header_fault(struct look *l)
{
	scoped(key32_wipe) struct key32 wrap = {0};
	uint8_t head[HEADER_BYTES];
	size_t n;
	int r;

	l->has_header = false;
	r = backing_read(l->fd, head, sizeof(head), 0, &n);
	if (r < 0)
		return "unreadable";
	if (n < sizeof(head) || header_peek(head, &l->h) < 0)
		return "header";
	r = keytree_derive(l->c->store->tree, l->h.leaf, KEY_USE_WRAP, &wrap);
	if (r == -ENOKEY)
		return "destroyed";
	if (r < 0 || header_open(head, &wrap, &l->h, &l->key) < 0)
		return "header";
	l->has_header = true;
	return NULL;
}

static const char *head_fault(struct look *l)
{
	const char *word;

	if (l->st.st_size == 0) {
		l->has_header = false;
		return backing_getxattr(l->fd, PLACE_XATTR, NULL, 0) >= 0 ? "emptied" : NULL;
	}
	word = header_fault(l);
	if (!word)
		word = place_fault(l);
	return word ? word : xattr_fault(l);
}

/* All of it again while nobody can open it.  What is in use was sound when it was opened. */
static int head_again(struct look *l, const char **ret_word)
{
	int r = look_open(l);

	*ret_word = NULL;
	if (r < 0)
		return r;
	*ret_word = head_fault(l);
	if (l->in_use)
		*ret_word = NULL;
	return 0;
}

static int look_head(struct look *l)
{
	pthread_rwlock_t *names = l->c->opt->names;
	const char *word = NULL;
	int r;

	pthread_rwlock_rdlock(names);
	r = look_open(l);
	if (r == 0)
		word = head_fault(l);
	pthread_rwlock_unlock(names);
	if (r < 0 || !word)
		return r;
	pthread_rwlock_wrlock(names);
	r = head_again(l, &word);
	pthread_rwlock_unlock(names);
	if (r == 0 && word)
		note(l, word, strcmp(word, "emptied") != 0);
	return r;
}

/* ---- sectors ---- */

static void note_bad(struct look *l, uint64_t index)
{
	size_t n = strlen(l->bad_text);

	l->bad++;
	if (n + 24 < sizeof(l->bad_text))
		snprintf(l->bad_text + n, sizeof(l->bad_text) - n, "%s%llu", n ? ", " : "",
			(unsigned long long)index);
	else if (l->bad_text[n - 1] != '.')
		snprintf(l->bad_text + n, sizeof(l->bad_text) - n, ", ...");
}

static void take_version(struct look *l, const uint8_t *sector)
{
	struct version v = {0};

	if (!l->salt_time || memcmp(l->salt, sector, CIPHER_SALT_BYTES) != 0) {
		memcpy(l->salt, sector, CIPHER_SALT_BYTES);
		l->salt_time = version_time(&l->key, l->salt);
	}
	v.time = l->salt_time;
	for (unsigned i = 0; i < 8; i++)
		v.counter |= (uint64_t)sector[CIPHER_SALT_BYTES + i] << (8 * i);
	if (version_compare(&l->newest, &v) < 0)
		l->newest = v;
}

static bool sector_good(struct look *l, uint64_t index, const uint8_t *b)
{
	const struct cipher_file c = {.suite = l->h.suite, .id = l->h.id, .key = &l->key};
	uint8_t plain[SECTOR_DATA];
	size_t n = 0;
	bool good;

	if (sector_is_hole(b))
		return l->h.rec.flags & HEADER_HOLES;
	good = sector_open(&c, index, b, plain, &n) == 0;
	sodium_memzero(plain, sizeof(plain));
	if (good)
		take_version(l, b);
	if (good && index + 1 == l->count)
		l->last_len = n;
	return good;
}

/* The session that has it open keeps its sectors from changing under us. */
static void confirm_in_use(struct look *l, struct file *f, const uint64_t *bad, size_t n)
{
	uint8_t plain[SECTOR_DATA];
	size_t i, len;
	int r = 0;

	for (i = 0; i < n; i++) {
		pthread_rwlock_rdlock(&f->lock);
		if (bad[i] < file_sectors(f->size))
			r = file_load_sector(f, bad[i], plain, &len);
		pthread_rwlock_unlock(&f->lock);
		if (r < 0)
			note_bad(l, bad[i]);
		r = 0;
	}
	sodium_memzero(plain, sizeof(plain));
}

/* Nobody can open it. */
static void confirm_alone(struct look *l, const uint64_t *bad, size_t n, uint8_t *b)
{
	size_t i, got;

	if (look_open(l) < 0 || header_fault(l)) {
		l->changed = true;
		return;
	}
	for (i = 0; i < n; i++)
		if (backing_read(l->fd, b, SECTOR_BYTES, file_sector_offset(bad[i]), &got) < 0 ||
			(got == SECTOR_BYTES && !sector_good(l, bad[i], b)))
			note_bad(l, bad[i]);
}

static void confirm(struct look *l, const uint64_t *bad, size_t n, uint8_t *b)
{
	pthread_rwlock_t *names = l->c->opt->names;
	struct file *f;

	pthread_rwlock_wrlock(names);
	f = file_find(l->c->store, l->st.st_ino);
	if (!f)
		confirm_alone(l, bad, n, b);
	pthread_rwlock_unlock(names);
	if (!f)
		return;
	l->in_use = true;
	confirm_in_use(l, f, bad, n);
	file_close(f);
}

static void scan_chunk(struct look *l, uint64_t first, size_t n, uint8_t *b)
{
	uint64_t bad[CHUNK];
	size_t i, got = 0, bad_n = 0;
	int r;

	r = backing_read(l->fd, b, n * SECTOR_BYTES, file_sector_offset(first), &got);
	for (i = 0; i < n; i++)
		if (r < 0 || got < (i + 1) * SECTOR_BYTES || !sector_good(l, first + i, b + i * SECTOR_BYTES))
			bad[bad_n++] = first + i;
	if (bad_n > 0)
		confirm(l, bad, bad_n, b);
}

/* Where a hole begins, whole stretches need no look. */
static uint64_t skip_hole(const struct look *l, uint64_t index)
{
	off_t at;

	if (!(l->h.rec.flags & HEADER_HOLES))
		return index;
	at = lseek(l->fd, file_sector_offset(index), SEEK_DATA);
	if (at < 0)
		return errno == ENXIO ? l->count : index;
	at = (at - HEADER_BYTES) / SECTOR_BYTES;
	return (uint64_t)at > index ? (uint64_t)at : index;
}

/* ---- length and age ---- */

static uint64_t size_of(const struct look *l)
{
	return l->count > 0 ? (l->count - 1) * SECTOR_DATA + l->last_len : 0;
}

static const char *size_fault(const struct look *l)
{
	uint64_t hint = (uint64_t)file_sector_offset(l->count) + (l->count > 0 ? l->last_len : 0);

	if (size_of(l) < l->h.rec.floor)
		return "size";
	return (uint64_t)l->st.st_size != hint ? "size-hint" : NULL;
}

/* As file_open does it; nobody can open it. */
static int size_again(struct look *l, uint8_t *b)
{
	size_t n;
	int r;

	r = look_open(l);
	if (r == 0 && (l->in_use || header_fault(l) || l->st.st_size < HEADER_BYTES))
		r = -EBUSY;
	if (r < 0)
		return r;
	l->count = (uint64_t)(l->st.st_size - HEADER_BYTES) / SECTOR_BYTES;
	r = file_last_written(l->fd, &l->count, b);
	if (r == 0 && l->count > 0) {
		r = backing_read(l->fd, b, SECTOR_BYTES, file_sector_offset(l->count - 1), &n);
		if (r == 0 && !sector_good(l, l->count - 1, b))
			r = -EBUSY; /* not a moment ago: it has changed */
	}
	return r;
}

/* It became shorter while it was looked at, or cannot be read. */
static int count_again(struct look *l, uint8_t *b)
{
	pthread_rwlock_t *names = l->c->opt->names;
	struct file *f;
	int r;

	pthread_rwlock_wrlock(names);
	f = file_find(l->c->store, l->st.st_ino);
	if (f)
		l->count = file_sectors(file_size(f));
	r = f ? 0 : size_again(l, b);
	l->changed = true;
	pthread_rwlock_unlock(names);
	file_close(f);
	if (r == -EBUSY || r == -ENOENT) {
		l->count = 0; /* another one now: the next check looks at it */
		r = 0;
	}
	return r;
}

static int scan(struct look *l)
{
	scoped(freep) uint8_t *b = malloc((size_t)CHUNK * SECTOR_BYTES);
	uint64_t i, n;
	int r;

	if (!b)
		return -ENOMEM;
	l->count = (uint64_t)(l->st.st_size - HEADER_BYTES) / SECTOR_BYTES;
	r = file_last_written(l->fd, &l->count, b);
	if (r < 0)
		r = count_again(l, b);
	if (r < 0) {
		note(l, "unreadable", true);
		return 0;
	}
	for (i = skip_hole(l, 0); i < l->count; i = skip_hole(l, i + n)) {
		n = l->count - i < CHUNK ? l->count - i : CHUNK;
		scan_chunk(l, i, n, b);
		l->c->counts->bytes += n * SECTOR_BYTES;
		if (!check_step(l->c))
			return -ECANCELED;
	}
	return 0;
}

static const char *repair_hint(struct look *l)
{
	struct file *f;

	if (!l->c->opt->repair)
		return "";
	if (file_open_entry(l->e->dir, l->e->entry, &f) < 0)
		return "failed";
	file_close(f);
	return "repaired";
}

static void check_size(struct look *l)
{
	pthread_rwlock_t *names = l->c->opt->names;
	uint8_t b[SECTOR_BYTES];
	struct check_finding *f;
	const char *word = size_fault(l);

	if (!word)
		return;
	pthread_rwlock_wrlock(names);
	l->changed = size_again(l, b) < 0;
	word = l->changed ? NULL : size_fault(l);
	/* Cut, it is not for us to give it the length that is left. */
	if (word && (strcmp(word, "size") == 0 || !l->aged)) {
		f = note(l, word, strcmp(word, "size") == 0);
		snprintf(f->detail, sizeof(f->detail), "%llu bytes; %s %llu", (unsigned long long)size_of(l),
			f->damage ? "it had" : "below",
			(unsigned long long)(f->damage ? l->h.rec.floor : (uint64_t)l->st.st_size));
		if (!f->damage)
			f->done = repair_hint(l);
	}
	pthread_rwlock_unlock(names);
}

static const struct check_recorded *recorded_of(const struct look *l)
{
	const struct check_options *o = l->c->opt;
	size_t low = 0, high = o->recorded_n, mid;

	/* Behind the last one of this file. */
	while (low < high) {
		mid = low + (high - low) / 2;
		if (memcmp(o->recorded[mid].file.b, l->h.id.b, FILE_ID_BYTES) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0 || memcmp(o->recorded[low - 1].file.b, l->h.id.b, FILE_ID_BYTES) != 0)
		return NULL;
	return &o->recorded[low - 1];
}

static void say_age(struct check_finding *f, const struct look *l, const struct check_recorded *rec)
{
	snprintf(f->detail, sizeof(f->detail), "written %llu, %llu bytes; recorded at %llu: written %llu, %lld bytes",
		(unsigned long long)(l->newest.time / 1000000000), (unsigned long long)size_of(l),
		(unsigned long long)(rec->time / 1000000000),
		(unsigned long long)(rec->version.time / 1000000000), (long long)rec->size);
}

/* Nobody worked on it since the record was asked: else what the record says is yet to come. */
static bool is_settled(const struct look *l)
{
	int64_t changed_at = l->st.st_ctim.tv_sec * 1000000000 + l->st.st_ctim.tv_nsec;
	struct stat now;

	return !l->in_use && !l->changed && changed_at + TICK_NS < l->c->opt->recorded_at &&
	       fstat(l->fd, &now) == 0 && now.st_ctim.tv_sec == l->st.st_ctim.tv_sec &&
	       now.st_ctim.tv_nsec == l->st.st_ctim.tv_nsec && !in_use(l);
}

static void check_age(struct look *l)
{
	const struct check_recorded *rec = recorded_of(l);
	bool same;

	if (!rec || !is_settled(l))
		return;
	if (rec->version.time)
		same = version_compare(&l->newest, &rec->version) == 0;
	else
		same = l->newest.time <= (uint64_t)rec->time;
	l->aged = true;
	if (rec->version.time && version_compare(&l->newest, &rec->version) < 0)
		say_age(note(l, "rolled-back", true), l, rec);
	else if (same && rec->size >= 0 && (uint64_t)rec->size != size_of(l))
		say_age(note(l, "cut", true), l, rec);
	else
		l->aged = false;
}

/* ---- what is done about it ---- */

static const char *accept_place(struct look *l)
{
	pthread_rwlock_t *names = l->c->opt->names;
	uint8_t bytes[PLACE_BYTES];
	struct place place;
	int r;

	pthread_rwlock_wrlock(names);
	r = look_open(l);
	if (r == 0 && l->in_use)
		r = -EBUSY;
	if (r == 0) {
		place_of_file(&l->e->dir->keys->place, &l->h.id, l->e->entry, &place.now);
		place.before = place.now;
		place_encode(&place, bytes);
		r = backing_setxattr(l->fd, PLACE_XATTR, bytes, sizeof(bytes), 0);
	}
	pthread_rwlock_unlock(names);
	return r == 0 ? "accepted" : r == -EBUSY ? "busy" : "failed";
}

static const char *accept(struct look *l, const struct check_finding *f)
{
	if (strcmp(f->what, "place") == 0)
		return accept_place(l);
	return strcmp(f->what, "rolled-back") == 0 || strcmp(f->what, "cut") == 0 ? "accepted" : "";
}

static void finish(struct look *l)
{
	const struct check_options *o = l->c->opt;
	const char *isolated = NULL;
	struct check_finding *f;

	for (f = l->found; f < l->found + l->found_n; f++) {
		if (l->has_header) {
			f->file = l->h.id;
			f->version = l->newest;
			f->size = size_of(l);
		}
		if (f->damage && o->accept)
			f->done = accept(l, f);
		if (f->damage && !*f->done && strcmp(f->what, "xattr") != 0 && !check_is_swept(l->c, f->what)) {
			if (!isolated)
				isolated = l->in_use && o->isolate ? "busy" : check_isolate(l->c, l->e);
			f->done = isolated;
		}
		check_report(l->c, f);
	}
}

int check_file(struct check *c, const struct check_entry *e)
{
	scoped(look_done) struct look l = {.c = c, .e = e, .fd = -1};
	struct check_finding *f;
	int r;

	r = look_head(&l);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		note(&l, "unreadable", true);
	else if (l.has_header && l.st.st_size >= HEADER_BYTES)
		r = scan(&l);
	if (r == -ECANCELED || r == -ENOMEM)
		return r;
	if (l.bad > 0) {
		f = note(&l, "sector", true);
		snprintf(f->detail, sizeof(f->detail), "%llu of %llu: %s", (unsigned long long)l.bad,
			(unsigned long long)l.count, l.bad_text);
	} else if (r == 0 && l.has_header && !l.in_use && !l.changed) {
		check_age(&l);
		check_size(&l);
	}
	c->counts->files++;
	finish(&l);
	return 0;
}
