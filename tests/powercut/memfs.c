/* Inodes, directories, blocks, the log. */
#include "memfs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memfs_impl.h"

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

void *memfs_grow(void *p, size_t n, size_t size)
{
	return must(realloc(p, n * size));
}

static void *copy(const void *p, size_t n)
{
	void *q = must(malloc(n ? n : 1));

	if (n)
		memcpy(q, p, n);
	return q;
}

static char *copy_text(const char *s)
{
	return s ? copy(s, strlen(s) + 1) : NULL;
}

struct block *block_ref(struct block *b)
{
	if (b)
		b->refs++;
	return b;
}

void block_unref(struct block *b)
{
	if (b && --b->refs == 0)
		free(b);
}

/* ---- inodes ---- */

struct node *memfs_node(const struct memfs *m, uint32_t ino)
{
	return ino < m->n_nodes ? m->nodes[ino] : NULL;
}

struct node *memfs_add_node(struct memfs *m, uint32_t ino, mode_t mode)
{
	struct node *n = must(calloc(1, sizeof(*n)));
	size_t had = m->n_nodes;

	if (ino >= had) {
		m->n_nodes = ino * 2 + 16;
		m->nodes = memfs_grow(m->nodes, m->n_nodes, sizeof(*m->nodes));
		memset(m->nodes + had, 0, (m->n_nodes - had) * sizeof(*m->nodes));
	}
	assert(!m->nodes[ino]);
	m->nodes[ino] = n;
	if (m->next_ino <= ino)
		m->next_ino = ino + 1;
	n->ino = ino;
	n->mode = mode;
	n->nlink = S_ISDIR(mode) ? 2 : 0;
	n->next_cookie = 1;
	return n;
}

static void node_free(struct node *n)
{
	size_t i;

	for (i = 0; i < n->n_blocks; i++)
		block_unref(n->blocks[i]);
	for (i = 0; i < n->n_entries; i++)
		free(n->entries[i].name);
	for (i = 0; i < n->n_attrs; i++) {
		free(n->attrs[i].name);
		free(n->attrs[i].value);
	}
	free(n->blocks);
	free(n->entries);
	free(n->attrs);
	free(n->target);
	free(n);
}

void memfs_drop_node(struct memfs *m, struct node *n)
{
	if (n->nlink > 0 || n->opens > 0)
		return;
	m->nodes[n->ino] = NULL;
	node_free(n);
}

struct memfs *memfs_new(void)
{
	struct memfs *m = must(calloc(1, sizeof(*m)));

	memfs_add_node(m, MEMFS_ROOT, S_IFDIR | 0755);
	return m;
}

static void op_done(struct op *o)
{
	size_t i;

	for (i = 0; i < o->n_blocks; i++)
		block_unref(o->blocks[i]);
	free(o->blocks);
	free(o->name);
	free(o->to_name);
	free(o->value);
}

void memfs_free(struct memfs *m)
{
	size_t i;

	if (!m)
		return;
	for (i = 0; i < m->n_nodes; i++)
		if (m->nodes[i])
			node_free(m->nodes[i]);
	for (i = 0; i < m->n_log; i++)
		op_done(&m->log[i]);
	free(m->nodes);
	free(m->log);
	free(m);
}

/* ---- content ---- */

void memfs_set_block(struct node *n, size_t index, struct block *b)
{
	size_t had = n->n_blocks;

	if (index >= had) {
		if (!b)
			return;
		n->n_blocks = index + 1;
		n->blocks = memfs_grow(n->blocks, n->n_blocks, sizeof(*n->blocks));
		memset(n->blocks + had, 0, (n->n_blocks - had) * sizeof(*n->blocks));
	}
	block_ref(b);
	block_unref(n->blocks[index]);
	n->blocks[index] = b;
}

struct block *memfs_get_block(const struct node *n, size_t index)
{
	return index < n->n_blocks ? n->blocks[index] : NULL;
}

void memfs_set_size(struct node *n, off_t size)
{
	size_t keep = (size_t)(size + BLOCK_BYTES - 1) / BLOCK_BYTES, part = (size_t)(size % BLOCK_BYTES);
	struct block *b, *cut;

	n->size = size;
	while (n->n_blocks > keep)
		block_unref(n->blocks[--n->n_blocks]);
	b = part ? memfs_get_block(n, keep - 1) : NULL;
	if (!b)
		return;
	cut = must(calloc(1, sizeof(*cut)));
	memcpy(cut->b, b->b, part);
	memfs_set_block(n, keep - 1, cut);
}

