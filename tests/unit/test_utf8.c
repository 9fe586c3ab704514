#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>

#include "common/utf8.h"

static void known_texts(void **state)
{
	static const char *const pairs[][2] = {{"", ""}, {"plain", "plain"}, {"Zürich €5 \xf0\x9f\x94\x91", "Zürich €5 \xf0\x9f\x94\x91"},
		{"Z\xc3", "Z"}, {"\xe2\x82", ""}, {"a\xf0\x9f\x94", "a"}, {"\xc3(", "?("}, {"\x80x", "?x"}, {"\xc0\xaf", "??"},
		{"\xed\xa0\x80", "???"}, {"\xf4\x90\x80\x80", "????"}, {"\xe2\x82 rest", "?? rest"}, {"\xff", "?"}};
	char text[64];

	for (size_t n = 0; n < sizeof(pairs) / sizeof(*pairs); n++) {
		snprintf(text, sizeof(text), "%s", pairs[n][0]);
		assert_string_equal(utf8_mend(text), pairs[n][1]);
	}
}

/* Whatever comes: jansson takes what comes out, and what it took before is not changed. */
static void noise(void **state)
{
	uint32_t seed = 1;
	char text[16], before[16];

	for (unsigned n = 0; n < 300000; n++) {
		size_t len = n % sizeof(text);
		json_t *j;

		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525 + 1013904223;
			text[i] = (char)(seed >> 24 ? seed >> 24 : 1);
		}
		text[len] = 0;
		memcpy(before, text, sizeof(text));
		j = json_string(before);
		utf8_mend(text);
		if (j)
			assert_string_equal(text, before);
		json_decref(j);
		j = json_string(text);
		assert_non_null(j);
		json_decref(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_texts),
		cmocka_unit_test(noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
