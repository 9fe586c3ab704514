/* Records of what sessions do, into the journal, before the answer that they are about.  A path and a process are
 * written once and then named by number.  A record for which there is no room is owed: it is kept here, and
 * recorder_ready() refuses everything until it is written, so that nothing happens without a record.  Thread-safe. */
#ifndef COFFER_RECORDER_H
#define COFFER_RECORDER_H

#include <stdint.h>

#include "common/journal.h"
#include "common/record.h"
#include "fs/worker/inode.h"

struct recorder;
struct store;

/* Takes the writer.  proc_fd: of /proc, stays the caller's; -1: processes have no names. */
int recorder_new(struct journal_writer *journal, struct store *store, int proc_fd, struct recorder **ret);
void recorder_free(struct recorder *r);

/* The writer, which stays the recorder's. */
struct journal_writer *recorder_journal(struct recorder *r);

/* 0, or -ENOSPC: a record is owed and still has no room, or there is too little for one more operation.  Before anything that
 * will need a record: so that nothing is changed, and then finds no room to say so. */
int recorder_ready(struct recorder *r);

/* The number of the path of `i`, or of `name` in directory `i` (NULL: of i itself); 0 when it has none left.
 * Under the namespace lock. */
uint32_t recorder_path(struct recorder *r, struct inode_table *t, struct inode *i, const char *name);
/* The number of a text that is no path and is sealed like one: a label.  0: no room. */
uint32_t recorder_text(struct recorder *r, const char *text, size_t n);
/* A directory got another path: every number given so far may be another path now. */
void recorder_paths_changed(struct recorder *r);
/* One of several names of `i` is gone: it may have been the one that was written. */
void recorder_path_forget(struct recorder *r, struct inode *i);
uint32_t recorder_process(struct recorder *r, uint32_t pid);

/* Sets the time and appends.  -ENOSPC: no room; it is owed then. */
int recorder_append(struct recorder *r, struct record_access *a);
/* Makes all that was appended durable and calls `more` beside it, since each waits for the disk: for an fsync, after which
 * nothing durable may lack its record.  The first error of the two. */
int recorder_sync_with(struct recorder *r, int (*more)(void *arg), void *arg);

#endif
