/* Due, notice, waiting, destruction: each step by itself, the letter, and random lives in which nothing may be
 * destroyed early, on hold, twice or without a notice. */
#include "keyd/expiry.h"
#include "keyd/keyd.h"
#include "keyd/notice.h"
#include "keyd/person.h"
#include "tests/unit/life_fixture.h"

#define END 1700006400 /* 2023-11-15 00:00 UTC */

/* ---- one step ---- */

static enum expiry_step next(const struct fact_client *c, int64_t now, bool trusted)
{
	struct expiry_answer a;

	assert_int_equal(expiry_judge(policy, c, now, &a), 0);
	return expiry_next(c, &a, now, trusted);
}

static void test_steps(void **state)
{
	struct fact_client c = {.client = "acme", .ended_on = END};
	int64_t due = expiry_destroy_on(policy, &c, END), until = expiry_wait_until(policy, due);

	assert_int_equal(until, due + 30 * DAY);
	assert_int_equal(expiry_wait_until(policy, due + 1), due + 31 * DAY); /* whole days */
	assert_int_equal(next(&c, due - 1, true), EXPIRY_NOTHING);
	assert_int_equal(next(&c, due, false), EXPIRY_NOTHING);
	assert_int_equal(next(&c, due, true), EXPIRY_NOTIFY);
	assert_int_equal(next(&c, due + 1000 * DAY, true), EXPIRY_NOTIFY); /* never at once, however late */
	c.postponed_until = due + 5 * DAY;
	assert_int_equal(next(&c, due + 5 * DAY - 1, true), EXPIRY_NOTHING);
	assert_int_equal(next(&c, due + 5 * DAY, true), EXPIRY_NOTIFY);
	c.postponed_until = 0;
	c.waiting = 1;
	c.wait_until = until;
	assert_int_equal(next(&c, until - 1, true), EXPIRY_NOTHING);
	assert_int_equal(next(&c, until, false), EXPIRY_NOTHING);
	assert_int_equal(next(&c, until, true), EXPIRY_DESTROY);
}

static void test_what_ends_a_notice(void **state)
{
	struct fact_client c = {.client = "acme", .ended_on = END, .waiting = 1};
	int64_t due = expiry_destroy_on(policy, &c, END);

	c.wait_until = due;
	c.held = true;
	assert_int_equal(next(&c, due, true), EXPIRY_STOP);
	assert_int_equal(next(&c, due, false), EXPIRY_STOP); /* a hold needs no clock */
	c.held = false;
	c.ended_on = END + 5 * DAY; /* corrected: it is not due yet */
	assert_int_equal(next(&c, due, true), EXPIRY_STOP);
	assert_int_equal(next(&c, due, false), EXPIRY_NOTHING);
	c.ended_on = END;
	c.destroying = true;
	assert_int_equal(next(&c, due, true), EXPIRY_NOTHING);
	c.destroying = false;
	c.destroyed_on = due;
	assert_int_equal(next(&c, due, true), EXPIRY_NOTHING);
}

/* ---- the letter ---- */

static void test_addresses(void **state)
{
	static const struct {
		const char *text, *address;
	} table[] = {
		{"dpo@acme.example", "dpo@acme.example"},
		{"Ada <ada+x@acme.example>, Exampleton", "ada+x@acme.example"},
		{"ask ada@acme.example.", "ada@acme.example"},
		{"", NULL},
		{"nobody", NULL},
		{"@acme.example", NULL},
		{"ada@", NULL},
		{"-oQ/tmp@acme.example", NULL},
		{"--x@acme.example", NULL},
		{"a\nBcc:@x", NULL},
		{"ada@x\r\nBcc: eve@x", "ada@x"},
		{"a b@x@y", NULL},
		{"\"a;b\"@x", NULL},
	};
	char buf[64], tiny[4];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		bool found = notice_address(table[i].text, buf, sizeof(buf));

		if (found != (table[i].address != NULL) || (found && strcmp(buf, table[i].address) != 0))
			fail_msg("%s: %s", table[i].text, found ? buf : "none");
	}
	assert_false(notice_address("ada@x", tiny, sizeof(tiny)));
}

