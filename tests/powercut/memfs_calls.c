/* The system calls of the store library, as the linker sends them here (--wrap): ours when they concern one
 * of our descriptors, else the real ones. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "memfs_calls.h"

#define FDS_MAX 512
#define NAME_BYTES_MAX 255

struct mem_dir { /* what our fdopendir returns */
	int fd;
	struct mem_dir *next;
	struct dirent64 entry;
};

struct memfs *mem_fs;
static struct open_file fds[FDS_MAX];
static unsigned n_open;
static struct mem_dir *dirs;
static struct fault fault;
static unsigned fault_calls, fault_hits;
static const char *fault_name = "";
static long clock_now = 1000;

void memfs_use(struct memfs *m)
{
	int i;

	/* Descriptors of another file system die with it (a check that failed may have left some). */
	for (i = 0; m != mem_fs && i < FDS_MAX; i++)
		fds[i].node = NULL;
	n_open = m != mem_fs ? 0 : n_open;
	mem_fs = m;
}

unsigned memfs_open_fds(void)
{
	return n_open;
}

void memfs_fault(const struct fault *f)
{
	fault = f ? *f : (struct fault){0};
	fault_calls = fault_hits = 0;
	fault_name = "";
}

unsigned memfs_fault_calls(void)
{
	return fault_calls;
}

unsigned memfs_fault_hits(void)
{
	return fault_hits;
}

const char *memfs_fault_call(void)
{
	return fault_name;
}

/* Whether this call is to fail now; errno is set. */
bool mem_fails(const char *name, int what)
{
	int asked = READS | CHANGES | OPENS;

	if (fault.error == 0)
		return false;
	if (fault.error == ENOSPC || fault.error == EDQUOT)
		asked = NEEDS_ROOM;
	else if (fault.error == EROFS)
		asked = CHANGES;
	else if (fault.error == EMFILE || fault.error == ENFILE)
		asked = OPENS;
	if (!(what & asked))
		return false;
	if (fault_calls++ != fault.at && !(fault.all && fault_calls > fault.at))
		return false;
	fault_hits++;
	fault_name = name;
	errno = fault.error;
	return true;
}

struct timespec mem_now(void)
{
	return (struct timespec){.tv_sec = 1700000000 + clock_now++};
}

bool mem_ours(int fd)
{
	return fd >= MEMFS_FD_BASE;
}

struct open_file *mem_file(int fd)
{
	struct open_file *f = &fds[fd - MEMFS_FD_BASE];

	if (fd - MEMFS_FD_BASE >= FDS_MAX || !f->node)
		abort(); /* a descriptor that was closed: a defect of the store */
	return f;
}

int mem_error(int error)
{
	errno = error;
	return -1;
}

static int open_node(struct node *n, int flags)
{
	int i;

	for (i = 0; i < FDS_MAX && fds[i].node; i++)
		;
	if (i == FDS_MAX)
		return mem_error(EMFILE);
	fds[i] = (struct open_file){.node = n, .flags = flags};
	n->opens++;
	n_open++;
	return MEMFS_FD_BASE + i;
}

int memfs_open_root(void)
{
	return open_node(memfs_node(mem_fs, MEMFS_ROOT), O_RDONLY | O_DIRECTORY);
}

/* Finds an entry; NULL and errno. */
struct node *mem_find(int dirfd, const char *name)
{
	struct node *dir = mem_file(dirfd)->node;
	struct dirent_mem *e;

	if (strcmp(name, ".") == 0)
		return dir;
	if (strchr(name, '/'))
		abort(); /* the store never walks */
	e = S_ISDIR(dir->mode) ? memfs_entry(dir, name) : NULL;
	errno = strlen(name) > NAME_BYTES_MAX ? ENAMETOOLONG : S_ISDIR(dir->mode) ? ENOENT : ENOTDIR;
	return e ? memfs_node(mem_fs, e->ino) : NULL;
}

/* Whether a new entry may stand there; sets errno. */
bool mem_may_add(int dirfd, const char *name)
{
	struct node *dir = mem_file(dirfd)->node;

	if (mem_find(dirfd, name)) {
		errno = EEXIST;
		return false;
	}
	if (errno == ENOENT && dir->nlink == 0)
		return false; /* removed */
	return errno == ENOENT;
}

