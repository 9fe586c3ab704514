/* Between check.c (the walk, directories, what is done about a finding) and check_file.c (one file). */
#ifndef COFFER_CHECK_IMPL_H
#define COFFER_CHECK_IMPL_H

#include "fs/store/check.h"
#include "fs/store/file_impl.h"

struct text {
	char *s;	/* "" at first */
	size_t n, cap;
};

struct check {
	struct store *store;
	const struct check_options *opt;
	struct check_counts *counts;
	struct text path, at;	/* of the entry that is looked at: below the share, below the store */
	bool path_known;
	bool stopped;		/* while counting */
	bool quiet;		/* on the way to where it goes on: seen before */
};

/* One entry of an open directory. */
struct check_entry {
	struct store_dir *dir;
	const char *entry;
	const char *name;	/* NULL: it does not open */
	ino_t ino;		/* of what stood there when it was looked at */
};

/* Fills in what the check knows, and hands it on. */
void check_report(struct check *c, struct check_finding *f);
bool check_step(struct check *c);
bool check_is_swept(const struct check *c, const char *what);	/* destroyed by an erasure, and removed soon */
/* Gives it another name, if that is wanted; for f->done.  "isolated" too if it has such a name. */
const char *check_isolate(struct check *c, const struct check_entry *e);
/* Attributes of a file or directory: 0, or -EBADMSG. */
int check_xattrs(const struct xattr_owner *o);

/* One component of a path: an entry, or a name.  -ENOENT. */
int check_find_entry(struct store_dir *d, const char *part, bool by_name, char entry[NAME_MAX_BYTES + 1]);

int check_file(struct check *c, const struct check_entry *e);	/* -ECANCELED, -ENOMEM; else 0 */

#endif
