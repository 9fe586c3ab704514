/* Surveys for one person: what is about him is found, and what is about him alone can be erased. */
#include "survey_fixture.h"

#define JANE "jane"

static void label_dir(struct store_dir *d, const char *id)
{
	assert_int_equal(store_dir_subject_set(d, id, strlen(id), false), 1);
}

static void label_file(struct store_dir *d, const char *name, const char *id)
{
	struct file *f;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_subject_set(f, id, strlen(id), false), 1);
	file_close(f);
}

static int note_found(const struct survey_found *f, void *arg)
{
	struct run *r = arg;
	size_t n = strlen(r->found);

	snprintf(r->found + n, sizeof(r->found) - n, "%s%s%s", f->path, f->shared ? "*" : "", f->own ? "+ " : " ");
	return 0;
}

/* What is told, in any order: " path* path+ ". */
static void expect_found(struct fixture *x, const char *id, const char *const *wanted)
{
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_SUBJECT, .subject = id, .found = note_found}};
	size_t n = 1;

	r.found[0] = ' ';
	assert_int_equal(run(x, &r), 0);
	for (; *wanted; wanted++) {
		char one[128];

		snprintf(one, sizeof(one), " %s ", *wanted);
		if (!strstr(r.found, one))
			fail_msg("%s is not in %s", one, r.found);
		n += strlen(one) - 1;
	}
	assert_int_equal(strlen(r.found), n);
}

/* a/{one, two, sub/{three, link}}, b/four, five; a is jane's, five hers and john's. */
static struct store_dir *make_people(struct fixture *x)
{
	struct store_dir *a = fixture_make_dir(x->root, "a"), *sub, *b = fixture_make_dir(x->root, "b");
	struct stat st;

	label_dir(a, JANE);
	fixture_write_text(a, "one", "1");
	fixture_write_text(a, "two", "2");
	sub = fixture_make_dir(a, "sub");
	fixture_write_text(sub, "three", "3");
	assert_int_equal(store_symlink(sub, "link", "three", &st), 0);
	fixture_write_text(b, "four", "4");
	fixture_write_text(x->root, "five", "5");
	label_file(x->root, "five", JANE);
	label_file(x->root, "five", "john");
	store_dir_unref(sub);
	store_dir_unref(b);
	return a;
}

static void test_subject_find(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a = make_people(x), *b;

	expect_found(x, JANE, (const char *[]){"a+", "a/one", "a/two", "a/sub/three", "a/sub/link", "five*+", NULL});
	expect_found(x, "john", (const char *[]){"five*+", NULL});
	expect_found(x, "jan", (const char *[]){NULL});
	/* Another name makes it hers everywhere, and john's where his is. */
	assert_int_equal(store_dir_open(x->root, "b", &b), 0);
	assert_int_equal(store_link(b, "four", a, "four"), 0);
	label_dir(b, "john");
	expect_found(x, JANE, (const char *[]){"a+", "a/one", "a/two", "a/sub/three", "a/sub/link", "five*+", "a/four*", "b/four*", NULL});
	store_dir_unref(a);
	store_dir_unref(b);
}

static void test_subject_erase(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .subject = JANE}};
	struct store_dir *a = make_people(x), *sub;
	const uint64_t line = 1;
	struct file *f;

	assert_int_equal(store_dir_open(a, "sub", &sub), 0);
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 6); /* a, one, two, sub, three, link */
	assert_int_equal(r.n.shared, 1);
	assert_int_equal(r.n.about, 4);
	assert_int_equal(r.n.rewrapped, 0);
	assert_true(has(&r, leaf_index_u64(a->id.leaf)) && has(&r, link_number(sub, "link")));
	/* One that is on hold keeps the names of the directories above it. */
	assert_int_equal(file_open(sub, "three", &f), 0);
	r.opt.keep_lines = (const uint64_t[]){header_line(&f->h)};
	r.opt.keep_lines_n = 1;
	file_close(f);
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 3); /* one, two, link */
	assert_int_equal(r.n.held, 1);
	assert_false(has(&r, leaf_index_u64(a->id.leaf)) || has(&r, leaf_index_u64(sub->id.leaf)));
	r.opt.keep_lines = &line;
	/* So does one that is about another as well, and then it may go, too. */
	label_file(a, "two", "john");
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 4); /* one, sub, three, link */
	assert_int_equal(r.n.shared, 2);
	r.opt.shared = true;
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 7);
	for (size_t i = 0; i < r.out_n; i++)
		assert_int_equal(keytree_puncture(x->tree, r.out[i], 64), 0);
	assert_int_equal(file_open(x->root, "five", &f), -ENOKEY);
	store_dir_unref(sub);
	store_dir_unref(a);
	assert_int_equal(store_dir_open(x->root, "a", &a), -ENOKEY);
	assert_int_equal(store_dir_open(x->root, "b", &a), 0);
	assert_int_equal(file_open(a, "four", &f), 0);
	file_close(f);
	store_dir_unref(a);
}

/* The root of the share may be labelled; its names are never destroyed. */
static void test_subject_erase_root(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .subject = JANE}};

	fixture_write_text(x->root, "one", "1");
	label_dir(x->root, JANE);
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 1);
	assert_false(has(&r, leaf_index_u64(x->root->id.leaf)));
}

/* Who shares its leaf with what goes (two loads of the tree) moves away from it; a symlink of hers does not. */
static void test_subject_erase_shared_leaf(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .subject = JANE}};
	struct store_dir *a = fixture_make_dir(x->root, "a");
	struct stat st;
	struct file *f;

	label_dir(a, JANE);
	x->store->numbers.next = 5;
	fixture_write_text(a, "one", "1");
	assert_int_equal(store_symlink(a, "link", "one", &st), 0);
	x->store->numbers.next = 5;
	fixture_write_text(x->root, "two", "2");
	assert_int_equal(store_symlink(x->root, "link", "two", &st), 0);
	assert_int_equal(leaf_number(a, "one"), leaf_number(x->root, "two"));
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.rewrapped, 2);
	assert_int_equal(r.out_n, 3);
	for (size_t i = 0; i < r.out_n; i++)
		assert_int_equal(keytree_puncture(x->tree, r.out[i], 64), 0);
	assert_int_equal(file_open(x->root, "two", &f), 0);
	file_close(f);
	{
		char target[64];

		assert_int_equal(store_readlink(x->root, "link", target, sizeof(target)), 0);
		assert_string_equal(target, "two");
	}
	store_dir_unref(a);
}

/* Somebody with the disk gives another's file a name in her directory: by a link, or as a copy.  It does not become hers. */
static void test_subject_planted(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .subject = JANE}};
	struct store_dir *a;
	char victim[256];
	uint64_t other;

	fixture_write_text(x->root, "other", "333");
	fixture_entry(x->fd, 0, victim);
	other = leaf_number(x->root, "other");
	a = fixture_make_dir(x->root, "a");
	label_dir(a, JANE);
	fixture_write_text(a, "one", "1");
	for (int linked = 0; linked < 2; linked++) {
		if (linked)
			assert_int_equal(linkat(x->fd, victim, a->fd, "planted", 0), 0);
		else
			copy_entry(x->fd, victim, a->fd, "copied");
		assert_int_equal(run(x, &r), 0);
		assert_false(has(&r, other));
		assert_int_equal(r.out_n, 1); /* "one"; its directory stays, since something in it is not what it should be */
	}
	store_dir_unref(a);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_subject_find),
		T(test_subject_erase),
		T(test_subject_erase_root),
		T(test_subject_erase_shared_leaf),
		T(test_subject_planted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
