/* A worker with a store, a journal and no masters, for the tests of the FUSE side. */
#ifndef COFFER_WORKER_FIXTURE_H
#define COFFER_WORKER_FIXTURE_H

#include "store_fixture.h"

#include <sys/eventfd.h>

#include "common/journal.h"
#include "common/record.h"
#include "fs/worker/classes.h"
#include "fs/worker/inode.h"
#include "fs/worker/recorder.h"
#include "fs/worker/resolve.h"
#include "fs/worker/session.h"
#include "fs/worker/worker.h"

struct worker_fixture {
	struct fixture *disk;
	struct worker w;
	struct journal_reader *reader;
	int kick;
};

static inline void worker_fixture_setup(struct worker_fixture *x, uint32_t journal_bytes)
{
	struct journal_writer *writer;
	int fd;

	assert_int_equal(fixture_setup((void **)&x->disk), 0);
	assert_int_equal(worker_init(&x->w), 0);
	assert_int_equal(worker_use_store(&x->w, x->disk->store), 0);
	assert_int_equal(journal_create(x->disk->fd, "test-journal", 1, "00112233445566778899aabbccddeeff",
				 journal_bytes, &fd),
		0);
	assert_int_equal(unlinkat(x->disk->fd, "test-journal", 0), 0);
	x->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(journal_writer_open(fd, x->kick, &writer), 0);
	assert_int_equal(journal_reader_open(fd, &x->reader), 0);
	assert_int_equal(recorder_new(writer, x->w.store, -1, &x->w.recorder), 0);
}

static inline void worker_fixture_teardown(struct worker_fixture *x)
{
	store_dir_unref(x->disk->root);
	x->disk->root = NULL;
	x->disk->store = NULL; /* the worker's */
	worker_done(&x->w);
	journal_reader_free(x->reader);
	close(x->kick);
	assert_int_equal(fixture_teardown((void **)&x->disk), 0);
}

/* The next record; false: none.  buf keeps what a path's `sealed` points to. */
static inline bool next_record(struct worker_fixture *x, uint8_t buf[RECORD_BYTES_MAX], struct record *ret)
{
	uint64_t seq;
	size_t n;
	int r = journal_reader_next(x->reader, buf, RECORD_BYTES_MAX, &n, &seq);

	assert_true(r >= 0);
	if (r == 0)
		return false;
	assert_int_equal(record_decode(buf, n, ret), 0);
	return true;
}

#endif
