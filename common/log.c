#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/date.h"

#define LOG_TEXT_MAX 2048                     /* before escaping; longer is cut */
#define LOG_LINE_MAX (4 * LOG_TEXT_MAX + 512) /* each byte may become \xNN, and the head */

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const int level_priorities[] = {3, 4, 6, 7}; /* of syslog */

static char program_name[64] = "coffer";
static enum log_level max_level = LOG_LEVEL_INFO;
static bool to_journal;

static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char here[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(here, sizeof(here), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(stream, here) == 0;
}

void log_init(const char *program)
{
	const char *wanted = getenv("COFFER_LOG");

	snprintf(program_name, sizeof(program_name), "%s", program);
	max_level = LOG_LEVEL_INFO;
	for (unsigned i = 0; wanted && i < sizeof(level_names) / sizeof(*level_names); i++)
		if (strcmp(wanted, level_names[i]) == 0)
			max_level = i;
	to_journal = stderr_is_journal();
}

/* Bytes of the well-formed UTF-8 character at s that is safe to show, or 0: then the byte is escaped. */
static size_t safe_character(const unsigned char *s, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80 ? 1 : s[0] >> 5 == 0x6 ? 2 : s[0] >> 4 == 0xe ? 3 : s[0] >> 3 == 0x1e ? 4 : 0;
	uint32_t c;

	if (n == 1)
		return s[0] >= 0x20 && s[0] != 0x7f && s[0] != '\\';
	if (n == 0 || n > left)
		return 0;
	c = s[0] & (0x7f >> n);
	for (size_t i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	if (c < 0xa0) /* C1: some terminals obey them */
		return 0;
	if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
		c == 0xfeff)
		return 0; /* invisible, a line end, or turns the reading direction */
	return n;
}

static size_t escape(const char *text, size_t n, char *to)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)text;
	char *p = to;

	for (size_t i = 0; i < n;) {
		size_t len = safe_character(s + i, n - i);

		if (len == 0) {
			memcpy(p, (char[]){'\\', 'x', hex[s[i] >> 4], hex[s[i] & 15]}, 4);
			p += 4;
			i++;
			continue;
		}
		memcpy(p, s + i, len);
		p += len;
		i += len;
	}
	return (size_t)(p - to);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	char text[LOG_TEXT_MAX], line[LOG_LINE_MAX], when[DATE_TEXT_MAX];
	int saved = errno, head, n;
	size_t len;
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = snprintf(text, sizeof(text), "(a message that could not be formatted)");
	if (to_journal)
		head = snprintf(line, sizeof(line), "<%d>", level_priorities[level]);
	else
		head = snprintf(line, sizeof(line), "%s %s[%d]: %s: ", date_format(time(NULL), when),
			program_name, (int)getpid(), level_names[level]);
	len = (size_t)head;
	len += escape(text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1, line + len);
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0) {
		/* nowhere left to say it */
	}
	errno = saved;
}

bool log_limit_allows(struct log_limit *l)
{
	struct timespec ts;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = (uint64_t)ts.tv_sec + 1;
	if (l->since == 0 || now - l->since >= 60) {
		if (l->left_out)
			log_warning("%u more lines like the next one were left out", l->left_out);
		*l = (struct log_limit){.since = now};
	}
	if (l->written < LOG_LIMIT_LINES) {
		l->written++;
		return true;
	}
	l->left_out++;
	return false;
}
