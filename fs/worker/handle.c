#include "fs/worker/handle.h"

#include <errno.h>
#include <stdlib.h>

struct place {
	struct handle *handle;
	uint32_t generation;
	uint32_t next_free;
};

struct handle_table {
	pthread_mutex_t lock;
	_Atomic uint64_t *open_nodes;
	uint32_t used, free_head, count; /* places 0 .. used-1 were used once; free_head is index + 1 */
	uint32_t sweep;
	struct place places[HANDLE_MAX];
};

int handle_table_new(_Atomic uint64_t *open_nodes, struct handle_table **ret)
{
	struct handle_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	t->open_nodes = open_nodes;
	*ret = t;
	return 0;
}

void handle_table_free(struct handle_table *t)
{
	if (!t)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static int place_take(struct handle_table *t, uint32_t *ret)
{
	if (t->free_head) {
		*ret = t->free_head - 1;
		t->free_head = t->places[*ret].next_free;
		return 0;
	}
	if (t->used == HANDLE_MAX)
		return -EMFILE;
	*ret = t->used++;
	t->places[*ret].generation = 1; /* so that 0 is never a handle */
	return 0;
}

int handle_new(
	struct handle_table *t, enum handle_kind kind, uint64_t node, struct handle **ret, uint64_t *ret_fh)
{
	struct handle *h = calloc(1, sizeof(*h));
	uint32_t index;
	int r;

	if (!h)
		return -ENOMEM;
	pthread_mutex_lock(&t->lock);
	r = place_take(t, &index);
	if (r == 0) {
		pthread_mutex_init(&h->lock, NULL);
		h->kind = (uint8_t)kind;
		h->index = index;
		h->refs = 1;
		t->places[index].handle = h;
		t->count++;
		atomic_store(&t->open_nodes[index], node);
		*ret = h;
		*ret_fh = index | (uint64_t)t->places[index].generation << 32;
	}
	pthread_mutex_unlock(&t->lock);
	if (r < 0)
		free(h);
	return r;
}

void handle_publish(struct handle_table *t, struct handle *h)
{
	pthread_mutex_lock(&t->lock);
	h->ready = true;
	pthread_mutex_unlock(&t->lock);
}

static struct handle *find(
	struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node, bool closing)
{
	uint32_t index = (uint32_t)fh;
	struct handle *h;

	if (index >= t->used || t->places[index].generation != (uint32_t)(fh >> 32))
		return NULL;
	h = t->places[index].handle;
	if (!h || !h->ready || h->released || (h->dead && !closing) || h->kind != kind ||
		atomic_load(&t->open_nodes[index]) != node)
		return NULL;
	return h;
}

static struct handle *get(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node, bool dead)
{
	struct handle *h;

	pthread_mutex_lock(&t->lock);
	h = find(t, fh, kind, node, dead);
	if (h)
		h->refs++;
	pthread_mutex_unlock(&t->lock);
	return h;
}

struct handle *handle_get(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node)
{
	return get(t, fh, kind, node, false);
}

struct handle *handle_get_even_dead(struct handle_table *t, uint64_t fh, uint64_t node)
{
	return get(t, fh, HANDLE_FILE, node, true);
}

bool handle_is_dead(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node)
{
	const struct handle *h;
	bool dead;

	pthread_mutex_lock(&t->lock);
	h = find(t, fh, kind, node, true);
	dead = h && h->dead;
	pthread_mutex_unlock(&t->lock);
	return dead;
}

bool handle_put(struct handle_table *t, struct handle *h)
{
	bool last;

	pthread_mutex_lock(&t->lock);
	last = --h->refs == 0;
	pthread_mutex_unlock(&t->lock);
	return last;
}

struct handle *handle_release(struct handle_table *t, uint64_t fh, enum handle_kind kind, uint64_t node)
{
	struct handle *h;

	pthread_mutex_lock(&t->lock);
	h = find(t, fh, kind, node, true);
	if (h)
		h->released = true;
	pthread_mutex_unlock(&t->lock);
	return h;
}

struct handle *handle_release_any(struct handle_table *t)
{
	struct handle *h = NULL;

	pthread_mutex_lock(&t->lock);
	for (; !h && t->sweep < t->used; t->sweep++) {
		h = t->places[t->sweep].handle;
		if (h && h->released)
			h = NULL;
		if (h)
			h->released = true;
	}
	pthread_mutex_unlock(&t->lock);
	return h;
}

void handle_free(struct handle_table *t, struct handle *h)
{
	pthread_mutex_lock(&t->lock);
	atomic_store(&t->open_nodes[h->index], 0);
	t->places[h->index].handle = NULL;
	t->places[h->index].generation++;
	if (t->places[h->index].generation == 0)
		t->places[h->index].generation = 1;
	t->places[h->index].next_free = t->free_head;
	t->free_head = h->index + 1;
	t->count--;
	pthread_mutex_unlock(&t->lock);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

int handle_end_session(struct handle_table *t, uint64_t session, uint64_t **ret, size_t *ret_n)
{
	uint64_t *nodes;
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	nodes = malloc((t->count + 1u) * sizeof(*nodes));
	for (uint32_t k = 0; k < t->used; k++) {
		struct handle *h = t->places[k].handle;

		if (!h || h->session != session)
			continue;
		h->dead = true;
		if (nodes)
			nodes[n++] = atomic_load(&t->open_nodes[k]);
	}
	pthread_mutex_unlock(&t->lock);
	*ret = nodes;
	*ret_n = n;
	return nodes ? 0 : -ENOMEM;
}

size_t handle_files(struct handle_table *t, struct handle ***ret)
{
	struct handle **all;
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	all = malloc((t->count + 1u) * sizeof(struct handle *));
	for (uint32_t k = 0; all && k < t->used; k++) {
		struct handle *h = t->places[k].handle;

		if (!h || h->kind != HANDLE_FILE || !h->ready || h->released || !h->file)
			continue;
		h->refs++;
		all[n++] = h;
	}
	pthread_mutex_unlock(&t->lock);
	*ret = all;
	return n;
}

void handle_kill(struct handle_table *t, struct handle *h)
{
	pthread_mutex_lock(&t->lock);
	h->dead = true;
	pthread_mutex_unlock(&t->lock);
}

unsigned handle_count(struct handle_table *t)
{
	unsigned n;

	pthread_mutex_lock(&t->lock);
	n = t->count;
	pthread_mutex_unlock(&t->lock);
	return n;
}
