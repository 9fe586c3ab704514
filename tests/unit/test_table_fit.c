/* Tables on narrow terminals: nothing is lost but what may be cut, words stay whole, no column becomes a few letters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/scope.h"
#include "tools/table_fit.h"

static void test_words_stay_whole(void **state)
{
	scoped(freep) char *a = fit_lines("who loses all slots loses every client", 12);
	scoped(freep) char *b = fit_lines("/a/path/without/any/space tail", 10);
	scoped(freep) char *c = fit_lines("", 10), *d = fit_lines("fits", 4);

	assert_string_equal(a, "who loses\nall slots\nloses every\nclient");
	assert_string_equal(b, "/a/path/wi\nthout/any/\nspace tail");
	assert_string_equal(c, "");
	assert_string_equal(d, "fits");
}

/* Every letter of the text is there again, in order, and no line is too long. */
static void test_no_letter_is_lost(void **state)
{
	static const char *const texts[] = {"a b  c   d", "  two before", "one-very-long-word-and then short", "äöü ßé €uro 漢字 kana"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		for (size_t width = 2; width < 24; width++) {
			scoped(freep) char *lines = fit_lines(texts[i], width), *copy = strdup(lines);
			const char *from = texts[i];

			for (char *rest = copy, *line; (line = strsep(&rest, "\n"));)
				assert_true(fit_cells(line) <= width);
			for (const char *p = lines; *p; p++) {
				if (*p == ' ' || *p == '\n')
					continue;
				from += strspn(from, " ");
				assert_int_equal(*p, *from++);
			}
			assert_int_equal(from[strspn(from, " ")], '\0');
		}
}

static void test_cut_ends_between_characters(void **state)
{
	scoped(freep) char *a = fit_cut("漢字仮名", 5), *b = fit_cut("abc", 7);

	assert_string_equal(a, "漢字");
	assert_string_equal(b, "abc");
	assert_int_equal(fit_cells("漢字仮名"), 8);
	assert_int_equal(fit_cells("a\x01\xff"), 9); /* as libsmartcols writes them: a\x01\xff */
}

static void test_room_goes_to_who_lacks_it(void **state)
{
	struct fit c[] = {{.natural = 20, .least = 20}, {.natural = 14, .least = 7}, {.natural = 90, .least = 24, .wraps = true},
		{.natural = 50, .least = 50, .dropped = true}};

	assert_true(fit_columns(c, ARRAY_SIZE(c), 80));
	assert_int_equal(c[0].width, 20);
	assert_int_equal(c[1].width, 14);
	assert_int_equal(c[2].width, 80 - 2 - 20 - 14);
	assert_true(fit_columns(c, ARRAY_SIZE(c), 53)); /* the least and no more */
	assert_int_equal(c[1].width, 7);
	assert_int_equal(c[2].width, 24);
}

static void test_too_narrow_is_said(void **state)
{
	struct fit c[] = {{.natural = 60, .least = 60}, {.natural = 14, .least = 7}, {.natural = 90, .least = 24, .wraps = true}};

	assert_false(fit_columns(c, ARRAY_SIZE(c), 80));
	assert_int_equal(c[0].width, 60);
	assert_int_equal(c[1].width, 7); /* may be cut all the same */
	assert_int_equal(c[2].width, 0); /* goes on */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words_stay_whole),
		cmocka_unit_test(test_no_letter_is_lost),
		cmocka_unit_test(test_cut_ends_between_characters),
		cmocka_unit_test(test_room_goes_to_who_lacks_it),
		cmocka_unit_test(test_too_narrow_is_said),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
