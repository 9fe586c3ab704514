/* The walk for the sake of keys: classes of trees, survivors and stragglers of a prefix, leaves of what is erased. */
#include "survey_fixture.h"

/* a/one a/link a/sub/two a/empty, hard/one (the same as a/one), other */
static struct store_dir *make_tree(struct fixture *x)
{
	struct store_dir *a = fixture_make_dir(x->root, "a"), *sub = fixture_make_dir(a, "sub"), *hard = fixture_make_dir(x->root, "hard");
	struct stat st;
	struct file *f;

	fixture_write_text(a, "one", "1");
	fixture_write_text(sub, "two", "22");
	fixture_write_text(x->root, "other", "333");
	assert_int_equal(store_symlink(a, "link", "one", &st), 0);
	assert_int_equal(file_create(a, "empty", 0644, &f, &st), 0);
	file_close(f);
	assert_int_equal(store_link(a, "one", hard, "one"), 0);
	store_dir_unref(sub);
	store_dir_unref(hard);
	return a;
}

static void test_look(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_LOOK}};
	struct store_dir *a = make_tree(x);

	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.directories, 4);
	assert_int_equal(r.n.files, 5);
	assert_int_equal(r.n.links, 1);
	assert_int_equal(r.n.empty, 1);
	assert_int_equal(r.n.classes_n, 1);
	assert_int_equal(r.n.classes[0].class, CLASS_FIRST_POLICY);
	assert_int_equal(r.n.classes[0].files, 4);
	assert_false(r.n.moved);
	r.opt.only = "a/sub";
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.files, 1);
	r.opt.only = "a/none";
	assert_int_equal(run(x, &r), -ENOENT);
	r.opt.only = "a/one/none";
	assert_int_equal(run(x, &r), -ENOENT);
	store_dir_unref(a);
}

static void test_class(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_CLASS, .class = MAIL, .only = "a"}};
	struct store_dir *a = make_tree(x), *sub, *b;
	uint64_t one = leaf_number(a, "one"), other = leaf_number(x->root, "other"), link = link_number(a, "link");
	uint16_t class, day;
	bool labelled;

	assert_int_equal(store_dir_open(a, "sub", &sub), 0);
	assert_int_equal(store_dir_set_class(sub, MAIL + 1), 0);
	store_set_today(x->store, TODAY + 7);
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.rewrapped, 3);
	assert_int_equal(r.n.failed, 0);
	assert_int_equal(r.out_n, 0);
	assert_int_equal(r.left_n, 3);
	assert_true(left(&r, one) && left(&r, link) && !left(&r, other));
	for (size_t i = 0; i < r.left_n; i++)
		assert_int_equal(keytree_puncture(x->tree, r.left[i], 64), 0);
	/* Also for whoever opens it all anew. */
	store_dir_unref(a);
	store_dir_unref(sub);
	fixture_reopen(x);
	assert_int_equal(store_dir_open(x->root, "a", &a), 0);
	assert_int_equal(store_dir_open(a, "sub", &sub), 0);
	assert_int_equal(store_dir_class(sub, &labelled), MAIL);
	assert_false(labelled);
	assert_int_equal(fixture_origin(sub, "two", &class, &day).day, TODAY);
	assert_int_equal(class, MAIL);
	assert_int_equal(day, TODAY);
	assert_int_equal(fixture_origin(a, "one", &class, &day).class, MAIL);
	assert_int_equal(link_number(a, "link") >> 48, MAIL);
	assert_int_equal(leaf_number(x->root, "other"), other);
	/* Again: nothing is left to be done. */
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.rewrapped, 0);
	assert_int_equal(r.left_n, 0);
	/* An empty file alone. */
	r.opt.only = "a/empty";
	r.opt.class = MAIL + 1;
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(fixture_origin(a, "empty", &class, &day).class, MAIL + 1);
	b = fixture_make_dir(a, "b");
	fixture_write_text(b, "new", "new");
	assert_int_equal(fixture_origin(b, "new", &class, &day).class, MAIL);
	store_dir_unref(b);
	store_dir_unref(a);
	store_dir_unref(sub);
}

