/* A power cut under the journal: after it, whatever was durable (journal_is_durable) is read, or in the ledger already.
 *
 * The file is a page cache; the disk is what fdatasync last saw of it (it is wrapped).  In between the kernel may have
 * written any 512 bytes at any moment: so the state after a cut takes each sector from one of the copies made since. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/journal.h"
#include "common/record.h"

#define CLIENT "00112233445566778899aabbccddeeff"
#define RING (64u << 10)
#define COPIES 4 /* the disk, and three moments since */
#define SECTOR 512u
#define STEPS 2500u

int __wrap_fdatasync(int fd);

static struct {
	int fd;
	size_t n;
	uint8_t *copies[COPIES];
	unsigned used;
	bool fails;
} disk;

static void copy_now(unsigned to)
{
	assert_int_equal(pread(disk.fd, disk.copies[to], disk.n, 0), (ssize_t)disk.n);
}

int __wrap_fdatasync(int fd)
{
	if (disk.fails) { /* the kernel forgets what it did not write */
		errno = EIO;
		return -1;
	}
	copy_now(0);
	disk.used = 1;
	return 0;
}

struct world {
	char dir[64];
	int dirfd;
	struct journal_writer *w;
	struct journal_reader *r;
	uint64_t appended, ends[STEPS + 1]; /* position behind record n */
	uint64_t in_ledger;                 /* sequence number */
};

