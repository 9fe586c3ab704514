/* What memfs.c and memfs_calls.c share. */
#ifndef COFFER_POWERCUT_MEMFS_IMPL_H
#define COFFER_POWERCUT_MEMFS_IMPL_H

#include "memfs.h"

void *memfs_grow(void *p, size_t n, size_t size);
struct node *memfs_add_node(struct memfs *m, uint32_t ino, mode_t mode);
void memfs_drop_node(struct memfs *m, struct node *n);	/* if nothing refers to it */
struct block *memfs_get_block(const struct node *n, size_t index);
struct dirent_mem *memfs_entry(const struct node *dir, const char *name);
struct attr_mem *memfs_attr(const struct node *n, const char *name);
struct op *memfs_log(struct memfs *m, const struct op *o);
void memfs_do(struct memfs *m, const struct op *o);	/* logs and applies */
void memfs_write(struct memfs *m, struct node *n, const uint8_t *data, size_t len, off_t off);

#endif
