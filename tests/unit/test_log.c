#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/scope.h"

static char captured[65536];

/* Sends stderr into a file of memory while one line is logged. */
static const char *logged(enum log_level level, const char *text)
{
	int fd = memfd_create("log", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_true(fd >= 0 && saved >= 0);
	dup2(fd, STDERR_FILENO);
	log_line(level, "%s", text);
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = pread(fd, captured, sizeof(captured) - 1, 0);
	close(fd);
	assert_true(n >= 0);
	captured[n] = '\0';
	return captured;
}

static void expect(const char *text, const char *shown)
{
	const char *line = logged(LOG_LEVEL_ERROR, text), *body = strstr(line, "]: error: ");

	assert_non_null(body);
	body += strlen("]: error: ");
	if (strlen(body) != strlen(shown) + 1 || strncmp(body, shown, strlen(shown)) != 0)
		fail_msg("\"%s\" instead of \"%s\"", body, shown);
	assert_int_equal(line[strlen(line) - 1], '\n');
}

static void what_came_from_outside_is_escaped(void **state)
{
	log_init("test");
	expect("plain text, ünïcode 日本 😀", "plain text, ünïcode 日本 😀");
	expect("two\nlines", "two\\x0alines");
	expect("\r\x1b[31mred\x7f\t", "\\x0d\\x1b[31mred\\x7f\\x09");
	expect("back\\slash", "back\\x5cslash"); /* else an escape could be forged */
	expect("\xc2\x9b"
	       "31m",
		"\\xc2\\x9b31m"); /* CSI as one character */
	expect("\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82");
	expect("\xc0\x8a", "\\xc0\\x8a"); /* a line end in an overlong form */
	expect("\xed\xa0\x80\xf4\x90\x80\x80", "\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80");
	expect("a\xe2\x80\xae"
	       "b",
		"a\\xe2\\x80\\xaeb"); /* turns the direction */
	expect("\xe2\x80\xa8", "\\xe2\\x80\\xa8");
	expect("", "");
}

static void every_byte_stays_one_line(void **state)
{
	char text[256];

	for (int i = 1; i < 256; i++)
		text[i - 1] = (char)i;
	text[255] = '\0';
	logged(LOG_LEVEL_ERROR, text);
	assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
	for (const char *p = captured; p[1]; p++)
		assert_true((unsigned char)*p >= 0x20);
}

static void long_lines_are_cut(void **state)
{
	static char text[20000];

	memset(text, '\n', sizeof(text) - 1);
	logged(LOG_LEVEL_ERROR, text);
	assert_true(strlen(captured) < 10000);
	assert_ptr_equal(strchr(captured, '\n'), captured + strlen(captured) - 1);
}

static void levels(void **state)
{
	setenv("COFFER_LOG", "warning", 1);
	log_init("test");
	assert_string_equal(logged(LOG_LEVEL_INFO, "x"), "");
	assert_non_null(strstr(logged(LOG_LEVEL_WARNING, "x"), "warning: x"));
	setenv("COFFER_LOG", "nonsense", 1);
	log_init("test");
	assert_non_null(strstr(logged(LOG_LEVEL_INFO, "x"), "info: x"));
	assert_string_equal(logged(LOG_LEVEL_DEBUG, "x"), "");
	unsetenv("COFFER_LOG");
}

static void the_journal_gets_a_priority(void **state)
{
	char stream[64];
	struct stat st;
	int fd = memfd_create("journal", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(fstat(fd, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	dup2(fd, STDERR_FILENO);
	log_init("test");
	log_warning("%s", "full");
	dup2(saved, STDERR_FILENO);
	n = pread(fd, captured, sizeof(captured) - 1, 0);
	assert_true(n > 0);
	captured[n] = '\0';
	assert_string_equal(captured, "<4>full\n");
	unsetenv("JOURNAL_STREAM");
	log_init("test");
	close(fd);
	close(saved);
}

/* What a stranger can cause without end is bounded, and what is left out is counted. */
static void lines_of_strangers_are_bounded(void **state)
{
	int fd = memfd_create("log", MFD_CLOEXEC), saved = dup(STDERR_FILENO);
	struct log_limit l = {0};
	size_t lines = 0;
	ssize_t n;

	log_init("test");
	assert_true(fd >= 0 && saved >= 0);
	dup2(fd, STDERR_FILENO);
	for (unsigned i = 0; i < 1000; i++)
		log_warning_limited(&l, "line %u", i);
	l.since -= 60; /* a minute later */
	log_warning_limited(&l, "the last");
	dup2(saved, STDERR_FILENO);
	close(saved);
	n = pread(fd, captured, sizeof(captured) - 1, 0);
	close(fd);
	assert_true(n > 0);
	captured[n] = '\0';
	for (const char *p = captured; (p = strchr(p, '\n')); p++)
		lines++;
	assert_int_equal(lines, LOG_LIMIT_LINES + 2);
	assert_non_null(strstr(captured, "970 more lines"));
	assert_non_null(strstr(captured, "the last"));
}

static void errno_is_kept(void **state)
{
	errno = ENOTTY;
	log_debug("unseen");
	assert_int_equal(errno, ENOTTY);
	logged(LOG_LEVEL_ERROR, "x");
	errno = ENOTTY;
	log_line(LOG_LEVEL_ERROR, "seen");
	assert_int_equal(errno, ENOTTY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_came_from_outside_is_escaped),
		cmocka_unit_test(every_byte_stays_one_line),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(levels),
		cmocka_unit_test(the_journal_gets_a_priority),
		cmocka_unit_test(lines_of_strangers_are_bounded),
		cmocka_unit_test(errno_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
