#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "tests/unit/keys_fixture.h"

struct place {
	char path[64];
	int fd;
	struct root_key r;
};

static const struct client_id alpha = {{0xaa, 1}}, beta = {{0x0b, 2}}, gamma_id = {{0xcc, 3}};
static const struct leaf_index leaf16 = {16, 2500, 7}, leaf17 = {17, 2500, 7};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	p->fd = folder_make(p->path, sizeof(p->path), "/tmp", "ring");
	randombytes_buf(&p->r, sizeof(p->r));
	*state = p;
	return p->fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	close(p->fd);
	folder_remove(AT_FDCWD, p->path);
	free(p);
	return 0;
}

static struct keyring *create(const struct place *p)
{
	struct keyring *k;

	assert_int_equal(keyring_create(p->fd, &p->r, &k, NULL), 0);
	return k;
}

static struct keyring *load(const struct place *p, const struct root_key *r, uint64_t generation)
{
	struct keyring *k;

	assert_int_equal(keyring_load(p->fd, r, generation, &k, NULL), 0);
	return k;
}

static int load_fails(const struct place *p, const struct root_key *r, uint64_t generation)
{
	struct keys_error err = {0};
	struct keyring *k = NULL;
	int rc = keyring_load(p->fd, r, generation, &k, &err);

	if (rc == 0) {
		keyring_free(k);
		fail_msg("opened");
	}
	assert_null(k);
	assert_true(strlen(err.text) > 10);
	return rc;
}

