/* The table of inodes, and their names. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/worker/inode_impl.h"

#define SLOTS_FIRST 1024u
#define BUCKETS_FIRST 1024u

static uint32_t bucket_of(const struct inode_table *t, dev_t dev, ino_t ino)
{
	uint64_t h = ((uint64_t)ino ^ (uint64_t)dev << 40) * 0x9e3779b97f4a7c15u;

	return (uint32_t)(h >> 32) & (t->bucket_count - 1);
}

/* A table that could not grow goes on with longer chains. */
static void buckets_grow(struct inode_table *t)
{
	uint32_t old_count = t->bucket_count;
	struct inode **old = t->buckets;
	struct inode **wider = calloc((size_t)old_count * 2, sizeof(*wider));

	if (!wider)
		return;
	t->buckets = wider;
	t->bucket_count = old_count * 2;
	for (uint32_t b = 0; b < old_count; b++) {
		for (struct inode *i = old[b], *next; i; i = next) {
			uint32_t to = bucket_of(t, i->dev, i->ino);

			next = i->hash_next;
			i->hash_next = wider[to];
			wider[to] = i;
		}
	}
	free(old);
}

static void hash_add(struct inode_table *t, struct inode *i)
{
	uint32_t b;

	if (t->count > t->bucket_count)
		buckets_grow(t);
	b = bucket_of(t, i->dev, i->ino);
	i->hash_next = t->buckets[b];
	t->buckets[b] = i;
	i->hashed = true;
}

static void hash_remove(struct inode_table *t, struct inode *i)
{
	if (!i->hashed)
		return;
	for (struct inode **p = &t->buckets[bucket_of(t, i->dev, i->ino)]; *p; p = &(*p)->hash_next) {
		if (*p == i) {
			*p = i->hash_next;
			break;
		}
	}
	i->hashed = false;
}

static struct inode *hash_find(struct inode_table *t, dev_t dev, ino_t ino)
{
	for (struct inode *i = t->buckets[bucket_of(t, dev, ino)]; i; i = i->hash_next) {
		if (i->ino == ino && i->dev == dev)
			return i;
	}
	return NULL;
}

static int slot_take(struct inode_table *t, uint32_t *ret)
{
	if (t->free_head) {
		*ret = t->free_head;
		t->free_head = t->slots[*ret].next_free;
		return 0;
	}
	if (t->slot_used == t->slot_cap) {
		uint32_t cap = t->slot_cap ? t->slot_cap * 2 : SLOTS_FIRST;
		struct slot *s;

		if (cap > INODE_MAX)
			return -ENFILE;
		s = realloc(t->slots, cap * sizeof(*s));
		if (!s)
			return -ENOMEM;
		memset(s + t->slot_cap, 0, (cap - t->slot_cap) * sizeof(*s));
		t->slots = s;
		t->slot_cap = cap;
	}
	*ret = t->slot_used++;
	return 0;
}

static int inode_new(struct inode_table *t, const struct stat *st, struct inode **ret)
{
	struct inode *i = calloc(1, sizeof(*i));
	uint32_t index;
	int r;

	if (!i)
		return -ENOMEM;
	r = slot_take(t, &index);
	if (r < 0) {
		free(i);
		return r;
	}
	i->index = index;
	i->generation = t->slots[index].generation;
	i->dev = st->st_dev;
	i->ino = st->st_ino;
	atomic_init(&i->mode, st->st_mode);
	t->slots[index].inode = i;
	t->count++;
	hash_add(t, i);
	*ret = i;
	if (t->count > t->full_at) {
		t->full_at = t->count + t->limit / 8;
		t->on_full(t->on_full_arg);
	}
	return 0;
}

int inode_table_new(const struct stat *root, struct inode_table **ret)
{
	struct inode_table *t = calloc(1, sizeof(*t));
	struct inode *i;
	int r = -ENOMEM;

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->limit = t->full_at = UINT32_MAX;
	t->bucket_count = BUCKETS_FIRST;
	t->slot_used = INODE_ROOT;
	t->buckets = calloc(t->bucket_count, sizeof(*t->buckets));
	t->slots = calloc(SLOTS_FIRST, sizeof(*t->slots));
	t->slot_cap = SLOTS_FIRST;
	if (t->buckets && t->slots)
		r = inode_new(t, root, &i);
	if (r < 0) {
		inode_table_free(t);
		return r;
	}
	i->refs = 1; /* for ever */
	*ret = t;
	return 0;
}

static void names_free(struct inode *i)
{
	for (struct dentry *d = i->names, *next; d; d = next) {
		next = d->next;
		free(d);
	}
}

