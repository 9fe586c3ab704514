/* What derives from what (part of the format; never renumbered):
 *
 *	child or key = HChaCha20(key = node, input = "coffer-tree1" (12 bytes) || u32 le n)
 *
 *	n        what
 *	0        left child: next index bit 0
 *	1        right child: next index bit 1
 *	256 + u  key of a leaf for use u (enum key_use: 1 wrap, 2 name, 3 place, 4 audit, 5 link)
 *
 * The root stands above bit 63 (the class's highest bit); a leaf is the node after 64 steps, most significant
 * bit first.  A leaf itself is never used as a key.
 *
 * Serialised, version 1, integers little-endian:
 *
 *	offset  size  field
 *	0       1     version = 1
 *	1       3     zero
 *	4       4     count of nodes
 *	8       41*i  node: depth u8 (0..64); prefix u64 (index of its first leaf); key 32
 *
 * Nodes ascend by prefix, do not overlap, have zeros below their depth, and never two siblings side by side
 * (that would be their parent).  Nothing in it is authenticated: the caller seals it. */
#include "common/keytree.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/scope.h"

#define TREE_DEPTH 64
#define SERIAL_VERSION 1
#define SERIAL_HEAD 8
#define SERIAL_NODE 41

/* Depths worth keeping: one class; one day of it (as many as three years have, so that who reads old files at random
 * mostly finds them); within it the files of one load of the tree (14 random bits).  A file is then 18, 32 or 48 steps
 * away instead of 64. */
#define CACHE_DEPTH_CLASS 16
#define CACHE_DEPTH_DAY 32
#define CACHE_DEPTH_LOAD 46
#define CACHE_CLASSES 16
#define CACHE_DAYS 1024
#define CACHE_LOADS 128

struct node {
	uint64_t prefix;
	uint32_t depth;
	struct key32 key;
};

struct slot {
	uint64_t prefix;
	bool used;
	struct key32 key;
};

struct cache {
	struct slot classes[CACHE_CLASSES];
	struct slot days[CACHE_DAYS];
	struct slot loads[CACHE_LOADS];
};

struct keytree {
	struct node *nodes; /* arena; ascending by prefix, disjoint */
	size_t count;
	struct cache *cache;  /* arena; every slot lies below some node of nodes */
	pthread_mutex_t lock; /* of the cache; after the next */
	pthread_rwlock_t shape; /* of the nodes; while it is held for reading, nothing below them is destroyed */
};

static void shape_unlock(pthread_rwlock_t **l)
{
	pthread_rwlock_unlock(*l);
}

static pthread_rwlock_t *shape_read(const struct keytree *t)
{
	pthread_rwlock_t *l = &((struct keytree *)t)->shape;

	pthread_rwlock_rdlock(l);
	return l;
}

#define INPUT_BYTES 16
static_assert(INPUT_BYTES == crypto_core_hchacha20_INPUTBYTES && KEY_BYTES == crypto_core_hchacha20_KEYBYTES,
	"a node is a key of HChaCha20");

#define INPUT(low, high)                                                                                     \
	{                                                                                                    \
		'c', 'o', 'f', 'f', 'e', 'r', '-', 't', 'r', 'e', 'e', '1', (low), (high), 0, 0              \
	}
static const uint8_t input_child[2][INPUT_BYTES] = {INPUT(0, 0), INPUT(1, 0)};
static const uint8_t input_use[][INPUT_BYTES] = {
	[KEY_USE_WRAP] = INPUT(KEY_USE_WRAP, 1),
	[KEY_USE_NAME] = INPUT(KEY_USE_NAME, 1),
	[KEY_USE_PLACE] = INPUT(KEY_USE_PLACE, 1),
	[KEY_USE_AUDIT] = INPUT(KEY_USE_AUDIT, 1),
	[KEY_USE_LINK] = INPUT(KEY_USE_LINK, 1),
};

/* The upper `depth` bits; shifts by 64 are not defined. */
static uint64_t mask(unsigned depth)
{
	return depth == 0 ? 0 : UINT64_MAX << (TREE_DEPTH - depth);
}

static uint64_t last_leaf(uint64_t prefix, unsigned depth)
{
	return prefix | ~mask(depth);
}

static unsigned bit_at(uint64_t index, unsigned depth)
{
	return index >> (TREE_DEPTH - 1 - depth) & 1;
}

