/* What an erasure must find later: the key of what loses its last name. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/scope.h"
#include "fs/store/backing.h"
#include "fs/store/header.h"
#include "fs/store/store_impl.h"

static int leaf_of_file(struct store_dir *d, const char *entry, struct leaf_index *ret, int *ret_fd)
{
	scoped(close_fdp) int fd = backing_open(d->fd, entry, O_RDONLY);
	uint8_t head[HEADER_BYTES];
	struct header h;
	size_t n;
	int r;

	if (fd < 0)
		return fd;
	r = backing_read(fd, head, sizeof(head), 0, &n);
	if (ret_fd)
		*ret_fd = take_fd(&fd);
	if (r < 0)
		return r;
	if (n == 0 || (n == sizeof(head) && sodium_is_zero(head, sizeof(head))))
		return -ENODATA; /* it never had content: no ciphertext of it is anywhere */
	r = n == sizeof(head) ? header_peek(head, &h) : -EBADMSG;
	if (r == 0)
		*ret = h.leaf;
	return r;
}

static int leaf_of_dir(struct store_dir *d, const char *entry, struct leaf_index *ret)
{
	scoped(close_fdp) int fd = openat(d->fd, entry, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char text[PLACE_DIR_TEXT + 1];
	struct place_mac mac;
	struct dir_id id;
	ssize_t n;
	int r;

	if (fd < 0)
		return -errno;
	n = backing_readlink(fd, DIR_ID, text, sizeof(text));
	if (n == -ENOENT)
		return -ENODATA;
	r = n < 0 ? (int)n : place_dir_decode(text, (size_t)n, &id, &mac);
	if (r == 0)
		*ret = id.leaf;
	return r;
}

void store_gone_word(
	struct store_dir *d, const char *name, const struct stat *st, char ret[STORE_GONE_WORD], int *ret_fd)
{
	struct leaf_index leaf;
	struct name_entry e;
	int r = name_seal(&d->keys->name, name, &e);

	if (ret_fd)
		*ret_fd = -1;
	if (r == 0 && S_ISDIR(st->st_mode))
		r = leaf_of_dir(d, e.entry, &leaf);
	else if (r == 0 && st->st_nlink > 1)
		r = -ENODATA; /* it lives on under its other names */
	else if (r == 0 && S_ISREG(st->st_mode))
		r = leaf_of_file(d, e.entry, &leaf, ret_fd);
	else if (r == 0)
		r = S_ISLNK(st->st_mode) ? link_leaf(d, e.entry, &leaf) : -ENODATA;
	if (r == 0)
		snprintf(ret, STORE_GONE_WORD, "k%016" PRIx64, leaf_index_u64(leaf));
	else
		snprintf(ret, STORE_GONE_WORD, r == -ENODATA ? "k-" : "k?");
}
