/* A copy of files of a mounted share, for the person they are about: DIR/files/PATH for each, and DIR/index.json.  Each is opened
 * through the mount, so the record has it with the purpose of the session.  Nothing outside the share is read, and nothing
 * outside DIR written, whatever names and symlinks say. */
#ifndef COFFER_SUBJECT_COPY_H
#define COFFER_SUBJECT_COPY_H

#include <jansson.h>
#include <stdint.h>

struct subject_copy {
	int from; /* the mount point, O_PATH or O_RDONLY */
	uint64_t files, bytes, links;
	uint64_t failed; /* could not be read: said, and left out */
};

/* rows: of SubjectRows, those that are wanted.  `about`: members that the index begins with; borrowed.  DIR is there, and empty.
 * An exit code; EXIT_FAILED: of writing, or it was interrupted, and then DIR holds a part. */
int subject_copy_make(struct subject_copy *c, const char *dir, const json_t *rows, const json_t *about);
/* DIR as a tar archive by tar(1); `file` must not be there.  An exit code. */
int subject_copy_tar(const char *dir, const char *file);
/* DIR and all that is in it. */
void subject_copy_remove(const char *dir);

#endif
