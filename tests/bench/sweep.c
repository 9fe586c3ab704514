/* How fast the dead ciphertext of what was shredded goes, in one thread.
 *
 *	build/tests/bench/sweep FOLDER [FILES [BYTES]]    an empty folder on the disk to be measured
 *
 * FILES (20,000) of BYTES (4,096) each in directories of 1,000; first a sweep that finds nothing, then all of them are dead. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/scope.h"
#include "fs/store/file.h"
#include "fs/store/store.h"
#include "fs/store/sweep.h"

#define CLASS 16
#define TODAY 2500
#define IN_ONE 1000

static double now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void check(int r, const char *what)
{
	if (r < 0)
		errx(1, "%s: %s", what, strerror(-r));
}

static void fill_one(struct store_dir *root, unsigned long n, unsigned long files, const char *text, size_t bytes)
{
	struct store_dir *d;
	struct stat st;
	char name[32];

	snprintf(name, sizeof(name), "dir%lu", n);
	check(store_mkdir(root, name, 0700, &st), "mkdir");
	check(store_dir_open(root, name, &d), "directory");
	for (unsigned long i = 0; i < files; i++) {
		struct file *f;

		snprintf(name, sizeof(name), "file%lu", i);
		check(file_create(d, name, 0600, &f, &st), "create");
		check((int)file_write(f, text, bytes, 0), "write");
		file_close(f);
	}
	store_dir_unref(d);
}

static bool go_on(const struct sweep_counts *c, void *arg)
{
	(void)c;
	(void)arg;
	return true;
}

static void sweep(const char *what, int fd, struct keytree *tree, unsigned long files)
{
	const struct sweep_options opt = {.tree = tree, .step = go_on};
	struct sweep_counts n = {0};
	double begin = now(CLOCK_MONOTONIC), begin_cpu = now(CLOCK_PROCESS_CPUTIME_ID), took;

	check(store_sweep(fd, &opt, &n), "sweep");
	took = now(CLOCK_MONOTONIC) - begin;
	printf("%-24s %8.0f files/s (%.2f s, of a processor %.2f s), %llu removed, %llu failed\n", what, (double)files / took, took,
		now(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu, (unsigned long long)n.files, (unsigned long long)n.failed);
}

int main(int argc, char **argv)
{
	const struct store_options opt = {.class = CLASS, .today = TODAY};
	unsigned long files = argc > 2 ? strtoul(argv[2], NULL, 10) : 20000, bytes = argc > 3 ? strtoul(argv[3], NULL, 10) : 4096;
	int fd = argc > 1 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct store_dir *root;
	struct keytree *tree;
	struct store *s;
	char *text;

	if (fd < 0 || files == 0)
		errx(2, "sweep FOLDER [FILES [BYTES]]");
	check(sodium_init(), "libsodium");
	check(secret_init(16u << 20), "memory for keys");
	check(keytree_new(&tree), "tree");
	check(store_open(fcntl(fd, F_DUPFD_CLOEXEC, 3), tree, &opt, &s), "store (the folder must be empty)");
	check(store_dir_root(s, &root), "root");
	text = calloc(1, bytes + 1);
	if (!text)
		err(1, "memory");
	for (unsigned long n = 0; n < files; n += IN_ONE)
		fill_one(root, n / IN_ONE, files - n < IN_ONE ? files - n : IN_ONE, text, bytes);
	store_dir_unref(root);
	store_close(s);
	sync();
	sweep("all alive:", fd, tree, files);
	check(keytree_puncture(tree, (uint64_t)CLASS << 48, 16), "puncture");
	sweep("all dead:", fd, tree, files);
	free(text);
	keytree_free(tree);
	close(fd);
	return 0;
}
