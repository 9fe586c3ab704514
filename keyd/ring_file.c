/* Ring, version 2, integers little-endian; bytes 0..39 are the box's additional data:
 *
 *	offset  size    field
 *	0       8       magic "COFRRING"
 *	8       2       version = 2
 *	10      2       slots that were reachable when it was written: a bit for each number
 *	12      4       zero
 *	16      8       generation: that of R, and of the file's name
 *	24      8       sequence
 *	32      4       clients
 *	36      4       slots, at most 16
 *	40      24      nonce
 *	64      32      commitment to R
 *	96      ...     sealed: signing seed 32; then per client, ascending: id 16, tree number 8, K_c 32; then
 *	                per slot 256 (slot_list.c)
 *	...     16      tag
 *
 * Tree, version 1; bytes 0..39 are the box's additional data:
 *
 *	0       8       magic "COFRTREE"
 *	8       2       version = 1
 *	10      6       zero
 *	16      16      client id, as in the file's name
 *	32      8       tree number, as in the ring and in the file's name
 *	40      24      nonce
 *	64      32      commitment to K_c
 *	96      ...     sealed: the tree as common/keytree.c serialises it
 *	...     16      tag
 */
#include "keyd/ring_file.h"

#include <errno.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/wrap.h"

#define RING_MAGIC "COFRRING"
#define TREE_MAGIC "COFRTREE"
#define MAGIC_BYTES 8
#define RING_VERSION 2
#define TREE_VERSION 1
#define HEAD_BYTES 40
#define ENTRY_BYTES 56
#define RING_BYTES_MAX                                                                                       \
	(HEAD_BYTES + WRAP_OVERHEAD + SIGNING_SEED_BYTES + (size_t)RING_CLIENTS_MAX * ENTRY_BYTES +          \
		SLOT_LIST_MAX * SLOT_REF_BYTES)
#define TREE_BYTES_MAX (HEAD_BYTES + WRAP_OVERHEAD + KEYTREE_BYTES_MAX)

static void secret_freep(uint8_t **p)
{
	secret_free(*p);
}

static void ring_freep(struct ring **p)
{
	secret_free(*p);
}

int ring_alloc(size_t count, struct ring **ret)
{
	struct ring *r;

	if (count > RING_CLIENTS_MAX)
		return -E2BIG;
	r = secret_alloc(sizeof(*r) + count * sizeof(r->entries[0]));
	if (!r)
		return -ENOMEM;
	r->count = count;
	*ret = r;
	return 0;
}

char *ring_name(uint64_t generation, char buf[RING_NAME_MAX])
{
	(void)snprintf(buf, RING_NAME_MAX, "ring.%" PRIu64, generation);
	return buf;
}

char *client_hex(const struct client_id *client, char buf[CLIENT_ID_HEX])
{
	return sodium_bin2hex(buf, CLIENT_ID_HEX, client->b, CLIENT_ID_BYTES);
}

char *tree_name(const struct client_id *client, uint64_t n, char buf[TREE_NAME_MAX])
{
	char hex[CLIENT_ID_HEX];

	(void)snprintf(buf, TREE_NAME_MAX, "%s.%" PRIu64 ".tree", client_hex(client, hex), n);
	return buf;
}

/* The one sentence for each way in which a file does not open. */
static int say(int r, const char *name, struct keys_error *err)
{
	const char *why =
		r == -ENOENT ? "is missing"
		: r == -EKEYREJECTED
			? "is of another time or installation: the key it was sealed under is not ours"
		: r == -EBADMSG         ? "is damaged"
		: r == -EPROTONOSUPPORT ? "was written by a later version of Coffer"
					: strerror(-r);

	keys_error_set(err, "keyd/keys/%s %s%s", name, why,
		r == -ENOENT || r == -EBADMSG || r == -EKEYREJECTED
			? "; put back keyd/keys as it was at the last change of keys (backups from before a "
			  "destruction "
			  "do not open any more, and shall not)"
			: "");
	return r;
}

static void put_head(struct bytes_writer *w, const char *magic, uint16_t version, uint16_t reachable)
{
	bytes_put(w, magic, MAGIC_BYTES);
	bytes_put_u16(w, version);
	bytes_put_u16(w, reachable);
	bytes_put_zeros(w, 4);
}

static int get_head(struct bytes_reader *rd, const char *magic, uint16_t want, uint16_t *ret_reachable)
{
	const uint8_t *m = bytes_get_ref(rd, MAGIC_BYTES);
	uint16_t version;

	if (!m || memcmp(m, magic, MAGIC_BYTES) != 0)
		return -EBADMSG;
	version = bytes_get_u16(rd);
	if (!rd->failed && version != want)
		return -EPROTONOSUPPORT;
	*ret_reachable = bytes_get_u16(rd);
	return bytes_get_zeros(rd, 4) ? 0 : -EBADMSG;
}

