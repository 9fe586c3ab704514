/* What keys cost at size: bytes of a client's key state, time to derive, to shred, to rotate many clients.
 *
 *	build/tests/bench/keys curve            state against a flat table of keys, 10^3 to 10^6 files
 *	build/tests/bench/keys rotate FOLDER    10,000 clients, one of them with a million files: destructions, on that disk
 *	build/tests/bench/keys session FOLDER   that client's key tree on its way from the disk into a worker
 *	build/tests/bench/keys nightly FOLDER   10,000 clients: what is due
 *	build/tests/bench/keys install D        10,000 clients more for an installation that is down: see tests/bench/large
 *
 * A client's files are made on 1,000 days, as many a day, numbered in the order of their making by one worker a day
 * (common/ids.h); what is shredded singly is drawn at random.  A flat table keeps one key of 32 bytes and one index of 8
 * for each live file; it is sealed anew as a whole at each shred. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/keytree.h"
#include "common/scope.h"
#include "keyd/expiry.h"
#include "keyd/facts_loads.h"
#include "keyd/facts_sql.h"
#include "keyd/prune.h"
#include "keyd/shred.h"

#define CLASS 16
#define DAYS 1000
#define FLAT_BYTES 40
#define CLIENTS 10000
#define SINGLE 1000
#define ARENA (1u << 30)
#define FACTS_DAY 2500 /* days since 2020: the client's first */

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Of this process: what else the machine does counts less. */
static double cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
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
	uint32_t first = ((day + 1) * 2654435761u) & ~(1u << 31); /* looks random, and does not wrap */

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
	double begin = cpu();

	for (uint32_t i = 0; i < rounds; i++) {
		int r = keytree_derive(t, leaf_of(order[files - 1 - i], files), KEY_USE_WRAP, &key);

		if (r < 0 && r != -ENOKEY)
			check(r, "derive");
	}
	return (cpu() - begin) * 1e6 / rounds;
}

/* ---- the flat table ---- */

struct flat {
	uint8_t *plain, *sealed; /* entries of FLAT_BYTES: index, key */
	size_t n;
};

static void flat_new(struct flat *t, uint32_t files)
{
	t->n = files;
	t->plain = malloc((size_t)files * FLAT_BYTES);
	t->sealed = malloc((size_t)files * FLAT_BYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES);
	if (!t->plain || !t->sealed)
		err(1, "memory");
	randombytes_buf(t->plain, (size_t)files * FLAT_BYTES);
}

static void flat_free(struct flat *t)
{
	free(t->plain);
	free(t->sealed);
}

/* Without the last entry, under a fresh key; written and synced when fd >= 0. */
static void flat_shred(struct flat *t, size_t entries, int fd)
{
	uint8_t key[32], nonce[24];
	unsigned long long n;

	randombytes_buf(key, sizeof(key));
	randombytes_buf(nonce, sizeof(nonce));
	t->n -= entries;
	crypto_aead_xchacha20poly1305_ietf_encrypt(t->sealed, &n, t->plain, t->n * FLAT_BYTES, NULL, 0, NULL, nonce, key);
	if (fd >= 0 && (pwrite(fd, t->sealed, n, 0) != (ssize_t)n || ftruncate(fd, (off_t)n) < 0 || fsync(fd) < 0))
		err(1, "the flat table");
}

/* ---- the curve ---- */

/* One load a day, as the facts would tell. */
static struct fact_load *loads_of(uint32_t files, size_t *ret_n)
{
	uint32_t days = files < DAYS ? files : DAYS;
	struct fact_load *loads = calloc(days, sizeof(*loads));

	if (!loads)
		err(1, "memory");
	for (uint32_t d = 0; d < days; d++) {
		struct leaf_index first = leaf_of(d, files);

		loads[d] = (struct fact_load){.first = first.number, .end = (uint64_t)first.number + (files + days - 1 - d) / days,
			.from_day = first.day, .to_day = first.day};
	}
	*ret_n = days;
	return loads;
}

