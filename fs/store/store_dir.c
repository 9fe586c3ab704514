/* Directories: ids, the keys behind them, and what must happen before one can be removed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/store/backing.h"
#include "fs/store/file_impl.h"

void dir_side_random(const char *prefix, char out[SIDE_RANDOM_TEXT])
{
	uint8_t random[16];
	size_t n = strlen(prefix);

	randombytes_buf(random, sizeof(random));
	memcpy(out, prefix, n);
	sodium_bin2base64(out + n, SIDE_RANDOM_TEXT - n, random, sizeof(random),
		sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

bool dir_is(const struct store_dir *a, const struct store_dir *b)
{
	uint8_t x[DIR_ID_BYTES], y[DIR_ID_BYTES];

	place_dir_bytes(&a->id, x);
	place_dir_bytes(&b->id, y);
	return memcmp(x, y, sizeof(x)) == 0;
}

int dir_write_side(struct store_dir *d, const struct name_entry *n)
{
	char text[NAME_TEXT_MAX], fresh[SIDE_RANDOM_TEXT];
	ssize_t len;
	int r;

	if (n->side[0] == 0)
		return 0;
	if (symlinkat(n->text, d->fd, n->side) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	/* Its name is the hash of its target: one that is there already is the right one, or was altered.  There may be
	 * an entry that needs it: so there is never a moment without it. */
	len = backing_readlink(d->fd, n->side, text, sizeof(text));
	if (len >= 0 && strcmp(text, n->text) == 0)
		return 0;
	dir_side_random(SIDE_NAME_PREFIX, fresh);
	if (symlinkat(n->text, d->fd, fresh) < 0)
		return -errno;
	if (renameat(d->fd, fresh, d->fd, n->side) == 0)
		return 0;
	r = -errno;
	(void)unlinkat(d->fd, fresh, 0);
	return r;
}

void dir_drop_side(struct store_dir *d, const char *entry)
{
	char side[NAME_MAX_BYTES + 1];

	if (!name_is_long(entry))
		return;
	name_side(entry, side);
	(void)unlinkat(d->fd, side, 0);
}

static void dir_free(struct store_dir *d)
{
	store_key_free(d->store, d->keys);
	subjects_free(d->own);
	subjects_free(d->above);
	close_fdp(&d->fd);
	free(d);
}

struct store_dir *store_dir_ref(struct store_dir *d)
{
	atomic_fetch_add(&d->refs, 1);
	return d;
}

void store_dir_unref(struct store_dir *d)
{
	if (d && atomic_fetch_sub(&d->refs, 1) == 1)
		dir_free(d);
}

static int dir_new(struct store *s, int *fd, struct store_dir **ret)
{
	struct store_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->store = s;
	d->fd = take_fd(fd);
	atomic_init(&d->refs, 1);
	d->keys = store_key_alloc(s);
	if (!d->keys) {
		dir_free(d);
		return -ENOMEM;
	}
	*ret = d;
	return 0;
}

int dir_new_id(struct store *s, struct dir_id *ret)
{
	scoped(key32_wipe) struct key32 key = {0};

	randombytes_buf(ret->random, sizeof(ret->random));
	return store_new_leaf(s, CLASS_NAMES, KEY_USE_NAME, &ret->leaf, &key);
}

int dir_write_id(int fd, const char *which, const struct key32 *parent_place, const struct dir_id *id,
	const char *entry)
{
	char text[PLACE_DIR_TEXT];
	struct place_mac mac;
	mode_t mode;
	int r = 0;

	place_of_dir(parent_place, id, entry, &mac);
	place_dir_encode(id, &mac, text);
	backing_relax(fd, &mode);
	if (unlinkat(fd, which, 0) < 0 && errno != ENOENT)
		r = -errno;
	else if (symlinkat(text, fd, which) < 0)
		r = -errno;
	backing_restore(fd, mode);
	return r;
}

/* Derives the keys of d->id. */
static int derive_keys(struct store_dir *d)
{
	int r;

	r = keytree_derive(d->store->tree, d->id.leaf, KEY_USE_NAME, &d->keys->name);
	if (r == 0)
		r = keytree_derive(d->store->tree, d->id.leaf, KEY_USE_PLACE, &d->keys->place);
	return r;
}

/* 0: `which` names an id that belongs here.  -ENOENT; -EBADMSG.  The root (no parent) vouches for itself. */
static int try_id(struct store_dir *d, const char *which, const struct store_dir *parent, const char *entry)
{
	struct place_mac mac, expected;
	char text[PLACE_DIR_TEXT + 1];
	ssize_t n;
	int r;

	n = backing_readlink(d->fd, which, text, sizeof(text));
	if (n == -EINVAL || n == -ENAMETOOLONG)
		return -EBADMSG;
	if (n < 0)
		return (int)n;
	r = place_dir_decode(text, (size_t)n, &d->id, &mac);
	if (r < 0)
		return r;
	r = derive_keys(d);
	if (r < 0)
		return r;
	place_of_dir(parent ? &parent->keys->place : &d->keys->place, &d->id, entry, &expected);
	return sodium_memcmp(mac.b, expected.b, sizeof(mac.b)) == 0 ? 0 : -EBADMSG;
}

