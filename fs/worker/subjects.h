/* Labels that tell whom a file is about, changed and read by users of a mount (common/subject.h).  They come as setxattr and
 * getxattr of names that are no attributes, so the kernel has found the file and looked at who may write it; each is recorded
 * with the label, sealed as a path is. */
#ifndef COFFER_WORKER_SUBJECTS_H
#define COFFER_WORKER_SUBJECTS_H

#include "fs/worker/ops.h"

bool subjects_are_meant(const char *attr);
/* 0; -EINVAL: no such text, -ENODATA: it has no such label of its own, -EPERM: neither file nor directory; ... */
int subjects_set(const struct op *o, fuse_ino_t node, const char *attr, const char *id, size_t n);
/* What SUBJECT_ATTR_LIST gives: the length (cap 0: only that), -ENODATA: none, -ERANGE. */
int subjects_get(const struct op *o, fuse_ino_t node, const char *attr, char *buf, size_t cap);

#endif
