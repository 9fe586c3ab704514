/* Tells the kernels of the other sessions what one session changed.  Each session has a queue, emptied by its own
 * thread: nobody ever waits for a notification, since the kernel may need a lock for it that is held by a caller
 * who waits for our answer. */
#ifndef COFFER_NOTIFY_H
#define COFFER_NOTIFY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fuse_session;
struct inode;
struct session;

#define NOTES_MAX 65536u	/* waiting ones; above that everything the session knows is invalidated instead.  COFFER_NOTES in
				 * the environment: another number, for tests */

enum note_kind {
	NOTE_CONTENT,		/* node, off, len: data and attributes */
	NOTE_ATTRIBUTES,	/* node */
	NOTE_ENTRY,		/* node (the directory), name */
	NOTE_DELETED,		/* node (the directory), child, name */
	NOTE_ALL,
	NOTE_MEMBERS,		/* some member of the shared session ends */
	NOTE_EVICT,		/* the kernel is to forget what it does not use (evict.h) */
};

struct note {
	struct note *next;
	enum note_kind kind;
	uint64_t node, child;
	int64_t off, len;
	bool named, listed;	/* of NOTE_ENTRY and NOTE_DELETED: the name; attributes and list of the directory */
	char name[];
};

struct note_queue {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct note *first, **last;
	uint32_t count, limit;
	bool stop, all, evict;
	struct note *special;	/* what `all` and `evict` come out as: there without asking for memory */
};

int note_queue_init(struct note_queue *q);	/* -ENOMEM */
void note_queue_done(struct note_queue *q);	/* drops what waits */
void note_queue_stop(struct note_queue *q);	/* note_queue_next returns NULL from now on */
void note_queue_evict(struct note_queue *q);	/* a NOTE_EVICT comes next */
struct note *note_queue_next(struct note_queue *q);	/* waits; for one thread, which gives it to note_done */
void note_done(struct note_queue *q, struct note *n);
void note_queue_add(struct note_queue *q, const struct note *what, const char *name);	/* name: or NULL */

struct worker;
/* More changed than can be told one by one, and nobody's session did it: all that is cached is dropped. */
void notify_all(struct worker *w);
/* One thing changed by `by`, for all other sessions that know it (`i`: the inode, or the directory).  Also counts
 * the change of `i`, so that answers under way which do not know it get no time to live. */
void notify_content(struct session *by, struct inode *i, int64_t off, int64_t len);
/* The kernel of `s` itself has cached what is not so. */
void notify_self(struct session *s, struct inode *i);
void notify_attributes(struct session *by, struct inode *i);
void notify_entry(struct session *by, struct inode *dir, const char *name);	/* appeared, or means another thing */
void notify_deleted(struct session *by, struct inode *dir, struct inode *child, const char *name); /* its last name */
/* One name of several is gone.  Not told as deleted: that sets the link count in the other kernels to 0, and link() fails there. */
void notify_unlinked(struct session *by, struct inode *dir, struct inode *child, const char *name);

/* What the kernel of `s` itself does not know it changed. */
void notify_own_attributes(struct session *s, struct inode *i);
void notify_members(struct session *s);

/* Sends one; the thread of the session.  What the kernel does not know (-ENOENT) is fine. */
void note_send(struct fuse_session *se, const struct note *n);

#endif
