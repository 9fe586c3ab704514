#include "fs/worker/inode.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_FIRST 1024u
#define BUCKETS_FIRST 1024u

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

static bool unused(const struct inode *i)
{
	return i->refs == 0 && i->lookups == 0;
}

/* Takes the unused inode out of the table, and the ancestors that only it kept; chained by hash_next. */
static struct inode *take_unused(struct inode_table *t, struct inode *i, struct inode *chain)
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
			if (!unused(parent))
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

static void free_chain(struct inode_table *t, struct inode *chain)
{
	for (struct inode *next; chain; chain = next) {
		next = chain->hash_next;
		if (t->on_free)
			t->on_free(chain, t->on_free_arg);
		free(chain->last);
		free(chain);
	}
}

static struct inode *view_get(struct inode_table *t, const struct inode_view *v, uint64_t node)
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
	i = view_get(t, v, node);
	if (i)
		i->refs++;
	pthread_mutex_unlock(&t->lock);
	return i;
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
	if (unused(i))
		chain = take_unused(t, i, NULL);
	pthread_mutex_unlock(&t->lock);
	free_chain(t, chain);
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

/* Under the lock: one lookup and a reference more. */
static int enter(struct inode_table *t, struct inode_view *v, struct inode *i)
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
		r = enter(t, v, i);
	if (r == 0)
		*ret = i;
	else if (i && unused(i))
		chain = take_unused(t, i, NULL);
	pthread_mutex_unlock(&t->lock);
	free_chain(t, chain);
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
		r = enter(t, v, i);
		if (r == 0)
			*ret = i;
		else
			chain = take_unused(t, i, NULL);
	}
	pthread_mutex_unlock(&t->lock);
	free_chain(t, chain);
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

void inode_forget(struct inode_table *t, struct inode_view *v, uint64_t node, uint64_t n)
{
	struct inode *chain = NULL, *i;

	pthread_mutex_lock(&t->lock);
	i = view_get(t, v, node);
	if (i && i->index != INODE_ROOT) {
		uint32_t have = v->lookups[i->index];

		if (n > have)
			n = have;
		v->lookups[i->index] -= (uint32_t)n;
		i->lookups -= n;
		if (v->lookups[i->index] == 0)
			v->known--;
		if (unused(i))
			chain = take_unused(t, i, NULL);
	}
	pthread_mutex_unlock(&t->lock);
	free_chain(t, chain);
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
	i = view_get(t, v, node);
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
		if (unused(i))
			chain = take_unused(t, i, chain);
	}
	free(v->lookups);
	free(v->shown);
	*v = (struct inode_view){0};
	pthread_mutex_unlock(&t->lock);
	free_chain(t, chain);
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
		if (unused(parent))
			chain = take_unused(t, parent, NULL);
		break;
	}
	if (last)
		hash_remove(t, i);
	pthread_mutex_unlock(&t->lock);
	free_chain(t, chain);
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
