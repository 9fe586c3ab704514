/* Scenarios: what programs do with a share, one operation a line, and what they may expect of it afterwards.
 *
 *	mkdir P | rmdir P | create P | unlink P | fifo P | open P | close P
 *	write P OFFSET LENGTH | append P LENGTH | truncate P SIZE
 *	punch P OFFSET LENGTH | zero P OFFSET LENGTH | allocate P OFFSET LENGTH | reserve P OFFSET LENGTH
 *	fsync P | fdatasync P | fsyncdir P
 *	rename P Q | noreplace P Q | exchange P Q | link P Q | symlink P LENGTH
 *	setxattr P NAME LENGTH | removexattr P NAME | chmod P MODE
 *	label P CLASS | rewrap P CLASS	(a directory's record class; a file or symlink under a fresh leaf of that class)
 *	tmpfile P | linktmp P		(a file without a name in P's directory; it gets the name P)
 *	check				(everything is as it should be, now)
 *
 * A path is relative to the share; "." is its root.  A name NAME@N is NAME made N bytes long.  A file that was not
 * opened is opened and closed for each operation.  Data is a pattern of the operation's number. */
#ifndef COFFER_POWERCUT_PLAY_H
#define COFFER_POWERCUT_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fs/store/file.h"
#include "fs/store/store.h"

struct content {	/* what a file was after an operation */
	uint8_t *data;
	size_t size;
	size_t began;		/* point of the log */
	size_t line;		/* of the scenario, from 1; 0: it was made so */
};

struct object {		/* whatever has a name */
	char kind;	/* 'f', 'd', 'l', 'p' */
	struct content *v;
	size_t n_v;
	size_t *sync_at, *sync_v;	/* when an fsync of it had returned, and of which content */
	size_t n_sync;
	bool sparse;	/* zeros may stand for what was never written */
	char *target;
	/* as they are while the scenario plays; a snapshot has them as of then */
	mode_t mode;
	char *attrs;	/* "name=seed,length;" sorted */
	struct file *open;
	bool unnamed;
	size_t wrapped_at;	/* when its newest leaf was on disk for good; 0: never asked for */
	uint16_t wrapped_class;
};

struct entry {
	char *path;	/* as in the scenario, "" is not listed */
	struct object *o;
	mode_t mode;
	char *attrs;
};

struct snapshot {
	struct entry *e;
	size_t n;
	size_t log;	/* its length then */
};

struct play {
	const char *name;
	char **lines;
	size_t n_lines;
	struct store *store;
	size_t (*log_length)(void *arg);
	void *log_arg;
	bool quiet_errors;	/* an operation that fails ends the play without a word (faults) */
	int error;		/* of the one that failed; line: which */
	size_t line;

	struct object **objects;
	size_t n_objects;
	struct entry *now;	/* the tree as it should be */
	size_t n_now;
	struct snapshot *snaps;	/* [0]: before all */
	size_t n_snaps;
};

int play_load(const char *path, struct play *p);	/* 0, or -errno */
void play_take(struct play *p, const char *name, char **lines, size_t n);	/* takes the lines */
void play_random(struct play *p, uint64_t seed, size_t n);
/* A program that does what the lines of `p` say: writes them. */
void play_print(const struct play *p, size_t failed);
void play_reset(struct play *p);	/* forgets what was played; the lines stay */
void play_free(struct play *p);

/* Plays all on the store.  0, or -1 with a message: an operation failed, or did what it should not. */
int play_run(struct play *p);
/* The same, and the same for one line: so that it can be tried again. */
int play_line(struct play *p, size_t line);
/* Forgets what the line that failed had begun to write, so that it can be played again. */
void play_take_back(struct play *p, size_t line);
void play_snapshot(struct play *p);
void play_close_files(struct play *p);

/* The name on the store of a scenario's path: its directory opened, the last part made long if need be. */
int play_resolve(struct store *s, const char *path, struct store_dir **ret_dir, char name[512]);
/* The bytes of pattern `seed` from `off`. */
void play_pattern(uint64_t seed, uint64_t off, uint8_t *buf, size_t n);

#endif
