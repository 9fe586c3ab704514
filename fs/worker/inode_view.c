/* What a session knows of the inodes: its lookups, and what it was shown. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/worker/inode_impl.h"

struct inode *inode_view_get(struct inode_table *t, const struct inode_view *v, uint64_t node)
{
	uint32_t index = (uint32_t)node;

	if (index < INODE_ROOT || index >= t->slot_used || index >= v->cap || v->lookups[index] == 0)
		return NULL;
	if (t->slots[index].generation != (uint32_t)(node >> 32))
		return NULL;
	return t->slots[index].inode;
}

struct inode *inode_get(struct inode_table *t, const struct inode_view *v, uint64_t node)
{
	struct inode *i;

	pthread_mutex_lock(&t->lock);
	i = inode_view_get(t, v, node);
	if (i)
		i->refs++;
	pthread_mutex_unlock(&t->lock);
	return i;
}

bool inode_known(struct inode_table *t, const struct inode_view *v, const struct inode *i)
{
	bool known;

	pthread_mutex_lock(&t->lock);
	known = i->index < v->cap && v->lookups[i->index] > 0;
	pthread_mutex_unlock(&t->lock);
	return known;
}

void inode_view_show(struct inode_table *t, struct inode_view *v, const struct inode *i)
{
	pthread_mutex_lock(&t->lock);
	if (i->index < v->cap)
		v->shown[i->index] = 1;
	pthread_mutex_unlock(&t->lock);
}

bool inode_view_unshow(struct inode_view *v, const struct inode *i)
{
	bool shown = i->index < v->cap && v->shown[i->index];

	if (shown)
		v->shown[i->index] = 0;
	return shown;
}

static int view_reserve(struct inode_view *v, uint32_t index)
{
	uint32_t cap = v->cap ? v->cap : 256;
	uint32_t *wider;
	uint8_t *shown;

	if (index < v->cap)
		return 0;
	while (cap <= index)
		cap *= 2;
	shown = realloc(v->shown, cap);
	if (!shown)
		return -ENOMEM;
	memset(shown + v->cap, 0, cap - v->cap);
	v->shown = shown;
	wider = realloc(v->lookups, cap * sizeof(*wider));
	if (!wider)
		return -ENOMEM;
	memset(wider + v->cap, 0, (cap - v->cap) * sizeof(*wider));
	v->lookups = wider;
	v->cap = cap;
	return 0;
}

int inode_view_enter(struct inode_table *t, struct inode_view *v, struct inode *i)
{
	int r = view_reserve(v, i->index);

	if (r == 0 && v->lookups[i->index] == UINT32_MAX)
		r = -EOVERFLOW;
	if (r == 0 && v->lookups[i->index] == 0 && v->known >= INODE_VIEW_MAX)
		r = -ENFILE;
	if (r < 0)
		return r;
	if (v->lookups[i->index]++ == 0)
		v->known++;
	i->lookups++;
	i->refs++;
	return 0;
}

void inode_forget(struct inode_table *t, struct inode_view *v, uint64_t node, uint64_t n)
{
	struct inode *chain = NULL, *i;

	pthread_mutex_lock(&t->lock);
	i = inode_view_get(t, v, node);
	if (i && i->index != INODE_ROOT) {
		uint32_t have = v->lookups[i->index];

		if (n > have)
			n = have;
		v->lookups[i->index] -= (uint32_t)n;
		i->lookups -= n;
		if (v->lookups[i->index] == 0)
			v->known--;
		if (inode_unused(i))
			chain = inode_take_unused(t, i, NULL);
	}
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, chain);
}

uint32_t inode_view_known(struct inode_table *t, const struct inode_view *v, uint32_t *ret_slots)
{
	uint32_t known;

	pthread_mutex_lock(&t->lock);
	known = v->known;
	*ret_slots = v->cap;
	pthread_mutex_unlock(&t->lock);
	return known;
}

size_t inode_view_unused(
	struct inode_table *t, struct inode_view *v, uint64_t *nodes, size_t cap, uint32_t *slots)
{
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	for (; n < cap && *slots > 0; --*slots) {
		uint32_t at = v->hand < v->cap ? v->hand : 0;

		v->hand = at + 1;
		if (at >= v->cap || v->lookups[at] == 0 || at == INODE_ROOT)
			continue;
		if (t->slots[at].inode->refs == 0)
			nodes[n++] = inode_node(t->slots[at].inode);
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

bool inode_view_name(struct inode_table *t, const struct inode_view *v, uint64_t node, uint64_t *ret_parent,
	char name[256])
{
	const struct dentry *d;
	const struct inode *i;
	bool found;

	pthread_mutex_lock(&t->lock);
	i = inode_view_get(t, v, node);
	d = i && i->refs == 0 && !S_ISDIR(atomic_load(&i->mode)) ? i->names : NULL;
	while (d && (d->parent->index >= v->cap || v->lookups[d->parent->index] == 0))
		d = d->next;
	found = d && strlen(d->name) < 256;
	if (found) {
		memcpy(name, d->name, strlen(d->name) + 1);
		*ret_parent = inode_node(d->parent);
	}
	pthread_mutex_unlock(&t->lock);
	return found;
}

void inode_view_enter_root(struct inode_table *t, struct inode_view *v)
{
	pthread_mutex_lock(&t->lock);
	if (view_reserve(v, INODE_ROOT) == 0 && v->lookups[INODE_ROOT] == 0) {
		v->lookups[INODE_ROOT] = 1;
		t->slots[INODE_ROOT].inode->lookups++;
		v->known++;
	}
	pthread_mutex_unlock(&t->lock);
}

void inode_view_done(struct inode_table *t, struct inode_view *v)
{
	struct inode *chain = NULL;

	pthread_mutex_lock(&t->lock);
	for (uint32_t n = 0; n < v->cap; n++) {
		struct inode *i;

		if (v->lookups[n] == 0)
			continue;
		i = t->slots[n].inode;
		i->lookups -= v->lookups[n];
		if (inode_unused(i))
			chain = inode_take_unused(t, i, chain);
	}
	free(v->lookups);
	free(v->shown);
	*v = (struct inode_view){0};
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, chain);
}

int inode_view_list(struct inode_table *t, const struct inode_view *v, uint64_t **ret, size_t *ret_n)
{
	uint64_t *list;
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	list = malloc((v->known + 1u) * sizeof(*list));
	for (uint32_t k = 0; list && k < v->cap; k++) {
		if (v->lookups[k] > 0)
			list[n++] = inode_node(t->slots[k].inode);
	}
	pthread_mutex_unlock(&t->lock);
	if (!list)
		return -ENOMEM;
	*ret = list;
	*ret_n = n;
	return 0;
}