/* The letter also carries who is answerable and whom to ask. */
static void test_o03_letter_and_controller(void **state)
{
	struct fact_client c = {.row = 1,
		.client = "acme",
		.hex = "00",
		.name = "Acme\r\nBcc: eve@x",
		.email = "dpo@acme.example",
		.ended_on = END};
	struct fact_notice n = {.due = END, .wait_until = END + 30 * DAY, .rule = "the rule", .source = "TEXT"};
	struct notice_letter l = {.row = 7, .client = &c, .notice = &n, .policy = policy, .now = END};
	scoped(freep) char *text = NULL, *alone = NULL;
	char to[200], name[NOTICE_NAME_MAX];

	assert_int_equal(notice_text(&l, to, sizeof(to), &text), 0);
	assert_string_equal(to, "dpo@acme.example, info@inemsoft.com");
	assert_non_null(strstr(text, "To: dpo@acme.example, info@inemsoft.com\r\n"));
	assert_non_null(strstr(text, "Date: Wed, 15 Nov 2023 00:00:00 +0000\r\n"));
	assert_non_null(strstr(text, "On 2023-12-15 the data"));
	assert_non_null(strstr(text, "the rule"));
	assert_non_null(strstr(text, policy->controller));
	assert_non_null(strstr(text, "Whom to ask:        info@inemsoft.com\r\n"));
	assert_null(strstr(text, "\nBcc:"));
	for (const char *p = strchr(text, '\n'); p; p = strchr(p + 1, '\n'))
		assert_int_equal(p[-1], '\r');
	assert_string_equal(notice_name(7, "acme", name), "notice-7-acme.eml");
	*c.email = '\0';
	assert_int_equal(notice_text(&l, to, sizeof(to), &alone), 0);
	assert_string_equal(to, "info@inemsoft.com");
}

/* ---- the facts of it ---- */

static struct facts *open_facts(struct fact_client *c)
{
	struct facts *f = NULL;

	assert_int_equal(facts_open(":memory:", &f), 0);
	assert_int_equal(facts_client_add(f, "acme", "aa", "Acme", "a@b", ada, END), 0);
	assert_int_equal(facts_client(f, "acme", FACTS_LATEST, c), 0);
	return f;
}

static struct fact_client look(struct facts *f, int64_t at)
{
	struct fact_client c;

	assert_int_equal(facts_client(f, "acme", at, &c), 0);
	return c;
}

static void test_notice_facts(void **state)
{
	struct fact_client c;
	struct facts *f = open_facts(&c);
	struct fact_notice n = {.client = c.row, .due = END, .wait_until = END + 30 * DAY, .rule = "r", .source = "s"};
	struct fact_destruction d = {.client = c.row, .generation = 1};
	struct fact_schedule s;
	int64_t row, again, intent;
	json_t *rows = NULL;

	assert_int_equal(facts_destruction_intend(f, &d, END, &intent), -EPERM);
	assert_int_equal(facts_notice_begin(f, &n, END, &row), 0);
	assert_int_equal(facts_notice_begin(f, &n, END, &again), -EEXIST);
	assert_int_equal(facts_destruction_intend(f, &d, END + 30 * DAY - 1, &intent), -EPERM);
	assert_int_equal(facts_notice_scheduled(f, row, &s), -ENOENT);
	assert_int_equal(facts_notice_schedule(f, row, END + 9 * DAY, "first", ada, END + 1), 0);
	assert_int_equal(facts_notice_schedule(f, row, END + 8 * DAY, "second", ada, END + 2), 0);
	assert_int_equal(facts_notice_scheduled(f, row, &s), 0);
	assert_int_equal(s.until, END + 8 * DAY);
	assert_int_equal(look(f, FACTS_LATEST).wait_until, END + 30 * DAY); /* asked for is not decided */
	assert_int_equal(facts_destruction_intend(f, &d, END + 8 * DAY, &intent), -EPERM);
	assert_int_equal(facts_notice_confirm(f, s.row, bob, END + 3), 0);
	assert_int_equal(facts_notice_confirm(f, s.row, ada, END + 4), -EEXIST);
	assert_int_equal(facts_notice_scheduled(f, row, &s), -ENOENT); /* nor is the one that was replaced */
	assert_int_equal(look(f, FACTS_LATEST).wait_until, END + 8 * DAY);
	assert_int_equal(look(f, END + 2).wait_until, END + 30 * DAY);
	assert_int_equal(facts_destruction_intend(f, &d, END + 8 * DAY - 1, &intent), -EPERM);
	assert_int_equal(facts_destruction_intend(f, &d, END + 8 * DAY, &intent), 0);
	assert_int_equal(facts_destruction_finish(f, intent, true, "{}", "ab", END + 9 * DAY), 0);
	assert_int_equal(look(f, FACTS_LATEST).waiting, 0);
	assert_int_equal(look(f, END + 8 * DAY).waiting, row);
	assert_int_equal(facts_notices(f, NULL, &rows), 0);
	assert_int_equal(json_array_size(rows), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(rows, 0), "outcome")), "destroyed");
	json_decref(rows);
	facts_close(f);
}

