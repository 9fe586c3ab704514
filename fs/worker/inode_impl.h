/* What the sources of the inode table share: the table, under its lock. */
#ifndef COFFER_INODE_IMPL_H
#define COFFER_INODE_IMPL_H

#include <pthread.h>

#include "fs/worker/inode.h"

struct slot {
	struct inode *inode;
	uint32_t generation; /* of the inode there, or of the next one */
	uint32_t next_free;
};

struct inode_table {
	pthread_mutex_t lock;
	struct slot *slots;
	uint32_t slot_cap, slot_used, free_head; /* 0: none (index 0 is never used) */
	struct inode **buckets;
	uint32_t bucket_count, count;
	uint32_t limit, full_at; /* full_at: when on_full is called next */
	void (*on_free)(struct inode *i, void *arg);
	void *on_free_arg;
	void (*on_full)(void *arg);
	void *on_full_arg;
};

static inline bool inode_unused(const struct inode *i)
{
	return i->refs == 0 && i->lookups == 0;
}

/* Takes the unused inode out of the table, and the ancestors that only it kept; chained by hash_next, before `chain`. */
struct inode *inode_take_unused(struct inode_table *t, struct inode *i, struct inode *chain);
/* Without the lock: tells on_free of each, and frees it. */
void inode_free_chain(struct inode_table *t, struct inode *chain);

/* No reference is taken.  NULL: unknown in this view. */
struct inode *inode_view_get(struct inode_table *t, const struct inode_view *v, uint64_t node);
/* One lookup and a reference more.  -ENOMEM, -EOVERFLOW, -ENFILE. */
int inode_view_enter(struct inode_table *t, struct inode_view *v, struct inode *i);

#endif