static void world_new(struct world *x)
{
	struct stat st;

	*x = (struct world){.dirfd = -1};
	snprintf(x->dir, sizeof(x->dir), "/tmp/coffer-test-cut-XXXXXX");
	assert_non_null(mkdtemp(x->dir));
	x->dirfd = open(x->dir, O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(journal_create(x->dirfd, "j", 42, CLIENT, RING, &disk.fd), 0);
	assert_int_equal(fstat(disk.fd, &st), 0);
	disk.n = (size_t)st.st_size;
	disk.fails = false;
	for (unsigned k = 0; k < COPIES; k++)
		assert_non_null(disk.copies[k] = malloc(disk.n));
	copy_now(0);
	disk.used = 1;
	assert_int_equal(journal_writer_open(disk.fd, -1, &x->w), 0);
	assert_int_equal(journal_reader_open(dup(disk.fd), &x->r), 0);
}

static void world_free(struct world *x)
{
	journal_writer_close(x->w);
	journal_reader_free(x->r);
	close(disk.fd);
	for (unsigned k = 0; k < COPIES; k++)
		free(disk.copies[k]);
	assert_int_equal(unlinkat(x->dirfd, "j", 0), 0);
	close(x->dirfd);
	assert_int_equal(rmdir(x->dir), 0);
}

static uint32_t number(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* What fsd does: some records into the ledger, which is durable at once; then they are released. */
static void drain(struct world *x, uint32_t most)
{
	uint8_t buf[RECORD_BYTES_MAX];
	uint64_t seq;
	size_t n;

	while (most-- && journal_reader_next(x->r, buf, sizeof(buf), &n, &seq) == 1)
		x->in_ledger = seq;
	assert_int_equal(journal_reader_release(x->r), 0);
}

static void step(struct world *x, uint32_t *random, bool syncs)
{
	uint8_t record[1500];
	uint32_t n = 16 + number(random) % (sizeof(record) - 16);

	memset(record, (int)(x->appended + 1), n);
	if (x->appended < STEPS && journal_append(x->w, record, n, 1) == 0)
		x->ends[++x->appended] = journal_position(x->w);
	if (number(random) % 9 == 0 && disk.used < COPIES)
		copy_now(disk.used++);
	if (number(random) % 24 == 0)
		drain(x, number(random) % 40);
	if (syncs && number(random) % 7 == 0)
		(void)journal_sync(x->w);
}

/* The last record that may not be lost. */
static uint64_t last_durable(struct world *x)
{
	uint64_t n = x->appended;

	while (n > 0 && !journal_is_durable(x->w, x->ends[n]))
		n--;
	return n;
}

static void write_state(int fd, uint32_t *random)
{
	for (size_t at = 0; at < disk.n; at += SECTOR) {
		unsigned from = number(random) % disk.used;

		assert_int_equal(pwrite(fd, disk.copies[from] + at, SECTOR, (off_t)at), SECTOR);
	}
}

/* How many durable records the next coffer-fsd does not find after the cut. */
static uint64_t lost_after_cut(struct world *x, uint32_t *random)
{
	int fd = memfd_create("cut", MFD_CLOEXEC);
	uint64_t must = last_durable(x), found = x->in_ledger, seq;
	uint8_t buf[RECORD_BYTES_MAX];
	struct journal_reader *r;
	size_t n;

	write_state(fd, random);
	assert_int_equal(journal_reader_open(fd, &r), 0);
	while (found < must && journal_reader_next(r, buf, sizeof(buf), &n, &seq) == 1) {
		if (seq <= x->in_ledger)
			continue; /* the ledger has it */
		assert_int_equal(seq, found + 1);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(buf[k], (uint8_t)seq);
		found = seq;
	}
	journal_reader_free(r);
	return must > found ? must - found : 0;
}

static uint64_t play(uint32_t seed, bool keep, bool fails)
{
	uint32_t random = seed;
	uint64_t lost = 0;
	struct world x;

	world_new(&x);
	if (keep)
		assert_int_equal(journal_writer_keep_synced(x.w), 0);
	for (unsigned k = 0; k < STEPS; k++) {
		disk.fails = fails && k % 500 > 480;
		step(&x, &random, true);
		if (k % 41 == 0) {
			if (disk.used < COPIES)
				copy_now(disk.used++);
			lost += lost_after_cut(&x, &random);
		}
	}
	assert_true(x.appended > STEPS / 4);
	world_free(&x);
	return lost;
}

static void test_nothing_durable_is_lost(void **state)
{
	for (uint32_t seed = 1; seed <= 4; seed++)
		assert_int_equal(play(seed, true, false), 0);
}

/* Neither by a disk that failed in between: what it did not take is not called durable before the ledger has it. */
static void test_nor_when_the_disk_failed(void **state)
{
	for (uint32_t seed = 11; seed <= 14; seed++)
		assert_int_equal(play(seed, true, true), 0);
}

/* And the test can see a loss: without journal_writer_keep_synced() a lap may come to the disk before the word that the
 * last one was released. */
static void test_a_loss_would_be_seen(void **state)
{
	uint64_t lost = 0;

	for (uint32_t seed = 1; seed <= 4; seed++)
		lost += play(seed, false, false);
	assert_true(lost > 0);
}

static void test_a_failed_sync_is_remembered(void **state)
{
	struct world x;
	uint8_t record[64] = {1};

	world_new(&x);
	assert_int_equal(journal_append(x.w, record, sizeof(record), 0), 0);
	disk.fails = true;
	assert_int_equal(journal_sync(x.w), -EIO);
	disk.fails = false;
	assert_int_equal(journal_sync(x.w), -EIO); /* fdatasync would succeed now, and would have written nothing */
	assert_false(journal_is_synced(x.w));
	x.ends[1] = journal_position(x.w);
	drain(&x, 1);
	assert_true(journal_is_durable(x.w, x.ends[1]));
	assert_int_equal(journal_sync(x.w), 0);
	assert_int_equal(journal_append(x.w, record, sizeof(record), 0), 0);
	assert_false(journal_is_synced(x.w));
	assert_int_equal(journal_sync(x.w), 0);
	assert_true(journal_is_synced(x.w));
	world_free(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_durable_is_lost),
		cmocka_unit_test(test_nor_when_the_disk_failed),
		cmocka_unit_test(test_a_loss_would_be_seen),
		cmocka_unit_test(test_a_failed_sync_is_remembered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
