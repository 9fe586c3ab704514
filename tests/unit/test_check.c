/* The check: finds nothing in a sound store, changes nothing unless told, mends, isolates, accepts, goes on. */
#include "check_fixture.h"

#define BIG (600 * 4032 + 17)

static void fill(struct fixture *x)
{
	static char name[256], data[BIG];
	struct store_dir *d;
	struct stat st;
	struct file *f;

	memset(data, 'd', sizeof(data));
	memset(name, 'n', 200);
	fixture_write_file(x, "small", "small", 5);
	fixture_write_file(x, "big", data, sizeof(data));
	fixture_write_file(x, "empty", "", 0);
	fixture_write_file(x, name, "long", 4);
	assert_int_equal(store_mkdir(x->root, "dir", 0755, &st), 0);
	assert_int_equal(store_dir_open(x->root, "dir", &d), 0);
	assert_int_equal(file_create(d, "inner", 0644, &f, &st), 0);
	assert_int_equal(file_write(f, "inner", 5, 0), 5);
	assert_int_equal(file_setxattr(f, "user.a", "1", 1, 0), 0);
	file_close(f);
	assert_int_equal(store_setxattr(d, NULL, "user.b", "2", 1, 0), 0);
	assert_int_equal(store_link(d, "inner", x->root, "linked"), 0);
	assert_int_equal(store_symlink(d, "short", "target", &st), 0);
	data[3000] = 0;
	assert_int_equal(store_symlink(d, "far", data, &st), 0);
	assert_int_equal(store_mknod(d, "fifo", S_IFIFO | 0600, 0, &st), 0);
	store_dir_unref(d);
	assert_int_equal(file_create(x->root, "holes", 0644, &f, &st), 0);
	assert_int_equal(file_truncate(f, 5000000), 0);
	assert_int_equal(file_write(f, "x", 1, 2000000), 1);
	file_close(f);
}

/* Where in the store `name` of `d` is. */
static const char *entry_of(struct store_dir *d, const char *name)
{
	static struct name_entry n;

	assert_int_equal(name_seal(&d->keys->name, name, &n), 0);
	return n.entry;
}

static void flip(struct fixture *x, const char *name, off_t at)
{
	int fd = openat(x->fd, entry_of(x->root, name), O_RDWR | O_CLOEXEC);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
	close(fd);
}

static void test_sound(void **state)
{
	struct fixture *x = *state;
	struct found c = {0};

	fill(x);
	fixture_reopen(x);
	check_run(x, &c);
	check_expect_clean(&c);
	assert_int_equal(c.counts.directories, 2);
	assert_int_equal(c.counts.files, 7); /* one of them by two names */
	assert_true(c.counts.bytes >= BIG);
	assert_true(c.counts.total >= BIG);
}

/* What an erasure left is no damage as long as its sweep is due, and is not given another name; later it is. */
static void test_destroyed(void **state)
{
	struct fixture *x = *state;
	struct found c = {0};
	uint16_t class, day;

	fill(x);
	fixture_puncture(x, fixture_origin(x->root, "holes", &class, &day));
	fixture_reopen(x);
	c.opt.sweep_due = c.opt.isolate = true;
	check_run(x, &c);
	check_expect(&c, "destroyed", "holes", "");
	assert_false(c.at[0].damage);
	assert_int_equal(c.counts.destroyed, 1);
	assert_int_equal(c.counts.damaged + c.counts.leftovers + c.counts.isolated, 0);
	c.opt.sweep_due = c.opt.isolate = false;
	check_run(x, &c);
	check_expect(&c, "destroyed", "holes", "");
	assert_true(c.at[0].damage);
	assert_int_equal(c.counts.damaged, 1);
	assert_int_equal(c.counts.destroyed, 0);
}

