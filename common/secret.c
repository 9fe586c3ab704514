/* The arena is cut into granules of 64 bytes; which are taken stands outside it, in ordinary memory, so
 * that a write past the end of one secret cannot turn the allocator against another.  Behind each secret
 * stands a canary, looked at when it is freed.  First fit: there are tens to hundreds of secrets, made
 * and freed seldom (hot paths use the stack or a block of their own). */
#include "common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/scope.h"

#define GRANULE 64
#define CANARY_BYTES 8
#define GIVE_BACK ((64u << 10) / GRANULE) /* whose pages the kernel gets back when it is freed */

#ifndef MADV_DONTNEED_LOCKED /* Linux 5.18 */
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef SECRETMEM_MAGIC
#define SECRETMEM_MAGIC 0x5345434d
#endif

static struct {
	pthread_mutex_t lock;
	uint8_t *base;
	size_t granules;
	uint32_t *run; /* at the first granule of a secret: how many granules it has; else 0 */
	size_t *size;  /* there too: what was asked for */
	size_t in_use;
	size_t touched; /* granules from the beginning that were ever given out */
	uint8_t canary[CANARY_BYTES];
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

void key32_wipe(struct key32 *k)
{
	sodium_memzero(k, sizeof(*k));
}

static int map_locked(size_t bytes, uint8_t **ret)
{
	uint8_t *p;
	int r;

	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	/* A child never needs our keys: it execs at once, and until then it sees zeros. */
	if (mlock2(p, bytes, MLOCK_ONFAULT) < 0 || madvise(p, bytes, MADV_DONTDUMP) < 0 ||
		madvise(p, bytes, MADV_WIPEONFORK) < 0) {
		r = errno == EAGAIN ? -ENOMEM : -errno;
		munmap(p, bytes);
		return r;
	}
	*ret = p;
	return 0;
}

static int arena_map(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), granules;
	scoped(freep) uint32_t *run = NULL;
	scoped(freep) size_t *size = NULL;
	int r;

	bytes = (bytes + page - 1) / page * page;
	granules = bytes / GRANULE;
	run = calloc(granules, sizeof(*run));
	size = calloc(granules, sizeof(*size));
	if (!run || !size)
		return -ENOMEM;
	r = map_locked(bytes, &arena.base);
	if (r < 0)
		return r;
	randombytes_buf(arena.canary, sizeof(arena.canary));
	arena.granules = granules;
	arena.run = take_ptr(&run);
	arena.size = take_ptr(&size);
	arena.in_use = 0;
	return 0;
}

static bool have_ipc_lock(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &head, data) < 0)
		return false;
	return data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK);
}

size_t secret_arena_bytes(size_t usual, size_t roomy)
{
	struct rlimit limit;

	if (have_ipc_lock() || (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY))
		return roomy;
	return usual;
}

int secret_init(size_t bytes)
{
	int r = 0;

	if (bytes == 0 || bytes > UINT32_MAX)
		return -EINVAL;
	if (sodium_init() < 0)
		return -EIO;
	pthread_mutex_lock(&arena.lock);
	if (!arena.base)
		r = arena_map(bytes);
	else if (arena.granules * GRANULE < bytes)
		r = -EALREADY;
	pthread_mutex_unlock(&arena.lock);
	return r;
}

void secret_done(void)
{
	pthread_mutex_lock(&arena.lock);
	if (arena.base) {
		sodium_memzero(arena.base, arena.touched * GRANULE);
		munmap(arena.base, arena.granules * GRANULE);
		free(arena.run);
		free(arena.size);
		arena.base = NULL;
		arena.run = NULL;
		arena.size = NULL;
		arena.granules = arena.in_use = arena.touched = 0;
	}
	pthread_mutex_unlock(&arena.lock);
}

/* The first of `want` free granules in a row; arena.granules if there are none. */
static size_t find_free(size_t want)
{
	size_t start = 0, i = 0;

	while (i < arena.granules) {
		if (arena.run[i] > 0) {
			i += arena.run[i];
			start = i;
		} else if (++i - start == want) {
			return start;
		}
	}
	return arena.granules;
}

void *secret_alloc(size_t n)
{
	size_t want, at;
	uint8_t *p = NULL;

	pthread_mutex_lock(&arena.lock);
	if (n > 0 && n <= arena.granules * GRANULE) {
		want = (n + CANARY_BYTES + GRANULE - 1) / GRANULE;
		at = find_free(want);
		if (at < arena.granules) {
			p = arena.base + at * GRANULE;
			arena.run[at] = (uint32_t)want;
			arena.size[at] = n;
			arena.in_use += n;
			if (at + want > arena.touched)
				arena.touched = at + want;
			memcpy(p + n, arena.canary, CANARY_BYTES);
		}
	}
	pthread_mutex_unlock(&arena.lock);
	return p;
}

