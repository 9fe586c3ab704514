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

/* Depths worth keeping: one class and day; and within it the files of one load of the tree (14 random bits).
 * From there a file is 18 steps away instead of 64. */
#define CACHE_DEPTH_DAY 32
#define CACHE_DEPTH_LOAD 46
#define CACHE_DAYS 64
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
	uint64_t h = (index & mask(depth)) * 0x9e3779b97f4a7c15u >> 40;

	return depth == CACHE_DEPTH_DAY ? &c->days[h % CACHE_DAYS] : &c->loads[h % CACHE_LOADS];
}

/* Where to begin: the deepest node known above index.  Returns its depth. */
static unsigned start_from(struct keytree *t, const struct node *n, uint64_t index, struct key32 *key)
{
	static const unsigned depths[] = {CACHE_DEPTH_LOAD, CACHE_DEPTH_DAY};
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
	static const unsigned stops[] = {CACHE_DEPTH_DAY, CACHE_DEPTH_LOAD};
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

/* The siblings along the way from `n` to prefix/bits, ascending, into to[]: at most 64. */
static size_t siblings(const struct node *n, uint64_t prefix, unsigned bits, struct node *to)
{
	scoped(key32_wipe) struct key32 key = n->key;
	size_t total = bits - n->depth, left = 0, right = 0;
	uint64_t at = n->prefix;

	/* A left sibling lies before the way, and those found later lie nearer to it; right ones the reverse.
	 */
	for (unsigned d = n->depth; d < bits; d++) {
		unsigned bit = bit_at(prefix, d);
		struct node *s = bit ? &to[left++] : &to[total - ++right];

		s->depth = d + 1;
		s->prefix = bit ? at : at | (uint64_t)1 << (TREE_DEPTH - 1 - d);
		crypto_core_hchacha20(s->key.b, input_child[!bit], key.b, NULL);
		descend(&key, prefix, d, d + 1);
		at = prefix & mask(d + 1);
	}
	return total;
}

int keytree_puncture(struct keytree *t, uint64_t prefix, unsigned bits)
{
	size_t first, end, added = 0;
	struct node *fresh;

	if (bits > TREE_DEPTH)
		return -EINVAL;
	scoped(shape_unlock) pthread_rwlock_t *shape = &t->shape;

	pthread_rwlock_wrlock(shape);
	prefix &= mask(bits);
	first = find_from(t, prefix);
	end = first;
	while (end < t->count && t->nodes[end].prefix <= last_leaf(prefix, bits))
		end++;
	if (first == end)
		return 0;
	fresh = secret_alloc((t->count + TREE_DEPTH) * sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	memcpy(fresh, t->nodes, first * sizeof(*fresh));
	/* Either one node above (or at) the prefix, or any number of nodes below it, which all go. */
	if (t->nodes[first].depth < bits)
		added = siblings(&t->nodes[first], prefix, bits, fresh + first);
	memcpy(fresh + first + added, t->nodes + end, (t->count - end) * sizeof(*fresh));
	secret_free(t->nodes);
	t->nodes = fresh;
	t->count += added;
	t->count -= end - first;
	if (t->cache)
		sodium_memzero(t->cache, sizeof(*t->cache));
	return 0;
}

int keytree_serialise(const struct keytree *t, uint8_t **ret, size_t *ret_n)
{
	size_t n = SERIAL_HEAD + t->count * SERIAL_NODE;
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
