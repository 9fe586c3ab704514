#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/date.h"
#include "common/ids.h"
#include "common/scope.h"
#include "policy/builtin.h"
#include "policy/policy.h"

static const char *const good[] = {
	"format: 1",                                                   /* 1 */
	"name: example",                                               /* 2 */
	"version: \"1\"",                                              /* 3 */
	"effective: \"2024-02-29\"",                                   /* 4 */
	"controller: Example Ltd",                                     /* 5 */
	"contact: privacy@example.org",                                /* 6 */
	"legal_bases:",                                                /* 7 */
	"  - id: law",                                                 /* 8 */
	"    title: The law",                                          /* 9 */
	"    source: LAW",                                             /* 10 */
	"purposes:",                                                   /* 11 */
	"  - id: work",                                                /* 12 */
	"    title: To work",                                          /* 13 */
	"    basis: law",                                              /* 14 */
	"    source: WORK",                                            /* 15 */
	"    rights: rw",                                              /* 16 */
	"    ticket: {pattern: \"^[0-9]+$\"}",                         /* 17 */
	"    max_session: 1d",                                         /* 18 */
	"    parties: [employee]",                                     /* 19 */
	"  - id: look",                                                /* 20 */
	"    title: To look",                                          /* 21 */
	"    basis: law",                                              /* 22 */
	"    source: LOOK",                                            /* 23 */
	"    rights: r",                                               /* 24 */
	"    after_end: true",                                         /* 25 */
	"parties:",                                                    /* 26 */
	"  - id: employee",                                            /* 27 */
	"    title: Employees",                                        /* 28 */
	"    source: PEOPLE",                                          /* 29 */
	"classes:",                                                    /* 30 */
	"  - number: 16",                                              /* 31 */
	"    id: personal",                                            /* 32 */
	"    title: Personal",                                         /* 33 */
	"    source: DATA",                                            /* 34 */
	"    default: true",                                           /* 35 */
	"    retention:",                                              /* 36 */
	"      - event: created",                                      /* 37 */
	"        period: 1y 6m",                                       /* 38 */
	"        source: KEEP",                                        /* 39 */
	"  - number: 17",                                              /* 40 */
	"    id: other",                                               /* 41 */
	"    title: Other",                                            /* 42 */
	"    source: DATA",                                            /* 43 */
	"    retention:",                                              /* 44 */
	"      - {event: modified, period: 30d, source: KEEP}",        /* 45 */
	"      - {event: relationship-end, period: 7y, source: KEEP}", /* 46 */
};

/* The good text with line `line` (1-based) replaced; "" leaves it out but keeps its place as a comment. */
static size_t make_text(char *to, size_t size, unsigned line, const char *instead)
{
	size_t n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
		const char *text = i + 1 == line ? (instead[0] ? instead : "# gone") : good[i];

		n += (size_t)snprintf(to + n, size - n, "%s\n", text);
		assert_true(n < size);
	}
	return n;
}

static void the_builtin_policy_loads(void **state)
{
	static const char *const ids[] = {"support", "technology-move", "data-migration", "training",
		"consulting", "offers-and-events", "improve-services", "fraud-prevention",
		"legal-compliance"};
	struct policy_error err;
	struct policy *p;

	if (policy_load_text(NULL, 0, &p, &err) < 0)
		fail_msg("line %u: %s", err.line, err.text);
	assert_string_equal(p->name, "inemsoft");
		for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		assert_non_null(policy_purpose(p, ids[i]));
	for (int y = PARTY_EMPLOYEE; y <= PARTY_AFFILIATE; y++)
		assert_non_null(policy_party(p, (enum party)y));
	assert_string_equal(policy_default_class(p)->id, "personal");
	assert_int_equal(policy_default_class(p)->number, CLASS_FIRST_POLICY);
	assert_true(policy_party(p, PARTY_PROVIDER)->reference_required);
	assert_true(policy_purpose(p, "fraud-prevention")->ticket_required);
	assert_false(policy_purpose(p, "data-migration")->ticket_required);
	assert_non_null(policy_purpose(p, "data-migration")->ticket);
	assert_true(policy_purpose(p, "legal-compliance")->after_end);
	assert_false(policy_purpose(p, "support")->after_end);
	assert_int_equal(strlen(p->text_hash), 64);
	policy_free(p);
}

