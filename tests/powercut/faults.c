/* Failing calls: plays scenarios again and again, the n-th call below failing, for every n.  After it the
 *caller has been told, nothing else has changed, no descriptor is left open; the same after the store was
 *opened again, after a power cut, and when it is tried once more.
 *
 *	faults [--step N] [--seed S] [--only ERROR,N] CASE|FOLDER|random:SEED... */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "check.h"
#include "common/scope.h"
#include "rng.h"

#define TODAY 2517
#define RANDOM_LINES 30

static const struct mode {
	const char *name;
	struct fault fault;
} modes[] = {
	{"EIO", {.error = EIO}},
	{"EIO-on", {.error = EIO, .all = true}},
	{"ENOSPC", {.error = ENOSPC}},
	{"ENOSPC-on", {.error = ENOSPC, .all = true}},
	{"ENOSPC-part", {.error = ENOSPC, .part = true}},
	{"ENOSPC-part-on", {.error = ENOSPC, .part = true, .all = true}},
	{"EDQUOT-on", {.error = EDQUOT, .all = true}},
	{"EMFILE", {.error = EMFILE}},
	{"ENFILE-on", {.error = ENFILE, .all = true}},
	{"EROFS-on", {.error = EROFS, .all = true}},
};

static struct keytree *tree;
static unsigned step = 1;
static uint64_t seed = 1;
static const char *only_mode;
static unsigned only_at;
static unsigned long trials, failures;

struct trial {
	struct play *p, *shadow; /* shadow: the same without a fault */
	const struct mode *mode;
	unsigned at;
	struct memfs *fs;
	struct snapshot after;
	struct object fresh; /* what the line that failed would have made */
	const char *call;
	const char *when;
};

static size_t log_length(void *arg)
{
	return ((struct memfs *)arg)->n_log;
}

static int open_store(struct memfs *m, struct store **ret)
{
	const struct store_options opt = {.class = CLASS_FIRST_POLICY, .today = TODAY};

	memfs_use(m);
	return store_open(memfs_open_root(), tree, &opt, ret);
}

static int fail(struct trial *t, const char *said)
{
	failures++;
	fprintf(stderr,
		"FAILED %s: %s at call %u (%s), line %zu \"%s\" (%s), %s: %s\n  again: --only %s,%u %s\n",
		t->p->name, t->mode->name, t->at, t->call, t->p->line + 1,
		t->p->line < t->p->n_lines ? t->p->lines[t->p->line] : "end", strerror(-t->p->error), t->when,
		said, t->mode->name, t->at, t->p->name);
	return -1;
}

static size_t index_of(const struct play *p, const struct object *o)
{
	size_t i;

	for (i = 0; p->objects[i] != o; i++)
		;
	return i;
}

/* The tree as it would be had the line that failed not failed, of this play's objects. */
static void make_after(struct trial *t)
{
	const struct snapshot *s = &t->shadow->snaps[t->p->line + 1];
	size_t i, at;

	t->after = (struct snapshot){.n = s->n, .e = calloc(s->n + 1, sizeof(*s->e))};
	if (!t->after.e)
		abort();
	for (i = 0; i < s->n; i++) {
		t->after.e[i] = s->e[i];
		at = index_of(t->shadow, s->e[i].o);
		if (at < t->p->n_objects) {
			t->after.e[i].o = t->p->objects[at];
			continue;
		}
		t->fresh = *s->e[i].o;
		t->fresh.n_v = t->fresh.n_v > 0 ? 1 : 0;
		t->fresh.n_sync = 0;
		t->after.e[i].o = &t->fresh;
	}
}

static struct check check_of(struct trial *t)
{
	struct check c = {.p = t->p, .before = &t->p->snaps[t->p->n_snaps - 1]};

	if (t->p->error < 0) {
		c.after = &t->after;
		c.failed_line = t->p->line + 1;
	}
	return c;
}