/* A large one was a key tree in passing.  They read as zeros again; an older kernel keeps them: nothing is lost. */
static void give_back(uint8_t *p, size_t n)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), skip = (page - (uintptr_t)p % page) % page;

	if (n >= skip + page)
		(void)madvise(p + skip, (n - skip) / page * page, MADV_DONTNEED_LOCKED);
}

void secret_free(void *p)
{
	size_t at, n;

	if (!p)
		return;
	pthread_mutex_lock(&arena.lock);
	at = (size_t)((uint8_t *)p - arena.base) / GRANULE;
	/* Freed twice, not ours, or written past its end: the memory of the keys cannot be trusted any more.
	 */
	if ((uint8_t *)p < arena.base || at >= arena.granules || arena.base + at * GRANULE != p ||
		arena.run[at] == 0)
		abort();
	n = arena.size[at];
	if (memcmp((uint8_t *)p + n, arena.canary, CANARY_BYTES) != 0)
		abort();
	sodium_memzero(p, n + CANARY_BYTES);
	if (arena.run[at] >= GIVE_BACK)
		give_back(p, (size_t)arena.run[at] * GRANULE);
	arena.run[at] = 0;
	arena.size[at] = 0;
	arena.in_use -= n;
	pthread_mutex_unlock(&arena.lock);
}

size_t secret_in_use(void)
{
	size_t n;

	pthread_mutex_lock(&arena.lock);
	n = arena.in_use;
	pthread_mutex_unlock(&arena.lock);
	return n;
}

int secret_harden_process(void)
{
	const struct rlimit none = {0};

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

int secret_lock_all(void)
{
	struct rlimit limit;

	/* Below a limit mlockall() may succeed now and every later allocation beyond it would fail. */
	if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return -errno;
	if (limit.rlim_cur != RLIM_INFINITY && !have_ipc_lock())
		return -EPERM;
	/* ONFAULT: pages are locked when they are first touched; else each thread's stack is 8 MiB of memory.
	 */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		return -errno;
	return 0;
}

/* memfd_secret has neither read() nor write(): its pages are in no one's direct map, only in a mapping. */
static int fill_by_mapping(int fd, const void *bytes, size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	memcpy(p, bytes, n);
	munmap(p, n);
	return 0;
}

static int new_secretmem(const void *bytes, size_t n, int *ret_fd)
{
	scoped(close_fdp) int fd = -1;
	int r;

	fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)n) < 0)
		return -errno;
	r = fill_by_mapping(fd, bytes, n);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int write_all_at(int fd, const uint8_t *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = pwrite(fd, p + done, n - done, (off_t)done);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
		done += (size_t)k;
	}
	return 0;
}

int secret_fd_new(const void *bytes, size_t n, int *ret_fd)
{
	scoped(close_fdp) int fd = -1;
	int r;

	if (n == 0)
		return -EINVAL;
	if (new_secretmem(bytes, n, ret_fd) == 0)
		return 0;
	/* Not in this kernel, or no locked memory left for it. */
	fd = memfd_create("coffer-secret", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = write_all_at(fd, bytes, n);
	if (r < 0)
		return r;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int take_secretmem(int fd, uint8_t *to, size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	memcpy(to, p, n);
	sodium_memzero(p, n);
	munmap(p, n);
	return 0;
}

/* Not through a mapping: the sender could cut the file under it (SIGBUS). */
static int take_memfd(int fd, uint8_t *to, size_t n)
{
	static const uint8_t zeros[4096];
	ssize_t k;

	for (size_t done = 0; done < n; done += (size_t)k) {
		k = pread(fd, to + done, n - done, (off_t)done);
		if (k <= 0)
			return k < 0 ? -errno : -EBADMSG;
	}
	for (size_t done = 0; done < n; done += (size_t)k) {
		size_t part = n - done < sizeof(zeros) ? n - done : sizeof(zeros);

		k = pwrite(fd, zeros, part, (off_t)done);
		if (k <= 0)
			return k < 0 ? -errno : -EIO;
	}
	return 0;
}

int secret_fd_take(int fd, size_t max, void **ret, size_t *ret_n)
{
	struct statfs fs;
	struct stat st;
	uint8_t *p;
	bool secretmem;
	int r;

	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return -errno;
	secretmem = (unsigned long)fs.f_type == SECRETMEM_MAGIC;
	/* Memory without a name, nothing else: no device, pipe or file of a disk. */
	if (!S_ISREG(st.st_mode) || (!secretmem && (fs.f_type != TMPFS_MAGIC || st.st_nlink != 0)))
		return -EBADF;
	if (st.st_size <= 0)
		return -EBADMSG;
	if ((uint64_t)st.st_size > max)
		return -EMSGSIZE;
	p = secret_alloc((size_t)st.st_size);
	if (!p)
		return -ENOMEM;
	r = secretmem ? take_secretmem(fd, p, (size_t)st.st_size) : take_memfd(fd, p, (size_t)st.st_size);
	if (r < 0) {
		secret_free(p);
		return r;
	}
	*ret = p;
	*ret_n = (size_t)st.st_size;
	return 0;
}