uint32_t mem_add(int dirfd, const char *name, mode_t mode, const char *target)
{
	struct node *dir = mem_file(dirfd)->node, *n;
	struct op o = {.kind = OP_CREATE,
		.ino = mem_fs->next_ino,
		.dir = dir->ino,
		.name = (char *)name,
		.to_name = (char *)target,
		.mode = mode,
		.uid = geteuid(),
		.gid = getegid()};

	memfs_do(mem_fs, &o);
	n = memfs_node(mem_fs, o.ino);
	n->atime = n->mtime = n->ctime = dir->mtime = mem_now();
	return o.ino;
}

static void fill_stat(const struct node *n, struct stat *st)
{
	size_t i;

	*st = (struct stat){.st_ino = n->ino,
		.st_mode = n->mode,
		.st_nlink = n->nlink,
		.st_uid = n->uid,
		.st_gid = n->gid,
		.st_size = n->size,
		.st_blksize = BLOCK_BYTES,
		.st_atim = n->atime,
		.st_mtim = n->mtime,
		.st_ctim = n->ctime};
	for (i = 0; i < n->n_blocks; i++)
		st->st_blocks += n->blocks[i] ? BLOCK_BYTES / 512 : 0;
}

/* ---- opening ---- */

static int open_at(int dirfd, const char *name, int flags, mode_t mode)
{
	struct node *n;

	if (mem_fails("openat", READS | OPENS | (flags & O_CREAT ? CHANGES | NEEDS_ROOM : 0)))
		return -1;
	n = mem_find(dirfd, name);
	if (!n && (errno != ENOENT || !(flags & O_CREAT)))
		return -1;
	if (n && (flags & O_CREAT) && (flags & O_EXCL))
		return mem_error(EEXIST);
	if (!n) {
		if (!mem_may_add(dirfd, name))
			return -1;
		return open_node(memfs_node(mem_fs, mem_add(dirfd, name, S_IFREG | mode, NULL)), flags);
	}
	if (S_ISLNK(n->mode))
		return mem_error(flags & O_DIRECTORY ? ENOTDIR : ELOOP);
	if ((flags & O_DIRECTORY) && !S_ISDIR(n->mode))
		return mem_error(ENOTDIR);
	if (S_ISDIR(n->mode) && (flags & O_ACCMODE) != O_RDONLY)
		return mem_error(EISDIR);
	return open_node(n, flags);
}

int __real_openat64(int dirfd, const char *name, int flags, ...);
int __wrap_openat64(int dirfd, const char *name, int flags, ...);
int __wrap_openat64(int dirfd, const char *name, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if (flags & (O_CREAT | __O_TMPFILE)) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return mem_ours(dirfd) ? open_at(dirfd, name, flags, mode)
			       : __real_openat64(dirfd, name, flags, mode);
}

CALL(int, __openat64_2, int dirfd, const char *name, int flags)
{
	return mem_ours(dirfd) ? open_at(dirfd, name, flags, 0) : __real_openat64(dirfd, name, flags, 0);
}

CALL(int, close, int fd)
{
	struct open_file *f;
	struct node *n;

	if (!mem_ours(fd))
		return __real_close(fd);
	f = mem_file(fd);
	n = f->node;
	f->node = NULL;
	n_open--;
	n->opens--;
	if (n->nlink == 0)
		memfs_drop_node(mem_fs, n);
	return 0;
}

CALL(DIR *, fdopendir, int fd)
{
	struct mem_dir *d;

	if (!mem_ours(fd))
		return __real_fdopendir(fd);
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->fd = fd;
	d->next = dirs;
	dirs = d;
	return (DIR *)d;
}

static struct mem_dir **find_dir(DIR *dir)
{
	struct mem_dir **d;

	for (d = &dirs; *d; d = &(*d)->next)
		if ((DIR *)*d == dir)
			return d;
	return NULL;
}

/* The entry that follows the cookie; NULL at the end. */
static struct dirent_mem *next_entry(struct open_file *f)
{
	size_t i;

	for (i = 0; i < f->node->n_entries; i++)
		if (f->node->entries[i].cookie > f->cookie)
			return &f->node->entries[i];
	return NULL;
}

static unsigned char type_of(const struct dirent_mem *e)
{
	return (unsigned char)IFTODT(memfs_node(mem_fs, e->ino)->mode);
}

