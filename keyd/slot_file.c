/* A slot in a folder: D/keyd/slot or anywhere else.
 *
 *	root.slot     two records (halves A, B) of 4096 bytes
 *	root.key      32 random bytes, 0600: the protector, unless there is another
 *	CACHEDIR.TAG  so that backup tools leave it out: a copy voids destruction
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/slot_medium.h"

#define FOLDER "slot"
#define SLOT_NAME "root.slot"
#define KEY_NAME "root.key"
#define TAG_NAME "CACHEDIR.TAG"
#define TAG_TEXT                                                                                             \
	"Signature: 8a477f597d28d172789f06886806bc55\n"                                                      \
	"# Coffer's root key lives here.  Leave this folder out of every backup: with a copy of it,\n"       \
	"# destroyed data can be opened again.  Keep the recovery of the root key apart from the data.\n"

int slot_file_check(const char *where, struct keys_error *err)
{
	if (where[0] == '/' && strlen(where) < SLOT_WHERE_BYTES && where[1] != '\0')
		return 0;
	keys_error_set(err, "%s: the folder of a slot must be an absolute path of at most %d bytes", where,
		SLOT_WHERE_BYTES - 1);
	return -EINVAL;
}

static int open_folder(const struct slot_medium *m, int *ret_fd)
{
	int fd = openat(m->keyd_fd, *m->where ? m->where : FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* Creates `name` with n bytes; never over something. */
static int write_fresh(int dir_fd, const char *name, const void *buf, size_t n)
{
	scoped(close_fdp) int fd = -1;
	ssize_t k;

	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	disk_mark_private(fd);
	k = pwrite(fd, buf, n, 0);
	if (k < 0)
		return -errno;
	if ((size_t)k != n)
		return -ENOSPC;
	return fsync(fd) < 0 ? -errno : 0;
}

