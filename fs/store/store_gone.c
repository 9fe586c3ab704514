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

/* Not a reading that the file's access time tells: ext4 would write the inode for that, before it goes. */
static int open_quietly(struct store_dir *d, const char *entry)
{
	int fd = backing_open(d->fd, entry, O_RDONLY | O_NOATIME);

	return fd == -EPERM ? backing_open(d->fd, entry, O_RDONLY) : fd; /* another's, and we are not allowed to all */
}

/* Its leaf stands in the first bytes: of a file that has content the rest of the header is not read. */
static int leaf_of_file(int fd, struct leaf_index *ret)
{
	uint8_t head[HEADER_BYTES];
	struct header h;
	size_t n;
	int r = backing_read(fd, head, HEADER_PEEK_BYTES, 0, &n);

	if (r == 0 && n == HEADER_PEEK_BYTES && sodium_is_zero(head, HEADER_PEEK_BYTES))
		r = backing_read(fd, head, sizeof(head), 0, &n);
	if (r < 0)
		return r;
	if (n == 0 || (n == sizeof(head) && sodium_is_zero(head, sizeof(head))))
		return -ENODATA; /* it never had content: no ciphertext of it is anywhere */
	r = n >= HEADER_PEEK_BYTES ? header_peek(head, &h) : -EBADMSG;
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

void store_gone_word(struct store_dir *d, struct store_victim *v, char ret[STORE_GONE_WORD])
{
	mode_t mode = v->st.st_mode;
	struct leaf_index leaf;
	int r;

	if (S_ISDIR(mode)) {
		r = leaf_of_dir(d, v->entry, &leaf);
	} else if (v->st.st_nlink > 1) {
		r = -ENODATA; /* it lives on under its other names */
	} else if (S_ISREG(mode)) {
		v->fd = open_quietly(d, v->entry);
		r = v->fd < 0 ? v->fd : leaf_of_file(v->fd, &leaf);
		v->fd = v->fd < 0 ? -1 : v->fd;
	} else {
		r = S_ISLNK(mode) ? link_leaf(d, v->entry, &leaf) : -ENODATA;
	}
	if (r == 0)
		snprintf(ret, STORE_GONE_WORD, "k%016" PRIx64, leaf_index_u64(leaf));
	else
		snprintf(ret, STORE_GONE_WORD, r == -ENODATA ? "k-" : "k?");
}
