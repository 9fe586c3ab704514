/* A month that moves into an archive, or is destroyed: the process ends, or a call fails, at every step that it takes on the
 * disk.  Afterwards all rows are there once, and the next try gets through. */
#include "tests/unit/archive_fixture.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/crash/steps.h"

static struct steps_plan *plan;

/* What a killed process may leave: the ledger as before or after, all rows once, and nothing half made. */
static void expect_whole(struct fixture *f, json_t *wanted, bool destroyed)
{
	struct ledger_verdict v;
	json_t *rows;

	assert_int_equal(ledger_open(f->path, &f->l), 0);
	v = verify(f->path);
	if (v.first_bad)
		fail_msg("step %s: batch %d: %s", plan->last, (int)v.first_bad, v.reason);
	if (!destroyed || !v.destroyed_to) {
		rows = search(f->l, (struct ledger_filter){.op = "open"});
		if (!json_equal(rows, wanted))
			fail_msg("step %s: %d rows instead of %d", plan->last, (int)json_array_size(rows), (int)json_array_size(wanted));
		json_decref(rows);
	}
	if (destroyed && v.destroyed_to) {
		char path[160];

		snprintf(path, sizeof(path), "%s/archive/2026-10.coffer-log.zst", f->dir);
		assert_int_equal(access(path, F_OK), -1);
	}
}

static void archive_and_clean(struct fixture *f)
{
	const int64_t journals[] = {(int64_t)journal};
	const struct archive_wanted w = {.ledger_path = f->path, .until = NOVEMBER, .journals = journals, .journals_n = 1};
	struct archive_made m = {.fd = -1};
	bool more = true;
	int r = archive_make(&w, &m);

	if (r == 0)
		r = m.statement ? take(f, &m) : 0;
	archive_made_done(&m);
	while (r == 0 && more)
		r = ledger_archive_clean(f->l, &more);
	_exit(r == 0 ? 0 : 1);
}

/* Runs `what` in a child on a copy of the folder, which ends at step `at`.  True: it came to its end. */
static bool run(struct fixture *f, const char *top, int mode, uint32_t at, void (*what)(struct fixture *f))
{
	int status;
	pid_t pid;

	memset(plan, 0, offsetof(struct steps_plan, text));
	plan->mode = (uint32_t)mode;
	plan->at = at;
	plan->error = ENOSPC;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (ledger_open(f->path, &f->l) < 0)
			_exit(2);
		steps_use(plan, top);
		what(f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	plan->mode = STEPS_OFF;
	return plan->hits == 0;
}

static void each_step(struct fixture *f, void (*what)(struct fixture *f), bool destroyed, unsigned least)
{
	static const int modes[] = {STEPS_TEAR, STEPS_FAIL};
	struct fixture copy = *f;
	json_t *wanted = search(f->l, (struct ledger_filter){.op = "open"});
	char command[600];

	ledger_source_free(source);
	source = NULL;
	ledger_close(f->l);
	snprintf(copy.dir, sizeof(copy.dir), "%.40s/copy", f->dir);
	snprintf(copy.path, sizeof(copy.path), "%s/ledger.db", copy.dir);
	snprintf(command, sizeof(command), "rm -rf '%s'; mkdir '%s'; cp -r '%s/ledger.db' '%s/'; test ! -d '%s/archive' || cp -r '%s/archive' '%s/'",
		copy.dir, copy.dir, f->dir, copy.dir, f->dir, f->dir, copy.dir);
	for (size_t m = 0; m < ARRAY_SIZE(modes); m++)
		for (uint32_t at = 0;; at++) {
			bool ended;

			assert_int_equal(system(command), 0);
			ended = run(&copy, copy.dir, modes[m], at, what);
			expect_whole(&copy, wanted, destroyed);
			ledger_close(copy.l);
			if (ended) {
				assert_true(at >= least);
				break;
			}
			/* and the next try gets through */
			(void)run(&copy, copy.dir, STEPS_COUNT, 0, what);
			expect_whole(&copy, wanted, destroyed);
			ledger_close(copy.l);
		}
	json_decref(wanted);
	assert_int_equal(ledger_open(f->path, &f->l), 0);
}

static void test_each_step(void **state)
{
	struct fixture *f = *state;

	add_records(f->l, OCTOBER, 2, 20);
	add_records(f->l, NOVEMBER, 1, 3);
	sign_head(f->l);
	each_step(f, archive_and_clean, false, 15);
}

static void destroy_one(struct fixture *f)
{
	(void)destroy(f, NULL);
	_exit(0);
}

static void test_each_step_of_the_end(void **state)
{
	struct fixture *f = *state;

	add_records(f->l, OCTOBER, 2, 20);
	add_records(f->l, NOVEMBER, 1, 3);
	archive(f, NOVEMBER, "2026-10");
	clean(f->l);
	each_step(f, destroy_one, true, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_step, setup, teardown),
		cmocka_unit_test_setup_teardown(test_each_step_of_the_end, setup, teardown),
	};

	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(plan != MAP_FAILED);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
