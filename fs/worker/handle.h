/* What one session has open.  A handle is index | generation << 32: it comes back from a kernel whose owner may
 * have forged it, so it is looked up here and never a pointer.  Entry i of the session's table of open node ids,
 * shared with coffer-fsd, holds the node id of handle i (0: free), so that cached pages can be invalidated when
 * this process is dead.  Thread-safe. */
#ifndef COFFER_HANDLE_H
#define COFFER_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANDLE_MAX 65536u

struct file;
struct inode;
struct store_iter;

enum handle_kind { HANDLE_FILE = 1, HANDLE_DIR = 2 };

struct handle {
	struct inode *inode;	/* a reference */
	struct file *file;	/* kept open by resolve_file_get */
	struct store_iter *iter;	/* under lock */
	pthread_mutex_t lock;
	uint32_t index, refs;	/* refs: under the table's lock */
	uint8_t kind;
	uint8_t flags;		/* enum record_flags */
	bool ready, released;	/* under the table's lock; not ready: nobody finds it yet */
	bool recorded;		/* its open is in the journal: so will be its close */
	atomic_bool read_back;	/* opened for writing only, and the kernel reads what it does not overwrite: recorded */
	atomic_uint_fast64_t bytes_read, bytes_written;
	uint32_t process;	/* the record's, of who opened it */
	uint32_t uid;		/* whose share it is of (shares.h) */
	uint64_t session;	/* the record's: of a shared mount, the member's who opened it */
	_Atomic uint64_t passed_to;	/* the last other member who used it: the descriptor was passed on */
	uint64_t due;		/* `durability: sync`: answers that give something of it wait for this (stable.h) */
	bool dead;		/* under the table's lock: its member's session has ended */
};

struct handle_table;

/* `open_nodes`: HANDLE_MAX entries, stays the caller's and outlives the table. */
int handle_table_new(_Atomic uint64_t *open_nodes, struct handle_table **ret);
void handle_table_free(struct handle_table *t);	/* all handles must be gone */

/* Makes a handle for `node`, whose only reference is the table's; *ret_fh names it.  -EMFILE: all in use.  Its number can be
 * guessed, so no request finds it before handle_publish: that is when its record is written. */
int handle_new(struct handle_table *t, enum handle_kind kind, uint64_t node, struct handle **ret, uint64_t *ret_fh);
void handle_publish(struct handle_table *t, struct handle *h);
/* With a reference; NULL: no such handle, of another kind or of another node. */
struct handle *handle_get(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node);
/* A file's, also when it is of no use any more: for what the kernel brings, which is not its member's doing alone, and for
 * closing it. */
struct handle *handle_get_even_dead(struct handle_table *t, uint64_t fh, uint64_t node);
/* There is such a handle, and it is of no use any more: an honest kernel does not know that. */
bool handle_is_dead(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node);
/* True: that was the last reference; the caller frees what is in it, then calls handle_free. */
bool handle_put(struct handle_table *t, struct handle *h);
/* The table's own reference becomes the caller's (who puts it); NULL as handle_get. */
struct handle *handle_release(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node);
void handle_free(struct handle_table *t, struct handle *h);	/* its place can be used again */
struct handle *handle_release_any(struct handle_table *t);	/* some handle, at a session's end; NULL: none left */
/* The handles that a member's session opened are of no use any more; *ret: their nodes (malloc'ed).  -ENOMEM: only the
 * list is missing. */
int handle_end_session(struct handle_table *t, uint64_t session, uint64_t **ret, size_t *ret_n);
/* All open files, each with a reference; *ret is malloc'ed.  Returns how many (0 also without memory). */
size_t handle_files(struct handle_table *t, struct handle ***ret);
void handle_kill(struct handle_table *t, struct handle *h);	/* of no use any more, but for closing it */
unsigned handle_count(struct handle_table *t);

#endif