/* What could not be noted moves nowhere. */
static void test_class_refused(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_CLASS, .class = MAIL}, .refuse = -ENOSPC};
	struct store_dir *a = make_tree(x);
	uint64_t one = leaf_number(a, "one");

	assert_int_equal(run(x, &r), -ENOSPC);
	assert_int_equal(leaf_number(a, "one"), one);
	store_dir_unref(a);
}

static int set_modified(struct store_dir *d, const char *name, time_t t)
{
	const struct timespec ts[2] = {{.tv_sec = t}, {.tv_sec = t}};

	return store_utimens(d, name, ts);
}

#define OLD (TODAY - 100)

static void move_of(struct run *r)
{
	*r = (struct run){.opt = {.mode = SURVEY_MOVE, .class = CLASS_FIRST_POLICY, .before = TODAY - 50,
				  .modified_since = 1000000}};
}

static void test_move(void **state)
{
	struct fixture *x = *state;
	static char held[] = "a/sub", gone[] = "none/there";
	static char *const keep[] = {held, gone};
	scoped(run_done) struct run r;
	struct store_dir *a, *sub;
	uint64_t one, link, replaced;
	uint16_t class, day;
	struct file *f;

	move_of(&r);
	store_set_today(x->store, OLD);
	a = make_tree(x);
	assert_int_equal(store_dir_open(a, "sub", &sub), 0);
	fixture_write_text(x->root, "document", "old");
	assert_int_equal(set_modified(a, "one", 5), 0);
	assert_int_equal(set_modified(a, "link", 5), 0);
	assert_int_equal(set_modified(sub, "two", 5), 0);
	assert_int_equal(set_modified(x->root, "other", 1000000), 0);
	store_set_today(x->store, TODAY);
	fixture_write_text(x->root, "document.new", "new");
	assert_int_equal(store_rename(x->root, "document.new", x->root, "document", 0), 0);
	assert_int_equal(set_modified(x->root, "document", 5), 0);
	fixture_write_text(x->root, "young", "young");
	one = leaf_number(a, "one");
	link = link_number(a, "link");
	replaced = leaf_number(x->root, "document");
	assert_int_equal(replaced >> 32 & 0xffff, TODAY);
	r.opt.keep = keep;
	r.opt.keep_n = 2;
	r.opt.keep_class = HOLD;
	assert_int_equal(run(x, &r), 0);
	/* Held, and modified later, survive; the replacement of an old document is a straggler. */
	assert_int_equal(r.n.rewrapped, 2);
	assert_int_equal(r.left_n, 2); /* which were told of before */
	assert_int_equal(r.left[0] >> 32 & 0xffff, OLD);
	assert_int_equal(r.n.dying, 3); /* "one" under both names, the link */
	assert_int_equal(r.out_n, 1);
	assert_int_equal(r.out[0], replaced);
	assert_int_equal(fixture_origin(sub, "two", &class, &day).class, HOLD);
	assert_int_equal(class, CLASS_FIRST_POLICY);
	assert_int_equal(day, OLD);
	assert_int_equal(fixture_origin(x->root, "other", &class, &day).day, TODAY);
	assert_int_equal(day, OLD);
	assert_int_equal(leaf_number(a, "one"), one);
	assert_int_equal(link_number(a, "link"), link);
	/* Again: they are where they should be. */
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.rewrapped, 0);
	for (unsigned d = 0; d < TODAY - 50; d++)
		assert_int_equal(keytree_puncture(x->tree, (uint64_t)CLASS_FIRST_POLICY << 48 | (uint64_t)d << 32, 32), 0);
	assert_int_equal(keytree_puncture(x->tree, replaced, 64), 0);
	assert_int_equal(file_open(a, "one", &f), -ENOKEY);
	assert_int_equal(file_open(x->root, "document", &f), -ENOKEY);
	assert_int_equal(file_open(sub, "two", &f), 0);
	file_close(f);
	assert_int_equal(file_open(x->root, "other", &f), 0);
	file_close(f);
	assert_int_equal(file_open(x->root, "young", &f), 0);
	file_close(f);
	store_dir_unref(a);
	store_dir_unref(sub);
}

/* Midnight: who destroys knows the new day, the store not yet.  Nothing may move into what is to die; and nothing moves
 * of whose old leaf nobody knows. */
