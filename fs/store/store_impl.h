/* What the sources of the store share among themselves; nobody else includes it. */
#ifndef COFFER_STORE_IMPL_H
#define COFFER_STORE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/scope.h"
#include "common/subject.h"
#include "fs/store/crew.h"
#include "fs/store/header.h"
#include "fs/store/name.h"
#include "fs/store/place.h"
#include "fs/store/reaper.h"
#include "fs/store/store.h"

struct file;

#define FILE_BUCKETS 1024
#define LOST_MAX 64
#define KEY_SLOT_BYTES 64	/* two keys */

struct key_chunk;

struct store {
	int root_fd;
	struct keytree *tree;	/* the caller's */
	uint8_t suite;
	uint16_t class;
	atomic_uint today;
	struct store_dir *root;
	pthread_mutex_t ids;	/* one thread at a time gives a directory an id, or puts it right; before `lock` */
	struct reaper *reaper;
	struct crew *crew;
	uint64_t *held;		/* documents on hold; changed under the namespace lock */
	size_t held_n;

	pthread_mutex_t lock;	/* last in the order; of what follows */
	struct store_numbers numbers;	/* given out */
	uint64_t numbers_end;
	struct tunnel *tunnel;	/* store_class.c */
	atomic_ulong renames;	/* and links: what was given another name, so that a walk can have missed it */
	struct key_chunk *chunks;
	void *free_slots;
	struct file *files[FILE_BUCKETS];	/* open ones by inode number */
	unsigned closed[FILE_BUCKETS];	/* how many of these were let go: what somebody read of one before is old then */
	atomic_uint closed_all;
	ino_t lost[LOST_MAX];	/* an fsync of these failed, so nothing that was written to them is sure any more */
	atomic_uint n_lost;	/* more than LOST_MAX: this disk promises nothing at all */
};

struct dir_keys {	/* in a key slot */
	struct key32 name, place;
};
_Static_assert(sizeof(struct dir_keys) <= KEY_SLOT_BYTES, "a slot holds two keys");

struct store_dir {
	struct store *store;
	atomic_uint refs;
	int fd;
	struct dir_id id;
	struct dir_keys *keys;
	atomic_uint class;	/* of what is made in it: its label's, or its parent's when it was opened */
	atomic_bool labelled, bad_label;	/* bad: nothing is made in it, since nobody knows of which class */
	struct subjects *own, *above;	/* subjects: its label, its parents' when it was opened; changed under the namespace lock */
	bool bad_subjects;		/* one of them does not open */
};

DEFINE_SCOPED(struct store_dir *, store_dir_unref)
DEFINE_SCOPED(struct subjects *, subjects_free)

int store_damage(const char *word);	/* remembers the word; -EBADMSG */

void store_note_lost(struct store *s, ino_t ino);
bool store_is_lost(struct store *s, ino_t ino);
void store_forget_lost(struct store *s, ino_t ino);

/* A leaf that was never handed out, and its key for `use`.  -ENOKEY: that class and day are destroyed. */
int store_new_leaf(struct store *s, uint16_t class, enum key_use use, struct leaf_index *ret, struct key32 *ret_key);
int store_new_leaf_on(struct store *s, uint16_t class, uint16_t day, enum key_use use, struct leaf_index *ret,
	struct key32 *ret_key);

/* The label of d, or its parent's class (NULL: the store's own). */
#define CLASS_XATTR "user.coffer.class"
int dir_load_class(struct store_dir *d, const struct store_dir *parent);
/* Whether something may be made in d. */
int dir_check_class(const struct store_dir *d);

/* Subjects (common/subject.h): a directory's label counts for all below it, as long as it is there.  What leaves takes with
 * it what it would lose. */
#define SUBJECTS_ATTR "coffer.subjects"	/* among the sealed names of attributes; no user's has this prefix */
int dir_load_subjects(struct store_dir *d, const struct store_dir *parent);
/* What everything in d is labelled with.  -ENOMEM. */
int dir_all_subjects(const struct store_dir *d, struct subjects **ret);
/* What moves from d to `to` and has only d's label there.  `sub` or f; both NULL: nothing can be written to it. */
int subjects_stick(const struct store_dir *d, const struct store_dir *to, struct store_dir *sub, struct file *f);
/* The labels of d that `to` has not: NULL: none, else the caller's. */
int subjects_missing(const struct store_dir *d, const struct store_dir *to, struct subjects **ret);
int dir_add_subjects(struct store_dir *d, const struct subjects *s);
/* The attribute of whoever has these keys.  -EBADMSG; *ret NULL: none. */
struct xattr_owner;
int subjects_read(const struct xattr_owner *o, struct subjects **ret);
/* f gets all of what `replaced` has, and back if `both`. */
int file_add_subjects(struct file *f, const struct subjects *s);
int file_inherit_subjects(struct file *f, struct file *replaced, bool both);

