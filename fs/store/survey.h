/* Walks a client's store for the sake of its keys: which leaf opens what, what must move to another leaf before one is
 * destroyed, what is to be destroyed singly.  Works beside open sessions, as the check does (check.h).
 *
 *	FIND	only tells where `only` stands
 *	LOOK	counts what there is, by class
 *	CLASS	gives all at and below `only` the class `class`: the label, then each file and symlink is re-wrapped
 *	MOVE	(class, before) is about to be destroyed: what survives moves to fresh leaves; the leaves of what does not,
 *		but lies elsewhere, are handed out
 *	DUE	(class, before) may be due: counts what of it would die, and how old the class is; changes nothing
 *	ERASE	hands out the leaves of all at and below `only`, or (`subject`) of what is about that person alone and not on
 *		hold, and of directories in which nothing stays; whoever else is under one of them moves to a fresh one
 *	CHECK	hands out those of `leaves` that something is under
 *	LABELS	tells of all that has subjects of its own, and which
 *	SUBJECT	tells of all that is labelled with `subject`, itself or by a directory above it
 *
 * Origin day, and but for CLASS the origin class too, stay what they are. */
#ifndef COFFER_SURVEY_H
#define COFFER_SURVEY_H

#include <pthread.h>
#include <sys/stat.h>

#include "fs/store/store.h"

enum survey_mode { SURVEY_FIND = 1, SURVEY_LOOK, SURVEY_CLASS, SURVEY_MOVE, SURVEY_ERASE, SURVEY_CHECK, SURVEY_DUE, SURVEY_SUBJECT, SURVEY_LABELS };

#define SURVEY_CLASSES 64

struct survey_counts {
	uint64_t directories, files, links, bytes;	/* seen; bytes below, of files */
	uint64_t empty;		/* files without a key: they never had content */
	uint64_t damaged;	/* nobody can tell which key they have */
	uint64_t destroyed;	/* their key is gone already */
	uint64_t rewrapped, failed;
	uint64_t dying;		/* MOVE: what the prefix takes with it; DUE: all that would go */
	uint64_t held;		/* MOVE, DUE: what would go but for a hold; ERASE: what must not; SUBJECT: what is told of */
	uint64_t about, about_bytes;	/* SUBJECT: files and symlinks told of; ERASE, with a subject: that go */
	uint64_t shared;	/* of them, about others as well; ERASE: that stay for it */
	uint64_t unclear;	/* a label does not open: nobody knows */
	uint16_t oldest_day;	/* DUE: of the class: the first day of origin, UINT16_MAX: there is nothing */
	int64_t oldest_change;	/* DUE: of the class: the first time of change */
	uint64_t leaves;	/* handed out, or left */
	uint64_t other_names;	/* ERASE: names outside of `only` of what is handed out */
	uint16_t class;		/* of `only`: a directory's, for what is made in it */
	bool labelled;		/* it has a label of its own */
	char kind;		/* FIND: 'd', 'f', 'l'; 'e': a file without content; 0: something else, or damaged */
	uint8_t dir_id[16];	/* FIND, 'd' */
	uint64_t line;		/* FIND, 'f' (header_line) */
	bool moved;		/* something was renamed meanwhile, so it may have been missed */
	size_t classes_n;
	struct {
		uint16_t class;
		uint64_t files, bytes;
	} classes[SURVEY_CLASSES];	/* LOOK; those that find no room count in `files` only */
};

struct survey_found { /* SUBJECT */
	const char *path, *store; /* in the share; in the store */
	char kind; /* 'f', 'l', 'd': a directory that is labelled itself */
	const struct stat *st;
	bool own, shared, held;
};

struct subjects;

struct survey_options {
	enum survey_mode mode;
	const char *only;	/* a path in the share, or in the store; NULL: everything */
	bool by_name;		/* `only` and `keep` may be paths in the share */
	uint16_t class;		/* CLASS: to; MOVE: of the prefix */
	uint16_t before;	/* MOVE: days before it */
	int64_t modified_since;	/* MOVE: what was modified then or later survives; INT64_MAX: that saves nothing */
	char *const *keep;	/* MOVE: paths that survive, with what is below them */
	size_t keep_n;
	const struct file_id *keep_ids;
	size_t keep_ids_n;
	const struct file_id *keep_dirs;	/* MOVE, DUE, ERASE: ids of directories on hold: what is in them survives */
	size_t keep_dirs_n;
	const uint64_t *keep_lines;	/* MOVE, DUE, ERASE: documents on hold */
	size_t keep_lines_n;
	const uint16_t *keep_classes;	/* ERASE: classes on hold */
	size_t keep_classes_n;
	uint16_t keep_class;	/* MOVE: class of the leaves of what `keep` saves; 0: its own */
	uint64_t *leaves;	/* CHECK; are sorted by the call */
	size_t leaves_n;
	const char *subject;	/* SUBJECT, ERASE; NULL: of all */
	bool shared;		/* ERASE: also what is about others as well */
	int (*found)(const struct survey_found *f, void *arg);	/* SUBJECT */
	int (*labelled)(char kind, const struct subjects *s, void *arg);	/* LABELS */
	pthread_rwlock_t *names;	/* the namespace lock */
	/* Before anything moves away from them; returns when they are noted for good.  Both copies of a header open while
	 * the old leaf lives: whoever moved here must be able to see to its end.  Modes CLASS, MOVE, ERASE. */
	int (*leaving)(const uint64_t *leaves, size_t n, void *arg);
	int (*hand_out)(const uint64_t *leaves, size_t n, void *arg);	/* the result */
	bool (*step)(const struct survey_counts *c, void *arg);	/* false: stop */
	/* CLASS: a label changed; who has opened directories lets them go.  With the namespace lock.  May be NULL. */
	void (*relabelled)(void *arg);
	/* A symlink is another one below now, and the number of the old one may be given to anything.  With the namespace
	 * lock.  May be NULL. */
	void (*replaced)(const struct stat *was, const struct stat *now, void *arg);
	void *arg;
};

/* *ret_store: where `only` stands in the store, malloc'd ("" : all); may be NULL.
 * -ENOENT: no such `only`; -ECANCELED; -EDEADLK: a leaf is two directories' (ERASE); errors of leaving and hand_out. */
int store_survey(struct store *s, const struct survey_options *opt, struct survey_counts *ret, char **ret_store);

#endif