/* ---- entries and attributes ---- */

struct dirent_mem *memfs_entry(const struct node *dir, const char *name)
{
	size_t i;

	for (i = 0; i < dir->n_entries; i++)
		if (strcmp(dir->entries[i].name, name) == 0)
			return &dir->entries[i];
	return NULL;
}

static void add_entry(struct node *dir, const char *name, uint32_t ino)
{
	assert(!memfs_entry(dir, name));
	dir->entries = memfs_grow(dir->entries, dir->n_entries + 1, sizeof(*dir->entries));
	dir->entries[dir->n_entries++] =
		(struct dirent_mem){.name = copy_text(name), .ino = ino, .cookie = dir->next_cookie++};
}

static void remove_entry(struct node *dir, const char *name)
{
	struct dirent_mem *e = memfs_entry(dir, name);
	size_t i = (size_t)(e - dir->entries);

	free(e->name);
	memmove(e, e + 1, (--dir->n_entries - i) * sizeof(*e));
}

struct attr_mem *memfs_attr(const struct node *n, const char *name)
{
	size_t i;

	for (i = 0; i < n->n_attrs; i++)
		if (strcmp(n->attrs[i].name, name) == 0)
			return &n->attrs[i];
	return NULL;
}

static void set_attr(struct node *n, const char *name, const void *value, size_t len)
{
	struct attr_mem *a = memfs_attr(n, name);

	if (!a) {
		n->attrs = memfs_grow(n->attrs, n->n_attrs + 1, sizeof(*n->attrs));
		a = &n->attrs[n->n_attrs++];
		*a = (struct attr_mem){.name = copy_text(name)};
	}
	free(a->value);
	a->value = copy(value, len);
	a->n = len;
}

static void remove_attr(struct node *n, const char *name)
{
	struct attr_mem *a = memfs_attr(n, name);
	size_t i = (size_t)(a - n->attrs);

	free(a->name);
	free(a->value);
	memmove(a, a + 1, (--n->n_attrs - i) * sizeof(*a));
}

/* ---- operations ---- */

static void unlink_entry(struct memfs *m, struct node *dir, const char *name)
{
	struct node *n = memfs_node(m, memfs_entry(dir, name)->ino);

	remove_entry(dir, name);
	if (S_ISDIR(n->mode)) {
		n->nlink = 0;
		dir->nlink--;
	} else {
		n->nlink--;
	}
	memfs_drop_node(m, n);
}

static void create(struct memfs *m, const struct op *o)
{
	struct node *dir = memfs_node(m, o->dir), *n = memfs_add_node(m, o->ino, o->mode);

	n->uid = o->uid;
	n->gid = o->gid;
	if (S_ISLNK(o->mode)) {
		n->target = copy_text(o->to_name);
		n->size = (off_t)strlen(o->to_name);
	}
	if (S_ISDIR(o->mode))
		dir->nlink++;
	else
		n->nlink = 1;
	add_entry(dir, o->name, o->ino);
}

static void rename_entry(struct memfs *m, const struct op *o)
{
	struct node *dir = memfs_node(m, o->dir), *to = memfs_node(m, o->to_dir);
	uint32_t ino = memfs_entry(dir, o->name)->ino;

	if (memfs_entry(to, o->to_name))
		unlink_entry(m, to, o->to_name);
	remove_entry(dir, o->name);
	add_entry(to, o->to_name, ino);
	if (S_ISDIR(memfs_node(m, ino)->mode) && dir != to) {
		dir->nlink--;
		to->nlink++;
	}
}

static void exchange(struct memfs *m, const struct op *o)
{
	struct dirent_mem *a = memfs_entry(memfs_node(m, o->dir), o->name);
	struct dirent_mem *b = memfs_entry(memfs_node(m, o->to_dir), o->to_name);
	uint32_t ino = a->ino;

	a->ino = b->ino;
	b->ino = ino;
}

static void punch(struct node *n, const struct op *o)
{
	off_t i;

	/* The store punches whole blocks. */
	assert(o->from % BLOCK_BYTES == 0 && o->to % BLOCK_BYTES == 0);
	for (i = o->from / BLOCK_BYTES; i < o->to / BLOCK_BYTES && i < (off_t)n->n_blocks; i++)
		memfs_set_block(n, (size_t)i, NULL);
}