/* An editor renames NAME to NAME~ and writes NAME anew: that is the same document.  Noted when it is renamed, taken when
 * NAME is made soon after. */
struct tunnel;
int tunnel_new(struct tunnel **ret);
void tunnel_free(struct tunnel *t);
void tunnel_note(struct store_dir *d, const char *name, const char *entry, struct store_dir *to, const char *new_name,
	const struct header_record *origin, struct subjects *subjects);	/* takes subjects */
/* Fills class, day and line of *rec; *ret: its subjects, the caller's. */
bool tunnel_take(struct store_dir *d, const char *entry, struct header_record *rec, struct subjects **ret);
/* Whether a document is on hold (store_set_held).  Namespace lock held. */
bool store_is_held(const struct store *s, uint64_t line);
/* One slot of 64 bytes from the arena; freeing wipes. */
void *store_key_alloc(struct store *s);
void store_key_free(struct store *s, void *slot);

#define DIR_ID ".id"
#define DIR_ID_NEW ".id+"
#define SIDE_NAME_PREFIX ".n"		/* + hash: a long name */
#define SIDE_TEXT_PREFIX ".t"		/* + random: a long symlink target */
#define SIDE_FILE_PREFIX ".u"		/* + random: a file that has no name (yet) */
#define SIDE_RANDOM_TEXT 25		/* prefix, 22 characters, NUL */

/* Whether both are the same directory: it can have been opened twice. */
bool dir_is(const struct store_dir *a, const struct store_dir *b);
void dir_side_random(const char *prefix, char out[SIDE_RANDOM_TEXT]);
/* Writes the side symlink of a long name, if it is one. */
int dir_write_side(struct store_dir *d, const struct name_entry *n);
/* Removes it; failing is legal (a stale one). */
void dir_drop_side(struct store_dir *d, const char *entry);
int dir_open_root(struct store *s, struct store_dir **ret);
int dir_open_entry(struct store_dir *parent, const char *entry, struct store_dir **ret);
/* For the check.  Like dir_open_entry, but changes nothing: *ret_loose: the id stands where a crash in a rename left it,
 * or is missing in an empty directory (then *ret is NULL). */
int dir_look_entry(struct store_dir *parent, const char *entry, struct store_dir **ret, bool *ret_loose);
/* The directory belongs where it stands: somebody vouches for it. */
int dir_adopt_entry(struct store_dir *parent, const char *entry);
int dir_write_id(int fd, const char *which, const struct key32 *parent_place, const struct dir_id *id, const char *entry);
int dir_new_id(struct store *s, struct dir_id *ret);
/* Empties an empty directory of what is ours in it, so that the backing can remove it.  -ENOTEMPTY.
 * dir_undo_removal puts the id back; dir_removal_done lets go.  Both are fine on {.fd = -1}. */
struct dir_removal {
	int fd;
	mode_t mode;		/* what to put back when it stays */
	char id[PLACE_DIR_TEXT];	/* "" when it had none */
};
int dir_prepare_removal(struct store_dir *d, const char *entry, struct dir_removal *ret);
void dir_undo_removal(struct dir_removal *m);
void dir_removal_done(struct dir_removal *m);

/* Symlinks: the side file of a long target travels with it.  An entry that is none, or is missing: none. */
struct link_side {
	char name[SIDE_RANDOM_TEXT];	/* "" when there is none */
	bool last;			/* no other name uses it */
};
/* The name behind an entry.  -EBADMSG. */
int dir_entry_name(struct store_dir *d, const char *entry, char name[NAME_MAX_BYTES + 1]);
#define LINK_TARGET_MAX 4095
int link_read(struct store_dir *d, const char *entry, char target[LINK_TARGET_MAX + 1]);
int link_leaf(struct store_dir *d, const char *entry, struct leaf_index *ret);	/* nothing is opened: not authenticated */
struct link_moved {
	struct stat was, now;	/* `was` with all its names */
};
/* Seals the target anew under a leaf of that class and day, and puts it in the place of the old one. */
int link_rewrap(struct store_dir *d, const char *entry, uint16_t class, uint16_t day, struct link_moved *ret);
int link_target_length(struct store_dir *d, const char *entry, off_t on_disk, off_t *ret);
int link_side_of(struct store_dir *d, const char *entry, struct link_side *ret);
int link_side_copy(const struct link_side *l, struct store_dir *from, struct store_dir *to);
void link_side_drop(const struct link_side *l, struct store_dir *d);

/* Translates what the backing said. */
int store_translate(struct store_dir *d, const char *entry, struct stat *st);
/* store_lookup, and what the name is sealed to. */
int store_find(struct store_dir *d, const char *name, struct name_entry *n, struct stat *ret);

#endif