static int by_first(const void *a, const void *b)
{
	const struct fact_load *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

static double prune(struct keytree *t, uint32_t files)
{
	struct prune_book b = {.since = 0, .before = DAYS + 2};
	struct fact_load *loads = loads_of(files, &b.n);
	double begin;
	size_t dropped;

	qsort(loads, b.n, sizeof(*loads), by_first);
	b.loads = loads;
	begin = cpu();
	check(keytree_prune(t, prune_keep, &b, &dropped), "prune");
	free(b.day_loads);
	free(loads);
	return cpu() - begin;
}

/* Nodes of a tree that holds exactly the living files. */
static size_t exact_nodes(uint32_t files, const uint8_t *dead)
{
	uint32_t days = files < DAYS ? files : DAYS;
	size_t nodes = 0;

	for (uint32_t day = 0; day < days; day++) {
		for (uint32_t n = day; n < files;) {
			uint64_t at = leaf_of(n, files).number, size = 1, run = 0;

			if (dead[n]) {
				n += days;
				continue;
			}
			for (uint32_t m = n; m < files && !dead[m]; m += days)
				run++;
			while (at % (2 * size) == 0 && 2 * size <= run)
				size *= 2;
			nodes++;
			n += (uint32_t)size * days;
		}
	}
	return nodes;
}

#define HEAD 8
#define NODE 41

static void curve_row(uint32_t files, const uint32_t *order, double percent)
{
	uint32_t shredded = (uint32_t)((double)files * percent / 100);
	struct keytree_prefix *cuts = calloc(shredded + 1, sizeof(*cuts));
	uint8_t *dead = calloc(files, 1);
	double flat = (double)(files - shredded) * FLAT_BYTES, begin, cut, pruned, one, one_flat;
	size_t before, bytes, exact;
	struct keytree *t;
	struct flat table;

	if (!cuts || !dead)
		err(1, "memory");
	check(keytree_new(&t), "tree");
	for (uint32_t i = 0; i < shredded; i++) {
		cuts[i] = (struct keytree_prefix){leaf_index_u64(leaf_of(order[i], files)), 64};
		dead[order[i]] = 1;
	}
	begin = cpu();
	check(keytree_puncture_all(t, cuts, shredded), "puncture");
	cut = cpu() - begin;
	before = state_bytes(t);
	pruned = prune(t, files);
	bytes = state_bytes(t);
	exact = HEAD + NODE * exact_nodes(files, dead);
	for (uint32_t i = 0; i < files; i++)
		if (keytree_holds(t, leaf_of(i, files)) == (dead[i] != 0))
			errx(1, "file %u is %s", i, dead[i] ? "shredded, and opens" : "alive, and does not open");
	begin = cpu();
	check(keytree_puncture(t, leaf_index_u64(leaf_of(order[files - 1], files)), 64), "puncture");
	one = cpu() - begin;
	flat_new(&table, files - shredded);
	begin = cpu();
	flat_shred(&table, 1, -1);
	one_flat = cpu() - begin;
	printf("| %u | %g | %zu | %zu | **%.2f** | %.2f | %.0f | %.2f | %.0f | %.0f | %.0f | %.2f |\n", files, percent, before / 1024,
		bytes / 1024, (double)bytes / flat, (double)exact / flat, flat / 1024, (double)before / flat,
		(cut + pruned) * 1e3, one * 1e6, one_flat * 1e6, derive_us(t, order, files));
	fflush(stdout);
	flat_free(&table);
	keytree_free(t);
	free(cuts);
	free(dead);
}

static void curve(void)
{
	static const double percents[] = {0, 0.1, 1, 5, 10, 20, 50};
	static const uint32_t counts[] = {1000, 10000, 100000, 1000000};
	uint32_t *order = calloc(1000000, sizeof(*order));

	if (!order)
		err(1, "memory");
	puts("| files | % shredded | KiB, not pruned | KiB | of flat | exact, of flat | flat KiB | not pruned, of flat | ms to cut and prune"
	     " | us one more | us one more, flat | us a key |");
	puts("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		shuffle(order, counts[i]);
		for (size_t k = 0; k < ARRAY_SIZE(percents); k++)
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

static int trim_large(const struct client_id *id, struct keytree *t, void *arg)
{
	const struct client_id large = client(1);

	(void)arg;
	if (memcmp(id, &large, sizeof(large)) == 0)
		(void)prune(t, 1000000);
	return 0;
}

static void destroy(const char *what, struct slot_set *slot, struct keyring **ring, const struct keyring_cut *cuts,
	size_t n)
{
	const struct keyring_trim trim = {.fn = trim_large};
	struct shred_job job = {.cuts = cuts, .count = n, .trim = &trim};
	struct keys_error e = {.text = ""};
	enum shred_outcome outcome;
	double begin = now();
	int r = shred_run(&job, slot, ring, &outcome, &e);

	if (r < 0 || outcome != SHRED_DESTROYED)
		errx(1, "%s: %s (%s)", what, strerror(-r), e.text);
	printf("%-48s %8.3f s\n", what, now() - begin);
	fflush(stdout);
}

/* `n` files of the million, at random. */
static struct keyring_cut *some_files(uint32_t n)
{
	struct keyring_cut *cuts = calloc(n, sizeof(*cuts));

	if (!cuts)
		err(1, "memory");
	for (uint32_t i = 0; i < n; i++)
		cuts[i] = (struct keyring_cut){.client = client(1), .bits = 64,
			.prefix = leaf_index_u64(leaf_of(randombytes_uniform(1000000), 1000000))};
	return cuts;
}

static void flat_beside(int fd)
{
	int file = openat(fd, "flat", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct flat t;
	double begin;

	if (file < 0)
		err(1, "flat");
	flat_new(&t, 1000000);
	flat_shred(&t, 10000, file);
	begin = now();
	flat_shred(&t, 1, file);
	printf("%-48s %8.3f s\n", "one file, flat table of 10^6, written anew", now() - begin);
	begin = now();
	flat_shred(&t, 1000, file);
	printf("%-48s %8.3f s\n", "1,000 files at once, the same", now() - begin);
	flat_free(&t);
	close(file);
	(void)unlinkat(fd, "flat", 0);
}

/* One percent singly first.  The class: all of it made on the days 0 to 511, a prefix of 16 + 7 bits. */
static void rotations(struct slot_set *slot, struct keyring **ring)
{
	struct keyring_cut one = {.client = client(77), .whole = true};
	struct keyring_cut class = {.client = client(1), .prefix = (uint64_t)CLASS << 48, .bits = 16 + 7};
	struct keyring_cut *percent = some_files(10000), *single = some_files(SINGLE);

	destroy("10,000 single files of 10^6", slot, ring, percent, 10000);
	destroy("one client of 10,000", slot, ring, &one, 1);
	destroy("1,000 single files of 10^6, 1 % shredded before", slot, ring, single, SINGLE);
	destroy("one more file", slot, ring, single, 1);
	destroy("a class before a day, the same client", slot, ring, &class, 1);
	destroy("nothing (a new root key)", slot, ring, NULL, 0);
	free(percent);
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
	flat_beside(fd);
	begin = now();
	struct client_id id = client(1);

	check(keyring_tree(ring, &id, &t, NULL), "tree");
	printf("%-48s %8.3f s, %zu nodes\n", "that client's tree opened", now() - begin, keytree_nodes(t));
	keytree_free(t);
	keyring_free(ring);
	slot_set_close(slot);
	close(fd);
}

static void session(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), secret;
	struct keyring_cut *cuts = some_files(10000);
	const struct client_id id = client(1);
	struct keyring *ring;
	struct slot_set *slot;
	struct keytree *t;
	void *taken;
	uint8_t *bytes;
	size_t n;
	double begin;

	if (fd < 0)
		err(1, "%s", folder);
	check(slot_set_create(fd, &slot, NULL), "slot (the folder must be empty)");
	check(keyring_create(fd, slot_set_root(slot), &ring, NULL), "ring");
	check(keyring_add(ring, &id, NULL), "client");
	destroy("1 % of a million files", slot, &ring, cuts, 10000);
	for (int round = 0; round < 5; round++) {
		begin = cpu();
		check(keyring_tree_bytes(ring, &id, &bytes, &n, NULL), "tree");
		printf("keyd reads %zu KiB: %.2f ms", n / 1024, (cpu() - begin) * 1e3);
		begin = cpu();
		check(secret_fd_new(bytes, n, &secret), "descriptor");
		secret_free(bytes);
		printf(", hands over: %.2f ms", (cpu() - begin) * 1e3);
		begin = cpu();
		check(secret_fd_take(secret, n, &taken, &n), "descriptor");
		close(secret);
		printf(", worker takes: %.2f ms", (cpu() - begin) * 1e3);
		begin = cpu();
		check(keytree_parse(taken, n, &t), "parse");
		secret_free(taken);
		printf(", parses: %.2f ms\n", (cpu() - begin) * 1e3);
		keytree_free(t);
	}
	free(cuts);
	keyring_free(ring);
	slot_set_close(slot);
	close(fd);
}

/* ---- many clients ---- */

static const struct actor nobody = {.user = "bench", .uid = 0};

/* One in ten has ended, one in a hundred so long ago that it is due; each had other classes and an event. */
static void add_facts(struct facts *f, const char *name, const char *hex, uint32_t i, int64_t at)
{
	int64_t row, day = 86400;

	check(facts_client_add(f, name, hex, "Client", "client@example.org", nobody, at), "client");
	check(facts_client_row(f, hex, &row), "client");
	if (i % 10 == 0)
		check(facts_client_end(f, row, at + (i % 100 == 0 ? day : 1000 * day), nobody, at), "end");
	check(facts_execute(f, NULL, "INSERT INTO class_used (client,class,since) VALUES (?,17,1),(?,18,1)", "ii", row, row),
		"classes");
	check(facts_execute(f, NULL,
		      "INSERT INTO event (client,event,happens_on,recorded_at,recorded_by,recorded_uid) VALUES (?,'contract-end',?,?,"
		      "'bench',0)",
		      "iii", row, at + 100 * day, at),
		"event");
}

static void nightly(const char *folder)
{
	int64_t at = (int64_t)time(NULL), began = DAY_EPOCH_UNIX + (int64_t)FACTS_DAY * 86400 - (int64_t)3650 * 86400;
	struct policy_error e = {0};
	struct fact_client *all;
	struct policy *policy;
	char path[4096], name[32], hex[33];
	size_t n, due = 0, held = 0;
	struct facts *f;
	double begin;

	if (snprintf(path, sizeof(path), "%s/facts.db", folder) >= (int)sizeof(path))
		errx(1, "%s: too long", folder);
	check(policy_load_text(NULL, 0, &policy, &e), "policy");
	check(facts_open(path, &f), path);
	check(facts_begin(f), "facts");
	for (uint32_t i = 0; i < CLIENTS; i++) {
		snprintf(name, sizeof(name), "client%05u", i);
		snprintf(hex, sizeof(hex), "%032x", i + 1);
		add_facts(f, name, hex, i, began);
	}
	check(facts_commit(f), "facts");
	for (int round = 0; round < 3; round++) {
		begin = cpu();
		check(facts_clients(f, FACTS_LATEST, &all, &n), "clients");
		printf("%-48s %8.3f s\n", "10,000 clients read", cpu() - begin);
		begin = cpu();
		for (size_t i = due = held = 0; i < n; i++) {
			struct expiry_answer a;

			check(expiry_judge(policy, &all[i], at, &a), "judge");
			due += expiry_next(&all[i], &a, at, true) != EXPIRY_NOTHING;
			held += all[i].held;
		}
		printf("%-48s %8.3f s, %zu are due\n", "judged", cpu() - begin, due);
		free(all);
	}
	facts_close(f);
	policy_free(policy);
}

/* `d` is there, with one client "bench" and its grant, and nothing runs: it gets 10,000 clients more, and bench the key tree
 * of a client of a million files of which 1 % were shredded singly. */
static void install(const char *d)
{
	struct shred_opened opened;
	struct keyring_cut *cuts;
	struct slot_set *slot;
	struct facts *f;
	char path[4096], name[32], hex[33];
	struct client_id bench, id;
	int keyd_fd, store_fd;

	snprintf(path, sizeof(path), "%s/keyd", d);
	keyd_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/store", d);
	store_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (keyd_fd < 0 || store_fd < 0)
		err(1, "%s", d);
	check(slot_set_open(keyd_fd, NULL, 0, &slot, NULL), "slot");
	check(shred_open(keyd_fd, slot, &opened, NULL), "ring");
	bench = *keyring_client(opened.ring, 0);
	snprintf(path, sizeof(path), "%s/keyd/facts.db", d);
	check(facts_open(path, &f), path);
	check(facts_begin(f), "facts");
	for (uint32_t i = 0; i < CLIENTS; i++) {
		randombytes_buf(id.b, sizeof(id.b));
		sodium_bin2hex(hex, sizeof(hex), id.b, sizeof(id.b));
		snprintf(name, sizeof(name), "client%05u", i);
		check(keyring_add(opened.ring, &id, NULL), "client");
		if (mkdirat(store_fd, hex, 0700) < 0)
			err(1, "%s", hex);
		add_facts(f, name, hex, i, (int64_t)time(NULL) - 86400);
	}
	check(facts_commit(f), "facts");
	cuts = some_files(10000);
	for (size_t i = 0; i < 10000; i++)
		cuts[i].client = bench;
	destroy("1 % of a million files of bench", slot, &opened.ring, cuts, 10000);
	free(cuts);
	facts_close(f);
	keyring_free(opened.ring);
	slot_set_close(slot);
	close(keyd_fd);
	close(store_fd);
}

int main(int argc, char **argv)
{
	check(sodium_init(), "libsodium");
	check(secret_init(ARENA), "memory for keys");
	if (argc == 2 && strcmp(argv[1], "curve") == 0)
		curve();
	else if (argc == 3 && strcmp(argv[1], "rotate") == 0)
		rotate(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "session") == 0)
		session(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "nightly") == 0)
		nightly(argv[2]);
	else if (argc == 3 && strcmp(argv[1], "install") == 0)
		install(argv[2]);
	else
		errx(2, "keys curve | keys rotate, session or nightly FOLDER (empty, on the disk that is measured) | keys install D");
	secret_done();
	return 0;
}