static void test_sectors(void **state)
{
	struct fixture *x = *state;
	struct found c = {0};
	char buf[100];
	struct file *f;

	fill(x);
	flip(x, "big", 4096 * 3 + 100);
	flip(x, "big", 4096 * 300 + 20);
	check_run(x, &c);
	check_expect(&c, "sector", "big", "");
	assert_string_equal(c.at[0].detail, "2 of 601: 2, 299");
	assert_int_equal(c.counts.damaged, 1);

	/* Isolated it is another name of the same: what is sound in it can still be read. */
	c.opt.isolate = true;
	check_run(x, &c);
	check_expect(&c, "sector", "big", "isolated");
	assert_int_equal(file_open(x->root, "big", &f), -ENOENT);
	assert_int_equal(file_open(x->root, "big.damaged-2026-11-23", &f), 0);
	assert_int_equal(file_read(f, buf, sizeof(buf), 0), sizeof(buf));
	assert_int_equal(file_read(f, buf, sizeof(buf), 3 * 4032), sizeof(buf));
	assert_int_equal(file_read(f, buf, sizeof(buf), 2 * 4032), -EBADMSG);
	file_close(f);
	c.opt.isolate = false;
	check_run(x, &c);
	check_expect(&c, "sector", "big.damaged-2026-11-23", "isolated");
}

static void save_anew(struct fixture *x)
{
	assert_int_equal(store_rename(x->root, "new", x->root, "doc", 0), 0);
}

/* An editor saved while the check looked at what was there: the new one is not damaged. */
static void test_replaced_is_not_isolated(void **state)
{
	struct fixture *x = *state;
	struct found c = {.opt.isolate = true, .meanwhile = save_anew};
	char text[4] = "";
	struct file *f;

	fixture_write_file(x, "doc", "old", 3);
	flip(x, "doc", 4096 + 100);
	fixture_write_file(x, "new", "new", 3);
	check_run(x, &c);
	assert_null(c.meanwhile);
	assert_int_equal(c.counts.isolated, 0);
	assert_int_equal(file_open(x->root, "doc", &f), 0);
	assert_int_equal(file_read(f, text, 3, 0), 3);
	assert_string_equal(text, "new");
	file_close(f);
}

static void test_isolated_names(void **state)
{
	struct fixture *x = *state;
	struct found c = {.opt.isolate = true};
	char name[256], expected[300];
	struct stat st;

	memset(name, 'n', 255);
	name[255] = 0;
	fixture_write_file(x, name, "long", 4);
	flip(x, name, 100);
	check_run(x, &c);
	check_expect(&c, "header", name, "isolated");
	snprintf(expected, sizeof(expected), "%.236s.damaged-2026-11-23", name);
	assert_int_equal(store_lookup(x->root, expected, &st), 0);
	assert_int_equal(store_lookup(x->root, name, &st), -ENOENT);

	/* Twice on a day. */
	fixture_write_file(x, "a", "1", 1);
	flip(x, "a", 0);
	check_run(x, &c);
	fixture_write_file(x, "a", "2", 1);
	flip(x, "a", 0);
	check_run(x, &c);
	assert_int_equal(store_lookup(x->root, "a.damaged-2026-11-23", &st), 0);
	assert_int_equal(store_lookup(x->root, "a.damaged-2026-11-23-2", &st), 0);

	/* What has no name gets one, and nothing is lost. */
	assert_int_equal(renameat(x->fd, entry_of(x->root, "a.damaged-2026-11-23-2"), x->fd, "foreign"), 0);
	check_run(x, &c);
	assert_int_equal(store_lookup(x->root, "unnamed.damaged-2026-11-23", &st), 0);
	c.opt.isolate = false;
	check_run(x, &c);
	assert_int_equal(c.counts.damaged, 0);
	assert_int_equal(c.counts.isolated, 3);
}

