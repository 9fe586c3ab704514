/* Records: a path is named once and again after it changed; nothing is forgotten when the journal is full. */
#include "worker_fixture.h"

static struct worker_fixture *setup(uint32_t journal_bytes)
{
	static struct worker_fixture x;

	x = (struct worker_fixture){.disk = NULL};
	worker_fixture_setup(&x, journal_bytes);
	return &x;
}

static struct inode *enter(struct worker_fixture *x, struct inode_view *v, struct inode *dir,
	const char *name, ino_t ino, mode_t mode)
{
	struct stat st = {.st_mode = mode, .st_dev = 1, .st_ino = ino};
	struct inode *i;

	assert_int_equal(inode_enter(x->w.inodes, v, dir, name, &st, &i), 0);
	return i;
}

static void expect_path(struct worker_fixture *x, uint32_t ref, const char *path)
{
	uint8_t buf[RECORD_BYTES_MAX], sealed[RECORD_PATH_MAX];
	struct record rec;
	int n;

	assert_true(next_record(x, buf, &rec));
	assert_int_equal(rec.kind, RECORD_KIND_PATH);
	assert_int_equal(rec.path.ref, ref);
	n = store_seal_path(x->w.store, rec.path.month, path, strlen(path), sealed, sizeof(sealed));
	assert_int_equal(rec.path.sealed_len, n);
	assert_memory_equal(rec.path.sealed, sealed, (size_t)n);
}

static void expect_nothing(struct worker_fixture *x)
{
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;

	assert_false(next_record(x, buf, &rec));
}

static void test_paths(void **state)
{
	struct worker_fixture *x = setup(1 << 20);
	struct recorder *r = x->w.recorder;
	struct inode_table *t = x->w.inodes;
	struct inode_view v = {.cap = 0};
	struct inode *root, *d, *f;
	uint32_t first, second;

	inode_view_enter_root(t, &v);
	root = inode_get(t, &v, INODE_ROOT);
	d = enter(x, &v, root, "contracts", 1000001, S_IFDIR);
	f = enter(x, &v, d, "a b.txt", 1000002, S_IFREG);

	first = recorder_path(r, t, f, NULL);
	expect_path(x, first, "contracts/a b.txt");
	assert_int_equal(recorder_path(r, t, f, NULL), first); /* named once */
	expect_nothing(x);
	assert_int_equal(recorder_path(r, t, root, NULL), first + 1);
	expect_path(x, first + 1, "");
	assert_int_equal(recorder_path(r, t, d, "new"), first + 2);
	expect_path(x, first + 2, "contracts/new");

	/* a directory above it moves: the same inode has another path */
	assert_int_equal(inode_name_add(t, d, root, "archive"), 0);
	inode_name_remove(t, d, root, "contracts", false);
	recorder_paths_changed(r);
	second = recorder_path(r, t, f, NULL);
	assert_int_not_equal(second, first);
	expect_path(x, second, "archive/a b.txt");

	/* without a name there is no path */
	inode_name_remove(t, f, d, "a b.txt", true);
	recorder_paths_changed(r);
	assert_int_equal(recorder_path(r, t, f, NULL), 0);
	expect_nothing(x);

	inode_unref(t, f);
	inode_unref(t, d);
	inode_unref(t, root);
	inode_view_done(t, &v);
	worker_fixture_teardown(x);
}

/* Longer than a path can be: no path, rather than a cut one. */
static void test_a_path_too_long(void **state)
{
	struct worker_fixture *x = setup(1 << 20);
	struct inode_view v = {.cap = 0};
	struct inode *dir, *next;
	char name[STORE_NAME_MAX + 1];

	memset(name, 'n', STORE_NAME_MAX);
	name[STORE_NAME_MAX] = '\0';
	inode_view_enter_root(x->w.inodes, &v);
	dir = inode_get(x->w.inodes, &v, INODE_ROOT);
	for (unsigned k = 0; k < 16; k++, dir = next) {
		next = enter(x, &v, dir, name, 2000000 + k, S_IFDIR);
		inode_unref(x->w.inodes, dir);
	}
	assert_int_not_equal(recorder_path(x->w.recorder, x->w.inodes, dir, NULL), 0); /* 16 * 256 - 1 */
	assert_int_equal(recorder_path(x->w.recorder, x->w.inodes, dir, name), 0);
	inode_unref(x->w.inodes, dir);
	inode_view_done(x->w.inodes, &v);
	worker_fixture_teardown(x);
}

