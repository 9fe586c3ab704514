/* What no key opens goes, what opens stays. */
#include "tests/unit/store_fixture.h"

#include <pthread.h>
#include <time.h>

#include "fs/store/file_impl.h"
#include "fs/store/sweep.h"

struct swept {
	struct sweep_counts n;
	uint64_t stop_after;
};

static bool go_on(const struct sweep_counts *c, void *arg)
{
	const struct swept *s = arg;

	return s->stop_after == 0 || c->looked < s->stop_after;
}

static int sweep(struct fixture *x, struct swept *s, struct keytree *tree)
{
	const struct sweep_options o = {.tree = tree, .step = go_on, .arg = s};

	memset(&s->n, 0, sizeof(s->n));
	return store_sweep(x->fd, &o, &s->n);
}

static struct leaf_index leaf_of(struct store_dir *d, const char *name)
{
	struct leaf_index leaf;
	uint16_t class, day;
	struct name_entry n;
	struct file *f;

	if (file_open(d, name, &f) == 0) {
		file_origin(f, &leaf, &class, &day);
		file_close(f);
	} else {
		assert_int_equal(name_seal(&d->keys->name, name, &n), 0);
		assert_int_equal(link_leaf(d, n.entry, &leaf), 0);
	}
	return leaf;
}

static unsigned entries(int dirfd)
{
	DIR *d = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY));
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static char long_name[201], long_target[2001];

/* dead: one, long name, link, long link, dir/{inside, sub/deep}; alive: two, live/kept, empty */
static void make_tree(struct fixture *x)
{
	struct store_dir *d = fixture_make_dir(x->root, "dir"), *sub = fixture_make_dir(d, "sub"), *live = fixture_make_dir(x->root, "live");
	struct stat st;
	struct file *f;

	memset(long_name, 'n', 200);
	memset(long_target, 't', 2000);
	fixture_write_text(x->root, "one", "1");
	fixture_write_text(x->root, long_name, "1");
	fixture_write_text(x->root, "two", "2");
	assert_int_equal(store_symlink(x->root, "link", "target", &st), 0);
	assert_int_equal(store_symlink(x->root, "longlink", long_target, &st), 0);
	fixture_write_text(d, "inside", "3");
	fixture_write_text(sub, "deep", "4");
	assert_int_equal(file_create(sub, "nothing", 0644, &f, &st), 0);
	file_close(f);
	assert_int_equal(store_mknod(sub, "fifo", S_IFIFO | 0600, 0, &st), 0);
	fixture_write_text(live, "kept", "5");
	assert_int_equal(file_create(x->root, "empty", 0644, &f, &st), 0);
	file_close(f);
	fixture_puncture(x, leaf_of(x->root, "one"));
	fixture_puncture(x, leaf_of(x->root, long_name));
	fixture_puncture(x, leaf_of(x->root, "link"));
	fixture_puncture(x, leaf_of(x->root, "longlink"));
	fixture_puncture(x, leaf_of(d, "inside"));
	fixture_puncture(x, leaf_of(sub, "deep"));
	fixture_puncture(x, sub->id.leaf);
	fixture_puncture(x, d->id.leaf);
	store_dir_unref(d);
	store_dir_unref(sub);
	store_dir_unref(live);
}

static void expect_rest(struct fixture *x)
{
	struct store_dir *live;
	struct stat st;
	struct file *f;

	fixture_reopen(x);
	assert_int_equal(store_lookup(x->root, "one", &st), -ENOENT);
	assert_int_equal(store_lookup(x->root, "dir", &st), -ENOENT);
	assert_int_equal(file_open(x->root, "two", &f), 0);
	file_close(f);
	assert_int_equal(store_lookup(x->root, "empty", &st), 0);
	assert_int_equal(store_dir_open(x->root, "live", &live), 0);
	assert_int_equal(file_open(live, "kept", &f), 0);
	file_close(f);
	store_dir_unref(live);
	assert_int_equal(entries(x->fd), 4); /* two, empty, live, .id: no side entries */
}

static void test_dead_goes_live_stays(void **state)
{
	struct fixture *x = *state;
	struct swept s = {0};

	make_tree(x);
	assert_int_equal(sweep(x, &s, x->tree), 0);
	assert_int_equal(s.n.files, 5);
	assert_int_equal(s.n.links, 2);
	assert_int_equal(s.n.directories, 2);
	assert_int_equal(s.n.others, 1);
	assert_int_equal(s.n.kept + s.n.failed, 0);
	expect_rest(x);
	assert_int_equal(sweep(x, &s, x->tree), 0);
	assert_int_equal(s.n.files + s.n.links + s.n.directories, 0);
}

/* Broken off after each entry, and begun again. */
static void test_resumed(void **state)
{
	struct fixture *x = *state;
	struct swept s = {.stop_after = 1};
	int r;

	make_tree(x);
	do {
		r = sweep(x, &s, x->tree);
		s.stop_after++;
	} while (r == -ECANCELED);
	assert_int_equal(r, 0);
	assert_true(s.stop_after > 3);
	expect_rest(x);
}