static void test_leftovers(void **state)
{
	struct fixture *x = *state;
	struct found c = {0};
	struct store_dir *d;
	struct stat st;
	struct file *f;
	int fd;

	fill(x);
	assert_int_equal(symlinkat("x", x->fd, ".nAAAA"), 0);
	fd = openat(x->fd, ".tAAAAAAAAAAAAAAAAAAAAAA", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	fd = openat(x->fd, ".uAAAAAAAAAAAAAAAAAAAAAA", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(mkdirat(x->fd, entry_of(x->root, "new"), 0700), 0);
	fd = openat(x->fd, entry_of(x->root, "small"), O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 8192), 0);
	close(fd);
	assert_int_equal(store_dir_open(x->root, "dir", &d), 0);
	fd = d->fd;
	assert_int_equal(renameat(fd, ".id", fd, ".id+"), 0);
	store_dir_unref(d);
	for (int round = 0; round < 3; round++) {
		c.opt.repair = round == 1;
		check_run(x, &c);
		assert_int_equal(c.result, 0);
		assert_int_equal(c.counts.damaged, 0);
		assert_int_equal(c.counts.leftovers, round == 0 ? 6 : 0);
		assert_int_equal(c.counts.repaired, round == 1 ? 6 : 0);
	}
	assert_int_equal(store_lookup(x->root, "small", &st), 0);
	assert_int_equal(st.st_size, 5);

	/* An unnamed file that somebody has open is his. */
	assert_int_equal(file_create_unnamed(x->root, x->root, 0600, &f, &st), 0);
	check_run(x, &c);
	check_expect_clean(&c);
	file_close(f);
}

/* What a session writes on is looked at through the session's own object. */
static void test_open_files(void **state)
{
	struct fixture *x = *state;
	struct found c = {.opt.isolate = true};
	struct file *f;

	fill(x);
	assert_int_equal(file_open(x->root, "small", &f), 0);
	assert_int_equal(file_write(f, "more than it was", 16, 0), 16); /* the hint is not there yet */
	check_run(x, &c);
	check_expect_clean(&c);
	file_close(f);
	assert_int_equal(file_open(x->root, "big", &f), 0);
	flip(x, "big", 4096 * 3 + 100);
	check_run(x, &c);
	check_expect(&c, "sector", "big", "busy");
	file_close(f);
}

static void test_accept_place(void **state)
{
	struct fixture *x = *state;
	struct found c = {0};
	char entry[256], inner[600];
	struct stat st;
	struct file *f;
	int fd;

	/* As a restore without attributes, and into a directory of another name, leaves it. */
	fill(x);
	snprintf(entry, sizeof(entry), "%s", entry_of(x->root, "small"));
	fd = openat(x->fd, entry, O_RDWR | O_CLOEXEC);
	assert_int_equal(fremovexattr(fd, "user.coffer.place"), 0);
	close(fd);
	snprintf(inner, sizeof(inner), "%s", entry_of(x->root, "moved"));
	assert_int_equal(renameat(x->fd, entry_of(x->root, "dir"), x->fd, inner), 0);
	check_run(x, &c);
	assert_int_equal(c.n, 2);
	assert_int_equal(c.counts.damaged, 2);
	assert_int_equal(file_open(x->root, "small", &f), -EBADMSG);

	c.opt.accept = true;
	c.opt.only = "small";
	check_run(x, &c);
	assert_int_equal(c.result, -ENOENT); /* who may not see names cannot try them either */
	c.opt.by_name = true;
	check_run(x, &c);
	check_expect(&c, "place", "small", "accepted");
	assert_int_equal(file_open(x->root, "small", &f), 0);
	file_close(f);
	c.opt.only = inner; /* by its path in the store */
	check_run(x, &c);
	check_expect(&c, "directory", "moved", "accepted");
	assert_int_equal(store_lookup(x->root, "moved", &st), 0);
	c.opt = (struct check_options){0};
	check_run(x, &c);
	check_expect_clean(&c);
	c.opt.only = "nothing/here";
	check_run(x, &c);
	assert_int_equal(c.result, -ENOENT);
}

static void copy_file(struct fixture *x, const char *from, const char *to)
{
	char command[1024];

	snprintf(command, sizeof(command), "cd %s && cp -a --no-target-directory './%s' './%s'", x->path, from, to);
	assert_int_equal(system(command), 0);
}

/* What the record would say of it now. */
static struct check_recorded recorded(struct file *f)
{
	struct check_recorded r = {.time = time(NULL) * 1000000000ll};
	char text[VERSION_TEXT];

	r.size = (int64_t)file_version(f, text);
	file_id(f, &r.file);
	assert_int_equal(version_parse(text, &r.version), 0);
	return r;
}

static void test_rolled_back(void **state)
{
	struct fixture *x = *state;
	struct check_recorded table[3];
	struct found c = {0};
	char entry[256], old[64];
	struct file *f;

	fill(x);
	snprintf(entry, sizeof(entry), "%s", entry_of(x->root, "small"));
	snprintf(old, sizeof(old), "../coffer-test-old-%d", (int)getpid());
	copy_file(x, entry, old);
	assert_int_equal(file_open(x->root, "small", &f), 0);
	assert_int_equal(file_write(f, "SMALL", 5, 0), 5);
	table[1] = recorded(f);
	table[0] = table[1];
	table[0].version.time--;
	table[0].time--;
	table[2] = (struct check_recorded){.file = {.b = {255, 255}}, .version = {UINT64_MAX, 1}};
	file_close(f);
	c.opt.recorded = table;
	c.opt.recorded_n = ARRAY_SIZE(table);
	check_run(x, &c);
	check_expect_clean(&c);

	copy_file(x, old, entry);
	check_run(x, &c);
	check_expect(&c, "rolled-back", "small", "");
	assert_true(c.at[0].f.version.time > 0);
	assert_int_equal(c.at[0].f.size, 5);
	c.opt.accept = true;
	c.opt.by_name = true;
	c.opt.only = "small";
	check_run(x, &c);
	check_expect(&c, "rolled-back", "small", "accepted");
	c.opt.accept = false;
	table[0].version = c.at[0].f.version; /* as the record tells it from now on */
	table[0].time = table[1].time + 1;
	table[0].file = c.at[0].f.file;
	check_run(x, &c);
	check_expect_clean(&c);
	/* In the same moment as the question, or later: what the record says is older. */
	table[0].version.time += 1000;
	c.opt.recorded_at = 1;
	check_run(x, &c);
	check_expect_clean(&c);
	assert_int_equal(unlinkat(x->fd, old, 0), 0);
}

/* Cut where a sector ends, and never synced: the length in the record tells. */
static void test_cut(void **state)
{
	struct fixture *x = *state;
	struct check_recorded rec;
	struct found c = {.opt.recorded = &rec, .opt.recorded_n = 1};
	struct file *f;
	int fd;

	fill(x);
	assert_int_equal(file_open(x->root, "big", &f), 0);
	assert_int_equal(file_write(f, "first", 5, 0), 5); /* the newest sector is not the last */
	rec = recorded(f);
	file_close(f);
	fd = openat(x->fd, entry_of(x->root, "big"), O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 4096 * 100 + 4032), 0);
	check_run(x, &c);
	check_expect(&c, "cut", "big", "");
	assert_int_equal(ftruncate(fd, 4096), 0);
	close(fd);
	check_run(x, &c);
	check_expect(&c, "rolled-back", "big", "");
	/* A hole or a cut to nothing: only the length is known. */
	rec.version = (struct version){0};
	check_run(x, &c);
	check_expect(&c, "cut", "big", "");
	rec.size = 0;
	check_run(x, &c);
	check_expect_clean(&c);
}

static void test_resume(void **state)
{
	struct fixture *x = *state;
	struct found c = {0};
	char seen[64][512], after[1024];
	unsigned seen_n = 0, runs = 0, i;

	fill(x);
	flip(x, "big", 100);
	flip(x, "small", 100);
	flip(x, "linked", 100);
	do {
		c.limit = 24; /* most of them are for counting */
		c.finished[0] = 0;
		check_run(x, &c);
		for (i = 0; i < c.n; i++)
			snprintf(seen[seen_n++], 512, "%s", c.at[i].path);
		snprintf(after, sizeof(after), "%s", c.finished);
		c.opt.after = after;
		assert_true(++runs < 20);
	} while (c.result == -ECANCELED);
	assert_int_equal(c.result, 0);
	assert_true(runs > 2);
	assert_int_equal(seen_n, 4); /* each once; one file has two names */
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_sound),
		TEST(test_destroyed),
		TEST(test_sectors),
		TEST(test_isolated_names),
		TEST(test_replaced_is_not_isolated),
		TEST(test_leftovers),
		TEST(test_open_files),
		TEST(test_accept_place),
		TEST(test_rolled_back),
		TEST(test_cut),
		TEST(test_resume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