void inode_table_free(struct inode_table *t)
{
	if (!t)
		return;
	for (uint32_t n = 0; n < t->slot_used && t->slots; n++) {
		if (!t->slots[n].inode)
			continue;
		names_free(t->slots[n].inode);
		free(t->slots[n].inode->last);
		free(t->slots[n].inode);
	}
	free(t->slots);
	free(t->buckets);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void inode_table_on_free(struct inode_table *t, void (*on_free)(struct inode *i, void *arg), void *arg)
{
	t->on_free = on_free;
	t->on_free_arg = arg;
}

void inode_table_lock(struct inode_table *t)
{
	pthread_mutex_lock(&t->lock);
}

void inode_table_unlock(struct inode_table *t)
{
	pthread_mutex_unlock(&t->lock);
}

unsigned inode_table_count(struct inode_table *t)
{
	unsigned n;

	pthread_mutex_lock(&t->lock);
	n = t->count;
	pthread_mutex_unlock(&t->lock);
	return n;
}

struct inode *inode_take_unused(struct inode_table *t, struct inode *i, struct inode *chain)
{
	struct inode *todo = i;

	hash_remove(t, i);
	i->hash_next = NULL;
	while (todo) {
		struct inode *cur = todo;

		todo = cur->hash_next;
		t->slots[cur->index].inode = NULL;
		t->slots[cur->index].generation++;
		t->slots[cur->index].next_free = t->free_head;
		t->free_head = cur->index;
		t->count--;
		for (struct dentry *d = cur->names, *next; d; d = next) {
			struct inode *parent = d->parent;

			next = d->next;
			free(d);
			parent->refs--;
			if (!inode_unused(parent))
				continue;
			hash_remove(t, parent);
			parent->hash_next = todo;
			todo = parent;
		}
		cur->names = NULL;
		cur->hash_next = chain;
		chain = cur;
	}
	if (t->count <= t->limit)
		t->full_at = t->limit;
	return chain;
}

void inode_free_chain(struct inode_table *t, struct inode *chain)
{
	for (struct inode *next; chain; chain = next) {
		next = chain->hash_next;
		if (t->on_free)
			t->on_free(chain, t->on_free_arg);
		free(chain->last);
		free(chain);
	}
}

struct inode *inode_ref(struct inode_table *t, struct inode *i)
{
	pthread_mutex_lock(&t->lock);
	i->refs++;
	pthread_mutex_unlock(&t->lock);
	return i;
}

void inode_unref(struct inode_table *t, struct inode *i)
{
	struct inode *chain = NULL;

	if (!i)
		return;
	pthread_mutex_lock(&t->lock);
	i->refs--;
	if (inode_unused(i))
		chain = inode_take_unused(t, i, NULL);
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, chain);
}

static int name_add(struct inode *i, struct inode *parent, const char *name)
{
	size_t n = strlen(name) + 1;
	struct dentry *d;

	for (d = i->names; d; d = d->next) {
		if (d->parent == parent && strcmp(d->name, name) == 0)
			return 0;
	}
	d = malloc(sizeof(*d) + n);
	if (!d)
		return -ENOMEM;
	memcpy(d->name, name, n);
	d->parent = parent;
	d->next = i->names;
	parent->refs++;
	i->names = d;
	return 0;
}

int inode_enter(struct inode_table *t, struct inode_view *v, struct inode *parent, const char *name,
	const struct stat *st, struct inode **ret)
{
	struct inode *i, *chain = NULL;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	i = hash_find(t, st->st_dev, st->st_ino);
	if (!i)
		r = inode_new(t, st, &i);
	if (r == 0)
		r = name_add(i, parent, name);
	if (r == 0)
		r = inode_view_enter(t, v, i);
	if (r == 0)
		*ret = i;
	else if (i && inode_unused(i))
		chain = inode_take_unused(t, i, NULL);
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, chain);
	return r;
}

int inode_enter_unnamed(struct inode_table *t, struct inode_view *v, const struct stat *st, struct inode **ret)
{
	struct inode *i, *chain = NULL;
	int r;

	pthread_mutex_lock(&t->lock);
	r = inode_new(t, st, &i);
	if (r == 0) {
		hash_remove(t, i); /* when it is gone its number can mean another file at once */
		r = inode_view_enter(t, v, i);
		if (r == 0)
			*ret = i;
		else
			chain = inode_take_unused(t, i, NULL);
	}
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, chain);
	return r;
}

void inode_named(struct inode_table *t, struct inode *i)
{
	pthread_mutex_lock(&t->lock);
	if (!i->hashed)
		hash_add(t, i);
	pthread_mutex_unlock(&t->lock);
}

