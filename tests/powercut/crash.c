#include "crash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

#define PARTS 8 /* of 512 bytes */

struct versions { /* what one block may hold; NULL: zeros (no block yet, or an unwritten extent) */
	struct block **v;
	size_t n;
	bool frozen;   /* lost by a failed fsync: a later one does not bring it back */
	bool detached; /* cut or punched after `meta`: what is written now goes to another place */
};

struct candidate { /* one file */
	uint32_t ino;
	struct versions *blocks;
	size_t n_blocks;
	off_t *sizes;
	size_t n_sizes;
	bool sizes_frozen;
};

struct space {
	struct candidate *files;
	size_t n_files;
	struct memfs *fs;
};

struct mark {
	uint32_t ino;
	size_t block;
	enum crash_mark mark;
};

/* Of the state in hand: one at a time. */
static struct mark *marks;
static size_t n_marks;

enum crash_mark crash_mark_of(const struct crash_state *s, uint32_t ino, size_t block)
{
	size_t i;

	for (i = 0; i < n_marks; i++)
		if (marks[i].ino == ino && marks[i].block == block)
			return marks[i].mark;
	return CRASH_SURE;
}

static void *grow(void *p, size_t n, size_t size)
{
	p = realloc(p, (n ? n : 1) * size);
	if (!p)
		abort();
	return p;
}

static void set_mark(uint32_t ino, size_t block, enum crash_mark m)
{
	marks = grow(marks, n_marks + 1, sizeof(*marks));
	marks[n_marks++] = (struct mark){ino, block, m};
}

/* ---- what the log allows ---- */

static struct candidate *file_of(struct space *s, uint32_t ino)
{
	size_t i;

	for (i = 0; i < s->n_files; i++)
		if (s->files[i].ino == ino)
			return &s->files[i];
	return NULL;
}

static struct candidate *new_file(struct space *s, uint32_t ino)
{
	struct candidate *c;

	s->files = grow(s->files, s->n_files + 1, sizeof(*s->files));
	c = &s->files[s->n_files++];
	*c = (struct candidate){.ino = ino, .n_sizes = 1};
	c->sizes = grow(NULL, 1, sizeof(off_t));
	c->sizes[0] = 0;
	return c;
}

static struct versions *block_of(struct candidate *c, size_t index)
{
	while (c->n_blocks <= index) {
		c->blocks = grow(c->blocks, c->n_blocks + 1, sizeof(*c->blocks));
		c->blocks[c->n_blocks] = (struct versions){.n = 1};
		c->blocks[c->n_blocks].v = grow(NULL, 1, sizeof(struct block *));
		c->blocks[c->n_blocks++].v[0] = NULL;
	}
	return &c->blocks[index];
}

static void reset(struct versions *b)
{
	b->n = 1;
	b->v[0] = NULL;
	b->frozen = false;
}

static void add_version(struct versions *b, struct block *v)
{
	b->v = grow(b->v, b->n + 1, sizeof(*b->v));
	b->v[b->n++] = v;
	b->frozen = false;
}

static void add_size(struct candidate *c, off_t size)
{
	if (size == c->sizes[c->n_sizes - 1])
		return;
	c->sizes = grow(c->sizes, c->n_sizes + 1, sizeof(*c->sizes));
	c->sizes[c->n_sizes++] = size;
	c->sizes_frozen = false;
}

/* Blocks [first, end) are given up: on disk, or only after what is on disk. */
static void give_up(struct candidate *c, size_t first, size_t end, bool on_disk)
{
	size_t i;

	for (i = first; i < end && i < c->n_blocks; i++) {
		if (on_disk)
			reset(&c->blocks[i]);
		else
			c->blocks[i].detached = true;
	}
}

static void take_size(struct candidate *c, const struct op *o, bool on_disk)
{
	size_t keep = (size_t)(o->to + BLOCK_BYTES - 1) / BLOCK_BYTES;

	give_up(c, keep, c->n_blocks, on_disk);
	if (!on_disk)
		return;
	/* The store cuts at the border of a block, or where there is none: no zeroing of its rest to model.
	 */
	if (o->to % BLOCK_BYTES && keep <= c->n_blocks)
		assert(c->blocks[keep - 1].n == 1 && !c->blocks[keep - 1].v[0]);
	c->n_sizes = 1;
	c->sizes[0] = o->to;
	c->sizes_frozen = false;
}

static void take_write(struct candidate *c, const struct op *o, bool before_meta)
{
	struct versions *b;
	off_t size;
	size_t i;

	for (i = 0; i < o->n_blocks; i++) {
		b = block_of(c, o->first + i);
		if (b->detached)
			continue;
		/* A block that is new after `meta` is not in the file on disk. */
		if (before_meta || b->v[b->n - 1])
			add_version(b, o->blocks[i]);
	}
	if (!before_meta || o->to == o->from)
		return;
	for (size = o->from / BLOCK_BYTES * BLOCK_BYTES + BLOCK_BYTES; size < o->to; size += BLOCK_BYTES)
		add_size(c, size);
	add_size(c, o->to);
}