/* Seals the n secret bytes behind head, writes the file. */
static int write_sealed(int keys_fd, const char *name, const uint8_t head[HEAD_BYTES],
	const struct key32 *key, enum wrap_use use, const uint8_t *plain, size_t n)
{
	scoped(freep) uint8_t *file = NULL;
	size_t size = HEAD_BYTES + WRAP_OVERHEAD + n;

	file = malloc(size);
	if (!file)
		return -ENOMEM;
	memcpy(file, head, HEAD_BYTES);
	wrap_seal(key, use, head, HEAD_BYTES, plain, n, file + HEAD_BYTES);
	return disk_replace(keys_fd, name, file, size);
}

/* Opens what lies behind the head of file; *ret is from the arena. */
static int open_sealed(const uint8_t *file, size_t size, const struct key32 *key, enum wrap_use use,
	uint8_t **ret, size_t *ret_n)
{
	scoped(secret_freep) uint8_t *plain = NULL;
	size_t n;
	int r;

	if (size <= HEAD_BYTES + WRAP_OVERHEAD)
		return -EBADMSG;
	n = size - HEAD_BYTES - WRAP_OVERHEAD;
	plain = secret_alloc(n);
	if (!plain)
		return -ENOMEM;
	r = wrap_open(key, use, file, HEAD_BYTES, file + HEAD_BYTES, size - HEAD_BYTES, plain);
	if (r < 0)
		return r;
	*ret = take_ptr(&plain);
	*ret_n = n;
	return 0;
}

int ring_write(int keys_fd, const struct ring *ring, const struct root_key *r, struct keys_error *err)
{
	scoped(secret_freep) uint8_t *plain = NULL;
	size_t n = SIGNING_SEED_BYTES + ring->count * ENTRY_BYTES + ring->slots.count * SLOT_REF_BYTES;
	uint8_t head[HEAD_BYTES];
	struct bytes_writer w;
	char name[RING_NAME_MAX];
	int rc = -ENOMEM;

	plain = secret_alloc(n);
	if (plain) {
		bytes_writer_init(&w, head, sizeof(head));
		put_head(&w, RING_MAGIC, RING_VERSION, ring->slots.reachable);
		bytes_put_u64(&w, ring->generation);
		bytes_put_u64(&w, ring->sequence);
		bytes_put_u32(&w, (uint32_t)ring->count);
		bytes_put_u32(&w, (uint32_t)ring->slots.count);
		bytes_writer_init(&w, plain, n);
		bytes_put(&w, ring->seed, SIGNING_SEED_BYTES);
		for (size_t i = 0; i < ring->count; i++) {
			bytes_put(&w, ring->entries[i].client.b, CLIENT_ID_BYTES);
			bytes_put_u64(&w, ring->entries[i].tree);
			bytes_put(&w, ring->entries[i].key.key.b, KEY_BYTES);
		}
		for (size_t i = 0; i < ring->slots.count; i++)
			slot_ref_put(&w, &ring->slots.refs[i]);
		rc = write_sealed(
			keys_fd, ring_name(ring->generation, name), head, &r->key, WRAP_RING, plain, n);
	}
	return rc < 0 ? say(rc, ring_name(ring->generation, name), err) : 0;
}

static int decode_entries(const uint8_t *plain, size_t n, struct ring *ring)
{
	struct bytes_reader rd;
	unsigned numbers = 0;

	bytes_reader_init(&rd, plain, n);
	bytes_get(&rd, ring->seed, SIGNING_SEED_BYTES);
	for (size_t i = 0; i < ring->count; i++) {
		struct ring_entry *e = &ring->entries[i];

		bytes_get(&rd, e->client.b, CLIENT_ID_BYTES);
		e->tree = bytes_get_u64(&rd);
		bytes_get(&rd, e->key.key.b, KEY_BYTES);
		if (i > 0 && memcmp(e[-1].client.b, e->client.b, CLIENT_ID_BYTES) >= 0)
			return -EBADMSG;
	}
	for (size_t i = 0; i < ring->slots.count; i++) {
		struct slot_ref *ref = &ring->slots.refs[i];

		if (slot_ref_get(&rd, ref) < 0 || numbers & 1u << ref->number)
			return -EBADMSG;
		numbers |= 1u << ref->number;
	}
	return bytes_reader_end(&rd) ? 0 : -EBADMSG;
}

