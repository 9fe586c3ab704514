/* store_check on a fixture's store, and what it found. */
#ifndef COFFER_CHECK_FIXTURE_H
#define COFFER_CHECK_FIXTURE_H

#include "store_fixture.h"

#include <time.h>

#include "fs/store/check.h"
#include "fs/store/file_impl.h"

#define FOUND_MAX 64

struct found {
	struct check_options opt;
	struct check_counts counts;
	struct {
		char what[16], done[16], path[512], detail[160];
		bool damage;
		struct check_finding f;
	} at[FOUND_MAX];
	unsigned n;
	unsigned limit, steps;	/* 0: no limit */
	char finished[1024];
	int result;
	void (*meanwhile)(struct fixture *f);	/* once, when the first sectors have been looked at */
	struct fixture *disk;
};

static inline void found_take(const struct check_finding *f, void *arg)
{
	struct found *x = arg;

	assert_true(x->n < FOUND_MAX);
	assert_non_null(f->store);
	snprintf(x->at[x->n].what, 16, "%s", f->what);
	snprintf(x->at[x->n].done, 16, "%s", f->done);
	snprintf(x->at[x->n].path, 512, "%s", f->path ? f->path : "?");
	snprintf(x->at[x->n].detail, 160, "%s", f->detail);
	x->at[x->n].damage = f->damage;
	x->at[x->n++].f = *f;
}

static inline bool found_step(const struct check_counts *c, const char *finished, void *arg)
{
	struct found *x = arg;

	if (x->meanwhile && c->bytes > 0) {
		x->meanwhile(x->disk);
		x->meanwhile = NULL;
	}
	if (finished)
		snprintf(x->finished, sizeof(x->finished), "%s", finished);
	return x->limit == 0 || ++x->steps < x->limit;
}

/* With x->opt as the caller set it. */
static inline void check_run(struct fixture *f, struct found *x)
{
	static pthread_rwlock_t names = PTHREAD_RWLOCK_INITIALIZER;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	x->n = x->steps = 0;
	x->counts = (struct check_counts){0};
	x->disk = f;
	x->opt.names = &names;
	x->opt.today = "2026-11-23";
	x->opt.found = found_take;
	x->opt.step = found_step;
	x->opt.arg = x;
	if (!x->opt.recorded_at)
		x->opt.recorded_at = now.tv_sec * 1000000000ll + now.tv_nsec + 1000000000ll;
	x->result = store_check(f->store, &x->opt, &x->counts);
}

/* The one finding there is. */
static inline void check_expect(struct found *x, const char *what, const char *path, const char *done)
{
	if (x->n != 1)
		for (unsigned i = 0; i < x->n; i++)
			print_message("found %s %s %s\n", x->at[i].what, x->at[i].path, x->at[i].done);
	assert_int_equal(x->result, 0);
	assert_int_equal(x->n, 1);
	assert_string_equal(x->at[0].what, what);
	assert_string_equal(x->at[0].path, path);
	assert_string_equal(x->at[0].done, done);
}

static inline void check_expect_clean(struct found *x)
{
	if (x->n)
		print_message("found %s %s %s\n", x->at[0].what, x->at[0].path, x->at[0].detail);
	assert_int_equal(x->result, 0);
	assert_int_equal(x->n, 0);
}

#endif
