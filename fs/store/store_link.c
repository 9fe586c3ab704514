/* Symbolic links.  On disk the target is base64url(leaf index 8, SIV(target)), where a symlink can hold that;
 * else "=LENGTH:SIDE", and the file SIDE in the same directory holds the base64url text. */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64url.h"
#include "common/bytes.h"
#include "common/pathseal.h"
#include "fs/store/backing.h"
#include "fs/store/store_impl.h"

#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define TARGET_MAX LINK_TARGET_MAX
#define LEAF_BYTES 8
#define OVERHEAD (LEAF_BYTES + PATHSEAL_OVERHEAD)
#define TEXT_MAX sodium_base64_ENCODED_LEN(TARGET_MAX + OVERHEAD, VARIANT) /* with NUL */
#define POINTER_MAX 48  /* "=LENGTH:SIDE" with NUL; the shortest direct text has 44 characters, this one 32  \
			 */
#define DIRECT_MAX 1023 /* what XFS allows; ext4 would take 4095 */

struct link_class { /* where its leaf is to be */
	uint16_t class, day;
};

static int seal_target(
	struct store *s, struct link_class c, const char *target, size_t n, char text[TEXT_MAX])
{
	scoped(key32_wipe) struct key32 key = {0};
	uint8_t sealed[TARGET_MAX + OVERHEAD];
	struct leaf_index leaf;
	struct bytes_writer w;
	int r;

	r = store_new_leaf_on(s, c.class, c.day, KEY_USE_LINK, &leaf, &key);
	if (r < 0)
		return r;
	bytes_writer_init(&w, sealed, LEAF_BYTES);
	bytes_put_u64(&w, leaf_index_u64(leaf));
	pathseal_seal(&key, NULL, 0, target, n, sealed + LEAF_BYTES);
	sodium_bin2base64(text, TEXT_MAX, sealed, n + OVERHEAD, VARIANT);
	return 0;
}

/* *ret_n: bytes of sealed[]. */
static int decode_target(
	const char *text, uint8_t sealed[TARGET_MAX + OVERHEAD], size_t *ret_n, struct leaf_index *ret_leaf)
{
	struct bytes_reader r;

	if (base64url_decode(sealed, TARGET_MAX + OVERHEAD, text, strlen(text), ret_n) < 0 || *ret_n <= OVERHEAD)
		return store_damage("link");
	bytes_reader_init(&r, sealed, LEAF_BYTES);
	*ret_leaf = leaf_index_from_u64(bytes_get_u64(&r));
	return 0;
}

static int open_target(struct store *s, const char *text, char target[TARGET_MAX + 1])
{
	scoped(key32_wipe) struct key32 key = {0};
	uint8_t sealed[TARGET_MAX + OVERHEAD];
	struct leaf_index leaf;
	size_t n;
	int k;

	k = decode_target(text, sealed, &n, &leaf);
	if (k < 0)
		return k;
	k = keytree_derive(s->tree, leaf, KEY_USE_LINK, &key);
	if (k < 0)
		return k;
	if (pathseal_open(&key, NULL, 0, sealed + LEAF_BYTES, n - LEAF_BYTES, target) < 0)
		return store_damage("link");
	n -= OVERHEAD;
	target[n] = 0;
	return memchr(target, 0, n) ? store_damage("link") : 0;
}

