/* The life of one class: borders and steps by themselves, and thousands of random lives of clients with files of several
 * classes, holds on the client, a class and a file, renames and saving, clock jumps, custodians: against a model that knows
 * each file and nothing of prefixes.  Nothing may die early, on hold, or without a notice whose waiting is over; what is due
 * long enough must be gone. */
#include "keyd/class_life.h"
#include "tests/unit/life_fixture.h"

#define START (DAY_EPOCH_UNIX + INT64_C(2000) * DAY)
#define PERSONAL 16
#define BILLING 17
#define CREDENTIALS 18

static int64_t day_after(int64_t t)
{
	return (t + DAY - 1) / DAY * DAY;
}

static int64_t day_start(uint16_t day)
{
	return DAY_EPOCH_UNIX + (int64_t)day * DAY;
}

/* ---- borders ---- */

static void test_border(void **state)
{
	const struct policy_class *credentials = policy_class_by_number(policy, CREDENTIALS);
	const struct policy_class *billing = policy_class_by_number(policy, BILLING);
	struct fact_client c = {.client = "acme"};
	struct prefix_answer a;
	uint16_t before, by_hand;

	assert_int_equal(class_border(billing, &c, START, &before), 0);
	assert_int_equal(before, 0); /* the relationship has not ended */
	assert_int_equal(class_border(credentials, &c, START + 5, &before), 0);
	for (by_hand = date_day(START); by_hand > 0 && day_start(by_hand) + 30 * DAY > START; by_hand--)
		;
	assert_int_equal(before, by_hand);
	assert_int_equal(prefix_judge(credentials, &c, before, START, &a), 0);
	assert_true(a.due && a.modified_since <= START - 30 * DAY + DAY);
	assert_int_equal(prefix_judge(credentials, &c, (uint16_t)(before + 1), START, &a), 0);
	assert_false(a.due);
	c.ended_on = START - 400 * DAY;
	assert_int_equal(class_border(policy_class_by_number(policy, PERSONAL), &c, START, &before), 0);
	assert_int_equal(before, date_day(START)); /* all but what is made today */
	c.held = true;
	assert_int_equal(class_border(credentials, &c, START, &before), 0);
	assert_int_equal(before, 0);
	assert_int_equal(class_border(credentials, &c, DAY_EPOCH_UNIX - DAY, &before), 0);
	assert_int_equal(before, 0);
}

/* A program that sets a file's time into the past does not make it older than it is. */
static void test_times_that_were_set(void **state)
{
	const struct policy_class *credentials = policy_class_by_number(policy, CREDENTIALS);
	struct fact_client c = {.client = "acme"};
	struct prefix_answer a;

	assert_int_equal(prefix_judge(credentials, &c, (uint16_t)(date_day(START) - 1), START, &a), 0);
	assert_false(a.due);
	assert_int_equal(a.due_on, START - DAY + 30 * DAY);
}

static void test_steps(void **state)
{
	struct fact_client c = {.client = "acme"};
	struct fact_class l = {.class = CREDENTIALS};
	struct class_moment m = {.now = START, .window = START - 7200, .clock_trusted = true, .due = true};

	assert_int_equal(class_next(&c, &l, &m), CLASS_LOOK);
	l.looked_at = START - 7199;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING); /* once in a window */
	l.looked_at = START - 7201;
	assert_int_equal(class_next(&c, &l, &m), CLASS_LOOK);
	m.whole_due = true;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING);
	m.whole_due = false;
	c.waiting = 7;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING);
	c.waiting = 0;
	l.postponed_until = START + 1;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING);
	l.postponed_until = 0;
	c.held_partly = true; /* a file of it is on hold: the class goes on */
	assert_int_equal(class_next(&c, &l, &m), CLASS_LOOK);
	m.clock_trusted = false;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING);
	l.waiting = 1;
	l.held = true;
	assert_int_equal(class_next(&c, &l, &m), CLASS_STOP); /* a hold needs no clock */
	l.held = false;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING);
	m.clock_trusted = true;
	l.wait_until = START;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING); /* its window has not begun */
	m.window = START;
	assert_int_equal(class_next(&c, &l, &m), CLASS_DESTROY);
	l.tried_at = START;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING); /* again in the next one */
	l.tried_at = 0;
	m.due = false;
	assert_int_equal(class_next(&c, &l, &m), CLASS_STOP);
	c.destroyed_on = START;
	assert_int_equal(class_next(&c, &l, &m), CLASS_NOTHING);
}