static void take_sync(struct candidate *c)
{
	struct versions *b;
	size_t i;

	for (i = 0; i < c->n_blocks; i++) {
		b = &c->blocks[i];
		if (b->frozen)
			continue;
		b->v[0] = b->v[b->n - 1];
		b->n = 1;
	}
	if (!c->sizes_frozen) {
		c->sizes[0] = c->sizes[c->n_sizes - 1];
		c->n_sizes = 1;
	}
}

static void take_loss(struct candidate *c)
{
	size_t i;

	for (i = 0; i < c->n_blocks; i++)
		c->blocks[i].frozen = c->blocks[i].n > 1;
	c->sizes_frozen = c->n_sizes > 1;
}

static void take(struct space *s, const struct op *o, bool before_meta)
{
	struct candidate *c = file_of(s, o->ino);

	if (o->kind <= OP_LAST_META && before_meta)
		memfs_apply(s->fs, o);
	if (o->kind == OP_CREATE && before_meta && S_ISREG(o->mode))
		c = new_file(s, o->ino);
	if (!c)
		return;
	if (o->kind == OP_SIZE)
		take_size(c, o, before_meta);
	else if (o->kind == OP_PUNCH)
		give_up(c, (size_t)(o->from / BLOCK_BYTES), (size_t)(o->to / BLOCK_BYTES), before_meta);
	else if (o->kind == OP_WRITE)
		take_write(c, o, before_meta);
	else if (o->kind == OP_SYNC)
		take_sync(c);
	else if (o->kind == OP_LOST)
		take_loss(c);
}

static void space_done(struct space *s)
{
	size_t i, k;

	for (i = 0; i < s->n_files; i++) {
		for (k = 0; k < s->files[i].n_blocks; k++)
			free(s->files[i].blocks[k].v);
		free(s->files[i].blocks);
		free(s->files[i].sizes);
	}
	free(s->files);
	memfs_free(s->fs);
	*s = (struct space){0};
}

static void space_init(struct space *s, const struct memfs *recorded, size_t meta, size_t time)
{
	size_t i;

	*s = (struct space){.fs = memfs_new()};
	for (i = 0; i < time; i++)
		take(s, &recorded->log[i], i < meta);
}

/* The journal must at least reach here when the sync at `at` has returned.  XFS forces its log up to the last
 * change of the inode; ext4 commits everything: the weaker one counts. */
static size_t needed_by(const struct memfs *m, size_t at)
{
	const struct op *sync = &m->log[at], *o;
	size_t i;

	for (i = at; i-- > 0;) {
		o = &m->log[i];
		if (o->ino == sync->ino && (o->kind == OP_SIZE || o->kind == OP_PUNCH))
			return i + 1;
		if (o->ino == sync->ino && o->kind == OP_WRITE && o->allocates)
			return i + 1;
		if (sync->data_only || o->kind > OP_LAST_META)
			continue;
		if (o->ino == sync->ino || o->dir == sync->ino || o->to_dir == sync->ino)
			return i + 1;
	}
	return 0;
}

/* ---- one state ---- */

static bool has_tearable(const struct versions *b)
{
	return b->n > 1 && b->v[b->n - 2] && b->v[b->n - 1];
}

/* Parts of any versions but zeros: a new block is part of the file only when all of it has arrived. */
static struct block *torn_block(const struct versions *b, uint64_t *rng)
{
	struct block *t = calloc(1, sizeof(*t));
	size_t i, first = b->v[0] ? 0 : 1;

	if (!t)
		abort();
	t->refs = 1;
	for (i = 0; i < PARTS; i++)
		memcpy(t->b + i * 512, b->v[first + rng_below(rng, b->n - first)]->b + i * 512, 512);
	return t;
}

static bool is_version(const struct versions *b, const struct block *t)
{
	size_t i;

	for (i = 0; i < b->n; i++)
		if (b->v[i] && memcmp(b->v[i]->b, t->b, BLOCK_BYTES) == 0)
			return true;
	return false;
}

static void put_block(struct node *n, size_t index, struct versions *b, size_t pick, bool tear, uint64_t *rng)
{
	struct block *t;

	if (tear && has_tearable(b)) {
		t = torn_block(b, rng);
		if (!is_version(b, t))
			set_mark(n->ino, index, CRASH_TORN);
		memfs_set_block(n, index, t);
		block_unref(t);
		return;
	}
	if (b->n > 1 && !b->v[pick])
		set_mark(n->ino, index, CRASH_ZERO);
	memfs_set_block(n, index, b->v[pick]);
}

/* How the picks of one state are made. */
struct picker {
	enum { EXHAUSTIVE, OLDEST, NEWEST, ONE_OLD, ONE_NEW, ONE_TORN, RANDOM } how;
	size_t which; /* EXHAUSTIVE: the number; ONE_*: of the open ones, this */
	size_t at;
	uint64_t rng;
	bool tear;
};

