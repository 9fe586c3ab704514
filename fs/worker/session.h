/* One session: one user, one purpose, one mount.  Expected (by keyd), then attached (by fsd, with a connected
 * /dev/fuse), then ended.  Made, attached and freed by the main thread; served by its loop's threads; what must
 * not wait for those (notifications, the end) runs in one more thread of its own, the keeper. */
#ifndef COFFER_SESSION_H
#define COFFER_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/worker/inode.h"
#include "fs/worker/loop.h"
#include "fs/worker/notify.h"
#include "fs/worker/retry.h"

#define SESSION_WORD 32

struct fuse_session;
struct fuse_in_header;
struct handle_table;
struct member_identity;
struct members;
struct worker;

enum session_state { SESSION_EXPECTED, SESSION_SERVING, SESSION_UNREADABLE, SESSION_DEAD };

struct session {
	struct session *next;	/* worker.sessions; under the inode table's lock */
	struct worker *worker;
	uint64_t number;
	uid_t uid;
	gid_t gid;
	bool read_only;
	const struct class_set *classes;	/* what it may open (classes.h) */
	/* No other session of the client is there while this one lasts.  So the kernel may keep written data (FUSE_WRITEBACK_CACHE):
	 * it owns size and times of files, brings data when it likes, reads through handles that were opened for writing only,
	 * and places appends; and locks are its own. */
	bool exclusive;
	uint64_t idle;			/* it ends when no request came for so many seconds; 0: no limit */
	_Atomic uint64_t used;		/* seconds of the monotonic clock; kept only with a limit */
	bool late;		/* may use what waits for its destruction */
	bool sync;		/* its answers wait until their records are on the disk (stable.h) */
	struct members *members; /* NULL: private */
	atomic_int state;	/* enum session_state; each step is told through worker.event_fd */
	atomic_bool inited;	/* the kernel's INIT was read and answered by us */
	atomic_int refuse;	/* positive errno for everything from now on; 0: serving */

	struct fuse_session *se;
	int fd;
	int breaker_fd;		/* the main thread's: writing to it ends the connection; -1: none */
	const struct loop_ops *loop_ops;
	struct loop *loop;
	_Atomic uint64_t init_unique;
	atomic_bool kill_priv;		/* the kernel can leave suid to us */
	pthread_t keeper;

	struct inode_view view;		/* under the inode table's lock */
	struct handle_table *handles;
	pthread_mutex_t visit;		/* the main thread goes over the handles: they are not taken from it */
	_Atomic uint64_t *open_nodes;	/* shared with fsd */
	struct note_queue notes;
	struct told *told;
	struct retries retries;
	bool cannot_prune;		/* the keeper's: the kernel is older than 6.18 */
	/* Shared while an answer that may be cached is compared with the changes and written; a notification is sent
	 * after taking it alone for a moment: so it never passes an answer that is older than it. */
	pthread_rwlock_t replies;

	pthread_mutex_t end_lock;
	bool ending, gone;	/* gone: the kernel ended it, nothing is to be invalidated */
	int end_error;
	char end_reason[SESSION_WORD];
	_Atomic uint64_t refused_second;
	atomic_uint refused_count;
	atomic_uint waits_used, waits_refused, waits_class;	/* waits.h */
	_Atomic uint64_t waits_number;
};

struct session_terms {
	uint64_t number;
	uid_t uid;
	gid_t gid;
	bool read_only, shared, exclusive, late, sync;
	const struct class_set *classes;
};

int session_new(struct worker *w, const struct session_terms *terms, struct session **ret);
/* Serves fuse_fd (taken, also on error) from now on.  table_fd (stays the caller's): HANDLE_MAX node ids. */
int session_attach(struct session *s, int fuse_fd, int table_fd);
/* Begins the end; returns at once.  The first reason counts.  error: what requests get (positive). */
void session_end(struct session *s, int error, const char *reason);
void session_free(struct session *s);	/* expected or dead ones */

/* Past its limit.  What the kernel answers from its cache does not reach us: it counts as not used. */
bool session_is_idle(const struct session *s);

/* The main thread should look at it. */
void session_tell(struct session *s);

/* ---- for operations ---- */
void session_answer_error(struct session *s, uint64_t unique, int error);
/* On whose behalf the calling thread serves a request of a shared session. */
const struct member_identity *session_member(void);
/* A request that no honest kernel sends: one record (not more than some a second). */
void session_record_refused(struct session *s, const char *word);
void session_handle_request(void *session, void *buf, size_t n);	/* one raw request; for tests, too */

#endif
