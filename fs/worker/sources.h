/* Where data came from: whoever brings it says so through the mount (setxattr of a name that is no attribute), and the book
 * has it, with session, purpose and process, sealed as a path is.  Nothing of it is kept in the store: it is a fact about the
 * import, not about what the file has become. */
#ifndef COFFER_WORKER_SOURCES_H
#define COFFER_WORKER_SOURCES_H

#include "fs/worker/ops.h"

#define SOURCE_ATTR "coffer.source"	/* set, of a file or directory: the text, as a label may be (common/subject.h) */

bool sources_are_meant(const char *attr);
/* 0, and the record is durable; -EINVAL: no such text, -EPERM: neither file nor directory; ... */
int sources_set(const struct op *o, fuse_ino_t node, const char *text, size_t n);

#endif
