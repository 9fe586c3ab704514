/* Keys that are exchanged though nothing is destroyed: everything opens as before, at whatever step it was cut short;
 * what opened it before opens nothing. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/scope.h"
#include "keyd/disk.h"
#include "keyd/shred.h"
#include "keyd/signing_file.h"
#include "tests/unit/keys_fixture.h"

static const struct client_id acme = {{0xaa}}, other = {{0xbb}};
static const struct leaf_index leaf = {16, 2500, 7};
static const struct keyring_cut rekey[] = {{.client = {{0xaa}}, .rekey = true}};

struct place {
	char path[64];
	int fd;
	struct slot_set *slot;
	struct keyring *ring;
	struct key32 acme, other;
	enum shred_step stop_at;
};

static struct key32 wrapping_key(struct place *p, const struct client_id *c)
{
	struct key32 key;

	assert_int_equal(key_of(p->ring, c, leaf, &key), 0);
	return key;
}

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	*state = p;
	p->fd = folder_make(p->path, sizeof(p->path), "/tmp", "rotate");
	if (keys_create(p->fd, (const struct client_id *const[]){&acme, &other, NULL}, &p->slot, &p->ring) < 0)
		return -1;
	p->acme = wrapping_key(p, &acme);
	p->other = wrapping_key(p, &other);
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	keys_close(&p->slot, &p->ring);
	close(p->fd);
	folder_remove(AT_FDCWD, p->path);
	free(p);
	return 0;
}

static int before(enum shred_step step, void *arg)
{
	struct place *p = arg;

	return step == p->stop_at ? -EINTR : 0;
}

static int run(struct place *p, const struct shred_job *what)
{
	struct shred_job job = *what;
	enum shred_outcome o;
	int r;

	job.before = before;
	job.arg = p;
	r = shred_run(&job, p->slot, &p->ring, &o, NULL);
	assert_int_equal(o == SHRED_DESTROYED, r == 0 || p->stop_at == SHRED_STEP_SWEEP);
	return r;
}

static void reopen(struct place *p)
{
	struct keys_error err = {0};
	struct shred_opened o;

	keyring_free(p->ring);
	slot_set_close(p->slot);
	p->ring = NULL;
	p->slot = NULL;
	if (slot_set_open(p->fd, NULL, 0, &p->slot, &err) < 0 || shred_open(p->fd, p->slot, &o, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(o.warning, "");
	p->ring = o.ring;
}

static void all_opens(struct place *p)
{
	struct key32 a = wrapping_key(p, &acme), b = wrapping_key(p, &other);

	assert_memory_equal(&a, &p->acme, sizeof(a));
	assert_memory_equal(&b, &p->other, sizeof(b));
}

/* At each step, then for good: the generation counts those that went forward. */
static void at_each_step(struct place *p, const struct shred_job *job)
{
	for (int step = SHRED_STEP_CONFIRM; step <= SHRED_STEP_SWEEP; step++) {
		uint64_t g = keyring_generation(p->ring);

		p->stop_at = (enum shred_step)step;
		assert_int_equal(run(p, job), -EINTR);
		reopen(p);
		assert_int_equal(keyring_generation(p->ring), step > SHRED_STEP_SLOT ? g + 1 : g);
		all_opens(p);
	}
	p->stop_at = 0;
	assert_int_equal(run(p, job), 0);
	all_opens(p);
	reopen(p);
	all_opens(p);
}

static void test_root(void **state)
{
	struct place *p = *state;

	at_each_step(p, &(struct shred_job){0});
	assert_int_equal(faccessat(p->fd, "keys/aa000000000000000000000000000000.1.tree", F_OK, 0), 0);
}

static void test_client(void **state)
{
	struct place *p = *state;

	at_each_step(p, &(struct shred_job){.cuts = rekey, .count = 1});
	assert_int_equal(faccessat(p->fd, "keys/aa000000000000000000000000000000.1.tree", F_OK, 0), -1);
	assert_int_equal(faccessat(p->fd, "keys/bb000000000000000000000000000000.1.tree", F_OK, 0), 0);
}

static void put_back(struct place *p, const char *name, const uint8_t *bytes, size_t n)
{
	assert_int_equal(disk_replace(p->fd, name, bytes, n), 0);
}

