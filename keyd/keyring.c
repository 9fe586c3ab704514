#include "keyd/keyring.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/ring_file.h"
#include "keyd/signing_file.h"

#define FOLDER "keys"
#define CONTEXT_MAX 64

static_assert(SIGNATURE_BYTES == crypto_sign_BYTES && PUBLIC_KEY_BYTES == crypto_sign_PUBLICKEYBYTES &&
		      SIGNING_SEED_BYTES == crypto_sign_SEEDBYTES,
	"Ed25519");

struct keyring_secrets {
	struct root_key root;
	uint8_t signing[crypto_sign_SECRETKEYBYTES];
};

struct keyring {
	int keyd_fd, keys_fd;
	struct ring *ring;               /* arena */
	struct keyring_secrets *secrets; /* arena */
	uint8_t public_key[PUBLIC_KEY_BYTES];
	struct slot_list next_slots; /* for the ring that a rotation makes */
	bool has_next_slots;
};

DEFINE_SCOPED(struct keytree *, keytree_free)

static void ring_freep(struct ring **p)
{
	secret_free(*p);
}

void keyring_free(struct keyring *k)
{
	if (!k)
		return;
	secret_free(k->ring);
	secret_free(k->secrets);
	close_fdp(&k->keys_fd);
	close_fdp(&k->keyd_fd);
	free(k);
}
DEFINE_SCOPED(struct keyring *, keyring_free)

/* An empty keyring over keyd_fd, with r remembered. */
static int keyring_alloc(int keyd_fd, const struct root_key *r, struct keyring **ret, struct keys_error *err)
{
	scoped(keyring_freep) struct keyring *k = NULL;

	k = calloc(1, sizeof(*k));
	if (!k)
		return -ENOMEM;
	k->keyd_fd = k->keys_fd = -1;
	k->secrets = secret_alloc(sizeof(*k->secrets));
	if (!k->secrets) {
		keys_error_set(err, "no locked memory left for keys");
		return -ENOMEM;
	}
	k->secrets->root = *r;
	k->keyd_fd = fcntl(keyd_fd, F_DUPFD_CLOEXEC, 3);
	k->keys_fd = openat(keyd_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (k->keyd_fd < 0 || k->keys_fd < 0) {
		int e = errno;

		keys_error_set(err, "keyd/" FOLDER " cannot be opened: %s", strerror(e));
		return -e;
	}
	*ret = take_ptr(&k);
	return 0;
}

static void unfold_signing_key(struct keyring *k)
{
	crypto_sign_seed_keypair(k->public_key, k->secrets->signing, k->ring->seed);
}

/* Files of ours have names of these shapes; whatever else lies there is not touched. */
static bool is_number(const char *p, const char *end)
{
	if (p == end || end - p > 20)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
	}
	return true;
}

static bool name_is_ours(const char *name)
{
	const char *end = name + strlen(name);

	if (end - name > 4 && strcmp(end - 4, ".tmp") == 0)
		end -= 4;
	if (strncmp(name, "ring.", 5) == 0)
		return is_number(name + 5, end);
	if (end - name < CLIENT_ID_HEX + 6 || memcmp(end - 5, ".tree", 5) != 0)
		return false;
	return strspn(name, "0123456789abcdef") == CLIENT_ID_HEX - 1 && name[CLIENT_ID_HEX - 1] == '.' &&
	       is_number(name + CLIENT_ID_HEX, end - 5);
}

/* Calls fn for each of our files.  A negative value ends it. */
static int each_file(int keys_fd, int (*fn)(const char *name, void *arg), void *arg)
{
	struct dirent *e;
	DIR *d;
	int fd, r = 0;

	fd = openat(keys_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		close(fd);
		return r;
	}
	for (errno = 0; r >= 0 && (e = readdir(d)); errno = 0) {
		if (name_is_ours(e->d_name))
			r = fn(e->d_name, arg);
	}
	if (r >= 0 && errno != 0)
		r = -errno;
	closedir(d);
	return r < 0 ? r : 0;
}

static int refuse_ring(const char *name, void *arg)
{
	(void)arg;
	return strncmp(name, "ring.", 5) == 0 ? -EEXIST : 0;
}