static void test_hold_and_cancellation(void **state)
{
	struct fact_client c;
	struct facts *f = open_facts(&c);
	struct fact_notice n = {.client = c.row, .wait_until = END + 30 * DAY, .rule = "r", .source = "s"};
	int64_t row, second, hold;

	assert_int_equal(facts_notice_begin(f, &n, END, &row), 0);
	assert_int_equal(facts_hold_place(f, c.row, "m", "r", ada, END + 1, &hold), 0);
	assert_int_equal(facts_hold_lift(f, hold, "r", ada, END + 2), 0);
	c = look(f, FACTS_LATEST);
	assert_int_equal(c.waiting, 0); /* a hold that came and went between two looks ended it all the same */
	assert_int_equal(c.postponed_until, 0);
	assert_int_equal(facts_notice_begin(f, &n, END + 3, &second), 0);
	assert_true(second > row);
	assert_int_equal(
		facts_notice_end(f, c.row, NOTICE_CANCELLED, "no", END + 60 * DAY, ada, END + 4), 0);
	assert_int_equal(facts_notice_end(f, c.row, NOTICE_CANCELLED, "no", 0, ada, END + 5), 0); /* none runs */
	assert_int_equal(look(f, FACTS_LATEST).postponed_until, END + 60 * DAY);
	assert_int_equal(look(f, END + 3).waiting, second);
	facts_close(f);
}

static void test_two_people(void **state)
{
	const struct peer he = {.uid = 100, .person = 100, .user = "ada"}, other = {.uid = 200, .person = 200, .user = "bob"};
	const struct peer again = {.uid = 300, .person = 300, .user = "ada"}, renamed = {.uid = 100, .person = 100, .user = "root"};
	const struct peer root = {.uid = 0, .person = 0, .user = "root"}, become = {.uid = 0, .person = 100, .user = "root"};
	const struct keyd embedded = {.embedded = true}, installed = {.embedded = false};
	const struct peer owner = {.roles = ROLE_OWNER}, by_group = {.roles = ROLE_ADMIN | ROLE_CUSTODIAN | ROLE_AUDITOR};

	assert_false(person_is(&other, "ada", 100));
	assert_true(person_is(&he, "ada", 100));
	assert_true(person_is(&again, "ada", 100));
	assert_true(person_is(&renamed, "ada", 100));
	assert_false(person_is(&root, "ada", 100));
	assert_true(person_is(&become, "ada", 100));
	assert_true(person_is(&he, "root", become.person)); /* and asked before as root */
	assert_true(person_is_alone(&embedded, &owner));    /* said so in the answer */
	assert_false(person_is_alone(&embedded, &by_group));
	assert_false(person_is_alone(&installed, &owner));
}

static void test_events(void **state)
{
	struct fact_client c;
	struct facts *f = open_facts(&c);
	json_t *rows = NULL;

	assert_int_equal(facts_event_set(f, c.row, "contract-end", END + DAY, ada, END), 0);
	assert_int_equal(facts_event_set(f, c.row, "contract-end", END + 2 * DAY, ada, END + 1), 0);
	assert_int_equal(facts_event_set(f, c.row, "audit", END, ada, END + 1), 0);
	assert_int_equal(facts_event_set(f, c.row, "audit", 0, ada, END + 2), 0);
	c = look(f, FACTS_LATEST);
	assert_int_equal(c.dates_count, 1); /* taken back is not there */
	assert_int_equal(c.dates[0].on, END + 2 * DAY);
	c = look(f, END); /* as it was known then */
	assert_int_equal(c.dates_count, 1);
	assert_int_equal(c.dates[0].on, END + DAY);
	assert_int_equal(facts_events(f, "acme", &rows), 0);
	assert_int_equal(json_array_size(rows), 4);
	json_decref(rows);
	facts_close(f);
}

