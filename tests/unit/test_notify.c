/* Who is told of a changed name: those whose kernel can have something that is wrong now, and nobody else. */
#include "worker_fixture.h"

#include "fs/worker/notify.h"
#include "fs/worker/told.h"

enum { CHANGER, OTHER, SESSIONS };

struct audience {
	struct worker_fixture x;
	struct session *s[SESSIONS];
	struct inode *dir;
	uint64_t node;
};

/* Two sessions that are only expected, not attached: their queues are looked at, nothing is sent. */
static int setup(void **state)
{
	struct audience *p = calloc(1, sizeof(*p));
	struct stat st = {.st_mode = S_IFDIR, .st_dev = 1, .st_ino = 77};
	struct inode *root;

	worker_fixture_setup(&p->x, 1 << 20);
	for (uint64_t k = 0; k < SESSIONS; k++) {
		struct session_terms terms = {.number = k + 1, .classes = class_set_all()};

		assert_int_equal(session_new(&p->x.w, &terms, &p->s[k]), 0);
		p->s[k]->next = atomic_load(&p->x.w.sessions);
		atomic_store(&p->x.w.sessions, p->s[k]);
		inode_view_enter_root(p->x.w.inodes, &p->s[k]->view);
		root = inode_get(p->x.w.inodes, &p->s[k]->view, INODE_ROOT);
		assert_int_equal(inode_enter(p->x.w.inodes, &p->s[k]->view, root, "dir", &st, &p->dir), 0);
		inode_unref(p->x.w.inodes, root);
		inode_unref(p->x.w.inodes, p->dir); /* stays, by the lookup */
	}
	atomic_store(&p->x.w.session_count, SESSIONS);
	p->node = inode_node(p->dir);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct audience *p = *state;

	atomic_store(&p->x.w.sessions, NULL);
	atomic_store(&p->x.w.session_count, 0);
	for (int k = 0; k < SESSIONS; k++) {
		inode_view_done(p->x.w.inodes, &p->s[k]->view);
		session_free(p->s[k]);
	}
	worker_fixture_teardown(&p->x);
	free(p);
	return 0;
}

static unsigned waiting(struct audience *p, int k)
{
	return p->s[k]->notes.count;
}

/* Takes the only note of the other session. */
static struct note take_only(struct audience *p)
{
	struct note *n, copy;

	assert_int_equal(waiting(p, OTHER), 1);
	n = note_queue_next(&p->s[OTHER]->notes);
	copy = *n;
	note_done(&p->s[OTHER]->notes, n);
	return copy;
}

static void test_who_saw_nothing_is_told_nothing(void **state)
{
	struct audience *p = *state;
	uint32_t before = atomic_load(&p->dir->changes);

	notify_entry(p->s[CHANGER], p->dir, "new");
	notify_deleted(p->s[CHANGER], p->dir, p->dir, "new");
	assert_int_equal(waiting(p, CHANGER), 0);
	assert_int_equal(waiting(p, OTHER), 1); /* that `child` has changed, which it knows */
	assert_true(atomic_load(&p->dir->changes) >= before + 2);
}

static void test_a_name_is_told_each_time(void **state)
{
	struct audience *p = *state;

	told_add(p->s[OTHER]->told, p->node, "name");
	for (int k = 0; k < 3; k++) {
		struct note n;

		notify_entry(p->s[CHANGER], p->dir, "name");
		n = take_only(p);
		assert_int_equal(n.kind, NOTE_ENTRY);
		assert_true(n.named && !n.listed && n.node == p->node);
	}
	notify_entry(p->s[CHANGER], p->dir, "other name");
	assert_int_equal(waiting(p, OTHER), 0);
}

static void test_a_list_is_told_once_until_it_is_shown_again(void **state)
{
	struct audience *p = *state;

	for (int k = 0; k < 2; k++) {
		struct note n;

		inode_view_show(p->x.w.inodes, &p->s[OTHER]->view, p->dir);
		notify_entry(p->s[CHANGER], p->dir, "a");
		n = take_only(p);
		assert_true(n.listed && !n.named);
		notify_entry(p->s[CHANGER], p->dir, "b");
		assert_int_equal(waiting(p, OTHER), 0);
	}
}

static void test_who_does_not_know_the_directory_is_not_told(void **state)
{
	struct audience *p = *state;

	told_add(p->s[OTHER]->told, p->node, "name");
	inode_view_show(p->x.w.inodes, &p->s[OTHER]->view, p->dir);
	inode_forget(p->x.w.inodes, &p->s[OTHER]->view, p->node, 1);
	notify_entry(p->s[CHANGER], p->dir, "name");
	assert_int_equal(waiting(p, OTHER), 0);
}

static void test_what_was_told_is_never_denied(void **state)
{
	struct told *t;
	unsigned wrong = 0;
	char name[32];

	(void)state;
	assert_int_equal(told_new(&t), 0);
	for (int k = 0; k < 20000; k++) {
		snprintf(name, sizeof(name), "file-%d", k);
		told_add(t, (uint64_t)k % 7, name);
	}
	for (int k = 0; k < 20000; k++) {
		snprintf(name, sizeof(name), "file-%d", k);
		assert_true(told_has(t, (uint64_t)k % 7, name));
		wrong += told_has(t, 7 + (uint64_t)k % 7, name);
	}
	assert_in_range(wrong, 0, 20000 / 50); /* 0.5 % by calculation */
	told_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_saw_nothing_is_told_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_name_is_told_each_time, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_list_is_told_once_until_it_is_shown_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_does_not_know_the_directory_is_not_told, setup, teardown),
		cmocka_unit_test(test_what_was_told_is_never_denied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
