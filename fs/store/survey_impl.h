/* What the sources of the survey share among themselves. */
#ifndef COFFER_SURVEY_IMPL_H
#define COFFER_SURVEY_IMPL_H

#include <dirent.h>

#include "fs/store/check_impl.h"
#include "fs/store/file_impl.h"
#include "fs/store/survey.h"

enum whose { /* of the person that is asked about, seen from an item */
	WHOSE_THIS = 1 << 0,
	WHOSE_OTHER = 1 << 1,
	WHOSE_UNCLEAR = 1 << 2, /* a label does not open */
};

struct linked { /* a file with several names: it is whose any of them is */
	ino_t ino;
	unsigned whose;
};

struct known { /* ERASE: a leaf that is to be destroyed, and whose it is */
	uint64_t leaf;
	uint8_t id[16];
	ino_t ino;
	char kind;
};

struct frame { /* one open directory */
	struct frame *up;
	struct store_dir *dir;
	DIR *entries;
	char *entry, *name; /* as it stands in the store, in the share; NULL: the root, or nobody asks */
	bool kept;
	bool whole; /* ERASE, with a subject: all that is in it goes, so its names go too */
	struct known self; /* ... with this key */
};

struct move { /* one that goes to another leaf with the next batch */
	struct store_dir *dir;
	char entry[NAME_MAX_BYTES + 1];
	struct file *file; /* NULL: a symlink */
	struct rewrap to;
	uint64_t old;
};

struct item { /* what stands at an entry */
	struct store_dir *dir;
	const char *entry;
	struct stat st;
	char kind;
	bool kept, top;
	struct leaf_index leaf;
	uint16_t class, day; /* of origin */
	uint8_t id[16];
	uint64_t line;
	unsigned whose; /* enum whose */
	bool own; /* its own label says so */
	bool chosen; /* ERASE, with a subject */
};

struct survey {
	struct store *store;
	const struct survey_options *opt;
	struct survey_counts *counts;
	struct frame *top;
	ino_t *keep;
	struct known *known;
	size_t known_n, known_cap;
	bool second; /* ERASE: the walk that looks for others */
	ino_t only_ino;
	bool only_is_leaf; /* no directory */
	bool below_kept;   /* what find() came to is in a directory on hold */
	bool linking;      /* the walk that looks for files with several names */
	struct linked *linked;
	size_t linked_n, linked_cap;
	struct subjects *labels; /* LABELS: of the item that is looked at */
	uint64_t *out;
	size_t out_n;
	struct move *moves;
	size_t moves_n;
};

#define SURVEY_BATCH 128     /* moves[] */
#define SURVEY_HAND_OUT 4096 /* out[] */

/* ---- survey_look.c ---- */
/* Fills i, of which directory and entry are set; under the lock for names.  -ENODATA: it has no key; -ENOKEY, -EBADMSG: nobody
 * can tell; -ENOENT, -ELOOP: it is gone. */
int survey_look(struct survey *v, struct item *i);

/* ---- survey_move.c ---- */
int survey_hand_out(struct survey *v, uint64_t leaf);
int survey_flush_out(struct survey *v);
/* It goes to another leaf with the next batch. */
int survey_plan_move(struct survey *v, const struct item *i, const struct rewrap *to);
int survey_flush_moves(struct survey *v);
void survey_drop_moves(struct survey *v); /* what was planned stays where it is */

/* ---- survey_modes.c ---- */
/* What opt->mode does with i, which has a key. */
int survey_act_on(struct survey *v, struct item *i);
/* Whether it is on hold, by itself or by where it is. */
bool survey_is_kept(const struct survey *v, const struct item *i);
bool survey_is_kept_dir(const struct survey *v, const uint8_t id[16]);
int survey_remember(struct survey *v, const struct known *k);
void survey_sort_known(struct survey *v);  /* before survey_act_on looks for others */
void survey_sort_leaves(struct survey *v); /* ... or checks */

/* ---- survey_subject.c; all of it is for opt->subject ---- */
unsigned survey_whose_dir(const struct survey *v, const struct store_dir *d);
/* Adds what the labels of an open file say, and what its other names do. */
void survey_whose_file(const struct survey *v, int fd, const struct key32 *content, struct item *i);
void survey_whose_linked(const struct survey *v, struct item *i);
int survey_note_linked(struct survey *v, const struct item *i);
void survey_sort_linked(struct survey *v);
/* SUBJECT: tells of it, if it is that person's. */
int survey_tell(struct survey *v, struct item *i);
/* LABELS: what a file says, or a directory. */
void survey_labels_file(struct survey *v, int fd, const struct key32 *content, const struct item *i);
void survey_labels_dir(struct survey *v, const struct store_dir *d);
int survey_tell_labels(struct survey *v, const struct item *i);
/* ERASE: takes it, or counts why not. */
int survey_choose(struct survey *v, struct item *i);
/* ERASE: something in the open directory stays, so that its names must. */
void survey_stays(struct survey *v);
/* ERASE: the open directory has been gone through. */
int survey_leave(struct survey *v);

#endif
