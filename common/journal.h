/* The journal: a ring in a file that survives the death of every process of ours.  One writer (the
 * worker, through a shared mapping: one copy, no system call), one reader (coffer-fsd, with pread;
 * never through a mapping that the writer could truncate).
 *
 * A record is where no process crash can lose it as soon as journal_append returned: sequence number and
 * checksum in its head, the commit word stored last with release order, in the page cache.  The space of a
 * record is reused only after the reader declared it durable in the ledger (journal_reader_release). */
#ifndef COFFER_JOURNAL_H
#define COFFER_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_BYTES_DEFAULT (16u << 20)

struct journal_writer;
struct journal_reader;

/* ---- writer; thread-safe ---- */
/* Maps the journal in fd (as made by journal_create).  `kick_fd`: eventfd, written when the ring is a
 * quarter full, so that the reader comes; takes neither descriptor. */
int journal_writer_open(int fd, int kick_fd, struct journal_writer **ret);
void journal_writer_close(struct journal_writer *w);
/* Appends `n` bytes.  When the ring is full it kicks and waits up to wait_ms for the reader; then -ENOSPC. */
int journal_append(struct journal_writer *w, const void *record, size_t n, int wait_ms);
/* 0: what an operation that begins now will append has room: a sixteenth of the ring is kept for those under way.  Else it
 * kicks and waits up to wait_ms for the reader; then -ENOSPC. */
int journal_ready(struct journal_writer *w, int wait_ms);
bool journal_is_synced(struct journal_writer *w);	/* nothing to do for journal_sync */
/* Makes everything appended so far durable on disk (fdatasync of the ring).  After one that failed: -EIO until the reader has
 * released (has in the ledger) what was there then; it is kicked. */
int journal_sync(struct journal_writer *w);
/* Where the stream stands: what was appended before lies below.  And whether all below a position is on disk, in the ring or in
 * the ledger. */
uint64_t journal_position(struct journal_writer *w);
bool journal_is_durable(struct journal_writer *w, uint64_t position);
/* From now on no space is written again before the disk knows that it was released.  Else a power cut could show new records
 * where the reader, by its old position, looks for old ones; and what was synced behind them would be lost.  -EIO, ... as
 * journal_sync, but it holds all the same. */
int journal_writer_keep_synced(struct journal_writer *w);

/* ---- reader ---- */
/* Creates (O_EXCL at dirfd/name), really allocates and returns the file; `id` is stored inside.  The open file is locked
 * (OFD): give this descriptor to the writer, close it, and open the journal anew to read it: then the lock tells whether
 * the writer lives, even to a reader that was started after the one that made the journal died. */
int journal_create(int dirfd, const char *name, uint64_t id, const char *client_hex, uint32_t bytes, int *ret_fd);
int journal_reader_open(int fd, struct journal_reader **ret);	/* takes fd if 0; resumes at the released position */
void journal_reader_free(struct journal_reader *r);
uint64_t journal_reader_id(const struct journal_reader *r);
const char *journal_reader_client(const struct journal_reader *r);

/* The next committed record into buf (>= RECORD_BYTES_MAX).  1: *ret_n, *ret_seq set; 0: nothing new;
 * -EBADMSG: a record whose checksum or sequence is wrong: the worker lies or the disk does. */
int journal_reader_next(struct journal_reader *r, uint8_t *buf, size_t cap, size_t *ret_n, uint64_t *ret_seq);
/* How far the writer came, and how far this reader: bytes since the start of the journal. */
int journal_reader_head(const struct journal_reader *r, uint64_t *ret);
uint64_t journal_reader_position(const struct journal_reader *r);
/* Everything returned so far is durable in the ledger: the space may be used again. */
int journal_reader_release(struct journal_reader *r);
/* Somebody else holds the open file that journal_create made: records may still come. */
bool journal_reader_writer_lives(const struct journal_reader *r);
uint64_t journal_reader_released(const struct journal_reader *r);	/* sequence number */

#endif