/* Every source is a heading of the policy's text, word for word.  The headings stand here because the text
 * itself is not part of the sources. */
static void every_rule_names_a_heading(void **state)
{
	static const char *const headings[] = {"WHERE THIS PRIVACY POLICY APPLIES", "HOW TO CONTACT US",
		"DATA CONTROLLER", "INFORMATION WE COLLECT", "HOW WE USE INFORMATION",
		"USE AND COLLECTION OF INFORMATION BY THIRD PARTY PROVIDERS AND PARTNERS",
		"HOW WE SHARE INFORMATION", "WITH OUR THIRD-PARTY PROVIDERS AND PARTNERS",
		"WITH OUR AFFILIATES", "FOR CORPORATE TRANSACTIONS", "WHEN REQUIRED BY LAW",
		"TO ENFORCE LEGAL RIGHTS", "WITH YOUR CONSENT OR AT YOUR REQUEST", "OUR USE OF COOKIES",
		"ORDERS", "HOW WE PROTECT AND RETAIN INFORMATION", "LINKS TO OTHER WEBSITES AND SERVICES",
		"CHANGES IN THE PRIVACY POLICY"};
	size_t n, found = 0;
	const char *text = policy_builtin_text(&n), *end = text + n, *at = text;

	while ((at = memmem(at, (size_t)(end - at), " source: ", 9))) {
		const char *value = at + 9, *stop = memchr(value, '\n', (size_t)(end - value));
		bool known = false;

		assert_non_null(stop);
		for (size_t i = 0; i < ARRAY_SIZE(headings); i++)
			known |= strlen(headings[i]) == (size_t)(stop - value) &&
				 memcmp(headings[i], value, strlen(headings[i])) == 0;
		if (!known)
			fail_msg("no heading: %.*s", (int)(stop - value), value);
		found++;
		at = stop;
	}
	assert_true(found >= 3 + 9 + 4 + 4 + 5);
}

static void all_values_arrive(void **state)
{
	struct policy_error err;
	struct policy *p;
	char text[8192];
	size_t n = make_text(text, sizeof(text), 0, "");
	const struct policy_purpose *work;
	const struct policy_class *c;
	int64_t day;

	if (policy_load_text(text, n, &p, &err) < 0)
		fail_msg("line %u: %s", err.line, err.text);
	assert_int_equal(date_parse("2024-02-29", 0, &day), 0);
	assert_int_equal(p->effective, day);
	assert_string_equal(p->controller, "Example Ltd");
	assert_string_equal(p->contact, "privacy@example.org");
	work = policy_purpose(p, "work");
	assert_int_equal(work->rights, RIGHTS_RW);
	assert_string_equal(work->ticket, "^[0-9]+$");
	assert_false(work->ticket_required);
	assert_int_equal(work->max_session.days, 1);
	assert_int_equal(work->parties_count, 1);
	assert_string_equal(work->parties[0], "employee");
	assert_false(work->after_end);
	assert_int_equal(policy_purpose(p, "look")->parties_count, 0);
	assert_true(policy_purpose(p, "look")->after_end);
	assert_null(policy_purpose(p, "wor"));
	assert_null(policy_party(p, PARTY_PROVIDER));
	c = policy_class_by_number(p, 16);
	assert_ptr_equal(c, policy_default_class(p));
	assert_int_equal(c->retention[0].period.years, 1);
	assert_int_equal(c->retention[0].period.months, 6);
	assert_int_equal(policy_class(p, "other")->retention_count, 2);
	assert_int_equal(policy_class(p, "other")->retention[1].event, EVENT_RELATIONSHIP_END);
	assert_null(policy_class_by_number(p, 18));
	policy_free(p);
}