/* *key from `depth` down to `to` along index. */
static void descend(struct key32 *key, uint64_t index, unsigned depth, unsigned to)
{
	struct key32 next;

	for (; depth < to; depth++) {
		crypto_core_hchacha20(next.b, input_child[bit_at(index, depth)], key->b, NULL);
		*key = next;
	}
	key32_wipe(&next);
}

/* The first node that ends at or behind index; t->count if there is none. */
static size_t find_from(const struct keytree *t, uint64_t index)
{
	size_t lo = 0, hi = t->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (last_leaf(t->nodes[mid].prefix, t->nodes[mid].depth) < index)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static const struct node *find_above(const struct keytree *t, uint64_t index)
{
	size_t i = find_from(t, index);

	return i < t->count && t->nodes[i].prefix <= index ? &t->nodes[i] : NULL;
}

static struct slot *cache_slot(struct cache *c, uint64_t index, unsigned depth)
{
	uint64_t above = index & mask(depth), h = above * 0x9e3779b97f4a7c15u >> 40;

	/* Days in a row stand in slots in a row, and so never in each other's way. */
	if (depth == CACHE_DEPTH_DAY)
		return &c->days[((above >> 32) + (above >> 48) * 0x9e3779b1u) % CACHE_DAYS];
	return depth == CACHE_DEPTH_CLASS ? &c->classes[h % CACHE_CLASSES] : &c->loads[h % CACHE_LOADS];
}

/* Where to begin: the deepest node known above index.  Returns its depth. */
static unsigned start_from(struct keytree *t, const struct node *n, uint64_t index, struct key32 *key)
{
	static const unsigned depths[] = {CACHE_DEPTH_LOAD, CACHE_DEPTH_DAY, CACHE_DEPTH_CLASS};
	unsigned depth = n->depth;

	*key = n->key;
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; t->cache && i < ARRAY_SIZE(depths) && depths[i] > n->depth; i++) {
		const struct slot *s = cache_slot(t->cache, index, depths[i]);

		if (s->used && s->prefix == (index & mask(depths[i]))) {
			*key = s->key;
			depth = depths[i];
			break;
		}
	}
	pthread_mutex_unlock(&t->lock);
	return depth;
}

/* A tree that only passes through keyd never derives: its cache is made when one does.  Without it all still
 * works. */
static void remember(struct keytree *t, uint64_t index, unsigned depth, const struct key32 *key)
{
	struct slot *s;

	pthread_mutex_lock(&t->lock);
	if (!t->cache)
		t->cache = secret_alloc(sizeof(*t->cache));
	if (t->cache) {
		s = cache_slot(t->cache, index, depth);
		s->prefix = index & mask(depth);
		s->key = *key;
		s->used = true;
	}
	pthread_mutex_unlock(&t->lock);
}

int keytree_derive(struct keytree *t, struct leaf_index leaf, enum key_use use, struct key32 *ret)
{
	static const unsigned stops[] = {CACHE_DEPTH_CLASS, CACHE_DEPTH_DAY, CACHE_DEPTH_LOAD};
	scoped(key32_wipe) struct key32 key = {0};
	uint64_t index = leaf_index_u64(leaf);
	const struct node *n;
	unsigned depth;

	if (use < KEY_USE_WRAP || use > KEY_USE_LINK)
		return -EINVAL;
	scoped(shape_unlock) __attribute__((unused)) pthread_rwlock_t *shape = shape_read(t);

	n = find_above(t, index);
	if (!n)
		return -ENOKEY;
	depth = start_from(t, n, index, &key);
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
		if (depth >= stops[i])
			continue;
		descend(&key, index, depth, stops[i]);
		depth = stops[i];
		remember(t, index, depth, &key);
	}
	descend(&key, index, depth, TREE_DEPTH);
	crypto_core_hchacha20(ret->b, input_use[use], key.b, NULL);
	return 0;
}

bool keytree_holds(const struct keytree *t, struct leaf_index leaf)
{
	scoped(shape_unlock) __attribute__((unused)) pthread_rwlock_t *shape = shape_read(t);

	return find_above(t, leaf_index_u64(leaf)) != NULL;
}

size_t keytree_nodes(const struct keytree *t)
{
	return t->count;
}