bool keyring_exists(int keyd_fd)
{
	scoped(close_fdp) int fd = openat(keyd_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && each_file(fd, refuse_ring, NULL) < 0;
}

/* It has its ring: takes k, and hands it out if its signing key is the one that is published. */
static int ready(struct keyring *ring, struct keyring **ret, struct keys_error *err)
{
	scoped(keyring_freep) struct keyring *k = ring;
	int rc;

	unfold_signing_key(k);
	rc = signing_file_check(k->keyd_fd, k->public_key, err);
	if (rc == 0)
		*ret = take_ptr(&k);
	return rc;
}

int keyring_create(int keyd_fd, const struct root_key *r, struct keyring **ret, struct keys_error *err)
{
	scoped(keyring_freep) struct keyring *k = NULL;
	int rc;

	if (mkdirat(keyd_fd, FOLDER, 0700) < 0 && errno != EEXIST) {
		rc = -errno;
		keys_error_set(err, "keyd/" FOLDER " cannot be made: %s", strerror(-rc));
		return rc;
	}
	rc = keyring_alloc(keyd_fd, r, &k, err);
	if (rc < 0)
		return rc;
	rc = each_file(k->keys_fd, refuse_ring, NULL);
	if (rc == 0)
		rc = ring_alloc(0, &k->ring);
	if (rc < 0) {
		keys_error_set(err, "keyd/" FOLDER ": %s",
			rc == -EEXIST ? "there are rings, but no root key: put back keyd/slot"
				      : strerror(-rc));
		return rc;
	}
	k->ring->generation = 1;
	k->ring->sequence = 1;
	randombytes_buf(k->ring->seed, sizeof(k->ring->seed));
	rc = ring_write(k->keys_fd, k->ring, r, err);
	if (rc == 0)
		rc = disk_sync_dir(keyd_fd);
	if (rc < 0)
		return rc;
	return ready(take_ptr(&k), ret, err);
}

int keyring_load(int keyd_fd, const struct root_key *r, uint64_t generation, struct keyring **ret,
	struct keys_error *err)
{
	scoped(keyring_freep) struct keyring *k = NULL;
	int rc;

	rc = keyring_alloc(keyd_fd, r, &k, err);
	if (rc < 0)
		return rc;
	rc = ring_read(k->keys_fd, generation, r, &k->ring, err);
	if (rc < 0)
		return rc;
	return ready(take_ptr(&k), ret, err);
}

int client_id_parse(const char *hex, struct client_id *ret)
{
	size_t n = 0;

	if (sodium_hex2bin(ret->b, sizeof(ret->b), hex, strlen(hex), NULL, &n, NULL) < 0 || n != sizeof(ret->b))
		return -EINVAL;
	return 0;
}

uint64_t keyring_generation(const struct keyring *k)
{
	return k->ring->generation;
}

const struct root_key *keyring_root(const struct keyring *k)
{
	return &k->secrets->root;
}

int keyring_folder(const struct keyring *k)
{
	return k->keyd_fd;
}

size_t keyring_count(const struct keyring *k)
{
	return k->ring->count;
}

const struct client_id *keyring_client(const struct keyring *k, size_t i)
{
	return &k->ring->entries[i].client;
}

/* Where client is, or would be. */
static size_t find_entry(const struct ring *ring, const struct client_id *client, bool *ret_found)
{
	size_t lo = 0, hi = ring->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int c = memcmp(ring->entries[mid].client.b, client->b, CLIENT_ID_BYTES);

		if (c == 0) {
			*ret_found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_found = false;
	return lo;
}

static struct ring_entry *entry_of(struct ring *ring, const struct client_id *client)
{
	bool found;
	size_t i = find_entry(ring, client, &found);

	return found ? &ring->entries[i] : NULL;
}

bool keyring_has(const struct keyring *k, const struct client_id *client)
{
	return entry_of(k->ring, client) != NULL;
}

int keyring_adopt(struct keyring *k, const struct client_id *client, const struct keytree *tree, struct keys_error *err)
{
	scoped(ring_freep) struct ring *ring = NULL;
	struct ring_entry *fresh;
	bool found;
	size_t at = find_entry(k->ring, client, &found);
	int r;

	if (found) {
		keys_error_set(err, "that client has keys already");
		return -EEXIST;
	}
	r = ring_alloc(k->ring->count + 1, &ring);
	if (r < 0) {
		keys_error_set(err, "no locked memory left for the keys of another client: %s", strerror(-r));
		return r;
	}
	ring->generation = k->ring->generation;
	ring->sequence = k->ring->sequence + 1;
	memcpy(ring->seed, k->ring->seed, sizeof(ring->seed));
	ring->slots = k->ring->slots;
	memcpy(ring->entries, k->ring->entries, at * sizeof(*fresh));
	memcpy(ring->entries + at + 1, k->ring->entries + at, (k->ring->count - at) * sizeof(*fresh));
	fresh = &ring->entries[at];
	fresh->client = *client;
	fresh->tree = 1;
	randombytes_buf(fresh->key.key.b, KEY_BYTES);
	/* The tree before the ring that refers to it: a crash between them leaves a file that is swept. */
	r = tree_write(k->keys_fd, fresh, tree, err);
	if (r == 0)
		r = ring_write(k->keys_fd, ring, &k->secrets->root, err);
	if (r < 0)
		return r;
	secret_free(k->ring);
	k->ring = take_ptr(&ring);
	return 0;
}

int keyring_add(struct keyring *k, const struct client_id *client, struct keys_error *err)
{
	scoped(keytree_freep) struct keytree *tree = NULL;
	int r = keytree_new(&tree);

	if (r < 0) {
		keys_error_set(err, "no locked memory left for the keys of another client: %s", strerror(-r));
		return r;
	}
	return keyring_adopt(k, client, tree, err);
}

static int no_key(struct keys_error *err)
{
	keys_error_set(err, "there is no key of that client: it was destroyed, or never made here");
	return -ENOKEY;
}

int keyring_tree(
	const struct keyring *k, const struct client_id *client, struct keytree **ret, struct keys_error *err)
{
	const struct ring_entry *e = entry_of(k->ring, client);

	return e ? tree_read(k->keys_fd, e, ret, err) : no_key(err);
}

int keyring_tree_bytes(const struct keyring *k, const struct client_id *client, uint8_t **ret, size_t *ret_n,
	struct keys_error *err)
{
	const struct ring_entry *e = entry_of(k->ring, client);

	return e ? tree_read_bytes(k->keys_fd, e, ret, ret_n, err) : no_key(err);
}

static bool refers_to(const struct keyring *k, const struct ring_entry *e)
{
	const struct ring_entry *mine = k ? entry_of(k->ring, &e->client) : NULL;

	return mine && mine->tree == e->tree;
}

int keyring_check(const struct keyring *k, const struct keyring *since, struct keys_error *err)
{
	int r;

	for (size_t i = 0; i < k->ring->count; i++) {
		scoped(keytree_freep) struct keytree *t = NULL;

		if (refers_to(since, &k->ring->entries[i]))
			continue;
		r = tree_read(k->keys_fd, &k->ring->entries[i], &t, err);
		if (r < 0)
			return r;
	}
	return 0;
}

enum fate { FATE_STAYS, FATE_PUNCTURED, FATE_GOES };

/* The cuts of one client, behind each other. */
struct share {
	const struct keyring_cut *cuts;
	size_t count;
};

static enum fate fate_of(const struct share *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->cuts[i].whole)
			return FATE_GOES;
	return s->count > 0 ? FATE_PUNCTURED : FATE_STAYS;
}

static int puncture(struct keytree *tree, const struct share *s)
{
	scoped(freep) struct keytree_prefix *list = calloc(s->count, sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < s->count; i++)
		if (!s->cuts[i].rekey)
			list[n++] = (struct keytree_prefix){.prefix = s->cuts[i].prefix, .bits = s->cuts[i].bits};
	return keytree_puncture_all(tree, list, n);
}

/* *e becomes the client's entry under a fresh K_c, its punctured tree written and read back. */
static int puncture_entry(const struct keyring *k, struct ring_entry *e, const struct share *s,
	const struct keyring_trim *trim, struct keys_error *err)
{
	scoped(keytree_freep) struct keytree *tree = NULL, *back = NULL;
	int r;

	r = tree_read(k->keys_fd, e, &tree, err);
	if (r < 0)
		return r;
	r = puncture(tree, s);
	if (r == 0 && trim)
		r = trim->fn(&e->client, tree, trim->arg);
	if (r < 0) {
		keys_error_set(err, "the key tree cannot be punctured: %s", strerror(-r));
		return r;
	}
	/* It could be written, and then not be read. */
	if (keytree_bytes(tree) > KEYTREE_BYTES_MAX) {
		keys_error_set(err, "too much of that client was shredded file by file: its key tree would be larger than %u "
				    "MiB.  Shred whole directories, or a class before a date",
			KEYTREE_BYTES_MAX >> 20);
		return -EFBIG;
	}
	e->tree++;
	randombytes_buf(e->key.key.b, KEY_BYTES);
	r = tree_write(k->keys_fd, e, tree, err);
	if (r < 0)
		return r;
	keytree_free(take_ptr(&tree));
	return tree_read(k->keys_fd, e, &back, err);
}

static int by_client(const void *a, const void *b)
{
	const struct keyring_cut *x = a, *y = b;

	return memcmp(x->client.b, y->client.b, CLIENT_ID_BYTES);
}

/* `cuts` ascend by client, as the entries do. */
static int rotate_entries(const struct keyring *k, const struct keyring_cut *cuts, size_t count,
	const struct keyring_trim *trim, struct ring *to, struct keys_error *err)
{
	struct share s = {.cuts = cuts};
	int r;

	to->count = 0;
	for (size_t i = 0; i < k->ring->count; i++) {
		const struct ring_entry *from = &k->ring->entries[i];
		enum fate f;

		s.cuts += s.count;
		for (s.count = 0; s.cuts + s.count < cuts + count; s.count++)
			if (memcmp(s.cuts[s.count].client.b, from->client.b, CLIENT_ID_BYTES) != 0)
				break;
		f = fate_of(&s);
		if (f == FATE_GOES)
			continue;
		to->entries[to->count] = *from;
		if (f == FATE_PUNCTURED) {
			r = puncture_entry(k, &to->entries[to->count], &s, trim, err);
			if (r < 0)
				return r;
		}
		to->count++;
	}
	return 0;
}

const struct slot_list *keyring_slots(const struct keyring *k)
{
	return &k->ring->slots;
}

void keyring_plan_slots(struct keyring *k, const struct slot_list *next)
{
	k->next_slots = *next;
	k->has_next_slots = true;
}

bool keyring_next_reachable(const struct keyring *k, uint16_t *ret)
{
	int r = ring_reachable(k->keys_fd, k->ring->generation + 1, ret);

	if (r < 0 && r != -ENOENT)
		*ret = UINT16_MAX; /* not readable: any of them */
	return r != -ENOENT;
}

/* `seed` NULL: the same signing key. */
static int rotate(const struct keyring *k, const struct root_key *fresh, const struct keyring_cut *cuts, size_t count,
	const struct keyring_trim *trim, const uint8_t *seed, struct keyring **ret, struct keys_error *err)
{
	scoped(freep) struct keyring_cut *sorted = malloc((count + 1) * sizeof(*sorted));
	scoped(ring_freep) struct ring *ring = NULL;
	int r;

	if (!sorted)
		return -ENOMEM;
	if (count > 0)
		memcpy(sorted, cuts, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_client);

	for (size_t i = 0; i < count; i++) {
		if (!keyring_has(k, &cuts[i].client)) {
			keys_error_set(err, "there is no key of a client that is to be destroyed: it was "
					    "destroyed before");
			return -ENOKEY;
		}
	}
	r = ring_alloc(k->ring->count, &ring);
	if (r < 0) {
		keys_error_set(err, "no locked memory left for a new ring");
		return r;
	}
	ring->generation = k->ring->generation + 1;
	ring->sequence = 1;
	memcpy(ring->seed, seed ? seed : k->ring->seed, sizeof(ring->seed));
	ring->slots = k->has_next_slots ? k->next_slots : k->ring->slots;
	r = rotate_entries(k, sorted, count, trim, ring, err);
	if (r == 0)
		r = ring_write(k->keys_fd, ring, fresh, err);
	if (r < 0)
		return r;
	/* What counts is what the disk says, not what we meant to write. */
	return keyring_load(k->keyd_fd, fresh, ring->generation, ret, err);
}

int keyring_rotate(const struct keyring *k, const struct root_key *fresh, const struct keyring_cut *cuts,
	size_t count, const struct keyring_trim *trim, struct keyring **ret, struct keys_error *err)
{
	return rotate(k, fresh, cuts, count, trim, NULL, ret, err);
}

static bool is_referred_to(const struct keyring *k, const char *name)
{
	char ring[RING_NAME_MAX], tree[TREE_NAME_MAX];
	const struct ring_entry *e;
	struct client_id id;
	size_t n = 0;

	if (strcmp(name, ring_name(k->ring->generation, ring)) == 0)
		return true;
	if (strlen(name) < 2 * CLIENT_ID_BYTES)
		return false;
	(void)sodium_hex2bin(id.b, sizeof(id.b), name, 2 * CLIENT_ID_BYTES, NULL, &n, NULL);
	e = n == sizeof(id.b) ? entry_of(k->ring, &id) : NULL;
	return e && strcmp(name, tree_name(&e->client, e->tree, tree)) == 0;
}

static int sweep_one(const char *name, void *arg)
{
	const struct keyring *k = arg;

	if (!is_referred_to(k, name) && unlinkat(k->keys_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

int keyring_sweep(const struct keyring *k, struct keys_error *err)
{
	int r, published = signing_file_publish(k->keyd_fd, k->public_key, err);

	r = each_file(k->keys_fd, sweep_one, (void *)k);
	if (r == 0)
		r = disk_sync_dir(k->keys_fd);
	if (r < 0)
		keys_error_set(err,
			"keyd/" FOLDER ": old key states cannot be removed (%s); they do not open any more",
			strerror(-r));
	return r < 0 ? r : published;
}

/* context || 0x00 || msg: no context is the beginning of another, since none contains a NUL. */
static int signed_text(const char *context, const void *msg, size_t n, uint8_t **ret, size_t *ret_n)
{
	size_t c = strlen(context) + 1;
	uint8_t *p;

	if (c == 1 || c > CONTEXT_MAX)
		return -EINVAL;
	p = malloc(c + n);
	if (!p)
		return -ENOMEM;
	memcpy(p, context, c);
	if (n > 0)
		memcpy(p + c, msg, n);
	*ret = p;
	*ret_n = c + n;
	return 0;
}

int keyring_sign(const struct keyring *k, const char *context, const void *msg, size_t n,
	uint8_t ret_sig[SIGNATURE_BYTES])
{
	scoped(freep) uint8_t *text = NULL;
	size_t len;
	int r;

	r = signed_text(context, msg, n, &text, &len);
	if (r < 0)
		return r;
	crypto_sign_detached(ret_sig, NULL, text, len, k->secrets->signing);
	return 0;
}

struct fresh_signing {
	uint8_t seed[SIGNING_SEED_BYTES], secret[crypto_sign_SECRETKEYBYTES];
};

static void fresh_signing_freep(struct fresh_signing **p)
{
	secret_free(*p);
}

/* Both sign the exchange. */
static int make_link(const struct keyring *k, struct fresh_signing *fresh, int64_t at, struct signing_link *ret)
{
	char message[SIGNING_TEXT_MAX];
	scoped(freep) uint8_t *text = NULL;
	size_t n, len;
	int r;

	randombytes_buf(fresh->seed, sizeof(fresh->seed));
	crypto_sign_seed_keypair(ret->to, fresh->secret, fresh->seed);
	memcpy(ret->from, k->public_key, sizeof(ret->from));
	ret->at = at;
	n = signing_link_text(ret, message);
	r = signed_text(SIGNING_CONTEXT, message, n, &text, &len);
	if (r < 0)
		return r;
	crypto_sign_detached(ret->by_from, NULL, text, len, k->secrets->signing);
	crypto_sign_detached(ret->by_to, NULL, text, len, fresh->secret);
	return 0;
}

int keyring_rotate_signing(
	const struct keyring *k, const struct root_key *fresh, int64_t at, struct keyring **ret, struct keys_error *err)
{
	scoped(fresh_signing_freep) struct fresh_signing *next = secret_alloc(sizeof(*next));
	struct signing_link link;
	int r;

	if (!next) {
		keys_error_set(err, "no locked memory left for a signing key");
		return -ENOMEM;
	}
	r = make_link(k, next, at, &link);
	if (r == 0)
		r = signing_file_add(k->keyd_fd, &link, err);
	return r < 0 ? r : rotate(k, fresh, NULL, 0, NULL, next->seed, ret, err);
}

void keyring_public_key(const struct keyring *k, uint8_t ret[PUBLIC_KEY_BYTES])
{
	memcpy(ret, k->public_key, PUBLIC_KEY_BYTES);
}

int keyring_signature_check(const uint8_t public_key[PUBLIC_KEY_BYTES], const char *context, const void *msg,
	size_t n, const uint8_t sig[SIGNATURE_BYTES])
{
	scoped(freep) uint8_t *text = NULL;
	size_t len;
	int r;

	r = signed_text(context, msg, n, &text, &len);
	if (r < 0)
		return r;
	return crypto_sign_verify_detached(sig, text, len, public_key) == 0 ? 0 : -EBADMSG;
}

void keyring_transfer_key(const struct keyring *k, uint8_t ret_public[TRANSFER_KEY_BYTES], struct key32 *ret_secret)
{
	static const uint8_t personal[crypto_generichash_blake2b_PERSONALBYTES] = "coffer-transfer1";
	scoped(key32_wipe) struct key32 seed = {0};

	static_assert(TRANSFER_KEY_BYTES == crypto_box_PUBLICKEYBYTES && KEY_BYTES == crypto_box_SECRETKEYBYTES &&
			      KEY_BYTES == crypto_box_SEEDBYTES,
		"X25519");
	(void)crypto_generichash_blake2b_salt_personal(
		seed.b, sizeof(seed.b), NULL, 0, k->ring->seed, sizeof(k->ring->seed), NULL, personal);
	(void)crypto_box_seed_keypair(ret_public, ret_secret->b, seed.b);
}