static int write_side(struct store_dir *d, const char *side, const char *text)
{
	scoped(close_fdp) int fd = -1;
	int r;

	fd = openat(d->fd, side, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = backing_write(fd, text, strlen(text), 0);
	/* The symlink must not outlive a power cut that its text did not. */
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(d->fd, side, 0);
	return r;
}

static int make_link(
	struct store_dir *d, const char *entry, struct link_class c, const char *target, size_t n)
{
	char text[TEXT_MAX], side[SIDE_RANDOM_TEXT], pointer[POINTER_MAX];
	int r;

	r = seal_target(d->store, c, target, n, text);
	if (r < 0)
		return r;
	if (strlen(text) <= DIRECT_MAX)
		return symlinkat(text, d->fd, entry) < 0 ? -errno : 0;
	dir_side_random(SIDE_TEXT_PREFIX, side);
	r = write_side(d, side, text);
	if (r < 0)
		return r;
	snprintf(pointer, sizeof(pointer), "=%zu:%s", n, side);
	if (symlinkat(pointer, d->fd, entry) == 0)
		return 0;
	r = -errno;
	(void)unlinkat(d->fd, side, 0);
	return r;
}

int store_symlink(struct store_dir *d, const char *name, const char *target, struct stat *ret)
{
	const struct link_class c = {(uint16_t)atomic_load(&d->class), (uint16_t)atomic_load(&d->store->today)};
	size_t n = strlen(target);
	struct name_entry e;
	int r;

	if (n == 0)
		return -ENOENT;
	if (n > TARGET_MAX)
		return -ENAMETOOLONG;
	r = dir_check_class(d);
	if (r == 0)
		r = name_seal(&d->keys->name, name, &e);
	if (r == 0)
		r = dir_write_side(d, &e);
	if (r == 0)
		r = make_link(d, e.entry, c, target, n);
	if (r < 0)
		return r;
	if (fstatat(d->fd, e.entry, ret, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	ret->st_size = (off_t)n;
	return 0;
}

/* "=LENGTH:SIDE" */
static int parse_pointer(const char *text, size_t *ret_n, char side[SIDE_RANDOM_TEXT])
{
	unsigned long n;
	char *end;

	if (text[0] != '=' || text[1] < '1' || text[1] > '9')
		return -EBADMSG;
	n = strtoul(text + 1, &end, 10);
	if (n > TARGET_MAX || *end != ':' || strlen(end + 1) != SIDE_RANDOM_TEXT - 1)
		return -EBADMSG;
	if (strncmp(end + 1, SIDE_TEXT_PREFIX, 2) != 0 || strchr(end + 1, '/'))
		return -EBADMSG;
	*ret_n = n;
	memcpy(side, end + 1, SIDE_RANDOM_TEXT);
	return 0;
}

static int read_side(struct store_dir *d, const char *side, char text[TEXT_MAX])
{
	scoped(close_fdp) int fd = -1;
	size_t n;
	int r;

	fd = backing_open(d->fd, side, O_RDONLY);
	if (fd < 0)
		return fd == -ENOENT || fd == -ELOOP ? store_damage("link") : fd;
	r = backing_read(fd, text, TEXT_MAX, 0, &n);
	if (r < 0)
		return r;
	if (n >= TEXT_MAX)
		return store_damage("link");
	text[n] = 0;
	return strlen(text) == n ? 0 : store_damage("link");
}

static int read_text(struct store_dir *d, const char *entry, char text[TEXT_MAX], size_t *ret_n)
{
	char side[SIDE_RANDOM_TEXT];
	ssize_t n;
	int r;

	n = backing_readlink(d->fd, entry, text, TEXT_MAX);
	if (n < 0)
		return n == -ENAMETOOLONG ? store_damage("link") : (int)n;
	*ret_n = 0;
	if (text[0] != '=')
		return 0;
	if (parse_pointer(text, ret_n, side) < 0)
		return store_damage("link");
	r = read_side(d, side, text);
	return r;
}

int link_read(struct store_dir *d, const char *entry, char target[LINK_TARGET_MAX + 1])
{
	char text[TEXT_MAX];
	size_t expected;
	int r;

	r = read_text(d, entry, text, &expected);
	if (r == 0)
		r = open_target(d->store, text, target);
	if (r < 0)
		return r;
	return expected != 0 && strlen(target) != expected ? store_damage("link") : 0;
}

int store_readlink(struct store_dir *d, const char *name, char *buf, size_t cap)
{
	char target[LINK_TARGET_MAX + 1];
	struct name_entry e;
	size_t n;
	int r;

	r = name_seal(&d->keys->name, name, &e);
	if (r == 0)
		r = link_read(d, e.entry, target);
	if (r < 0)
		return r;
	n = strlen(target);
	if (n >= cap)
		return -ERANGE;
	memcpy(buf, target, n + 1);
	return 0;
}

int link_target_length(struct store_dir *d, const char *entry, off_t on_disk, off_t *ret)
{
	char text[POINTER_MAX], side[SIDE_RANDOM_TEXT];
	off_t bytes = on_disk / 4 * 3 + (on_disk % 4 ? on_disk % 4 - 1 : 0);
	size_t n;

	if (bytes > (off_t)OVERHEAD) {
		*ret = bytes - (off_t)OVERHEAD;
		return 0;
	}
	*ret = 0;
	if (backing_readlink(d->fd, entry, text, sizeof(text)) > 0 && parse_pointer(text, &n, side) == 0)
		*ret = (off_t)n;
	return 0;
}

int link_side_of(struct store_dir *d, const char *entry, struct link_side *ret)
{
	char text[TEXT_MAX];
	struct stat st;
	ssize_t n;
	size_t len;

	ret->name[0] = 0;
	ret->last = true;
	if (fstatat(d->fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISLNK(st.st_mode) || st.st_size > POINTER_MAX - 1)
		return 0;
	ret->last = st.st_nlink == 1;
	n = backing_readlink(d->fd, entry, text, sizeof(text));
	if (n < 0)
		return (int)n;
	if (parse_pointer(text, &len, ret->name) < 0)
		ret->name[0] = 0;
	return 0;
}

int link_side_copy(const struct link_side *l, struct store_dir *from, struct store_dir *to)
{
	if (l->name[0] == 0 || dir_is(from, to))
		return 0;
	if (linkat(from->fd, l->name, to->fd, l->name, 0) < 0 && errno != EEXIST)
		return errno == ENOENT ? 0 : -errno; /* damaged already: it can still be moved */
	return 0;
}

void link_side_drop(const struct link_side *l, struct store_dir *d)
{
	/* Another name of the same symlink may stand in this directory: then a stale side file is the lesser
	 * evil. */
	if (l->name[0] && l->last)
		(void)unlinkat(d->fd, l->name, 0);
}

int link_leaf(struct store_dir *d, const char *entry, struct leaf_index *ret)
{
	uint8_t sealed[TARGET_MAX + OVERHEAD];
	char text[TEXT_MAX];
	size_t expected, n;
	int r;

	r = read_text(d, entry, text, &expected);
	return r < 0 ? r : decode_target(text, sealed, &n, ret);
}

/* What the new one must show as the old one did. */
static void link_copy_stat(struct store_dir *d, const char *entry, const struct stat *st)
{
	const struct timespec times[2] = {st->st_atim, st->st_mtim};

	(void)!fchownat(d->fd, entry, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
	(void)utimensat(d->fd, entry, times, AT_SYMLINK_NOFOLLOW);
}

int link_rewrap(struct store_dir *d, const char *entry, uint16_t class, uint16_t day, struct link_moved *ret)
{
	const struct link_class c = {class, day};
	char target[TARGET_MAX + 1], fresh[SIDE_RANDOM_TEXT];
	struct link_side old = {.name = ""}, side = {.name = ""};
	struct stat st, dir;
	int r;

	if (fstat(d->fd, &dir) < 0 || fstatat(d->fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	r = link_read(d, entry, target);
	if (r == 0)
		r = link_side_of(d, entry, &old);
	if (r < 0)
		return r;
	dir_side_random(SIDE_TEXT_PREFIX, fresh);
	r = make_link(d, fresh, c, target, strlen(target));
	if (r < 0)
		return r;
	link_copy_stat(d, fresh, &st);
	if (renameat(d->fd, fresh, d->fd, entry) < 0) {
		r = -errno;
		if (link_side_of(d, fresh, &side) == 0)
			link_side_drop(&side, d);
		(void)unlinkat(d->fd, fresh, 0);
	} else {
		link_side_drop(&old, d);
		ret->was = st;
		if (fstatat(d->fd, entry, &ret->now, AT_SYMLINK_NOFOLLOW) < 0)
			r = -errno;
	}
	(void)futimens(d->fd, (const struct timespec[2]){{.tv_nsec = UTIME_OMIT}, dir.st_mtim});
	return r;
}
