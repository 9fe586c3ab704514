/* What several threads open at the same moment: a file or a directory can have changed since it was looked at.  The other
 * thread is played by a hook behind a system call. */
#include "store_fixture.h"

int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __real_readlinkat(int dir, const char *path, char *buf, size_t n);
ssize_t __wrap_readlinkat(int dir, const char *path, char *buf, size_t n);
ssize_t __wrap___pread64_chk(int fd, void *buf, size_t n, off_t off, size_t room); /* as a hardened build calls them */
ssize_t __wrap___readlinkat_chk(int dir, const char *path, char *buf, size_t n, size_t room);

enum call { CALL_FSTAT, CALL_PREAD, CALL_READLINK };

static struct {
	void (*run)(void); /* NULL: it has run, or there is none */
	enum call call;
	unsigned after; /* so many of them */
} hook;
static struct fixture *disk;

static void called(enum call c)
{
	void (*run)(void) = hook.run;
	int error = errno;

	if (!run || hook.call != c || hook.after-- > 0)
		return;
	hook.run = NULL;
	run();
	errno = error;
}

int __wrap_fstat64(int fd, struct stat *st)
{
	int r = __real_fstat64(fd, st);

	called(CALL_FSTAT);
	return r;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	ssize_t r = __real_pread64(fd, buf, n, off);

	called(CALL_PREAD);
	return r;
}

ssize_t __wrap_readlinkat(int dir, const char *path, char *buf, size_t n)
{
	ssize_t r = __real_readlinkat(dir, path, buf, n);

	called(CALL_READLINK);
	return r;
}

ssize_t __wrap___pread64_chk(int fd, void *buf, size_t n, off_t off, size_t room)
{
	assert_true(n <= room);
	return __wrap_pread64(fd, buf, n, off);
}

ssize_t __wrap___readlinkat_chk(int dir, const char *path, char *buf, size_t n, size_t room)
{
	assert_true(n <= room);
	return __wrap_readlinkat(dir, path, buf, n);
}

/* ---- files ---- */

#define PART 5000
#define START 10

static struct file *held;

static void append(struct file *f)
{
	uint8_t data[PART];
	uint64_t at;

	memset(data, 7, sizeof(data));
	assert_int_equal(file_append(f, data, sizeof(data), &at), PART);
}

static void open_append_close(void)
{
	struct file *f;

	assert_int_equal(file_open(disk->root, "f", &f), 0);
	append(f);
	file_close(f);
}

static void append_close(void)
{
	append(held);
	file_close(take_ptr(&held));
}

static void expect_size(uint64_t size)
{
	uint8_t buf[PART];
	struct file *f;
	uint64_t at;

	fixture_reopen(disk);
	assert_int_equal(file_open(disk->root, "f", &f), 0);
	assert_int_equal(file_size(f), size);
	for (at = 0; at < size; at += sizeof(buf))
		assert_true(file_read(f, buf, sizeof(buf), at) > 0);
	file_close(f);
}

/* Between any two calls somebody else opens the file, makes it longer and closes it: whoever opens it then sees that, and adds
 * behind it. */
static void what_was_written_meanwhile_is_seen(void **state)
{
	const enum call calls[] = {CALL_FSTAT, CALL_PREAD};
	unsigned ran = 0;

	disk = *state;
	for (size_t c = 0; c < ARRAY_SIZE(calls); c++)
		for (unsigned after = 0; after < 3; after++) {
			struct file *f;
			uint64_t size = START;

			fixture_write_file(disk, "f", "0123456789", START);
			hook.run = open_append_close;
			hook.call = calls[c];
			hook.after = after;
			assert_int_equal(file_open(disk->root, "f", &f), 0);
			if (!hook.run) {
				size += PART;
				ran++;
			}
			hook.run = NULL;
			assert_int_equal(file_size(f), size);
			append(f);
			file_close(f);
			expect_size(size + PART);
			assert_int_equal(store_unlink(disk->root, "f"), 0);
		}
	assert_true(ran > 1);
}

/* It was open and in the midst of being written when it was looked at, and is closed when it is searched among the open ones. */
static void what_was_closed_meanwhile_is_not_cut(void **state)
{
	struct file *f;

	disk = *state;
	fixture_write_file(disk, "f", "0123456789", START);
	assert_int_equal(file_open(disk->root, "f", &held), 0);
	append(held);
	hook.run = append_close;
	hook.call = CALL_FSTAT;
	hook.after = 0;
	assert_int_equal(file_open(disk->root, "f", &f), 0);
	assert_null(hook.run);
	assert_int_equal(file_size(f), START + 2 * PART);
	file_close(f);
	expect_size(START + 2 * PART);
}

/* ---- directories ---- */

static struct store_dir *other;

static void open_dir(void)
{
	assert_int_equal(store_dir_open(disk->root, "d", &other), 0);
}

/* Opens it twice, the second time when the first has not found its id. */
static struct store_dir *open_both(void)
{
	struct store_dir *d = NULL;

	hook.run = open_dir;
	hook.call = CALL_READLINK;
	hook.after = 0;
	assert_int_equal(store_dir_open(disk->root, "d", &d), 0);
	assert_null(hook.run);
	assert_true(dir_is(d, other));
	store_dir_unref(take_ptr(&other));
	return d;
}

static int backing_of(const char *name)
{
	struct store_dir *d;
	int fd;

	assert_int_equal(store_dir_open(disk->root, name, &d), 0);
	fd = openat(store_dir_fd(d), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	store_dir_unref(d);
	return fd;
}

/* A crash in mkdir left it without: there is one id, and what is made under it stays readable. */
static void one_id_is_given(void **state)
{
	struct store_dir *d;
	struct stat st;
	int fd;

	disk = *state;
	store_dir_unref(fixture_make_dir(disk->root, "d"));
	fd = backing_of("d");
	assert_int_equal(unlinkat(fd, DIR_ID, 0), 0);
	close(fd);
	d = open_both();
	fixture_write_text(d, "inside", "1");
	store_dir_unref(d);
	fixture_reopen(disk);
	assert_int_equal(store_dir_open(disk->root, "d", &d), 0);
	assert_int_equal(store_lookup(d, "inside", &st), 0);
	store_dir_unref(d);
}

/* A crash in a rename left the id of the new place beside that of the old one. */
static void an_id_is_put_right_once(void **state)
{
	struct store_dir *d;
	int fd;

	disk = *state;
	d = fixture_make_dir(disk->root, "d");
	fixture_write_text(d, "inside", "1");
	store_dir_unref(d);
	fd = backing_of("d");
	assert_int_equal(renameat(fd, DIR_ID, fd, DIR_ID_NEW), 0);
	close(fd);
	store_dir_unref(open_both());
}

int main(void)
{
#define T(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_written_meanwhile_is_seen),
		T(what_was_closed_meanwhile_is_not_cut),
		T(one_id_is_given),
		T(an_id_is_put_right_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