/* The error is the one that the disk had. */
static int check_error(struct trial *t)
{
	if (t->p->error == 0 || t->p->error == -t->mode->fault.error)
		return 0;
	if (t->p->error == -EIO && strstr(t->call, "sync"))
		return 0; /* a sync that failed is not tried again below */
	t->when = "the caller";
	return fail(t, "was told something else");
}

static int each_state(const struct crash_state *s, void *arg)
{
	struct trial *t = arg;
	struct check c = check_of(t);
	struct store *store;
	int r;

	c.crash = s;
	c.meta = s->meta;
	c.time = s->time;
	t->when = "a power cut";
	if (open_store(s->fs, &store) < 0)
		return fail(t, "the store does not open");
	r = check_store(&c, store);
	store_close(store);
	return r < 0 ? fail(t, c.said) : 0;
}

static int power_cut(struct trial *t)
{
	const struct crash_options o = {
		.meta_from = t->fs->n_log, .exhaustive = 8, .samples = 2, .seed = seed + t->at};

	return crash_each(t->fs, &o, each_state, t);
}

/* The line that failed is tried again; if it had been done already, it says so. */
static int again(struct trial *t, struct store *s)
{
	static const char *const whole[] = {"mkdir", "create", "rename", "link", "symlink", "unlink", "rmdir",
		"fifo", "exchange", "noreplace", "setxattr", "chmod"};
	const char *line = t->p->lines[t->p->line];
	size_t i, n = strcspn(line, " ");
	int r;

	for (i = 0; i < ARRAY_SIZE(whole) && strncmp(whole[i], line, n) != 0; i++)
		;
	if (i == ARRAY_SIZE(whole))
		return 0;
	t->when = "tried again";
	t->p->store = s;
	r = play_line(t->p, t->p->line);
	return r == 0 || r == -EEXIST || r == -ENOENT || r == -ENODATA ? 0 : fail(t, strerror(-r));
}

static int opened_again(struct trial *t)
{
	struct check c = check_of(t);
	struct store *s;
	int r;

	t->when = "opened again";
	if (open_store(t->fs, &s) < 0)
		return fail(t, "the store does not open");
	r = check_store(&c, s);
	if (r < 0)
		fail(t, c.said);
	if (r == 0 && t->p->error < 0)
		r = again(t, s);
	if (r == 0) {
		t->when = "going on";
		r = check_goes_on(&c, s);
		if (r < 0)
			fail(t, c.said);
	}
	store_close(s);
	return r;
}

static int closed(struct trial *t)
{
	char said[60];

	play_close_files(t->p);
	store_close(t->p->store);
	t->when = "closing";
	snprintf(said, sizeof(said), "%u descriptors were not closed", memfs_open_fds());
	return memfs_open_fds() ? fail(t, said) : 0;
}

/* The disk is well again: the line that failed is tried once more, then the rest.  A sync may go on failing:
 * the kernel forgets what it could not write. */
static int resume(struct trial *t)
{
	struct play *p = t->p;
	int r;

	t->when = "going on after it";
	play_take_back(p, p->line);
	for (; p->line < p->n_lines; p->line++) {
		r = play_line(p, p->line);
		if (r == -EEXIST && p->snaps[p->n_snaps - 1].n < t->after.n)
			return 0; /* it had been done, the error came after it */
		if (r < 0 && r != -EIO)
			return fail(t, strerror(-r));
		if (r < 0)
			return 0;
		play_snapshot(p);
	}
	p->error = 0;
	return 0;
}

/* Whether the line that failed did nothing, so that it can simply be tried again. */
static bool can_resume(const struct trial *t)
{
	if (t->p->error == 0 || t->mode->fault.all || t->mode->fault.part)
		return false;
	return strncmp(t->p->lines[t->p->line], "append", 6) != 0;
}