/* ---- random lives ---- */

#define FILES 12
#define HOLDS 4
static const uint16_t classes[] = {PERSONAL, BILLING, CREDENTIALS};
#define CLASSES ARRAY_SIZE(classes)

struct item { /* a document: saving and renaming change its file, not it */
	bool there;
	uint16_t class, day;
	int64_t modified;
};

struct hold {
	int64_t row;
	uint16_t class; /* 0: not on a class */
	int file;	/* -1: not on a file */
};

struct notice { /* what the model remembers of one that runs */
	int64_t given, until;
	int64_t asked;
};

struct life {
	struct facts *f;
	char name[32];
	int64_t row, now, ended;
	bool trusted;
	struct item files[FILES];
	struct hold holds[HOLDS];
	struct notice notices[CLASSES];
	unsigned destroyed;
};

static struct fact_client look_client(struct life *l)
{
	struct fact_client c;

	assert_int_equal(facts_client(l->f, l->name, FACTS_LATEST, &c), 0);
	return c;
}

static size_t index_of(uint16_t class)
{
	for (size_t i = 0; i < CLASSES; i++)
		if (classes[i] == class)
			return i;
	fail();
	return 0;
}

/* By the policy's words, file by file. */
static bool is_due(const struct life *l, const struct item *f)
{
	int64_t made = day_start(f->day) + DAY - 1, changed = f->modified > made ? f->modified : made;
	int64_t end = l->ended ? day_after(l->ended) + 90 * DAY : INT64_MAX;

	switch (f->class) {
	case CREDENTIALS:
		return l->now >= day_after(changed) + 30 * DAY;
	case BILLING:
		return l->ended && l->now >= end && l->now >= date_add(day_after(made), 7, 0, 0);
	default:
		return l->ended && l->now >= end;
	}
}

static bool is_held(const struct life *l, int file, uint16_t class)
{
	for (const struct hold *h = l->holds; h < l->holds + HOLDS; h++)
		if (h->row && ((h->class == 0 && h->file < 0) || (h->class && h->class == class) ||
				      (file >= 0 && h->file == file)))
			return true;
	return false;
}

/* What the worker would see: what of the class would go, and how old it is. */
static void survey(const struct life *l, const struct policy_class *class, uint16_t before, int64_t since,
	struct fact_class *ret)
{
	ret->oldest_day = LOOK_NOTHING;
	ret->found = 0;
	for (int i = 0; i < FILES; i++) {
		const struct item *f = &l->files[i];

		if (!f->there || f->class != class->number)
			continue;
		if (ret->oldest_day == LOOK_NOTHING || f->modified < ret->oldest_change)
			ret->oldest_change = f->modified;
		if (f->day < ret->oldest_day)
			ret->oldest_day = f->day;
		ret->found += f->day < before && f->modified < since && !is_held(l, i, 0);
	}
}

static void destroy(struct life *l, const struct policy_class *class, const struct fact_class *fc, int64_t since)
{
	struct notice *n = &l->notices[index_of(class->number)];
	struct fact_erasure e = {.client = fc->client, .class = fc->class, .notice = fc->waiting, .generation = 1,
		.store = (char *)"", .counts = (char *)"{}", .leaves = (char *)""};
	int64_t row;

	assert_true(l->trusted);
	assert_true(n->given && l->now >= n->until);
	assert_false(is_held(l, -1, class->number));
	assert_int_equal(facts_erasure_intend(l->f, &e, FACTS_CLOCK, l->now, &row), 0);
	for (int i = 0; i < FILES; i++) {
		struct item *f = &l->files[i];

		if (!f->there || f->class != class->number || f->day >= fc->before || f->modified >= since ||
			is_held(l, i, 0))
			continue;
		assert_true(is_due(l, f));
		f->there = false;
		l->destroyed++;
	}
	assert_int_equal(facts_erasure_finish(l->f, row, true, "{}", "s", l->now), 0);
	*n = (struct notice){0};
}

static void give_notice(struct life *l, const struct policy_class *class, uint16_t before, const struct prefix_answer *a,
	int64_t client)
{
	struct fact_notice n = {.client = client, .class = class->number, .before = before, .due = a->due_on,
		.wait_until = expiry_wait_until(policy, l->now), .rule = "r", .source = "s"};
	int64_t row;

	assert_int_equal(facts_notice_begin(l->f, &n, l->now, &row), 0);
	assert_int_equal(facts_notice_begin(l->f, &n, l->now, &row), -EEXIST);
	l->notices[index_of(class->number)] =
		(struct notice){.given = l->now, .until = day_after(l->now) + 30 * DAY};
}

