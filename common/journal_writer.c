/* The writing side of the ring; journal.c has its layout. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/journal.h"
#include "common/journal_impl.h"
#include "common/scope.h"

struct journal_writer {
	pthread_mutex_t lock; /* all below; never held across a wait */
	int fd, kick_fd;
	struct constants c;
	struct writer_page *page;
	const struct reader_page *reader;
	uint8_t *control, *ring; /* ring: mapped twice */
	uint64_t head, sequence; /* as in the page */
	uint64_t released;       /* last value seen */
	uint64_t kick_at;        /* no kick below this head */
	uint64_t synced;         /* head at the last successful sync */
	pthread_mutex_t sync_lock; /* one sync at a time, since the kernel tells a failure once; taken before `lock` */
	bool strict;             /* journal_writer_keep_synced() */
	uint64_t reusable;       /* strict: what a sync has put on disk as released */
	uint64_t failed;         /* head at a sync that failed: nothing below it is on disk but by the ledger */
};

/* ---- writer ---- */

static int map_parts(struct journal_writer *w)
{
	uint8_t *ring;

	w->control = mmap(NULL, AT_RING, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	if (w->control == MAP_FAILED) {
		w->control = NULL;
		return -errno;
	}
	ring = mmap(NULL, 2 * (size_t)w->c.ring, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return -errno;
	w->ring = ring;
	for (unsigned i = 0; i < 2; i++)
		if (mmap(ring + i * (size_t)w->c.ring, w->c.ring, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_FIXED, w->fd, AT_RING) == MAP_FAILED)
			return -errno;
	w->page = (struct writer_page *)(w->control + AT_WRITER);
	w->reader = (const struct reader_page *)(w->control + AT_READER);
	return 0;
}

/* The reader writes its page with pwrite, which promises no atomic words: only a value whose checksum fits
 * counts, and only within bounds.  Anything else leaves what was known: less room, never an overwritten
 * record. */
static void refresh_released(struct journal_writer *w)
{
	uint64_t released = le64toh(__atomic_load_n(&w->reader->released, __ATOMIC_ACQUIRE));
	uint64_t sequence = le64toh(__atomic_load_n(&w->reader->sequence, __ATOMIC_ACQUIRE));
	uint64_t check = __atomic_load_n(&w->reader->check, __ATOMIC_ACQUIRE);

	if (check != journal_released_check(&w->c, released, sequence))
		return;
	if (released > w->released && released <= w->head && released % 8 == 0)
		w->released = released;
}

int journal_writer_open(int fd, int kick_fd, struct journal_writer **ret)
{
	struct journal_writer *w;
	int r;

	if (sodium_init() < 0)
		return -EIO;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	pthread_mutex_init(&w->lock, NULL);
	pthread_mutex_init(&w->sync_lock, NULL);
	w->kick_fd = -1;
	w->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = w->fd < 0 ? -errno : journal_constants_read(w->fd, &w->c);
	if (r == 0)
		r = map_parts(w);
	if (r == 0 && kick_fd >= 0) {
		w->kick_fd = fcntl(kick_fd, F_DUPFD_CLOEXEC, 3);
		if (w->kick_fd < 0)
			r = -errno;
	}
	if (r == 0) {
		w->head = le64toh(w->page->head);
		w->sequence = le64toh(w->page->records);
		refresh_released(w);
		if (w->head % 8 || w->head - w->released > w->c.ring)
			r = -EBADMSG;
	}
	if (r < 0) {
		journal_writer_close(w);
		return r;
	}
	*ret = w;
	return 0;
}

void journal_writer_close(struct journal_writer *w)
{
	if (!w)
		return;
	if (w->control)
		munmap(w->control, AT_RING);
	if (w->ring)
		munmap(w->ring, 2 * (size_t)w->c.ring);
	close_fdp(&w->fd);
	close_fdp(&w->kick_fd);
	pthread_mutex_destroy(&w->lock);
	pthread_mutex_destroy(&w->sync_lock);
	free(w);
}

static void kick(struct journal_writer *w)
{
	uint64_t one = 1;

	if (w->kick_fd >= 0 && write(w->kick_fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: a kick is pending already; the reader's timer comes anyway */
}

static void put_record(struct journal_writer *w, const void *record, size_t n)
{
	uint8_t *at = w->ring + w->head % w->c.ring;
	size_t total = HEAD_BYTES + journal_padded(n);
	uint64_t *after = (uint64_t *)(void *)(w->ring + (w->head + total) % w->c.ring);
	uint64_t words[2] = {htole64(w->sequence + 1), htole64(n)};
	uint64_t check;

	*after = 0;
	memcpy(at + CHECKED_FROM, words, sizeof(words));
	memset(at + total - 8, 0, 8); /* padding */
	memcpy(at + HEAD_BYTES, record, n);
	check = journal_word_check(w->c.key, at + CHECKED_FROM, total - CHECKED_FROM);
	memcpy(at + 8, &check, sizeof(check));
	__atomic_store_n((uint64_t *)(void *)at, words[0], __ATOMIC_RELEASE);

	w->sequence++;
	w->head += total;
	__atomic_store_n(&w->page->records, htole64(w->sequence), __ATOMIC_RELAXED);
	__atomic_store_n(&w->page->head, htole64(w->head), __ATOMIC_RELEASE);
}

/* Under the lock.  Below it the ring may be written again. */
static uint64_t free_below(const struct journal_writer *w)
{
	return w->strict ? w->reusable : w->released;
}

/* Under the lock.  Room for the record and for the empty word behind it. */
static bool try_append(struct journal_writer *w, const void *record, size_t n)
{
	uint64_t need = HEAD_BYTES + journal_padded(n) + 8;

	if (w->head - free_below(w) + need > w->c.ring)
		refresh_released(w);
	if (w->head - free_below(w) + need > w->c.ring)
		return false;
	put_record(w, record, n);
	if (w->head - w->released > w->c.ring / 4 && w->head >= w->kick_at) {
		refresh_released(w);
		if (w->head - w->released > w->c.ring / 4) {
			kick(w);
			w->kick_at = w->head + w->c.ring / 8;
		}
	}
	return true;
}

static void make_reusable(struct journal_writer *w);

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int journal_append(struct journal_writer *w, const void *record, size_t n, int wait_ms)
{
	int64_t deadline = 0;
	bool done;

	if (n == 0 || n > RECORD_BYTES_MAX)
		return -EMSGSIZE;
	for (;;) {
		pthread_mutex_lock(&w->lock);
		done = try_append(w, record, n);
		if (!done)
			kick(w);
		pthread_mutex_unlock(&w->lock);
		if (done)
			return 0;
		if (!deadline)
			deadline = now_ms() + wait_ms;
		if (now_ms() >= deadline)
			break;
		make_reusable(w);
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
	}
	pthread_mutex_lock(&w->lock);
	__atomic_store_n(&w->page->refused, htole64(le64toh(w->page->refused) + 1), __ATOMIC_RELAXED);
	pthread_mutex_unlock(&w->lock);
	return -ENOSPC;
}

static bool is_ready(struct journal_writer *w)
{
	uint64_t most = w->c.ring - w->c.ring / 16;
	bool ready;

	pthread_mutex_lock(&w->lock);
	if (w->head - free_below(w) > most)
		refresh_released(w);
	ready = w->head - free_below(w) <= most;
	if (!ready)
		kick(w);
	pthread_mutex_unlock(&w->lock);
	return ready;
}

int journal_ready(struct journal_writer *w, int wait_ms)
{
	int64_t deadline;

	if (is_ready(w))
		return 0;
	for (deadline = now_ms() + wait_ms; now_ms() < deadline;) {
		make_reusable(w);
		nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
		if (is_ready(w))
			return 0;
	}
	return -ENOSPC;
}

uint64_t journal_position(struct journal_writer *w)
{
	uint64_t head;

	pthread_mutex_lock(&w->lock);
	head = w->head;
	pthread_mutex_unlock(&w->lock);
	return head;
}

/* Under the lock.  What fsd released is durable in the ledger. */
static bool is_durable(struct journal_writer *w, uint64_t position)
{
	if (position > w->synced && position > w->released)
		refresh_released(w);
	return position <= w->synced || position <= w->released;
}

bool journal_is_durable(struct journal_writer *w, uint64_t position)
{
	bool durable;

	pthread_mutex_lock(&w->lock);
	durable = is_durable(w, position);
	pthread_mutex_unlock(&w->lock);
	return durable;
}

bool journal_is_synced(struct journal_writer *w)
{
	return journal_is_durable(w, journal_position(w));
}

static void sync_over(struct journal_writer *w, uint64_t head, uint64_t released, int r)
{
	pthread_mutex_lock(&w->lock);
	if (r < 0) {
		w->failed = w->head;
	} else {
		w->synced = head > w->synced ? head : w->synced;
		w->reusable = released > w->reusable ? released : w->reusable;
	}
	if (r < 0)
		kick(w);
	pthread_mutex_unlock(&w->lock);
}

/* After a sync that failed the kernel takes the pages for written, and a later sync would succeed without them: so until
 * the ledger has all that was there then, nothing counts as synced. */
static int sync_now(struct journal_writer *w, bool wanted)
{
	uint64_t head, released;
	bool done, mistrusted;
	int r;

	pthread_mutex_lock(&w->lock);
	head = w->head;
	refresh_released(w);
	released = w->released;
	done = !wanted && is_durable(w, head);
	mistrusted = w->failed > released;
	if (mistrusted && !done)
		kick(w);
	pthread_mutex_unlock(&w->lock);
	if (done || mistrusted)
		return done ? 0 : -EIO;
	r = fdatasync(w->fd) < 0 ? -errno : 0;
	sync_over(w, head, released, r);
	return r;
}

static int sync_one(struct journal_writer *w, bool wanted)
{
	int r;

	pthread_mutex_lock(&w->sync_lock);
	r = sync_now(w, wanted);
	pthread_mutex_unlock(&w->sync_lock);
	return r;
}

int journal_sync(struct journal_writer *w)
{
	return sync_one(w, false);
}

int journal_writer_keep_synced(struct journal_writer *w)
{
	pthread_mutex_lock(&w->lock);
	w->strict = true;
	pthread_mutex_unlock(&w->lock);
	return sync_one(w, true);
}

/* Without the lock.  Full only because what is free is not known to the disk yet. */
static void make_reusable(struct journal_writer *w)
{
	bool wanted;

	pthread_mutex_lock(&w->lock);
	refresh_released(w);
	wanted = w->strict && w->reusable < w->released;
	pthread_mutex_unlock(&w->lock);
	if (wanted)
		(void)sync_one(w, true);
}