/* Who ever had something of a longer class is not destroyed by the rule of the default class. */
static void test_the_longest_class_decides(void **state)
{
	struct fact_client c;
	struct facts *f = open_facts(&c);
	int64_t alone, billing = policy_class(policy, "billing")->number;
	struct expiry_answer a;

	assert_int_equal(facts_client_end(f, c.row, END, ada, END), 0);
	c = look(f, FACTS_LATEST);
	alone = expiry_destroy_on(policy, &c, END);
	assert_int_equal(facts_class_set_begin(f, c.row, "x", billing, ada, END), 0);
	assert_int_equal(facts_class_set_end(f, c.row), 0);
	assert_int_equal(facts_class_set_begin(f, c.row, "x", billing, ada, END + 1), 0);
	c = look(f, FACTS_LATEST);
	assert_int_equal(c.classes_count, 1);
	assert_int_equal(expiry_judge(policy, &c, END, &a), 0);
	assert_string_equal(a.class->id, "billing");
	assert_true(a.retention.due > alone + 6 * 365 * DAY);
	assert_int_equal(next(&c, alone, true), EXPIRY_NOTHING);
	c.classes[0] = 999; /* a class that the policy does not know (any more): nobody knows how long */
	assert_int_equal(next(&c, alone + 100000LL * DAY, true), EXPIRY_NOTHING);
	c.classes_count = FACT_CLASSES_MAX + 1;
	assert_int_equal(next(&c, alone + 100000LL * DAY, true), EXPIRY_NOTHING);
	facts_close(f);
}

/* ---- random lives ---- */

struct life {
	struct facts *f;
	struct fact_client c;
	int64_t now;
	bool trusted;
	/* what the test itself knows, from what it did */
	int64_t ended, noticed, hastened, asked, postponed, holds[4];
	unsigned destroyed;
};

static int64_t day_after(int64_t t)
{
	return (t + DAY - 1) / DAY * DAY;
}

static void check_destruction(const struct life *l)
{
	int64_t waited = day_after(l->noticed) + 30 * DAY;

	assert_int_equal(l->destroyed, 0);
	assert_true(l->trusted);
	assert_true(l->ended != 0 && l->noticed != 0);
	assert_true(l->now >= day_after(l->ended) + 90 * DAY);
	assert_true(l->now >= waited || (l->hastened && l->now >= l->hastened));
	for (size_t i = 0; i < ARRAY_SIZE(l->holds); i++)
		assert_int_equal(l->holds[i], 0);
}

static void forget_notice(struct life *l)
{
	l->noticed = l->hastened = l->asked = 0;
}

static void life_step(struct life *l)
{
	struct fact_destruction d = {.client = l->c.row, .generation = 1};
	struct fact_notice n = {.client = l->c.row, .rule = "r", .source = "s"};
	struct expiry_answer a;
	int64_t row;

	l->c = look(l->f, FACTS_LATEST);
	assert_int_equal(expiry_judge(policy, &l->c, l->now, &a), 0);
	switch (expiry_next(&l->c, &a, l->now, l->trusted)) {
	case EXPIRY_NOTIFY:
		assert_true(l->now >= l->postponed);
		n.due = a.retention.due;
		n.wait_until = expiry_wait_until(policy, l->now);
		assert_int_equal(facts_notice_begin(l->f, &n, l->now, &row), 0);
		forget_notice(l);
		l->noticed = l->now;
		break;
	case EXPIRY_STOP:
		assert_int_equal(facts_notice_end(l->f, l->c.row, NOTICE_NOT_DUE, "r", 0, ada, l->now), 0);
		l->postponed = 0;
		forget_notice(l);
		break;
	case EXPIRY_DESTROY:
		check_destruction(l);
		assert_int_equal(facts_destruction_intend(l->f, &d, l->now, &row), 0);
		assert_int_equal(facts_destruction_finish(l->f, row, true, "{}", "s", l->now), 0);
		l->destroyed++;
		break;
	default:
		break;
	}
}

