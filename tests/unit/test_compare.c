/* What one policy says otherwise than another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/scope.h"
#include "policy/builtin.h"
#include "policy/compare.h"

/* The built-in policy with `will` in the place of `was`. */
static struct policy *with(const char *was, const char *will)
{
	size_t n;
	const char *builtin = policy_builtin_text(&n);
	scoped(freep) char *text = strndup(builtin, n), *made = NULL;
	struct policy *ret = NULL;
	struct policy_error err;
	char *at = strstr(text, was);

	assert_non_null(at);
	assert_true(asprintf(&made, "%.*s%s%s", (int)(at - text), text, will, at + strlen(was)) > 0);
	if (policy_load_text(made, strlen(made), &ret, &err) < 0)
		fail_msg("line %u: %s", err.line, err.text);
	return ret;
}

static void keep(const struct policy_change *c, void *arg)
{
	char **all = arg, *more;

	assert_true(asprintf(&more, "%s%s %s %s: %s -> %s\n", *all, c->kind, c->id, c->key, c->was, c->will) > 0);
	free(*all);
	*all = more;
}

/* Frees both. */
static char *changes(struct policy *a, struct policy *b)
{
	char *all = strdup("");

	policy_compare(a, b, keep, &all);
	policy_free(a);
	policy_free(b);
	return all;
}

static void test_the_same(void **state)
{
	scoped(freep) char *said = changes(with("format: 1", "format: 1"), with("format: 1", "format: 1"));

	assert_string_equal(said, "");
}

static void test_rules(void **state)
{
	scoped(freep) char *said = changes(with("max_session: 8h", "max_session: 8h"), with("max_session: 8h", "max_session: 9h"));
	scoped(freep) char *classes = changes(with("    shareable: true", "    shareable: true"), with("    shareable: true", "    shareable: false"));

	assert_string_equal(said, "purpose legal-process max_session: 8h -> 9h\n");
	assert_string_equal(classes, "class contact shareable: yes -> no\n");
}

static char *groups_to(const char *last)
{
	char *text = strdup("groups: [coffer-emergency");

	for (int i = 0; i < 14; i++) {
		char *more;

		assert_true(asprintf(&more, "%s, group-of-people-in-the-firm-%d", text, i) > 0);
		free(text);
		text = more;
	}
	text = realloc(text, strlen(text) + strlen(last) + 4);
	strcat(strcat(strcat(text, ", "), last), "]");
	return text;
}

/* However long a list is, its end counts. */
static void test_end_of_a_long_list(void **state)
{
	scoped(freep) char *was = groups_to("honest"), *will = groups_to("others");
	scoped(freep) char *said = changes(with("groups: [coffer-emergency]", was), with("groups: [coffer-emergency]", will));

	assert_non_null(strstr(said, "emergency  : "));
	assert_non_null(strstr(said, ", honest -> "));
	assert_non_null(strstr(said, ", others\n"));
}

/* Nobody needs a consent any more. */
static void test_legal_bases(void **state)
{
	scoped(freep) char *said = changes(with("consent: true", "consent: true"), with("consent: true", "consent: false"));
	const char *law = "  - id: legal-obligation\n    title: A legal obligation\n    source: WHEN REQUIRED BY LAW\n";
	const char *more = "  - id: legal-obligation\n    title: A legal obligation\n    source: WHEN REQUIRED BY LAW\n"
			   "  - id: vital\n    title: Vital interests\n    source: LAW\n";
	scoped(freep) char *added = changes(with(law, law), with(law, more));
	scoped(freep) char *removed = changes(with(law, more), with(law, law));

	assert_string_equal(said, "basis consent consent: yes -> no\n");
	assert_string_equal(added, "basis vital :  -> Vital interests\n");
	assert_string_equal(removed, "basis vital : Vital interests -> \n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_same),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_end_of_a_long_list),
		cmocka_unit_test(test_legal_bases),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
