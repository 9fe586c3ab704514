/* Surveys of a store, and what they hand out, for the tests of them. */
#ifndef COFFER_SURVEY_FIXTURE_H
#define COFFER_SURVEY_FIXTURE_H

#include "tests/unit/store_fixture.h"

#include "fs/store/file_impl.h"
#include "fs/store/survey.h"

#define MAIL 17
#define HOLD 30
#define OUT_MAX 10000

struct run {
	struct survey_options opt;
	struct survey_counts n;
	uint64_t out[OUT_MAX], left[OUT_MAX];
	size_t out_n, left_n;
	int refuse;	/* what leaving answers */
	char found[2000];
	char *store;
};

static pthread_rwlock_t names = PTHREAD_RWLOCK_INITIALIZER;

static inline int take(const uint64_t *leaves, size_t n, void *arg)
{
	struct run *r = arg;

	for (size_t i = 0; i < n && r->out_n < OUT_MAX; i++)
		r->out[r->out_n++] = leaves[i];
	return 0;
}

static inline int leave(const uint64_t *leaves, size_t n, void *arg)
{
	struct run *r = arg;

	for (size_t i = 0; i < n && r->left_n < OUT_MAX; i++)
		r->left[r->left_n++] = leaves[i];
	return r->refuse;
}

static inline bool go_on(const struct survey_counts *c, void *arg)
{
	return true;
}

static inline int run(struct fixture *x, struct run *r)
{
	r->opt.names = &names;
	r->opt.by_name = true;
	r->opt.hand_out = take;
	r->opt.leaving = leave;
	r->opt.step = go_on;
	r->opt.arg = r;
	memset(&r->n, 0, sizeof(r->n));
	r->out_n = r->left_n = 0;
	free(r->store);
	r->store = NULL;
	return store_survey(x->store, &r->opt, &r->n, &r->store);
}

static inline void run_done(struct run *r)
{
	free(r->store);
}

static inline bool has(const struct run *r, uint64_t leaf)
{
	for (size_t i = 0; i < r->out_n; i++)
		if (r->out[i] == leaf)
			return true;
	return false;
}

static inline bool left(const struct run *r, uint64_t leaf)
{
	for (size_t i = 0; i < r->left_n; i++)
		if (r->left[i] == leaf)
			return true;
	return false;
}

static inline uint64_t leaf_number(struct store_dir *d, const char *name)
{
	uint16_t class, day;

	return leaf_index_u64(fixture_origin(d, name, &class, &day));
}

static inline uint64_t link_number(struct store_dir *d, const char *name)
{
	struct leaf_index leaf;
	struct name_entry n;

	assert_int_equal(name_seal(&d->keys->name, name, &n), 0);
	assert_int_equal(link_leaf(d, n.entry, &leaf), 0);
	return leaf_index_u64(leaf);
}

static inline void copy_entry(int from, const char *entry, int to, const char *as)
{
	int in = openat(from, entry, O_RDONLY), out = openat(to, as, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	char list[512], value[256], buf[8192];
	ssize_t n, k;

	assert_true(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		assert_int_equal(write(out, buf, (size_t)n), n);
	n = flistxattr(in, list, sizeof(list));
	for (char *p = list; n > 0 && p < list + n; p += strlen(p) + 1) {
		k = fgetxattr(in, p, value, sizeof(value));
		if (k > 0)
			assert_int_equal(fsetxattr(out, p, value, (size_t)k, 0), 0);
	}
	close(in);
	close(out);
}

#endif