static void test_a_full_journal_owes(void **state)
{
	struct worker_fixture *x = setup(16 * 4096);
	struct record_access a = {.session = 5, .op = RECORD_MKDIR};
	uint8_t buf[RECORD_BYTES_MAX];
	unsigned appended = 0, read = 0;
	struct record rec;
	int r;

	do {
		a.size = appended;
		r = recorder_append(x->w.recorder, &a);
		appended++;
	} while (r == 0 && appended < 10000);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(recorder_ready(x->w.recorder), -ENOSPC);

	for (; next_record(x, buf, &rec); read++)
		assert_int_equal(rec.access.size, read);
	assert_int_equal(read, appended - 1);
	assert_int_equal(journal_reader_release(x->reader), 0);

	assert_int_equal(recorder_ready(x->w.recorder), 0); /* there is room: what was owed is written */
	assert_true(next_record(x, buf, &rec));
	assert_int_equal(rec.access.size, appended - 1);
	expect_nothing(x);
	worker_fixture_teardown(x);
}

/* Who asks first finds room for all that he will record. */
static void test_room_is_kept_for_what_is_under_way(void **state)
{
	struct worker_fixture *x = setup(1 << 20);
	struct record_access a = {.session = 5, .op = RECORD_MKDIR};
	unsigned begun = 0;

	while (recorder_ready(x->w.recorder) == 0 && begun < 100000) {
		assert_int_equal(recorder_append(x->w.recorder, &a), 0);
		begun++;
	}
	assert_true(begun > 1000 && begun < 100000);
	for (unsigned n = 0; n < 100; n++) /* those that had asked before */
		assert_int_equal(recorder_append(x->w.recorder, &a), 0);
	assert_int_equal(recorder_ready(x->w.recorder), -ENOSPC);
	worker_fixture_teardown(x);
}

static void test_processes(void **state)
{
	struct worker_fixture *x = setup(1 << 20);
	uint8_t buf[RECORD_BYTES_MAX];
	struct record rec;
	uint32_t ref = recorder_process(x->w.recorder, 4711);

	assert_int_not_equal(ref, 0);
	assert_int_equal(recorder_process(x->w.recorder, 4711), ref);
	assert_int_equal(recorder_process(x->w.recorder, 0), 0);
	assert_true(next_record(x, buf, &rec));
	assert_int_equal(rec.kind, RECORD_KIND_PROCESS);
	assert_int_equal(rec.process.ref, ref);
	assert_int_equal(rec.process.pid, 4711);
	expect_nothing(x);
	worker_fixture_teardown(x);
}

struct beside {
	int calls, result;
};

static int beside(void *arg)
{
	struct beside *b = arg;

	b->calls++;
	return b->result;
}

/* The other half runs once and its error counts, whether there are records to make durable or not. */
static void test_sync_with_something_beside(void **state)
{
	struct worker_fixture *x = setup(1 << 20);
	struct record_access a = {.op = RECORD_OPEN};
	struct beside b = {.calls = 0};

	(void)state;
	for (int k = 0; k < 3; k++) {
		if (k < 2)
			assert_int_equal(recorder_append(x->w.recorder, &a), 0);
		b.result = k == 1 ? -EIO : 0;
		assert_int_equal(recorder_sync_with(x->w.recorder, beside, &b), b.result);
		assert_int_equal(b.calls, k + 1);
	}
	worker_fixture_teardown(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_a_path_too_long),
		cmocka_unit_test(test_a_full_journal_owes),
		cmocka_unit_test(test_room_is_kept_for_what_is_under_way),
		cmocka_unit_test(test_processes),
		cmocka_unit_test(test_sync_with_something_beside),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