static void test_move_never_into_the_prefix(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r;
	uint16_t class, day;

	move_of(&r);
	r.opt.before = TODAY + 1;
	fixture_write_text(x->root, "f", "1");
	assert_int_equal(store_symlink(x->root, "l", "f", &(struct stat){0}), 0);
	assert_int_equal(set_modified(x->root, "f", 2000000), 0);
	r.refuse = -ENOSPC;
	assert_int_equal(run(x, &r), -ENOSPC);
	assert_int_equal(fixture_origin(x->root, "f", &class, &day).day, TODAY);
	r.refuse = 0;
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.failed, 0);
	assert_int_equal(fixture_origin(x->root, "f", &class, &day).day, TODAY + 1);
	assert_int_equal(day, TODAY);
	assert_int_equal(link_number(x->root, "l") >> 32 & 0xffff, TODAY + 1);
}

static void test_move_keeps_ids(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r;
	struct file_id id;
	struct file *f;

	move_of(&r);
	store_set_today(x->store, OLD);
	fixture_write_text(x->root, "f", "1");
	assert_int_equal(set_modified(x->root, "f", 5), 0);
	assert_int_equal(file_open(x->root, "f", &f), 0);
	file_id(f, &id);
	file_close(f);
	store_set_today(x->store, TODAY);
	r.opt.keep_ids = &id;
	r.opt.keep_ids_n = 1;
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.rewrapped, 1);
	assert_int_equal(leaf_number(x->root, "f") >> 32 & 0xffff, TODAY);
}

static void test_erase(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .only = "a"}};
	struct store_dir *a = make_tree(x), *sub, *hard;
	struct file *f;

	assert_int_equal(store_dir_open(a, "sub", &sub), 0);
	assert_int_equal(run(x, &r), 0);
	/* Two directories, two files, a symlink; "empty" has no key. */
	assert_int_equal(r.out_n, 5);
	assert_int_equal(r.n.empty, 1);
	assert_int_equal(r.n.other_names, 1);
	assert_int_equal(r.n.rewrapped, 0);
	assert_true(has(&r, leaf_index_u64(a->id.leaf)) && has(&r, leaf_index_u64(sub->id.leaf)));
	assert_true(has(&r, leaf_number(a, "one")) && has(&r, leaf_number(sub, "two")) && has(&r, link_number(a, "link")));
	assert_true(strlen(r.store) > 30 && !strchr(r.store, '/'));
	store_dir_unref(sub);
	store_dir_unref(a);
	for (size_t i = 0; i < r.out_n; i++)
		assert_int_equal(keytree_puncture(x->tree, r.out[i], 64), 0);
	assert_int_equal(store_dir_open(x->root, "a", &a), -ENOKEY);
	assert_int_equal(store_dir_open(x->root, "hard", &hard), 0);
	assert_int_equal(file_open(hard, "one", &f), -ENOKEY);
	store_dir_unref(hard);
	assert_int_equal(file_open(x->root, "other", &f), 0);
	file_close(f);
	/* One file, by one of its names. */
	assert_int_equal(store_link(x->root, "other", x->root, "another"), 0);
	r.opt.only = "other";
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 1);
	assert_int_equal(r.n.other_names, 1);
}

/* Two loads of the tree that drew the same numbers: only one of the files may die. */
static void test_erase_shared_leaf(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .only = "one"}};
	struct file *f;

	x->store->numbers.next = 5;
	fixture_write_text(x->root, "one", "1");
	x->store->numbers.next = 5;
	fixture_write_text(x->root, "two", "2");
	assert_int_equal(leaf_number(x->root, "one"), leaf_number(x->root, "two"));
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.n.rewrapped, 1);
	assert_int_equal(r.out_n, 1);
	assert_int_equal(r.n.other_names, 0);
	assert_int_equal(keytree_puncture(x->tree, r.out[0], 64), 0);
	assert_int_equal(file_open(x->root, "one", &f), -ENOKEY);
	assert_int_equal(file_open(x->root, "two", &f), 0);
	file_close(f);
}

static void test_check(void **state)
{
	struct fixture *x = *state;
	struct store_dir *a = make_tree(x);
	uint64_t leaves[] = {UINT64_MAX, leaf_number(a, "one"), 7, leaf_index_u64(a->id.leaf)};
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_CHECK, .leaves = leaves, .leaves_n = 4}};

	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 3); /* a file under two names, a directory */
	assert_false(has(&r, 7) || has(&r, UINT64_MAX));
	store_dir_unref(a);
}

