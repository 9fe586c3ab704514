/* The store as a whole: opening it, leaves and key slots, what a name is (lookup), attributes by name. */
#include "fs/store/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/pathseal.h"
#include "common/placement.h"
#include "fs/store/backing.h"
#include "fs/store/cipher.h"
#include "fs/store/file_impl.h"

#define LEAF_TRIES 64
#define CHUNK_SLOTS 62 /* with the link, just below 4096 bytes of the arena */

struct key_chunk {
	uint8_t slots[CHUNK_SLOTS][KEY_SLOT_BYTES];
	struct key_chunk *next;
};

static __thread const char *damage_word = "";

int store_damage(const char *word)
{
	damage_word = word;
	return -EBADMSG;
}

const char *store_damage_word(void)
{
	return damage_word;
}

/* The arena is a list that is searched; tens of thousands of directories and files need something quicker. */
static int add_chunk(struct store *s)
{
	struct key_chunk *c = secret_alloc(sizeof(*c));
	size_t i;

	if (!c)
		return -ENOMEM;
	c->next = s->chunks;
	s->chunks = c;
	for (i = 0; i < CHUNK_SLOTS; i++) {
		memcpy(c->slots[i], &s->free_slots, sizeof(void *));
		s->free_slots = c->slots[i];
	}
	return 0;
}

void *store_key_alloc(struct store *s)
{
	void *slot = NULL;

	pthread_mutex_lock(&s->lock);
	if (s->free_slots || add_chunk(s) == 0) {
		slot = s->free_slots;
		memcpy(&s->free_slots, slot, sizeof(void *));
		memset(slot, 0, KEY_SLOT_BYTES);
	}
	pthread_mutex_unlock(&s->lock);
	return slot;
}

void store_key_free(struct store *s, void *slot)
{
	if (!slot)
		return;
	sodium_memzero(slot, KEY_SLOT_BYTES);
	pthread_mutex_lock(&s->lock);
	memcpy(slot, &s->free_slots, sizeof(void *));
	s->free_slots = slot;
	pthread_mutex_unlock(&s->lock);
}

