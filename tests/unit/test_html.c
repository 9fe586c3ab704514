/* Whatever a user calls a file, it stays text in the page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "common/scope.h"
#include "tools/html.h"

static char *written(void (*write)(FILE *f, const char *text), const char *text)
{
	char *buf = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&buf, &n);

	assert_non_null(f);
	write(f, text);
	assert_int_equal(fclose(f), 0);
	return buf;
}

static void as_attribute(FILE *f, const char *text)
{
	html_open(f, "td", "data-label", text, NULL);
}

static void expect(const char *text, const char *html)
{
	scoped(freep) char *got = written(html_text, text);

	assert_string_equal(got, html);
}

static void test_markup_is_text(void **state)
{
	expect("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;");
	expect("\"><img src=x onerror='f()'>", "&quot;&gt;&lt;img src=x onerror=&#39;f()&#39;&gt;");
	expect("&lt;b&gt; ]]> <!-- `", "&amp;lt;b&amp;gt; ]]&gt; &lt;!-- &#96;");
	expect("", "");
	expect("Müller & Söhne/Ελλάδα/日本/\xf0\x9f\x93\x84", "Müller &amp; Söhne/Ελλάδα/日本/\xf0\x9f\x93\x84");
}

static void test_attributes_end_where_we_say(void **state)
{
	scoped(freep) char *got = written(as_attribute, "x\" onclick=\"f()\"><script>'");

	assert_string_equal(got, "<td data-label=\"x&quot; onclick=&quot;f()&quot;&gt;&lt;script&gt;&#39;\">");
}

static void leave_out(FILE *f, const char *text)
{
	html_open(f, "p", "class", NULL, "id", text, NULL);
	html_printf(f, "%s & %d", text, 7);
	html_close(f, "p");
	html_element(f, "b", NULL, text);
}

static void test_elements(void **state)
{
	scoped(freep) char *got = written(leave_out, "<");

	assert_string_equal(got, "<p id=\"&lt;\">&lt; &amp; 7</p><b>&lt;</b>");
}

static void test_what_deceives_the_eye(void **state)
{
	expect("invoice\xe2\x80\xae" "fdp.exe", "invoice[U+202E]fdp.exe");
	expect("a\xe2\x81\xa6" "b\xe2\x80\x8f" "c\xd8\x9c", "a[U+2066]b[U+200F]c[U+061C]");
	expect("a\nb\tc\x1b[31m\x7f", "a[U+000A]b[U+0009]c[U+001B][31m[U+007F]");
	expect("zero\xe2\x80\x8bwidth\xef\xbb\xbf", "zero[U+200B]width[U+FEFF]");
	expect("\xe2\x80\xa8 \xc2\x85", "[U+2028] [U+0085]");
	expect("\xf3\xa0\x81\xa1", "[U+E0061]");
}

static void test_bytes_that_are_no_text(void **state)
{
	expect("a\xff" "b\xc0\xbc" "script\xed\xa0\x80", "a?b??script???"); /* an overlong '<', a surrogate */
	expect("\xf5\x80\x80\x80z", "????z");
}

/* No byte, alone or before others, brings out one of the characters that mean something. */
static void test_every_pair_of_bytes(void **state)
{
	for (unsigned a = 1; a < 256; a++)
		for (unsigned b = 1; b < 256; b++) {
			const char text[] = {(char)a, (char)b, '<', 'i', '>', '\'', '"', 0};
			scoped(freep) char *got = written(html_text, text);

			assert_null(strpbrk(got, "<>\"'`"));
			for (const char *p = got; (p = strchr(p, '&')); p++)
				assert_true(strncmp(p, "&amp;", 5) == 0 || strncmp(p, "&lt;", 4) == 0 || strncmp(p, "&gt;", 4) == 0 ||
					    strncmp(p, "&quot;", 6) == 0 || strncmp(p, "&#39;", 5) == 0 || strncmp(p, "&#96;", 5) == 0);
			for (const char *p = got; *p; p++)
				assert_true((unsigned char)*p >= 0x20);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_markup_is_text),
		cmocka_unit_test(test_attributes_end_where_we_say),
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_what_deceives_the_eye),
		cmocka_unit_test(test_bytes_that_are_no_text),
		cmocka_unit_test(test_every_pair_of_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
