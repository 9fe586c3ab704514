#include "fs/worker/guard.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#define LONG_BYTES (32u << 10) /* below that passing the baton costs more than it saves */

enum {
	CLOSES = 1 << 0,  /* also after the session's end */
	ANY_UID = 1 << 1, /* sent by the kernel for itself */
	NO_REPLY = 1 << 2,
};

static const struct shape {
	uint16_t fixed; /* bytes of arguments before names */
	uint8_t names;  /* NUL-terminated strings after them */
	uint8_t flags;
	bool known;
} shapes[] = {
	[FUSE_LOOKUP] = {0, 1, 0, true},
	[FUSE_FORGET] = {sizeof(struct fuse_forget_in), 0, CLOSES | ANY_UID | NO_REPLY, true},
	[FUSE_GETATTR] = {sizeof(struct fuse_getattr_in), 0, 0, true},
	[FUSE_SETATTR] = {sizeof(struct fuse_setattr_in), 0, 0, true},
	[FUSE_READLINK] = {0, 0, 0, true},
	[FUSE_SYMLINK] = {0, 2, 0, true},
	[FUSE_MKNOD] = {sizeof(struct fuse_mknod_in), 1, 0, true},
	[FUSE_MKDIR] = {sizeof(struct fuse_mkdir_in), 1, 0, true},
	[FUSE_UNLINK] = {0, 1, 0, true},
	[FUSE_RMDIR] = {0, 1, 0, true},
	[FUSE_RENAME] = {sizeof(struct fuse_rename_in), 2, 0, true},
	[FUSE_LINK] = {sizeof(struct fuse_link_in), 1, 0, true},
	[FUSE_OPEN] = {sizeof(struct fuse_open_in), 0, 0, true},
	[FUSE_READ] = {sizeof(struct fuse_read_in), 0, 0, true},
	[FUSE_WRITE] = {sizeof(struct fuse_write_in), 0, 0, true},
	[FUSE_STATFS] = {0, 0, 0, true},
	[FUSE_RELEASE] = {sizeof(struct fuse_release_in), 0, CLOSES | ANY_UID, true},
	[FUSE_FSYNC] = {sizeof(struct fuse_fsync_in), 0, 0, true},
	[FUSE_SETXATTR] = {8, 1, 0, true}, /* its short form: the long one was not negotiated */
	[FUSE_GETXATTR] = {sizeof(struct fuse_getxattr_in), 1, 0, true},
	[FUSE_LISTXATTR] = {sizeof(struct fuse_getxattr_in), 0, 0, true},
	[FUSE_REMOVEXATTR] = {0, 1, 0, true},
	[FUSE_FLUSH] = {sizeof(struct fuse_flush_in), 0, CLOSES | ANY_UID, true},
	[FUSE_INIT] = {16, 0, ANY_UID,
		true}, /* major, minor, readahead, flags; later fields are checked by libfuse */
	[FUSE_OPENDIR] = {sizeof(struct fuse_open_in), 0, 0, true},
	[FUSE_READDIR] = {sizeof(struct fuse_read_in), 0, 0, true},
	[FUSE_RELEASEDIR] = {sizeof(struct fuse_release_in), 0, CLOSES | ANY_UID, true},
	[FUSE_FSYNCDIR] = {sizeof(struct fuse_fsync_in), 0, 0, true},
	[FUSE_GETLK] = {sizeof(struct fuse_lk_in), 0, 0, true},
	[FUSE_SETLK] = {sizeof(struct fuse_lk_in), 0, ANY_UID, true},
	[FUSE_SETLKW] = {sizeof(struct fuse_lk_in), 0, 0, true},
	[FUSE_ACCESS] = {sizeof(struct fuse_access_in), 0, 0, true},
	[FUSE_CREATE] = {sizeof(struct fuse_create_in), 1, 0, true},
	[FUSE_INTERRUPT] = {sizeof(struct fuse_interrupt_in), 0, CLOSES | ANY_UID | NO_REPLY, true},
	[FUSE_DESTROY] = {0, 0, CLOSES | ANY_UID, true},
	[FUSE_BATCH_FORGET] = {sizeof(struct fuse_batch_forget_in), 0, CLOSES | ANY_UID | NO_REPLY, true},
	[FUSE_FALLOCATE] = {sizeof(struct fuse_fallocate_in), 0, 0, true},
	[FUSE_READDIRPLUS] = {sizeof(struct fuse_read_in), 0, 0, true},
	[FUSE_RENAME2] = {sizeof(struct fuse_rename2_in), 2, 0, true},
	[FUSE_LSEEK] = {sizeof(struct fuse_lseek_in), 0, 0, true},
	[FUSE_TMPFILE] = {sizeof(struct fuse_create_in), 1, 0, true}, /* its name is "/", and means nothing */
};

static const struct shape *shape_of(uint32_t opcode)
{
	static const struct shape unknown;

	return opcode < sizeof(shapes) / sizeof(shapes[0]) ? &shapes[opcode] : &unknown;
}

bool guard_wants_no_reply(uint32_t opcode)
{
	return shape_of(opcode)->flags & NO_REPLY;
}

