/* What keys cost at size: bytes of a client's key state, time to derive, to shred, to rotate many clients.
 *
 *	build/tests/bench/keys curve            state against a flat table of keys, 10^3 to 10^6 files
 *	build/tests/bench/keys rotate FOLDER    10,000 clients, one of them with a million files: destructions, on that disk
 *
 * A client's files are made on 1,000 days, as many a day, numbered in the order of their making by one worker a day
 * (common/ids.h); what is shredded singly is drawn at random.  A flat table keeps one key of 32 bytes and one index of 8
 * for each live file. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/keytree.h"
#include "common/scope.h"
#include "keyd/shred.h"

#define CLASS 16
#define DAYS 1000
#define FLAT_BYTES 40
#define CLIENTS 10000
#define SINGLE 1000
#define SINGLE_MAX 50000 /* more than that singly takes minutes: nobody does it, a prefix is one puncture */
#define ARENA (512u << 20)

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void check(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

/* The leaf of the n-th of `files`. */
static struct leaf_index leaf_of(uint32_t n, uint32_t files)
{
	uint32_t days = files < DAYS ? files : DAYS, day = n % days;
	uint32_t first = (day + 1) * 2654435761u; /* looks random */

	return (struct leaf_index){CLASS, (uint16_t)(1 + day), first + n / days};
}

static void shuffle(uint32_t *list, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		list[i] = i;
	for (uint32_t i = n; i > 1; i--) {
		uint32_t k = randombytes_uniform(i), t = list[k];

		list[k] = list[i - 1];
		list[i - 1] = t;
	}
}

static size_t state_bytes(const struct keytree *t)
{
	uint8_t *buf;
	size_t n;

	check(keytree_serialise(t, &buf, &n), "serialise");
	secret_free(buf);
	return n;
}

static double derive_us(struct keytree *t, const uint32_t *order, uint32_t files)
{
	const uint32_t rounds = files < 100000 ? files : 100000;
	struct key32 key;
	double begin = now();

	for (uint32_t i = 0; i < rounds; i++) {
		int r = keytree_derive(t, leaf_of(order[files - 1 - i], files), KEY_USE_WRAP, &key);

		if (r < 0 && r != -ENOKEY)
			check(r, "derive");
	}
	return (now() - begin) * 1e6 / rounds;
}

static void curve_row(uint32_t files, const uint32_t *order, double percent)
{
	uint32_t dead = (uint32_t)((double)files * percent / 100);
	struct keytree *t;
	double begin, took;
	size_t bytes;

	check(keytree_new(&t), "tree");
	begin = now();
	for (uint32_t i = 0; i < dead; i++)
		check(keytree_puncture(t, leaf_index_u64(leaf_of(order[i], files)), 64), "puncture");
	took = now() - begin;
	bytes = state_bytes(t);
	printf("| %u | %g | %u | %zu | %zu | %.2f | %.2f | %.2f |\n", files, percent, dead, bytes,
		(size_t)(files - dead) * FLAT_BYTES, (double)bytes / ((double)(files - dead) * FLAT_BYTES),
		dead ? took * 1e6 / dead : 0, derive_us(t, order, files));
	fflush(stdout);
	keytree_free(t);
}

static void curve(void)
{
	static const double percents[] = {0, 0.1, 1, 5, 10, 50};
	static const uint32_t counts[] = {1000, 10000, 100000, 1000000};
	uint32_t *order = calloc(1000000, sizeof(*order));

	if (!order)
		err(1, "memory");
	puts("| files | % shredded | files shredded | state, bytes | flat table | ratio | us a puncture | us a key |");
	puts("|--:|--:|--:|--:|--:|--:|--:|--:|");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		shuffle(order, counts[i]);
		for (size_t k = 0; k < ARRAY_SIZE(percents) && counts[i] * percents[k] / 100 <= SINGLE_MAX; k++)
			curve_row(counts[i], order, percents[k]);
	}
	free(order);
}

static struct client_id client(uint32_t n)
{
	struct client_id id = {.b = {0}};

	memcpy(id.b, &n, sizeof(n));
	return id;
}

static void destroy(const char *what, struct slot_set *slot, struct keyring **ring, const struct keyring_cut *cuts,
	size_t n)
{
	struct shred_job job = {.cuts = cuts, .count = n};
	struct keys_error e = {.text = ""};
	enum shred_outcome outcome;
	double begin = now();
	int r = shred_run(&job, slot, ring, &outcome, &e);

	if (r < 0 || outcome != SHRED_DESTROYED)
		errx(1, "%s: %s (%s)", what, strerror(-r), e.text);
	printf("%-48s %8.3f s\n", what, now() - begin);
	fflush(stdout);
}

/* All of one class made on the days 0 to 511: a prefix of 16 + 7 bits. */
static void rotations(struct slot_set *slot, struct keyring **ring)
{
	struct keyring_cut one = {.client = client(77), .whole = true};
	struct keyring_cut class = {.client = client(1), .prefix = (uint64_t)CLASS << 48, .bits = 16 + 7};
	struct keyring_cut *single = calloc(SINGLE, sizeof(*single));

	if (!single)
		err(1, "memory");
	for (uint32_t i = 0; i < SINGLE; i++)
		single[i] = (struct keyring_cut){.client = client(1), .bits = 64,
			.prefix = leaf_index_u64(leaf_of(512 + randombytes_uniform(480) + DAYS * i, 1000000))};
	destroy("one client of 10,000", slot, ring, &one, 1);
	destroy("a class before a day, client of 10^6 files", slot, ring, &class, 1);
	destroy("1,000 single files of 10^6", slot, ring, single, SINGLE);
	destroy("nothing (a new root key)", slot, ring, NULL, 0);
	free(single);
}

static void rotate(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct keyring *ring;
	struct slot_set *slot;
	struct keytree *t;
	double begin;

	if (fd < 0)
		err(1, "%s", folder);
	check(slot_set_create(fd, &slot, NULL), "slot (the folder must be empty)");
	check(keyring_create(fd, slot_set_root(slot), &ring, NULL), "ring");
	begin = now();
	for (uint32_t i = 0; i < CLIENTS; i++) {
		struct client_id id = client(i);

		check(keyring_add(ring, &id, NULL), "client");
		if (i % 1000 == 999)
			fprintf(stderr, "%u clients, %.0f s\n", i + 1, now() - begin);
	}
	printf("%-48s %8.3f s\n", "10,000 clients added, one at a time", now() - begin);
	rotations(slot, &ring);
	begin = now();
	struct client_id id = client(1);

	check(keyring_tree(ring, &id, &t, NULL), "tree");
	printf("%-48s %8.3f s, %zu nodes\n", "that client's tree opened", now() - begin, keytree_nodes(t));
	keytree_free(t);
	keyring_free(ring);
	slot_set_close(slot);
	close(fd);
}

int main(int argc, char **argv)
{
	check(sodium_init(), "libsodium");
	check(secret_init(ARENA), "memory for keys");
	if (argc == 2 && strcmp(argv[1], "curve") == 0)
		curve();
	else if (argc == 3 && strcmp(argv[1], "rotate") == 0)
		rotate(argv[2]);
	else
		errx(2, "keys curve | keys rotate FOLDER (empty, on the disk that is measured)");
	secret_done();
	return 0;
}