/* A living file in a dead directory (moved there behind our back): neither goes. */
static void test_living_in_dead(void **state)
{
	struct fixture *x = *state;
	struct store_dir *d = fixture_make_dir(x->root, "dir");
	struct swept s = {0};
	char entry[256];

	fixture_write_text(d, "living", "1");
	fixture_write_text(d, "dying", "2");
	fixture_puncture(x, leaf_of(d, "dying"));
	fixture_puncture(x, d->id.leaf);
	store_dir_unref(d);
	assert_int_equal(sweep(x, &s, x->tree), 0);
	assert_int_equal(s.n.files, 1);
	assert_int_equal(s.n.kept, 1);
	assert_int_equal(s.n.directories, 0);
	fixture_entry(x->fd, 0, entry);
	assert_true(entry[0] != 0);
}

/* What is no header tells no key. */
static void test_unknown_stays(void **state)
{
	struct fixture *x = *state;
	struct swept s = {0};
	char entry[256];
	int fd;

	fixture_write_text(x->root, "one", "1");
	fixture_entry(x->fd, 0, entry);
	fd = openat(x->fd, entry, O_WRONLY);
	assert_int_equal(pwrite(fd, "X", 1, 0), 1);
	close(fd);
	assert_int_equal(sweep(x, &s, x->tree), 0);
	assert_int_equal(s.n.files, 0);
	assert_int_equal(faccessat(x->fd, entry, F_OK, 0), 0);
}

static void test_destroyed_client(void **state)
{
	struct fixture *x = *state;
	struct keytree *other;
	struct swept s = {0};

	make_tree(x);
	assert_int_equal(keytree_new(&other), 0);
	assert_int_equal(keytree_puncture(other, 0, 16), 0);
	assert_int_equal(sweep(x, &s, other), -ENOKEY); /* another client's */
	keytree_free(other);
	assert_int_equal(s.n.files, 0);
	fixture_close(x);
	assert_int_equal(sweep(x, &s, NULL), 0);
	assert_int_equal(s.n.failed, 0);
	assert_int_equal(entries(x->fd), 0);
	fixture_open(x);
}

struct beside {
	struct fixture *x;
	pthread_rwlock_t names;
	struct swept s;
	int r;
};

static void *sweep_beside(void *arg)
{
	struct beside *b = arg;
	const struct sweep_options o = {.tree = b->x->tree, .names = &b->names, .step = go_on, .arg = &b->s};

	b->r = store_sweep(b->x->fd, &o, &b->s.n);
	return NULL;
}

/* The lock is held for reading, and somebody waits to have it for writing. */
static void wait_for_writer(pthread_rwlock_t *names)
{
	unsigned ms = 0;

	for (; pthread_rwlock_tryrdlock(names) == 0 && ms < 20000; ms++) {
		pthread_rwlock_unlock(names);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_true(ms < 20000);
}

/* A session saves over what is dead (by a rename) when the sweep has seen that it is: what stands there now is not removed. */
static void saved_over(struct fixture *x)
{
	struct beside b = {.x = x};
	pthread_rwlockattr_t attr;
	pthread_t t;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&b.names, &attr);
	pthread_rwlockattr_destroy(&attr);
	fixture_puncture(x, leaf_of(x->root, "dead"));
	pthread_rwlock_rdlock(&b.names);
	assert_int_equal(pthread_create(&t, NULL, sweep_beside, &b), 0);
	wait_for_writer(&b.names);
	assert_int_equal(store_rename(x->root, "new", x->root, "dead", 0), 0);
	pthread_rwlock_unlock(&b.names);
	assert_int_equal(pthread_join(t, NULL), 0);
	assert_int_equal(b.r, 0);
	assert_int_equal(b.s.n.files + b.s.n.links + b.s.n.failed, 0);
	pthread_rwlock_destroy(&b.names);
}

static void test_file_saved_over_a_dead_one(void **state)
{
	struct fixture *x = *state;
	char text[4] = "";
	struct file *f;

	fixture_write_text(x->root, "dead", "old");
	fixture_write_text(x->root, "new", "new");
	saved_over(x);
	assert_int_equal(file_open(x->root, "dead", &f), 0);
	assert_int_equal(file_read(f, text, 3, 0), 3);
	assert_string_equal(text, "new");
	file_close(f);
}

static void test_symlink_put_over_a_dead_one(void **state)
{
	struct fixture *x = *state;
	char target[16];
	struct stat st;

	assert_int_equal(store_symlink(x->root, "dead", "old", &st), 0);
	assert_int_equal(store_symlink(x->root, "new", "new", &st), 0);
	saved_over(x);
	assert_int_equal(store_readlink(x->root, "dead", target, sizeof(target)), 0);
	assert_string_equal(target, "new");
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(test_dead_goes_live_stays), T(test_resumed), T(test_living_in_dead), T(test_unknown_stays),
		T(test_destroyed_client), T(test_file_saved_over_a_dead_one), T(test_symlink_put_over_a_dead_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