/* The text of a symlink names its leaf in clear: what somebody wrote there himself counts for nothing, neither as
 * something to be destroyed (a month of the record's paths, say) nor as something that still needs a leaf. */
static void test_forged_link(void **state)
{
	struct fixture *x = *state;
	const uint64_t audit = (uint64_t)1 << 48 | (uint64_t)TODAY << 32;
	uint64_t leaves[] = {audit};
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .only = "a"}};
	scoped(run_done) struct run check = {.opt = {.mode = SURVEY_CHECK, .leaves = leaves, .leaves_n = 1}};
	struct store_dir *a = fixture_make_dir(x->root, "a");
	uint8_t raw[64] = {0};
	char text[128];

	fixture_write_text(a, "one", "1");
	memcpy(raw, &audit, sizeof(audit)); /* little-endian, as on disk */
	sodium_bin2base64(text, sizeof(text), raw, sizeof(raw), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	assert_int_equal(symlinkat(text, a->fd, "forged"), 0);
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 2); /* the directory and its file */
	assert_false(has(&r, audit));
	assert_int_equal(r.n.damaged, 1);
	assert_int_equal(run(x, &check), 0);
	assert_int_equal(check.out_n, 0);
	store_dir_unref(a);
}

/* Somebody with the disk copies a file's ciphertext into what is to be erased, or over what is there: it is no second name
 * of that file, which stays. */
static void test_copied_into_what_is_erased(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .only = "a"}};
	struct store_dir *a;
	char entry[256], victim[256];
	uint64_t other;
	struct file *f;

	fixture_write_text(x->root, "other", "333");
	fixture_entry(x->fd, 0, victim);
	a = fixture_make_dir(x->root, "a");
	fixture_write_text(a, "one", "1");
	fixture_entry(a->fd, 0, entry);
	other = leaf_number(x->root, "other");
	for (int over = 0; over < 2; over++) {
		copy_entry(x->fd, victim, a->fd, over ? entry : "made-up");
		assert_int_equal(run(x, &r), 0);
		assert_false(has(&r, other));
		assert_int_equal(r.out_n, over ? 1 : 2);
		assert_int_equal(r.n.damaged, over + 1);
	}
	assert_int_equal(file_open(x->root, "other", &f), 0);
	file_close(f);
	store_dir_unref(a);
}

/* A header that somebody altered tells no leaf: nothing of another file is handed out for it. */
static void test_erase_altered(void **state)
{
	struct fixture *x = *state;
	scoped(run_done) struct run r = {.opt = {.mode = SURVEY_ERASE, .only = "one"}};
	char entry[256];
	uint64_t number;
	int fd;

	fixture_write_text(x->root, "one", "1");
	fixture_entry(x->fd, 0, entry);
	fixture_write_text(x->root, "two", "2");
	number = leaf_number(x->root, "two");
	fd = openat(x->fd, entry, O_WRONLY);
	assert_int_equal(pwrite(fd, &number, 8, 32), 8);
	close(fd);
	assert_int_equal(run(x, &r), 0);
	assert_int_equal(r.out_n, 0);
	assert_int_equal(r.n.damaged, 1);
}

struct rename_while {
	struct fixture *x;
	bool done;
};

static bool rename_once(const struct survey_counts *c, void *arg)
{
	struct rename_while *w = arg;

	if (!w->done)
		assert_int_equal(store_rename(w->x->root, "other", w->x->root, "moved", 0), 0);
	w->done = true;
	return true;
}

static void test_moved_is_told(void **state)
{
	struct fixture *x = *state;
	struct rename_while w = {.x = x};
	struct survey_counts n = {0};
	const struct survey_options o = {.mode = SURVEY_LOOK, .names = &names, .step = rename_once, .hand_out = take, .arg = &w};
	struct store_dir *a = make_tree(x);

	assert_int_equal(store_survey(x->store, &o, &n, NULL), 0);
	assert_true(n.moved);
	store_dir_unref(a);
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_look), T(test_class), T(test_class_refused), T(test_move), T(test_move_never_into_the_prefix), T(test_move_keeps_ids), T(test_erase),
		T(test_erase_shared_leaf), T(test_check), T(test_forged_link), T(test_copied_into_what_is_erased), T(test_erase_altered), T(test_moved_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