CALL(struct dirent64 *, readdir64, DIR *dir)
{
	struct mem_dir **d = find_dir(dir);
	struct dirent_mem *e;

	if (!d)
		return __real_readdir64(dir);
	if (mem_fails("readdir", READS))
		return NULL;
	e = next_entry(mem_file((*d)->fd));
	if (!e)
		return NULL;
	mem_file((*d)->fd)->cookie = e->cookie;
	(*d)->entry = (struct dirent64){.d_ino = e->ino, .d_type = type_of(e)};
	snprintf((*d)->entry.d_name, sizeof((*d)->entry.d_name), "%s", e->name);
	return &(*d)->entry;
}

CALL(int, closedir, DIR *dir)
{
	struct mem_dir **at = find_dir(dir), *d;

	if (!at)
		return __real_closedir(dir);
	d = *at;
	*at = d->next;
	__wrap_close(d->fd);
	free(d);
	return 0;
}

CALL(ssize_t, getdents64, int fd, void *buf, size_t cap)
{
	struct open_file *f;
	struct dirent_mem *e;
	size_t used = 0;

	if (!mem_ours(fd))
		return __real_getdents64(fd, buf, cap);
	if (mem_fails("getdents64", READS))
		return -1;
	f = mem_file(fd);
	while ((e = next_entry(f))) {
		size_t n = (offsetof(struct dirent64, d_name) + strlen(e->name) + 1 + 7) & ~7ul;
		struct dirent64 *d = (void *)((char *)buf + used);

		if (used + n > cap)
			break;
		d->d_ino = e->ino;
		d->d_off = (off_t)e->cookie;
		d->d_reclen = (unsigned short)n;
		d->d_type = type_of(e);
		memcpy(d->d_name, e->name, strlen(e->name) + 1);
		f->cookie = e->cookie;
		used += n;
	}
	return (ssize_t)used;
}

/* ---- looking ---- */

CALL(int, fstat64, int fd, struct stat *st)
{
	if (!mem_ours(fd))
		return __real_fstat64(fd, st);
	if (mem_fails("fstat", READS))
		return -1;
	fill_stat(mem_file(fd)->node, st);
	return 0;
}

CALL(int, fstatat64, int dirfd, const char *name, struct stat *st, int flags)
{
	struct node *n;

	if (!mem_ours(dirfd))
		return __real_fstatat64(dirfd, name, st, flags);
	if (mem_fails("fstatat", READS))
		return -1;
	n = mem_find(dirfd, name);
	if (!n)
		return -1;
	fill_stat(n, st);
	return 0;
}

CALL(int, fstatvfs64, int fd, struct statvfs *st)
{
	if (!mem_ours(fd))
		return __real_fstatvfs64(fd, st);
	*st = (struct statvfs){.f_bsize = BLOCK_BYTES, .f_frsize = BLOCK_BYTES, .f_blocks = 1000};
	return 0;
}

CALL(ssize_t, readlinkat, int dirfd, const char *name, char *buf, size_t cap)
{
	struct node *n;
	size_t len;

	if (!mem_ours(dirfd))
		return __real_readlinkat(dirfd, name, buf, cap);
	if (mem_fails("readlinkat", READS))
		return -1;
	n = mem_find(dirfd, name);
	if (!n)
		return -1;
	if (!S_ISLNK(n->mode))
		return mem_error(EINVAL);
	len = strlen(n->target);
	len = len < cap ? len : cap;
	memcpy(buf, n->target, len);
	return (ssize_t)len;
}

CALL(ssize_t, __readlinkat_chk, int dirfd, const char *name, char *buf, size_t cap, size_t room)
{
	return mem_ours(dirfd) ? __wrap_readlinkat(dirfd, name, buf, cap)
			       : __real___readlinkat_chk(dirfd, name, buf, cap, room);
}

CALL(ssize_t, pread64, int fd, void *buf, size_t n, off_t off)
{
	struct node *node;
	struct block *b;
	size_t done, k;

	if (!mem_ours(fd))
		return __real_pread64(fd, buf, n, off);
	if (mem_fails("pread", READS))
		return -1;
	node = mem_file(fd)->node;
	if (off >= node->size)
		return 0;
	n = (off_t)n < node->size - off ? n : (size_t)(node->size - off);
	for (done = 0; done < n; done += k) {
		size_t at = (size_t)((off + (off_t)done) % BLOCK_BYTES);

		k = BLOCK_BYTES - at < n - done ? BLOCK_BYTES - at : n - done;
		b = memfs_get_block(node, (size_t)((off + (off_t)done) / BLOCK_BYTES));
		if (b)
			memcpy((char *)buf + done, b->b + at, k);
		else
			memset((char *)buf + done, 0, k);
	}
	return (ssize_t)n;
}

