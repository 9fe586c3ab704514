/* Power cuts: plays scenarios on a store in memory, then looks at every state that a power cut could have
 *left.
 *
 *	powercut [--seconds N] [--seed S] [--tear] CASE...	the cases, then random scenarios until the
 *time is over
 *	powercut --seed S --only META,TIME,NUMBER [--tear] CASE	one state again; CASE "random:SEED" for a
 *random one */
#include <errno.h>
#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cases.h"
#include "check.h"
#include "common/scope.h"

#define TODAY 2517
#define RANDOM_LINES 40
#define FAILURES_MAX 8

static struct keytree *tree;
static struct crash_options options = {.exhaustive = 96, .samples = 10, .seed = 1};
static unsigned long states, failures;
static time_t deadline;
static bool verbose;

static int open_store(struct memfs *m, struct store **ret)
{
	const struct store_options opt = {.class = CLASS_FIRST_POLICY, .today = TODAY};

	memfs_use(m);
	return store_open(memfs_open_root(), tree, &opt, ret);
}

static size_t log_length(void *arg)
{
	return ((struct memfs *)arg)->n_log;
}

static void print_log(const struct memfs *m, size_t meta, size_t time)
{
	char line[600];
	size_t i, from = meta > 12 ? meta - 12 : 0;

	for (i = from; i < m->n_log && i < time + 4; i++) {
		op_print(&m->log[i], line, sizeof(line));
		fprintf(stderr, "  %s%s %4zu %s\n", i + 1 == meta ? "meta" : "    ",
			i + 1 == time ? " time" : "     ", i, line);
	}
}

struct run {
	struct play *p;
	struct memfs *recorded;
};

static bool out_of_time(void)
{
	return deadline && time(NULL) >= deadline;
}

/* Opens what is left; of every fourth state twice (opening mends some of it), then uses it up. */
static int look(struct check *c, struct memfs *m)
{
	int pass, passes = options.only || states % 4 == 0 ? 3 : 1, r = 0;
	struct store *s;

	for (pass = 0; pass < passes && r == 0; pass++) {
		r = open_store(m, &s);
		if (r < 0) {
			snprintf(c->said, sizeof(c->said), "the store does not open: %s", strerror(-r));
			return -1;
		}
		r = pass < 2 ? check_store(c, s) : check_goes_on(c, s);
		store_close(s);
		if (r == 0 && memfs_open_fds() != 0) {
			snprintf(
				c->said, sizeof(c->said), "%u descriptors were not closed", memfs_open_fds());
			r = -1;
		}
	}
	return r;
}

static int each_state(const struct crash_state *state, void *arg)
{
	struct run *run = arg;
	struct check c = {.p = run->p, .crash = state, .meta = state->meta, .time = state->time};

	states++;
	check_choose(&c);
	if (look(&c, state->fs) == 0)
		return out_of_time() && !options.only;
	failures++;
	fprintf(stderr, "FAILED %s: %s\n  again: --seed %llu --only %zu,%zu,%zu%s %s\n", run->p->name, c.said,
		(unsigned long long)options.seed, state->meta, state->time, state->number,
		options.tear ? " --tear" : "", run->p->name);
	if (verbose || options.only) {
		play_print(run->p, SIZE_MAX);
		print_log(run->recorded, state->meta, state->time);
	}
	return 1; /* one state of a scenario is enough */
}

/* Plays p, then every state of it. */
static void examine(struct play *p)
{
	struct run run = {.p = p, .recorded = memfs_new()};
	unsigned long before = states;
	int r;

	run.recorded->logging = true;
	if (open_store(run.recorded, &p->store) < 0)
		abort();
	options.meta_from = run.recorded->n_log; /* a store that is on disk */
	p->log_length = log_length;
	p->log_arg = run.recorded;
	r = play_run(p);
	if (r == 0) {
		struct check c = {.p = p, .before = &p->snaps[p->n_snaps - 1]};

		r = check_store(&c, p->store);
		if (r < 0)
			fprintf(stderr, "FAILED %s, without a power cut: %s\n", p->name, c.said);
	}
	play_close_files(p);
	store_close(p->store);
	if (r < 0) {
		failures++;
		play_print(p, p->line);
	} else {
		crash_each(run.recorded, &options, each_state, &run);
	}
	if (verbose)
		printf("%s: %zu operations below, %lu states\n", p->name, run.recorded->n_log,
			states - before);
	memfs_use(NULL);
	memfs_free(run.recorded);
}

static int run_case(const char *name)
{
	struct play p = {0};
	int r = cases_load(name, RANDOM_LINES, &p);

	if (r < 0)
		return r;
	examine(&p);
	play_free(&p);
	return 0;
}

static void run_random(void)
{
	uint64_t seed = options.seed;
	char name[40];
	unsigned long n;

	for (n = 0; !out_of_time() && failures < FAILURES_MAX; n++) {
		snprintf(name, sizeof(name), "random:%llu", (unsigned long long)(seed * 1000000 + n));
		options.tear = n % 2;
		(void)run_case(name);
	}
	printf("%lu random scenarios from --seed %llu\n", n, (unsigned long long)seed);
}

static void usage(void)
{
	fprintf(stderr, "powercut [--seconds N] [--seed S] [--samples N] [--tear] [--verbose] "
			"[CASE|FOLDER|random:SEED]...\n"
			"powercut --seed S --only META,TIME,NUMBER [--tear] CASE\n");
	exit(2);
}

static unsigned parse(int argc, char **argv)
{
	static const struct option longs[] = {{"seconds", 1, NULL, 's'}, {"seed", 1, NULL, 'S'},
		{"samples", 1, NULL, 'n'}, {"tear", 0, NULL, 't'}, {"only", 1, NULL, 'o'},
		{"verbose", 0, NULL, 'v'}, {0}};
	unsigned seconds = 0;
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (o == 's')
			seconds = (unsigned)strtoul(optarg, NULL, 10);
		else if (o == 'S')
			options.seed = strtoull(optarg, NULL, 0);
		else if (o == 'n')
			options.samples = strtoul(optarg, NULL, 10);
		else if (o == 't')
			options.tear = true;
		else if (o == 'v')
			verbose = true;
		else if (o == 'o' && sscanf(optarg, "%zu,%zu,%zu", &options.only_meta, &options.only_time,
					     &options.only_number) == 3)
			options.only = true;
		else
			usage();
	}
	return seconds;
}

int main(int argc, char **argv)
{
	unsigned seconds = parse(argc, argv);
	int r;

	if (secret_init(16 << 20) < 0 || keytree_new(&tree) < 0)
		return 1;
	r = cases_each(argv + optind, (size_t)(argc - optind), run_case);
	if (r == 0 && seconds > 0) {
		deadline = time(NULL) + seconds;
		run_random();
	}
	keytree_free(tree);
	printf("%lu states after a power cut, %lu failed\n", states, failures);
	return r < 0 || failures > 0;
}