void inode_last_seen(struct inode *i, const struct stat *st)
{
	if (!i->last)
		i->last = malloc(sizeof(*i->last));
	if (!i->last)
		return; /* then it is stale (ESTALE) for who asks */
	*i->last = *st;
	i->last->st_nlink = 0;
}

struct inode *inode_find(struct inode_table *t, const struct stat *st)
{
	struct inode *i;

	pthread_mutex_lock(&t->lock);
	i = hash_find(t, st->st_dev, st->st_ino);
	if (i)
		i->refs++;
	pthread_mutex_unlock(&t->lock);
	return i;
}

void inode_renumber(struct inode_table *t, const struct stat *was, const struct stat *now)
{
	struct inode *i;

	pthread_mutex_lock(&t->lock);
	i = hash_find(t, was->st_dev, was->st_ino);
	if (i && was->st_nlink == 1) {
		hash_remove(t, i);
		i->dev = now->st_dev;
		i->ino = now->st_ino;
		hash_add(t, i);
	}
	pthread_mutex_unlock(&t->lock);
}

void inode_number_gone(struct inode_table *t, const struct stat *was)
{
	struct inode *i;

	pthread_mutex_lock(&t->lock);
	i = hash_find(t, was->st_dev, was->st_ino);
	if (i)
		hash_remove(t, i);
	pthread_mutex_unlock(&t->lock);
}

/* ---- too many ---- */

void inode_table_on_full(struct inode_table *t, uint32_t limit, void (*on_full)(void *arg), void *arg)
{
	t->limit = t->full_at = limit;
	t->on_full = on_full;
	t->on_full_arg = arg;
}

uint32_t inode_table_limit(const struct inode_table *t)
{
	return t->limit;
}

uint32_t inode_limit_for(uint64_t memory)
{
	const uint64_t share = 32, each = 330;	/* bytes resident an inode with a name of 12, all tables together */
	uint64_t n = memory / share / each;

	return n < INODE_LIMIT_LOW ? INODE_LIMIT_LOW : n > INODE_LIMIT_HIGH ? INODE_LIMIT_HIGH : (uint32_t)n;
}

void inode_name_remove(
	struct inode_table *t, struct inode *i, struct inode *parent, const char *name, bool last)
{
	struct inode *chain = NULL;

	pthread_mutex_lock(&t->lock);
	for (struct dentry **p = &i->names; *p; p = &(*p)->next) {
		struct dentry *d = *p;

		if (d->parent != parent || strcmp(d->name, name) != 0)
			continue;
		*p = d->next;
		free(d);
		parent->refs--;
		if (inode_unused(parent))
			chain = inode_take_unused(t, parent, NULL);
		break;
	}
	if (last)
		hash_remove(t, i);
	pthread_mutex_unlock(&t->lock);
	inode_free_chain(t, chain);
}

int inode_name_add(struct inode_table *t, struct inode *i, struct inode *parent, const char *name)
{
	int r;

	pthread_mutex_lock(&t->lock);
	r = name_add(i, parent, name);
	pthread_mutex_unlock(&t->lock);
	return r;
}

const struct dentry *inode_name(struct inode_table *t, const struct inode *i)
{
	const struct dentry *d;

	pthread_mutex_lock(&t->lock);
	d = i->names;
	pthread_mutex_unlock(&t->lock);
	return d;
}

bool inode_is_below(struct inode_table *t, const struct inode *i, const struct inode *top)
{
	bool below = false;

	pthread_mutex_lock(&t->lock);
	while (i && !below) {
		below = i == top;
		i = i->names ? i->names->parent : NULL;
	}
	pthread_mutex_unlock(&t->lock);
	return below;
}

void inode_opened(struct inode_table *t, struct inode *i, uint64_t session, bool writing, bool *ret_conflict)
{
	pthread_mutex_lock(&t->lock);
	*ret_conflict = (i->writers > 0 && i->write_session != session) ||
			(writing && i->opens > 0 && i->open_session != session);
	i->open_session = i->opens == 0 || i->open_session == session ? session : 0;
	i->opens++;
	if (writing) {
		i->write_session = i->writers == 0 || i->write_session == session ? session : 0;
		i->writers++;
	}
	pthread_mutex_unlock(&t->lock);
}

bool inode_opened_once(struct inode_table *t, const struct inode *i)
{
	bool once;

	pthread_mutex_lock(&t->lock);
	once = i->opens == 1;
	pthread_mutex_unlock(&t->lock);
	return once;
}

void inode_closed(struct inode_table *t, struct inode *i, bool writing)
{
	pthread_mutex_lock(&t->lock);
	i->opens--;
	if (writing)
		i->writers--;
	pthread_mutex_unlock(&t->lock);
}