void memfs_apply(struct memfs *m, const struct op *o)
{
	struct node *n = o->kind == OP_CREATE ? NULL : memfs_node(m, o->ino);

	if (!n && o->ino && o->kind != OP_CREATE)
		return; /* it has no name any more: nobody will see it */
	switch (o->kind) {
	case OP_CREATE:
		create(m, o);
		break;
	case OP_LINK:
		add_entry(memfs_node(m, o->dir), o->name, o->ino);
		n->nlink++;
		break;
	case OP_UNLINK:
		unlink_entry(m, memfs_node(m, o->dir), o->name);
		break;
	case OP_RENAME:
		rename_entry(m, o);
		break;
	case OP_EXCHANGE:
		exchange(m, o);
		break;
	case OP_SETXATTR:
		set_attr(n, o->name, o->value, o->n);
		break;
	case OP_REMOVEXATTR:
		remove_attr(n, o->name);
		break;
	case OP_CHMOD:
		n->mode = (n->mode & S_IFMT) | o->mode;
		break;
	case OP_CHOWN:
		n->uid = o->uid;
		n->gid = o->gid;
		break;
	case OP_SIZE:
		memfs_set_size(n, o->to);
		break;
	case OP_PUNCH:
		punch(n, o);
		break;
	case OP_WRITE:
	case OP_SYNC:
	case OP_LOST:
		break;
	}
}

struct op *memfs_log(struct memfs *m, const struct op *o)
{
	struct op *l;

	if (!m->logging)
		return NULL;
	if (m->n_log == m->cap_log) {
		m->cap_log = m->cap_log * 2 + 64;
		m->log = memfs_grow(m->log, m->cap_log, sizeof(*m->log));
	}
	l = &m->log[m->n_log++];
	*l = *o;
	l->name = copy_text(o->name);
	l->to_name = copy_text(o->to_name);
	l->value = o->value ? copy(o->value, o->n) : NULL;
	l->blocks = NULL;
	l->n_blocks = 0;
	return l;
}

void memfs_do(struct memfs *m, const struct op *o)
{
	memfs_log(m, o);
	memfs_apply(m, o);
}

void memfs_write(struct memfs *m, struct node *n, const uint8_t *data, size_t len, off_t off)
{
	size_t first = (size_t)(off / BLOCK_BYTES), last = (size_t)((off + (off_t)len - 1) / BLOCK_BYTES), i;
	off_t end = off + (off_t)len;
	struct op o = {.kind = OP_WRITE,
			  .ino = n->ino,
			  .first = first,
			  .from = n->size,
			  .to = end > n->size ? end : n->size,
			  .allocates = end > n->size},
		  *l;
	size_t done = 0;

	for (i = first; i <= last; i++)
		o.allocates |= !memfs_get_block(n, i);
	l = memfs_log(m, &o);
	if (l)
		l->blocks = must(calloc(last - first + 1, sizeof(*l->blocks)));
	for (i = first; i <= last; i++) {
		struct block *b = must(calloc(1, sizeof(*b))), *old = memfs_get_block(n, i);
		size_t at = i == first ? (size_t)(off % BLOCK_BYTES) : 0, k = BLOCK_BYTES - at;

		k = k < len - done ? k : len - done;
		if (old)
			memcpy(b->b, old->b, BLOCK_BYTES);
		memcpy(b->b + at, data + done, k);
		done += k;
		memfs_set_block(n, i, b);
		if (l)
			l->blocks[l->n_blocks++] = block_ref(b);
	}
	if (end > n->size)
		n->size = end;
}

void op_print(const struct op *o, char *buf, size_t cap)
{
	static const char *const names[] = {"create", "link", "unlink", "rename", "exchange", "setxattr",
		"removexattr", "chmod", "chown", "size", "punch", "write", "sync", "lost"};

	snprintf(buf, cap, "%s%s ino %u%s%s%s%s dir %u>%u %lld>%lld blocks %zu+%zu", names[o->kind],
		o->data_only ? " data" : "", o->ino, o->name ? " " : "", o->name ? o->name : "",
		o->to_name ? " -> " : "", o->to_name ? o->to_name : "", o->dir, o->to_dir, (long long)o->from,
		(long long)o->to, o->first, o->n_blocks);
}