static size_t pick(struct picker *k, size_t n, bool *ret_tear)
{
	size_t r, at;

	*ret_tear = false;
	if (n == 1)
		return 0;
	at = k->at++;
	switch (k->how) {
	case EXHAUSTIVE:
		r = k->which % n;
		k->which /= n;
		return r;
	case OLDEST:
		return 0;
	case NEWEST:
		return n - 1;
	case ONE_OLD:
		return at == k->which ? 0 : n - 1;
	case ONE_NEW:
		return at == k->which ? n - 1 : 0;
	case ONE_TORN:
		*ret_tear = at == k->which;
		return n - 1;
	case RANDOM:
		break;
	}
	*ret_tear = k->tear && rng_below(&k->rng, 3) == 0;
	return rng_below(&k->rng, n);
}

static void build(struct space *s, struct picker *k)
{
	struct candidate *c;
	struct node *n;
	size_t i, b, v;
	off_t size;
	bool tear;

	n_marks = 0;
	for (i = 0; i < s->n_files; i++) {
		c = &s->files[i];
		n = memfs_node(s->fs, c->ino);
		size = c->sizes[pick(k, c->n_sizes, &tear)];
		for (b = 0; b < c->n_blocks; b++) {
			v = pick(k, c->blocks[b].n, &tear);
			if (n && (off_t)b * BLOCK_BYTES < size)
				put_block(n, b, &c->blocks[b], v, tear, &k->rng);
			else if (n && c->blocks[b].n > 1)
				set_mark(n->ino, b, CRASH_ZERO);
		}
		if (n)
			n->size = size;
	}
}

/* How many picks are open, and how many states that makes (SIZE_MAX: many). */
static size_t count_open(const struct space *s, size_t *ret_product)
{
	size_t i, b, open = 0, product = 1, n;
	const struct candidate *c;

	for (i = 0; i < s->n_files; i++) {
		c = &s->files[i];
		for (b = 0; b <= c->n_blocks; b++) {
			n = b < c->n_blocks ? c->blocks[b].n : c->n_sizes;
			open += n > 1;
			product = product > SIZE_MAX / 64 ? SIZE_MAX : product * n;
		}
	}
	*ret_product = product;
	return open;
}

/* The number-th way to pick, in an order that is the same each time; false: that was the last. */
static bool nth_picker(
	const struct crash_options *o, size_t open, size_t product, size_t number, struct picker *k)
{
	bool all = product <= o->exhaustive;
	size_t ones = all ? 0 : open < o->samples ? open : o->samples;
	size_t fixed = all ? product : 2 + 2 * ones,
	       torn = o->tear ? (open < o->samples ? open : o->samples) : 0;
	size_t random = all ? (o->tear && open ? o->samples / 4 + 1 : 0) : o->samples;

	*k = (struct picker){.how = RANDOM, .rng = o->seed * 1000003 + number, .tear = o->tear};
	if (number >= fixed + torn + random)
		return false;
	if (number >= fixed + torn)
		return true;
	if (number >= fixed) {
		k->how = ONE_TORN;
		k->which = open > torn ? rng_below(&k->rng, open) : number - fixed;
	} else if (all) {
		k->how = EXHAUSTIVE;
		k->which = number;
	} else if (number < 2) {
		k->how = number == 0 ? OLDEST : NEWEST;
	} else {
		k->how = number % 2 ? ONE_OLD : ONE_NEW;
		k->which = open > ones ? rng_below(&k->rng, open) : (number - 2) / 2;
	}
	return true;
}

static int each_pick(const struct memfs *recorded, const struct crash_options *o, size_t meta, size_t time,
	int (*each)(const struct crash_state *s, void *arg), void *arg)
{
	struct crash_state state = {.meta = meta, .time = time};
	struct crash_options local = *o;
	size_t open, product;
	struct space s;
	struct picker k;
	int r = 0;

	local.seed = o->seed * 7919 + meta * 10007 + time;
	for (state.number = 0; r == 0; state.number++) {
		space_init(&s, recorded, meta, time);
		open = count_open(&s, &product);
		if (!nth_picker(&local, open, product, state.number, &k)) {
			space_done(&s);
			break;
		}
		if (!o->only || state.number == o->only_number) {
			build(&s, &k);
			state.fs = s.fs;
			r = each(&state, arg);
		}
		space_done(&s);
	}
	return r;
}

/* Whether power going after this operation can leave something that going before it cannot. */
static bool changes_data(const struct op *o)
{
	return o->kind == OP_WRITE || o->kind == OP_SYNC || o->kind == OP_LOST;
}

int crash_each(const struct memfs *recorded, const struct crash_options *o,
	int (*each)(const struct crash_state *s, void *arg), void *arg)
{
	size_t meta, time;
	int r = 0;

	for (meta = o->meta_from; r == 0 && meta <= recorded->n_log; meta++)
		for (time = meta; r == 0 && time <= recorded->n_log; time++) {
			const struct op *last = time > meta ? &recorded->log[time - 1] : NULL;

			if (last && last->kind == OP_SYNC && needed_by(recorded, time - 1) > meta)
				break;
			if (last && !changes_data(last))
				continue;
			if (o->only && (meta != o->only_meta || time != o->only_time))
				continue;
			r = each_pick(recorded, o, meta, time, each, arg);
		}
	free(marks);
	marks = NULL;
	n_marks = 0;
	return r;
}