static bool names_ok(const char *p, size_t left, unsigned names)
{
	for (; names > 0; names--) {
		size_t n = strnlen(p, left);

		if (n == left || n == 0)
			return false;
		p += n + 1;
		left -= n + 1;
	}
	return true;
}

/* Names of entries, not of attributes nor the target of a link, which may be anything. */
static bool entry_name_ok(const char *name)
{
	return !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool entry_names_ok(uint32_t opcode, const char *p)
{
	const char *second = p + strlen(p) + 1;

	switch (opcode) {
	case FUSE_RENAME:
	case FUSE_RENAME2:
		return entry_name_ok(p) && entry_name_ok(second);
	case FUSE_SETXATTR:
	case FUSE_GETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_TMPFILE:
		return true;
	default: /* a symlink's first string is its name, the second its target */
		return entry_name_ok(p);
	}
}

static bool counted_ok(uint32_t opcode, const uint8_t *arg, size_t n)
{
	size_t left;

	if (opcode == FUSE_WRITE) {
		const struct fuse_write_in *w = (const void *)arg;

		return w->size <= n - sizeof(*w);
	}
	if (opcode == FUSE_SETXATTR) {
		uint32_t size;

		memcpy(&size, arg, sizeof(size));
		left = n - 8 - (strlen((const char *)arg + 8) + 1);
		return size <= left;
	}
	if (opcode == FUSE_BATCH_FORGET) {
		const struct fuse_batch_forget_in *b = (const void *)arg;

		left = n - sizeof(*b);
		return b->count <= left / sizeof(struct fuse_forget_one);
	}
	return true;
}

static bool well_formed(const struct fuse_in_header *in, size_t n, const struct shape *shape)
{
	const uint8_t *arg = (const uint8_t *)(in + 1);
	size_t arg_n = n - sizeof(*in);

	if (in->len != n || arg_n < shape->fixed)
		return false;
	if (shape->names && !names_ok((const char *)arg + shape->fixed, arg_n - shape->fixed, shape->names))
		return false;
	if (shape->names && !entry_names_ok(in->opcode, (const char *)arg + shape->fixed))
		return false;
	return counted_ok(in->opcode, arg, arg_n);
}

/* Pages that a mapping made dirty are written by the kernel on its own; with write-back, the time of it as well: from a
 * thread of root's. */
static bool is_write_back(const struct fuse_in_header *in, bool write_back)
{
	const struct fuse_write_in *w = (const void *)(in + 1);
	const struct fuse_setattr_in *a = (const void *)(in + 1);

	if (in->uid != 0)
		return false;
	if (in->opcode == FUSE_SETATTR)
		return write_back && (a->valid & FATTR_MTIME) && !(a->valid & ~(uint32_t)(FATTR_MTIME | FATTR_CTIME | FATTR_FH));
	return in->opcode == FUSE_WRITE && (w->write_flags & FUSE_WRITE_CACHE) && in->pid == 0;
}

bool guard_is_users(const void *buf, bool write_back)
{
	const struct fuse_in_header *in = buf;

	return in->opcode != FUSE_STATFS && !(shape_of(in->opcode)->flags & ANY_UID) && !is_write_back(in, write_back);
}

struct guard_verdict guard_check(const void *buf, size_t n, const struct guard_terms *t)
{
	const struct fuse_in_header *in = buf;
	const struct shape *shape;

	if (n < sizeof(*in))
		return (struct guard_verdict){-1, "short-request"};
	shape = shape_of(in->opcode);
	if (!shape->known)
		return (struct guard_verdict){ENOSYS, NULL};
	if (!well_formed(in, n, shape))
		return (struct guard_verdict){EINVAL, "malformed-request"};
	if (in->uid != t->uid && !(shape->flags & ANY_UID) && !is_write_back(in, t->write_back))
		return (struct guard_verdict){EACCES, "foreign-uid"};
	if (t->refuse && !(shape->flags & CLOSES))
		return (struct guard_verdict){t->refuse, NULL};
	return (struct guard_verdict){0, NULL};
}

bool guard_is_waited_for(const void *buf)
{
	switch (((const struct fuse_in_header *)buf)->opcode) {
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		return false;
	default:
		return true;
	}
}

bool guard_is_serial(const void *buf)
{
	const struct fuse_in_header *in = buf;

	if (in->opcode == FUSE_WRITE)
		return !(((const struct fuse_write_in *)(in + 1))->write_flags & FUSE_WRITE_CACHE);
	return in->opcode == FUSE_FSYNC || in->opcode == FUSE_FSYNCDIR;
}

bool guard_is_long(const void *buf, size_t n)
{
	const struct fuse_in_header *in = buf;

	if (n < sizeof(*in) || n - sizeof(*in) < shape_of(in->opcode)->fixed)
		return false;
	switch (in->opcode) {
	case FUSE_READ:
		return ((const struct fuse_read_in *)(in + 1))->size >= LONG_BYTES;
	case FUSE_WRITE:
		return ((const struct fuse_write_in *)(in + 1))->size >= LONG_BYTES;
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_FALLOCATE:
		return true;
	default:
		return false;
	}
}