static void the_wait_before_destruction(void **state)
{
	static const struct {
		const char *line;
		struct period wait;
	} table[] = {
		{"contact: a@b", {.days = 30}},
		{"contact: a@b\ndestruction: {}", {.days = 30}},
		{"contact: a@b\ndestruction: {wait: 7d}", {.days = 7}},
		{"contact: a@b\ndestruction: {wait: 1m}", {.months = 1}},
		{"contact: a@b\ndestruction: {wait: 1y 2m 3d}", {1, 2, 3}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct policy_error err;
		struct policy *p = NULL;
		char text[8192];
		size_t n = make_text(text, sizeof(text), 6, table[i].line);

		if (policy_load_text(text, n, &p, &err) < 0)
			fail_msg("line %u: %s", err.line, err.text);
		assert_memory_equal(&p->wait, &table[i].wait, sizeof(p->wait));
		policy_free(p);
	}
}

static void named_events_and_the_legal_minimum(void **state)
{
	char text[8192], *at;
	struct policy_error err;
	struct policy *p = NULL;
	const struct policy_class *c;
	size_t n = make_text(text, sizeof(text), 6,
		"contact: a@b\nevents:\n  - {id: contract-end, title: T, source: S}");

	at = strstr(text, "event: created");
	assert_non_null(at);
	memmove(at + strlen("event: contract-end"), at + strlen("event: created"), strlen(at) - strlen("event: created") + 1);
	memcpy(at, "event: contract-end", strlen("event: contract-end"));
	n = strlen(text);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "    at_least: {event: created, period: 7y, source: LAW}\n");
	if (policy_load_text(text, n, &p, &err) < 0)
		fail_msg("line %u: %s", err.line, err.text);
	assert_string_equal(policy_event(p, "contract-end")->source, "S");
	assert_null(policy_event(p, "created"));
	assert_int_equal(policy_class(p, "personal")->retention[0].event, EVENT_NAMED);
	assert_string_equal(policy_class(p, "personal")->retention[0].named, "contract-end");
	c = policy_class(p, "other");
	assert_int_equal(c->retention_count, 3);
	assert_true(c->retention[2].legal && !c->retention[1].legal);
	assert_int_equal(c->retention[2].period.years, 7);
	policy_free(p);
}

struct mistake {
	unsigned line; /* replaced */
	const char *instead;
	unsigned told; /* the line that the error must name */
	const char *says;
};