static int ring_decode(
	const uint8_t *file, size_t size, uint64_t generation, const struct root_key *r, struct ring **ret)
{
	scoped(ring_freep) struct ring *ring = NULL;
	scoped(secret_freep) uint8_t *plain = NULL;
	struct bytes_reader rd;
	uint64_t sequence;
	uint32_t count, slots;
	uint16_t reachable;
	size_t n;
	int rc;

	bytes_reader_init(&rd, file, size);
	rc = get_head(&rd, RING_MAGIC, RING_VERSION, &reachable);
	if (rc < 0)
		return rc;
	if (bytes_get_u64(&rd) != generation)
		return -EBADMSG;
	sequence = bytes_get_u64(&rd);
	count = bytes_get_u32(&rd);
	slots = bytes_get_u32(&rd);
	if (rd.failed || slots > SLOT_LIST_MAX || count > RING_CLIENTS_MAX)
		return -EBADMSG;
	rc = open_sealed(file, size, &r->key, WRAP_RING, &plain, &n);
	if (rc < 0)
		return rc;
	rc = ring_alloc(count, &ring);
	if (rc < 0)
		return rc;
	ring->generation = generation;
	ring->sequence = sequence;
	ring->slots.count = slots;
	ring->slots.reachable = reachable;
	rc = decode_entries(plain, n, ring);
	if (rc < 0)
		return rc;
	*ret = take_ptr(&ring);
	return 0;
}

int ring_read(
	int keys_fd, uint64_t generation, const struct root_key *r, struct ring **ret, struct keys_error *err)
{
	scoped(freep) uint8_t *file = NULL;
	char name[RING_NAME_MAX];
	size_t size;
	int rc;

	rc = disk_read(keys_fd, ring_name(generation, name), RING_BYTES_MAX, &file, &size);
	if (rc == 0)
		rc = ring_decode(file, size, generation, r, ret);
	return rc < 0 ? say(rc == -EMSGSIZE ? -EBADMSG : rc, name, err) : 0;
}

int ring_reachable(int keys_fd, uint64_t generation, uint16_t *ret)
{
	scoped(freep) uint8_t *file = NULL;
	char name[RING_NAME_MAX];
	struct bytes_reader rd;
	size_t size;
	int r;

	r = disk_read(keys_fd, ring_name(generation, name), RING_BYTES_MAX, &file, &size);
	if (r < 0)
		return r;
	bytes_reader_init(&rd, file, size);
	return get_head(&rd, RING_MAGIC, RING_VERSION, ret);
}

int tree_write(int keys_fd, const struct ring_entry *e, const struct keytree *t, struct keys_error *err)
{
	scoped(secret_freep) uint8_t *plain = NULL;
	uint8_t head[HEAD_BYTES];
	struct bytes_writer w;
	char name[TREE_NAME_MAX];
	size_t n;
	int r;

	(void)tree_name(&e->client, e->tree, name);
	r = keytree_serialise(t, &plain, &n);
	if (r == 0) {
		bytes_writer_init(&w, head, sizeof(head));
		put_head(&w, TREE_MAGIC, TREE_VERSION, 0);
		bytes_put(&w, e->client.b, CLIENT_ID_BYTES);
		bytes_put_u64(&w, e->tree);
		r = write_sealed(keys_fd, name, head, &e->key.key, WRAP_TREE, plain, n);
	}
	return r < 0 ? say(r, name, err) : 0;
}

static int tree_decode(const uint8_t *file, size_t size, const struct ring_entry *e, uint8_t **ret, size_t *ret_n)
{
	struct bytes_reader rd;
	const uint8_t *client;
	uint16_t none;
	int r;

	bytes_reader_init(&rd, file, size);
	r = get_head(&rd, TREE_MAGIC, TREE_VERSION, &none);
	if (r < 0 || none)
		return r < 0 ? r : -EBADMSG;
	client = bytes_get_ref(&rd, CLIENT_ID_BYTES);
	if (!client || memcmp(client, e->client.b, CLIENT_ID_BYTES) != 0 || bytes_get_u64(&rd) != e->tree)
		return -EBADMSG;
	return open_sealed(file, size, &e->key.key, WRAP_TREE, ret, ret_n);
}

int tree_read_bytes(int keys_fd, const struct ring_entry *e, uint8_t **ret, size_t *ret_n, struct keys_error *err)
{
	scoped(freep) uint8_t *file = NULL;
	char name[TREE_NAME_MAX];
	size_t size;
	int r;

	r = disk_read(keys_fd, tree_name(&e->client, e->tree, name), TREE_BYTES_MAX, &file, &size);
	if (r == 0)
		r = tree_decode(file, size, e, ret, ret_n);
	return r < 0 ? say(r == -EMSGSIZE ? -EBADMSG : r, name, err) : 0;
}

int tree_read(int keys_fd, const struct ring_entry *e, struct keytree **ret, struct keys_error *err)
{
	scoped(secret_freep) uint8_t *plain = NULL;
	char name[TREE_NAME_MAX];
	size_t n;
	int r = tree_read_bytes(keys_fd, e, &plain, &n, err);

	if (r < 0)
		return r;
	r = keytree_parse(plain, n, ret);
	return r < 0 ? say(r, tree_name(&e->client, e->tree, name), err) : 0;
}
