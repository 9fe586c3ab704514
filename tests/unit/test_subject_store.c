/* Subjects of files and directories in the store: what keeps them, what takes them along, what nobody may see. */
#include "store_fixture.h"

#include "common/subject.h"
#include "fs/store/file_impl.h"

static struct store_dir *dir(struct store_dir *at, const char *name)
{
	struct store_dir *d;
	struct stat st;

	if (store_lookup(at, name, &st) == -ENOENT)
		assert_int_equal(store_mkdir(at, name, 0700, &st), 0);
	assert_int_equal(store_dir_open(at, name, &d), 0);
	return d;
}

static void label_dir(struct store_dir *at, const char *name, const char *id)
{
	struct store_dir *d = dir(at, name);

	assert_int_equal(store_dir_subject_set(d, id, strlen(id), false), 1);
	assert_int_equal(store_dir_subject_set(d, id, strlen(id), false), 0);
	store_dir_unref(d);
}

static void write_in(struct store_dir *d, const char *name, const char *text)
{
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(d, name, 0600, &f, &st), 0);
	assert_int_equal(file_write(f, text, strlen(text), 0), strlen(text));
	file_close(f);
}

static void label_file(struct store_dir *d, const char *name, const char *id)
{
	struct file *f;

	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_subject_set(f, id, strlen(id), false), 1);
	file_close(f);
}

/* Its own and what it has of the directory, one after the other: "alice|bob". */
static void expect(struct store_dir *d, const char *name, const char *wanted)
{
	scoped(subjects_freep) struct subjects *s = NULL, *own = NULL;
	char found[600] = "";
	size_t at = 0, n;
	struct file *f;
	const char *id;

	assert_int_equal(dir_all_subjects(d, &s), 0);
	assert_int_equal(file_open(d, name, &f), 0);
	assert_int_equal(file_subjects(f, &own), 0);
	file_close(f);
	assert_true(subjects_add_all(&s, own, SUBJECTS_UNION_MAX) >= 0);
	while (subjects_next(s, &at, &id, &n))
		snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%.*s", *found ? "|" : "", (int)n, id);
	assert_string_equal(found, wanted);
}

static void test_directory(void **state)
{
	struct fixture *x = *state;
	scoped(subjects_freep) struct subjects *own = NULL, *above = NULL;
	struct store_dir *d, *e;

	label_dir(x->root, "alice", "alice");
	d = dir(x->root, "alice");
	label_dir(d, "both", "bob");
	e = dir(d, "both");
	write_in(d, "a", "1");
	write_in(e, "b", "2");
	expect(d, "a", "alice");
	expect(e, "b", "alice|bob");
	assert_int_equal(store_dir_subjects(e, &own, &above), 0);
	assert_true(subjects_has(own, "bob", 3) && !subjects_has(own, "alice", 5) && subjects_has(above, "alice", 5));
	assert_int_equal(store_dir_subject_set(e, "alice", 5, true), 0); /* it is not its own */
	assert_int_equal(store_dir_subject_set(e, "bob", 3, true), 1);
	assert_int_equal(store_dir_subject_set(e, "a\nb", 3, false), -EINVAL);
	store_dir_unref(e);
	store_dir_unref(d);
	fixture_reopen(x);
	d = dir(x->root, "alice");
	e = dir(d, "both");
	expect(e, "b", "alice");
	store_dir_unref(e);
	store_dir_unref(d);
}

static void test_hidden(void **state)
{
	struct fixture *x = *state;
	char list[256], value[256];

	write_in(x->root, "f", "1");
	label_file(x->root, "f", "alice");
	assert_int_equal(store_listxattr(x->root, "f", list, sizeof(list)), 0);
	assert_int_equal(store_getxattr(x->root, "f", SUBJECTS_ATTR, value, sizeof(value)), -EOPNOTSUPP);
	assert_int_equal(store_setxattr(x->root, "f", SUBJECTS_ATTR, "x", 1, 0), -EOPNOTSUPP);
	assert_int_equal(store_removexattr(x->root, "f", SUBJECTS_ATTR), -EOPNOTSUPP);
	assert_int_equal(store_setxattr(x->root, "f", "user.coffer.subjects", "bob", 3, 0), 0); /* means nothing */
	expect(x->root, "f", "alice");
	assert_int_equal(store_listxattr(x->root, "f", list, sizeof(list)), sizeof("user.coffer.subjects"));
}

static void test_empty_file(void **state)
{
	struct fixture *x = *state;
	struct stat st;
	struct file *f;

	assert_int_equal(file_create(x->root, "f", 0600, &f, &st), 0);
	assert_int_equal(file_subject_set(f, "alice", 5, true), 0);
	assert_int_equal(file_subject_set(f, "alice", 5, false), 1);
	file_close(f);
	fixture_reopen(x);
	expect(x->root, "f", "alice");
	assert_int_equal(store_lookup(x->root, "f", &st), 0);
	assert_int_equal(st.st_size, 0);
}