/* With what opened all before: not the ring of now, and the old ring not with the slot of now. */
static void test_old_opens_nothing(void **state)
{
	struct place *p = *state;
	struct slot_set *old_slot = NULL;
	struct shred_opened o;
	struct keyring *k;
	uint8_t *slot, *ring, *tree;
	size_t slot_n, ring_n, tree_n;
	const char *first = "keys/aa000000000000000000000000000000.1.tree";

	assert_int_equal(disk_read(p->fd, "slot/root.slot", 1u << 20, &slot, &slot_n), 0);
	assert_int_equal(disk_read(p->fd, "keys/ring.1", 1u << 20, &ring, &ring_n), 0);
	assert_int_equal(disk_read(p->fd, first, 1u << 20, &tree, &tree_n), 0);
	assert_int_equal(run(p, &(struct shred_job){.cuts = rekey, .count = 1}), 0);
	put_back(p, "keys/ring.1", ring, ring_n);
	assert_int_equal(keyring_load(p->fd, slot_set_root(p->slot), 1, &k, NULL), -EKEYREJECTED);
	assert_int_equal(unlinkat(p->fd, "keys/ring.1", 0), 0);
	/* the old tree in place of the new one: sealed under a K_c that is gone */
	put_back(p, "keys/aa000000000000000000000000000000.2.tree", tree, tree_n);
	assert_true(keyring_check(p->ring, NULL, NULL) < 0);
	put_back(p, "slot/root.slot", slot, slot_n);
	assert_int_equal(slot_set_open(p->fd, NULL, 0, &old_slot, NULL), 0);
	assert_int_equal(shred_open(p->fd, old_slot, &o, NULL), -ENOENT);
	slot_set_close(old_slot);
	free(slot);
	free(ring);
	free(tree);
}

/* What the old key signed, the keys of now vouch for, and the other way round; each with its time. */
static void test_signing(void **state)
{
	struct place *p = *state;
	uint8_t first[PUBLIC_KEY_BYTES], now[PUBLIC_KEY_BYTES], sig[SIGNATURE_BYTES];
	struct signing_keys keys;
	char *chain;
	uint8_t *pub;
	size_t n;

	keyring_public_key(p->ring, first);
	assert_int_equal(keyring_sign(p->ring, "coffer-certificate", "x", 1, sig), 0);
	at_each_step(p, &(struct shred_job){.signing_at = 1000});
	keyring_public_key(p->ring, now);
	assert_memory_not_equal(first, now, sizeof(now));
	assert_int_equal(keyring_signature_check(now, "coffer-certificate", "x", 1, sig), -EBADMSG);
	chain = signing_file_chain(p->fd);
	signing_keys_collect(now, chain, &keys);
	assert_int_equal(keys.n, 4); /* three went forward: no trace of those that did not */
	assert_memory_equal(keys.keys[0].b, now, sizeof(now));
	assert_int_equal(keys.keys[0].from, 1000);
	assert_int_equal(keys.keys[0].until, INT64_MAX);
	assert_non_null(signing_keys_find(&keys, first));
	assert_int_equal(signing_keys_find(&keys, first)->until, 1000);
	assert_int_equal(signing_keys_find(&keys, first)->from, 0);
	signing_keys_collect(first, chain, &keys); /* who kept the first only */
	assert_int_equal(keys.n, 4);
	assert_non_null(signing_keys_find(&keys, now));
	free(chain);
	assert_int_equal(disk_read(p->fd, "signing.pub", 256, &pub, &n), 0);
	free(pub);
	/* another's is refused as ever */
	put_back(p, "signing.pub", (const uint8_t *)"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", 45);
	assert_int_equal(signing_file_check(p->fd, now, NULL), -EBADMSG);
}

static void test_altered_links(void **state)
{
	struct place *p = *state;
	struct signing_keys keys;
	uint8_t now[PUBLIC_KEY_BYTES];
	struct signing_link l;
	char *chain;

	assert_int_equal(run(p, &(struct shred_job){.signing_at = 1000}), 0);
	keyring_public_key(p->ring, now);
	chain = signing_file_chain(p->fd);
	assert_int_equal(signing_link_parse(chain, &l), 0);
	for (size_t i = 0; chain[i] != '\n'; i++) {
		char was = chain[i];

		chain[i] = was == '1' ? '2' : '1';
		assert_true(signing_link_parse(chain, &l) < 0);
		signing_keys_collect(now, chain, &keys);
		assert_int_equal(keys.n, 1);
		chain[i] = '\0';
		assert_true(signing_link_parse(chain, &l) < 0);
		chain[i] = was;
	}
	free(chain);
}

static void test_unknown_client(void **state)
{
	struct place *p = *state;
	const struct keyring_cut cut = {.client = {{0xdd}}, .rekey = true};

	assert_int_equal(run(p, &(struct shred_job){.cuts = &cut, .count = 1}), -ENOKEY);
	all_opens(p);
}

#define IN_PLACE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_PLACE(test_root),
		IN_PLACE(test_client),
		IN_PLACE(test_old_opens_nothing),
		IN_PLACE(test_signing),
		IN_PLACE(test_altered_links),
		IN_PLACE(test_unknown_client),
	};

	return cmocka_run_group_tests(tests, keys_setup_all, keys_teardown_all);
}