CALL(ssize_t, __pread64_chk, int fd, void *buf, size_t n, off_t off, size_t room)
{
	return mem_ours(fd) ? __wrap_pread64(fd, buf, n, off) : __real___pread64_chk(fd, buf, n, off, room);
}

/* Holes as ext4 shows them: blocks that were never written, or punched. */
CALL(off_t, lseek64, int fd, off_t off, int whence)
{
	struct open_file *f;
	off_t i;

	if (!mem_ours(fd))
		return __real_lseek64(fd, off, whence);
	if (mem_fails("lseek", READS))
		return -1;
	f = mem_file(fd);
	if (S_ISDIR(f->node->mode)) {
		f->cookie = (uint64_t)off;
		return off;
	}
	if (off >= f->node->size)
		return mem_error(ENXIO);
	for (i = off / BLOCK_BYTES; i * BLOCK_BYTES < f->node->size; i++)
		if ((memfs_get_block(f->node, (size_t)i) != NULL) == (whence == SEEK_DATA))
			return i * BLOCK_BYTES > off ? i * BLOCK_BYTES : off;
	if (whence == SEEK_DATA)
		return mem_error(ENXIO);
	return f->node->size;
}

/* ---- content ---- */

CALL(ssize_t, pwrite64, int fd, const void *buf, size_t n, off_t off)
{
	struct open_file *f;
	bool broken;
	off_t half;

	if (!mem_ours(fd))
		return __real_pwrite64(fd, buf, n, off);
	/* Whole pages, as file systems do: the next call meets the error, or goes on. */
	half = (off + (off_t)n / 2) / BLOCK_BYTES * BLOCK_BYTES;
	broken = mem_fails("pwrite", CHANGES | NEEDS_ROOM);
	if (broken && !(fault.part && half > off))
		return -1;
	if (broken)
		n = (size_t)(half - off);
	f = mem_file(fd);
	if ((f->flags & O_ACCMODE) == O_RDONLY)
		return mem_error(EBADF);
	f->node->mtime = mem_now();
	memfs_write(mem_fs, f->node, buf, n, off);
	return (ssize_t)n;
}

CALL(int, ftruncate64, int fd, off_t size)
{
	struct op o = {.kind = OP_SIZE, .to = size};
	struct node *n;

	if (!mem_ours(fd))
		return __real_ftruncate64(fd, size);
	if (mem_fails("ftruncate", CHANGES))
		return -1;
	n = mem_file(fd)->node;
	if (size < 0)
		return mem_error(EINVAL);
	o.ino = n->ino;
	o.from = n->size;
	n->mtime = mem_now();
	memfs_do(mem_fs, &o);
	return 0;
}

CALL(int, fallocate64, int fd, int mode, off_t off, off_t n)
{
	struct op o = {.kind = OP_PUNCH, .from = off, .to = off + n};

	if (!mem_ours(fd))
		return __real_fallocate64(fd, mode, off, n);
	if (mem_fails("fallocate", CHANGES | NEEDS_ROOM))
		return -1;
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		return 0; /* room that nobody sees */
	o.ino = mem_file(fd)->node->ino;
	memfs_do(mem_fs, &o);
	return 0;
}

static int sync_node(int fd, bool data_only, const char *name)
{
	struct op o = {.kind = OP_SYNC, .data_only = data_only, .ino = mem_file(fd)->node->ino};
	bool broken = mem_fails(name, READS | CHANGES | NEEDS_ROOM);

	if (broken)
		o.kind = OP_LOST;
	memfs_log(mem_fs, &o);
	return broken ? -1 : 0;
}

CALL(int, fsync, int fd)
{
	return mem_ours(fd) ? sync_node(fd, false, "fsync") : __real_fsync(fd);
}

CALL(int, fdatasync, int fd)
{
	return mem_ours(fd) ? sync_node(fd, true, "fdatasync") : __real_fdatasync(fd);
}