size_t keytree_bytes(const struct keytree *t)
{
	return SERIAL_HEAD + t->count * SERIAL_NODE;
}

void keytree_free(struct keytree *t)
{
	if (!t)
		return;
	secret_free(t->nodes);
	secret_free(t->cache);
	pthread_mutex_destroy(&t->lock);
	pthread_rwlock_destroy(&t->shape);
	free(t);
}
DEFINE_SCOPED(struct keytree *, keytree_free)

/* A tree with room for `count` nodes, none of them filled in. */
static int tree_alloc(size_t count, struct keytree **ret)
{
	scoped(keytree_freep) struct keytree *t = NULL;

	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->lock, NULL);
	pthread_rwlock_init(&t->shape, NULL);
	t->nodes = secret_alloc((count > 0 ? count : 1) * sizeof(*t->nodes));
	if (!t->nodes)
		return -ENOMEM;
	*ret = take_ptr(&t);
	return 0;
}

int keytree_new(struct keytree **ret)
{
	struct keytree *t;
	int r;

	r = tree_alloc(1, &t);
	if (r < 0)
		return r;
	randombytes_buf(t->nodes[0].key.b, KEY_BYTES);
	t->count = 1;
	*ret = t;
	return 0;
}

static bool covers(const struct keytree_prefix *p, uint64_t prefix, unsigned depth)
{
	return p->bits <= depth && (prefix & mask(p->bits)) == p->prefix;
}

/* What is left below the node `depth`, `prefix` when cuts[0..n), which lie below it or above, are gone: to out[], or only
 * counted when that is NULL (`key` is not looked at then).  Returns how many nodes. */
static size_t without(uint64_t prefix, unsigned depth, const struct key32 *key, const struct keytree_prefix *cuts,
	size_t n, struct node *out)
{
	scoped(key32_wipe) struct key32 child = {0};
	size_t split = 0, kept = 0;
	uint64_t right;

	if (n == 0) {
		if (out)
			*out = (struct node){.prefix = prefix, .depth = depth, .key = *key};
		return 1;
	}
	if (covers(&cuts[0], prefix, depth)) /* then it is the only one */
		return 0;
	right = prefix | (uint64_t)1 << (TREE_DEPTH - 1 - depth);
	while (split < n && cuts[split].prefix < right)
		split++;
	for (unsigned bit = 0; bit < 2; bit++) {
		if (out)
			crypto_core_hchacha20(child.b, input_child[bit], key->b, NULL);
		kept += bit ? without(right, depth + 1, &child, cuts + split, n - split, out ? out + kept : NULL)
			    : without(prefix, depth + 1, &child, cuts, split, out ? out + kept : NULL);
	}
	return kept;
}

/* All nodes without what is cut, to out[] or only counted.  A node may lie below a cut, or cuts below a node. */
static size_t tree_without(const struct keytree *t, const struct keytree_prefix *cuts, size_t n, struct node *out)
{
	size_t from = 0, to, kept = 0;

	for (size_t i = 0; i < t->count; i++) {
		const struct node *at = &t->nodes[i];

		while (from < n && last_leaf(cuts[from].prefix, cuts[from].bits) < at->prefix)
			from++;
		for (to = from; to < n && cuts[to].prefix <= last_leaf(at->prefix, at->depth);)
			to++;
		kept += without(at->prefix, at->depth, &at->key, cuts + from, to - from, out ? out + kept : NULL);
	}
	return kept;
}

static int by_prefix(const void *a, const void *b)
{
	const struct keytree_prefix *x = a, *y = b;

	if (x->prefix != y->prefix)
		return x->prefix < y->prefix ? -1 : 1;
	return x->bits < y->bits ? -1 : x->bits > y->bits;
}

/* Ascending, and none within another.  The new count. */
static size_t settle_cuts(struct keytree_prefix *cuts, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		cuts[i].prefix &= mask(cuts[i].bits);
	qsort(cuts, n, sizeof(*cuts), by_prefix);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || !covers(&cuts[kept - 1], cuts[i].prefix, cuts[i].bits))
			cuts[kept++] = cuts[i];
	return kept;
}

/* Takes `nodes`; the old ones are wiped, and all that was derived from them. */
static void replace_nodes(struct keytree *t, struct node *nodes, size_t count)
{
	secret_free(t->nodes);
	t->nodes = nodes;
	t->count = count;
	if (t->cache)
		sodium_memzero(t->cache, sizeof(*t->cache));
}