static bool there(const struct place *p, const char *name)
{
	return faccessat(p->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_add_and_load(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p), *none = NULL;
	struct key32 a, b;

	assert_int_equal(keyring_generation(k), 1);
	assert_int_equal(keyring_count(k), 0);
	assert_int_equal(keyring_create(p->fd, &p->r, &none, NULL), -EEXIST);
	assert_null(none);
	assert_int_equal(keyring_add(k, &alpha, NULL), 0);
	assert_int_equal(keyring_add(k, &beta, NULL), 0);
	assert_int_equal(keyring_add(k, &alpha, NULL), -EEXIST);
	assert_int_equal(key_of(k, &alpha, leaf16, &a), 0);
	assert_int_equal(key_of(k, &gamma_id, leaf16, &b), -ENOKEY);
	keyring_free(k);
	keyring_free(NULL);

	k = load(p, &p->r, 1);
	assert_int_equal(keyring_count(k), 2);
	assert_memory_equal(keyring_client(k, 0), &beta, sizeof(beta)); /* ascending */
	assert_memory_equal(keyring_client(k, 1), &alpha, sizeof(alpha));
	assert_true(keyring_has(k, &alpha));
	assert_false(keyring_has(k, &gamma_id));
	assert_int_equal(keyring_check(k, NULL, NULL), 0);
	assert_int_equal(key_of(k, &alpha, leaf16, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(key_of(k, &beta, leaf16, &b), 0);
	assert_memory_not_equal(&a, &b, sizeof(a));
	keyring_free(k);
}

static void test_tree_bytes(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct keytree *t;
	struct key32 a, b;
	uint8_t *buf;
	size_t n;

	assert_int_equal(keyring_add(k, &alpha, NULL), 0);
	assert_int_equal(keyring_tree_bytes(k, &alpha, &buf, &n, NULL), 0);
	assert_int_equal(keytree_parse(buf, n, &t), 0);
	assert_int_equal(keytree_derive(t, leaf16, KEY_USE_WRAP, &a), 0);
	assert_int_equal(key_of(k, &alpha, leaf16, &b), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	keytree_free(t);
	secret_free(buf);
	assert_int_equal(keyring_tree_bytes(k, &beta, &buf, &n, NULL), -ENOKEY);
	keyring_free(k);
}

static void test_wrong_root_and_generation(void **state)
{
	struct place *p = *state;
	struct root_key other = p->r;

	keyring_free(create(p));
	other.key.b[0] ^= 1;
	assert_int_equal(load_fails(p, &other, 1), -EKEYREJECTED);
	assert_int_equal(load_fails(p, &p->r, 2), -ENOENT);
	/* The name of a ring is not where its generation stands. */
	assert_int_equal(renameat(p->fd, "keys/ring.1", p->fd, "keys/ring.2"), 0);
	assert_int_equal(load_fails(p, &p->r, 2), -EBADMSG);
}

/* Each bit of a file, and each length: `open` must refuse. */
static void walk(const struct place *p, const char *name, int (*open_it)(const struct place *p))
{
	scoped(freep) uint8_t *good = NULL;
	size_t n;
	int fd;

	assert_int_equal(disk_read(p->fd, name, 1u << 20, &good, &n), 0);
	fd = openat(p->fd, name, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	for (size_t bit = 0; bit < n * 8; bit++) {
		uint8_t c = good[bit / 8] ^ (uint8_t)(1u << bit % 8);
		int r;

		assert_int_equal(pwrite(fd, &c, 1, (off_t)(bit / 8)), 1);
		r = open_it(p);
		if (r != -EBADMSG && r != -EKEYREJECTED && r != -EPROTONOSUPPORT)
			fail_msg("%s with bit %zu flipped: %d", name, bit, r);
		assert_int_equal(pwrite(fd, &good[bit / 8], 1, (off_t)(bit / 8)), 1);
	}
	assert_int_equal(pwrite(fd, "", 1, (off_t)n), 1);
	assert_int_equal(open_it(p), -EBADMSG);
	for (size_t len = n; len-- > 0;) {
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		assert_int_equal(open_it(p), -EBADMSG);
	}
	assert_int_equal(pwrite(fd, good, n, 0), (ssize_t)n);
	close(fd);
	assert_int_equal(open_it(p), 0);
}

static int open_ring(const struct place *p)
{
	struct keyring *k;
	int r = keyring_load(p->fd, &p->r, 1, &k, NULL);

	if (r == 0)
		keyring_free(k);
	return r;
}

static int open_trees(const struct place *p)
{
	struct keyring *k = load(p, &p->r, 1);
	int r = keyring_check(k, NULL, NULL);

	keyring_free(k);
	return r;
}

static void test_walk_ring_and_tree(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);

	assert_int_equal(keyring_add(k, &alpha, NULL), 0);
	keyring_free(k);
	walk(p, "keys/ring.1", open_ring);
	walk(p, "keys/aa010000000000000000000000000000.1.tree", open_trees);
}

static void test_trees_of_others(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p);
	struct keytree *t = NULL;
	struct keys_error err;

	assert_int_equal(keyring_add(k, &alpha, NULL), 0);
	assert_int_equal(keyring_add(k, &beta, NULL), 0);
	assert_int_equal(renameat(p->fd, "keys/0b020000000000000000000000000000.1.tree", p->fd,
				 "keys/aa010000000000000000000000000000.1.tree"),
		0);
	assert_int_equal(keyring_tree(k, &alpha, &t, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "aa010000"));
	assert_int_equal(keyring_tree(k, &beta, &t, &err), -ENOENT);
	assert_non_null(strstr(err.text, "is missing"));
	assert_null(t);
	assert_int_equal(keyring_check(k, NULL, NULL), -ENOENT);
	keyring_free(k);
}

static void test_rotate(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p), *next = NULL;
	struct root_key fresh;
	struct key32 a16, a17, b16, g16, now;
	const struct keyring_cut cuts[] = {
		{.client = alpha, .prefix = leaf_index_u64(leaf16), .bits = 16},
		{.client = gamma_id, .whole = true},
	};
	const struct keyring_cut unknown = {.client = {{9}}, .whole = true};

	randombytes_buf(&fresh, sizeof(fresh));
	assert_int_equal(keyring_add(k, &alpha, NULL), 0);
	assert_int_equal(keyring_add(k, &beta, NULL), 0);
	assert_int_equal(keyring_add(k, &gamma_id, NULL), 0);
	assert_int_equal(key_of(k, &alpha, leaf16, &a16), 0);
	assert_int_equal(key_of(k, &alpha, leaf17, &a17), 0);
	assert_int_equal(key_of(k, &beta, leaf16, &b16), 0);
	assert_int_equal(key_of(k, &gamma_id, leaf16, &g16), 0);
	assert_int_equal(keyring_rotate(k, &fresh, &unknown, 1, NULL, &next, NULL), -ENOKEY);
	assert_null(next);
	assert_int_equal(keyring_rotate(k, &fresh, cuts, 2, NULL, &next, NULL), 0);

	/* The old one is untouched until it is swept. */
	assert_int_equal(keyring_check(k, NULL, NULL), 0);
	assert_int_equal(key_of(k, &gamma_id, leaf16, &now), 0);
	assert_int_equal(keyring_generation(next), 2);
	assert_int_equal(keyring_count(next), 2);
	assert_int_equal(keyring_check(next, NULL, NULL), 0);
	assert_int_equal(key_of(next, &alpha, leaf16, &now), -ENOKEY);
	assert_int_equal(key_of(next, &gamma_id, leaf16, &now), -ENOKEY);
	assert_int_equal(key_of(next, &alpha, leaf17, &now), 0);
	assert_memory_equal(&now, &a17, sizeof(now));
	assert_int_equal(key_of(next, &beta, leaf16, &now), 0);
	assert_memory_equal(&now, &b16, sizeof(now));
	assert_int_equal(load_fails(p, &fresh, 1), -EKEYREJECTED);
	assert_int_equal(load_fails(p, &p->r, 2), -EKEYREJECTED);

	assert_int_equal(keyring_sweep(next, NULL), 0);
	assert_false(there(p, "keys/ring.1"));
	assert_true(there(p, "keys/ring.2"));
	assert_false(there(p, "keys/aa010000000000000000000000000000.1.tree"));
	assert_true(there(p, "keys/aa010000000000000000000000000000.2.tree"));
	assert_true(there(p, "keys/0b020000000000000000000000000000.1.tree"));
	assert_false(there(p, "keys/cc030000000000000000000000000000.1.tree"));
	assert_int_equal(keyring_check(next, NULL, NULL), 0);
	keyring_free(k);
	keyring_free(next);
}

/* The new K_c does not open the old tree, nor the old one the new: a copied tree file is worth nothing. */
static void test_rotated_tree_is_of_another_key(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p), *next;
	const struct keyring_cut cut = {.client = alpha, .prefix = leaf_index_u64(leaf16), .bits = 64};
	scoped(freep) uint8_t *old = NULL;
	struct root_key fresh;
	struct keytree *t = NULL;
	size_t n;
	int fd;

	randombytes_buf(&fresh, sizeof(fresh));
	assert_int_equal(keyring_add(k, &alpha, NULL), 0);
	assert_int_equal(
		disk_read(p->fd, "keys/aa010000000000000000000000000000.1.tree", 1u << 16, &old, &n), 0);
	assert_int_equal(keyring_rotate(k, &fresh, &cut, 1, NULL, &next, NULL), 0);
	old[32] = 2; /* as if it had been of that number */
	fd = openat(p->fd, "keys/aa010000000000000000000000000000.2.tree", O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, old, n), (ssize_t)n);
	close(fd);
	assert_int_equal(keyring_tree(next, &alpha, &t, NULL), -EKEYREJECTED);
	keyring_free(k);
	keyring_free(next);
}

