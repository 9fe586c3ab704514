/* Copies a tree of ciphertext as it is: owners, modes, times, attributes, holes, hard links; links are never followed.
 * What has not changed since an earlier copy is linked to it.  Sessions may write meanwhile: each file is copied
 * until it stood still while it was copied; one that never does is named. */
#ifndef COFFER_TOOLS_TREE_COPY_H
#define COFFER_TOOLS_TREE_COPY_H

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

struct progress;

struct tree_copy {
	/* given */
	FILE *list;		/* gets a line for each entry: ["path", kind, size, mtime, ctime, inode], times in ns; or NULL */
	FILE *earlier_list;	/* such a list of the earlier copy, or NULL */
	const char *earlier;	/* and its folder */
	struct progress *progress;	/* or NULL */
	/* counted */
	uint64_t files, bytes, linked, copied_bytes;
	json_t *unsettled;	/* paths of what changed while it was copied (folders: were renamed), at most UNSETTLED_MAX */
	/* own */
	json_t *row;
	void *hardlinks;
	char *failed;		/* what failed, below the top; malloc'd */
};

#define UNSETTLED_MAX 1000

/* `from`/`name` (a directory) as `to`/`name`.  -errno; c->failed says where. */
int tree_copy(struct tree_copy *c, const char *from, const char *to, const char *name);
void tree_copy_done(struct tree_copy *c);

/* Order of the lines of a list: as a walk by names, each folder before what is in it. */
int tree_path_compare(const char *a, const char *b);

#endif