static int judge(struct trial *t)
{
	struct fault fault = t->mode->fault;
	struct check c;
	int r;

	if (t->p->error < 0)
		make_after(t);
	r = check_error(t);
	memfs_fault(NULL);
	t->when = "at once";
	c = check_of(t);
	if (r == 0 && check_store(&c, t->p->store) < 0)
		r = fail(t, c.said);
	if (r == 0 && can_resume(t) && t->at % 2)
		r = resume(t);
	if (fault.all) /* closing meets it as well */
		memfs_fault(&(struct fault){.error = fault.error, .all = true});
	r |= closed(t);
	memfs_fault(NULL);
	t->fs->logging = false;
	if (r == 0)
		r = power_cut(t);
	memfs_use(t->fs);
	if (r == 0)
		r = opened_again(t);
	free(t->after.e);
	t->after.e = NULL;
	return r;
}

/* One play with one fault.  False: the fault was never met. */
static bool try_one(struct trial *t)
{
	struct fault f = t->mode->fault;
	bool met;

	t->fs = memfs_new();
	t->fs->logging = true;
	if (open_store(t->fs, &t->p->store) < 0)
		abort();
	t->p->log_length = log_length;
	t->p->log_arg = t->fs;
	t->p->quiet_errors = true;
	f.at = t->at;
	memfs_fault(&f);
	(void)play_run(t->p);
	met = memfs_fault_hits() > 0;
	t->call = memfs_fault_call();
	if (met) {
		trials++;
		(void)judge(t);
	} else {
		memfs_fault(NULL);
		play_close_files(t->p);
		store_close(t->p->store);
	}
	memfs_use(NULL);
	memfs_free(t->fs);
	play_reset(t->p);
	return met;
}

static void play_shadow(struct play *p)
{
	struct memfs *m = memfs_new();

	if (open_store(m, &p->store) < 0 || play_run(p) < 0)
		abort();
	play_close_files(p);
	store_close(p->store);
	memfs_use(NULL);
	memfs_free(m);
}

static int run_case(const char *name)
{
	struct play p = {0}, shadow = {0};
	unsigned long before = failures;
	size_t m;
	int r;

	r = cases_load(name, RANDOM_LINES, &p);
	if (r == 0)
		r = cases_load(name, RANDOM_LINES, &shadow);
	if (r < 0)
		return r;
	play_shadow(&shadow);
	for (m = 0; m < ARRAY_SIZE(modes); m++) {
		struct trial t = {.p = &p, .shadow = &shadow, .mode = &modes[m]};

		if (only_mode && strcmp(only_mode, modes[m].name) != 0)
			continue;
		t.at = only_mode ? only_at : (unsigned)(seed % step);
		while (try_one(&t) && !only_mode && failures < before + 3)
			t.at += step;
	}
	play_free(&p);
	play_free(&shadow);
	return 0;
}

static void parse(int argc, char **argv)
{
	static const struct option longs[] = {
		{"step", 1, NULL, 'n'}, {"seed", 1, NULL, 'S'}, {"only", 1, NULL, 'o'}, {0}};
	char *comma;
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (o == 'n' && strtoul(optarg, NULL, 10) > 0)
			step = (unsigned)strtoul(optarg, NULL, 10);
		else if (o == 'S')
			seed = strtoull(optarg, NULL, 0);
		else if (o == 'o' && (comma = strchr(optarg, ','))) {
			*comma = 0;
			only_mode = optarg;
			only_at = (unsigned)strtoul(comma + 1, NULL, 10);
		} else {
			fprintf(stderr,
				"faults [--step N] [--seed S] [--only ERROR,N] CASE|FOLDER|random:SEED...\n");
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	int r;

	parse(argc, argv);
	if (secret_init(16 << 20) < 0 || keytree_new(&tree) < 0)
		return 1;
	r = cases_each(argv + optind, (size_t)(argc - optind), run_case);
	keytree_free(tree);
	printf("%lu failing calls, %lu of them went wrong\n", trials, failures);
	return r < 0 || failures > 0;
}
