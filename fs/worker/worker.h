/* What all sessions of this worker share: one client, one store, one table of inodes. */
#ifndef COFFER_WORKER_H
#define COFFER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/store/store.h"
#include "fs/worker/waits.h"

struct inode_table;
struct lock_table;
struct shares;
struct recorder;
struct session;
struct resolver;
struct stable;

/* Locks, in the order they may be taken (a later one while holding an earlier one, never the other way):
 *
 *	0  session.visit         the main thread goes over the handles of a session
 *	1  worker.names          read: resolve, open, attributes; write: whatever changes a name
 *	2  handle.lock           the reading position of one open directory
 *	3  resolver stripe       one of 64 by inode: opening, closing and looking at the size of one file
 *	4  session.handles       the session's handle table
 *	5  lock_table.lock       byte-range and flock locks
 *	6  recorder.lock         numbers of paths and processes, owed records
 *	7  inode_table lock      inodes, names, lookup counts, and the list of sessions
 *	8  members.lock
 *	9  note_queue.lock, the resolver's cache of directories: leaves
 *
 * None is held while a request is answered, except session.replies (shared; see session.h), which is taken
 * last, alone, around the answer itself.  None is held while a notification is sent. */
struct worker {
	struct store *store;
	struct resolver *resolver;
	struct inode_table *inodes;
	struct lock_table *locks;
	struct shares *shares;		/* of open files and directories, which cost descriptors; NULL: not counted */
	struct recorder *recorder;
	pthread_rwlock_t names;
	struct session *_Atomic sessions;	/* changed under inode_table's lock */
	atomic_uint session_count;
	int proc_fd;			/* of /proc, not the worker's; -1: none */
	int event_fd;			/* eventfd: a session began or ended; the main thread looks */
	atomic_uint open_files;
	struct class_sets *class_sets;	/* the main thread's */
	struct waits waits;
	struct stable *stable;	/* from the first session that waits for the disk on; the main thread's to set */
	bool owners;	/* files get their real owners: we are root */
};

int worker_init(struct worker *w);	/* all but store and recorder, which come with Open and Journal */
int worker_use_store(struct worker *w, struct store *s);	/* takes it, on success */
void worker_done(struct worker *w);

#endif