static const struct mistake mistakes[] = {
	{1, "format: 2", 1, "format 2"},
	{1, "format: one", 1, NULL},
	{2, "nmae: example", 2, "nmae"},
	{2, "name: [example]", 2, NULL},
	{2, "name: \"\"", 2, NULL},
	{3, "name: again", 3, "second time"},
	{4, "effective: \"2023-02-29\"", 4, "2023-02-29"},
	{4, "effective: tomorrow", 4, "tomorrow"},
	{5, "controller: &a Example", 5, NULL}, /* no error by itself: see below */
	{6, "contact: a@b\ndestruction: {sendmail: sendmail}", 7, "absolute"},
	{6, "contact: a@b\ndestruction: {wait: 6d}", 7, "7 days at least"},
	{6, "contact: a@b\ndestruction:\n  wait: 0d", 8, "0d"},
	{6, "contact: a@b\ndestruction: {wait: soon}", 7, "soon"},
	{6, "contact: a@b\ndestruction: {after: 7d}", 7, "after"},
	{6, "contact: a@b\nevents:\n  - {id: Close, title: T, source: S}", 8, "Close"},
	{6, "contact: a@b\nevents:\n  - {id: x, title: T, source: S}\n  - {id: x, title: T, source: S}", 9, "twice"},
	{6, "contact: a@b\nevents:\n  - {id: created, title: T, source: S}", 8, "every policy"},
	{35, "    default: true\n    at_least: {event: closed, period: 7y, source: LAW}", 36, "closed"},
	{35, "    default: true\n    at_least: {event: created, period: 7, source: LAW}", 36, "7"},
	{8, "  - id: Law", 8, "Law"},
	{8, "  - id: l,w", 8, "l,w"},
	{10, "    sourc: LAW", 10, "sourc"},
	{10, "    consent: maybe\n    source: LAW", 10, "maybe"},
	{12, "  - id: look", 20, "twice"},
	{14, "    basis: lwa", 14, "lwa"},
	{16, "    rights: w", 16, "w"},
	{16, "    rights: rwx", 16, "rwx"},
	{17, "    ticket: {pattern: \"[0-9\"}", 17, "regular expression"},
	{17, "    ticket: {patern: \"x\"}", 17, "patern"},
	{17, "    ticket: {required: false}", 17, "asks for nothing"},
	{17, "    ticket: {required: yep}", 17, "yep"},
	{18, "    max_session: 1w", 18, "1w"},
	{18, "    max_session: 30min 8h", 18, "is no length"},
	{18, "    approval: soon", 18, "is no length"},
	{18, "    services: [nothing]", 18, "service line"},
	{18, "    parent: look", 18, "stands before its children"},
	{18, "    parent: work", 18, "stands before its children"},
	{18, "    node: true", 18, "only a heading"},
	{18, "    export: yes", 18, "yes"},
	{11, "purposes:\n  - {id: all, title: A, source: S, node: true, idle: 8h}", 12, "only a heading"},
	{11, "purposes:\n  - {id: all, title: A, source: S, node: true, approval: 8h}", 12, "only a heading"},
	{11, "purposes:\n  - {id: all, title: A, source: S, node: true, after_end: true}", 12, "only a heading"},
	{11, "purposes:\n  - {id: all, title: A, source: S, node: true, export: no}\n"
	     "  - {id: one, title: O, source: S, parent: all, basis: law, rights: r, export: recorded}", 13, "covers it"},
	{18, "    export: \"\"", 18, NULL},
	{43, "    source: DATA\n    purposes: [nothing]", 44, "no purpose"},
	{18, "    max_session: 0d", 18, "0d"},
	{19, "    parties: [employee, partner]", 19, "partner"},
	{19, "    parties: [employe]", 19, "employe"},
	{19, "    parties: []", 19, NULL},
	{19, "    classes: [personal]", 19, "classes"},
	{19, "    approve: two", 19, "approve"},
	{25, "    after_end: 1", 25, NULL},
	{27, "  - id: boss", 27, "boss"},
	{27, "  - {id: employee, title: A, source: B}\n  - id: employee", 28, "twice"},
	{31, "  - number: 15", 31, "16"},
	{31, "  - number: 65536", 31, NULL},
	{31, "  - number: -1", 31, NULL},
	{40, "  - number: 16", 40, "twice"},
	{41, "    id: personal", 41, "twice"},
	{35, "", 31, "default"},
	{41, "    id: other\n    default: true", 42, "already"},
	{37, "      - event: burnt", 37, "burnt"},
	{38, "        period: 1y 6", 38, "1y 6"},
	{38, "        period: 90", 38, "90"},
	{45, "      - {event: modified, period: 30d, source: KEEP, and: more}", 45, "and"},
	{46, "      - {event: relationship-end, period: 7x, source: KEEP}", 46, "7x"},
	{46, "      - {event: relationship-end, period: 7y, source: KEEP", 46, "YAML"},
	{46, "---\nformat: 1", 47, "second document"},
};