static void night_of_class(struct life *l, const struct fact_client *c, const struct policy_class *class)
{
	struct class_moment m = {.now = l->now, .window = expiry_window(policy, l->now), .clock_trusted = l->trusted};
	struct prefix_answer a = {0};
	struct expiry_answer whole;
	struct fact_class fc, seen;
	uint16_t before;
	bool may = true;

	assert_int_equal(expiry_judge(policy, c, l->now, &whole), 0);
	m.whole_due = expiry_is_due(c, &whole, l->trusted);
	assert_int_equal(facts_class(l->f, c->row, class->number, &fc), 0);
	before = fc.before;
	if (!fc.waiting) {
		assert_int_equal(class_may_be_due(class, c, &fc, l->now, &may), 0);
		assert_int_equal(class_border(class, c, l->now, &before), 0);
	}
	if (before > 0)
		assert_int_equal(prefix_judge(class, c, before, l->now, &a), 0);
	m.due = a.due && may;
	seen = fc;
	if (a.due)
		survey(l, class, before, a.modified_since, &seen);
	if (a.due && !may)
		assert_int_equal(seen.found, 0); /* no look was needed */
	switch (class_next(c, &fc, &m)) {
	case CLASS_LOOK:
		seen.looked_at = l->now;
		assert_int_equal(facts_look_set(l->f, &seen), 0);
		if (seen.found > 0)
			give_notice(l, class, before, &a, c->row);
		break;
	case CLASS_STOP:
		assert_int_equal(facts_notice_end_class(
					 l->f, c->row, class->number, NOTICE_NOT_DUE, "r", 0, FACTS_CLOCK, l->now),
			0);
		l->notices[index_of(class->number)] = (struct notice){0};
		break;
	case CLASS_DESTROY:
		destroy(l, class, &fc, a.modified_since);
		break;
	default:
		break;
	}
}

static void night(struct life *l)
{
	struct fact_client c = look_client(l);

	for (size_t i = 0; i < CLASSES; i++)
		night_of_class(l, &c, policy_class_by_number(policy, classes[i]));
}

/* ---- what people do ---- */

static void make_file(struct life *l)
{
	struct item *f = &l->files[rand() % FILES];

	if (f->there)
		return;
	*f = (struct item){true, classes[rand() % CLASSES], date_day(l->now), l->now};
}

static void use_file(struct life *l)
{
	struct item *f = &l->files[rand() % FILES];

	if (f->there)
		f->modified = rand() % 4 ? l->now : l->now - rand() % (900 * DAY); /* or somebody set its time */
}

static void place_hold(struct life *l, struct hold *h)
{
	struct fact_hold fh = {.client = l->row, .matter = "m", .reason = "r"};
	char file[17];

	*h = (struct hold){.file = -1};
	switch (rand() % 3) {
	case 0:
		break;
	case 1:
		h->class = fh.class = classes[rand() % CLASSES];
		break;
	default:
		h->file = rand() % FILES;
		snprintf(file, sizeof(file), "%016x", (unsigned)h->file);
		fh.file = file;
	}
	assert_int_equal(facts_hold_place_on(l->f, &fh, ada, l->now, &h->row), 0);
	for (size_t i = 0; i < CLASSES; i++)
		if (h->file < 0 && (!h->class || h->class == classes[i]))
			l->notices[i] = (struct notice){0};
}

static void change_hold(struct life *l)
{
	struct hold *h = &l->holds[rand() % HOLDS];

	if (!h->row) {
		place_hold(l, h);
		return;
	}
	assert_int_equal(facts_hold_lift(l->f, h->row, "r", ada, l->now), 0);
	assert_int_equal(facts_looks_forget(l->f, l->row), 0);
	h->row = 0;
}