/* Calls `each` for all entries but "." and ".."; it returns nonzero to stop, which is handed on. */
static int for_entries(int fd, int (*each)(int fd, const char *entry))
{
	struct dirent *e;
	DIR *dir;
	int r = 0, own;

	own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (own < 0)
		return -errno;
	dir = fdopendir(own);
	if (!dir) {
		r = -errno;
		close(own);
		return r;
	}
	while (r == 0) {
		errno = 0;
		e = readdir(dir);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = each(fd, e->d_name);
	}
	closedir(dir);
	return r;
}

static int not_empty(int fd, const char *entry)
{
	return entry[0] == '.' ? 0 : -ENOTEMPTY;
}

static int remove_side(int fd, const char *entry)
{
	if (strncmp(entry, SIDE_NAME_PREFIX, 2) == 0 || strncmp(entry, SIDE_TEXT_PREFIX, 2) == 0 ||
		strncmp(entry, SIDE_FILE_PREFIX, 2) == 0)
		(void)unlinkat(fd, entry, 0);
	return 0;
}

/* An empty directory without id is what a crash in mkdir or rmdir leaves. */
static int give_id(struct store_dir *d, const struct store_dir *parent, const char *entry)
{
	int r;

	r = for_entries(d->fd, not_empty);
	if (r < 0)
		return r == -ENOTEMPTY ? store_damage("directory") : r;
	xattr_remove_all(d->fd); /* of the id it had */
	r = dir_new_id(d->store, &d->id);
	if (r == 0)
		r = derive_keys(d);
	if (r < 0)
		return r;
	return dir_write_id(d->fd, DIR_ID, parent ? &parent->keys->place : &d->keys->place, &d->id, entry);
}

/* What a crash left.  Looks again first: another thread that opens d may have been here. */
static int find_loose_id(struct store_dir *d, const struct store_dir *parent, const char *entry)
{
	int r, was;

	was = try_id(d, DIR_ID, parent, entry);
	if (was == 0)
		return 0;
	if (was != -ENOENT && was != -EBADMSG)
		return was;
	/* A crash in a rename: the id of the new place stands beside the old one. */
	r = try_id(d, DIR_ID_NEW, parent, entry);
	if (r == 0)
		return renameat(d->fd, DIR_ID_NEW, d->fd, DIR_ID) < 0 && errno != EROFS ? -errno : 0;
	if (was == -ENOENT && r == -ENOENT)
		return give_id(d, parent, entry);
	return r == -ENOENT || r == -EBADMSG ? store_damage("directory") : r;
}

/* The id of d, which must belong to (parent, entry). */
static int find_id(struct store_dir *d, const struct store_dir *parent, const char *entry, bool *ret_loose)
{
	int r = try_id(d, DIR_ID, parent, entry);

	if (r != -ENOENT && r != -EBADMSG)
		return r;
	pthread_mutex_lock(&d->store->ids);
	r = find_loose_id(d, parent, entry);
	pthread_mutex_unlock(&d->store->ids);
	return r;
}

/* A mode that locks out its owner also locks out the worker of an ordinary user. */
static int relaxed(int (*find)(struct store_dir *d, const struct store_dir *parent, const char *entry, bool *ret_loose),
	struct store_dir *d, const struct store_dir *parent, const char *entry, bool *ret_loose)
{
	mode_t mode;
	int r;

	r = find(d, parent, entry, ret_loose);
	if (r != -EACCES)
		return r;
	backing_relax(d->fd, &mode);
	r = find(d, parent, entry, ret_loose);
	backing_restore(d->fd, mode);
	return r;
}

/* Open, but without id and labels. */
static int open_bare(const struct store_dir *parent, const char *entry, struct store_dir **ret)
{
	scoped(close_fdp) int fd = backing_open(parent->fd, entry, O_RDONLY | O_DIRECTORY);

	return fd < 0 ? fd : dir_new(parent->store, &fd, ret);
}

static int load_labels(struct store_dir *d, const struct store_dir *parent)
{
	int r = dir_load_class(d, parent);

	return r < 0 ? r : dir_load_subjects(d, parent);
}

static int identify(struct store_dir *d, const struct store_dir *parent, const char *entry)
{
	bool loose;
	int r = relaxed(find_id, d, parent, entry, &loose);

	return r < 0 ? r : load_labels(d, parent);
}

int dir_open_entry(struct store_dir *parent, const char *entry, struct store_dir **ret)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	int r = open_bare(parent, entry, &d);

	if (r == 0)
		r = identify(d, parent, entry);
	if (r == 0)
		*ret = take_ptr(&d);
	return r;
}

