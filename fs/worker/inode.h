/* The inodes that some session knows, shared by all sessions of the worker, and what each session knows of them.
 * No descriptor and no path is kept per inode: names and parents, from which both can be made.
 *
 * A node id is index | generation << 32 and means something only in a session whose lookup count for it is
 * above 0: it comes back from a kernel whose owner may have forged it.  Thread-safe (one short lock). */
#ifndef COFFER_INODE_H
#define COFFER_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define INODE_ROOT 1u
/* Above a limit between these two, by the memory of the machine, sessions are made to forget. */
#define INODE_LIMIT_LOW (1u << 17)
#define INODE_LIMIT_HIGH (1u << 20)
#define INODE_VIEW_MAX (1u << 21)	/* what one session may keep by force */
#define INODE_MAX (1u << 24)	/* entries of the table: 24 bits of index are far beyond memory's end */

struct file;
struct store_dir;
struct inode;
struct inode_table;

struct dentry {
	struct dentry *next;	/* of the same inode (hard links) */
	struct inode *parent;	/* holds a reference */
	char name[];
};

struct inode {
	uint32_t index, generation;
	dev_t dev;
	ino_t ino;
	struct inode *hash_next;
	uint64_t lookups;	/* sum over the sessions */
	uint32_t refs;		/* running requests, handles, names below it */
	bool hashed;		/* its backing number still means this inode */
	struct stat *last;	/* what it was when its last name went: for who still holds it */
	struct dentry *names;	/* changed under the table's lock and the namespace lock */
	_Atomic uint32_t mode;	/* as in the backing */
	_Atomic uint32_t changes;	/* counts every change of content, attributes or names in it */
	/* who has it open: under the table's lock */
	uint32_t opens, writers;
	uint64_t open_session, write_session;	/* the only one; 0: several */
	/* under the resolver's stripe lock */
	struct file *file;
	uint32_t file_users;
	_Atomic bool locked;	/* had a lock once that ends with any close: from then on each close is to be told */
	_Atomic bool written;	/* was open once: a name's size may be behind the file's for a moment */
	/* under the resolver's directory lock */
	struct store_dir *dir;
	struct inode *lru_prev, *lru_next;
	/* the path's number in the journal: under the recorder's lock */
	uint32_t path_ref, path_epoch;
	uint16_t path_month;
};

/* What one session knows.  Zero-initialised is empty. */
struct inode_view {
	uint32_t *lookups;	/* by index; under the table's lock */
	uint8_t *shown;		/* by index, too: its kernel may have attributes or a list of it since inode_view_unshow */
	uint32_t cap;
	uint32_t known;		/* entries above 0 */
	uint32_t hand;		/* where inode_view_unused looks next */
};

static inline uint64_t inode_node(const struct inode *i)
{
	return i->index | (uint64_t)i->generation << 32;
}

int inode_table_new(const struct stat *root, struct inode_table **ret);
void inode_table_free(struct inode_table *t);	/* `on_free` is not called */
/* Called for an inode that nobody knows any more, before it is freed, without the table's lock. */
void inode_table_on_free(struct inode_table *t, void (*on_free)(struct inode *i, void *arg), void *arg);
void inode_table_lock(struct inode_table *t);
void inode_table_unlock(struct inode_table *t);
unsigned inode_table_count(struct inode_table *t);

/* Above `limit` inodes on_full is called, under the lock, and again when it was to no avail and many more have come. */
void inode_table_on_full(struct inode_table *t, uint32_t limit, void (*on_full)(void *arg), void *arg);
uint32_t inode_table_limit(const struct inode_table *t);
/* The limit for a machine with so many bytes of memory: what fits into a 32nd of it. */
uint32_t inode_limit_for(uint64_t memory);
uint32_t inode_view_known(struct inode_table *t, const struct inode_view *v, uint32_t *ret_slots);
/* Up to `cap` nodes that only the kernel keeps: no handle, no request, no name below them that anybody knows.  In turn,
 * the oldest first.  Looks at no more than *slots places and subtracts those it looked at. */