static int sync_parent(const struct slot_medium *m, int dir_fd)
{
	scoped(close_fdp) int fd = openat(dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : disk_sync_dir(fd);
}

/* A record with nothing sealed in it yet is no slot: a folder left by a creation that was cut short is used again. */
static bool has_record(int dir_fd)
{
	uint8_t raw[SLOT_RECORD_BYTES];
	struct slot_record rec;

	for (unsigned i = 0; i < 2; i++)
		if (disk_read_block(dir_fd, SLOT_NAME, i, raw) == 0 && slot_record_parse(raw, &rec) != -ENODATA)
			return true;
	return false;
}

static int file_prepare(const struct slot_medium *m)
{
	uint8_t blank[2 * SLOT_RECORD_BYTES];
	scoped(close_fdp) int fd = -1;
	int r;

	if (mkdirat(m->keyd_fd, *m->where ? m->where : FOLDER, 0700) < 0 && errno != EEXIST)
		return -errno;
	r = open_folder(m, &fd);
	if (r < 0)
		return r;
	disk_mark_private(fd);
	if (faccessat(fd, SLOT_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		if (has_record(fd))
			return -EEXIST;
		if (unlinkat(fd, SLOT_NAME, 0) < 0)
			return -errno;
	}
	(void)unlinkat(fd, KEY_NAME, 0);
	(void)unlinkat(fd, SLOT_NAME ".new", 0);
	r = disk_replace(fd, TAG_NAME, TAG_TEXT, strlen(TAG_TEXT));
	if (r < 0)
		return r;
	randombytes_buf(blank, sizeof(blank));
	r = write_fresh(fd, SLOT_NAME ".new", blank, sizeof(blank));
	if (r < 0)
		return r;
	if (renameat(fd, SLOT_NAME ".new", fd, SLOT_NAME) < 0)
		return -errno;
	r = disk_sync_dir(fd);
	return r < 0 ? r : sync_parent(m, fd);
}

static int file_read(const struct slot_medium *m, unsigned half, uint8_t buf[SLOT_RECORD_BYTES])
{
	scoped(close_fdp) int fd = -1;
	int r = open_folder(m, &fd);

	return r < 0 ? r : disk_read_block(fd, SLOT_NAME, half, buf);
}

static int file_write(const struct slot_medium *m, unsigned half, const uint8_t buf[SLOT_RECORD_BYTES])
{
	scoped(close_fdp) int fd = -1;
	int r = open_folder(m, &fd);

	return r < 0 ? r : disk_write_block(fd, SLOT_NAME, half, buf);
}

static int file_erase(const struct slot_medium *m)
{
	static const char *const names[] = {SLOT_NAME, KEY_NAME};
	scoped(close_fdp) int fd = -1;
	int r = open_folder(m, &fd);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
		r = disk_destroy(fd, names[i]);
		if (r == -ENOENT)
			r = 0;
	}
	if (r == 0)
		(void)unlinkat(fd, TAG_NAME, 0);
	return r;
}

static int file_key_read(const struct slot_medium *m, struct key32 *ret, struct keys_error *err)
{
	scoped(close_fdp) int dir_fd = -1, fd = -1;
	uint8_t buf[KEY_BYTES + 1]; /* one more shows a file that is too long */
	struct stat st;
	ssize_t n;
	int r = open_folder(m, &dir_fd);

	if (r == 0) {
		fd = openat(dir_fd, KEY_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	}
	if (r < 0) {
		keys_error_set(err, "%s cannot be opened (%s): it opens %s; put it back", m->key_label, strerror(-r), m->label);
		return r == -ENOENT ? -ENOKEY : r;
	}
	if (!S_ISREG(st.st_mode) || (st.st_mode & 077)) {
		keys_error_set(err, "%s can be read by others (mode %04o): chmod 600, and think who has read it",
			m->key_label, (unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	n = read(fd, buf, sizeof(buf));
	if (n == KEY_BYTES)
		memcpy(ret->b, buf, KEY_BYTES);
	sodium_memzero(buf, sizeof(buf));
	if (n == KEY_BYTES)
		return 0;
	keys_error_set(err, "%s is damaged: it must be %d bytes; put back the copy that belongs to %s", m->key_label,
		KEY_BYTES, m->label);
	return -EBADMSG;
}

static int file_key_write(const struct slot_medium *m, const struct key32 *key)
{
	scoped(close_fdp) int fd = -1;
	int r = open_folder(m, &fd);

	if (r == 0)
		r = write_fresh(fd, KEY_NAME, key->b, KEY_BYTES);
	return r < 0 ? r : disk_sync_dir(fd);
}

static int file_key_destroy(const struct slot_medium *m)
{
	scoped(close_fdp) int fd = -1;
	int r = open_folder(m, &fd);

	return r < 0 ? r : disk_destroy(fd, KEY_NAME);
}

static bool file_key_exists(const struct slot_medium *m)
{
	scoped(close_fdp) int fd = -1;

	return open_folder(m, &fd) == 0 && faccessat(fd, KEY_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void file_device(const struct slot_medium *m, char ret[64])
{
	scoped(close_fdp) int fd = -1;
	struct stat st;

	ret[0] = '\0';
	if (open_folder(m, &fd) == 0 && fstat(fd, &st) == 0)
		(void)snprintf(ret, 64, "%u:%u", major(st.st_dev), minor(st.st_dev));
}

static const struct slot_medium_ops slot_file_ops = {
	.assurance = "overwritten in place: best effort on SSDs",
	.half = {"A (bytes 0-4095)", "B (bytes 4096-8191)"},
	.prepare = file_prepare,
	.read = file_read,
	.write = file_write,
	.erase = file_erase,
	.key_read = file_key_read,
	.key_write = file_key_write,
	.key_destroy = file_key_destroy,
	.key_exists = file_key_exists,
	.device = file_device,
};

void slot_file_init(struct slot_medium *m, int keyd_fd, const char *where)
{
	*m = (struct slot_medium){.ops = &slot_file_ops, .keyd_fd = keyd_fd};
	(void)snprintf(m->where, sizeof(m->where), "%s", where);
	(void)snprintf(m->label, sizeof(m->label), "%s/" SLOT_NAME, *where ? where : "keyd/" FOLDER);
	(void)snprintf(m->key_label, sizeof(m->key_label), "%s/" KEY_NAME, *where ? where : "keyd/" FOLDER);
}