static void custodian(struct life *l)
{
	size_t i = (size_t)rand() % CLASSES;
	struct fact_schedule s;
	struct fact_class fc;
	struct notice *n = &l->notices[i];

	assert_int_equal(facts_class(l->f, l->row, classes[i], &fc), 0);
	assert_int_equal(fc.waiting != 0, n->given != 0);
	if (!fc.waiting)
		return;
	assert_int_equal(fc.wait_until, n->until);
	switch (rand() % 4) {
	case 0:
		assert_int_equal(facts_notice_end_class(l->f, fc.client, fc.class, NOTICE_CANCELLED, "r",
					 expiry_wait_until(policy, l->now), ada, l->now),
			0);
		*n = (struct notice){0};
		return;
	case 1:
		n->asked = l->now + rand() % 20 * DAY;
		assert_int_equal(facts_notice_schedule(l->f, fc.waiting, n->asked, "r", ada, l->now), 0);
		return;
	default:
		if (facts_notice_scheduled(l->f, fc.waiting, &s) < 0)
			return;
		assert_int_equal(facts_notice_confirm(l->f, s.row, bob, l->now), 0);
		n->until = s.until < n->until ? s.until : n->until;
	}
}

/* Whatever the rules say: the database refuses what the model knows to be wrong. */
static void force(struct life *l)
{
	size_t i = (size_t)rand() % CLASSES;
	struct fact_erasure e = {.class = classes[i], .generation = 1, .store = (char *)"", .counts = (char *)"{}",
		.leaves = (char *)""};
	struct fact_class fc;
	int64_t row;

	e.client = l->row;
	assert_int_equal(facts_class(l->f, e.client, e.class, &fc), 0);
	e.notice = fc.waiting ? fc.waiting : 4711;
	if (is_held(l, -1, e.class) || !l->notices[i].given || l->now < l->notices[i].until)
		assert_true(facts_erasure_intend(l->f, &e, ada, l->now, &row) < 0);
}

static void act(struct life *l)
{
	switch (rand() % 16) {
	case 0:
		l->ended = l->now - rand() % 60 * DAY;
		assert_int_equal(facts_client_end(l->f, l->row, l->ended, ada, l->now), 0);
		break;
	case 1:
	case 2:
		change_hold(l);
		break;
	case 3:
		custodian(l);
		break;
	case 4:
		l->trusted = !l->trusted;
		break;
	case 5:
		force(l);
		break;
	case 6:
	case 7:
	case 8:
		make_file(l);
		break;
	case 9:
		use_file(l);
		break;
	default:
		l->now += rand() % (rand() % 8 ? 25 * DAY : 900 * DAY);
		night(l);
	}
}

/* With nothing in the way, what is due goes: notice, waiting, and what came meanwhile, too. */
static void end_of_life(struct life *l)
{
	l->trusted = true;
	for (int i = 0; i < HOLDS; i++)
		if (l->holds[i].row) {
			assert_int_equal(facts_hold_lift(l->f, l->holds[i].row, "r", ada, l->now), 0);
			l->holds[i].row = 0;
		}
	assert_int_equal(facts_looks_forget(l->f, l->row), 0);
	for (int i = 0; i < 9; i++) {
		l->now += 25 * DAY;
		night(l);
	}
	if (l->ended && expiry_destroy_on(policy, &(struct fact_client){.ended_on = l->ended}, l->now) <= l->now)
		return; /* the client goes as a whole */
	l->now -= 8 * 25 * DAY; /* what was due at the beginning of that */
	for (int i = 0; i < FILES; i++)
		assert_false(l->files[i].there && is_due(l, &l->files[i]));
}

static void test_random_lives(void **state)
{
	const char *wanted = getenv("COFFER_LIVES"); /* more of them than the suite has time for */
	int count = wanted ? atoi(wanted) : 600;
	unsigned destroyed = 0, lives = 0;
	struct facts *f = NULL;

	assert_int_equal(facts_open(":memory:", &f), 0);
	assert_int_equal(facts_begin(f), 0);
	srand(20261128);
	for (int n = 0; n < count; n++) {
		struct life l = {.f = f, .now = START + rand() % DAY, .trusted = true};

		snprintf(l.name, sizeof(l.name), "c%d", n);
		for (size_t i = 0; i < HOLDS; i++)
			l.holds[i].file = -1;
		assert_int_equal(facts_client_add(f, l.name, l.name, "N", "a@b", ada, l.now), 0);
		l.row = look_client(&l).row;
		for (int i = 0; i < 40; i++)
			act(&l);
		end_of_life(&l);
		destroyed += l.destroyed;
		lives += l.destroyed > 0;
	}
	assert_true(destroyed > (unsigned)count && lives > (unsigned)count / 3); /* else it proves little */
	facts_rollback(f);
	facts_close(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_border),
		cmocka_unit_test(test_times_that_were_set),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_random_lives),
	};

	return cmocka_run_group_tests(tests, life_setup_all, life_teardown_all);
}