/* Tries to destroy whatever the rules say: the database must refuse what the test knows to be wrong. */
static void life_force(struct life *l)
{
	struct fact_destruction d = {.client = l->c.row, .generation = 1};
	int64_t row;
	bool held = false, waited = l->noticed && (l->now >= day_after(l->noticed) + 30 * DAY ||
						   (l->hastened && l->now >= l->hastened));

	for (size_t i = 0; i < ARRAY_SIZE(l->holds); i++)
		held |= l->holds[i] != 0;
	if (held || !waited || l->destroyed)
		assert_true(facts_destruction_intend(l->f, &d, l->now, &row) < 0);
}

static void life_hold(struct life *l)
{
	size_t i = (size_t)rand() % ARRAY_SIZE(l->holds);

	if (l->holds[i]) {
		assert_int_equal(facts_hold_lift(l->f, l->holds[i], "r", ada, l->now), 0);
		l->holds[i] = 0;
		return;
	}
	if (l->destroyed)
		return;
	assert_int_equal(facts_hold_place(l->f, l->c.row, "m", "r", ada, l->now, &l->holds[i]), 0);
	if (l->c.waiting)
		l->postponed = 0;
	forget_notice(l);
}

static void life_custodian(struct life *l)
{
	struct fact_schedule s;

	l->c = look(l->f, FACTS_LATEST);
	if (!l->c.waiting)
		return;
	switch (rand() % 3) {
	case 0:
		l->postponed = expiry_wait_until(policy, l->now);
		assert_int_equal(
			facts_notice_end(l->f, l->c.row, NOTICE_CANCELLED, "r", l->postponed, ada, l->now), 0);
		forget_notice(l);
		return;
	case 1:
		l->asked = l->now + rand() % 20 * DAY;
		assert_int_equal(facts_notice_schedule(l->f, l->c.waiting, l->asked, "r", ada, l->now), 0);
		return;
	default:
		if (facts_notice_scheduled(l->f, l->c.waiting, &s) < 0)
			return;
		assert_int_equal(s.until, l->asked);
		assert_int_equal(facts_notice_confirm(l->f, s.row, bob, l->now), 0);
		l->hastened = l->hastened && l->hastened < l->asked ? l->hastened : l->asked;
	}
}

static void life_act(struct life *l)
{
	switch (rand() % 12) {
	case 0:
		l->ended = l->now + (rand() % 400 - 300) * DAY;
		if (!l->destroyed)
			assert_int_equal(facts_client_end(l->f, l->c.row, l->ended, ada, l->now), 0);
		break;
	case 1:
	case 2:
		life_hold(l);
		break;
	case 3:
	case 4:
		life_custodian(l);
		break;
	case 5:
		l->trusted = !l->trusted;
		break;
	case 6:
		life_force(l);
		break;
	default:
		l->now += rand() % (45 * DAY);
		life_step(l);
	}
}

static void test_random_lives(void **state)
{
	unsigned destroyed = 0;

	srand(20260501);
	for (int n = 0; n < 80; n++) {
		struct life l = {.now = END, .trusted = true};

		l.f = open_facts(&l.c);
		for (int i = 0; i < 120; i++) {
			life_act(&l);
			l.trusted |= rand() % 3 == 0;
		}
		destroyed += l.destroyed;
		assert_int_equal(l.destroyed != 0, look(l.f, FACTS_LATEST).destroyed_on != 0);
		facts_close(l.f);
	}
	assert_true(destroyed > 10 && destroyed < 80); /* else it proves little */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_what_ends_a_notice),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_o03_letter_and_controller),
		cmocka_unit_test(test_notice_facts),
		cmocka_unit_test(test_hold_and_cancellation),
		cmocka_unit_test(test_two_people),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_the_longest_class_decides),
		cmocka_unit_test(test_random_lives),
	};

	return cmocka_run_group_tests(tests, life_setup_all, life_teardown_all);
}