static void test_sweep_spares_strangers(void **state)
{
	struct place *p = *state;
	static const char *const kept[] = {"keys/README", "keys/ring.x", "keys/ring.", "keys/ring.1a",
		"keys/x.1.tree", "keys/aa010000000000000000000000000000..tree",
		"keys/aa010000000000000000000000000000.1.treex"};
	static const char *const swept[] = {"keys/ring.7", "keys/ring.1.tmp",
		"keys/aa010000000000000000000000000000.3.tree",
		"keys/aa010000000000000000000000000000.1.tree.tmp"};
	struct keyring *k = create(p);

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		close(openat(p->fd, kept[i], O_CREAT | O_WRONLY, 0600));
	for (size_t i = 0; i < ARRAY_SIZE(swept); i++)
		close(openat(p->fd, swept[i], O_CREAT | O_WRONLY, 0600));
	assert_int_equal(keyring_sweep(k, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
		assert_true(there(p, kept[i]));
	for (size_t i = 0; i < ARRAY_SIZE(swept); i++)
		assert_false(there(p, swept[i]));
	assert_true(there(p, "keys/ring.1"));
	keyring_free(k);
}

static void test_signing(void **state)
{
	struct place *p = *state;
	struct keyring *k = create(p), *next;
	uint8_t sig[SIGNATURE_BYTES], again[SIGNATURE_BYTES], pub[PUBLIC_KEY_BYTES], pub2[PUBLIC_KEY_BYTES];
	struct root_key fresh;

	randombytes_buf(&fresh, sizeof(fresh));
	keyring_public_key(k, pub);
	assert_int_equal(keyring_sign(k, "coffer-head", "abc", 3, sig), 0);
	assert_int_equal(keyring_signature_check(pub, "coffer-head", "abc", 3, sig), 0);
	assert_int_equal(keyring_signature_check(pub, "coffer-certificate", "abc", 3, sig), -EBADMSG);
	assert_int_equal(keyring_signature_check(pub, "coffer-head", "abd", 3, sig), -EBADMSG);
	assert_int_equal(keyring_signature_check(pub, "coffer-head", "ab", 2, sig), -EBADMSG);
	assert_int_equal(keyring_signature_check(pub, "coffer-headab", "c", 1, sig), -EBADMSG);
	assert_int_equal(keyring_sign(k, "", "abc", 3, again), -EINVAL);
	for (size_t bit = 0; bit < sizeof(sig) * 8; bit++) {
		sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(keyring_signature_check(pub, "coffer-head", "abc", 3, sig), -EBADMSG);
		sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	/* The key outlives R. */
	assert_int_equal(keyring_rotate(k, &fresh, NULL, 0, NULL, &next, NULL), 0);
	keyring_public_key(next, pub2);
	assert_memory_equal(pub, pub2, sizeof(pub));
	assert_int_equal(keyring_sign(next, "coffer-head", "abc", 3, again), 0);
	assert_memory_equal(sig, again, sizeof(sig));
	keyring_free(k);
	keyring_free(next);
}

static void test_public_key_file(void **state)
{
	struct place *p = *state;
	int fd;

	keyring_free(create(p));
	assert_true(there(p, "signing.pub"));
	assert_int_equal(unlinkat(p->fd, "signing.pub", 0), 0);
	keyring_free(load(p, &p->r, 1));
	fd = openat(p->fd, "signing.pub", O_WRONLY);
	assert_true(fd >= 0); /* written anew */
	assert_int_equal(pwrite(fd, "????", 4, 0), 4);
	close(fd);
	assert_int_equal(load_fails(p, &p->r, 1), -EBADMSG);
}

#define IN_PLACE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(test_add_and_load),
		IN_PLACE(test_tree_bytes),
		IN_PLACE(test_wrong_root_and_generation),
		IN_PLACE(test_walk_ring_and_tree),
		IN_PLACE(test_trees_of_others),
		IN_PLACE(test_rotate),
		IN_PLACE(test_rotated_tree_is_of_another_key),
		IN_PLACE(test_sweep_spares_strangers),
		IN_PLACE(test_signing),
		IN_PLACE(test_public_key_file),
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