size_t inode_view_unused(struct inode_table *t, struct inode_view *v, uint64_t *nodes, size_t cap, uint32_t *slots);
/* Where a node that is no directory stands, in nodes of this view.  False: it is one, has ended, or has no such name. */
bool inode_view_name(struct inode_table *t, const struct inode_view *v, uint64_t node, uint64_t *ret_parent,
	char name[256]);

/* The inode of `node` in this view, with a reference.  NULL: unknown there (stale or forged). */
struct inode *inode_get(struct inode_table *t, const struct inode_view *v, uint64_t node);
struct inode *inode_ref(struct inode_table *t, struct inode *i);
void inode_unref(struct inode_table *t, struct inode *i);	/* NULL is fine */
/* Directories whose attributes or list leave for the kernel; inode_view_unshow tells whether any did, and that it knows
 * better now.  The caller of the latter has the table's lock. */
void inode_view_show(struct inode_table *t, struct inode_view *v, const struct inode *i);
bool inode_view_unshow(struct inode_view *v, const struct inode *i);
bool inode_known(struct inode_table *t, const struct inode_view *v, const struct inode *i);

/* The inode of parent/name, whose attributes are st; made if new; one lookup is added to the view.  *ret has a
 * reference.  -ENOMEM, -ENFILE (also: this session knows INODE_VIEW_MAX already). */
int inode_enter(struct inode_table *t, struct inode_view *v, struct inode *parent, const char *name,
	const struct stat *st, struct inode **ret);
/* The same for a file that has no name: not found by its numbers, until inode_named. */
int inode_enter_unnamed(struct inode_table *t, struct inode_view *v, const struct stat *st, struct inode **ret);
void inode_named(struct inode_table *t, struct inode *i);
/* The inode with these backing numbers if any session knows it, with a reference. */
struct inode *inode_find(struct inode_table *t, const struct stat *st);
/* The same thing stands under other backing numbers from now on (a symlink with one name was written anew): the old ones may
 * be given to something else at once.  With the namespace lock for writing. */
void inode_renumber(struct inode_table *t, const struct stat *was, const struct stat *now);
/* It was removed behind the sessions' backs: whatever gets its number is something else. */
void inode_number_gone(struct inode_table *t, const struct stat *was);
/* Tolerates more than there is, and ids that nobody was given. */
void inode_forget(struct inode_table *t, struct inode_view *v, uint64_t node, uint64_t n);
void inode_view_enter_root(struct inode_table *t, struct inode_view *v);
void inode_view_done(struct inode_table *t, struct inode_view *v);	/* forgets everything */
/* All node ids the view knows, malloc'ed. */
int inode_view_list(struct inode_table *t, const struct inode_view *v, uint64_t **ret, size_t *ret_n);

/* Names, under the namespace lock for writing.  inode_last_seen: its last name goes; it looked like this. */
void inode_last_seen(struct inode *i, const struct stat *st);
void inode_name_remove(struct inode_table *t, struct inode *i, struct inode *parent, const char *name, bool last);
int inode_name_add(struct inode_table *t, struct inode *i, struct inode *parent, const char *name);
/* Under the namespace lock: some name of it, which stays while that lock and a reference are held; NULL: none is left. */
const struct dentry *inode_name(struct inode_table *t, const struct inode *i);
bool inode_is_below(struct inode_table *t, const struct inode *i, const struct inode *top);

/* Opens.  *ret_conflict: another session has it open in a way that forbids cached pages here. */
void inode_opened(struct inode_table *t, struct inode *i, uint64_t session, bool writing, bool *ret_conflict);
bool inode_opened_once(struct inode_table *t, const struct inode *i);	/* by all sessions together */
void inode_closed(struct inode_table *t, struct inode *i, bool writing);

#endif