static void every_mistake_is_told_with_its_line(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
		const struct mistake *m = &mistakes[i];
		struct policy_error err;
		struct policy *p = NULL;
		char text[8192];
		size_t n = make_text(text, sizeof(text), m->line, m->instead);
		int r = policy_load_text(text, n, &p, &err);

		if (strchr(m->instead, '&')) { /* an anchor nobody uses */
			assert_int_equal(r, 0);
			policy_free(p);
			continue;
		}
		if (r != -EINVAL)
			fail_msg("\"%s\" is accepted (%d)", m->instead, r);
		assert_null(p);
		/* An unclosed bracket is noticed at the end of the text. */
		if (err.line != m->told &&
			!(strstr(err.text, "YAML") && err.line > m->told && err.line <= m->told + 2))
			fail_msg("\"%s\": line %u is told, not %u: %s", m->instead, err.line, m->told,
				err.text);
		if (m->says && !strstr(err.text, m->says))
			fail_msg("\"%s\": \"%s\" does not say \"%s\"", m->instead, err.text, m->says);
	}
}

/* Leaving out any line that is not optional is refused, and some line near it is named. */
static void what_is_missing_is_told(void **state)
{
	static const unsigned needed[] = {
		1, 2, 3, 4, 5, 6, 9, 10, 13, 14, 15, 16, 28, 29, 33, 34, 38, 39, 42, 43};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		struct policy_error err;
		struct policy *p = NULL;
		char text[8192], key[32];
		size_t n = make_text(text, sizeof(text), needed[i], "");

		sscanf(good[needed[i] - 1], " %31[a-z_]", key);
		assert_int_equal(policy_load_text(text, n, &p, &err), -EINVAL);
		assert_true(err.line > 0);
		if (!strstr(err.text, key))
			fail_msg("without %s: line %u: %s", key, err.line, err.text);
	}
}

static void aliases_are_refused(void **state)
{
	struct policy_error err;
	struct policy *p = NULL;
	char text[8192];
	size_t n = make_text(text, sizeof(text), 5, "controller: &c Example\ncontact: *c");

	(void)n;
	n = (size_t)snprintf(text, sizeof(text), "format: 1\nname: &n x\nversion: *n\n");
	assert_int_equal(policy_load_text(text, n, &p, &err), -EINVAL);
	assert_int_equal(err.line, 3);
}

static void cut_and_flipped_texts_are_harmless(void **state)
{
	struct policy_error err;
	struct policy *p;
	char text[8192], bad[8192];
	size_t n = make_text(text, sizeof(text), 0, "");

	for (size_t cut = 0; cut < n; cut++) {
		p = NULL;
		if (policy_load_text(text, cut, &p, &err) == 0)
			policy_free(p);
		else
			assert_true(err.text[0] != '\0');
	}
	for (size_t at = 0; at < n; at++) {
		memcpy(bad, text, n);
		bad[at] ^= (char)(1 << at % 8);
		p = NULL;
		if (policy_load_text(bad, n, &p, &err) == 0)
			policy_free(p);
		else
			assert_true(err.text[0] != '\0');
	}
}

static void files_are_read(void **state)
{
	char path[] = "/tmp/coffer-policy-XXXXXX", text[8192];
	size_t n = make_text(text, sizeof(text), 0, "");
	int fd = mkstemp(path);
	struct policy_error err;
	struct policy *p, *q;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, n), (ssize_t)n);
	close(fd);
	assert_int_equal(policy_load_file(path, &p, &err), 0);
	assert_int_equal(policy_load_text(text, n, &q, &err), 0);
	assert_string_equal(p->text_hash, q->text_hash);
	policy_free(q);
	text[n - 1] = ' ';
	assert_int_equal(policy_load_text(text, n, &q, &err), 0);
	assert_string_not_equal(p->text_hash, q->text_hash);
	policy_free(q);
	policy_free(p);
	unlink(path);
	assert_int_equal(policy_load_file(path, &p, &err), -ENOENT);
	assert_true(err.text[0] != '\0');
	assert_int_equal(policy_load_file("/tmp", &p, &err), -EINVAL);
	policy_free(NULL);
}