static void test_saving(void **state)
{
	struct fixture *x = *state;
	struct file *f;

	write_in(x->root, "f", "1");
	label_file(x->root, "f", "alice");
	/* A new file renamed over it: both persons' now. */
	write_in(x->root, "tmp", "2");
	label_file(x->root, "tmp", "bob");
	assert_int_equal(store_rename(x->root, "tmp", x->root, "f", 0), 0);
	expect(x->root, "f", "alice|bob");
	/* An empty one. */
	assert_int_equal(file_create(x->root, "tmp", 0600, &f, &(struct stat){0}), 0);
	file_close(f);
	assert_int_equal(store_rename(x->root, "tmp", x->root, "f", 0), 0);
	expect(x->root, "f", "alice|bob");
	/* The old one aside, and written anew. */
	assert_int_equal(store_rename(x->root, "f", x->root, "f~", 0), 0);
	write_in(x->root, "f", "3");
	expect(x->root, "f", "alice|bob");
	expect(x->root, "f~", "alice|bob");
	write_in(x->root, "other", "4");
	expect(x->root, "other", "");
	assert_int_equal(store_rename(x->root, "other", x->root, "f", RENAME_EXCHANGE), 0);
	expect(x->root, "f", "alice|bob");
	expect(x->root, "other", "alice|bob");
}

static void test_leaving(void **state)
{
	struct fixture *x = *state;
	struct store_dir *alice, *bob, *sub;

	label_dir(x->root, "alice", "alice");
	label_dir(x->root, "bob", "bob");
	alice = dir(x->root, "alice");
	bob = dir(x->root, "bob");
	write_in(alice, "f", "1");
	assert_int_equal(store_rename(alice, "f", alice, "g", 0), 0);
	expect(alice, "g", "alice");
	assert_int_equal(store_link(alice, "g", x->root, "linked"), 0);
	expect(x->root, "linked", "alice");
	assert_int_equal(store_rename(alice, "g", bob, "g", 0), 0);
	expect(bob, "g", "alice|bob");
	assert_int_equal(store_rename(bob, "g", x->root, "g", 0), 0);
	expect(x->root, "g", "alice|bob");
	sub = dir(alice, "sub");
	write_in(sub, "deep", "2");
	store_dir_unref(sub);
	assert_int_equal(store_rename(alice, "sub", x->root, "sub", 0), 0);
	sub = dir(x->root, "sub");
	expect(sub, "deep", "alice");
	/* From one place of alice's to another nothing is written. */
	assert_int_equal(store_rename(sub, "deep", alice, "deep", 0), 0);
	store_dir_unref(alice);
	store_dir_unref(sub);
	alice = dir(x->root, "alice");
	assert_int_equal(store_dir_subject_set(alice, "alice", 5, true), 1);
	expect(alice, "deep", "");
	store_dir_unref(alice);
	store_dir_unref(bob);
}

static void test_too_many(void **state)
{
	struct fixture *x = *state;
	char id[SUBJECT_ID_MAX];
	struct stat st;
	struct file *f;

	write_in(x->root, "f", "1");
	assert_int_equal(file_open(x->root, "f", &f), 0);
	for (int i = 0; i < 4; i++) {
		memset(id, 'a' + i, sizeof(id));
		assert_int_equal(file_subject_set(f, id, sizeof(id), false), 1);
	}
	assert_int_equal(file_subject_set(f, "z", 1, false), -ENOSPC);
	file_close(f);
	/* What would lose a label by moving does not move. */
	label_dir(x->root, "d", "z");
	{
		scoped(store_dir_unrefp) struct store_dir *d = dir(x->root, "d");

		assert_int_equal(store_rename(x->root, "f", d, "f", 0), 0);
		assert_int_equal(store_rename(d, "f", x->root, "f", 0), -ENOSPC);
		assert_int_equal(store_lookup(d, "f", &st), 0);
	}
}

/* The attribute of another file, or one that was altered, is damage, and no label. */
static void test_altered(void **state)
{
	struct fixture *x = *state;
	scoped(subjects_freep) struct subjects *s = NULL;
	char entry[256], name[400] = "", value[400];
	struct file *f;
	ssize_t n;
	int fd;

	write_in(x->root, "f", "1");
	label_file(x->root, "f", "alice");
	fixture_close(x);
	fixture_entry(x->fd, 0, entry);
	fd = openat(x->fd, entry, O_RDWR);
	assert_true(fd >= 0);
	n = flistxattr(fd, value, sizeof(value));
	for (char *a = value; a < value + n; a += strlen(a) + 1)
		if (strncmp(a, "user.coffer.x.", 14) == 0)
			snprintf(name, sizeof(name), "%s", a);
	assert_true(*name);
	n = fgetxattr(fd, name, value, sizeof(value));
	assert_int_equal(n, 24 + 64 + 16);
	assert_null(memmem(value, (size_t)n, "alice", 5));
	value[30] ^= 1;
	assert_int_equal(fsetxattr(fd, name, value, (size_t)n, 0), 0);
	close(fd);
	fixture_open(x);
	assert_int_equal(file_open(x->root, "f", &f), 0);
	assert_int_equal(file_subjects(f, &s), -EBADMSG);
	assert_string_equal(store_damage_word(), "xattr");
	assert_int_equal(file_subject_set(f, "bob", 3, false), -EBADMSG);
	file_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_directory, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_hidden, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_empty_file, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_saving, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_leaving, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_too_many, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_altered, fixture_setup, fixture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
