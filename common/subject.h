/* Subjects: the persons whom a file or directory is about, as labels.  A label's text is chosen by whoever sets it (a
 * personnel number, an address) and taken byte for byte; it is personal data itself.  Pure: no I/O. */
#ifndef COFFER_SUBJECT_H
#define COFFER_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUBJECT_ID_MAX 255
#define SUBJECTS_BYTES_MAX 1024	/* of all labels of one file: they must fit beside its other attributes (ext4: 4 KiB) */
#define SUBJECTS_STORED_MAX (1 + SUBJECTS_BYTES_MAX + 63)	/* padded */
#define SUBJECTS_UNION_MAX (64u << 10)	/* of a file and all directories above it */

/* How programs change and read labels through a mount: by these calls of setxattr(2) and getxattr(2), which the kernel lets
 * through to whoever may write or read the file.  They are no attributes: none is listed, removed, or read back as it was set. */
#define SUBJECT_ATTR_PREFIX "coffer.subject"
#define SUBJECT_ATTR_ADD "coffer.subject.add"		/* set: a label */
#define SUBJECT_ATTR_REMOVE "coffer.subject.remove"	/* set: a label that goes */
#define SUBJECT_ATTR_LIST "coffer.subjects"		/* get: "=ID\0" of its own labels, "^ID\0" of those above it */

/* 1 to SUBJECT_ID_MAX bytes of UTF-8 without control characters. */
bool subject_id_ok(const char *id, size_t n);

struct subjects;	/* a set; NULL is the empty one wherever one is read */

void subjects_free(struct subjects *s);
bool subjects_is_empty(const struct subjects *s);
bool subjects_has(const struct subjects *s, const char *id, size_t n);
bool subjects_has_other(const struct subjects *s, const char *id, size_t n);	/* any but that one */
/* Whether all of `of` are in s. */
bool subjects_cover(const struct subjects *s, const struct subjects *of);

/* *s may be NULL before.  1: it is new; 0: it was there.  -EINVAL: no such text; -ENOMEM; -ENOSPC: more than `max` bytes. */
int subjects_add(struct subjects **s, const char *id, size_t n, size_t max);
/* All of `from`; 1: *s grew.  On failure *s may have part of them. */
int subjects_add_all(struct subjects **s, const struct subjects *from, size_t max);
bool subjects_remove(struct subjects *s, const char *id, size_t n);
/* One after the other: *at is 0 before the first.  False: there is no more. */
bool subjects_next(const struct subjects *s, size_t *at, const char **ret_id, size_t *ret_n);

/* As they are stored, before sealing: format 1, then each as its length and its bytes, in order (memcmp, shorter first), each
 * once, padded with zeros to a multiple of 64.  Returns the length. */
size_t subjects_encode(const struct subjects *s, uint8_t out[SUBJECTS_STORED_MAX]);
/* -EBADMSG: nothing that was encoded so (the empty set is not stored); -ENOMEM. */
int subjects_decode(const uint8_t *in, size_t n, struct subjects **ret);

#endif