/* -EAGAIN: there are none left. */
static int next_number(struct store *s, uint16_t day, uint32_t *ret)
{
	struct store_numbers *n = &s->numbers;
	int r = -EAGAIN;

	pthread_mutex_lock(&s->lock);
	if (n->next < s->numbers_end) {
		if (n->first == n->next || day < n->from_day)
			n->from_day = day;
		if (n->first == n->next || day > n->to_day)
			n->to_day = day;
		*ret = (uint32_t)n->next++;
		r = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

void store_numbers(struct store *s, bool begin_anew, struct store_numbers *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = s->numbers;
	if (begin_anew)
		s->numbers.first = s->numbers.next;
	pthread_mutex_unlock(&s->lock);
}

void store_set_numbers_end(struct store *s, uint64_t end)
{
	pthread_mutex_lock(&s->lock);
	s->numbers_end = end;
	pthread_mutex_unlock(&s->lock);
}

static void numbers_init(struct store *s, const struct store_options *opt)
{
	bool given = opt->end_number > 0;

	s->numbers.first = given ? opt->first_number : randombytes_random();
	s->numbers.next = s->numbers.first;
	s->numbers_end = given ? opt->end_number : UINT64_MAX; /* the upper half of what is counted is cut */
}

/* Whether the next number is there on that day. */
static bool is_open(struct store *s, struct leaf_index leaf)
{
	pthread_mutex_lock(&s->lock);
	leaf.number = (uint32_t)s->numbers.next;
	pthread_mutex_unlock(&s->lock);
	return keytree_holds(s->tree, leaf);
}

int store_new_leaf_on(struct store *s, uint16_t class, uint16_t day, enum key_use use, struct leaf_index *ret,
	struct key32 *ret_key)
{
	struct leaf_index leaf = {.class = class, .day = day};
	uint16_t today = (uint16_t)atomic_load(&s->today);
	int r = -ENOKEY, i;

	/* A day that is over is pruned where something of it was shredded: then the next one that is not. */
	while (leaf.day < today && !is_open(s, leaf))
		leaf.day++;
	/* Punctured singly (shredded) is possible, so many in a row are not. */
	for (i = 0; i < LEAF_TRIES && r == -ENOKEY; i++) {
		r = next_number(s, leaf.day, &leaf.number);
		if (r == 0)
			r = keytree_derive(s->tree, leaf, use, ret_key);
	}
	if (r == 0)
		*ret = leaf;
	return r;
}

int store_new_leaf(
	struct store *s, uint16_t class, enum key_use use, struct leaf_index *ret, struct key32 *ret_key)
{
	return store_new_leaf_on(s, class, (uint16_t)atomic_load(&s->today), use, ret, ret_key);
}

/* With the lock; LOST_MAX: not among them. */
static unsigned find_lost(const struct store *s, ino_t ino)
{
	unsigned n = atomic_load(&s->n_lost), i;

	for (i = 0; i < n && i < LOST_MAX; i++)
		if (s->lost[i] == ino)
			return i;
	return LOST_MAX;
}

void store_note_lost(struct store *s, ino_t ino)
{
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = atomic_load(&s->n_lost);
	if (find_lost(s, ino) == LOST_MAX && n <= LOST_MAX) {
		if (n < LOST_MAX)
			s->lost[n] = ino;
		atomic_store(&s->n_lost, n + 1);
	}
	pthread_mutex_unlock(&s->lock);
}

bool store_is_lost(struct store *s, ino_t ino)
{
	unsigned n = atomic_load(&s->n_lost);
	bool lost;

	if (n == 0 || n > LOST_MAX)
		return n > 0;
	pthread_mutex_lock(&s->lock);
	lost = find_lost(s, ino) < LOST_MAX;
	pthread_mutex_unlock(&s->lock);
	return lost;
}

void store_forget_lost(struct store *s, ino_t ino)
{
	unsigned n, i;

	if (atomic_load(&s->n_lost) == 0)
		return;
	pthread_mutex_lock(&s->lock);
	n = atomic_load(&s->n_lost);
	i = find_lost(s, ino);
	if (i < LOST_MAX && n <= LOST_MAX) {
		s->lost[i] = s->lost[n - 1];
		atomic_store(&s->n_lost, n - 1);
	}
	pthread_mutex_unlock(&s->lock);
}

/* Files are bound to their places by attributes: a store that cannot keep them would report damage. */
static int check_xattrs(int fd)
{
	static const char probe[] = "user.coffer.probe";

	if (fsetxattr(fd, probe, "1", 1, 0) < 0)
		return errno == EROFS ? -EROFS : errno == EACCES || errno == EPERM ? -EACCES : -EOPNOTSUPP;
	if (fremovexattr(fd, probe) < 0)
		return -errno;
	return 0;
}

static int store_new(int root_fd, struct keytree *tree, const struct store_options *opt, struct store **ret)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->root_fd = root_fd;
	s->tree = tree;
	s->suite = opt->suite ? opt->suite : cipher_suite_default();
	s->class = opt->class;
	numbers_init(s, opt);
	atomic_init(&s->today, opt->today);
	r = reaper_new(&s->reaper);
	if (r == 0)
		r = crew_new(&s->crew);
	if (r == 0)
		r = tunnel_new(&s->tunnel);
	if (r < 0) {
		crew_free(s->crew);
		reaper_free(s->reaper);
		free(s);
		return r;
	}
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->ids, NULL);
	*ret = s;
	return 0;
}

DEFINE_SCOPED(struct store *, store_close)

/* Files without a name stand here, and die with their worker: what is left is of one that was killed. */
static void drop_unnamed(struct store *s)
{
	scoped(close_fdp) int fd = openat(s->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const size_t prefix = strlen(SIDE_FILE_PREFIX);
	struct dirent *e;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		return;
	(void)take_fd(&fd);
	while ((e = readdir(d))) {
		if (strncmp(e->d_name, SIDE_FILE_PREFIX, prefix) == 0)
			(void)unlinkat(s->root_fd, e->d_name, 0);
	}
	closedir(d);
}

int store_open(int root_fd, struct keytree *tree, const struct store_options *opt, struct store **ret)
{
	scoped(store_closep) struct store *s = NULL;
	scoped(close_fdp) int fd = -1;
	int r;

	if (opt->suite != 0 && !cipher_suite_known(opt->suite))
		return -EINVAL;
	fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = opt->read_only ? 0 : check_xattrs(fd);
	if (r < 0)
		return r;
	r = store_new(fd, tree, opt, &s);
	if (r < 0)
		return r;
	(void)take_fd(&fd);
	r = dir_open_root(s, &s->root);
	if (r < 0)
		return r;
	if (!opt->read_only) {
		placement_spread(s->root_fd);
		drop_unnamed(s);
	}
	close(root_fd);
	*ret = take_ptr(&s);
	return 0;
}

void store_close(struct store *s)
{
	struct key_chunk *c;

	if (!s)
		return;
	crew_free(s->crew); /* with the keys that its threads keep */
	reaper_free(s->reaper);
	tunnel_free(s->tunnel);
	free(s->held);
	store_dir_unref(s->root);
	while ((c = s->chunks)) {
		s->chunks = c->next;
		secret_free(c);
	}
	cipher_forget();
	close_fdp(&s->root_fd);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->ids);
	free(s);
}