int keytree_puncture_all(struct keytree *t, struct keytree_prefix *cuts, size_t n)
{
	struct node *fresh;
	size_t count;

	for (size_t i = 0; i < n; i++)
		if (cuts[i].bits > TREE_DEPTH)
			return -EINVAL;
	n = settle_cuts(cuts, n);
	scoped(shape_unlock) pthread_rwlock_t *shape = &t->shape;

	pthread_rwlock_wrlock(shape);
	count = tree_without(t, cuts, n, NULL);
	fresh = secret_alloc((count > 0 ? count : 1) * sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	(void)tree_without(t, cuts, n, fresh);
	replace_nodes(t, fresh, count);
	return 0;
}

int keytree_puncture(struct keytree *t, uint64_t prefix, unsigned bits)
{
	struct keytree_prefix cut = {.prefix = prefix, .bits = bits};

	return keytree_puncture_all(t, &cut, 1);
}

int keytree_prune(struct keytree *t, bool (*keep)(uint64_t first, uint64_t last, void *arg), void *arg,
	size_t *ret_dropped)
{
	struct node *fresh;
	size_t count = 0;
	scoped(shape_unlock) pthread_rwlock_t *shape = &t->shape;

	pthread_rwlock_wrlock(shape);
	fresh = secret_alloc((t->count > 0 ? t->count : 1) * sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	for (size_t i = 0; i < t->count; i++) {
		const struct node *n = &t->nodes[i];

		if (keep(n->prefix, last_leaf(n->prefix, n->depth), arg))
			fresh[count++] = *n;
	}
	*ret_dropped = t->count - count;
	replace_nodes(t, fresh, count);
	return 0;
}

int keytree_serialise(const struct keytree *t, uint8_t **ret, size_t *ret_n)
{
	size_t n = keytree_bytes(t);
	struct bytes_writer w;
	uint8_t *buf;

	buf = secret_alloc(n);
	if (!buf)
		return -ENOMEM;
	bytes_writer_init(&w, buf, n);
	bytes_put_u8(&w, SERIAL_VERSION);
	bytes_put_zeros(&w, 3);
	bytes_put_u32(&w, (uint32_t)t->count);
	for (size_t i = 0; i < t->count; i++) {
		bytes_put_u8(&w, (uint8_t)t->nodes[i].depth);
		bytes_put_u64(&w, t->nodes[i].prefix);
		bytes_put(&w, t->nodes[i].key.b, KEY_BYTES);
	}
	*ret = buf;
	*ret_n = n;
	return 0;
}

/* Whether `n` may stand behind `before` (NULL: first). */
static bool node_in_order(const struct node *before, const struct node *n)
{
	if (n->depth > TREE_DEPTH || (n->prefix & ~mask(n->depth)) != 0)
		return false;
	if (!before)
		return true;
	if (n->prefix <= last_leaf(before->prefix, before->depth))
		return false;
	return before->depth != n->depth ||
	       (before->prefix & mask(n->depth - 1)) != (n->prefix & mask(n->depth - 1));
}

int keytree_parse(const uint8_t *buf, size_t n, struct keytree **ret)
{
	scoped(keytree_freep) struct keytree *t = NULL;
	struct bytes_reader rd;
	uint32_t count;
	int r;

	bytes_reader_init(&rd, buf, n);
	if (bytes_get_u8(&rd) != SERIAL_VERSION || !bytes_get_zeros(&rd, 3))
		return -EBADMSG;
	count = bytes_get_u32(&rd);
	if (n < SERIAL_HEAD || n - SERIAL_HEAD != (uint64_t)count * SERIAL_NODE)
		return -EBADMSG;
	r = tree_alloc(count, &t);
	if (r < 0)
		return r;
	for (t->count = 0; t->count < count; t->count++) {
		struct node *at = &t->nodes[t->count];

		at->depth = bytes_get_u8(&rd);
		at->prefix = bytes_get_u64(&rd);
		bytes_get(&rd, at->key.b, KEY_BYTES);
		if (!node_in_order(t->count > 0 ? at - 1 : NULL, at))
			return -EBADMSG;
	}
	if (!bytes_reader_end(&rd))
		return -EBADMSG;
	*ret = take_ptr(&t);
	return 0;
}