/* Which of its ids fits; changes nothing. */
static int look_for_id(struct store_dir *d, const struct store_dir *parent, const char *entry, bool *ret_loose)
{
	int r, was;

	*ret_loose = false;
	was = try_id(d, DIR_ID, parent, entry);
	if (was != -ENOENT && was != -EBADMSG)
		return was;
	*ret_loose = true;
	r = try_id(d, DIR_ID_NEW, parent, entry);
	if (was != -ENOENT || r != -ENOENT)
		return r == -ENOENT || r == -EBADMSG ? store_damage("directory") : r;
	r = for_entries(d->fd, not_empty);
	return r == -ENOTEMPTY ? store_damage("directory") : r == 0 ? -ENOENT : r;
}

int dir_look_entry(struct store_dir *parent, const char *entry, struct store_dir **ret, bool *ret_loose)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	int r = open_bare(parent, entry, &d);

	*ret = NULL;
	if (r < 0)
		return r;
	r = relaxed(look_for_id, d, parent, entry, ret_loose);
	if (r == -ENOENT)
		return 0; /* no id and no names: there is nothing to look at */
	if (r == 0)
		r = load_labels(d, parent);
	if (r == 0)
		*ret = take_ptr(&d);
	return r;
}

int dir_adopt_entry(struct store_dir *parent, const char *entry)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	scoped(close_fdp) int fd = -1;
	char text[PLACE_DIR_TEXT + 1];
	struct place_mac mac;
	ssize_t n;
	int r;

	fd = backing_open(parent->fd, entry, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	r = dir_new(parent->store, &fd, &d);
	if (r < 0)
		return r;
	n = backing_readlink(d->fd, DIR_ID, text, sizeof(text));
	if (n < 0)
		return (int)n;
	r = place_dir_decode(text, (size_t)n, &d->id, &mac);
	if (r == 0)
		r = derive_keys(d);
	return r < 0 ? r : dir_write_id(d->fd, DIR_ID, &parent->keys->place, &d->id, entry);
}

int dir_open_root(struct store *s, struct store_dir **ret)
{
	scoped(store_dir_unrefp) struct store_dir *d = NULL;
	scoped(close_fdp) int fd = -1;
	int r;

	fd = openat(s->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = dir_new(s, &fd, &d);
	if (r == 0)
		r = identify(d, NULL, "");
	if (r == 0)
		*ret = take_ptr(&d);
	return r;
}

int store_dir_root(struct store *s, struct store_dir **ret)
{
	*ret = store_dir_ref(s->root);
	return 0;
}

int store_dir_open(struct store_dir *parent, const char *name, struct store_dir **ret)
{
	struct name_entry n;
	int r;

	r = name_seal(&parent->keys->name, name, &n);
	return r < 0 ? r : dir_open_entry(parent, n.entry, ret);
}

int store_dir_fd(const struct store_dir *d)
{
	return d->fd;
}

int store_dir_stat(struct store_dir *d, struct stat *ret)
{
	return fstat(d->fd, ret) < 0 ? -errno : 0;
}

int store_dir_sync(struct store_dir *d)
{
	return fsync(d->fd) < 0 ? -errno : 0;
}

int dir_prepare_removal(struct store_dir *d, const char *entry, struct dir_removal *ret)
{
	struct dir_removal m = {.fd = -1};
	char text[PLACE_DIR_TEXT + 1];
	ssize_t n;
	int r;

	m.fd = backing_open(d->fd, entry, O_RDONLY | O_DIRECTORY);
	if (m.fd < 0)
		return m.fd;
	backing_relax(m.fd, &m.mode);
	r = for_entries(m.fd, not_empty);
	if (r == 0)
		r = for_entries(m.fd, remove_side);
	if (r == 0) {
		n = backing_readlink(m.fd, DIR_ID, text, sizeof(text));
		if (n == PLACE_DIR_TEXT - 1)
			memcpy(m.id, text, PLACE_DIR_TEXT);
		if ((unlinkat(m.fd, DIR_ID_NEW, 0) < 0 && errno != ENOENT) ||
			(unlinkat(m.fd, DIR_ID, 0) < 0 && errno != ENOENT))
			r = -errno;
	}
	if (r < 0) {
		dir_undo_removal(&m);
		return r;
	}
	*ret = m;
	return 0;
}

void dir_undo_removal(struct dir_removal *m)
{
	if (m->fd < 0)
		return;
	if (m->id[0])
		(void)!symlinkat(m->id, m->fd, DIR_ID);
	backing_restore(m->fd, m->mode);
	close_fdp(&m->fd);
	m->fd = -1;
}

void dir_removal_done(struct dir_removal *m)
{
	close_fdp(&m->fd);
	m->fd = -1;
}