void store_set_today(struct store *s, uint16_t today)
{
	atomic_store(&s->today, today);
}

int store_statvfs(struct store *s, struct statvfs *ret)
{
	reaper_drain(s->reaper); /* what was deleted is free */
	if (fstatvfs(s->root_fd, ret) < 0)
		return -errno;
	ret->f_namemax = STORE_NAME_MAX;
	return 0;
}

/* The plaintext size that the backing's size tells; -ENODATA: it tells none (a crash). */
static int size_from_backing(off_t backing, off_t *ret)
{
	off_t count = backing / SECTOR_BYTES - 1, excess = backing % SECTOR_BYTES;

	*ret = 0;
	if (backing == 0 || backing == HEADER_BYTES)
		return 0;
	if (count < 1)
		return -ENODATA;
	*ret = count * SECTOR_DATA;
	if (excess == 0 || excess > SECTOR_DATA)
		return -ENODATA;
	*ret += excess - SECTOR_DATA;
	return 0;
}

static void translate_file(struct store_dir *d, const char *entry, struct stat *st)
{
	struct file *f = file_find(d->store, st->st_ino);
	off_t backing = st->st_size;

	if (!f && size_from_backing(backing, &st->st_size) == 0)
		return;
	if (!f && file_open_entry(d, entry, &f) < 0)
		return; /* damaged: it must stay visible, or nobody could remove it; opening it tells */
	st->st_size = (off_t)file_size(f);
	file_close(f);
}

int store_translate(struct store_dir *d, const char *entry, struct stat *st)
{
	if (S_ISREG(st->st_mode))
		translate_file(d, entry, st);
	else if (S_ISLNK(st->st_mode))
		return link_target_length(d, entry, st->st_size, &st->st_size);
	return 0;
}

int store_find(struct store_dir *d, const char *name, struct name_entry *n, struct stat *ret)
{
	int r = name_seal(&d->keys->name, name, n);

	if (r < 0)
		return r;
	if (fstatat(d->fd, n->entry, ret, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return store_translate(d, n->entry, ret);
}

int store_lookup(struct store_dir *d, const char *name, struct stat *ret)
{
	struct name_entry n;

	return store_find(d, name, &n, ret);
}

int store_chmod(struct store_dir *d, const char *name, mode_t mode)
{
	struct name_entry n;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	return r < 0 ? r : backing_chmod(d->fd, n.entry, mode & 07777);
}

int store_chown(struct store_dir *d, const char *name, uid_t uid, gid_t gid)
{
	struct name_entry n;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	if (r < 0)
		return r;
	return fchownat(d->fd, n.entry, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int store_utimens(struct store_dir *d, const char *name, const struct timespec ts[2])
{
	struct name_entry n;
	struct stat st;
	struct file *f;
	int r;

	r = name_seal(&d->keys->name, name, &n);
	if (r < 0)
		return r;
	if (fstatat(d->fd, n.entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	f = S_ISREG(st.st_mode) ? file_find(d->store, st.st_ino) : NULL;
	if (f) {
		r = file_utimens(f, ts);
		file_close(f);
		return r;
	}
	return utimensat(d->fd, n.entry, ts, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int store_seal_path(struct store *s, uint16_t month, const char *path, size_t n, uint8_t *buf, size_t cap)
{
	const struct leaf_index leaf = {.class = CLASS_AUDIT, .day = month};
	scoped(key32_wipe) struct key32 key = {0};
	int r;

	if (n + PATHSEAL_OVERHEAD > cap)
		return -ENAMETOOLONG;
	r = keytree_derive(s->tree, leaf, KEY_USE_AUDIT, &key);
	if (r < 0)
		return r;
	pathseal_seal(&key, NULL, 0, path, n, buf);
	return (int)(n + PATHSEAL_OVERHEAD);
}