static void periods(void **state)
{
	static const char *const bad[] = {"", " ", "d", "1", "1h", "0d", "-1d", "+1d", "1d ", " 1d", "1d1m",
		"1d 1d", "201y", "2401m", "99999d", "99999999999999999999d", "1y  6m", "1.5y", "1D", "1y,6m"};
	struct period p;

	assert_int_equal(policy_period_parse("90d", &p), 0);
	assert_true(p.days == 90 && p.months == 0 && p.years == 0);
	assert_int_equal(policy_period_parse("2y 18m 3d", &p), 0);
	assert_true(p.days == 3 && p.months == 18 && p.years == 2);
	assert_int_equal(policy_period_parse("200y", &p), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		p.days = 77;
		if (policy_period_parse(bad[i], &p) != -EINVAL)
			fail_msg("\"%s\" is accepted", bad[i]);
		assert_int_equal(p.days, 77);
	}
}

static void lengths(void **state)
{
	static const struct {
		const char *text;
		int days, seconds;
	} good_ones[] = {{"30min", 0, 1800}, {"8h", 0, 28800}, {"1h 30min", 0, 5400}, {"1d 12h", 1, 43200}, {"2d", 2, 0}, {"90s", 0, 90},
		{"1h 1min 1s", 0, 3661}, {"1d 2s", 1, 2}};
	static const char *const bad[] = {"", "h", "0h", "30m1n", "8H", "1h 1h", "30min 8h", "1min 1min", "1s 1s", "1s 1min", "1s 1h", "0s", "s", "1 s", "100000s", "8h ", "9000h", "1 h"};
	struct period p;

	for (size_t i = 0; i < ARRAY_SIZE(good_ones); i++) {
		assert_int_equal(policy_length_parse(good_ones[i].text, &p), 0);
		assert_int_equal(p.days, good_ones[i].days);
		assert_int_equal(p.seconds, good_ones[i].seconds);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (policy_length_parse(bad[i], &p) != -EINVAL)
			fail_msg("%s is a length", bad[i]);
	assert_int_equal(policy_period_parse("8h", &p), -EINVAL);
}

static void words(void **state)
{
	enum party party;
	enum rights rights;

	for (int i = PARTY_EMPLOYEE; i <= PARTY_AFFILIATE; i++) {
		assert_int_equal(policy_party_parse(policy_party_name((enum party)i), &party), 0);
		assert_int_equal(party, i);
	}
	assert_int_equal(policy_party_parse("", &party), -EINVAL);
	assert_int_equal(policy_party_parse("Employee", &party), -EINVAL);
	assert_int_equal(policy_rights_parse("r", &rights), 0);
	assert_int_equal(rights, RIGHTS_READ);
	assert_int_equal(policy_rights_parse("rw", &rights), 0);
	assert_int_equal(rights, RIGHTS_RW);
	assert_int_equal(policy_rights_parse("w", &rights), -EINVAL);
	assert_int_equal(policy_rights_parse("", &rights), -EINVAL);
	assert_string_equal(policy_rights_name(RIGHTS_RW), "rw");
	assert_string_equal(policy_rights_name(RIGHTS_NONE), "none");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_builtin_policy_loads),
		cmocka_unit_test(every_rule_names_a_heading),
		cmocka_unit_test(all_values_arrive),
		cmocka_unit_test(the_wait_before_destruction),
		cmocka_unit_test(named_events_and_the_legal_minimum),
		cmocka_unit_test(every_mistake_is_told_with_its_line),
		cmocka_unit_test(what_is_missing_is_told),
		cmocka_unit_test(aliases_are_refused),
		cmocka_unit_test(cut_and_flipped_texts_are_harmless),
		cmocka_unit_test(files_are_read),
		cmocka_unit_test(periods),
		cmocka_unit_test(lengths),
		cmocka_unit_test(words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
